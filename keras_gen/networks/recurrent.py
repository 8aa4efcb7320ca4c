"""Sequence to vector to sequence; a picture is the sequence of its rows."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_gen.networks.code import code_layers

Shape = tuple[int, ...]


def recurrent_encoder(
    input_shape: Shape,
    units: int,
    hidden: Sequence[int] = (100,),
    code_activation: str = "linear",
    code_noise: float = 0.0,
) -> keras.Model:
    """Sequences (steps, ...) to vectors of `units` numbers, through LSTMs of widths `hidden`."""
    steps, *rest = input_shape
    inputs = keras.Input(input_shape)
    x = layers.Reshape((steps, math.prod(rest)))(inputs)
    for width in hidden[:-1]:
        x = layers.LSTM(width, return_sequences=True)(x)
    x = layers.LSTM(hidden[-1])(x)
    return keras.Model(inputs, code_layers(x, units, code_activation, code_noise), name="encoder")


def recurrent_decoder(units: int, output_shape: Shape, hidden: Sequence[int] = (100,)) -> keras.Model:
    """Vectors to sequences (steps, ...): the vector is the input of every step.

    `hidden` from the code outward (Srivastava et al. 2015, arXiv:1502.04681, the unconditioned
    decoder, which never sees its own output).
    """
    steps, *rest = output_shape
    inputs = keras.Input((units,))
    x = layers.RepeatVector(steps)(inputs)
    for width in hidden:
        x = layers.LSTM(width, return_sequences=True)(x)
    x = layers.Dense(math.prod(rest))(x)
    return keras.Model(inputs, layers.Reshape(output_shape)(x), name="decoder")
