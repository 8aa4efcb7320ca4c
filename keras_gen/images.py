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
