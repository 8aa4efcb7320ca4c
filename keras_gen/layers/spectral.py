"""Layers whose kernel has a largest singular value of 1 (Miyato et al. 2018, arXiv:1802.05957).

`keras.layers.SpectralNormalization` assigns the kernel in `call`, which JAX discards. Here the kernel stays
as it is, and what the layer multiplies by is the kernel over its largest singular value, differentiated
as such (eq. 12).
"""

import keras
from keras import layers, ops


class _Spectral:
    """For layers with `_kernel`: one step of power iteration at every call in training."""

    def build(self, input_shape):
        super().build(input_shape)  # type: ignore[misc]
        self.direction = self.add_weight(  # type: ignore[attr-defined]
            shape=(self._kernel.shape[-1],),  # type: ignore[attr-defined]
            initializer=keras.initializers.RandomNormal(seed=0),
            trainable=False,
            dtype="float32",
            name="direction",
        )

    def save_own_variables(self, store):
        layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        layers.Layer.load_own_variables(self, store)

    def normalised_kernel(self, training: bool):
        """The kernel over its largest singular value, that of the matrix (all inputs, outputs)."""
        kernel = ops.convert_to_tensor(self._kernel)  # type: ignore[attr-defined]
        matrix = ops.cast(ops.reshape(kernel, (-1, kernel.shape[-1])), "float32")
        fixed = ops.stop_gradient(matrix)
        left = _unit(ops.matmul(fixed, ops.convert_to_tensor(self.direction)))
        right = _unit(ops.matmul(ops.transpose(fixed), left))
        if training:
            self.direction.assign(right)
        sigma = ops.sum(left * ops.matmul(matrix, right))
        return kernel / ops.cast(sigma, kernel.dtype)

    def _finish(self, outputs):
        if self.use_bias:  # type: ignore[attr-defined]
            outputs = outputs + ops.cast(self.bias, outputs.dtype)  # type: ignore[attr-defined]
        return self.activation(outputs)  # type: ignore[attr-defined]


@keras.saving.register_keras_serializable("keras_gen.layers")
class SpectralDense(_Spectral, layers.Dense):
    """`keras.layers.Dense` with a kernel of spectral norm 1."""

    def call(self, inputs, training: bool = False):
        kernel = ops.cast(self.normalised_kernel(training), inputs.dtype)
        return self._finish(ops.matmul(inputs, kernel))


@keras.saving.register_keras_serializable("keras_gen.layers")
class SpectralConv2D(_Spectral, layers.Conv2D):
    """`keras.layers.Conv2D` (channels last) with a kernel of spectral norm 1, as a matrix."""

    def call(self, inputs, training: bool = False):
        kernel = ops.cast(self.normalised_kernel(training), inputs.dtype)
        return self._finish(self.convolution_op(inputs, kernel))


def _unit(vector):
    return vector / (ops.sqrt(ops.sum(vector * vector)) + 1e-12)
