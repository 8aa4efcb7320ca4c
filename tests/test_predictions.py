"""Predictions, their weightings, and guidance."""

import numpy as np
import pytest
from keras import ops
from known import tensors

from keras_gen import diffusion
from keras_gen.diffusion import predictions, weightings
from keras_gen.diffusion.guidance import guide, rescale
from keras_gen.diffusion.process import snr
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError


@pytest.fixture
def mixture():
    """Clean pictures, noise and a few points of a variance-preserving process."""
    rng = np.random.default_rng(0)
    clean, noise = (rng.normal(size=(6, 4, 4, 1)).astype("float32") for _ in range(2))
    point = diffusion.Linear().at(np.array([0, 10, 130, 259, 600, 990], "int32"))
    alpha, sigma = (to_numpy(part)[:, None, None, None] for part in point[1:])
    return tensors(clean, noise, alpha, sigma)


@pytest.mark.parametrize("kind", predictions.PREDICTIONS.values())
def test_predictions_are_inverted(kind, mixture):
    clean, noise, alpha, sigma = mixture
    x = alpha * clean + sigma * noise
    target = kind().target(clean, noise, alpha, sigma)
    back = to_numpy(kind().clean(target, x, alpha, sigma))
    np.testing.assert_allclose(
        back, to_numpy(clean), atol=2e-4
    )  # an epsilon at t = 990 is divided by alpha = .007


@pytest.mark.parametrize("kind", predictions.PREDICTIONS.values())
def test_gain_is_the_ratio_of_errors(kind, mixture):
    clean, noise, alpha, sigma = mixture
    x = alpha * clean + sigma * noise
    prediction = kind()
    target = prediction.target(clean, noise, alpha, sigma)
    wrong = to_numpy(prediction.clean(target + 0.1, x, alpha, sigma)) - to_numpy(
        prediction.clean(target, x, alpha, sigma)
    )
    ratio = 0.01 / (wrong**2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(to_numpy(prediction.gain(alpha, sigma)).ravel(), ratio, rtol=2e-2)


def test_gains_are_those_of_the_literature(mixture):
    _, _, alpha, sigma = mixture
    ratio = to_numpy((alpha / sigma) ** 2)
    np.testing.assert_allclose(to_numpy(diffusion.Epsilon().gain(alpha, sigma)), ratio, rtol=1e-5)
    np.testing.assert_allclose(to_numpy(diffusion.V().gain(alpha, sigma)), ratio + 1, rtol=1e-5)


def test_edm_preconditioning():
    kind = diffusion.Preconditioned(0.5)
    for sigma, skip, out, inside, weight in (
        (0.5, 0.5, 0.3535533906, 1.4142135624, 8),
        (1.0, 0.2, 0.4472135955, 0.8944271910, 5),
        (80.0, 3.9060974e-05, 0.4999902347, 0.0124997559, 4.00015625),
    ):
        (sigma, one) = tensors(sigma, 1.0)
        found = [float(c) for c in kind.coefficients(sigma)]
        np.testing.assert_allclose(found, [skip, out, inside], rtol=1e-5)
        # the published weight of the clean picture's error is 1 / c_out^2: plain squared error of F
        np.testing.assert_allclose(float(kind.gain(one, sigma)), weight, rtol=1e-5)
        np.testing.assert_allclose(inside**2 * (float(sigma) ** 2 + 0.25), 1, rtol=1e-5)
    time = float(diffusion.EDM().network_time(np.float32(0.5)))
    np.testing.assert_allclose(time, 1000 * -0.1732867951, rtol=1e-5)


def test_min_snr_weights_of_the_three_predictions(mixture):
    _, _, alpha, sigma = mixture
    ratio = to_numpy((alpha / sigma) ** 2)
    clipped = np.minimum(ratio, 5.0)
    weights = {
        kind.name: to_numpy(diffusion.MinSNR(5.0)(snr(alpha, sigma), kind().gain(alpha, sigma)))
        for kind in (diffusion.Epsilon, diffusion.Clean, diffusion.V)
    }
    np.testing.assert_allclose(weights["epsilon"], clipped / ratio, rtol=1e-4)
    np.testing.assert_allclose(weights["x0"], clipped, rtol=1e-4)
    np.testing.assert_allclose(weights["v"], clipped / (ratio + 1), rtol=1e-4)
    between = diffusion.ClippedSNR(0.2, 5.0)(snr(alpha, sigma), diffusion.Clean().gain(alpha, sigma))
    np.testing.assert_allclose(to_numpy(between), np.maximum(clipped, 0.2), rtol=1e-4)
    assert ratio.min() < 0.2  # or the bound is not seen
    with pytest.raises(InputError, match="low"):
        diffusion.ClippedSNR(6.0, 5.0)
    p2 = to_numpy(diffusion.P2(gamma=0.5, k=1.0)(snr(alpha, sigma), diffusion.Epsilon().gain(alpha, sigma)))
    np.testing.assert_allclose(p2, (1 + ratio) ** -0.5, rtol=1e-4)


@pytest.mark.parametrize("weighting", ["min-snr", "clipped-snr", "p2"])
def test_weighted_losses_of_one_estimate_agree_in_every_prediction(weighting, mixture):
    clean, noise, alpha, sigma = mixture
    x, guess = alpha * clean + sigma * noise, clean + 0.1
    made_up = (x - alpha * guess) / sigma
    losses = []
    for kind in (diffusion.Epsilon, diffusion.Clean, diffusion.V):
        prediction = kind()
        error = to_numpy(prediction.target(guess, made_up, alpha, sigma)) - to_numpy(
            prediction.target(clean, noise, alpha, sigma)
        )
        weight = weightings.get(weighting)(snr(alpha, sigma), prediction.gain(alpha, sigma))
        losses.append((to_numpy(weight) * error**2).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-2)
    np.testing.assert_allclose(losses[2], losses[0], rtol=2e-2)


def test_guidance():
    rng = np.random.default_rng(0)
    conditional, unconditional = (
        ops.convert_to_tensor(rng.normal(size=(3, 4, 4, 1)).astype("float32")) for _ in range(2)
    )
    np.testing.assert_allclose(
        to_numpy(guide(conditional, unconditional, 1.0)), to_numpy(conditional), atol=1e-6
    )
    np.testing.assert_array_equal(to_numpy(guide(conditional, unconditional, 0.0)), to_numpy(unconditional))
    np.testing.assert_allclose(
        to_numpy(guide(conditional, conditional, 7.0)), to_numpy(conditional), atol=1e-6
    )
    guided = guide(conditional, unconditional, 4.0)
    np.testing.assert_array_equal(to_numpy(rescale(guided, conditional, 0.0)), to_numpy(guided))
    whole = to_numpy(rescale(guided, conditional, 1.0))
    np.testing.assert_allclose(
        whole.std(axis=(1, 2, 3)), to_numpy(conditional).std(axis=(1, 2, 3)), rtol=1e-5
    )
    assert not np.allclose(to_numpy(guided).std(axis=(1, 2, 3)), whole.std(axis=(1, 2, 3)), rtol=0.1)
