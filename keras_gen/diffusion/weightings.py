"""How much the loss counts at each level of noise.

A weighting says the weight of the clean picture's squared error as a function of the signal-to-noise ratio;
divided by the prediction's gain it is that of the output's.
"""

import keras
from keras import ops

from keras_gen.errors import InputError
from keras_gen.parts import Part, named


class Weighting(Part):
    """Base: a function of the signal-to-noise ratio and the prediction's gain, of the shape of both."""

    name: str

    def __call__(self, snr, gain):
        """What the output's squared error is multiplied by."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Simple(Weighting):
    """The output's squared error as it is (Ho et al. 2020, eq. 14; Karras et al. 2022, eq. 8)."""

    name = "simple"

    def __call__(self, snr, gain):
        return ops.ones_like(gain)


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class MinSNR(Weighting):
    """min(SNR, gamma) in the clean picture (Hang et al. 2023, arXiv:2303.09556, eq. 8)."""

    name = "min-snr"

    def __init__(self, gamma: float = 5.0):
        if not gamma > 0:
            raise InputError(f"Expected a positive gamma. Received: {gamma}.")
        self.gamma = gamma

    def __call__(self, snr, gain):
        return ops.minimum(snr, self.gamma) / gain


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class ClippedSNR(Weighting):
    """The SNR, but not below `low` nor above `high`, in the clean picture.

    Where little of the picture is left, min-SNR gives next to no weight: what is decided there (a ground, a
    place) is learned last, or never. A lower bound mends that; `low=1` without an upper one is the truncated
    SNR of Salimans & Ho 2022 (arXiv:2202.00512, section 4).
    """

    name = "clipped-snr"

    def __init__(self, low: float = 0.2, high: float = 5.0):
        if not 0 <= low <= high or high == 0:
            raise InputError(f"Expected 0 <= low <= high, and a high above 0. Received: {low} and {high}.")
        self.low = low
        self.high = high

    def __call__(self, snr, gain):
        return ops.clip(snr, self.low, self.high) / gain


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class P2(Weighting):
    """1 / (k + SNR)^gamma in the noise (Choi et al. 2022, arXiv:2204.00227, eq. 8)."""

    name = "p2"

    def __init__(self, gamma: float = 1.0, k: float = 1.0):
        self.gamma = gamma
        self.k = k

    def __call__(self, snr, gain):
        return snr * (self.k + snr) ** -self.gamma / gain


WEIGHTINGS = {weighting.name: weighting for weighting in (Simple, MinSNR, ClippedSNR, P2)}


def get(weighting: str | Weighting) -> Weighting:
    """A weighting, or the one of that name."""
    return named(weighting, WEIGHTINGS, Weighting, "a weighting")
