"""Generator and discriminator by the guidelines of DCGAN (Radford et al. 2016, arXiv:1511.06434).

Strided and transposed convolutions, no pooling, kernels that their strides divide, batch normalisation
but for the generator's output and the discriminator's input, ReLU and tanh, LeakyReLU of slope 0.2,
weights from N(0, 0.02^2).
"""

import keras
from keras import layers

from keras_gen.errors import InputError
from keras_gen.layers import SpectralConv2D, SpectralDense

KERNEL = 4
LEAST = 4
"""Pixels a side of the smallest feature maps, at least."""
NORMS = ("batch", "layer", "spectral", "none")


def stages(shape: tuple[int, int, int]) -> int:
    """How often pictures of `shape` can be halved, down to 4 pixels a side."""
    sides, count = shape[:2], 0
    while all(s % 2 ** (count + 1) == 0 and s // 2 ** (count + 1) >= LEAST for s in sides):
        count += 1
    if count == 0:
        raise InputError(
            "Expected pictures of 8 pixels a side or more, in even numbers. "
            f"Received: {shape[0]}x{shape[1]}. Choose another image size."
        )
    return count


def _start():
    return keras.initializers.RandomNormal(stddev=0.02)


def dcgan_generator(
    latent_dim: int, shape: tuple[int, int, int], filters: int = 64, classes: int | None = None
) -> keras.Model:
    """Codes (n, latent_dim), and labels (n,) for `classes`, to images in [-1, 1].

    Args:
        filters: Of the last hidden layer; doubled with every halving.
        classes: Number of them: a label's embedding stands beside the code.
    """
    count = stages(shape)
    widths = [filters * 2**i for i in range(count)][::-1]
    rows, columns = shape[0] // 2**count, shape[1] // 2**count
    inputs, x = code_and_label(latent_dim, classes)
    x = layers.Dense(rows * columns * widths[0], use_bias=False, kernel_initializer=_start())(x)
    x = layers.Reshape((rows, columns, widths[0]))(x)
    for width in [*widths[1:], None]:
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        x = layers.Conv2DTranspose(
            width or shape[2],
            KERNEL,
            2,
            padding="same",
            use_bias=width is None,
            activation="tanh" if width is None else None,
            kernel_initializer=_start(),
        )(x)
    return keras.Model(inputs, x, name="generator")


def dcgan_discriminator(
    shape: tuple[int, int, int],
    filters: int = 64,
    norm: str = "batch",
    classes: int | None = None,
    bias: bool = True,
) -> keras.Model:
    """Images, and labels (n,) for `classes`, to a score (n, 1), unbounded.

    Args:
        filters: Of the first layer; doubled with every halving.
        norm: `batch`; `layer` and `none` for gradient penalties, which a batch's statistics would disturb
            (Gulrajani et al. 2017, section 4); `spectral` normalises every kernel instead.
        classes: Number of them: the label's embedding is projected on the features (Miyato & Koyama 2018,
            arXiv:1802.05637, eq. 3).
        bias: Of the score; a Wasserstein loss has no gradient for it.
    """
    convolution, dense = layers_of(norm, NORMS)
    # a normalised kernel has no scale of its own
    start = "glorot_uniform" if norm == "spectral" else _start()
    image = x = keras.Input(shape, name="image")
    for i in range(stages(shape)):
        normalised = i > 0 and norm in ("batch", "layer")
        x = convolution(
            filters * 2**i,
            KERNEL,
            2,
            padding="same",
            use_bias=not normalised,
            kernel_initializer=start,
        )(x)
        if normalised:
            kind = layers.BatchNormalization(momentum=0.9) if norm == "batch" else layers.LayerNormalization()
            x = kind(x)
        x = layers.LeakyReLU(0.2)(x)
    return scored(image, layers.Flatten()(x), dense, bias, classes, start)


# --- what other pairs are made of too ----------------------------------------------------------


def code_and_label(latent_dim: int, classes: int | None):
    """A generator's inputs, and the vector that it starts from."""
    code = keras.Input((latent_dim,), name="code")
    if classes is None:
        return code, code
    label = keras.Input((), dtype="int32", name="label")
    return [code, label], layers.Concatenate()([code, layers.Embedding(classes, latent_dim)(label)])


def layers_of(norm: str, norms: tuple[str, ...]):
    """The kinds of convolution and dense layer of a discriminator so normalised."""
    if norm not in norms:
        raise InputError(f"Expected a normalisation of {', '.join(norms)}. Received: {norm!r}.")
    return (SpectralConv2D, SpectralDense) if norm == "spectral" else (layers.Conv2D, layers.Dense)


def scored(image, features, dense, bias: bool, classes: int | None, start) -> keras.Model:
    """A discriminator: the score of its features (n, d), and how well they match the label."""
    score = dense(1, use_bias=bias, kernel_initializer=start)(features)
    if classes is None:
        return keras.Model(image, score, name="discriminator")
    label = keras.Input((), dtype="int32", name="label")
    width = features.shape[-1]
    scale = 1.0 / width**0.5  # the product of features and embedding stays of the order of the score
    embedded = layers.Embedding(classes, width, embeddings_initializer=_start())(label)
    match = layers.Rescaling(scale)(layers.Dot(1)([features, embedded]))
    return keras.Model([image, label], layers.Add()([score, match]), name="discriminator")
