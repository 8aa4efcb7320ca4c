"""Encoders and decoders cut into their layers, for training one pair at a time."""

import itertools

import keras

from keras_gen.errors import InputError


def mirrored_blocks(encoder: keras.Model, decoder: keras.Model) -> list[tuple[keras.Model, keras.Model]]:
    """The pairs (encoding layer, the decoding layer that undoes it), from the data inward.

    Each is a model that shares its weights with the whole. Layers without weights go with the
    weighted one after them in the encoder, before them in the decoder.

    Raises:
        InputError: The two are not mirror images of each other, chains of as many layers.
    """
    inward, outward = _blocks(encoder), _blocks(decoder, backward=True)
    if len(inward) != len(outward):
        raise InputError(
            "Expected as many layers in the decoder as in the encoder, to train them in pairs. "
            f"Received: {len(inward)} and {len(outward)}. Mirror the decoder, or train all at once."
        )
    return list(zip(inward, outward, strict=True))


def _blocks(network: keras.Model, backward: bool = False) -> list[keras.Model]:
    chain = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    if any(after.input is not before.output for before, after in itertools.pairwise(chain)):
        raise InputError(
            "Expected an encoder and a decoder that are plain chains of layers, to train them layer by "
            f"layer. Received: {network.name}, which branches. Train all of it at once."
        )
    ordered = chain[::-1] if backward else chain
    groups: list[list[keras.layers.Layer]] = [[]]
    for i, layer in enumerate(ordered):
        # the last group takes what is left over
        if groups[-1] and groups[-1][-1].weights and any(later.weights for later in ordered[i:]):
            groups.append([])
        groups[-1].append(layer)
    return [keras.Model(*(_ends(group[::-1] if backward else group))) for group in groups]


def _ends(group: list[keras.layers.Layer]):
    return group[0].input, group[-1].output
