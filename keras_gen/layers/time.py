"""Sinusoidal embedding of times and positions."""

import math

import keras
from keras import layers, ops

from keras_gen.errors import InputError


@keras.saving.register_keras_serializable("keras_gen.layers")
class SinusoidalEmbedding(layers.Layer):
    """Numbers (n,) to (n, dim) sines and cosines of geometrically falling frequencies (Vaswani et al. 2017).

    Computed in float32 whatever the policy: 999 and 1,000 are one number in bfloat16.

    Args:
        dim: Even.
        cosine_first: Cosines before sines, as latent diffusion has them; DDPM has sines first.
        shift: 1: the last frequency is 1 / max_period (DDPM); 0: one more would be (latent diffusion).
        max_period: The slowest wave's length over 2 pi.
    """

    def __init__(
        self, dim: int, cosine_first: bool = False, shift: int = 1, max_period: float = 10_000.0, **kwargs
    ):
        super().__init__(autocast=False, **kwargs)
        if dim < 4 or dim % 2:
            raise InputError(f"Expected an even dim of 4 or more. Received: {dim}.")
        self.dim = dim
        self.cosine_first = cosine_first
        self.shift = shift
        self.max_period = max_period

    def call(self, times):
        half = self.dim // 2
        rate = -math.log(self.max_period) / (half - self.shift)
        frequencies = ops.exp(rate * ops.arange(half, dtype="float32"))
        angles = ops.cast(times, "float32")[:, None] * frequencies
        parts = [ops.sin(angles), ops.cos(angles)]
        joined = ops.concatenate(parts[::-1] if self.cosine_first else parts, axis=1)
        return ops.cast(joined, self.compute_dtype)

    def compute_output_spec(self, times):
        return keras.KerasTensor((times.shape[0], self.dim), self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "dim": self.dim,
            "cosine_first": self.cosine_first,
            "shift": self.shift,
            "max_period": self.max_period,
        }
