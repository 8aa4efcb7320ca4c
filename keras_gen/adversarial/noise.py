"""Wrong and soft labels, and noise on what the discriminator sees."""

import keras
from keras import ops

from keras_gen.errors import InputError
from keras_gen.parts import Part


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class LabelNoise(Part):
    """What the discriminator is told, instead of the truth.

    Args:
        smoothing: Real pictures are called 1 - smoothing (Salimans et al. 2016, section 3.4).
        two_sided: And made ones `smoothing`.
        random: Instead of `smoothing` a number drawn up to it for every picture.
        flip: Chance that a picture's label is exchanged for its opposite.
    """

    def __init__(
        self, smoothing: float = 0.0, two_sided: bool = False, random: bool = False, flip: float = 0.0
    ):
        if not (0 <= smoothing < 0.5 and 0 <= flip < 0.5):
            raise InputError(
                f"Expected smoothing and flips of 0 or more, below a half. Received: {smoothing} and {flip}."
            )
        self.smoothing = smoothing
        self.two_sided = two_sided
        self.random = random
        self.flip = flip

    def labels(self, n, generator: keras.random.SeedGenerator):
        """Labels of n real and of n made pictures, each (n,) float32: the chance of being real."""
        real = 1.0 - self._blur(n, generator)
        fake = self._blur(n, generator) if self.two_sided else ops.zeros((n,))
        return self._flipped(real, n, generator), self._flipped(fake, n, generator)

    def _blur(self, n, generator):
        if not self.random:
            return self.smoothing * ops.ones((n,))
        return self.smoothing * keras.random.uniform((n,), dtype="float32", seed=generator)

    def _flipped(self, label, n, generator):
        if not self.flip:
            return label
        flipped = keras.random.uniform((n,), dtype="float32", seed=generator) < self.flip
        return ops.where(flipped, 1.0 - label, label)


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class InstanceNoise(Part):
    """Gaussian noise on real and made pictures alike, falling linearly to nothing.

    With it the two distributions overlap from the start (Sonderby et al. 2017, arXiv:1610.04490; Arjovsky &
    Bottou 2017).

    Args:
        sigma: Standard deviation at the first step, in pixel units of [-1, 1].
        steps: Training steps until it is gone.
    """

    def __init__(self, sigma: float, steps: int):
        if not (sigma >= 0 and steps >= 1):
            raise InputError(
                f"Expected a sigma of 0 or more over 1 step or more. Received: {sigma} and {steps}."
            )
        self.sigma = sigma
        self.steps = steps

    def sigma_at(self, step):
        """The standard deviation after so many steps."""
        return self.sigma * ops.maximum(0.0, 1.0 - ops.cast(step, "float32") / self.steps)
