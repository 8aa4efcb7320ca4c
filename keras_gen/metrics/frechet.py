"""The Frechet distance between Gaussians that have the moments of two sets of features."""

from dataclasses import dataclass

import numpy as np

from keras_gen.metrics.checks import check_vectors


@dataclass(frozen=True)
class Moments:
    """Mean (d,) and unbiased covariance (d, d) of n vectors, float64."""

    mean: np.ndarray
    covariance: np.ndarray
    n: int

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Moments":
        """Of vectors (n, d), n of 2 or more."""
        check_vectors(vectors, least=2)
        vectors = vectors.astype("float64")
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        return cls(mean, centred.T @ centred / (len(vectors) - 1), len(vectors))


def frechet_distance(real: np.ndarray, made: np.ndarray) -> float:
    """|m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^1/2) of two sets of features, (n, d) and (m, d).

    With Inception features it is the FID (Heusel et al. 2017, arXiv:1706.08500, eq. 6); it is biased
    upwards, more for fewer vectors, so that numbers compare at equal n alone.
    """
    check_vectors(real, made, least=2)
    return frechet_of_moments(Moments.of(real), Moments.of(made))


def frechet_of_moments(first: Moments, second: Moments) -> float:
    """The distance of two Gaussians.

    The trace of the root is the sum of the singular values of C1^1/2 C2^1/2: defined, and as precise,
    where the covariances have no full rank, which the root of a product is not.
    """
    difference = first.mean - second.mean
    product = _root(first.covariance) @ _root(second.covariance)
    trace_of_root = np.linalg.svd(product, compute_uv=False).sum()
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    return max(0.0, float(difference @ difference + traces - 2 * trace_of_root))


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
