"""The variational bound and the flow's density against closed forms."""

import functools
import math

import numpy as np
from keras import ops
from known import gaussian, tensors

from keras_gen import diffusion
from keras_gen.diffusion.likelihood import (
    discretized_gaussian,
    flow_log_density,
    gaussian_kl,
    prior_bound,
    step_bound,
)
from keras_gen.diffusion.process import posterior
from keras_gen.engine import to_numpy


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
