"""Pieces of networks that Keras does not have, or not on every backend."""

from keras_gen.layers.spectral import SpectralConv2D, SpectralDense

__all__ = ["SpectralConv2D", "SpectralDense"]
