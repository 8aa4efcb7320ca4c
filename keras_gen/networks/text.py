"""A small transformer that reads tokens, and places that look at what it makes of them."""

import keras
from keras import layers

from keras_gen.errors import InputError
from keras_gen.layers import CrossAttention, DirectedMask, Places, TokenEmbedding


def text_encoder(
    vocabulary: int,
    length: int,
    dim: int = 128,
    blocks: int = 2,
    heads: int = 4,
    dropout: float = 0.0,
    layout: tuple[int, int, int] | None = None,
    vectors: layers.Layer | None = None,
) -> keras.Model:
    """Tokens (n, length) int32, 0 where there is none, to contexts (n, 1 + length, dim) and their masks.

    With a layout to maps (n, rows, columns, channels) too: in as many blocks of their own the places of a
    picture, which begin alike for every text, look at the contexts.

    Blocks of attention, half of its heads forward and half backward, and a layer of 4 dim GELU, each
    normalised before (Xiong et al. 2020). Nothing depends on how many places are left empty.

    Args:
        vocabulary: Number of tokens, the one of empty places included.
        length: Places for tokens.
        dropout: In every block.
        layout: (rows, columns, channels), or None.
        vectors: In place of vectors learned here: a layer of tokens to vectors (n, places, any) and masks (n,
            places), such as `keras_gen.latent.ClipVectors`; contexts have its places, not 1 + length.
    """
    if vocabulary < 2 or length < 1 or dim % heads:
        raise InputError(
            "Expected 2 tokens or more, a length of 1 or more and heads that divide dim. "
            f"Received: {vocabulary}, {length}, {heads} and {dim}."
        )
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    if vectors is None:
        x, mask = TokenEmbedding(vocabulary, dim)(tokens)
    else:
        x, mask = vectors(tokens)
        x = layers.Dense(dim, name="narrowed")(x)
    seen = DirectedMask(heads)(mask)
    for _ in range(blocks):
        inner = layers.LayerNormalization(epsilon=1e-5)(x)
        attention = layers.MultiHeadAttention(heads, dim // heads, dropout=dropout, use_bias=False)
        x = layers.Add()([x, attention(inner, inner, attention_mask=seen)])
        inner = layers.Dense(4 * dim, activation="gelu")(layers.LayerNormalization(epsilon=1e-5)(x))
        inner = layers.Dense(dim)(inner)
        x = layers.Add()([x, layers.Dropout(dropout)(inner) if dropout else inner])
    told = [layers.LayerNormalization(epsilon=1e-5)(x), mask]
    if layout is not None:
        told.append(_layout(layout, blocks, heads, *told))
    return keras.Model(tokens, told, name="text_encoder")


def _layout(shape: tuple[int, int, int], blocks: int, heads: int, contexts, masks):
    x = Places(shape)(contexts)
    for _ in range(blocks):
        inner = layers.LayerNormalization(epsilon=1e-5)(x)
        x = layers.Add()([x, CrossAttention(heads)(inner, contexts, masks)])
        inner = layers.Dense(4 * shape[2], activation="gelu")(layers.LayerNormalization(epsilon=1e-5)(x))
        x = layers.Add()([x, layers.Dense(shape[2])(inner)])
    return layers.LayerNormalization(epsilon=1e-5)(x)


def layout_head(layout: tuple[int, int, int], shape: tuple[int, int, int]) -> keras.Model:
    """Layouts to maps of another shape: each place makes a rectangle of them, linearly."""
    patch = (shape[0] // layout[0], shape[1] // layout[1])
    if (layout[0] * patch[0], layout[1] * patch[1]) != tuple(shape[:2]):
        raise InputError(f"Expected a layout whose sides divide those of {shape}. Received: {layout}.")
    inputs = keras.Input(layout, name="layout")
    maps = layers.Conv2DTranspose(shape[2], patch, patch, dtype="float32")(inputs)
    return keras.Model(inputs, maps, name="layout_head")
