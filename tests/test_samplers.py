"""Samplers on scores that are known, and beside one another in float64."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from known import gaussian, tensors

from keras_gen import diffusion
from keras_gen.diffusion import predictions, samplers
from keras_gen.diffusion.process import Point
from keras_gen.diffusion.samplers import Estimate
from keras_gen.engine import to_numpy


def through(sampler, estimate, x, grid, n, noise=None):
    """The end of a whole run, in the precision of x."""
    state = samplers.run(
        sampler, estimate, samplers.begun(sampler, x), 0, n, 0, grid, noise or (lambda i: ops.zeros_like(x))
    )
    return to_numpy(state[0])


@pytest.mark.parametrize(
    ("sampler", "n", "expected"),
    [
        ("ddim", 18, 0.4230314364),
        pytest.param("ddim", 288, 0.4950599229, marks=pytest.mark.once),
        ("heun", 18, 0.5276246370),
        pytest.param("heun", 288, 0.5000723530, marks=pytest.mark.once),
        ("dpm-solver++", 18, 0.5311400744),
        pytest.param("dpm-solver++", 288, 0.5000730132, marks=pytest.mark.once),
    ],
)
def test_solvers_on_a_gaussian_seen_through_edm(sampler, n, expected):
    schedule = diffusion.EDM()
    found = through(
        samplers.get(sampler),
        gaussian(schedule),
        ops.full((1, 1), 80.0),
        lambda i: schedule.grid(i, n),
        n,
    )
    np.testing.assert_allclose(found, expected, rtol=2e-4)


@pytest.mark.parametrize(("n", "expected"), [(10, 0.3741284938), (50, 0.4724391130), (100, 0.4859805673)])
def test_ddim_on_a_gaussian_seen_through_the_linear_schedule(n, expected):
    schedule = diffusion.Linear(spacing="leading")
    x = ops.ones((1, 1))
    found = through(diffusion.DDIM(), gaussian(schedule), x, lambda i: schedule.grid(i, n), n)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.once
@pytest.mark.parametrize("sampler", ["heun", "dpm-solver++", "unipc"])
def test_second_order(sampler):
    """Twice the steps, a quarter of the error or less."""
    schedule, errors = diffusion.EDM(), []
    for n in (20, 40, 80):
        x = ops.full((1, 1), 80.0)
        found = through(samplers.get(sampler), gaussian(schedule), x, lambda i, n=n: schedule.grid(i, n), n)
        errors.append(abs(float(found[0, 0]) - 0.49999023466))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 1.6).all(), errors


@pytest.mark.parametrize(
    ("n", "expected"), [(1, 2.0), (2, 2.2), (4, 2.3405405405), (8, 2.4147845545), (16, 2.4556830934)]
)
def test_euler_between_gaussians(n, expected):
    """N(0, 1) to N(2, 0.5^2) from 1: the exact end is 2.5."""
    schedule = diffusion.Flow()
    found = through(
        diffusion.DDIM(), gaussian(schedule, 0.5, 2.0), ops.ones((1, 1)), lambda i: schedule.grid(i, n), n
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("n", "expected"), [(2, 2.48), (4, 2.5048346956), (8, 2.5024414259)])
def test_heun_between_gaussians(n, expected):
    """Up to the last step, which is Euler's in our Heun; the reference makes it too and ends as published."""

    def velocity(x, t):
        clean = 2.0 + (1 - t) * 0.25 / ((1 - t) ** 2 * 0.25 + t**2) * (x - (1 - t) * 2.0)
        return (x - (1 - t) * clean) / t - clean if t > 0 else -x  # of no noise, the noise is 0

    path, x = [], 1.0
    for t, then in itertools.pairwise(np.linspace(1, 0, n + 1)):
        first = velocity(x, t)
        x += (then - t) / 2 * (first + velocity(x + (then - t) * first, then))
        path.append(x)
    np.testing.assert_allclose(path[-1], expected, rtol=1e-9)
    schedule, sampler = diffusion.Flow(), diffusion.Heun()
    state = samplers.run(
        sampler,
        gaussian(schedule, 0.5, 2.0),
        samplers.begun(sampler, ops.ones((1, 1))),
        0,
        n - 1,
        0,
        lambda i: schedule.grid(i, n),
        lambda i: 0.0,
    )
    np.testing.assert_allclose(to_numpy(state[0]), path[-2], atol=1e-5)


@pytest.mark.parametrize(
    ("variance", "expected"),
    [
        ("small", [0.2461252114, 0.9910673764, 0.0092758564]),
        ("large", [0.2507520750, 0.9999, 0.0101537382]),
    ],
)
def test_variance_of_ddpm_over_all_steps(variance, expected):
    """Of data of variance 0.25, 1 and 0.01. Example 0 starts from 1 without noise, example i + 1 from 0 with
    noise in step i alone: the squares of where they end sum to the variance."""
    schedule = diffusion.Linear()
    (deviation,) = tensors(np.sqrt([0.25, 1.0, 0.01]))
    places = ops.broadcast_to(ops.reshape(ops.arange(1001), (-1, 1)), (1001, 3))
    ends = through(
        diffusion.Ancestral(variance),
        gaussian(schedule, deviation),
        ops.cast(places == 0, "float32"),
        lambda i: schedule.grid(i, 1000),
        1000,
        lambda i: ops.cast(places == i + 1, "float32"),
    )
    np.testing.assert_allclose((ends.astype("float64") ** 2).sum(axis=0), expected, rtol=1e-3)


# --- samplers beside one another, in float64 ----------------------------------------------------

if keras.backend.backend() == "jax":
    import jax

    doubled = jax.enable_x64
else:
    import contextlib

    doubled = contextlib.nullcontext


def table(schedule, times):
    """A grid of float64 points at the given times, with the clean picture at the end."""
    alpha = np.sqrt([*schedule.alpha_bar[times], 1.0])
    sigma = np.sqrt(1 - np.array([*schedule.alpha_bar[times], 1.0]))
    rows = [ops.convert_to_tensor(np.asarray(v)) for v in ([*times, -1], alpha, sigma)]
    return lambda i: Point(*(ops.take(row, i) for row in rows))


def stub(schedule):
    """A network that sees x t / (t + 1) as the noise, clipped nowhere."""
    alpha_bar = schedule.alpha_bar

    def estimate(x, t, last):
        at = ops.take(ops.convert_to_tensor(alpha_bar), t)
        eps = x * ops.cast(t, "float64") / (ops.cast(t, "float64") + 1.0)
        return Estimate((x - ops.sqrt(1.0 - at) * eps) / ops.sqrt(at))

    return estimate


def test_dpm_solver_of_order_1_is_ddim():
    with doubled():
        schedule = diffusion.Linear()
        times = np.arange(999, 0, -50)
        x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(4, 3)))
        ends = [
            through(sampler, stub(schedule), x, table(schedule, times), len(times))
            for sampler in (diffusion.DPMSolverPP(1), diffusion.DDIM())
        ]
        assert ends[0].dtype == np.float64
        np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12)


def test_ddim_with_all_noise_is_ddpm_with_the_small_variance():
    with doubled():
        schedule = diffusion.Linear(steps=100)
        x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(4, 3)))
        noises = ops.convert_to_tensor(np.random.default_rng(1).normal(size=(100, 4, 3)))
        ends = [
            through(
                sampler,
                stub(schedule),
                x,
                table(schedule, np.arange(99, -1, -1)),
                100,
                lambda i: ops.take(noises, i, axis=0),
            )
            for sampler in (diffusion.DDIM(1.0), diffusion.Ancestral("small"))
        ]
        np.testing.assert_allclose(ends[0], ends[1], rtol=1e-10)


def sample_of_diffusers_tests():
    values = np.arange(4 * 3 * 8 * 8, dtype="float64").reshape(3, 8, 8, 4)
    return ops.convert_to_tensor(values.transpose(3, 0, 1, 2) / values.size)


@pytest.mark.parametrize(("kind", "total"), [("epsilon", 172.0065), ("v", 52.5301)])
def test_stub_loop_of_ddim(kind, total):
    """The whole loop of diffusers' scheduler tests: 10 steps, leading, without clipping."""
    with doubled():
        schedule = diffusion.Linear()
        times = np.arange(900, -1, -100)
        prediction = predictions.get(kind)
        alpha_bar = schedule.alpha_bar

        def estimate(x, t, last):
            at = ops.take(ops.convert_to_tensor(alpha_bar), t)
            residual = x * ops.cast(t, "float64") / (ops.cast(t, "float64") + 1.0)
            clean = prediction.clean(residual, x, ops.sqrt(at), ops.sqrt(1.0 - at))
            return Estimate(ops.clip(clean, -1.0, 1.0))

        end = through(diffusion.DDIM(), estimate, sample_of_diffusers_tests(), table(schedule, times), 10)
        np.testing.assert_allclose(np.abs(end).sum(), total, rtol=2e-4)
