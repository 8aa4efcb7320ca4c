"""Bits: from real codes, packed into bytes and words, and how far apart they are."""

import numpy as np

from keras_gen.errors import InputError


def bits_of(codes: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    """Codes (n, d) to bits (n, d), uint8 of 0 and 1: 1 above the threshold of its dimension."""
    return (np.asarray(codes) > thresholds).astype("uint8")


def pack(bits: np.ndarray) -> np.ndarray:
    """Bits (n, d) of 0 and 1 to bytes (n, ceil(d / 8)), uint8: the first bit is the highest.

    The last byte is filled up with zeros, which no distance sees.

    Raises:
        InputError: Anything else than a matrix of 0 and 1.
    """
    bits = np.asarray(bits)
    if bits.ndim != 2 or not bits.shape[1] or not np.isin(bits, (0, 1)).all():
        raise InputError(
            f"Expected bits of shape (n, bits), 0 or 1. Received: {bits.dtype} of shape {bits.shape}."
        )
    return np.packbits(bits.astype("uint8"), axis=1)


def unpack(packed: np.ndarray, bits: int) -> np.ndarray:
    """What `pack` made of (n, bits)."""
    return np.unpackbits(checked_packed(packed, bits), axis=1, count=bits)


def checked_packed(packed: np.ndarray, bits: int) -> np.ndarray:
    """`packed` if it holds codes of `bits` bits: (n, ceil(bits / 8)), uint8, zeros at the end.

    Raises:
        InputError: It does not.
    """
    packed = np.asarray(packed)
    if bits < 1:
        raise InputError(f"Expected codes of 1 bit or more. Received: {bits}.")
    if packed.ndim != 2 or packed.shape[1] != -(-bits // 8) or packed.dtype != np.uint8:
        raise InputError(
            f"Expected packed codes of {bits} bits, uint8 of shape (n, {-(-bits // 8)}). "
            f"Received: {packed.dtype} of shape {packed.shape}. Pack them with pack(bits)."
        )
    if bits % 8 and (packed[:, -1] & (0xFF >> bits % 8)).any():
        raise InputError(f"Expected zeros after the {bits} bits of a code. Received: longer codes.")
    return packed


def to_words(packed: np.ndarray) -> np.ndarray:
    """Bytes (n, b) to the widest words that the processor counts bits of, (n, w).

    One word of 8, 16 or 32 bits for codes that fit it, otherwise as many of 64 as it takes.
    """
    size = packed.shape[1]
    width = next((w for w in (1, 2, 4) if size <= w), 8)
    padded = np.zeros((len(packed), -(-size // width) * width), "uint8")
    padded[:, :size] = packed
    return padded.view(f"uint{8 * width}")


def distances(words: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Hamming distances of words (n, w) to one query (w,): (n,) of a small integer type."""
    if words.shape[1] == 1:
        return np.bitwise_count(words[:, 0] ^ query[0])
    return np.bitwise_count(words ^ query).sum(axis=1, dtype="uint16")


def bit_balance(bits: np.ndarray) -> np.ndarray:
    """The share of ones of each bit, (d,). 0.5 says most; 0 and 1 are dead."""
    return np.asarray(bits).mean(axis=0)
