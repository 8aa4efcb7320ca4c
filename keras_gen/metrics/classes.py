"""What a classifier's opinion of made pictures tells."""

import numpy as np

from keras_gen.errors import InputError
from keras_gen.metrics.kernel import Estimate


def class_score(probabilities: np.ndarray, splits: int = 10) -> Estimate:
    """exp E KL(p(y|x) || p(y)) over `splits` parts of probabilities (n, classes), and their deviation.

    The inception score (Salimans et al. 2016, arXiv:1606.03498) where the classifier is Inception;
    from 1 to the number of classes. It knows of no real picture: a picture a class is a full score.
    As published, the error is the standard deviation over the parts, not that of their mean.
    """
    check_probabilities(probabilities)
    n = len(probabilities)
    if not 1 <= splits <= n:
        raise InputError(f"Expected parts within 1 to {n}, the number of pictures. Received: {splits}.")
    scores = []
    for i in range(splits):
        p = probabilities[i * n // splits : (i + 1) * n // splits].astype("float64")
        scores.append(float(np.exp(_divergence(p, p.mean(axis=0)).mean())))
    return Estimate(float(np.mean(scores)), float(np.std(scores)))


def class_histogram(probabilities: np.ndarray) -> np.ndarray:
    """The share of pictures, (classes,), for which each class is the likeliest."""
    check_probabilities(probabilities)
    classes = probabilities.shape[1]
    return np.bincount(probabilities.argmax(axis=1), minlength=classes) / len(probabilities)


def histogram_divergence(made: np.ndarray, real: np.ndarray) -> float:
    """KL(made || real) of two class histograms in nats: 0 if alike, infinite where none was real."""
    return float(_divergence(np.asarray(made, "float64"), np.asarray(real, "float64")))


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    from scipy.special import rel_entr

    return rel_entr(p, q).sum(axis=-1)


def check_probabilities(probabilities: np.ndarray) -> None:
    if probabilities.ndim != 2 or len(probabilities) < 1:
        raise InputError(
            f"Expected probabilities of shape (n, classes). Received: shape {probabilities.shape}."
        )
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise InputError("Expected probabilities that add up to 1. Received: others, logits perhaps.")
