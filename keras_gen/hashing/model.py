"""Semantic hashing (Salakhutdinov & Hinton 2009): an autoencoder whose code is bits."""

import keras
import numpy as np
from keras import ops

from keras_gen.autoencoders import Autoencoder
from keras_gen.engine import compiled, to_numpy

THRESHOLD = 0.5
"""Between 0 and 1, where a near-binary code hardly ever is. The median of each unit would balance any
code, and cut through the middle of the one mode that an unbalanced bit has."""


@keras.saving.register_keras_serializable("keras_gen.hashing")
class SemanticHash(Autoencoder):
    """An `Autoencoder` with a sigmoid code, and what makes packed bits of it.

    What makes the code near-binary is noise before its activation (`code_noise` of the encoder), what
    makes its bits balanced and different the penalty `Balance`, what makes them blind to small
    distortions the corruption `Affine`: arguments all.
    """

    def hash(self, data):
        """Data to packed bits, (n, ceil(d / 8)) uint8, as `keras_gen.hashing.pack` makes them."""
        return _packed(self.encode(data))

    def signatures(self) -> dict:
        """As the autoencoder's, and `hash`."""
        served = super().signatures()
        encode, inputs, _ = served["encode"]
        # an endpoint's argument is named as the function's
        functions = {
            "image": lambda image: _packed(encode(image)),
            "features": lambda features: _packed(encode(features)),
        }
        size = -(-self.code_shape[-1] // 8)
        result = ((None, size), "uint8", f"{self.code_shape[-1]} bits, packed, the first the highest")
        return {"hash": (functions[self.data_key], inputs, result), **served}


def _packed(codes):
    bits = ops.cast(codes > THRESHOLD, "float32")
    size = -(-codes.shape[-1] // 8)
    bits = ops.pad(bits, [[0, 0], [0, 8 * size - codes.shape[-1]]])
    values = (2.0 ** np.arange(7, -1, -1)).astype("float32")
    return ops.cast(ops.sum(ops.reshape(bits, (-1, size, 8)) * values, axis=-1), "uint8")


def hashes_of(model: SemanticHash, data, batch_size: int = 500) -> np.ndarray:
    """The packed bits of many pictures, an `ImageData` or an array in [-1, 1]: (n, bytes) uint8."""
    chosen = data.floats if hasattr(data, "floats") else data.__getitem__
    starts = range(0, len(data), batch_size)
    return np.concatenate([to_numpy(_hash(model, chosen(slice(s, s + batch_size)))) for s in starts])


@compiled
def _hash(model, data):
    return model.hash(data)
