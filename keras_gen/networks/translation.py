"""Images to images: a U-Net, and a discriminator of patches (Isola et al. 2017, arXiv:1611.07004)."""

import keras
from keras import layers

from keras_gen.errors import InputError

KERNEL = 4
MOST = 8
"""Filters grow up to so many times those of the first layer."""


def _start():
    return keras.initializers.RandomNormal(stddev=0.02)


def translation_unet(
    shape: tuple[int, int, int], channels: int, filters: int = 64, dropout: float = 0.5
) -> keras.Model:
    """Images of `shape` to images in [-1, 1] of the same size with `channels`.

    Halved until a side is one pixel, and doubled again with what each size looked like on the way down
    beside it (appendix 6.1.1). Odd sizes are rounded up and cut back.

    Args:
        filters: Of the first layer; doubled with every halving, up to eight times as many.
        dropout: In the three innermost layers on the way up, in training.
    """
    if min(shape[:2]) < 2:
        raise InputError(f"Expected pictures of 2 pixels a side or more. Received: {shape[0]}x{shape[1]}.")
    inputs = keras.Input(shape, name="image")
    x, skips, depth = inputs, [], 0
    while min(x.shape[1:3]) > 1:
        skips.append(x)
        x = layers.Conv2D(
            filters * min(2**depth, MOST),
            KERNEL,
            2,
            padding="same",
            use_bias=depth == 0,
            kernel_initializer=_start(),
        )(x)
        # the innermost has one pixel: its batch statistics are those of a few numbers
        if depth and min(x.shape[1:3]) > 1:
            x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.LeakyReLU(0.2)(x)
        depth += 1
    for level in reversed(range(depth)):
        last = level == 0
        x = layers.Conv2DTranspose(
            channels if last else filters * min(2 ** (level - 1), MOST),
            KERNEL,
            2,
            padding="same",
            kernel_initializer=_start(),
        )(x)
        skip = skips[level]
        extra = [made - wanted for made, wanted in zip(x.shape[1:3], skip.shape[1:3], strict=True)]
        if any(extra):
            x = layers.Cropping2D([(0, e) for e in extra])(x)
        if last:
            return keras.Model(inputs, layers.Activation("tanh")(x), name="generator")
        x = layers.BatchNormalization(momentum=0.9)(x)
        if dropout and level >= depth - 3:
            x = layers.Dropout(dropout)(x)
        x = layers.Concatenate()([layers.ReLU()(x), skip])
    raise AssertionError("unreachable: a picture has a level")


def patch_discriminator(
    shape: tuple[int, int, int],
    channels: int | None = None,
    filters: int = 64,
    halvings: int | None = None,
) -> keras.Model:
    """[source of `shape`, image with `channels`] to a score for each patch, (n, rows, columns, 1).

    Args:
        channels: Of the images that come with sources. None: images of `shape` come alone.
        filters: Of the first layer; doubled with every halving.
        halvings: How often; 3 sees patches of 70 pixels (appendix 6.1.2). Default: 3 from 128 pixels a
            side, 2 from 16, otherwise 1.
    """
    side = min(shape[:2])
    halvings = halvings or (3 if side >= 128 else 2 if side >= 16 else 1)
    x = inputs = keras.Input(shape, name="source" if channels else "image")
    if channels:
        inputs = [x, keras.Input((*shape[:2], channels), name="image")]
        x = layers.Concatenate()(inputs)
    for i in range(halvings + 1):
        x = layers.Conv2D(
            filters * min(2**i, MOST),
            KERNEL,
            2 if i < halvings else 1,
            padding="same",
            use_bias=i == 0,
            kernel_initializer=_start(),
        )(x)
        if i:
            x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.LeakyReLU(0.2)(x)
    score = layers.Conv2D(1, KERNEL, padding="same", kernel_initializer=_start())(x)
    return keras.Model(inputs, score, name="discriminator")
