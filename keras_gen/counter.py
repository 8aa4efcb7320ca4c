"""Random numbers that are a function of their seed and place alone, the same on every backend.

`keras.random` draws other numbers from the same seed on each backend, and other numbers for a picture that
stands elsewhere in a batch. A sampler that adds noise at every step needs better: here the number at (seed,
picture, step, element) is the output of a block cipher, Threefry-2x32 with 20 rounds (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"), so that a picture depends neither on its backend nor on its
batch, in a compiled loop and in an exported graph alike. 32-bit integers wrap around everywhere.
"""

import math
from collections.abc import Sequence

from keras import ops

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def _rotated(x, bits: int):
    """Bits of int32 moved left, those that fall off coming in from the right."""
    # a shift to the right repeats the sign bit: it is masked away
    right = ops.bitwise_and(ops.bitwise_right_shift(x, 32 - bits), (1 << bits) - 1)
    return ops.bitwise_or(ops.bitwise_left_shift(x, bits), right)


def threefry(key: tuple, counter: tuple) -> tuple:
    """Threefry-2x32-20 of int32 tensors that broadcast: two words for a key of two and a counter of two."""
    first, second = key
    keys = (first, second, ops.bitwise_xor(ops.bitwise_xor(first, second), PARITY))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for block in range(5):
        for bits in ROTATIONS[block % 2]:
            x = x + y
            y = ops.bitwise_xor(_rotated(y, bits), x)
        x = x + keys[(block + 1) % 3]
        y = y + keys[(block + 2) % 3] + (block + 1)
    return x, y


def normal(shape: Sequence, seed, step):
    """Standard normal numbers (n, ...) float32: picture j of seed s has the same at step k wherever it is.

    By Box and Muller, from 24 bits each: none lies beyond 5.77.

    Args:
        shape: The first size may be a tensor.
        seed: int32 scalar, or one for every picture, (n,); then a picture depends on its own seed alone.
        step: int32 scalar: one of many draws.
    """
    n, count = shape[0], math.prod(shape[1:])
    half = (count + 1) // 2
    seed = ops.cast(ops.convert_to_tensor(seed), "int32")
    place = ops.arange(n, dtype="int32") if len(seed.shape) == 0 else ops.zeros_like(seed)
    key = (ops.reshape(seed, (-1, 1)), ops.reshape(place, (-1, 1)))
    counter = (ops.reshape(ops.cast(step, "int32"), (1, 1)), ops.arange(half, dtype="int32")[None])
    words = threefry(key, counter)
    low = 2.0**-24
    u, v = (ops.cast(ops.bitwise_and(ops.bitwise_right_shift(w, 8), (1 << 24) - 1), "float32") for w in words)
    radius = ops.sqrt(-2.0 * ops.log((u + 1.0) * low))
    angle = (2.0 * math.pi * low) * v
    numbers = ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)], axis=1)
    return ops.reshape(numbers[:, :count], (-1, *shape[1:]))
