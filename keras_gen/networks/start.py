"""Where training starts: biases that take the data's mean out, and put it back in.

Burda et al. 2015 do so in their published code, and dense tanh networks need it: without it the first layer
begins saturated by what all pictures have in common.
"""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from keras_gen.engine import to_numpy


def centre_inputs(network: keras.Model, mean: np.ndarray) -> None:
    """Let the first layer see inputs of mean zero: its bias becomes minus kernel times `mean`.

    A convolution keeps its bias: its inputs' mean has no place in one number per filter.
    """
    first = next(layer for layer in network.layers if layer.weights)
    if isinstance(first, layers.Dense):
        kernel = to_numpy(first.kernel.value)
        first.bias.assign(-mean.reshape(-1) @ kernel)


def start_outputs_at(
    network: keras.Model, mean: np.ndarray, to_output: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Let outputs begin around `to_output(mean)` through the last layer's bias.

    `mean` has the data's shape. A convolution, with one bias per filter, takes its mean over pixels,
    a layer shared by the steps of a sequence its mean over steps.
    """
    last = next(layer for layer in reversed(network.layers) if layer.weights)
    if not isinstance(last, layers.Dense):
        mean = mean.mean(axis=(0, 1))
    last.bias.assign(to_output(mean).reshape(-1, last.bias.shape[0]).mean(axis=0))
