"""Stable Diffusion 1.4: keras-cv's networks, weights and vocabulary, behind this suite's samplers."""

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gen.diffusion import Diffusion
from keras_gen.errors import InputError
from keras_gen.latent.autoencoder import LARGEST, LatentAutoencoder
from keras_gen.latent.pieces import PieceTokenizer
from keras_gen.latent.pipeline import TextToImage
from keras_gen.layers import Marked

LICENCE = "CreativeML Open RAIL-M, https://raw.githubusercontent.com/CompVis/stable-diffusion/main/LICENSE"
LENGTH = 77
"""Places for pieces and the marks of start and end."""
FACTOR = 8
"""Pictures are so many times as wide and high as their latents; sides are multiples of 16 times that."""


def stable_diffusion(size: int = 512, trained: bool = True, vocabulary: str | None = None) -> TextToImage:
    """Stable Diffusion (Rombach et al. 2022) with everything that `TextToImage.generate` takes.

    4.3 GB of weights are fetched at the first use, by keras-cv, and kept in Keras' cache.

    Args:
        size: Side of the pictures, a multiple of 128; 512 is what it was trained on.
        trained: False: weights as they are drawn at random, nothing is fetched.
        vocabulary: File of CLIP's byte pairs (.txt.gz); by default it is fetched too.

    Raises:
        InputError: keras-cv is not installed, something could not be fetched, or another size.
    """
    if size < 128 or size % 128:
        raise InputError(f"Expected a size that 128 divides, for Stable Diffusion. Received: {size}.")
    if importlib.util.find_spec("keras_cv") is None or importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            "Expected keras-cv and TensorFlow, for Stable Diffusion. Received: an installation without. "
            'Install them: pip install -e ".[tensorflow,keras-cv]", or leave --model out.'
        )
    from keras_cv.models import stable_diffusion as parts

    def fetched(part: str, make: Callable[[], Any]):
        try:
            return make()
        except Exception as error:  # Keras raises no narrower one where a file cannot be fetched
            if isinstance(error, OSError) or "fetch" in str(error) or "corrupted" in str(error):
                raise InputError(
                    f"Expected Stable Diffusion's {part}, fetched at the first use. Received: "
                    f"{str(error).splitlines()[0]}. Try again with a network, or leave --model out."
                ) from error
            raise

    read = fetched("vocabulary", lambda: parts.SimpleTokenizer(vocabulary))
    tokenizer = PieceTokenizer(read.vocab, [" ".join(pair) for pair in read.bpe_ranks], LENGTH - 2)
    text = fetched("text encoder", lambda: parts.TextEncoder(LENGTH, download_weights=trained))
    network = fetched("denoiser", lambda: parts.DiffusionModel(size, size, LENGTH, download_weights=trained))
    encoder = fetched("image encoder", lambda: parts.ImageEncoder(download_weights=trained))
    decoder = fetched("decoder", lambda: parts.Decoder(size, size, download_weights=trained))
    latent = (size // FACTOR, size // FACTOR, 4)
    diffusion = Diffusion(
        _denoiser(network, latent),
        "scaled-linear",
        "epsilon",
        text=_reader(text, tokenizer),
        ema=0,
        clip=False,
        steps=25,
        guidance=7.5,
    )
    stage = LatentAutoencoder(_encoder(encoder, size), decoder)
    return TextToImage(diffusion, tokenizer, stage)


def _denoiser(network: keras.Model, latent: tuple[int, int, int]) -> keras.Model:
    """Theirs takes an embedding of the time."""
    image, time = keras.Input(latent, name="image"), keras.Input((), name="time")
    context, mask = keras.Input((LENGTH, 768), name="context"), keras.Input((LENGTH,), name="mask")
    rates = np.exp(-math.log(10_000) * np.arange(160, dtype="float32") / 160)
    angles = ops.expand_dims(time, -1) * rates
    embedded = ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)
    output = network([image, embedded, context])
    return keras.Model([image, time, context, mask], output, name="denoiser")


def _reader(text: keras.Model, tokenizer: PieceTokenizer) -> keras.Model:
    """Theirs takes marks and places; zeros alone are the empty text, which guidance leads away from."""
    tokens = keras.Input((tokenizer.length,), dtype="int32", name="tokens")
    marked, mask = Marked(*tokenizer.marks)(tokens)
    places = ops.arange(LENGTH, dtype="int32") + ops.zeros_like(marked)
    # it was trained to look at all places, empty ones too
    return keras.Model(tokens, [text([marked, places]), ops.ones_like(mask)], name="text_encoder")


def _encoder(encoder: keras.Model, size: int) -> keras.Model:
    """Theirs gives means alone."""
    image = keras.Input((size, size, 3), name="image")
    mean = encoder(image)
    sure = ops.full_like(mean, -LARGEST)
    return keras.Model(image, ops.concatenate([mean, sure], axis=-1), name="encoder")
