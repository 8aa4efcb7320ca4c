"""Attention among the places of a picture, and of its places to a text."""

import keras
from keras import layers, ops

from keras_gen.errors import InputError


@keras.saving.register_keras_serializable("keras_gen.layers")
class SpatialAttention(layers.Layer):
    """Self-attention of feature maps (n, height, width, channels), each place with every other.

    The projection on the way out starts at zero: the layer begins by giving nothing.

    Args:
        heads: They divide the channels.
    """

    def __init__(self, heads: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, shape):
        channels = shape[-1]
        if channels % self.heads:
            raise InputError(f"Expected heads that divide {channels} channels. Received: {self.heads}.")
        self.inward = layers.Dense(3 * channels, name="inward", dtype=self.dtype_policy)
        self.outward = layers.Dense(
            channels, kernel_initializer="zeros", name="outward", dtype=self.dtype_policy
        )
        self.inward.build(shape)
        self.outward.build(shape)

    def call(self, x):
        height, width, channels = x.shape[1:]
        split = (-1, height * width, 3, self.heads, channels // self.heads)
        query, key, value = ops.unstack(ops.reshape(self.inward(x), split), axis=2)
        seen = ops.dot_product_attention(query, key, value)
        return self.outward(ops.reshape(seen, (-1, height, width, channels)))

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("keras_gen.layers")
class PlaceEmbedding(layers.Layer):
    """Adds to feature maps (n, height, width, channels) what tells their places apart, learned.

    Without it attention knows left from right only by what convolutions carry in from the padding.
    """

    def build(self, shape):
        start = keras.initializers.RandomNormal(stddev=0.5)
        self.places = self.add_weight(shape[1:], initializer=start, name="places")

    def call(self, x):
        return x + ops.cast(self.places, x.dtype)


@keras.saving.register_keras_serializable("keras_gen.layers")
class Places(layers.Layer):
    """Learned feature maps (n, height, width, channels), the same for all n of what it is called with.

    Args:
        shape: (height, width, channels).
    """

    def __init__(self, shape: tuple[int, int, int], **kwargs):
        super().__init__(**kwargs)
        self.shape = tuple(shape)
        start = keras.initializers.RandomNormal(stddev=0.5)
        self.places = self.add_weight(self.shape, initializer=start, name="places")

    def call(self, x):
        return ops.broadcast_to(ops.cast(self.places, self.compute_dtype), (ops.shape(x)[0], *self.shape))

    def compute_output_shape(self, x_shape):
        return (x_shape[0], *self.shape)

    def get_config(self):
        return {**super().get_config(), "shape": self.shape}


@keras.saving.register_keras_serializable("keras_gen.layers")
class CrossAttention(layers.Layer):
    """Each place of feature maps (n, height, width, channels) looks at contexts (n, length, d).

    Called with maps, contexts and masks (n, length), 1 where there is something to look at, at least at one
    place. The projection on the way out starts at zero.

    Args:
        heads: They divide the channels.
    """

    def __init__(self, heads: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, x_shape, context_shape, there_shape):
        channels = x_shape[-1]
        if channels % self.heads:
            raise InputError(f"Expected heads that divide {channels} channels. Received: {self.heads}.")
        self.query = layers.Dense(channels, use_bias=False, name="query", dtype=self.dtype_policy)
        self.told = layers.Dense(2 * channels, use_bias=False, name="told", dtype=self.dtype_policy)
        self.outward = layers.Dense(
            channels, kernel_initializer="zeros", name="outward", dtype=self.dtype_policy
        )
        self.query.build(x_shape)
        self.told.build(context_shape)
        self.outward.build(x_shape)

    def call(self, x, context, there):
        height, width, channels = x.shape[1:]
        each = channels // self.heads
        query = ops.reshape(self.query(x), (-1, height * width, self.heads, each))
        told = ops.reshape(self.told(context), (-1, context.shape[1], 2, self.heads, each))
        key, value = ops.unstack(told, axis=2)
        seen = ops.dot_product_attention(query, key, value, mask=(there > 0.5)[:, None, None, :])
        return self.outward(ops.reshape(seen, (-1, height, width, channels)))

    def compute_output_shape(self, x_shape, context_shape, there_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}
