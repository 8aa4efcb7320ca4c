"""The U-Net of diffusion and its layers."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.layers import GroupNorm, SinusoidalEmbedding, SpatialAttention
from keras_gen.networks import time_unet


def test_time_embedding_vectors():
    ddpm = [-0.5440211, 0.4476708, 0.0215427, 0.0010000, -0.8390715, 0.8941984, 0.9997679, 0.9999995]
    latent = [-0.8390715, 0.5403023, 0.9950042, 0.9999500, -0.5440211, 0.8414710, 0.0998334, 0.0099998]
    time = np.array([10.0], "float32")
    np.testing.assert_allclose(to_numpy(SinusoidalEmbedding(8)(time))[0], ddpm, atol=2e-6)
    found = to_numpy(SinusoidalEmbedding(8, cosine_first=True, shift=0)(time))[0]
    np.testing.assert_allclose(found, latent, atol=2e-6)


def test_times_keep_their_digits_in_bfloat16():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = time_unet((8, 8, 1), width=16, multipliers=(1,), blocks=1, attention=())
        embedding = next(layer for layer in network.layers if isinstance(layer, SinusoidalEmbedding))
        inside = keras.Model(network.inputs, embedding.output)
        image = np.zeros((2, 8, 8, 1), "float32")
        found = to_numpy(ops.cast(inside([image, np.array([998.0, 999.0], "float32")]), "float32"))
        assert keras.backend.standardize_dtype(network.output.dtype) == "float32"
    finally:
        keras.config.set_dtype_policy(policy)
    expected = to_numpy(SinusoidalEmbedding(16)(np.array([998.0, 999.0], "float32")))
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert np.abs(expected[0] - expected[1]).max() > 0.3


def test_group_norm_is_that_of_keras():
    x = np.random.default_rng(0).normal(3, 2, size=(4, 9, 7, 24)).astype("float32")
    ours, theirs = GroupNorm(6), keras.layers.GroupNormalization(6, epsilon=1e-6)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.gamma.assign(np.arange(24) * 0.1)
        layer.beta.assign(np.arange(24) * 0.01)
    np.testing.assert_allclose(to_numpy(ours(x)), to_numpy(theirs(x)), atol=2e-5)
    with pytest.raises(InputError, match="groups that divide 24"):
        GroupNorm(7)(x)


def test_attention_is_softmax_of_products():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 2, 8)).astype("float32")
    layer = SpatialAttention(2)
    assert np.abs(to_numpy(layer(x))).max() == 0  # the way out starts at zero
    layer.outward.kernel.assign(rng.normal(size=(8, 8)))
    inward = to_numpy(layer.inward.kernel.value)
    query, key, value = np.split(x.reshape(2, 6, 8) @ inward, 3, axis=-1)
    parts = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[..., head] @ key[..., head].transpose(0, 2, 1) / 2.0
        weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        parts.append(weights @ value[..., head])
    expected = np.concatenate(parts, axis=-1) @ to_numpy(layer.outward.kernel.value)
    np.testing.assert_allclose(to_numpy(layer(x)).reshape(2, 6, 8), expected, atol=1e-4)


@pytest.mark.once
def test_parameters_of_published_networks():
    assert time_unet((32, 32, 3)).count_params() == 35_746_307  # DDPM's for CIFAR-10
    assert time_unet((32, 32, 3), width=64, multipliers=(1, 2, 2)).count_params() == 6_472_195


@pytest.mark.parametrize(
    "shape",
    [
        (7, 10, 1),
        *(pytest.param(shape, marks=pytest.mark.once) for shape in [(9, 9, 2), (12, 5, 3), (8, 8, 4)]),
    ],
)
def test_network_takes_any_size_and_starts_at_zero(shape):
    network = time_unet(shape, width=8, multipliers=(1, 2, 2), blocks=1, attention=(2, 3))
    made = to_numpy(network([np.ones((2, *shape), "float32"), np.array([0.0, 999.0], "float32")]))
    assert made.shape == (2, *shape)
    assert np.abs(made).max() == 0
