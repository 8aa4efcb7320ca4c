"""Words to numbers, in Python and inside a TensorFlow graph alike."""

import collections
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import keras
import numpy as np

from keras_gen.errors import InputError
from keras_gen.parts import Part


def words_of(text: str) -> list[str]:
    """Runs of letters and digits of any script, in lower case."""
    return re.findall(r"[^\W_]+", text.lower())


class Tokenizer(Protocol):
    """What `TextToImage` asks of one; see `WordTokenizer`."""

    vocabulary: Sequence[str]
    length: int

    def __call__(self, texts: Sequence[str]) -> np.ndarray: ...

    def in_graph(self, texts): ...

    def count(self, text: str) -> int: ...

    def unknown(self, text: str) -> list[str]: ...

    def nearest(self, word: str, n: int = 3) -> list[str]: ...


@keras.saving.register_keras_serializable("keras_gen.latent")
class WordTokenizer(Part):
    """Texts to (n, length) int32: word i of the vocabulary is i + 1; 0 where there is none, or none known.

    Args:
        vocabulary: Words as `words_of` gives them.
        length: Words of a text; more are left out.
    """

    def __init__(self, vocabulary: Sequence[str], length: int):
        if not vocabulary or length < 1:
            raise InputError(
                f"Expected a word or more, and a length of 1 or more. Received: {len(vocabulary)}, {length}."
            )
        self.vocabulary: Sequence[str] = tuple(vocabulary)
        self.length = length
        self._numbers = {word: i + 1 for i, word in enumerate(self.vocabulary)}

    @classmethod
    def learned(cls, texts: Iterable[str], least: int = 1, most: int = 10_000) -> "WordTokenizer":
        """The words that occur `least` times or more, commonest first, and places for the longest text.

        Args:
            most: So many words at most.
        """
        counts: collections.Counter = collections.Counter()
        length = 1
        for text in texts:
            found = words_of(text)
            counts.update(found)
            length = max(length, len(found))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [word for word, count in ranked[:most] if count >= least]
        if not kept:
            raise InputError("Expected captions with words in them. Received: none.")
        return cls(kept, length)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        tokens = np.zeros((len(texts), self.length), "int32")
        for row, text in zip(tokens, texts, strict=True):
            numbers = [self._numbers.get(word, 0) for word in words_of(text)[: self.length]]
            row[: len(numbers)] = numbers
        return tokens

    def in_graph(self, texts):
        """The same of a string tensor (n,), by TensorFlow's operations."""
        import tensorflow as tf

        # the same runs as `words_of`; \pL and \pN are letters and digits of any script
        plain = tf.strings.regex_replace(tf.strings.lower(texts, "utf-8"), r"[^\pL\pN]+", " ")
        words = tf.strings.split(tf.strings.strip(plain)).to_tensor("", shape=(None, self.length))
        # compared with all: no table, which would be a resource that must be initialised
        same = tf.cast(words[..., None] == tf.constant(self.vocabulary), tf.int32)
        return tf.reduce_sum(same * tf.range(1, len(self.vocabulary) + 1), axis=-1)

    def count(self, text: str) -> int:
        """Places that a text takes."""
        return len(words_of(text))

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not in the vocabulary, each once."""
        return [word for word in dict.fromkeys(words_of(text)) if word not in self._numbers]

    def nearest(self, word: str, n: int = 3) -> list[str]:
        """Words of the vocabulary that are spelled most like it."""
        return difflib.get_close_matches(word, self.vocabulary, n, cutoff=0.5)
