"""Noise schedules: from a time to how much of the picture and of the noise there is.

Every schedule has alpha(t) and sigma(t) in x_t = alpha x_0 + sigma eps, a way to draw times in training, and
a grid of n + 1 points for sampling, of which the last is the clean picture (alpha 1, sigma 0). Tables are
made in float64 and kept in float32, alpha and sigma apart: 1 - alpha_bar loses nothing.

Discrete schedules count t as the papers' code does, from 0 to steps - 1; -1 is the clean picture.
"""

import functools
import math

import keras
import numpy as np
from keras import ops

from keras_gen.diffusion.process import Point
from keras_gen.errors import InputError
from keras_gen.parts import Part, named

FLOW_REACH = 7.0
"""Of log(sigma / alpha), in nats to either side, where densities follow a flow: 0.0009 of either is left."""
SPACINGS = ("trailing", "leading", "linspace")


class Schedule(Part):
    """Base of schedules.

    Attributes:
        longest: How many steps a grid can have, or None for any number.
        prior_scale: Standard deviation of what sampling starts from.
        middle: The time at which picture and noise weigh about the same.
        starts_in_noise: Whether nothing of the picture is left at the first point of its grids.
    """

    longest: int | None = None
    prior_scale = 1.0
    middle: float
    starts_in_noise = False

    def at(self, t) -> Point:
        """alpha and sigma, float32, at times t of any shape."""
        raise NotImplementedError

    def time_of(self, u):
        """The times that training draws, of numbers u uniform in [0, 1): the quantile function."""
        raise NotImplementedError

    def grid(self, i, n) -> Point:
        """The i-th of the n + 1 points of n steps, from noise (0) to the clean picture (n). int32 both."""
        raise NotImplementedError

    def density_grid(self, i, n) -> Point:
        """The i-th of n points from the most (0) to the least noise (n - 1) that training draws."""
        return self.grid(i, n)

    def network_time(self, t):
        """What the network is told of t: float32 of about 0 to 1,000."""
        raise NotImplementedError


class Discrete(Schedule):
    """Variance-preserving schedules of betas (Ho et al. 2020): alpha^2 = alpha_bar, sigma^2 = 1 - alpha_bar.

    Args of all:
        steps: T.
        zero_terminal_snr: Stretch alpha so that nothing of the picture is left at the last step (Lin et al.
            2023, arXiv:2305.08891, algorithm 1).
        spacing: Of n of T steps: `trailing` ends at T - 1 and is what zero_terminal_snr needs; `leading`
            begins at 0, as in DDIM's code; `linspace` has both.
    """

    def __init__(self, steps: int, zero_terminal_snr: bool, spacing: str):
        if steps < 2 or spacing not in SPACINGS:
            raise InputError(
                f"Expected 2 steps or more and a spacing of {', '.join(SPACINGS)}. "
                f"Received: {steps} and {spacing!r}."
            )
        if zero_terminal_snr and spacing == "leading":
            raise InputError(
                "Expected a spacing that reaches the last step, with zero_terminal_snr: trailing, linspace. "
                "Received: leading."
            )
        self.steps = self.longest = steps
        self.zero_terminal_snr = self.starts_in_noise = zero_terminal_snr
        self.spacing = spacing

    def betas(self) -> np.ndarray:
        """beta_t, (steps,) float64, before any stretching."""
        raise NotImplementedError

    @functools.cached_property
    def alpha_bar(self) -> np.ndarray:
        """The product of all 1 - beta up to t, (steps,) float64."""
        alpha_bar = np.cumprod(1.0 - self.betas())
        if self.zero_terminal_snr:
            root = np.sqrt(alpha_bar)
            alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        return alpha_bar

    @functools.cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        """alpha and sigma of t = -1, 0, ..., steps - 1, float32."""
        alpha = np.concatenate([[1.0], np.sqrt(self.alpha_bar)])
        sigma = np.concatenate([[0.0], np.sqrt(1.0 - self.alpha_bar)])
        return alpha.astype("float32"), sigma.astype("float32")

    @functools.cached_property
    def middle(self) -> float:  # type: ignore[override]
        return float(np.argmin(np.abs(self.alpha_bar - 0.5)))

    def at(self, t) -> Point:
        index = ops.cast(t, "int32") + 1
        alpha, sigma = self._tables
        return Point(
            t, ops.take(ops.convert_to_tensor(alpha), index), ops.take(ops.convert_to_tensor(sigma), index)
        )

    def time_of(self, u):
        return ops.minimum(ops.cast(ops.floor(u * self.steps), "int32"), self.steps - 1)

    def grid(self, i, n) -> Point:
        i, n = ops.cast(i, "int32"), ops.cast(n, "int32")
        left = n - i  # steps still to do: whole numbers, so that every device rounds alike
        if self.spacing == "trailing":
            t = (left * self.steps + n // 2) // n - 1
        elif self.spacing == "leading":
            t = (left - 1) * (self.steps // n)
        else:
            gaps = ops.maximum(n - 1, 1)
            t = ((left - 1) * (self.steps - 1) + gaps // 2) // gaps
            t = ops.where(n == 1, self.steps - 1, t)
        return self.at(ops.where(left <= 0, -1, t))

    @functools.cached_property
    def _log_noise(self) -> np.ndarray:
        """log(sigma / alpha) of t = 0, 1, ..., float32, rising."""
        return (0.5 * np.log((1.0 - self.alpha_bar) / self.alpha_bar)).astype("float32")

    def density_grid(self, i, n) -> Point:
        # evenly in log(sigma / alpha), as near as whole times come: in steps of t the first would be too long
        i, n = ops.cast(i, "float32"), ops.cast(n, "float32")
        least, most = float(self._log_noise[0]), float(self._log_noise[-1])
        wanted = most + (least - most) * i / ops.maximum(n - 1.0, 1.0)
        found = ops.searchsorted(ops.convert_to_tensor(self._log_noise), ops.reshape(wanted, (-1,)))
        return self.at(ops.clip(ops.reshape(found, ops.shape(wanted)), 0, self.steps - 1))

    def network_time(self, t):
        return ops.cast(t, "float32") * (1000.0 / self.steps)


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Linear(Discrete):
    """Betas in equal steps, from 1e-4 to 0.02 at 1,000 steps (Ho et al. 2020), greater at fewer."""

    name = "linear"

    def __init__(
        self,
        steps: int = 1000,
        start: float = 1e-4,
        end: float = 0.02,
        zero_terminal_snr: bool = False,
        spacing: str = "trailing",
    ):
        super().__init__(steps, zero_terminal_snr, spacing)
        self.start = start
        self.end = end

    def betas(self):
        scale = 1000 / self.steps
        return np.minimum(np.linspace(scale * self.start, scale * self.end, self.steps), 0.999)


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class ScaledLinear(Linear):
    """The roots of betas in equal steps, as latent diffusion has it (Rombach et al. 2022)."""

    name = "scaled-linear"

    def __init__(
        self,
        steps: int = 1000,
        start: float = 0.00085,
        end: float = 0.012,
        zero_terminal_snr: bool = False,
        spacing: str = "trailing",
    ):
        super().__init__(steps, start, end, zero_terminal_snr, spacing)

    def betas(self):
        scale = 1000 / self.steps
        roots = np.linspace((scale * self.start) ** 0.5, (scale * self.end) ** 0.5, self.steps)
        return np.minimum(roots**2, 0.999)


class _OfAlphaBar(Discrete):
    """Betas of a formula for alpha_bar at t / T in [0, 1], 0.999 at most."""

    def formula(self, share: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def betas(self):
        values = self.formula(np.arange(self.steps + 1) / self.steps)
        return np.minimum(1.0 - values[1:] / values[:-1], 0.999)


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Cosine(_OfAlphaBar):
    """alpha_bar = cos^2 (Nichol & Dhariwal 2021, eq. 17)."""

    name = "cosine"

    def __init__(
        self,
        steps: int = 1000,
        offset: float = 0.008,
        zero_terminal_snr: bool = False,
        spacing: str = "trailing",
    ):
        super().__init__(steps, zero_terminal_snr, spacing)
        self.offset = offset

    def formula(self, share):
        return np.cos((share + self.offset) / (1 + self.offset) * math.pi / 2) ** 2


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Sigmoid(_OfAlphaBar):
    """alpha_bar falls as a logistic curve between two of its arguments (Jabri et al. 2022, appendix B)."""

    name = "sigmoid"

    def __init__(
        self,
        steps: int = 1000,
        start: float = -3.0,
        end: float = 3.0,
        temperature: float = 1.0,
        zero_terminal_snr: bool = False,
        spacing: str = "trailing",
    ):
        super().__init__(steps, zero_terminal_snr, spacing)
        self.start = start
        self.end = end
        self.temperature = temperature

    def formula(self, share):
        def logistic(x):
            return 1.0 / (1.0 + np.exp(-x / self.temperature))

        now = logistic(share * (self.end - self.start) + self.start)
        return (logistic(self.end) - now) / (logistic(self.end) - logistic(self.start))


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class EDM(Schedule):
    """The time is sigma, and alpha is 1 (Karras et al. 2022, arXiv:2206.00364, table 1).

    Args:
        sigma_min: The last noise before the clean picture.
        sigma_max: The first.
        rho: Of the grid (eq. 5): the greater, the more of its points lie near sigma_min.
        mean: Of log sigma in training.
        spread: Its standard deviation.
    """

    name = "edm"
    middle = 0.5

    def __init__(
        self,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        mean: float = -1.2,
        spread: float = 1.2,
    ):
        if not 0 < sigma_min < sigma_max:
            raise InputError(f"Expected 0 < sigma_min < sigma_max. Received: {sigma_min} and {sigma_max}.")
        self.sigma_min = sigma_min
        self.sigma_max = self.prior_scale = sigma_max
        self.rho = rho
        self.mean = mean
        self.spread = spread

    def at(self, t) -> Point:
        sigma = ops.cast(t, "float32")
        return Point(sigma, ops.ones_like(sigma), sigma)

    def time_of(self, u):
        return ops.exp(self.mean + self.spread * _normal_quantile(u))

    def grid(self, i, n) -> Point:
        i, n = ops.cast(i, "int32"), ops.cast(n, "int32")
        share = ops.cast(i, "float32") / ops.cast(ops.maximum(n - 1, 1), "float32")
        first, last = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigma = (first + share * (last - first)) ** self.rho
        return self.at(ops.where(i >= n, 0.0, sigma))

    def network_time(self, t):
        # c_noise of the paper, ln(sigma) / 4, in the range that time embeddings are made for
        return 250.0 * ops.log(ops.cast(t, "float32"))


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Flow(Schedule):
    """Straight lines from picture (t = 0) to noise (t = 1): alpha = 1 - t, sigma = t.

    Flow matching's optimal-transport path (Lipman et al. 2023) and rectified flow (Liu et al. 2023), with the
    time of Esser et al. 2024.

    Args:
        spread: Standard deviation of the logit of t in training (Esser et al. 2024, eq. 19); 0: uniform.
        shift: s in t' = s t / (1 + (s - 1) t), of the grid: above 1 for large pictures (eq. 23 there).
    """

    name = "flow"
    middle = 0.5
    starts_in_noise = True

    def __init__(self, spread: float = 0.0, shift: float = 1.0):
        if spread < 0 or shift <= 0:
            raise InputError(
                f"Expected a spread of 0 or more and a positive shift. Received: {spread}, {shift}."
            )
        self.spread = spread
        self.shift = shift

    def at(self, t) -> Point:
        t = ops.cast(t, "float32")
        return Point(t, 1.0 - t, t)

    def time_of(self, u):
        # at t = 0 there is nothing to learn, and a velocity would be divided by 0
        if self.spread == 0:
            return ops.maximum(u, 1e-5)
        return ops.maximum(ops.sigmoid(self.spread * _normal_quantile(u)), 1e-5)

    def grid(self, i, n) -> Point:
        i, n = ops.cast(i, "int32"), ops.cast(n, "int32")
        t = ops.cast(ops.maximum(n - i, 0), "float32") / ops.cast(n, "float32")
        return self.at(self.shift * t / (1.0 + (self.shift - 1.0) * t))

    def density_grid(self, i, n) -> Point:
        # evenly in log(sigma / alpha), which has no end at either end
        i, n = ops.cast(i, "float32"), ops.cast(n, "float32")
        return self.at(ops.sigmoid(FLOW_REACH * (1.0 - 2.0 * i / ops.maximum(n - 1.0, 1.0))))

    def network_time(self, t):
        return 1000.0 * ops.cast(t, "float32")


def _normal_quantile(u):
    """The standard normal's quantile function; u is kept within float32's reach of 0 and 1."""
    return math.sqrt(2.0) * ops.erfinv(2.0 * ops.clip(u, 1e-6, 1.0 - 1e-6) - 1.0)


SCHEDULES = {schedule.name: schedule for schedule in (Linear, ScaledLinear, Cosine, Sigmoid, EDM, Flow)}


def get(schedule: str | Schedule) -> Schedule:
    """A schedule, or the one of that name."""
    return named(schedule, SCHEDULES, Schedule, "a schedule")
