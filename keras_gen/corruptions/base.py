"""What is done to data on purpose: composable objects, written once for all backends.

A corruption maps a batch in [-1, 1] to a batch of the same shape and draws from the generator that
it is given, a `keras.random.SeedGenerator`. Strengths are one number, or a pair: then each example
draws its own, uniformly between them, and the model must do without knowing it.

    noisy = (Blur(1.0) | Gaussian((0, 0.2)))(images, generator)
    noisy = parse("blur:1+gaussian:0-0.2")(images, generator)

In a `tf.data` pipeline, `corrupted(dataset, corruption, seed)`.
"""

from collections.abc import Sequence

import keras
from keras import ops

from keras_gen.engine import seeded
from keras_gen.errors import InputError
from keras_gen.parts import Part

Strength = float | tuple[float, float]


class Corruption(Part):
    """Base: a serialisable function of a batch and a seed generator. `a | b` does a, then b."""

    def __call__(self, data, generator: keras.random.SeedGenerator):
        """The corrupted batch; `data` may be NumPy's."""
        return self.apply(ops.convert_to_tensor(data), generator)

    def apply(self, data, generator: keras.random.SeedGenerator):
        """What a subclass does to a tensor."""
        raise NotImplementedError

    def at(self, data, seed, generator: keras.random.SeedGenerator | None = None):
        """The corruption that depends on `seed` alone (an int, or a tensor: a step of a pipeline).

        A compiled pipeline must lend a `generator` made outside of it; it keeps its state.
        """
        generator = generator or keras.random.SeedGenerator(0)
        with seeded(generator, seed):
            return self(data, generator)

    def __or__(self, other: "Corruption") -> "Chain":
        return Chain([*_parts(self), *_parts(other)])


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Chain(Corruption):
    """Several corruptions, one after the other."""

    def __init__(self, parts: Sequence[Corruption]):
        self.parts = list(parts)

    def apply(self, data, generator):
        for part in self.parts:
            data = part(data, generator)
        return data

    def get_config(self) -> dict:
        return {"parts": [keras.saving.serialize_keras_object(p) for p in self.parts]}

    @classmethod
    def from_config(cls, config):
        return cls([keras.saving.deserialize_keras_object(p) for p in config["parts"]])

    def __repr__(self):
        return " | ".join(map(repr, self.parts))


def _parts(corruption: Corruption) -> list[Corruption]:
    return list(corruption.parts) if isinstance(corruption, Chain) else [corruption]


def checked(name: str, strength: Strength, low: float, high: float = float("inf")) -> Strength:
    ends = tuple(strength) if isinstance(strength, (tuple, list)) else (strength, strength)
    if len(ends) != 2 or not low <= ends[0] <= ends[1] <= high:
        raise InputError(
            f"Expected {name} of a number within {low:g} to {high:g}, or a pair of them in order. "
            f"Received: {strength}."
        )
    return ends if isinstance(strength, (tuple, list)) else strength


def drawn(strength: Strength, data, generator):
    """The strength of each example, (n, 1, ...), or the one number."""
    if not isinstance(strength, tuple):
        return strength
    shape = (ops.shape(data)[0], *(1 for _ in data.shape[1:]))
    return keras.random.uniform(shape, *strength, dtype="float32", seed=generator)


def uniform_by_pixel(data, generator):
    """Uniform in [0, 1): one number a pixel of a picture, one a value of anything else."""
    shape = ops.shape(data)
    if len(data.shape) == 4:
        shape = (*shape[:3], 1)
    return keras.random.uniform(shape, dtype="float32", seed=generator)


def require_pictures(data, corruption: Corruption) -> None:
    if len(data.shape) != 4:
        raise InputError(
            f"{type(corruption).__name__} expected pictures (n, height, width, channels). "
            f"Received: shape {tuple(data.shape)}. Use gaussian or masking for other data."
        )


def cut(tensor, axis: int, start: int, size):
    """`size` rows (axis 1) or columns (axis 2) from `start` on."""
    return tensor[:, start : start + size] if axis == 1 else tensor[:, :, start : start + size]


def edge_padded(data, padding):
    """Repeat the first and last rows or columns. `ops.pad(mode="edge")` is missing on TensorFlow."""
    for axis in (1, 2):
        before, after = padding[axis]
        first, last = cut(data, axis, 0, 1), data[:, -1:] if axis == 1 else data[:, :, -1:]
        parts = [ops.repeat(first, before, axis=axis)] if before else []
        parts.append(data)
        if after:
            parts.append(ops.repeat(last, after, axis=axis))
        data = ops.concatenate(parts, axis=axis) if len(parts) > 1 else data
    return data


def padded_to_multiple(data, multiple: int):
    height, width = data.shape[1:3]
    if height is None or width is None:
        raise InputError("Expected pictures of a known size. Received: a pipeline without one.")
    return edge_padded(data, [[0, 0], [0, -height % multiple], [0, -width % multiple], [0, 0]])


def flattened_squares(data, factor: int):
    """The mean of each square of `factor` x `factor` pixels, in every pixel of it."""
    mean = ops.average_pool(data, factor, factor)
    return ops.repeat(ops.repeat(mean, factor, axis=1), factor, axis=2)
