"""What batches and apps ask of data, whatever they hold."""

import hashlib
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np


class Examples:
    """Base of `ImageData` and `FeatureData`: frozen dataclasses with an array, labels and classes.

    Attributes:
        key: What a batch calls the array (`image`, `features`).
        field: What the dataclass calls it.
        noun: What people call the examples, in messages.
    """

    key: ClassVar[str]
    field: ClassVar[str]
    noun: ClassVar[str]

    name: str
    labels: np.ndarray | None
    classes: tuple[str, ...] | None
    licence: str

    @property
    def values(self) -> np.ndarray:
        """The array as it is stored, (n, ...)."""
        return getattr(self, self.field)

    @property
    def affine(self) -> tuple[float, float]:
        """(a, b): a model sees a * values + b."""
        return 1.0, 0.0

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.values.shape[1:]

    def select(self, indices) -> Self:
        labels = None if self.labels is None else self.labels[indices]
        chosen: dict[str, Any] = {self.field: self.values[indices], "labels": labels}
        return replace(self, **chosen)  # type: ignore[type-var]

    def floats(self, indices=slice(None)) -> np.ndarray:
        """The chosen examples as a model sees them, float32; pictures in [-1, 1]."""
        factor, offset = self.affine
        return self.values[indices].astype("float32") * np.float32(factor) + np.float32(offset)

    def mean(self) -> np.ndarray:
        """The mean example, as a model sees it."""
        starts = range(0, len(self), 10_000)
        total = sum(self.floats(slice(s, s + 10_000)).sum(axis=0, dtype="float64") for s in starts)
        return (total / len(self)).astype("float32")

    def fingerprint(self) -> str:
        """A digest of up to 4,096 examples spread over the set, to notice that data changed."""
        digest = hashlib.blake2b(digest_size=12)
        digest.update(repr((self.values.shape, str(self.values.dtype))).encode())
        step = -(-len(self) // 4096)
        digest.update(np.ascontiguousarray(self.values[::step]).data)
        return digest.hexdigest()
