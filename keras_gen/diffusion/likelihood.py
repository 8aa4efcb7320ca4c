"""How probable pictures are: DDPM's bound (Ho et al. 2020, eq. 5), and the probability flow's density.

In nats, but for a model's bound. The bound's terms have a value for every pixel, of pictures of 256 levels in
[-1, 1].
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from keras_gen import counter
from keras_gen.diffusion.process import Point, noise_in, posterior
from keras_gen.diffusion.samplers import Estimator, Grid
from keras_gen.diffusion.schedules import Discrete
from keras_gen.engine import compiled, grad, to_numpy
from keras_gen.errors import InputError

if TYPE_CHECKING:
    from keras_gen.diffusion.model import Diffusion

LEVEL = 2.0 / 255.0
"""Between two grey levels."""
PROBE = -2
"""The place in a series of random numbers that traces take; no step of sampling has it, nor its start."""


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


# --- of a model ---------------------------------------------------------------------------------


def variational_bound(
    model: "Diffusion", images, labels=None, seed: int = 0, every: int = 1, watch=None
) -> dict[str, np.ndarray]:
    """The variational bound on -log2 p(images) in bits a dimension (Ho et al. 2020, eq. 5), term by term.

    Args:
        images: Grey levels in [-1, 1], multiples of 2/255.
        labels: (n,), of a class-conditional model; by default none in particular.
        every: Look at every so many of the steps, and count each for as many (1: all of them).
        watch: Called with the number of steps looked at.

    Returns:
        `prior` (n,), L_T; `steps` (n, T / every), L_{T-1} to L_1; `reconstruction` (n,), L_0; and their
        sum, `total` (n,).

    Raises:
        InputError: The schedule is not a discrete one.
    """
    if not isinstance(model.schedule, Discrete):
        raise InputError(
            "Expected a discrete schedule, for the variational bound. "
            f"Received: {type(model.schedule).__name__}."
        )
    images = ops.cast(images, "float32")
    given = model._beside(images, labels)
    times = np.arange(1, model.schedule.steps)[::-every]
    dims = math.prod(model.data_shape) * math.log(2.0)
    terms = []
    for done, t in enumerate([*times, 0]):
        term = _bound_at(model, t, seed, images, *given.values(), names=tuple(given))
        terms.append(to_numpy(term) / dims)
        if watch is not None:
            watch(done + 1)
    steps = np.stack(terms[:-1], axis=1) * ((model.schedule.steps - 1) / len(times))
    first = model.schedule.at(model.schedule.steps - 1)
    prior = to_numpy(ops.sum(prior_bound(images, first), axis=(1, 2, 3))) / dims
    return {
        "prior": prior,
        "steps": steps,
        "reconstruction": terms[-1],
        "total": prior + steps.sum(axis=1) + terms[-1],
    }


@compiled
def _bound_at(model: "Diffusion", t, seed, images, *tensors, names):
    given = dict(zip(names, tensors, strict=True))
    now, then = model.schedule.at(t), model.schedule.at(t - 1)
    x = now.alpha * images + now.sigma * counter.normal((ops.shape(images)[0], *model.data_shape), seed, t)
    said = model._estimator(given.get("labels"), given.get("source"))(x, t, ops.zeros_like(x))
    mix = 0.0 if said.mix is None else said.mix
    costs = step_bound(x, images, said.clean, now, then, model._log_variance(now, then, mix))
    return ops.sum(costs, axis=(1, 2, 3))


def check_density(model: "Diffusion") -> None:
    """Raise InputError for a model that `log_density` cannot tell a density of."""
    if getattr(model.schedule, "zero_terminal_snr", False):
        raise InputError(
            "Expected a schedule that leaves something of the picture, for densities. "
            "Received: zero_terminal_snr."
        )


def log_density(model: "Diffusion", images, labels=None, steps: int = 100, seed: int = 0) -> np.ndarray:
    """log density (n,) in nats of pictures (n, height, width, c) under the probability flow.

    The pictures are taken as they are at the least noise that the model knows. Grey levels have no
    density: add noise as wide as a level first (see `metrics.bits_per_dim`).

    Args:
        labels: (n,), of a class-conditional model; by default none in particular.
        steps: Of Heun's method.
        seed: Of the trace's estimate, without bias.

    Raises:
        InputError: The schedule leaves no picture at its end, so that nothing leads back to one.
    """
    check_density(model)
    images = ops.cast(images, "float32")
    given = model._beside(images, labels)
    return to_numpy(_log_density(model, steps, seed, images, *given.values(), names=tuple(given)))


@compiled
def _log_density(model: "Diffusion", steps, seed, images, *tensors, names):
    given = dict(zip(names, tensors, strict=True))
    estimate = model._estimator(given.get("labels"), given.get("source"), clip=False)
    shape = (ops.shape(images)[0], *model.data_shape)
    probe = ops.sign(counter.normal(shape, seed, PROBE))
    grid = lambda i: model.schedule.density_grid(i, steps)  # noqa: E731
    start = grid(steps - 1)
    dims = math.prod(model.data_shape)
    found = flow_log_density(estimate, start.alpha * images, steps, grid, probe, model.schedule.prior_scale)
    return found + dims * ops.log(start.alpha)  # of the pictures, not of what is left of them
