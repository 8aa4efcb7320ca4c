"""The kernel distance: squared maximum mean discrepancy of two sets of features, without bias."""

from typing import NamedTuple

import numpy as np

from keras_gen.metrics.checks import check_vectors

BLOCKS = 20
"""Parts of each set that the jackknife leaves out in turn."""


class Estimate(NamedTuple):
    value: float
    error: float
    """Standard error."""


def cubic_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x . y / d + 1)^3 of every pair, (n, m): the kernel of the KID."""
    product = x @ y.T / x.shape[1] + 1.0
    return product * product * product  # a power is ten times as slow


def kernel_distance(real: np.ndarray, made: np.ndarray, kernel=cubic_kernel) -> Estimate:
    """The U-statistic of MMD^2 over all pairs (Gretton et al. 2012, eq. 3), and its standard error.

    With Inception features its expectation is the KID (Binkowski et al. 2018, arXiv:1801.01401), which is
    commonly averaged over subsets of 1,000: the same quantity, estimated with more noise. Unbiased, hence
    negative at times. The error is that of a jackknife over 20 blocks of both sets at once (Efron & Stein
    1981), exact to first order; fewer than 4 vectors have none (nan).

    Args:
        real: (n, d), n of 2 or more.
        made: (m, d), m of 2 or more.
        kernel: Two sets of vectors to the values (n, m) of a positive definite kernel.
    """
    check_vectors(real, made, least=2)
    blocks = min(BLOCKS, len(real) // 2, len(made) // 2)
    x, y = _parts(real, blocks), _parts(made, blocks)
    # means over pairs of a set and of blocks left out of it are sums over a table of blocks
    within_x, within_y = _within(x, kernel), _within(y, kernel)
    across = np.array([[kernel(a, b).sum(dtype="float64") for b in y] for a in x])
    sizes = [np.array([len(part) for part in parts], "float64") for parts in (x, y)]

    def estimate(kept: np.ndarray) -> float:
        n, m = sizes[0][kept].sum(), sizes[1][kept].sum()
        table = np.ix_(kept, kept)
        return (
            within_x[table].sum() / (n * (n - 1))
            + within_y[table].sum() / (m * (m - 1))
            - 2 * across[table].sum() / (n * m)
        )

    every = np.arange(blocks)
    value = float(estimate(every))
    if blocks < 2:
        return Estimate(value, float("nan"))
    without = np.array([estimate(np.delete(every, i)) for i in every])
    variance = (blocks - 1) / blocks * ((without - without.mean()) ** 2).sum()
    return Estimate(value, float(np.sqrt(variance)))


def _parts(vectors: np.ndarray, blocks: int) -> list[np.ndarray]:
    # pictures often come sorted by class: a block takes every 20th
    return [vectors[i::blocks].astype("float64") for i in range(blocks)]


def _within(parts: list[np.ndarray], kernel) -> np.ndarray:
    """Sums of the kernel over pairs of different vectors, by block and block."""
    sums = np.zeros((len(parts), len(parts)))
    for i, a in enumerate(parts):
        for j, b in enumerate(parts[: i + 1]):
            values = kernel(a, b)
            sums[i, j] = sums[j, i] = values.sum() - (np.trace(values) if i == j else 0.0)
    return sums
