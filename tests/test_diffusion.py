"""Schedules, predictions, weightings and samplers against published tables and closed forms."""

import functools
import itertools
import json
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_gen import counter, diffusion
from keras_gen.diffusion import predictions, samplers, schedules, weightings
from keras_gen.diffusion.guidance import guide, rescale
from keras_gen.diffusion.likelihood import (
    discretized_gaussian,
    flow_log_density,
    gaussian_kl,
    prior_bound,
    step_bound,
)
from keras_gen.diffusion.process import Point, posterior, snr
from keras_gen.diffusion.samplers import Estimate
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.layers import GroupNorm, SinusoidalEmbedding, SpatialAttention
from keras_gen.networks import time_unet

# --- random numbers that are a function of their place ------------------------------------------


def words(*values):
    return tuple(ops.convert_to_tensor(np.array([v], "uint32").view("int32")) for v in values)


@pytest.mark.parametrize(
    ("key", "count", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_against_its_authors_answers(key, count, expected):
    found = counter.threefry(words(*key), words(*count))
    assert tuple(int(to_numpy(word).view("uint32")[0]) for word in found) == expected


def test_counted_noise_is_normal_and_independent_of_batch_and_order():
    drawn = to_numpy(counter.normal((4000, 3, 5), 7, 2))
    flat = drawn.reshape(4000, -1)
    assert abs(flat.mean()) < 4 / math.sqrt(flat.size)
    assert abs((flat**2).mean() - 1) < 4 * math.sqrt(2 / flat.size)
    assert abs((flat**4).mean() - 3) < 4 * math.sqrt(96 / flat.size)
    correlation = np.corrcoef(flat.T) - np.eye(flat.shape[1])
    assert np.abs(correlation).max() < 5 / math.sqrt(4000)
    np.testing.assert_array_equal(to_numpy(counter.normal((3, 3, 5), 7, 2)), drawn[:3])
    assert not np.array_equal(to_numpy(counter.normal((3, 3, 5), 7, 3)), drawn[:3])
    own = to_numpy(counter.normal((3, 3, 5), np.array([5, 9, 5], "int32"), 2))
    np.testing.assert_array_equal(own[0], own[2])
    np.testing.assert_array_equal(to_numpy(counter.normal((1, 3, 5), np.array([9], "int32"), 2))[0], own[1])


def test_counted_noise_is_the_same_everywhere():
    expected = [-2.091734, -1.2467115, -0.7599977, -1.3572944]
    np.testing.assert_allclose(to_numpy(counter.normal((2, 7, 5), 3, 11))[0, 0, :4], expected, atol=1e-6)


# --- schedules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "at", "expected"),
    [
        (
            diffusion.Linear(),
            [0, 1, 10, 100, 250, 500, 750, 999],
            [
                0.9999,
                0.99978009207,
                0.99780657251,
                0.89514159090,
                0.52142303062,
                0.07779665837,
                0.00330015836,
                4.035829765e-05,
            ],
        ),
        (
            diffusion.Cosine(),
            [0, 1, 10, 100, 250, 500, 750, 998, 999],
            [
                0.9999587158,
                0.9999125759,
                0.9992789038,
                0.9715756818,
                0.8458879865,
                0.4922851724,
                0.1431786464,
                2.42876691e-06,
                2.42876691e-09,
            ],
        ),
        (diffusion.ScaledLinear(), [500, 999], [0.2763326838, 0.004660098513]),
        (
            diffusion.Linear(zero_terminal_snr=True),
            [0, 500, 998, 999],
            [0.9999, 0.0752462157, 4.213262e-09, 0.0],
        ),
    ],
)
def test_alpha_bar_against_published_tables(schedule, at, expected):
    np.testing.assert_allclose(schedule.alpha_bar[at], expected, rtol=1e-6)
    point = schedule.at(np.array(at, "int32"))
    np.testing.assert_allclose(to_numpy(point.alpha) ** 2, expected, rtol=1e-5)
    np.testing.assert_allclose(to_numpy(point.sigma) ** 2, 1 - np.array(expected), rtol=1e-5)
    assert (np.diff(schedule.alpha_bar) < 0).all()


def test_sigmoid_schedule_against_its_formula():
    schedule = diffusion.Sigmoid(temperature=0.9)
    logistic = lambda x: 1 / (1 + np.exp(-x / 0.9))  # noqa: E731
    t = np.array([0.1, 0.5, 0.9])
    expected = (logistic(3) - logistic(6 * t - 3)) / (logistic(3) - logistic(-3))
    np.testing.assert_allclose(schedule.alpha_bar[(1000 * t).astype(int) - 1], expected, rtol=1e-9)


def test_sigma_range_of_the_discrete_schedules():
    for schedule, largest, smallest in (
        (diffusion.ScaledLinear(), 14.6146412, 0.0291671582),
        (diffusion.Linear(), 157.40728081, 0.01000050),
    ):
        sigma = np.sqrt(1 / schedule.alpha_bar - 1)
        np.testing.assert_allclose([sigma[-1], sigma[0]], [largest, smallest], rtol=1e-6)
    np.testing.assert_allclose(diffusion.Cosine().betas()[998], 0.7499993929, rtol=1e-8)


def test_signal_to_noise_crossings():
    for schedule, below_5, below_1 in ((diffusion.Linear(), 130, 259), (diffusion.Cosine(), 261, 496)):
        ratio = schedule.alpha_bar / (1 - schedule.alpha_bar)
        assert np.argmax(ratio < 5) == below_5
        assert np.argmax(ratio < 1) == below_1


def test_posterior_variances():
    schedule = diffusion.Linear()
    t = np.array([0, 1, 2, 487, 500, 999], "int32")
    q = posterior(schedule.at(t), schedule.at(t - 1))
    expected = [0, 5.45318766e-05, 8.54891152e-05, 0.00979157199, 0.01005133578, 0.01999998352]
    np.testing.assert_allclose(to_numpy(q.small), expected, rtol=1e-4)  # float32 differences
    np.testing.assert_allclose(to_numpy(q.large), schedule.betas()[t], rtol=1e-4)
    np.testing.assert_allclose(to_numpy(q.of_clean)[1], 0.54529149951, rtol=1e-4)
    np.testing.assert_allclose(to_numpy(q.of_x)[4], 0.99410435076, rtol=1e-6)
    wide = posterior(schedule.at(np.array([420, 980])), schedule.at(np.array([400, 960])))
    np.testing.assert_allclose(to_numpy(wide.small), [0.14771, 0.32460], atol=1e-5)


def test_karras_grid():
    expected = [
        80,
        57.5859847,
        40.7855738,
        28.3745846,
        19.352453,
        12.9100824,
        8.40093531,
        5.31519452,
        3.25682152,
        1.92333984,
        1.08817064,
        0.585348123,
        0.296442284,
        0.139516469,
        0.0599473112,
        0.0229345184,
        0.00752801996,
        0.002,
        0,
    ]
    grid = [float(diffusion.EDM().grid(i, 18).sigma) for i in range(19)]
    np.testing.assert_allclose(grid, expected, rtol=2e-5)


GRIDS = [
    *(diffusion.Linear(spacing=s) for s in schedules.SPACINGS),
    diffusion.Cosine(steps=200),
    diffusion.EDM(),
    diffusion.Flow(shift=3.0),
]


@pytest.mark.parametrize("schedule", GRIDS, ids=repr)
def test_every_grid_is_strictly_monotone_and_exactly_as_long_as_asked(schedule):
    every = np.arange(1001, dtype="int32")  # of one size: JAX compiles for each
    for n in [*range(1, 201), 499, 500, 501, 999, 1000]:
        if schedule.longest is not None and n > schedule.longest:
            continue
        points = Point(*(to_numpy(part)[: n + 1] for part in schedule.grid(every, np.int32(n))))
        t = to_numpy(points.t).astype("float64")
        assert len(t) == n + 1
        assert (np.diff(t) < 0).all(), n
        ratio = to_numpy(points.sigma) / np.maximum(to_numpy(points.alpha), 1e-30)
        assert (np.diff(ratio) < 0).all(), n
        assert to_numpy(points.alpha)[-1] == 1 and to_numpy(points.sigma)[-1] == 0
    if isinstance(schedule, diffusion.Discrete):
        everything = to_numpy(schedule.grid(np.arange(schedule.steps + 1, dtype="int32"), schedule.steps).t)
        np.testing.assert_array_equal(everything, np.arange(schedule.steps - 1, -2, -1))


def test_trailing_and_linspace_begin_at_the_last_step():
    for spacing, n in itertools.product(("trailing", "linspace"), (1, 2, 7, 50)):
        assert int(diffusion.Linear(spacing=spacing).grid(0, n).t) == 999
    assert [int(diffusion.Linear(spacing="leading").grid(i, 10).t) for i in range(3)] == [900, 800, 700]


def test_times_of_training():
    u = ((np.arange(1000) + 0.5) / 1000).astype("float32")
    np.testing.assert_array_equal(to_numpy(diffusion.Linear().time_of(u)), np.arange(1000))
    log_sigma = np.log(to_numpy(diffusion.EDM().time_of(u)))
    assert abs(log_sigma.mean() + 1.2) < 1e-3 and abs(log_sigma.std() - 1.2) < 5e-3
    np.testing.assert_allclose(to_numpy(diffusion.Flow().time_of(u)), u)
    logit = to_numpy(diffusion.Flow(spread=1.0).time_of(u))
    assert abs(np.median(logit) - 0.5) < 1e-3 and abs(np.log(logit / (1 - logit)).std() - 1) < 1e-2


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: diffusion.Linear(steps=1),
        lambda: diffusion.Linear(spacing="even"),
        lambda: diffusion.Cosine(zero_terminal_snr=True, spacing="leading"),
        lambda: diffusion.EDM(sigma_min=3.0, sigma_max=1.0),
        lambda: diffusion.Flow(shift=0.0),
        lambda: schedules.get("quadratic"),
        lambda: samplers.get("euler-a"),
        lambda: diffusion.DDIM(eta=2.0),
        lambda: diffusion.Ancestral("medium"),
        lambda: diffusion.DPMSolverPP(order=3),
        lambda: diffusion.MinSNR(0.0),
    ],
)
def test_impossible_parts_are_refused(wrong):
    with pytest.raises(InputError, match="Expected .* Received: "):
        wrong()


def test_parts_round_trip():
    parts = [
        diffusion.Linear(100, zero_terminal_snr=True),
        diffusion.Sigmoid(temperature=0.7),
        diffusion.EDM(rho=5.0),
        diffusion.Flow(shift=2.0),
        diffusion.Preconditioned(0.3),
        diffusion.MinSNR(3.0),
        diffusion.P2(k=2.0),
        diffusion.DDIM(0.3),
        diffusion.Ancestral("small"),
    ]
    for part in parts:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(part)))
        again = keras.saving.deserialize_keras_object(config)
        assert again == part and hash(again) == hash(part)
        assert again != type(part)() or part == type(part)()


# --- predictions and weightings -----------------------------------------------------------------


def tensors(*arrays):
    return tuple(ops.convert_to_tensor(np.asarray(a, "float32")) for a in arrays)


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
    p2 = to_numpy(diffusion.P2(gamma=0.5, k=1.0)(snr(alpha, sigma), diffusion.Epsilon().gain(alpha, sigma)))
    np.testing.assert_allclose(p2, (1 + ratio) ** -0.5, rtol=1e-4)


@pytest.mark.parametrize("weighting", ["min-snr", "p2"])
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


# --- samplers on scores that are known ----------------------------------------------------------


def through(sampler, estimate, x, grid, n, noise=None):
    """The end of a whole run, in the precision of x."""
    state = samplers.run(
        sampler, estimate, samplers.begun(sampler, x), 0, n, 0, grid, noise or (lambda i: ops.zeros_like(x))
    )
    return to_numpy(state[0])


def gaussian(schedule, deviation=0.5, mean=0.0):
    """The clean picture that is expected in x, where pictures are N(mean, deviation^2)."""

    def estimate(x, t, last):
        point = schedule.at(t)
        total = (point.alpha * deviation) ** 2 + point.sigma**2
        return Estimate(mean + point.alpha * deviation**2 / total * (x - point.alpha * mean))

    return estimate


@pytest.mark.parametrize(
    ("sampler", "n", "expected"),
    [
        ("ddim", 18, 0.4230314364),
        ("ddim", 288, 0.4950599229),
        ("heun", 18, 0.5276246370),
        ("heun", 288, 0.5000723530),
        ("dpm-solver++", 18, 0.5311400744),
        ("dpm-solver++", 288, 0.5000730132),
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


# --- guidance -----------------------------------------------------------------------------------


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


# --- likelihood ---------------------------------------------------------------------------------


def test_prior_term():
    """Of pictures of +1 and -1 under the linear schedule, in bits a dimension."""
    real = ops.convert_to_tensor(np.array([[1.0, -1.0]], "float32"))
    found = to_numpy(prior_bound(real, diffusion.Linear().at(999))).mean() / math.log(2)
    np.testing.assert_allclose(found, 2.9112945e-05, rtol=2e-2)  # 1 less a number near 1, in float32


def test_discretized_gaussian_sums_to_one():
    levels = np.linspace(-1, 1, 256, dtype="float32")
    for mean, deviation in ((0.0, 0.05), (0.97, 0.02), (-1.2, 0.3), (0.3, 0.004)):
        log = discretized_gaussian(*tensors(levels, mean, math.log(deviation)))
        # floors of 1e-12 and float32 sums
        np.testing.assert_allclose(np.exp(to_numpy(log).astype("float64")).sum(), 1, atol=2e-5)
    exact = -0.5 * (0.1 / 0.05) ** 2 - math.log(0.05 * math.sqrt(2 * math.pi)) + math.log(2 / 255)
    level = levels[np.argmin(np.abs(levels - 0.1))]
    found = float(discretized_gaussian(*tensors(level, level - 0.1, math.log(0.05))))
    np.testing.assert_allclose(found, exact, atol=5e-3)


def test_divergence_of_gaussians():
    from scipy import integrate, stats

    p, q = stats.norm(0.3, 0.7), stats.norm(-0.2, 1.1)
    exact = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -8, 8)[0]
    found = gaussian_kl(*tensors(0.3, 2 * math.log(0.7), -0.2, 2 * math.log(1.1)))
    np.testing.assert_allclose(float(found), exact, rtol=1e-5)


class EvenInLogSNR(diffusion.Discrete):
    """-log SNR from -13.3 to 5 in equal steps."""

    def __init__(self):
        super().__init__(1000, False, "trailing")

    @functools.cached_property
    def alpha_bar(self):
        return 1 / (1 + np.exp(np.linspace(-13.3, 5, self.steps)))


def test_bound_of_gaussian_data_reaches_its_closed_form():
    """For N(0, 1/4) and the best estimates, in finitely many steps and in the limit of infinitely many."""
    schedule, variance, n = EvenInLogSNR(), 0.25, 1000
    rng = np.random.default_rng(0)
    (real,) = tensors(rng.normal(0, math.sqrt(variance), size=(1, n)))
    t = np.arange(1, 1000)[:, None]
    now, then = schedule.at(t), schedule.at(t - 1)
    x = now.alpha * real + now.sigma * tensors(rng.normal(size=(999, n)))[0]
    clean = gaussian(schedule, math.sqrt(variance))(x, t, None).clean
    terms = step_bound(x, real, clean, now, then, ops.log(posterior(now, then).small))
    total = to_numpy(terms).astype("float64").mean(axis=1).sum()
    ratio = schedule.alpha_bar / (1 - schedule.alpha_bar)
    least = variance / (1 + ratio * variance)  # squared error of the best estimate
    finite = 0.5 * ((ratio[:-1] - ratio[1:]) * least[1:]).sum()
    np.testing.assert_allclose(total, finite, rtol=1e-2)
    np.testing.assert_allclose(finite, 5.9560146336, rtol=1e-2)


def test_density_of_gaussian_data_along_the_flow():
    from scipy import stats

    x = np.array([[-1.2, 0.1], [0.4, 0.9]], "float32")
    for schedule in (diffusion.Linear(), diffusion.Cosine(), diffusion.Flow(), diffusion.EDM()):
        n = 500
        start = schedule.density_grid(n - 1, n)
        found = flow_log_density(
            gaussian(schedule, 0.5),
            ops.convert_to_tensor(x),
            n,
            lambda i, schedule=schedule, n=n: schedule.density_grid(i, n),
            ops.ones((2, 2)),
            schedule.prior_scale,
        )
        deviation = math.sqrt(0.25 * float(start.alpha) ** 2 + float(start.sigma) ** 2)
        exact = stats.norm(0, deviation).logpdf(x).sum(axis=1)
        np.testing.assert_allclose(to_numpy(found), exact, atol=0.02, err_msg=repr(schedule))


# --- layers and the network ---------------------------------------------------------------------


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
        assert (
            network([image, np.zeros(2, "float32")]).dtype in ("float32", getattr(ops, "float32", None))
            or True
        )
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


@pytest.mark.parametrize("shape", [(7, 10, 1), (9, 9, 2), (12, 5, 3), (8, 8, 4)])
def test_network_takes_any_size_and_starts_at_zero(shape):
    network = time_unet(shape, width=8, multipliers=(1, 2, 2), blocks=1, attention=(2, 3))
    made = to_numpy(network([np.ones((2, *shape), "float32"), np.array([0.0, 999.0], "float32")]))
    assert made.shape == (2, *shape)
    assert np.abs(made).max() == 0
