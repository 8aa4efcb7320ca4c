"""Fully connected encoder and decoder."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_gen.networks.code import code_layers

Shape = tuple[int, ...]


def mlp_encoder(
    input_shape: Shape,
    units: int,
    hidden: Sequence[int] = (256, 256),
    activation: str = "relu",
    code_activation: str = "linear",
    code_noise: float = 0.0,
) -> keras.Model:
    """Inputs of `input_shape` (any rank, flattened) to vectors of `units` numbers.

    `code_noise` is the standard deviation of noise added before `code_activation` in training.
    """
    inputs = keras.Input(input_shape)
    x = layers.Flatten()(inputs)
    for width in hidden:
        x = layers.Dense(width, activation)(x)
    return keras.Model(inputs, code_layers(x, units, code_activation, code_noise), name="encoder")


def mlp_decoder(
    units: int,
    output_shape: Shape,
    hidden: Sequence[int] = (256, 256),
    activation: str = "relu",
) -> keras.Model:
    """Vectors of `units` numbers to outputs of `output_shape`; `hidden` from the code outward."""
    inputs = keras.Input((units,))
    x = inputs
    for width in hidden:
        x = layers.Dense(width, activation)(x)
    x = layers.Dense(math.prod(output_shape))(x)
    return keras.Model(inputs, layers.Reshape(output_shape)(x), name="decoder")
