"""How probable pictures are: DDPM's bound (Ho et al. 2020, eq. 5), and the probability flow's density.

All in nats. The bound's terms have a value for every pixel, of pictures of 256 levels in [-1, 1].
"""

import math

from keras import ops

from keras_gen.diffusion.process import Point, noise_in, posterior
from keras_gen.diffusion.samplers import Estimator, Grid
from keras_gen.engine import grad

LEVEL = 2.0 / 255.0
"""Between two grey levels."""


def gaussian_kl(mean, log_variance, other_mean, other_log_variance):
    """KL(N(mean, e^log_variance) || N(other_mean, e^other_log_variance))."""
    return 0.5 * (
        other_log_variance
        - log_variance
        + ops.exp(log_variance - other_log_variance)
        + (mean - other_mean) ** 2 * ops.exp(-other_log_variance)
        - 1.0
    )


def discretized_gaussian(x, mean, log_deviation):
    """log probability of the level x under a normal distribution, cut into the 256 levels' bins (eq. 13).

    The first and the last bin reach to infinity: the probabilities sum to 1.
    """
    centered = (x - mean) * ops.exp(-log_deviation)
    half = 0.5 * LEVEL * ops.exp(-log_deviation)
    inside = _normal_cdf(centered + half) - _normal_cdf(centered - half)
    at_bottom, at_top = x < -1.0 + 0.5 * LEVEL, x > 1.0 - 0.5 * LEVEL
    tail = ops.where(at_bottom, _normal_cdf(centered + half), _normal_cdf(half - centered))
    probability = ops.where(ops.logical_or(at_bottom, at_top), tail, inside)
    # in float32 a bin far out in a tail has no digits left, or none at all: the floor, as in Ho et al.'s code
    return ops.log(ops.maximum(probability, 1e-12))


def _normal_cdf(x):
    return 0.5 * (1.0 + ops.erf(x / math.sqrt(2.0)))


def step_bound(x, real, clean, now: Point, then: Point, log_variance):
    """L_t: what the step from `now` to `then` costs; at the clean picture L_0, the reconstruction.

    Args:
        x: Noisy pictures at `now`.
        real: What they were made of.
        clean: The model's estimate of it.
        log_variance: Of the model's step, finite.
    """
    q = posterior(now, then)
    mean = q.of_clean * clean + q.of_x * x
    true_mean = q.of_clean * real + q.of_x * x
    ends = then.sigma == 0
    small = ops.log(ops.where(ends, 1.0, ops.maximum(q.small, 1e-20)))
    divergence = gaussian_kl(true_mean, small, mean, log_variance)
    return ops.where(ends, -discretized_gaussian(real, mean, 0.5 * log_variance), divergence)


def prior_bound(real, first: Point):
    """L_T: how far the noisiest point is from the prior, N(0, 1)."""
    zeros = ops.zeros_like(real)
    return gaussian_kl(first.alpha * real, 2.0 * ops.log(first.sigma), zeros, zeros)


def flow_log_density(estimate: Estimator, x, n, grid: Grid, probe, prior_scale: float):
    """log density (n,) of x at grid point n - 1, the least noise, under the probability flow.

    Along dx = x_0 dalpha + eps dsigma the density of x changes by the flow's divergence (Song et al. 2021,
    arXiv:2011.13456, eq. 39), of which d log sigma is known and the rest is alpha tr(dx_0/dx) dlambda, lambda
    = log(alpha / sigma). The trace is Hutchinson's: without bias, and exact where dx_0/dx is diagonal. Steps
    are Heun's, n - 1 of them.

    Args:
        probe: Signs, +1 or -1, of the shape of x.
        prior_scale: Standard deviation of the normal distribution at grid point 0.
    """
    axes = tuple(range(1, len(x.shape)))
    dims = math.prod(x.shape[1:])

    def seen(x, point):
        """The flow's two parts at x, and alpha times the trace: two evaluations, one differentiated."""
        push = grad(lambda y: ops.sum(estimate(y, point.t, ops.zeros_like(y)).clean * probe))(x)
        clean = estimate(x, point.t, ops.zeros_like(x)).clean
        return clean, noise_in(x, clean, point), point.alpha * ops.sum(push * probe, axis=axes)

    def step(k, state):
        x, change = state
        now, then = grid(n - 1 - k), grid(n - 2 - k)
        clean, eps, trace = seen(x, now)
        over_alpha, over_sigma = then.alpha - now.alpha, then.sigma - now.sigma
        moved = x + over_alpha * clean + over_sigma * eps
        clean2, eps2, trace2 = seen(moved, then)
        x = x + 0.5 * (over_alpha * (clean + clean2) + over_sigma * (eps + eps2))
        over_lambda = ops.log(then.alpha * now.sigma) - ops.log(now.alpha * then.sigma)
        return x, change + 0.5 * over_lambda * (trace + trace2) + dims * ops.log(then.sigma / now.sigma)

    change = ops.sum(ops.zeros_like(x), axis=axes)
    x, change = ops.fori_loop(0, n - 1, step, (x, change))
    scaled = x / prior_scale
    prior = -0.5 * ops.sum(scaled**2, axis=axes) - dims * (
        0.5 * math.log(2 * math.pi) + math.log(prior_scale)
    )
    return prior + change
