"""What lenses, sensors and pens make of a picture."""

import keras
import numpy as np
from keras import ops

from keras_gen.corruptions.base import (
    Corruption,
    Strength,
    checked,
    cut,
    drawn,
    edge_padded,
    flattened_squares,
    padded_to_multiple,
    require_pictures,
)
from keras_gen.errors import InputError


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Blur(Corruption):
    """Gaussian blur. `sigma`: in pixels. Beyond its edge a picture goes on as at its edge."""

    def __init__(self, sigma: Strength):
        self.sigma = checked("sigma", sigma, 0)

    def apply(self, data, generator):
        require_pictures(data, self)
        most = self.sigma[1] if isinstance(self.sigma, tuple) else self.sigma
        radius = max(1, round(4 * most))
        sigma = ops.maximum(ops.convert_to_tensor(drawn(self.sigma, data, generator), "float32"), 1e-3)
        weights = [ops.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
        total = sum(weights)
        for axis in (1, 2):
            padding = [[0, 0]] * axis + [[radius, radius]] + [[0, 0]] * (3 - axis)
            padded = edge_padded(data, padding)
            size = ops.shape(data)[axis]
            data = sum((weight / total) * cut(padded, axis, i, size) for i, weight in enumerate(weights))
        return data


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Grey(Corruption):
    """Takes a share `amount` of the colour away; all of it by default. The channels stay as many."""

    def __init__(self, amount: Strength = 1.0):
        self.amount = checked("amount", amount, 0, 1)

    def apply(self, data, generator):
        require_pictures(data, self)
        amount = drawn(self.amount, data, generator)
        if data.shape[-1] == 3:
            weights = ops.reshape(ops.convert_to_tensor([0.299, 0.587, 0.114], data.dtype), (1, 1, 1, 3))
            grey = ops.sum(data * weights, axis=-1, keepdims=True)  # as Pillow's "L"
        else:
            grey = ops.mean(data, axis=-1, keepdims=True)
        return amount * grey + (1.0 - amount) * data


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Edges(Corruption):
    """Draws a picture's edges black on white: the Sobel operator's slope, from `slope` on wholly black.

    Of a step from black to white the slope is 4.
    """

    def __init__(self, slope: Strength = 1.0):
        self.slope = checked("slope", slope, 1e-3)

    def apply(self, data, generator):
        require_pictures(data, self)
        slope = drawn(self.slope, data, generator)
        grey = ops.mean(data, axis=-1, keepdims=True) / 2.0
        padded = edge_padded(grey, [(0, 0), (1, 1), (1, 1), (0, 0)])
        side = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]], "float32")
        kernel = ops.convert_to_tensor(np.stack([side, side.T], axis=-1)[:, :, None])
        across = ops.conv(padded, kernel, padding="valid", data_format="channels_last")
        steepness = ops.sqrt(ops.sum(across * across, axis=-1, keepdims=True) + 1e-12)
        lines = 1.0 - 2.0 * ops.minimum(steepness / slope, 1.0)
        return ops.broadcast_to(lines, ops.shape(data))


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Downsampling(Corruption):
    """Averages squares of `factor` x `factor` pixels and draws each as one flat square."""

    def __init__(self, factor: int):
        if not isinstance(factor, (int, float)) or factor != int(factor) or factor < 1:
            raise InputError(f"Expected a whole factor of 1 or more. Received: {factor}.")
        self.factor = int(factor)

    def apply(self, data, generator):
        require_pictures(data, self)
        height, width = ops.shape(data)[1:3]
        return flattened_squares(padded_to_multiple(data, self.factor), self.factor)[:, :height, :width]


# ITU-T T.81 (the JPEG standard), annex K.1
