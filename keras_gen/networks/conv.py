"""Convolutional encoder and decoder for images of any height and width.

Strides are 2 and kernels 4, so that transposed convolutions cover every pixel equally often (a
kernel that its stride does not divide draws a checkerboard: Odena et al. 2016,
doi:10.23915/distill.00003).
"""

from collections.abc import Sequence

import keras
from keras import layers

from keras_gen.errors import InputError
from keras_gen.networks.code import code_layers

KERNEL = 4


def _halved(size: int, times: int) -> int:
    return -(-size // 2**times)


def _check(shape: Sequence[int], filters: Sequence[int]) -> None:
    if min(shape[:2]) < 2 ** len(filters):
        raise InputError(
            f"Expected pictures of at least {2 ** len(filters)} pixels a side for a convolutional "
            f"network of {len(filters)} stages. Received: {shape[0]}x{shape[1]}. "
            "Use a larger image size, fewer filters, or the mlp network."
        )


def conv_encoder(
    input_shape: tuple[int, int, int],
    units: int,
    filters: Sequence[int] = (32, 64),
    dense: int = 128,
    activation: str = "relu",
    code_activation: str = "linear",
    code_noise: float = 0.0,
) -> keras.Model:
    """Images (height, width, channels) to vectors of `units` numbers; one halving per filter."""
    _check(input_shape, filters)
    inputs = keras.Input(input_shape)
    x = inputs
    for width in filters:
        x = layers.Conv2D(width, KERNEL, 2, padding="same", activation=activation)(x)
    x = layers.Dense(dense, activation)(layers.Flatten()(x))
    return keras.Model(inputs, code_layers(x, units, code_activation, code_noise), name="encoder")


def conv_decoder(
    units: int,
    output_shape: tuple[int, int, int],
    filters: Sequence[int] = (64, 32),
    dense: int = 128,
    activation: str = "relu",
) -> keras.Model:
    """Vectors to images; `filters` from the code outward, one doubling each.

    Sizes that are not multiples of 2**len(filters) are drawn a little larger and cropped.
    """
    _check(output_shape, filters)
    height, width, channels = output_shape
    rows, columns = _halved(height, len(filters)), _halved(width, len(filters))
    inputs = keras.Input((units,))
    x = layers.Dense(dense, activation)(inputs)
    x = layers.Dense(rows * columns * filters[0], activation)(x)
    x = layers.Reshape((rows, columns, filters[0]))(x)
    for filter_count in filters[1:]:
        x = layers.Conv2DTranspose(filter_count, KERNEL, 2, padding="same", activation=activation)(x)
    x = layers.Conv2DTranspose(channels, KERNEL, 2, padding="same")(x)
    extra = rows * 2 ** len(filters) - height, columns * 2 ** len(filters) - width
    if any(extra):
        x = layers.Cropping2D([(e // 2, e - e // 2) for e in extra])(x)
    return keras.Model(inputs, x, name="decoder")


def pooled_encoder(
    input_shape: tuple[int, int, int],
    filters: Sequence[int] = (16, 32, 64, 128),
    dropout: float = 0.0,
) -> keras.Model:
    """Images to the last of `filters` numbers: what a classifier needs, and no place of anything.

    Each stage is two 3x3 convolutions with batch normalisation (Ioffe & Szegedy 2015), the stages
    are parted by max pooling, and the last is averaged over all positions (Lin et al. 2014).
    """
    _check(input_shape, filters[1:])
    inputs = x = keras.Input(input_shape)
    for i, width in enumerate(filters):
        if i:
            x = layers.MaxPooling2D(2, padding="same")(x)
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling2D()(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, x, name="encoder")
