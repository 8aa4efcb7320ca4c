"""Pieces of networks that Keras does not have, or not on every backend."""

from keras_gen.layers.attention import CrossAttention, PlaceEmbedding, Places, SpatialAttention
from keras_gen.layers.norm import GroupNorm, groups_of
from keras_gen.layers.spectral import SpectralConv2D, SpectralDense
from keras_gen.layers.time import SinusoidalEmbedding
from keras_gen.layers.tokens import DirectedMask, Marked, TokenEmbedding, one_caption

__all__ = [
    "CrossAttention",
    "DirectedMask",
    "GroupNorm",
    "Marked",
    "PlaceEmbedding",
    "Places",
    "SinusoidalEmbedding",
    "SpatialAttention",
    "SpectralConv2D",
    "SpectralDense",
    "TokenEmbedding",
    "groups_of",
    "one_caption",
]
