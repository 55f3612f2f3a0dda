"""Binary variational autoencoders with and without an error-correcting code on the latent bits."""

__version__ = "0.1.0"
