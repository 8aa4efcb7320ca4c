"""An image-to-image network for pictures of any size, without a single bias.

Without biases a network of convolutions and ReLUs is homogeneous, f(a x) = a f(x) for a > 0, which lets a
denoiser do at noise levels that it has not seen what it learned at others (Mohan et al. 2020,
arXiv:1906.05478). The shape, residual blocks at several scales with additive skips, is that of
Zhang et al. 2021, arXiv:2008.13751, figure 4.
"""

import itertools
from collections.abc import Sequence

import keras
from keras import layers


def bias_free_unet(channels: int, widths: Sequence[int] = (32, 64, 96), blocks: int = 2) -> keras.Model:
    """Images (height, width, channels), sides multiples of `stride(widths)`, to images of that shape.

    Args:
        channels: Of the images.
        widths: Filters at each scale, from full resolution downward; one halving between two.
        blocks: Residual blocks at each scale on the way down, and up again.
    """

    def conv(width: int, kernel: int = 3, strides: int = 1):
        return layers.Conv2D(width, kernel, strides, padding="same", use_bias=False)

    def residual_blocks(x, width: int):
        for _ in range(blocks):
            inner = layers.ReLU()(conv(width)(x))
            x = layers.Add()([x, conv(width)(inner)])
        return x

    inputs = keras.Input((None, None, channels))
    x = conv(widths[0])(inputs)
    skips = []
    for width, below in itertools.pairwise(widths):
        x = residual_blocks(x, width)
        skips.append(x)
        x = conv(below, 2, 2)(x)
    x = residual_blocks(x, widths[-1])
    for width, skip in zip(widths[-2::-1], skips[::-1], strict=True):
        x = layers.Conv2DTranspose(width, 2, 2, padding="same", use_bias=False)(x)
        x = residual_blocks(layers.Add()([x, skip]), width)
    return keras.Model(inputs, conv(channels)(x), name="unet")


def stride(widths: Sequence[int]) -> int:
    """What the sides of its images must be multiples of."""
    return 2 ** (len(widths) - 1)


def reach(widths: Sequence[int], blocks: int = 2) -> int:
    """How many pixels away an input can be and still change an output: half the receptive field."""
    total = 2  # the first and the last convolution
    for scale in range(len(widths)):
        ways = 1 if scale == len(widths) - 1 else 2
        total += ways * blocks * 2 * 2**scale
    return total + 2 ** (len(widths) - 1) - 1  # a coarse pixel stands for a square of fine ones
