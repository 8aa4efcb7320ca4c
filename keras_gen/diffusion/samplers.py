"""Samplers: from noise to pictures along a grid, as pure functions of an estimate of the clean picture.

`estimate(x, t, last)` gives the clean picture that a network sees in x at time t, as an `Estimate`; `last` is
what it saw one step before (zeros at first), for networks that look at it. A sampler makes one step; `run`
repeats it. Nothing here knows networks, guidance or which schedule it is: a step sees alpha and sigma of two
points of the grid, and the probability flow is dx = x_0 dalpha + eps dsigma on every schedule. Everything is
computed in the precision that x and the grid have.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_gen.diffusion.process import Point, noise_in, posterior
from keras_gen.errors import InputError
from keras_gen.parts import Part, named

Tensor = Any


class Estimate(NamedTuple):
    """What a network says of x.

    Attributes:
        clean: The clean picture.
        mix: Where in [0, 1] between the small and the large variance (in logarithms) it puts the next step's,
            for networks that learn it; None otherwise.
    """

    clean: Tensor
    mix: Tensor | None = None


Estimator = Callable[[Tensor, Tensor, Tensor], Estimate]
Grid = Callable[[Any], Point]
Noise = Callable[[Any], Tensor]


class Sampler(Part):
    """Base.

    Attributes:
        memory: How many tensors like x it carries from step to step, beside x and the last clean estimate.
    """

    name: str
    memory = 0

    def step(self, estimate: Estimator, state: tuple, i, first, grid: Grid, noise: Noise) -> tuple:
        """From grid point i to i + 1.

        Args:
            state: x, the last clean estimate, and the memory.
            first: The step that the run began with: there is no memory yet.
            noise: Standard normal numbers like x, for step i.
        """
        raise NotImplementedError


def run(sampler: Sampler, estimate: Estimator, state: tuple, start, stop, first, grid: Grid, noise: Noise):
    """Steps start to stop of a run that began with step `first`; the state after them."""
    return ops.fori_loop(
        start, stop, lambda i, state: sampler.step(estimate, state, i, first, grid, noise), state
    )


def begun(sampler: Sampler, x) -> tuple:
    """The state before the first step."""
    return (x, *(ops.zeros_like(x) for _ in range(1 + sampler.memory)))


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class DDIM(Sampler):
    """Song et al. 2021 (arXiv:2010.02502, eq. 12); without eta Euler's method on the probability flow.

    Args:
        eta: Share of the ancestral step's noise: 0 is deterministic, 1 is DDPM with the small variance.
    """

    name = "ddim"

    def __init__(self, eta: float = 0.0):
        if not 0 <= eta <= 1:
            raise InputError(f"Expected an eta of 0 to 1. Received: {eta}.")
        self.eta = eta

    def step(self, estimate, state, i, first, grid, noise):
        x, last = state
        now, then = grid(i), grid(i + 1)
        clean = estimate(x, now.t, last).clean
        eps = noise_in(x, clean, now)
        if self.eta == 0:
            return then.alpha * clean + then.sigma * eps, clean
        variance = self.eta**2 * posterior(now, then).small
        kept = ops.sqrt(ops.relu(then.sigma**2 - variance))
        return then.alpha * clean + kept * eps + ops.sqrt(ops.relu(variance)) * noise(i), clean


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Ancestral(Sampler):
    """DDPM's (Ho et al. 2020, algorithm 2), between any two points; the last step adds no noise.

    Args:
        variance: `small` and `large` as there (section 3.2), or `learned`: between the two as the network
            says (Nichol & Dhariwal 2021, eq. 15). Default: learned where the network says it, otherwise
            large.
    """

    name = "ddpm"

    def __init__(self, variance: str | None = None):
        if variance not in (None, "small", "large", "learned"):
            raise InputError(f"Expected a variance: small, large or learned. Received: {variance!r}.")
        self.variance = variance

    def step(self, estimate, state, i, first, grid, noise):
        x, last = state
        now, then = grid(i), grid(i + 1)
        said = estimate(x, now.t, last)
        q = posterior(now, then)
        small = ops.relu(q.small)
        variance = self.variance or ("large" if said.mix is None else "learned")
        if variance == "learned":
            if said.mix is None:
                raise InputError("Expected a network that says variances. Received: one that does not.")
            deviation = ops.sqrt(small ** (1.0 - said.mix) * q.large**said.mix)
        else:
            deviation = ops.sqrt(small if variance == "small" else q.large)
        deviation = ops.where(then.sigma > 0, deviation, 0.0)
        return q.of_clean * said.clean + q.of_x * x + deviation * noise(i), said.clean


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Heun(Sampler):
    """The trapezoidal rule on the probability flow (Karras et al. 2022, algorithm 1), Euler's at the end."""

    name = "heun"

    def step(self, estimate, state, i, first, grid, noise):
        x, last = state
        now, then = grid(i), grid(i + 1)
        clean = estimate(x, now.t, last).clean
        eps = noise_in(x, clean, now)
        moved = then.alpha * clean + then.sigma * eps
        # at the clean picture there is nothing to ask: its noise would be divided by 0
        ended = then.sigma == 0
        there = Point(*(ops.where(ended, a, b) for a, b in zip(now, then, strict=True)))
        again = estimate(moved, there.t, clean).clean
        half_alpha, half_sigma = (then.alpha - now.alpha) / 2, (then.sigma - now.sigma) / 2
        corrected = x + half_alpha * (clean + again) + half_sigma * (eps + noise_in(moved, again, there))
        return ops.where(ended, moved, corrected), ops.where(ended, clean, again)


def _half_log_snr_step(now: Point, then: Point):
    """h = lambda_then - lambda_now, lambda = log(alpha / sigma); infinite at either end of the process."""
    return ops.log(now.sigma * then.alpha) - ops.log(then.sigma * now.alpha)


def _exponential_step(x, clean, now: Point, then: Point, h):
    """The exact step where the estimate does not change on the way (Lu et al. 2022, eq. 9)."""
    return then.sigma / now.sigma * x - then.alpha * ops.expm1(-h) * clean


def _second_order_step(x, clean, last, earlier: Point, now: Point, then: Point, begins):
    """A step of DPM-Solver++(2M): the estimate extrapolated along lambda; of order 1 where it `begins`.

    So is the step to the clean picture: nothing is extrapolated over an infinite h.
    """
    h, before = _half_log_snr_step(now, then), _half_log_snr_step(earlier, now)
    plain = ops.logical_or(begins, ops.logical_or(then.sigma == 0, before == 0))
    ratio = ops.where(plain, 0.0, h / ops.where(plain, 1.0, before))
    return _exponential_step(x, clean + 0.5 * ratio * (clean - last), now, then, h)


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class DPMSolverPP(Sampler):
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2). Of order 1 it is DDIM."""

    name = "dpm-solver++"

    def __init__(self, order: int = 2):
        if order not in (1, 2):
            raise InputError(f"Expected an order of 1 or 2. Received: {order}.")
        self.order = order

    def step(self, estimate, state, i, first, grid, noise):
        x, last = state
        now, then = grid(i), grid(i + 1)
        clean = estimate(x, now.t, last).clean
        if self.order == 1:
            return _exponential_step(x, clean, now, then, _half_log_snr_step(now, then)), clean
        earlier = grid(ops.maximum(i - 1, 0))
        return _second_order_step(x, clean, last, earlier, now, then, i == first), clean


def _phi(x):
    """phi_2 = (e^x - 1 - x) / x^2 and phi_3 = (e^x - 1 - x - x^2 / 2) / x^3, near 0 by their series."""
    near = ops.abs(x) < 0.3
    safe = ops.where(near, 1.0, x)
    second = (ops.expm1(safe) - safe) / safe**2
    third = (second - 0.5) / safe
    series_2 = 1 / 2 + x * (1 / 6 + x * (1 / 24 + x * (1 / 120 + x * (1 / 720 + x * (1 / 5040 + x / 40320)))))
    series_3 = 1 / 6 + x * (
        1 / 24 + x * (1 / 120 + x * (1 / 720 + x * (1 / 5040 + x * (1 / 40320 + x / 362880))))
    )
    return ops.where(near, series_2, second), ops.where(near, series_3, third)


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class UniPC(Sampler):
    """UniPC-2 with B(h) = e^h - 1, of the clean picture (Zhao et al. 2023, arXiv:2302.04867, algorithm 7).

    The predictor is DPM-Solver++(2M); at the next step its result is corrected with the estimate made there,
    which costs no evaluation.
    """

    name = "unipc"
    memory = 2  # x as it was corrected one step before, and the clean estimate two steps before

    def step(self, estimate, state, i, first, grid, noise):
        x, last, corrected, older = state
        earlier, now, then = grid(ops.maximum(i - 1, 0)), grid(i), grid(i + 1)
        clean = estimate(x, now.t, last).clean
        begins = i == first
        h = _half_log_snr_step(earlier, now)
        h = ops.where(begins, 1.0, h)  # of no use then, but finite
        endless = ops.logical_not(ops.isfinite(h))  # from a point without any signal
        before = _half_log_snr_step(grid(ops.maximum(i - 2, 0)), earlier)
        rough = ops.logical_or(
            i <= first + 1, ops.logical_or(before == 0, ops.logical_not(ops.isfinite(before)))
        )
        x = ops.where(
            ops.logical_or(begins, endless),
            x,
            self._correct(corrected, last, older, clean, earlier, now, h, before, rough),
        )
        moved = _second_order_step(x, clean, last, earlier, now, then, begins)
        return moved, clean, x, last

    @staticmethod
    def _correct(x, base, older, clean, start: Point, end: Point, h, before, rough):
        """x again from `start` to `end`: estimates at `start` (base), before (older), at the end (clean)."""
        h = ops.where(ops.isfinite(h), h, 1.0)
        second, third = _phi(-h)
        scale = ops.expm1(-h)
        b1, b2 = -h * second / scale, 2.0 * -h * third / scale
        b1 = ops.where(rough, 0.5, b1)  # with one difference alone, as published
        r = ops.where(rough, -1.0, -before / h)
        of_older = ops.where(rough, 0.0, (b1 - b2) / (1.0 - r))
        differences = of_older * (older - base) / r + (b1 - of_older) * (clean - base)
        return _exponential_step(x, base, start, end, h) - end.alpha * scale * differences


SAMPLERS = {sampler.name: sampler for sampler in (DDIM, Ancestral, Heun, DPMSolverPP, UniPC)}


def get(sampler: str | Sampler) -> Sampler:
    """A sampler, or the one of that name."""
    return named(sampler, SAMPLERS, Sampler, "a sampler")


def invert(estimate: Estimator, clean, first, n, grid: Grid, refine: int):
    """The noise that DDIM makes a clean picture of, down to grid point `first` of n steps.

    A step of DDIM is a function of x at its noisier end; the x that it takes to a given x' is found by
    `refine` fixed-point iterations. Where there is less noise than picture they ask for the noise, and the
    first is the encoder of Song et al. 2021 (section 4.3); where there is more, they ask for the picture.
    """

    def step(k, state):
        x, last = state
        i = first + n - 1 - k
        now, then = grid(i), grid(i + 1)
        quiet = now.alpha > now.sigma
        shrunk = now.alpha / then.alpha
        grown = now.sigma / ops.where(quiet, 1.0, then.sigma)  # there, sigma is not 0
        moved, seen = x, last
        for _ in range(refine):
            seen = estimate(moved, now.t, last).clean
            by_noise = shrunk * x + (now.sigma - then.sigma * shrunk) * noise_in(moved, seen, now)
            by_picture = grown * x + (now.alpha - then.alpha * grown) * seen
            moved = ops.where(quiet, by_noise, by_picture)
        return moved, seen

    return ops.fori_loop(first, n, step, (clean, ops.zeros_like(clean)))[0]


def filled_in(estimate: Estimator, known, mask) -> Estimator:
    """The estimator for which the clean picture is `known` wherever `mask` is 1.

    Whatever the sampler, the known part then follows its own noise exactly, and ends as it was.
    """

    def filled(x, t, last):
        said = estimate(x, t, last)
        return Estimate(ops.where(mask > 0.5, known, said.clean), said.mix)

    return filled
