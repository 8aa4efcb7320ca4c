"""Where every encoder ends."""

import keras
from keras import layers


def code_layers(x: keras.KerasTensor, units: int, activation: str, noise: float) -> keras.KerasTensor:
    """A dense layer of `units`, in training with Gaussian noise before its activation.

    Strong noise before a sigmoid drives it to 0 or 1, where noise no longer matters (Salakhutdinov
    & Hinton 2009, Semantic hashing, section 3).
    """
    if not noise:
        return layers.Dense(units, activation)(x)
    x = layers.Rescaling(1.0 / noise)(layers.Dense(units)(x))
    x = layers.GaussianNoise(1.0)(x)  # Keras' own layer allows no more
    return layers.Activation(activation)(layers.Rescaling(noise)(x))
