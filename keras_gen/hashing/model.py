"""Semantic hashing (Salakhutdinov & Hinton 2009): an autoencoder whose code is bits."""

import keras
import numpy as np
from keras import ops

from keras_gen.autoencoders import Autoencoder
from keras_gen.autoencoders.penalties import check_ends_in_sigmoid
from keras_gen.corruptions import Corruption
from keras_gen.engine import Update, compiled, to_numpy
from keras_gen.errors import InputError

THRESHOLD = 0.5
"""Between 0 and 1, where a near-binary code hardly ever is. The median of each unit would balance any
code, and cut through the middle of the one mode that an unbalanced bit has."""


def agreement(one, two, temperature: float):
    """-log of how surely each code finds its partner among all of the batch, averaged, in nats.

    InfoNCE in both directions (Chen et al. 2020, SimCLR, arXiv:2002.05709, eq. 1), for codes (n, d) within
    0 and 1; similar is what has many bits in common: the mean of s_j t_j, s and t within -1 and 1 (Qiu et
    al. 2021, arXiv:2105.06138, hash in this way). A code of few bits can tell many pictures apart only
    if its bits are 0 or 1, balanced and different.
    """
    s, t = 2.0 * one - 1.0, 2.0 * two - 1.0
    similar = ops.matmul(s, ops.transpose(t)) / (one.shape[-1] * temperature)
    found = 2.0 * ops.diagonal(similar) - ops.logsumexp(similar, axis=0) - ops.logsumexp(similar, axis=1)
    return -0.5 * ops.mean(found)


def imbalance(one, two):
    """The sum over bits of (mean s_j)(mean t_j): 0 where each is as often one as the other.

    For two codes of each example, (n, d) within 0 and 1, with s and t within -1 and 1: one code's noise
    does not count.
    """
    return ops.sum(ops.mean(2.0 * one - 1.0, axis=0) * ops.mean(2.0 * two - 1.0, axis=0))


@keras.saving.register_keras_serializable("keras_gen.hashing")
class SemanticHash(Autoencoder):
    """An `Autoencoder` with a sigmoid code that neighbours share, and the packed bits of it.

    A batch may hold beside each picture a `neighbour` (see `NeighbourBatches`); else a picture is its own.
    From a picture's code the neighbour is reconstructed, and the codes of the two, both corrupted,
    must find each other in the batch: loss = reconstruction + contrast * (agreement + imbalance). What
    differs between neighbours, and what a corruption changes, is then not worth a bit.

    Args:
        encoder: A built model from data to codes (d,) within 0 and 1; `code_noise` makes them near-binary.
        decoder: A built model from codes to data.
        corruption: What the encoder's input suffers in training and evaluation, not in use.
        contrast: Weight of `agreement` and `imbalance`, 0 for none. Reconstruction alone leaves bits dead.
        temperature: Of the `agreement`.
        seed: Of the corruption.

    Logs `loss`, `reconstruction`, `agreement` and `imbalance` (unweighted).

    Raises:
        InputError: The networks do not fit each other, or a number its range.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: "keras.Model | str",
        corruption: Corruption | None = None,
        contrast: float = 0.05,
        temperature: float = 0.3,
        seed: int = 0,
        data_key: str = "image",
        **kwargs,
    ):
        super().__init__(encoder, decoder, corruption, seed=seed, data_key=data_key, **kwargs)
        if not contrast >= 0 or not temperature > 0:
            raise InputError(
                "Expected a contrast of 0 or more and a temperature above 0. "
                f"Received: {contrast} and {temperature}."
            )
        check_ends_in_sigmoid(encoder, "bits")
        self.contrast = contrast
        self.temperature = temperature

    def updates(self) -> list[Update]:
        if self.stage is not None:
            return super().updates()
        logs = ("reconstruction", "agreement", "imbalance")
        return [Update("hash", self._loss, self.trainable_variables, logs=logs)]

    def _loss(self, batch, training: bool):
        pair = [batch[self.data_key], batch.get("neighbour", batch[self.data_key])]
        return self.loss_from_corrupted(batch, self._corrupted(ops.concatenate(pair), training), training)

    def loss_from_corrupted(self, batch, corrupted, training: bool):
        """The update's loss for given corrupted pictures, followed by their corrupted neighbours."""
        codes = ops.cast(self.encoder(corrupted, training=training), "float32")
        one, two = ops.split(codes, 2)
        output = self.decoder(one, training=training)
        neighbour = batch.get("neighbour", batch[self.data_key])
        reconstruction = ops.mean(self.squared_error(neighbour, output))
        costs = {"agreement": agreement(one, two, self.temperature), "imbalance": imbalance(one, two)}
        loss = reconstruction + self.contrast * sum(costs.values())
        return loss, {"reconstruction": reconstruction, **costs}

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

    def get_config(self) -> dict:
        config = {**super().get_config(), "contrast": self.contrast, "temperature": self.temperature}
        del config["penalty"]
        return config


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
