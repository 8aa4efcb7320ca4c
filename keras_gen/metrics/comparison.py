"""Every measure of made pictures against real ones, at once."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_gen.errors import InputError
from keras_gen.metrics import classes, frechet, kernel, neighbours
from keras_gen.metrics.features import Extracted, Features
from keras_gen.metrics.kernel import Estimate


class Measure(NamedTuple):
    """What a measure is called, and which way is better.

    Attributes:
        title: `{frechet}` and `{score}` stand for the features' own names.
        better: "lower", "higher", or the value that is best.
    """

    title: str
    better: str


MEASURES = {
    "frechet": Measure("{frechet}", "lower"),
    "kernel": Measure("{kernel}", "lower"),
    "precision": Measure("precision", "higher"),
    "recall": Measure("recall", "higher"),
    "density": Measure("density", "higher"),
    "coverage": Measure("coverage", "higher"),
    "diversity": Measure("mean distance of two, over that of real ones", "1"),
    "class_score": Measure("{score}", "higher"),
    "class_divergence": Measure("class histogram, KL in nats", "lower"),
    "classes_hit": Measure("classes hit", "higher"),
    "memorisation": Measure("distance to the training set, ratio", "1"),
    "copies": Measure("copies of training pictures", "lower"),
}
LEAST = 0.1
"""A class is hit that has this part of an even share of the pictures: fewer may be mistakes."""


def title(key: str, features: Features) -> str:
    """The measure's name in these features."""
    kernel_name = "KID" if features.frechet == "FID" else "kernel distance"
    return MEASURES[key].title.format(frechet=features.frechet, kernel=kernel_name, score=features.score)


def compare(real: Extracted, made: Extracted, k: int = 5) -> dict[str, Estimate]:
    """The measures of two sets of features, with a standard error where there is one (otherwise nan).

    Those of classes only where the features come with probabilities. More than k pictures on either side.
    """
    nothing = float("nan")
    manifold = neighbours.precision_recall_density_coverage(real.vectors, made.vectors, k)
    found = {
        "frechet": Estimate(frechet.frechet_distance(real.vectors, made.vectors), nothing),
        "kernel": kernel.kernel_distance(real.vectors, made.vectors),
        **{name: Estimate(value, nothing) for name, value in manifold._asdict().items()},
    }
    apart = neighbours.mean_distance(made.vectors) / max(neighbours.mean_distance(real.vectors), 1e-12)
    found["diversity"] = Estimate(apart, nothing)
    if real.probabilities is not None and made.probabilities is not None:
        of_real = classes.class_histogram(real.probabilities)
        of_made = classes.class_histogram(made.probabilities)
        found["class_score"] = classes.class_score(made.probabilities, min(10, len(made.probabilities)))
        found["class_divergence"] = Estimate(classes.histogram_divergence(of_made, of_real), nothing)
        found["classes_hit"] = Estimate(float((of_made >= LEAST / len(of_made)).sum()), nothing)
    return found


def copying(train: Extracted, made: Extracted, held_out: Extracted) -> dict[str, tuple[float, float]]:
    """The measures of memorisation, each with what is usual: that of held-out pictures."""
    found = neighbours.memorisation(train.vectors, made.vectors, held_out.vectors)
    return {"memorisation": (found.ratio, 1.0), "copies": (found.copies, found.copies_held_out)}


PART = 500
MOST_PARTS = 1000


def drawn(sample: Callable[[int, int], np.ndarray], n: int, seed: int) -> np.ndarray:
    """n pictures of `sample(count, seed)`, 500 a call with the seeds 1000 seed, 1000 seed + 1, ...

    No two seeds below 2 million share a picture, and the first pictures are the same whatever n is.
    """
    parts = -(-n // PART)
    if not 1 <= parts <= MOST_PARTS:
        raise InputError(f"Expected 1 to {PART * MOST_PARTS:,} pictures. Received: {n:,}.")
    return np.concatenate([sample(PART, (MOST_PARTS * seed + i) % 2**31) for i in range(parts)])[:n]
