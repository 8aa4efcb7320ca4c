"""The one convention for pixels: inside, float32 in [-1, 1]; outside, uint8 in [0, 255]."""

from keras import ops


def from_uint8(images):
    """uint8 [0, 255] to float32 [-1, 1]."""
    return ops.cast(images, "float32") / 127.5 - 1.0


def to_uint8(images):
    """Floats in [-1, 1] (clipped to it) to uint8 [0, 255], rounded to the nearest level."""
    levels = ops.round((ops.cast(images, "float32") + 1.0) * 127.5)
    return ops.cast(ops.clip(levels, 0.0, 255.0), "uint8")


def to_unit(images):
    """[-1, 1] to the unit interval, in which Bernoulli probabilities live."""
    return (images + 1.0) * 0.5


def edge_padded(images, below, right, above=0, left=0):
    """Images (n, height, width, c) with their outermost rows and columns repeated so many times.

    `ops.pad(mode="edge")` is missing on TensorFlow, and its other modes refuse pictures smaller than
    the padding.
    """
    for axis, before, after in ((1, above, below), (2, left, right)):
        size = ops.shape(images)[axis]
        indices = ops.clip(ops.arange(-before, size + after), 0, size - 1)
        images = ops.take(images, indices, axis=axis)
    return images
