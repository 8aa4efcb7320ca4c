"""What the network's output stands for, and how the clean picture is had from it.

For every kind: `clean` and `target` invert each other, and an output that is wrong by e means a clean picture
that is wrong by e / sqrt(gain), so that a loss in one kind can be weighted to be a loss in any other.
"""

import keras
from keras import ops

from keras_gen.parts import Part, named


class Prediction(Part):
    """Base. x, outputs and clean pictures have one shape; alpha and sigma broadcast with them."""

    name: str
    needs_signal = False
    """Whether nothing can be told of the picture where alpha is 0."""

    def target(self, clean, noise, alpha, sigma):
        """What the network should give."""
        raise NotImplementedError

    def clean(self, output, x, alpha, sigma):
        """The picture that it means."""
        raise NotImplementedError

    def gain(self, alpha, sigma):
        """The output's squared error over that of the clean picture."""
        raise NotImplementedError

    def seen(self, x, alpha, sigma):
        """What the network is shown of x."""
        return x


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Epsilon(Prediction):
    """The noise (Ho et al. 2020)."""

    name = "epsilon"
    needs_signal = True

    def target(self, clean, noise, alpha, sigma):
        return noise

    def clean(self, output, x, alpha, sigma):
        return (x - sigma * output) / alpha

    def gain(self, alpha, sigma):
        return (alpha / sigma) ** 2


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Clean(Prediction):
    """The picture itself, x_0."""

    name = "x0"

    def target(self, clean, noise, alpha, sigma):
        return clean

    def clean(self, output, x, alpha, sigma):
        return output

    def gain(self, alpha, sigma):
        return ops.ones_like(alpha)


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class V(Prediction):
    """v = alpha eps - sigma x_0 (Salimans & Ho 2022, appendix D)."""

    name = "v"

    def target(self, clean, noise, alpha, sigma):
        return alpha * noise - sigma * clean

    def clean(self, output, x, alpha, sigma):
        return (alpha * x - sigma * output) / (alpha**2 + sigma**2)

    def gain(self, alpha, sigma):
        return ((alpha**2 + sigma**2) / sigma) ** 2


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Velocity(Prediction):
    """eps - x_0: where the straight line between them is going (Lipman et al. 2023, eq. 23)."""

    name = "velocity"

    def target(self, clean, noise, alpha, sigma):
        return noise - clean

    def clean(self, output, x, alpha, sigma):
        return (x - sigma * output) / (alpha + sigma)

    def gain(self, alpha, sigma):
        return ((alpha + sigma) / sigma) ** 2


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Preconditioned(Prediction):
    """F in D(x) = c_skip x + c_out F(c_in x): input and target of unit variance (Karras et al. 2022, eq. 7).

    Args:
        sigma_data: Standard deviation of the pictures.
    """

    name = "edm"
    needs_signal = True

    def __init__(self, sigma_data: float = 0.5):
        self.sigma_data = sigma_data

    def coefficients(self, sigma):
        """c_skip, c_out, c_in of table 1, for alpha = 1."""
        total = sigma**2 + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data / ops.sqrt(total), 1.0 / ops.sqrt(total)

    def target(self, clean, noise, alpha, sigma):
        skip, out, _ = self.coefficients(sigma / alpha)
        return (clean - skip * (clean + sigma / alpha * noise)) / out

    def clean(self, output, x, alpha, sigma):
        skip, out, _ = self.coefficients(sigma / alpha)
        return skip * x / alpha + out * output

    def gain(self, alpha, sigma):
        return self.coefficients(sigma / alpha)[1] ** -2

    def seen(self, x, alpha, sigma):
        return x * self.coefficients(sigma / alpha)[2] / alpha


PREDICTIONS = {kind.name: kind for kind in (Epsilon, Clean, V, Velocity, Preconditioned)}


def get(prediction: str | Prediction) -> Prediction:
    """A kind of prediction, or the one of that name."""
    return named(prediction, PREDICTIONS, Prediction, "a prediction")
