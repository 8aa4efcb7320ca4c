"""CLIP's text encoder, which others trained: keras-hub's network, weights and pieces."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_gen.errors import InputError
from keras_gen.latent.pieces import PieceTokenizer
from keras_gen.layers import Marked

PRESET = "clip_vit_base_patch32"
"""The smallest: 63 million parameters of its text encoder, of 12 blocks and 512 channels."""


def load_clip(preset: str = PRESET) -> tuple[PieceTokenizer, keras.Model]:
    """CLIP's tokenizer, with as many places as its text encoder has, and that encoder (Radford et al. 2021).

    What is to be fetched is fetched at the first use, by keras-hub, and kept in its cache; of the largest,
    gigabytes.

    Args:
        preset: The name of one of keras-hub's CLIP presets, a handle of Kaggle's or Hugging Face's with
            `://`, or a folder.

    Raises:
        InputError: keras-hub is not installed, there is no such preset, or it could not be fetched.
    """
    if importlib.util.find_spec("keras_hub") is None:
        raise InputError(
            "Expected keras-hub, for CLIP's text encoder. Received: an installation without. "
            'Install it: pip install -e ".[keras-hub]", or use --text-encoder words.'
        )
    from keras_hub.models import CLIPBackbone, CLIPTokenizer

    folder = Path(preset).expanduser()
    if folder.is_dir():
        preset = str(folder)
    elif preset not in CLIPBackbone.presets and "://" not in preset:
        known = ", ".join(name for name in CLIPBackbone.presets if name.startswith("clip_"))
        raise InputError(
            f"Expected a folder with a CLIP preset of keras-hub, or one of {known}. Received: {preset}."
        )

    def fetched(make: Callable[..., Any], **kwargs):
        try:
            return make(preset, **kwargs)
        except Exception as error:  # of keras-hub, kagglehub, their transport and Keras, nothing in common
            said = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            raise InputError(
                "Expected a CLIP preset of keras-hub, which fetches its own at the first use. Received: "
                f"{preset} ({said[:120]}). Try again with a network, or use --text-encoder words."
            ) from error

    read = fetched(CLIPTokenizer.from_preset)
    network = fetched(CLIPBackbone.from_preset, dtype=keras.config.dtype_policy()).text_encoder
    vocabulary = sorted(read.vocabulary, key=read.vocabulary.get)
    merges = [merge for merge in read.merges if "#version:" not in merge]
    return PieceTokenizer(vocabulary, merges, network.max_sequence_length - 2), network


@keras.saving.register_keras_serializable("keras_gen.latent")
class ClipVectors(keras.layers.Layer):
    """Tokens (n, length) to what CLIP makes of them, (n, 2 + length, channels), and masks; it is not trained.

    Its marks of start and end are set here: a text of no tokens is the empty one, and has those two alone.

    Args:
        network: CLIP's text encoder.
        start, end: Its numbers of the marks, `PieceTokenizer.marks`.
    """

    def __init__(self, network: keras.Model, start: int, end: int, **kwargs):
        super().__init__(autocast=False, **{**kwargs, "trainable": False})
        network.trainable = False
        self.network = network
        self.marked = Marked(start, end)

    def build(self, shape):
        self.marked.build(shape)
        self.built = True

    def call(self, tokens):
        marked, mask = self.marked(tokens)
        return self.network({"token_ids": marked}, training=False), mask

    def compute_output_spec(self, tokens):
        marked, mask = self.marked.compute_output_spec(tokens)
        dtype = self.network.compute_dtype
        return keras.KerasTensor((*marked.shape, self.network.hidden_dim), dtype), mask

    def get_config(self) -> dict:
        network = keras.saving.serialize_keras_object(self.network)
        return {
            **super().get_config(),
            "network": network,
            "start": self.marked.start,
            "end": self.marked.end,
        }

    @classmethod
    def from_config(cls, config: dict):
        return cls(**{**config, "network": keras.saving.deserialize_keras_object(config["network"])})
