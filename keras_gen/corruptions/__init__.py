"""What is done to data on purpose: noise to undo, distortions to learn through, sources to translate."""

from keras_gen.corruptions.base import Chain, Corruption
from keras_gen.corruptions.geometry import Affine, Mirror
from keras_gen.corruptions.jpeg import Jpeg
from keras_gen.corruptions.noise import Dropout, Gaussian, Masking, SaltAndPepper
from keras_gen.corruptions.optics import Blur, Downsampling, Edges, Grey
from keras_gen.corruptions.pipeline import corrupted, parse

__all__ = [
    "Affine",
    "Blur",
    "Chain",
    "Corruption",
    "Downsampling",
    "Dropout",
    "Edges",
    "Gaussian",
    "Grey",
    "Jpeg",
    "Masking",
    "Mirror",
    "SaltAndPepper",
    "corrupted",
    "parse",
]
