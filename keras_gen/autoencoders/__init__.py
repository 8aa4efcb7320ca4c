"""Autoencoders: one model, with corruptions and penalties as arguments; and a denoiser without a code."""

from keras_gen.autoencoders import penalties
from keras_gen.autoencoders.autoencoder import Autoencoder, codes_of, fit_greedily
from keras_gen.autoencoders.denoiser import Denoiser

__all__ = ["Autoencoder", "Denoiser", "codes_of", "fit_greedily", "penalties"]
