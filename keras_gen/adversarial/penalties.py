"""What keeps a discriminator smooth: costs of the slope of its score."""

from collections.abc import Callable

import keras
from keras import ops

from keras_gen.engine import grad
from keras_gen.errors import InputError
from keras_gen.parts import Part


class SlopePenalty(Part):
    """Base: a weight, and a cost of how the score rises around real and made pictures."""

    def __init__(self, weight: float):
        if not weight >= 0:
            raise InputError(f"Expected a weight of 0 or more. Received: {weight}.")
        self.weight = weight

    def __call__(self, score: Callable, real, fake, mix):
        """The weighted penalty, a scalar.

        Args:
            score: Pictures (n, ...) to scores (n,).
            real: (n, ...).
            fake: Of the same shape; not differentiated.
            mix: (n,) within 0 and 1, drawn for each example.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class GradientPenalty(SlopePenalty):
    """weight E (|slope| - centre)^2 between real and made pictures.

    Centre 1 is WGAN-GP (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3), 0 the zero-centred one.
    """

    def __init__(self, weight: float = 10.0, centre: float = 1.0):
        super().__init__(weight)
        self.centre = centre

    def __call__(self, score, real, fake, mix):
        mix = ops.reshape(mix, (-1, *[1] * (len(real.shape) - 1)))
        norm = ops.sqrt(squared_slope(score, mix * real + (1.0 - mix) * fake) + 1e-12)
        return self.weight * ops.mean((norm - self.centre) ** 2)


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class R1(SlopePenalty):
    """weight / 2 E |slope|^2 at real pictures (Mescheder et al. 2018, arXiv:1801.04406, eq. 9)."""

    def __init__(self, weight: float = 10.0):
        super().__init__(weight)

    def __call__(self, score, real, fake, mix):
        return 0.5 * self.weight * ops.mean(squared_slope(score, real))


def squared_slope(score: Callable, pictures):
    """|d score / d picture|^2 of each picture, (n,)."""
    slope = grad(score)(pictures)
    return ops.sum(slope * slope, axis=tuple(range(1, len(slope.shape))))


def parse(text: str) -> SlopePenalty | None:
    """`none`, `gp`, `gp:WEIGHT`, `gp0:WEIGHT` (centred at 0) or `r1:WEIGHT`."""
    kind, _, weight = text.partition(":")
    kinds = {
        "gp": lambda w: GradientPenalty(w),
        "gp0": lambda w: GradientPenalty(w, 0.0),
        "r1": lambda w: R1(w),
    }
    if text == "none":
        return None
    try:
        make, value = kinds[kind], float(weight or 10.0)
    except (KeyError, ValueError):
        raise InputError(
            f"Expected a penalty: none, gp, gp0 or r1, with :WEIGHT. Received: {text!r}."
        ) from None
    return make(value)
