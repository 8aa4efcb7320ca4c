"""The noising process x_t = alpha_t x_0 + sigma_t eps between two of its points."""

from typing import Any, NamedTuple

from keras import ops

Tensor = Any


class Point(NamedTuple):
    """One point of a process: its time, and what of the picture and of the noise is in it."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor


class Posterior(NamedTuple):
    """q(x_then | x_now, x_0) = N(of_clean x_0 + of_x x_now, small); `large` is that of q(x_now | x_then)."""

    of_clean: Tensor
    of_x: Tensor
    small: Tensor
    large: Tensor


def snr(alpha, sigma):
    """The signal-to-noise ratio of pictures of unit variance."""
    return alpha**2 / sigma**2


def noise_in(x, clean, now: Point):
    """The noise that makes x of a clean picture."""
    return (x - now.alpha * clean) / now.sigma


def posterior(now: Point, then: Point) -> Posterior:
    """Of the cleaner point `then` (Ho et al. 2020, eqs. 6 and 7; Kingma et al. 2021, appendix A).

    The variances are beta_t ("large") and beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) ("small") where
    the points are neighbours of a variance-preserving process, and hold between any others.
    """
    alpha = now.alpha / then.alpha
    large = now.sigma**2 - (alpha * then.sigma) ** 2
    small = large * (then.sigma / now.sigma) ** 2
    return Posterior(
        then.alpha * large / now.sigma**2,
        alpha * (then.sigma / now.sigma) ** 2,
        small,
        ops.relu(large),  # ops.maximum with a number makes float64 float32 on PyTorch
    )
