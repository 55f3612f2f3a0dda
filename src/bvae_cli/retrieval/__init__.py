"""Finding the nearest codes of many: exactly, by Hamming distance or by what an encoder says of each bit."""
