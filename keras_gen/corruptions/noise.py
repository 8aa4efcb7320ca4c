"""Noise on single values."""

import keras
from keras import ops

from keras_gen.corruptions.base import Corruption, Strength, checked, drawn, uniform_by_pixel


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Gaussian(Corruption):
    """Adds normal noise. `sigma`: its standard deviation, where black to white is 1 (25/255).

    The result is neither clipped nor rounded. For data that are not pictures, `sigma` is in units of
    half the values' range from -1 to 1 likewise: noise of standard deviation 2 sigma.
    """

    def __init__(self, sigma: Strength):
        self.sigma = checked("sigma", sigma, 0)

    def apply(self, data, generator):
        noise = keras.random.normal(ops.shape(data), dtype="float32", seed=generator)
        return data + 2.0 * drawn(self.sigma, data, generator) * noise


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Masking(Corruption):
    """Sets a share `rate` of the pixels to `fill` (Vincent et al. 2010, section 3.3: black).

    With `rescale`, the others grow by 1 / (1 - rate) counted from `fill`: dropout.
    """

    def __init__(self, rate: Strength, fill: float = -1.0, rescale: bool = False):
        self.rate = checked("rate", rate, 0, 1)
        self.fill = fill
        self.rescale = rescale

    def apply(self, data, generator):
        rate = drawn(self.rate, data, generator)
        kept = ops.cast(uniform_by_pixel(data, generator) >= rate, data.dtype)
        if self.rescale:
            kept = kept / (1.0 - rate)
        return self.fill + (data - self.fill) * kept


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Dropout(Masking):
    """`Masking` that keeps the mean: what a dropout layer does to pixels in [0, 1]."""

    def __init__(self, rate: Strength, fill: float = -1.0):
        super().__init__(rate, fill, rescale=True)


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class SaltAndPepper(Corruption):
    """Sets a share `rate` of the pixels to white or black, whichever by chance."""

    def __init__(self, rate: Strength):
        self.rate = checked("rate", rate, 0, 1)

    def apply(self, data, generator):
        rate = drawn(self.rate, data, generator)
        uniform = uniform_by_pixel(data, generator)
        data = ops.where(uniform < rate / 2, -1.0, data)
        return ops.where(ops.logical_and(uniform >= rate / 2, uniform < rate), 1.0, data)
