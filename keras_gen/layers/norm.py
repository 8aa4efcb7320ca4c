"""Group normalisation, with the activation that follows it, at a fraction of the price of Keras' own."""

import keras
from keras import layers, ops

from keras_gen.engine import fused, own_group_norm
from keras_gen.errors import InputError


def groups_of(channels: int) -> int:
    """As many groups as DDPM has, 32, or as divide the channels and leave 4 of them in each."""
    return max(g for g in range(1, min(32, max(1, channels // 4)) + 1) if channels % g == 0)


@keras.saving.register_keras_serializable("keras_gen.layers")
class GroupNorm(layers.Layer):
    """Feature maps (n, height, width, channels) normalised over places and groups of channels (Wu & He 2018).

    Statistics and everything in between are float32 whatever the policy. The gradient (of first order) is
    written out: the arrays of a U-Net's norms and activations pass through memory often enough to cost more
    than its convolutions in bfloat16. See docs/benchmarks.md.

    Args:
        groups: They divide the channels.
        epsilon: Added to the variance.
        silu: x sigmoid(x) of what is normalised (Elfwing et al. 2018).
    """

    def __init__(self, groups: int = 32, epsilon: float = 1e-6, silu: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon
        self.silu = silu

    def build(self, shape):
        channels = shape[-1]
        if channels % self.groups:
            raise InputError(f"Expected groups that divide {channels} channels. Received: {self.groups}.")
        self.gamma = self.add_weight((channels,), initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight((channels,), initializer="zeros", name="beta", autocast=False)

    def call(self, x, training=False):
        made = own_group_norm(x, self.groups, self.gamma.value, self.beta.value, self.epsilon, self.silu)
        if made is not None:
            return made
        # reshaped: of a variable itself TensorFlow would ask the written-out gradient for more
        gamma, beta = ops.reshape(self.gamma, (1, -1)), ops.reshape(self.beta, (1, -1))
        return _normalised(self.groups, self.epsilon, self.silu, training)(x, gamma, beta)

    def compute_output_spec(self, x, training=False):
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon, "silu": self.silu}


def _affine(x, scale, shift):
    return ops.cast(ops.cast(x, "float32") * scale + shift, x.dtype)


def _affine_silu(x, scale, shift):
    return ops.cast(ops.silu(ops.cast(x, "float32") * scale + shift), x.dtype)


@fused
def _before_silu(x, dy, scale, shift):
    """du of dy, for y = silu(u), u = scale x + shift; float32."""
    u = ops.cast(x, "float32") * scale + shift
    gate = ops.sigmoid(u)
    return ops.cast(dy, "float32") * (gate + u * gate * (1.0 - gate))


@fused
def _back(x, du, scale, tilt, level):
    return ops.cast(ops.cast(du, "float32") * scale - ops.cast(x, "float32") * tilt + level, x.dtype)


_trained_affine_silu = fused(_affine_silu)
"""Training alone takes compiled parts forward: an export stays a graph of ordinary operations."""


def _normalised(groups: int, epsilon: float, silu: bool, training: bool):
    """The function of (x, gamma, beta), with its gradient.

    With u = scale x + shift for each picture and channel, everything that the gradient takes of the large
    arrays are the sums of du and of x du over places.
    """

    def of_channels(sums):
        """(n, channels) to the same, averaged over each group."""
        channels = sums.shape[-1]
        split = ops.mean(ops.reshape(sums, (-1, groups, channels // groups)), axis=2)
        return ops.repeat(split, channels // groups, axis=1)

    def beside(rows):
        return rows[:, None, None, :]

    @ops.custom_gradient
    def function(x, gamma, beta):
        wide = ops.cast(x, "float32")
        mean = of_channels(ops.mean(wide, axis=(1, 2)))
        square = of_channels(ops.mean(wide * wide, axis=(1, 2)))
        inverse = ops.rsqrt(ops.relu(square - mean * mean) + epsilon)
        scale = beside(inverse * gamma)
        shift = beside(beta - mean * inverse * gamma)
        activated = _trained_affine_silu if training else _affine_silu
        made = (activated if silu else _affine)(x, scale, shift)

        def backward(*args, upstream=None):
            dy = args[0] if upstream is None else upstream
            du = _before_silu(x, dy, scale, shift) if silu else ops.cast(dy, "float32")
            places = x.shape[1] * x.shape[2]
            sums = ops.sum(du, axis=(1, 2))
            along = (ops.sum(du * ops.cast(x, "float32"), axis=(1, 2)) - mean * sums) * inverse
            tilt = inverse * inverse * of_channels(along * gamma) / places
            level = mean * tilt - inverse * of_channels(sums * gamma) / places
            dx = _back(x, du, scale, beside(tilt), beside(level))
            return dx, ops.sum(along, axis=0, keepdims=True), ops.sum(sums, axis=0, keepdims=True)

        return made, backward

    return function
