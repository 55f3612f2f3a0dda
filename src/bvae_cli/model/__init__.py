"""The binary variational autoencoder: networks, gradient estimators, the model and its objective."""
