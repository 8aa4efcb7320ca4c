"""What JPEG loses: rounded cosines of blocks, colours at half the size."""

import keras
import numpy as np
from keras import ops

from keras_gen.corruptions.base import (
    Corruption,
    Strength,
    checked,
    drawn,
    padded_to_multiple,
    require_pictures,
)

_LUMINANCE = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
"""
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])

_NO_COLOUR = np.array([0.0, 128.0, 128.0], "float32")


def _to_levels(values):
    return ops.round(ops.clip(values, 0.0, 255.0))


def _tables() -> np.ndarray:
    """The quantisation tables of quality 50 for Y, Cb, Cr: (3, 8, 8)."""
    luminance = np.array(_LUMINANCE.split(), "float32")
    chrominance = np.full(64, 99, "float32")
    chrominance[:32] = np.array(_CHROMINANCE.split(), "float32")
    return np.stack([luminance, chrominance, chrominance]).reshape(3, 8, 8)


def _cosines() -> np.ndarray:
    """The orthonormal discrete cosine transform of 8 values, (frequency, value)."""
    k, i = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    matrix = np.cos((2 * i + 1) * k * np.pi / 16) * np.sqrt(2 / 8)
    matrix[0] /= np.sqrt(2)
    return matrix.astype("float32")


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Jpeg(Corruption):
    """What JPEG loses, without the file: colour at half resolution, cosines of 8x8 blocks rounded.

    `quality`: 1 to 100 on libjpeg's scale.
    """

    def __init__(self, quality: Strength):
        self.quality = checked("quality", quality, 1, 100)

    def apply(self, data, generator):
        require_pictures(data, self)
        height, width = ops.shape(data)[1:3]
        colour = data.shape[-1] == 3
        levels = _to_levels((data + 1.0) * 127.5)
        levels = padded_to_multiple(levels, 16 if colour else 8)
        if colour:  # 128 is no colour
            levels = _to_levels(ops.matmul(levels, _TO_YCC.T.astype("float32")) + _NO_COLOUR)
            chrominance = ops.average_pool(levels[..., 1:], 2, 2)
            planes = [levels[..., :1], _to_levels(chrominance)]
            tables = [_tables()[0:1], _tables()[1:]]
        else:
            planes, tables = [levels], [_tables()[: data.shape[-1]]]
        # libjpeg's jpeg_quality_scaling
        quality = ops.floor(ops.convert_to_tensor(drawn(self.quality, data, generator), "float32"))
        scale = ops.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality) / 100.0
        done = [
            _to_levels(_rounded_cosines(p - 128.0, t, scale) + 128.0)
            for p, t in zip(planes, tables, strict=True)
        ]
        levels = done[0]
        if colour:
            chrominance = ops.repeat(ops.repeat(done[1], 2, axis=1), 2, axis=2)
            back = np.linalg.inv(_TO_YCC).T.astype("float32")
            levels = ops.matmul(ops.concatenate([levels, chrominance], axis=-1) - _NO_COLOUR, back)
        levels = _to_levels(levels)[:, :height, :width]
        return levels / 127.5 - 1.0


def _rounded_cosines(plane, tables: np.ndarray, scale):
    """Planes (n, height, width, c), sides multiples of 8, through rounding by tables (c, 8, 8)."""
    n, height, width = ops.shape(plane)[:3]
    channels = plane.shape[-1]
    blocks = ops.reshape(plane, (n, height // 8, 8, width // 8, 8, channels))
    blocks = ops.transpose(blocks, (0, 1, 3, 5, 2, 4))  # (n, rows, columns, c, 8, 8)
    cosines = _cosines()
    frequencies = ops.matmul(ops.matmul(cosines, blocks), cosines.T)
    if len(ops.shape(scale)):
        scale = ops.reshape(scale, (-1, 1, 1, 1, 1, 1))
    steps = ops.clip(ops.floor(scale * tables[None, None, None] + 0.5), 1.0, 255.0)
    frequencies = ops.round(frequencies / steps) * steps
    blocks = ops.matmul(ops.matmul(cosines.T, frequencies), cosines)
    return ops.reshape(ops.transpose(blocks, (0, 1, 4, 2, 5, 3)), (n, height, width, channels))
