"""What the distances to nearest neighbours tell: fidelity, variety, copies."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_gen.errors import InputError
from keras_gen.metrics.checks import check_vectors

COPY = 1 / 3
"""A picture this much nearer to one training picture than to the next counts as a copy of it."""


class Manifold(NamedTuple):
    precision: float
    """Share of what was made that lies where real pictures are (Kynkaanniemi et al. 2019, eq. 1)."""
    recall: float
    """Share of the real that lies where something was made."""
    density: float
    """How many real neighbourhoods hold what was made, over k (Naeem et al. 2020, eq. 4): 1 if alike."""
    coverage: float
    """Share of real neighbourhoods that hold something made (eq. 5): 1 - 2^-k if alike, for n = m."""


def precision_recall_density_coverage(real: np.ndarray, made: np.ndarray, k: int = 5) -> Manifold:
    """The four shares for features (n, d) and (m, d); neighbourhoods reach to the k-th neighbour.

    arXiv:1904.06991 and arXiv:2002.09797. A point on the rim is inside, so that identical pictures count.
    Memory grows with n + m, time with their product.
    """
    from sklearn.metrics import pairwise_distances_chunked

    check_vectors(real, made)
    if not 1 <= k < min(len(real), len(made)):
        raise InputError(
            f"Expected more than k = {k} vectors on either side, and k of 1 or more. Received: "
            f"{len(real)} and {len(made)}. Take more pictures."
        )
    real_reach, made_reach = _reach(real, k), _reach(made, k)
    precise = np.zeros(len(made), bool)
    holders = np.zeros(len(made), "int64")
    recalled, covered, start = [], [], 0
    for distances in pairwise_distances_chunked(real, made, working_memory=128):
        reach = real_reach[start : start + len(distances), None]
        within = distances <= reach
        precise |= within.any(axis=0)
        holders += within.sum(axis=0)
        covered.append(within.any(axis=1))
        recalled.append((distances <= made_reach).any(axis=1))
        start += len(distances)
    return Manifold(
        float(precise.mean()),
        float(np.concatenate(recalled).mean()),
        float(holders.mean() / k),
        float(np.concatenate(covered).mean()),
    )


def _reach(vectors: np.ndarray, k: int) -> np.ndarray:
    """Each vector's distance to its k-th neighbour, itself not counted."""
    return nearest(vectors, vectors, k + 1)[0][:, k]


def nearest(queries: np.ndarray, among: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (n, k) of each query's k nearest, the nearest first."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(among).kneighbors(queries)


RANKS = (1, 5, 20)


def retrieved(made: np.ndarray, own: np.ndarray, ranks: Sequence[int] = RANKS) -> dict[int, float]:
    """Shares of pictures whose own is among the k nearest in pixels of all `own`, for every k that there is.

    Args:
        made: Pictures (n, height, width, c).
        own: For each of them the one that it is to resemble, in the same order.
    """
    ranks = [k for k in ranks if k <= len(own)]
    vectors = [pictures.reshape(len(pictures), -1).astype("float32") for pictures in (made, own)]
    _, found = nearest(vectors[0], vectors[1], ranks[-1])
    hits = found == np.arange(len(own))[:, None]
    return {k: float(hits[:, :k].any(axis=1).mean()) for k in ranks}


def mean_distance(vectors: np.ndarray, most: int = 2000) -> float:
    """The mean distance of two of the vectors (n, d), of the first 2,000 at most: 0 at collapse."""
    from sklearn.metrics import pairwise_distances

    check_vectors(vectors, least=2)
    n = min(len(vectors), most)
    return float(pairwise_distances(vectors[:n]).sum() / (n * (n - 1)))


class Memorisation(NamedTuple):
    ratio: float
    """Median distance of what was made to its nearest training picture, over that of held-out pictures."""
    copies: float
    """Share of what was made that lies three times nearer to one training picture than to any other."""
    copies_held_out: float
    """The same share of the held-out pictures: what is to be expected without copying."""


def memorisation(train: np.ndarray, made: np.ndarray, held_out: np.ndarray) -> Memorisation:
    """Whether what was made is nearer to the training set, features (n, d), than new pictures are.

    A ratio well below 1 says so of the whole; the share of copies (the criterion of Yoon et al. 2023,
    Diffusion probabilistic models generalize when they fail to memorize) finds the few.
    """
    check_vectors(train, made, held_out)
    if len(train) < 2:
        raise InputError(f"Expected 2 training pictures or more. Received: {len(train)}.")
    of_made, of_held_out = (nearest(vectors, train, 2)[0] for vectors in (made, held_out))
    usual = float(np.median(of_held_out[:, 0]))
    ratio = float(np.median(of_made[:, 0])) / usual if usual > 0 else float("nan")
    copies, expected = (
        # a training picture that is there twice: both distances are rounding errors
        float(np.mean((d[:, 0] <= COPY * d[:, 1]) | (d[:, 0] <= 1e-4 * usual)))
        for d in (of_made, of_held_out)
    )
    return Memorisation(ratio, copies, expected)
