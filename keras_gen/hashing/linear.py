"""Hashing without a network: what a learned code has to be better than."""

from dataclasses import dataclass

import numpy as np

from keras_gen.errors import InputError


@dataclass(frozen=True)
class LinearHash:
    """Bits are the signs of projections of centred data: (x - mean) @ matrix > 0."""

    mean: np.ndarray
    matrix: np.ndarray

    def bits(self, data: np.ndarray) -> np.ndarray:
        """Data (n, ...) to bits (n, d), uint8 of 0 and 1."""
        flat = np.asarray(data).reshape(len(data), -1)
        return ((flat - self.mean) @ self.matrix > 0).astype("uint8")


def lsh(data: np.ndarray, bits: int, seed: int = 0) -> LinearHash:
    """Random hyperplanes through the mean of `data` (n, ...) (Charikar 2002)."""
    flat = np.asarray(data).reshape(len(data), -1)
    matrix = np.random.default_rng(seed).normal(size=(flat.shape[1], bits)).astype("float32")
    return LinearHash(flat.mean(axis=0), matrix)


def itq(data: np.ndarray, bits: int, seed: int = 0, iterations: int = 50) -> LinearHash:
    """Principal components, rotated so that their signs lose least (Gong & Lazebnik 2011).

    Alternates between the nearest signs and the orthogonal Procrustes rotation to them (eq. 2), from
    a random rotation.

    Raises:
        InputError: More bits than the data have components.
    """
    from sklearn.decomposition import PCA

    flat = np.asarray(data).reshape(len(data), -1)
    if bits > min(flat.shape):
        raise InputError(
            f"Expected at most {min(flat.shape)} bits, one a principal component. Received: {bits}."
        )
    pca = PCA(bits, random_state=seed).fit(flat)
    projected = pca.transform(flat)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(bits, bits)))[0].astype("float32")
    for _ in range(iterations):
        signs = np.where(projected @ rotation > 0, np.float32(1), np.float32(-1))
        u, _, vt = np.linalg.svd(projected.T @ signs)
        rotation = u @ vt
    return LinearHash(pca.mean_, pca.components_.T @ rotation)
