"""Pictures moved, turned and mirrored."""

import keras
from keras import ops

from keras_gen.corruptions.base import Corruption, Strength, checked, drawn, require_pictures


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Affine(Corruption):
    """A small random turn, shift, scaling and shear of each picture, resampled bilinearly.

    `strength`: the standard deviation of normal noise on the six numbers of the map, with the picture
    within -1 to 1: 0.1 turns by 6 degrees, scales by a tenth and shifts by a twentieth of a side, more
    or less. Beyond its edge a picture goes on as at its edge. A code from which the undistorted
    picture must be drawn loses interest in where it was.
    """

    def __init__(self, strength: Strength):
        self.strength = checked("strength", strength, 0)

    def apply(self, data, generator):
        require_pictures(data, self)
        strength = drawn(self.strength, data, generator)
        if isinstance(self.strength, tuple):
            strength = ops.reshape(strength, (-1, 1, 1))
        noise = keras.random.normal((ops.shape(data)[0], 2, 3), dtype="float32", seed=generator)
        return _resampled(data, ops.eye(2, 3, dtype="float32") + strength * noise)


def _resampled(data, maps):
    """Pictures (n, height, width, c) whose pixel at (y, x) is that of `maps` (n, 2, 3) @ (y, x, 1).

    Coordinates are those of pixels' centres, from -1 to 1; between centres linear.
    """
    n, height, width = ops.shape(data)[:3]
    channels = data.shape[-1]
    y = ops.linspace(-1.0, 1.0, height)
    x = ops.linspace(-1.0, 1.0, width)
    y, x = ops.meshgrid(y, x, indexing="ij")
    grid = ops.reshape(ops.stack([y, x, ops.ones_like(y)]), (3, -1))
    source = ops.matmul(maps, ops.cast(grid, "float32"))  # (n, 2, height * width)
    pixels = ops.reshape(data, (-1, channels))
    first = ops.expand_dims(ops.arange(n) * (height * width), 1)
    row, down = _floor_and_rest(source[:, 0], height)
    column, right = _floor_and_rest(source[:, 1], width)
    out = 0.0
    for dy, by_row in ((0, 1.0 - down), (1, down)):
        for dx, by_column in ((0, 1.0 - right), (1, right)):
            there = first + ops.minimum(row + dy, height - 1) * width + ops.minimum(column + dx, width - 1)
            out = out + ops.expand_dims(by_row * by_column, -1) * ops.take(pixels, there, axis=0)
    return ops.reshape(out, (n, height, width, channels))


def _floor_and_rest(coordinate, size):
    """From -1 to 1 to the pixel before, int32, and how far it lies behind it, 0 to 1."""
    position = ops.clip((coordinate + 1.0) * (ops.cast(size, "float32") - 1.0) / 2.0, 0.0, size - 1)
    before = ops.floor(position)
    return ops.cast(before, "int32"), position - before


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Mirror(Corruption):
    """Exchanges left and right of a picture with the chance `rate`."""

    def __init__(self, rate: Strength = 0.5):
        self.rate = checked("rate", rate, 0, 1)

    def apply(self, data, generator):
        require_pictures(data, self)
        rate = drawn(self.rate, data, generator)
        shape = (ops.shape(data)[0], 1, 1, 1)
        turned = keras.random.uniform(shape, dtype="float32", seed=generator) < rate
        return ops.where(turned, ops.flip(data, axis=2), data)
