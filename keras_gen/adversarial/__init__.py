"""Generative adversarial networks: losses, slope penalties, kinds of noise, and the model of them."""

from keras_gen.adversarial.gan import GAN
from keras_gen.adversarial.losses import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein
from keras_gen.adversarial.noise import InstanceNoise, LabelNoise
from keras_gen.adversarial.penalties import R1, GradientPenalty
from keras_gen.adversarial.translator import Translator
from keras_gen.adversarial.vae_gan import VAEGAN

__all__ = [
    "GAN",
    "R1",
    "VAEGAN",
    "GradientPenalty",
    "Hinge",
    "InstanceNoise",
    "LabelNoise",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "Translator",
    "Wasserstein",
]
