"""Schedules against published tables, and the grids of sampling."""

import itertools
import json

import keras
import numpy as np
import pytest

from keras_gen import diffusion
from keras_gen.diffusion import samplers, schedules
from keras_gen.diffusion.process import Point, posterior
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError


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


@pytest.mark.once
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
