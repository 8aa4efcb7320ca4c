"""The first stage of latent diffusion: images to small maps and back (Rombach et al. 2022, appendix E)."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_gen.errors import InputError
from keras_gen.layers import GroupNorm, groups_of


def _norm(x):
    return GroupNorm(groups_of(x.shape[-1]), silu=True)(x)


def _conv(channels: int, kernel: int = 3, **kwargs):
    return layers.Conv2D(channels, kernel, padding="same", **kwargs)


def _block(x, channels: int):
    inner = _conv(channels)(_norm(x))
    inner = _conv(channels, kernel_initializer="zeros")(_norm(inner))
    if x.shape[-1] != channels:
        x = _conv(channels, 1)(x)
    return layers.Add()([x, inner])


def _checked(shape: Sequence[int], multipliers: Sequence[int]) -> int:
    halvings = 2 ** (len(multipliers) - 1)
    if shape[0] % halvings or shape[1] % halvings:
        raise InputError(
            f"Expected pictures whose sides {halvings} divides. Received: {shape[0]}x{shape[1]}."
        )
    return halvings


def latent_encoder(
    shape: tuple[int, int, int],
    channels: int = 4,
    width: int = 32,
    multipliers: Sequence[int] = (1, 2, 2),
    blocks: int = 1,
) -> keras.Model:
    """Images to (n, height / f, width / f, 2 channels): means, then logarithms of variances.

    Args:
        channels: Of the latents.
        width: Channels at full resolution.
        multipliers: Of `width` at each scale, with one halving between two: three make f 4.
        blocks: Residual blocks at each scale.
    """
    _checked(shape, multipliers)
    image = keras.Input(shape, name="image")
    x = _conv(width)(image)
    for scale, multiplier in enumerate(multipliers):
        if scale:
            x = _conv(x.shape[-1], strides=2)(x)
        for _ in range(blocks):
            x = _block(x, width * multiplier)
    x = _norm(_block(x, x.shape[-1]))
    return keras.Model(image, _conv(2 * channels, dtype="float32")(x), name="encoder")


def latent_decoder(
    shape: tuple[int, int, int],
    channels: int = 4,
    width: int = 32,
    multipliers: Sequence[int] = (1, 2, 2),
    blocks: int = 1,
) -> keras.Model:
    """Latents to images of `shape`, unbounded; see `latent_encoder`, with a block more at each scale."""
    factor = _checked(shape, multipliers)
    latent = keras.Input((shape[0] // factor, shape[1] // factor, channels), name="latent")
    x = _conv(width * multipliers[-1])(latent)
    x = _block(x, x.shape[-1])
    for scale, multiplier in reversed(list(enumerate(multipliers))):
        for _ in range(blocks + 1):
            x = _block(x, width * multiplier)
        if scale:
            x = _conv(x.shape[-1])(layers.UpSampling2D(2)(x))
    return keras.Model(latent, _conv(shape[2], dtype="float32")(_norm(x)), name="decoder")
