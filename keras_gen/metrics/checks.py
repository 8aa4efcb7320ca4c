"""What every statistic asks of features."""

import numpy as np

from keras_gen.errors import InputError


def check_vectors(*sets: np.ndarray, least: int = 1) -> None:
    """Refuse what is not one or more sets (n, d) of finite vectors, d alike, n of `least` or more."""
    for vectors in sets:
        if vectors.ndim != 2 or vectors.shape[1] < 1:
            raise InputError(f"Expected features of shape (n, d). Received: shape {vectors.shape}.")
        if len(vectors) < least:
            raise InputError(
                f"Expected {least} vectors or more. Received: {len(vectors)}. Take more pictures."
            )
        if not np.isfinite(vectors).all():
            count = int((~np.isfinite(vectors)).any(axis=1).sum())
            raise InputError(
                f"Expected finite features. Received: NaN or infinity in {count} of {len(vectors)}."
            )
    if len({vectors.shape[1] for vectors in sets}) > 1:
        raise InputError(
            "Expected features of one function, with equally many dimensions. Received: "
            + " and ".join(str(vectors.shape[1]) for vectors in sets)
            + "."
        )
