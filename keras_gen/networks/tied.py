"""A decoder whose matrices are its encoder's, transposed."""

import keras
from keras import layers, ops

from keras_gen.errors import InputError


class TiedDecoder(layers.Layer):
    """Mirror of an encoder of dense layers: each kernel transposed, biases of its own.

    Half the parameters, and a gradient that is the sum of both paths' (Vincent et al. 2010, section
    4.1). The activation after each mirrored layer is the one that made the encoder's input to it;
    the last is linear.

    Args:
        encoder: A built model that is a chain of dense layers, reshaping and noise apart.

    Raises:
        InputError: The encoder has layers that cannot be mirrored.
    """

    def __init__(self, encoder: keras.Model, **kwargs):
        super().__init__(name="decoder", **kwargs)
        weighted = [layer for layer in encoder.layers if layer.weights]
        other = [layer.name for layer in weighted if not isinstance(layer, layers.Dense)]
        if other or not weighted:
            raise InputError(
                "Expected an encoder of dense layers alone, whose weights a tied decoder can transpose. "
                f"Received: {', '.join(other) or 'no dense layer'}. Use the mlp network, or untie."
            )
        # not attributes: a layer's kernel belongs to the encoder alone
        self._mirrored = lambda: weighted[::-1]
        self.input_shape = (None, weighted[-1].units)
        self.output_shape = tuple(encoder.input_shape)
        self.biases = [
            self.add_weight(shape=(layer.kernel.shape[0],), initializer="zeros", name=f"bias_{i}")
            for i, layer in enumerate(weighted[::-1])
        ]
        self.activations = [layer.activation for layer in weighted[-2::-1]] + [keras.activations.linear]
        self.built = True

    def call(self, codes, training: bool = False):
        x = codes
        for layer, bias, activation in zip(self._mirrored(), self.biases, self.activations, strict=True):
            kernel = ops.transpose(ops.cast(layer.kernel, x.dtype))
            x = activation(ops.matmul(x, kernel) + ops.cast(bias, x.dtype))
        return ops.reshape(x, (-1, *self.output_shape[1:]))
