"""Orders of steps: train, sample, evaluate; each takes one configuration and returns one value."""
