"""Data whose best estimates are known."""

import numpy as np
from keras import ops

from keras_gen.diffusion.samplers import Estimate


def tensors(*arrays):
    return tuple(ops.convert_to_tensor(np.asarray(a, "float32")) for a in arrays)


def gaussian(schedule, deviation=0.5, mean=0.0):
    """The clean picture that is expected in x, where pictures are N(mean, deviation^2)."""

    def estimate(x, t, last):
        point = schedule.at(t)
        total = (point.alpha * deviation) ** 2 + point.sigma**2
        return Estimate(mean + point.alpha * deviation**2 / total * (x - point.alpha * mean))

    return estimate
