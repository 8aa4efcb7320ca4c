"""Nats and bits."""

import math


def bits_per_dim(nats, dimensions: int, spacing: float | None = None):
    """A log density or probability in nats as bits for each of `dimensions` values, lower better.

    Args:
        nats: log p(x) of a whole example, a number or an array.
        dimensions: Values of an example: height * width * channels.
        spacing: None for probabilities of discrete values. For densities the distance between two
            neighbouring levels, 2 / 255 for uint8 pictures in [-1, 1]: the density of pictures with
            uniform noise of that width bounds the probability of the levels (Theis et al. 2016,
            arXiv:1511.01844, section 3.1).
    """
    volume = 0.0 if spacing is None else dimensions * math.log(spacing)
    return -(nats + volume) / (dimensions * math.log(2))
