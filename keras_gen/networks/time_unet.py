"""The U-Net of DDPM (Ho et al. 2020, appendix B): images and a time, and labels where wanted, to images.

Residual blocks at several scales, self-attention at some, one stack of skips from the way down to the way up.
Convolutions that end a branch start at zero, so that every block begins as the identity and the whole net
gives zeros (the authors' code).
"""

from collections.abc import Sequence

import keras
from keras import layers

from keras_gen.errors import InputError
from keras_gen.layers import (
    CrossAttention,
    GroupNorm,
    PlaceEmbedding,
    SinusoidalEmbedding,
    SpatialAttention,
    groups_of,
)


def time_unet(
    shape: tuple[int, int, int],
    outputs: int | None = None,
    width: int = 128,
    multipliers: Sequence[int] = (1, 2, 2, 2),
    blocks: int = 2,
    attention: Sequence[int] = (16,),
    heads: int = 1,
    dropout: float = 0.0,
    classes: int | None = None,
    context: tuple[int, int] | None = None,
    layout: tuple[int, int, int] | None = None,
) -> keras.Model:
    """[images (n, height, width, c), times (n,)] or, with classes, [images, times, labels (n,)] to images.

    With contexts: [images, times, contexts (n, length, d), masks (n, length)], and with a layout
    [..., layouts (n, rows, columns, channels)].

    Defaults are DDPM's for CIFAR-10 (35,746,307 parameters there). Pictures whose sides the halvings do not
    divide are padded with zeros inside.

    Args:
        outputs: Channels out; default: as many as go in.
        width: Channels at full resolution.
        multipliers: Of `width` at each scale, with one halving between two.
        blocks: Residual blocks at each scale on the way down; one more on the way up.
        attention: Sides (the shorter) of the feature maps that attend to themselves, after each block.
        heads: Of that attention.
        dropout: In every block.
        classes: How many labels there are; an embedding is added to the time's.
        context: Length and d of contexts, at which the maps that attend to themselves look afterwards
            (Rombach et al. 2022, section 3.3), their places told apart by learned vectors.
        layout: (rows, columns, channels) of maps seen beside the images, of sides that divide theirs.
    """
    if width % 2 or width < 4 or blocks < 1 or not multipliers:
        raise InputError(
            "Expected an even width of 4 or more, 1 block or more and 1 multiplier or more. "
            f"Received: {width}, {blocks} and {tuple(multipliers)}."
        )
    halvings = 2 ** (len(multipliers) - 1)
    below, right = -shape[0] % halvings, -shape[1] % halvings

    image = keras.Input(shape, name="image")
    time = keras.Input((), name="time", dtype="float32")
    inputs = [image, time]
    embedded = layers.Dense(4 * width)(SinusoidalEmbedding(width)(time))
    embedded = layers.Dense(4 * width)(layers.Activation("silu")(embedded))
    if classes is not None:
        label = keras.Input((), name="label", dtype="int32")
        inputs.append(label)
        embedded = layers.Add()([embedded, layers.Embedding(classes, 4 * width)(label)])
    told = []
    if context is not None:
        told = [keras.Input(context, name="context"), keras.Input(context[:1], name="mask")]
        inputs += told
        # no summary of the contexts is added to the time's embedding: it tells single things fast, and leaves
        # nothing that would teach attention which colour goes with which shape
    x = image
    if layout is not None:
        by = (shape[0] // layout[0], shape[1] // layout[1])
        if (layout[0] * by[0], layout[1] * by[1]) != tuple(shape[:2]):
            raise InputError(f"Expected a layout whose sides divide those of {shape}. Received: {layout}.")
        inputs.append(keras.Input(layout, name="layout"))
        x = layers.Concatenate()([image, layers.UpSampling2D(by)(inputs[-1])])
    embedded = layers.Activation("silu")(embedded)

    def normalised(x, silu: bool = True):
        return GroupNorm(groups_of(x.shape[-1]), silu=silu)(x)

    def conv(channels: int, kernel: int = 3, **kwargs):
        return layers.Conv2D(channels, kernel, padding="same", **kwargs)

    def block(x, channels: int):
        inner = conv(channels)(normalised(x))
        shift = layers.Dense(channels)(embedded)
        inner = layers.Add()([inner, layers.Reshape((1, 1, channels))(shift)])
        inner = normalised(inner)
        if dropout:
            inner = layers.Dropout(dropout)(inner)
        inner = conv(channels, kernel_initializer="zeros")(inner)
        if x.shape[-1] != channels:
            x = conv(channels, 1)(x)
        return layers.Add()([x, inner])

    def attended(x):
        def seen(x):
            x = normalised(x, silu=False)
            return PlaceEmbedding()(x) if told else x

        x = layers.Add()([x, SpatialAttention(heads)(seen(x))])
        if told:
            x = layers.Add()([x, CrossAttention(heads)(seen(x), *told)])
        return x

    if below or right:
        x = layers.ZeroPadding2D(((0, below), (0, right)))(x)
    x = conv(width)(x)
    skips = [x]
    for scale, multiplier in enumerate(multipliers):
        if scale:
            x = conv(x.shape[-1], strides=2)(x)
            skips.append(x)
        for _ in range(blocks):
            x = block(x, width * multiplier)
            if min(x.shape[1:3]) in attention:
                x = attended(x)
            skips.append(x)
    x = block(attended(block(x, x.shape[-1])), x.shape[-1])
    for scale, multiplier in reversed(list(enumerate(multipliers))):
        for _ in range(blocks + 1):
            x = block(layers.Concatenate()([x, skips.pop()]), width * multiplier)
            if min(x.shape[1:3]) in attention:
                x = attended(x)
        if scale:
            x = conv(x.shape[-1])(layers.UpSampling2D(2)(x))
    x = normalised(x)
    # the last convolution keeps float32, as schedules and losses do
    x = conv(outputs or shape[2], kernel_initializer="zeros", dtype="float32")(x)
    if below or right:
        x = layers.Cropping2D(((0, below), (0, right)), dtype="float32")(x)
    return keras.Model(inputs, x, name="unet")
