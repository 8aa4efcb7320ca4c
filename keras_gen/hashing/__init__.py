"""Semantic hashing: pictures to bits, bits to neighbours."""

from keras_gen.hashing.codes import bit_balance, bits_of, pack, unpack
from keras_gen.hashing.evaluation import average_precisions, mean_average_precision
from keras_gen.hashing.index import HashIndex
from keras_gen.hashing.linear import LinearHash, itq, lsh
from keras_gen.hashing.model import SemanticHash, hashes_of
from keras_gen.hashing.neighbours import NeighbourBatches, neighbours_of

__all__ = [
    "HashIndex",
    "LinearHash",
    "NeighbourBatches",
    "SemanticHash",
    "average_precisions",
    "bit_balance",
    "bits_of",
    "hashes_of",
    "itq",
    "lsh",
    "mean_average_precision",
    "neighbours_of",
    "pack",
    "unpack",
]
