"""What a denoising autoencoder has to undo: composable objects, written once for all backends.

A corruption maps a batch in [-1, 1] to a batch of the same shape and draws from the generator that
it is given, a `keras.random.SeedGenerator`. Strengths are one number, or a pair: then each example
draws its own, uniformly between them, and the model must do without knowing it.

    noisy = (Blur(1.0) | Gaussian((0, 0.2)))(images, generator)
    noisy = parse("blur:1+gaussian:0-0.2")(images, generator)

In a `tf.data` pipeline, `corrupted(dataset, corruption, seed)`.
"""

import inspect
from collections.abc import Sequence
from functools import reduce

import keras
import numpy as np
from keras import ops

from keras_gen.engine import BACKEND, seeded, to_numpy
from keras_gen.errors import InputError

Strength = float | tuple[float, float]


class Corruption:
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

    def get_config(self) -> dict:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(repr(self))

    def __repr__(self):
        values = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({values})"


def _parts(corruption: Corruption) -> list[Corruption]:
    return list(corruption.parts) if isinstance(corruption, Chain) else [corruption]


def _checked(name: str, strength: Strength, low: float, high: float = float("inf")) -> Strength:
    ends = tuple(strength) if isinstance(strength, (tuple, list)) else (strength, strength)
    if len(ends) != 2 or not low <= ends[0] <= ends[1] <= high:
        raise InputError(
            f"Expected {name} of a number within {low:g} to {high:g}, or a pair of them in order. "
            f"Received: {strength}."
        )
    return ends if isinstance(strength, (tuple, list)) else strength


def _drawn(strength: Strength, data, generator):
    """The strength of each example, (n, 1, ...), or the one number."""
    if not isinstance(strength, tuple):
        return strength
    shape = (ops.shape(data)[0], *(1 for _ in data.shape[1:]))
    return keras.random.uniform(shape, *strength, dtype="float32", seed=generator)


def _uniform_by_pixel(data, generator):
    """Uniform in [0, 1): one number a pixel of a picture, one a value of anything else."""
    shape = ops.shape(data)
    if len(data.shape) == 4:
        shape = (*shape[:3], 1)
    return keras.random.uniform(shape, dtype="float32", seed=generator)


def _require_pictures(data, corruption: Corruption) -> None:
    if len(data.shape) != 4:
        raise InputError(
            f"{type(corruption).__name__} expected pictures (n, height, width, channels). "
            f"Received: shape {tuple(data.shape)}. Use gaussian or masking for other data."
        )


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Gaussian(Corruption):
    """Adds normal noise. `sigma`: its standard deviation, where black to white is 1 (25/255).

    The result is neither clipped nor rounded. For data that are not pictures, `sigma` is in units of
    half the values' range from -1 to 1 likewise: noise of standard deviation 2 sigma.
    """

    def __init__(self, sigma: Strength):
        self.sigma = _checked("sigma", sigma, 0)

    def apply(self, data, generator):
        noise = keras.random.normal(ops.shape(data), dtype="float32", seed=generator)
        return data + 2.0 * _drawn(self.sigma, data, generator) * noise


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Masking(Corruption):
    """Sets a share `rate` of the pixels to `fill` (Vincent et al. 2010, section 3.3: black).

    With `rescale`, the others grow by 1 / (1 - rate) counted from `fill`: dropout.
    """

    def __init__(self, rate: Strength, fill: float = -1.0, rescale: bool = False):
        self.rate = _checked("rate", rate, 0, 1)
        self.fill = fill
        self.rescale = rescale

    def apply(self, data, generator):
        rate = _drawn(self.rate, data, generator)
        kept = ops.cast(_uniform_by_pixel(data, generator) >= rate, data.dtype)
        if self.rescale:
            kept = kept / (1.0 - rate)
        return self.fill + (data - self.fill) * kept


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Dropout(Masking):
    """`Masking` that keeps the mean: what a dropout layer does to pixels in [0, 1]."""

    def __init__(self, rate: Strength, fill: float = -1.0):
        super().__init__(rate, fill, rescale=True)


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class SaltAndPepper(Corruption):
    """Sets a share `rate` of the pixels to white or black, whichever by chance."""

    def __init__(self, rate: Strength):
        self.rate = _checked("rate", rate, 0, 1)

    def apply(self, data, generator):
        rate = _drawn(self.rate, data, generator)
        uniform = _uniform_by_pixel(data, generator)
        data = ops.where(uniform < rate / 2, -1.0, data)
        return ops.where(ops.logical_and(uniform >= rate / 2, uniform < rate), 1.0, data)


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Blur(Corruption):
    """Gaussian blur. `sigma`: in pixels. Beyond its edge a picture goes on as at its edge."""

    def __init__(self, sigma: Strength):
        self.sigma = _checked("sigma", sigma, 0)

    def apply(self, data, generator):
        _require_pictures(data, self)
        most = self.sigma[1] if isinstance(self.sigma, tuple) else self.sigma
        radius = max(1, round(4 * most))
        sigma = ops.maximum(ops.convert_to_tensor(_drawn(self.sigma, data, generator), "float32"), 1e-3)
        weights = [ops.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
        total = sum(weights)
        for axis in (1, 2):
            padding = [[0, 0]] * axis + [[radius, radius]] + [[0, 0]] * (3 - axis)
            padded = _edge_padded(data, padding)
            size = ops.shape(data)[axis]
            data = sum((weight / total) * _slice(padded, axis, i, size) for i, weight in enumerate(weights))
        return data


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Affine(Corruption):
    """A small random turn, shift, scaling and shear of each picture, resampled bilinearly.

    `strength`: the standard deviation of normal noise on the six numbers of the map, with the picture
    within -1 to 1: 0.1 turns by 6 degrees, scales by a tenth and shifts by a twentieth of a side, more
    or less. Beyond its edge a picture goes on as at its edge. A code from which the undistorted
    picture must be drawn loses interest in where it was.
    """

    def __init__(self, strength: Strength):
        self.strength = _checked("strength", strength, 0)

    def apply(self, data, generator):
        _require_pictures(data, self)
        strength = _drawn(self.strength, data, generator)
        if isinstance(self.strength, tuple):
            strength = ops.reshape(strength, (-1, 1, 1))
        noise = keras.random.normal((ops.shape(data)[0], 2, 3), dtype="float32", seed=generator)
        return _resampled(data, ops.eye(2, 3, dtype="float32") + strength * noise)


def _resampled(data, maps):
    """Pictures (n, height, width, c) whose pixel at (y, x) is that of `maps` (n, 2, 3) @ (y, x, 1).

    Coordinates are those of pixels' centres, from -1 to 1; between centres linear.
    """
    n, height, width = ops.shape(data)[:3]
    channels = data.shape[-1]
    y = ops.linspace(-1.0, 1.0, height)
    x = ops.linspace(-1.0, 1.0, width)
    y, x = ops.meshgrid(y, x, indexing="ij")
    grid = ops.reshape(ops.stack([y, x, ops.ones_like(y)]), (3, -1))
    source = ops.matmul(maps, ops.cast(grid, "float32"))  # (n, 2, height * width)
    pixels = ops.reshape(data, (-1, channels))
    first = ops.expand_dims(ops.arange(n) * (height * width), 1)
    row, down = _floor_and_rest(source[:, 0], height)
    column, right = _floor_and_rest(source[:, 1], width)
    out = 0.0
    for dy, by_row in ((0, 1.0 - down), (1, down)):
        for dx, by_column in ((0, 1.0 - right), (1, right)):
            there = first + ops.minimum(row + dy, height - 1) * width + ops.minimum(column + dx, width - 1)
            out = out + ops.expand_dims(by_row * by_column, -1) * ops.take(pixels, there, axis=0)
    return ops.reshape(out, (n, height, width, channels))


def _floor_and_rest(coordinate, size):
    """From -1 to 1 to the pixel before, int32, and how far it lies behind it, 0 to 1."""
    position = ops.clip((coordinate + 1.0) * (ops.cast(size, "float32") - 1.0) / 2.0, 0.0, size - 1)
    before = ops.floor(position)
    return ops.cast(before, "int32"), position - before


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Mirror(Corruption):
    """Exchanges left and right of a picture with the chance `rate`."""

    def __init__(self, rate: Strength = 0.5):
        self.rate = _checked("rate", rate, 0, 1)

    def apply(self, data, generator):
        _require_pictures(data, self)
        rate = _drawn(self.rate, data, generator)
        shape = (ops.shape(data)[0], 1, 1, 1)
        turned = keras.random.uniform(shape, dtype="float32", seed=generator) < rate
        return ops.where(turned, ops.flip(data, axis=2), data)


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Grey(Corruption):
    """Takes a share `amount` of the colour away; all of it by default. The channels stay as many."""

    def __init__(self, amount: Strength = 1.0):
        self.amount = _checked("amount", amount, 0, 1)

    def apply(self, data, generator):
        _require_pictures(data, self)
        amount = _drawn(self.amount, data, generator)
        if data.shape[-1] == 3:
            weights = ops.reshape(ops.convert_to_tensor([0.299, 0.587, 0.114], data.dtype), (1, 1, 1, 3))
            grey = ops.sum(data * weights, axis=-1, keepdims=True)  # as Pillow's "L"
        else:
            grey = ops.mean(data, axis=-1, keepdims=True)
        return amount * grey + (1.0 - amount) * data


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Edges(Corruption):
    """Draws a picture's edges black on white: the Sobel operator's slope, from `slope` on wholly black.

    Of a step from black to white the slope is 4.
    """

    def __init__(self, slope: Strength = 1.0):
        self.slope = _checked("slope", slope, 1e-3)

    def apply(self, data, generator):
        _require_pictures(data, self)
        slope = _drawn(self.slope, data, generator)
        grey = ops.mean(data, axis=-1, keepdims=True) / 2.0
        padded = _edge_padded(grey, [(0, 0), (1, 1), (1, 1), (0, 0)])
        side = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]], "float32")
        kernel = ops.convert_to_tensor(np.stack([side, side.T], axis=-1)[:, :, None])
        across = ops.conv(padded, kernel, padding="valid", data_format="channels_last")
        steepness = ops.sqrt(ops.sum(across * across, axis=-1, keepdims=True) + 1e-12)
        drawn = 1.0 - 2.0 * ops.minimum(steepness / slope, 1.0)
        return ops.broadcast_to(drawn, ops.shape(data))


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Downsampling(Corruption):
    """Averages squares of `factor` x `factor` pixels and draws each as one flat square."""

    def __init__(self, factor: int):
        if factor != int(factor) or factor < 1:
            raise InputError(f"Expected a whole factor of 1 or more. Received: {factor}.")
        self.factor = int(factor)

    def apply(self, data, generator):
        _require_pictures(data, self)
        height, width = ops.shape(data)[1:3]
        return _flattened_squares(_padded_to_multiple(data, self.factor), self.factor)[:, :height, :width]


# ITU-T T.81 (the JPEG standard), annex K.1
_LUMINANCE = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
"""
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])

_NO_COLOUR = np.array([0.0, 128.0, 128.0], "float32")


def _to_levels(values):
    return ops.round(ops.clip(values, 0.0, 255.0))


def _tables() -> np.ndarray:
    """The quantisation tables of quality 50 for Y, Cb, Cr: (3, 8, 8)."""
    luminance = np.array(_LUMINANCE.split(), "float32")
    chrominance = np.full(64, 99, "float32")
    chrominance[:32] = np.array(_CHROMINANCE.split(), "float32")
    return np.stack([luminance, chrominance, chrominance]).reshape(3, 8, 8)


def _cosines() -> np.ndarray:
    """The orthonormal discrete cosine transform of 8 values, (frequency, value)."""
    k, i = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    matrix = np.cos((2 * i + 1) * k * np.pi / 16) * np.sqrt(2 / 8)
    matrix[0] /= np.sqrt(2)
    return matrix.astype("float32")


@keras.saving.register_keras_serializable("keras_gen.corruptions")
class Jpeg(Corruption):
    """What JPEG loses, without the file: colour at half resolution, cosines of 8x8 blocks rounded.

    `quality`: 1 to 100 on libjpeg's scale.
    """

    def __init__(self, quality: Strength):
        self.quality = _checked("quality", quality, 1, 100)

    def apply(self, data, generator):
        _require_pictures(data, self)
        height, width = ops.shape(data)[1:3]
        colour = data.shape[-1] == 3
        levels = _to_levels((data + 1.0) * 127.5)
        levels = _padded_to_multiple(levels, 16 if colour else 8)
        if colour:  # 128 is no colour
            levels = _to_levels(ops.matmul(levels, _TO_YCC.T.astype("float32")) + _NO_COLOUR)
            chrominance = ops.average_pool(levels[..., 1:], 2, 2)
            planes = [levels[..., :1], _to_levels(chrominance)]
            tables = [_tables()[0:1], _tables()[1:]]
        else:
            planes, tables = [levels], [_tables()[: data.shape[-1]]]
        # libjpeg's jpeg_quality_scaling
        quality = ops.floor(ops.convert_to_tensor(_drawn(self.quality, data, generator), "float32"))
        scale = ops.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality) / 100.0
        done = [
            _to_levels(_rounded_cosines(p - 128.0, t, scale) + 128.0)
            for p, t in zip(planes, tables, strict=True)
        ]
        levels = done[0]
        if colour:
            chrominance = ops.repeat(ops.repeat(done[1], 2, axis=1), 2, axis=2)
            back = np.linalg.inv(_TO_YCC).T.astype("float32")
            levels = ops.matmul(ops.concatenate([levels, chrominance], axis=-1) - _NO_COLOUR, back)
        levels = _to_levels(levels)[:, :height, :width]
        return levels / 127.5 - 1.0


def _rounded_cosines(plane, tables: np.ndarray, scale):
    """Planes (n, height, width, c), sides multiples of 8, through rounding by tables (c, 8, 8)."""
    n, height, width = ops.shape(plane)[:3]
    channels = plane.shape[-1]
    blocks = ops.reshape(plane, (n, height // 8, 8, width // 8, 8, channels))
    blocks = ops.transpose(blocks, (0, 1, 3, 5, 2, 4))  # (n, rows, columns, c, 8, 8)
    cosines = _cosines()
    frequencies = ops.matmul(ops.matmul(cosines, blocks), cosines.T)
    if len(ops.shape(scale)):
        scale = ops.reshape(scale, (-1, 1, 1, 1, 1, 1))
    steps = ops.clip(ops.floor(scale * tables[None, None, None] + 0.5), 1.0, 255.0)
    frequencies = ops.round(frequencies / steps) * steps
    blocks = ops.matmul(ops.matmul(cosines.T, frequencies), cosines)
    return ops.reshape(ops.transpose(blocks, (0, 1, 4, 2, 5, 3)), (n, height, width, channels))


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


# --- by name -----------------------------------------------------------------------------------

NAMES = {
    "gaussian": Gaussian,
    "masking": Masking,
    "dropout": Dropout,
    "salt": SaltAndPepper,
    "blur": Blur,
    "affine": Affine,
    "mirror": Mirror,
    "grey": Grey,
    "edges": Edges,
    "downsampling": Downsampling,
    "jpeg": Jpeg,
}


def parse(text: str) -> Corruption:
    """`name:strength` or `name:least-most`, several joined by `+`.

    Raises:
        InputError: An unknown name, or a strength that is none.
    """
    made = []
    for part in text.split("+"):
        name, _, strength = part.partition(":")
        try:
            numbers = [float(number) for number in strength.split("-")]
            if name not in NAMES or len(numbers) > 2:
                raise ValueError
        except ValueError:
            raise InputError(
                f"Expected corruptions such as gaussian:0.2, gaussian:0-0.2 or blur:1+jpeg:30, of "
                f"{', '.join(NAMES)}. Received: {part!r}."
            ) from None
        made.append(NAMES[name](numbers[0] if len(numbers) == 1 else tuple(numbers)))
    return reduce(lambda a, b: a | b, made)


def corrupted(dataset, corruption: Corruption, seed: int = 0):
    """A `tf.data.Dataset` of images to one of pairs (corrupted, clean), for any Keras model.

    What an element becomes depends on `seed` and its position alone.
    """
    import tensorflow as tf

    generator = keras.random.SeedGenerator(0)

    def pair(position, clean):
        state = position + (seed << 20)
        if BACKEND == "tensorflow":
            return corruption.at(clean, state, generator), clean
        made = tf.numpy_function(
            lambda images, at: to_numpy(corruption.at(images, int(at))).astype("float32"),
            [clean, state],
            tf.float32,
        )
        return tf.ensure_shape(made, clean.shape), clean

    return dataset.enumerate().map(pair, num_parallel_calls=tf.data.AUTOTUNE)


# --- pieces ------------------------------------------------------------------------------------


def _slice(tensor, axis: int, start: int, size):
    return tensor[:, start : start + size] if axis == 1 else tensor[:, :, start : start + size]


def _edge_padded(data, padding):
    """Repeat the first and last rows or columns. `ops.pad(mode="edge")` is missing on TensorFlow."""
    for axis in (1, 2):
        before, after = padding[axis]
        first, last = _slice(data, axis, 0, 1), data[:, -1:] if axis == 1 else data[:, :, -1:]
        parts = [ops.repeat(first, before, axis=axis)] if before else []
        parts.append(data)
        if after:
            parts.append(ops.repeat(last, after, axis=axis))
        data = ops.concatenate(parts, axis=axis) if len(parts) > 1 else data
    return data


def _padded_to_multiple(data, multiple: int):
    height, width = data.shape[1:3]
    if height is None or width is None:
        raise InputError("Expected pictures of a known size. Received: a pipeline without one.")
    return _edge_padded(data, [[0, 0], [0, -height % multiple], [0, -width % multiple], [0, 0]])


def _flattened_squares(data, factor: int):
    """The mean of each square of `factor` x `factor` pixels, in every pixel of it."""
    mean = ops.average_pool(data, factor, factor)
    return ops.repeat(ops.repeat(mean, factor, axis=1), factor, axis=2)
