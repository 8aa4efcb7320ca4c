"""Autoencoders: one model, with corruptions and penalties as arguments."""

from keras_gen.autoencoders import corruptions, penalties
from keras_gen.autoencoders.autoencoder import Autoencoder, codes_of, fit_greedily

__all__ = ["Autoencoder", "codes_of", "corruptions", "fit_greedily", "penalties"]
