"""Generative adversarial networks: losses, slope penalties, kinds of noise, and the model of them."""

from keras_gen.adversarial.gan import GAN
from keras_gen.adversarial.losses import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein
from keras_gen.adversarial.noise import InstanceNoise, LabelNoise
from keras_gen.adversarial.penalties import R1, GradientPenalty

__all__ = [
    "GAN",
    "R1",
    "GradientPenalty",
    "Hinge",
    "InstanceNoise",
    "LabelNoise",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "Wasserstein",
]
