"""The residual generator and discriminator of SNGAN (Miyato et al. 2018, arXiv:1802.05957, table 4)."""

import keras
from keras import layers

from keras_gen.networks.dcgan import code_and_label, layers_of, scored, stages

KERNEL = 3
LEAST = 8
"""Pixels a side from which the discriminator halves no more."""


def residual_generator(
    latent_dim: int, shape: tuple[int, int, int], filters: int = 256, classes: int | None = None
) -> keras.Model:
    """Codes (n, latent_dim), and labels (n,) for `classes`, to images in [-1, 1].

    Args:
        filters: Of all blocks; 256 in the paper, at 32 pixels a side.
        classes: Number of them: a label's embedding stands beside the code.
    """
    count = stages(shape)
    inputs, x = code_and_label(latent_dim, classes)
    rows, columns = shape[0] // 2**count, shape[1] // 2**count
    x = layers.Dense(rows * columns * filters)(x)
    x = layers.Reshape((rows, columns, filters))(x)
    for _ in range(count):
        x = _enlarged(x, filters)
    x = _normalised(x)
    x = layers.Conv2D(shape[2], KERNEL, padding="same", activation="tanh")(x)
    return keras.Model(inputs, x, name="generator")


def residual_discriminator(
    shape: tuple[int, int, int],
    filters: int = 128,
    norm: str = "spectral",
    classes: int | None = None,
    bias: bool = True,
) -> keras.Model:
    """Images, and labels (n,) for `classes`, to a score (n, 1), unbounded.

    Args:
        filters: Of all blocks; 128 in the paper.
        norm: `spectral`, or `none` for gradient penalties.
        classes: Number of them: the label's embedding is projected on the features (Miyato & Koyama 2018,
            arXiv:1802.05637, eq. 3).
        bias: Of the score; a Wasserstein loss has no gradient for it.
    """
    convolution, dense = layers_of(norm, ("spectral", "none"))
    image = keras.Input(shape, name="image")
    stages(shape)  # refuses what cannot be halved
    x = _first(image, filters, convolution)
    while min(x.shape[1:3]) > LEAST and not any(side % 2 for side in x.shape[1:3]):
        x = _reduced(x, filters, convolution, halved=True)
    for _ in range(2):
        x = _reduced(x, filters, convolution, halved=False)
    x = layers.ReLU()(x)
    # a sum over the picture, as in the paper
    x = layers.Rescaling(x.shape[1] * x.shape[2])(layers.GlobalAveragePooling2D()(x))
    return scored(image, x, dense, bias, classes, "glorot_uniform")


def _start():
    """Glorot's with a gain of sqrt(2), on the residual path; of 1 on the shortcut."""
    return keras.initializers.VarianceScaling(2.0, "fan_avg", "uniform")


def _normalised(x):
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def _convolved(x, filters: int, convolution=layers.Conv2D):
    return convolution(filters, KERNEL, padding="same", kernel_initializer=_start())(x)


def _enlarged(x, filters: int):
    """A block that doubles both sides."""
    wide = layers.UpSampling2D(2)(_normalised(x))
    wide = _convolved(_normalised(_convolved(wide, filters)), filters)
    return layers.Add()([wide, layers.Conv2D(filters, 1)(layers.UpSampling2D(2)(x))])


def _reduced(x, filters: int, convolution, halved: bool):
    """A block that halves both sides, or leaves them."""
    narrow = _convolved(layers.ReLU()(x), filters, convolution)
    narrow = _convolved(layers.ReLU()(narrow), filters, convolution)
    if not halved:
        return layers.Add()([narrow, x])
    shortcut = layers.AveragePooling2D(2)(convolution(filters, 1)(x))
    return layers.Add()([layers.AveragePooling2D(2)(narrow), shortcut])


def _first(image, filters: int, convolution):
    """The first block: no ReLU on the picture itself."""
    narrow = _convolved(layers.ReLU()(_convolved(image, filters, convolution)), filters, convolution)
    shortcut = convolution(filters, 1)(layers.AveragePooling2D(2)(image))
    return layers.Add()([layers.AveragePooling2D(2)(narrow), shortcut])
