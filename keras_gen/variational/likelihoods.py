"""p(x | z): what a decoder's output says of the data, in nats per example.

A likelihood states how many numbers per data value the decoder must give (`parameters`), the log
probability of data under them, and their mean. Data and means are in [-1, 1].
"""

import math

import keras
import numpy as np
from keras import ops

from keras_gen.errors import InputError
from keras_gen.images import to_unit
from keras_gen.parts import Part, named


def _flat(x):
    """(batch, ...) to (batch, values) in float32."""
    return ops.reshape(ops.cast(x, "float32"), (-1, math.prod(x.shape[1:])))


class Likelihood(Part):
    """What the two below share."""

    name: str
    parameters: int

    def log_prob(self, data, output):
        raise NotImplementedError

    def mean(self, output):
        raise NotImplementedError

    def output_for(self, mean: np.ndarray) -> np.ndarray:
        """A decoder output that has about this mean."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_gen")
class Bernoulli(Likelihood):
    """Binary data, from logits: log p = x logit - log(1 + exp(logit)) with x in [0, 1].

    On grey values the same expression is a cross entropy, not a likelihood: a bound on it is no
    bound on log p(x), and must not be compared with numbers on binarised data.
    """

    name = "bernoulli"
    parameters = 1

    def log_prob(self, data, logits):
        """Data in [-1, 1] and logits, both (batch, ...). Returns (batch,), in nats."""
        logits = _flat(logits)
        x = to_unit(_flat(data))
        # softplus(l) = (l + |l|)/2 + log1p(exp(-|l|)): on a CPU, XLA compiles this form and flat
        # arrays to a step a third faster, and at l = 0 its gradient is the right one everywhere
        size = ops.abs(logits)
        softplus = 0.5 * (logits + size) + ops.log1p(ops.exp(-size))
        return ops.sum(x * logits - softplus, axis=-1)

    def mean(self, logits):
        """The probability of 1, placed in [-1, 1]."""
        return 2.0 * ops.sigmoid(ops.cast(logits, "float32")) - 1.0

    def output_for(self, mean):
        p = np.clip((mean + 1) / 2, 1e-3, 1 - 1e-3)
        return np.log(p / (1 - p))


@keras.saving.register_keras_serializable("keras_gen")
class Gaussian(Likelihood):
    """Real data with independent normal noise.

    Args:
        scale: The standard deviation, in units of [-1, 1]. None: learned, a logarithm per value
            from the decoder's second half of channels, never below `smallest`.
        smallest: The floor of a learned scale. The default, 1/255, is half the distance of two
            levels of 8-bit data: without a floor the density of a constant pixel is unbounded.
    """

    name = "gaussian"

    def __init__(self, scale: float | None = None, smallest: float = 1 / 255):
        if (scale is not None and not scale > 0) or not smallest > 0:
            raise InputError(
                f"Expected positive standard deviations. Received: scale={scale}, smallest={smallest}."
            )
        self.scale = scale
        self.smallest = smallest
        self.parameters = 1 if scale is not None else 2

    def _split(self, output):
        output = ops.cast(output, "float32")
        if self.scale is not None:
            return output, math.log(self.scale)
        mean, log_scale = ops.split(output, 2, axis=-1)
        # softplus keeps a gradient below the floor, where clipping would leave a value stuck
        floor = math.log(self.smallest)
        return mean, floor + ops.softplus(log_scale - floor)

    def log_prob(self, data, output):
        """Data (batch, ..., c) and decoder output (batch, ..., c or 2c). Returns (batch,), nats."""
        mean, log_scale = self._split(output)
        z = (ops.cast(data, "float32") - mean) * ops.exp(-log_scale)
        return ops.sum(_flat(-0.5 * z * z - log_scale - 0.5 * math.log(2 * math.pi)), axis=-1)

    def mean(self, output):
        return self._split(output)[0]

    def output_for(self, mean):
        # a learned scale starts at 1, wide enough for any data in [-1, 1]
        return mean if self.scale is not None else np.concatenate([mean, 0 * mean], axis=-1)


LIKELIHOODS: dict[str, type[Likelihood]] = {cls.name: cls for cls in (Bernoulli, Gaussian)}


def get(likelihood: "str | dict | Likelihood") -> Likelihood:
    """A likelihood by name, from its serialised form, or itself."""
    if isinstance(likelihood, dict):
        return keras.saving.deserialize_keras_object(likelihood)
    return named(likelihood, LIKELIHOODS, Likelihood, "a likelihood")
