"""Codes on the latent bits: the contract in ``base``, and one file for each family."""
