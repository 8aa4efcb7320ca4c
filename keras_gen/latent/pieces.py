"""Words and parts of words to numbers as CLIP has them, in Python and inside a TensorFlow graph alike."""

import functools
import itertools
import unicodedata
from collections.abc import Iterable, Sequence

import keras
import numpy as np

from keras_gen.errors import InputError
from keras_gen.parts import Part

START, END = "<|startoftext|>", "<|endoftext|>"
LONGEST = 64
"""Bytes that a graph reads for each place: pieces of words are much shorter."""
RUNS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
"""What is spelled on its own: endings, runs of letters, single digits, runs of other signs."""
SPACES = r"[\s\pZ\x0b\x1c-\x1f\x{85}]+"
"""To TensorFlow as `\\s+` is to others."""


@functools.cache
def letters() -> tuple[str, ...]:
    """The sign that stands for each byte: the byte itself where it can be seen, 256 and on elsewhere."""
    seen = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in seen]
    return tuple(chr(byte if byte in seen else 256 + hidden.index(byte)) for byte in range(256))


@keras.saving.register_keras_serializable("keras_gen.latent")
class PieceTokenizer(Part):
    """Texts to (n, length) int32 by CLIP's byte pairs (Radford et al. 2021, after Sennrich et al. 2016).

    Piece i is i + 1; 0 where there is none. No word is unknown: what is no piece is spelled. The marks of
    start and end are not among the places: `keras_gen.layers.Marked` sets them.

    Args:
        vocabulary: The pieces in the order of their numbers; the last of a word ends in `</w>`. The sign of
            every byte, with and without, is among them, and the two marks.
        merges: Pairs that are one piece, "a b", those that are joined first at the beginning.
        length: Pieces of a text; more are left out.
    """

    def __init__(self, vocabulary: Sequence[str], merges: Sequence[str], length: int = 75):
        self.vocabulary: Sequence[str] = tuple(vocabulary)
        self.merges: Sequence[str] = tuple(dict.fromkeys(merges))
        self.length = length
        self._numbers = {piece: i for i, piece in enumerate(self.vocabulary)}
        self._ranks = {(a, b): i for i, (a, b) in enumerate(merge.split(" ") for merge in self.merges)}
        needed = {START, END, *letters(), *(f"{sign}</w>" for sign in letters())}
        needed |= {a + b for a, b in self._ranks} | {a for pair in self._ranks for a in pair}
        missing = sorted(needed - self._numbers.keys())
        if missing or not self.merges or length < 1:
            received = f"no {missing[0]}" if missing else f"{len(self.merges)} merges and {length}"
            raise InputError(
                "Expected CLIP's pieces, with all bytes, marks and what merges make, and a length of 1 or "
                f"more. Received: {received}."
            )
        self._spelled = functools.lru_cache(100_000)(self._spell)

    @property
    def marks(self) -> tuple[int, int]:
        """CLIP's numbers of start and end."""
        return self._numbers[START], self._numbers[END]

    def fitted(self, texts: Iterable[str]) -> "PieceTokenizer":
        """One with places for the longest of these texts, but no more than this one has."""
        longest = max((len(self._of(text)) for text in texts), default=1)
        return PieceTokenizer(self.vocabulary, self.merges, max(1, min(self.length, longest)))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        tokens = np.zeros((len(texts), self.length), "int32")
        for row, text in zip(tokens, texts, strict=True):
            found = self._of(text)[: self.length]
            row[: len(found)] = [1 + piece for piece in found]
        return tokens

    def _of(self, text: str) -> list[int]:
        import regex  # comes with keras-cv and with keras-hub, whose networks these are the tokens of

        words = regex.findall(RUNS, unicodedata.normalize("NFC", text).lower())
        return [piece for word in words for piece in self._spelled(word)]

    def _spell(self, word: str) -> tuple[int, ...]:
        signs = [letters()[byte] for byte in word.encode("utf-8", "replace")]
        signs[-1] += "</w>"
        while True:
            ranks = [self._ranks.get(pair, len(self._ranks)) for pair in itertools.pairwise(signs)]
            first = min(ranks, default=len(self._ranks))
            if first == len(self._ranks):
                return tuple(self._numbers[sign] for sign in signs)
            i = ranks.index(first)
            signs[i : i + 2] = [signs[i] + signs[i + 1]]

    def in_graph(self, texts):
        """The same of a string tensor (n,) of composed characters (NFC), by TensorFlow's operations.

        A whole text is joined at once: no pair reaches over the end of a word, whose last piece is marked.
        """
        import tensorflow as tf

        plain = tf.strings.regex_replace(tf.strings.lower(texts, "utf-8"), SPACES, " ")
        apart = tf.strings.regex_replace(plain, f"({RUNS})", r"\1 ")
        apart = tf.strings.substr(apart, 0, LONGEST * self.length)
        signs = tf.strings.bytes_split(apart).to_tensor("")
        read = tf.cast(tf.io.decode_raw(signs, tf.uint8, fixed_length=1)[..., 0], tf.int32)
        none = (read == 0) | (read == ord(" "))
        inside = tf.constant([1 + self._numbers[sign] for sign in letters()])
        closing = tf.constant([1 + self._numbers[f"{sign}</w>"] for sign in letters()])
        last = tf.pad(none[:, 1:], [[0, 0], [0, 1]], constant_values=True)
        symbols = tf.where(none, 0, tf.where(last, tf.gather(closing, read), tf.gather(inside, read)))
        to_front = tf.argsort(tf.cast(none, tf.int32), axis=1, stable=True)
        symbols = tf.gather(symbols, to_front, batch_dims=1)

        size = len(self.vocabulary) + 1
        keys, ranks, made = map(tf.constant, self._table(size))
        never = len(self.merges)
        places = tf.range(tf.shape(symbols)[1])[None]

        def following(x):
            return tf.pad(x[:, 1:], [[0, 0], [0, 1]])

        def ranked(x):
            """Of every place, the rank of the pair that begins there."""
            pairs = tf.cast(x, tf.int64) * size + tf.cast(following(x), tf.int64)
            at = tf.searchsorted(keys, tf.reshape(pairs, [-1]))
            at = tf.reshape(tf.minimum(at, never - 1), tf.shape(pairs))
            return tf.where(tf.gather(keys, at) == pairs, tf.gather(ranks, at), never)

        def join(x, rank):
            first = tf.argmin(rank, axis=1, output_type=tf.int32)[:, None]
            lowest = tf.reduce_min(rank, axis=1, keepdims=True)
            joined = tf.gather(made, tf.minimum(lowest, never - 1))
            after = tf.where(places == first, joined, following(x))
            x = tf.where((lowest == never) | (places < first), x, after)
            return x, ranked(x)

        any_left = lambda x, rank: tf.reduce_any(rank < never)  # noqa: E731
        symbols = tf.while_loop(any_left, join, (symbols, ranked(symbols)))[0]
        return tf.pad(symbols, [[0, 0], [0, self.length]])[:, : self.length]

    def _table(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of pairs, ascending, and their ranks; and by rank, what a pair is joined to.

        Arrays, to be searched: a table would be a resource that must be initialised.
        """
        pairs = [(1 + self._numbers[a]) * size + 1 + self._numbers[b] for a, b in self._ranks]
        made = np.array([1 + self._numbers[a + b] for a, b in self._ranks], "int32")
        order = np.argsort(pairs)
        return np.array(pairs, "int64")[order], order.astype("int32"), made

    def count(self, text: str) -> int:
        """Places that a text takes."""
        return len(self._of(text))

    def unknown(self, text: str) -> list[str]:
        """None: whatever is no piece is spelled."""
        return []

    def nearest(self, word: str, n: int = 3) -> list[str]:
        """None, since none is unknown."""
        return []
