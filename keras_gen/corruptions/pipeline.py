"""Corruptions by name, and in `tf.data`."""

import math
from functools import reduce

import keras

from keras_gen.corruptions.base import Corruption
from keras_gen.corruptions.geometry import Affine, Mirror
from keras_gen.corruptions.jpeg import Jpeg
from keras_gen.corruptions.noise import Dropout, Gaussian, Masking, SaltAndPepper
from keras_gen.corruptions.optics import Blur, Downsampling, Edges, Grey
from keras_gen.engine import BACKEND, to_numpy
from keras_gen.errors import InputError

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
            if name not in NAMES or len(numbers) > 2 or not all(map(math.isfinite, numbers)):
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
