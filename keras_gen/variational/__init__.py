"""Variational autoencoders."""

from keras_gen.variational.likelihoods import Bernoulli, Gaussian
from keras_gen.variational.vae import VAE, kl_to_standard_normal

__all__ = ["VAE", "Bernoulli", "Gaussian", "kl_to_standard_normal"]
