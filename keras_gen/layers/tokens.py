"""Tokens to vectors."""

import keras
from keras import layers, ops

from keras_gen.errors import InputError


def one_caption(tokens, seed):
    """Of several captions of each picture, (n, captions, length), one by chance; (n, length) stay.

    Args:
        seed: A `keras.random.SeedGenerator`.
    """
    if len(tokens.shape) < 3:
        return tokens
    n, captions = ops.shape(tokens)[0], tokens.shape[1]
    chosen = keras.random.randint((n, 1, 1), 0, captions, seed=seed)
    return ops.sum(ops.where(ops.arange(captions)[None, :, None] == chosen, tokens, 0), axis=1)


@keras.saving.register_keras_serializable("keras_gen.layers")
class TokenEmbedding(layers.Layer):
    """Tokens (n, length), 0 where there is none, to vectors (n, 1 + length, dim) and masks (n, 1 + length).

    The vector at the front is the same for every text and never masked: a text of no tokens has it alone.
    Vectors begin with unit variance: much smaller ones would drown in what a transformer's first block adds,
    which at the beginning is alike at every place, and texts would be told as bags of words.

    Args:
        vocabulary: Tokens are 1 to below this.
        dim: Of the vectors.
    """

    def __init__(self, vocabulary: int, dim: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.vocabulary = vocabulary
        self.dim = dim

    def build(self, shape):
        def table(rows: int, name: str):
            start = keras.initializers.RandomNormal(stddev=0.5**0.5)
            return self.add_weight((rows, self.dim), initializer=start, name=name)

        self.words = table(self.vocabulary, "words")
        self.places = table(shape[-1], "places")
        self.front = table(1, "front")

    def call(self, tokens):
        vectors = ops.take(self.words, tokens, axis=0) + self.places
        front = ops.zeros_like(vectors[:, :1]) + self.front
        vectors = ops.cast(ops.concatenate([front, vectors], axis=1), self.compute_dtype)
        there = ops.cast(tokens > 0, "float32")
        return vectors, ops.concatenate([ops.ones_like(there[:, :1]), there], axis=1)

    def compute_output_spec(self, tokens):
        shape = (tokens.shape[0], 1 + tokens.shape[1])
        return keras.KerasTensor((*shape, self.dim), self.compute_dtype), keras.KerasTensor(shape, "float32")

    def get_config(self):
        return {**super().get_config(), "vocabulary": self.vocabulary, "dim": self.dim}


@keras.saving.register_keras_serializable("keras_gen.layers")
class Marked(layers.Layer):
    """Tokens (n, length) to (n, 2 + length) as CLIP numbers them, and masks: its marks around every text.

    Token i + 1 is CLIP's i. What is left empty behind the end repeats its mark, as in CLIP's training; it
    is masked, and nothing looks ahead to it.

    Args:
        start, end: CLIP's numbers of the marks.
    """

    def __init__(self, start: int, end: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.start = start
        self.end = end

    def call(self, tokens):
        there = ops.cast(tokens > 0, "int32")
        pieces = there * (tokens - 1) + (1 - there) * self.end
        mark = ops.zeros_like(pieces[:, :1])
        marked = ops.concatenate([mark + self.start, pieces, mark + self.end], axis=1)
        one = ops.ones_like(there[:, :1])
        return marked, ops.cast(ops.concatenate([one, one, there], axis=1), "float32")

    def compute_output_spec(self, tokens):
        shape = (tokens.shape[0], 2 + tokens.shape[1])
        return keras.KerasTensor(shape, "int32"), keras.KerasTensor(shape, "float32")

    def get_config(self):
        return {**super().get_config(), "start": self.start, "end": self.end}


@keras.saving.register_keras_serializable("keras_gen.layers")
class DirectedMask(layers.Layer):
    """Masks of tokens (n, length) to masks of attention (n, heads, length, length), 1 where i may look at j.

    Half of the heads look at what stands before a token, half at what stands after it, all at itself
    (Shen et al. 2018, arXiv:1709.04696). "Before or after" is then told without being learned: in "a left
    of b" what b gets from "left" differs at once from what a gets.

    Args:
        heads: An even number.
    """

    def __init__(self, heads: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if heads < 2 or heads % 2:
            raise InputError(f"Expected an even number of heads. Received: {heads}.")
        self.heads = heads

    def call(self, there):
        place = ops.arange(there.shape[1])
        before = place[None, :] <= place[:, None]
        half = self.heads // 2
        ways = ops.stack([before] * half + [ops.transpose(before)] * half)
        seen = ops.logical_and(ways[None], there[:, None, None, :] > 0.5)
        return ops.logical_or(seen, place[None, :] == place[:, None])

    def compute_output_spec(self, there):
        return keras.KerasTensor((there.shape[0], self.heads, there.shape[1], there.shape[1]), "bool")

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}
