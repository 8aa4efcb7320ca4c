"""Mixtures whose modes are known: how many of them are found, and how well."""

from typing import NamedTuple

import numpy as np

from keras_gen.metrics.checks import check_vectors


class Modes(NamedTuple):
    hit: int
    """Modes with a high-quality sample or more."""
    quality: float
    """Share of samples within three standard deviations of a mode."""
    divergence: float
    """KL of the high-quality samples' modes to the even distribution, nats; inf without any."""


def grid_of_gaussians(n: int, seed: int, sigma: float = 0.05) -> np.ndarray:
    """n points of the 25 Gaussians around {-4, -2, 0, 2, 4}^2 (Srivastava et al. 2017), (n, 2) float32."""
    rng = np.random.default_rng(seed)
    centres = grid_centres()
    points = centres[rng.integers(len(centres), size=n)] + sigma * rng.normal(size=(n, 2))
    return points.astype("float32")


def grid_centres() -> np.ndarray:
    """(25, 2)."""
    side = np.arange(-4.0, 5.0, 2.0)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


def modes(samples: np.ndarray, centres: np.ndarray, sigma: float) -> Modes:
    """The protocol of VEEGAN (Srivastava et al. 2017, arXiv:1705.07761, section 4.1).

    Args:
        samples: (n, d); 2,500 there.
        centres: (m, d).
        sigma: Standard deviation of every mode.
    """
    check_vectors(samples, centres)
    distances = np.linalg.norm(samples[:, None] - centres[None], axis=-1)
    good = distances.min(axis=1) <= 3 * sigma
    counts = np.bincount(distances.argmin(axis=1)[good], minlength=len(centres))
    shares = counts / max(counts.sum(), 1)
    present = shares[shares > 0]
    divergence = float((present * np.log(present * len(centres))).sum()) if counts.sum() else float("inf")
    return Modes(int((counts > 0).sum()), float(good.mean()), divergence)
