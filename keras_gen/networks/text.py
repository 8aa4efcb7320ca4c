"""A small transformer that reads tokens."""

import keras
from keras import layers

from keras_gen.errors import InputError
from keras_gen.layers import TokenEmbedding


def text_encoder(
    vocabulary: int, length: int, dim: int = 128, blocks: int = 2, heads: int = 4, dropout: float = 0.0
) -> keras.Model:
    """Tokens (n, length) int32, 0 where there is none, to contexts (n, 1 + length, dim) and their masks.

    Blocks of attention and a layer of 4 dim GELU, each normalised before (Xiong et al. 2020). Nothing
    depends on how many places are left empty.

    Args:
        vocabulary: Number of tokens, the one of empty places included.
        length: Places for tokens.
        dropout: In every block.
    """
    if vocabulary < 2 or length < 1 or dim % heads:
        raise InputError(
            "Expected 2 tokens or more, a length of 1 or more and heads that divide dim. "
            f"Received: {vocabulary}, {length}, {heads} and {dim}."
        )
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    x, mask = TokenEmbedding(vocabulary, dim)(tokens)
    seen = layers.Reshape((1, 1 + length))(mask)
    for _ in range(blocks):
        inner = layers.LayerNormalization(epsilon=1e-5)(x)
        attention = layers.MultiHeadAttention(heads, dim // heads, dropout=dropout, use_bias=False)
        x = layers.Add()([x, attention(inner, inner, attention_mask=seen)])
        inner = layers.Dense(4 * dim, activation="gelu")(layers.LayerNormalization(epsilon=1e-5)(x))
        inner = layers.Dense(dim)(inner)
        x = layers.Add()([x, layers.Dropout(dropout)(inner) if dropout else inner])
    return keras.Model(tokens, [layers.LayerNormalization(epsilon=1e-5)(x), mask], name="text_encoder")
