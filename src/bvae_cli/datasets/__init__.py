"""Data sets: the contract in ``base`` and one file for each source."""
