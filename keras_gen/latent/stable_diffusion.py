"""Stable Diffusion 1.4: keras-cv's networks, weights and vocabulary, behind this suite's samplers."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gen.diffusion import Diffusion
from keras_gen.errors import InputError
from keras_gen.latent.autoencoder import LARGEST, LatentAutoencoder
from keras_gen.latent.pipeline import TextToImage

LICENCE = "CreativeML Open RAIL-M, https://raw.githubusercontent.com/CompVis/stable-diffusion/main/LICENSE"
LENGTH = 77
"""Places for tokens, of which the first and the last mark start and end."""
FACTOR = 8
"""Pictures are so many times as wide and high as their latents; sides are multiples of 16 times that."""


class PieceTokenizer:
    """Texts to (n, 77) int32 by CLIP's byte pairs (Radford et al. 2021): piece i is i + 1, 0 where none is.

    Args:
        pieces: keras-cv's `SimpleTokenizer`.
    """

    vocabulary: Sequence[str] = ()
    length = LENGTH

    def __init__(self, pieces):
        self.pieces = pieces

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        tokens = np.zeros((len(texts), LENGTH), "int32")
        for row, text in zip(tokens, texts, strict=True):
            found = self._of(text)[: LENGTH - 2]
            row[1 : 1 + len(found)] = [1 + piece for piece in found]
        return tokens

    def _of(self, text: str) -> list[int]:
        """Without the marks of start and end."""
        return self.pieces.encode(text)[1:-1]

    def in_graph(self, texts):
        raise InputError(
            "Expected a tokenizer that runs in a graph, to export. Received: Stable Diffusion's."
        )

    def count(self, text: str) -> int:
        """Places that a text takes."""
        return 2 + len(self._of(text))

    def unknown(self, text: str) -> list[str]:
        """None: whatever is no word is spelled."""
        return []

    def nearest(self, word: str, n: int = 3) -> list[str]:
        return []


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

    pieces = fetched("vocabulary", lambda: parts.SimpleTokenizer(vocabulary))
    text = fetched("text encoder", lambda: parts.TextEncoder(LENGTH, download_weights=trained))
    network = fetched("denoiser", lambda: parts.DiffusionModel(size, size, LENGTH, download_weights=trained))
    encoder = fetched("image encoder", lambda: parts.ImageEncoder(download_weights=trained))
    decoder = fetched("decoder", lambda: parts.Decoder(size, size, download_weights=trained))
    latent = (size // FACTOR, size // FACTOR, 4)
    diffusion = Diffusion(
        _denoiser(network, latent),
        "scaled-linear",
        "epsilon",
        text=_reader(text, pieces),
        ema=0,
        clip=False,
        steps=25,
        guidance=7.5,
    )
    stage = LatentAutoencoder(_encoder(encoder, size), decoder)
    return TextToImage(diffusion, PieceTokenizer(pieces), stage)


def _denoiser(network: keras.Model, latent: tuple[int, int, int]) -> keras.Model:
    """Theirs takes an embedding of the time."""
    image, time = keras.Input(latent, name="image"), keras.Input((), name="time")
    context, mask = keras.Input((LENGTH, 768), name="context"), keras.Input((LENGTH,), name="mask")
    rates = np.exp(-math.log(10_000) * np.arange(160, dtype="float32") / 160)
    angles = ops.expand_dims(time, -1) * rates
    embedded = ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)
    output = network([image, embedded, context])
    return keras.Model([image, time, context, mask], output, name="denoiser")


def _reader(text: keras.Model, pieces) -> keras.Model:
    """Tokens of `PieceTokenizer` to contexts; the marks of start and end are set here.

    So zeros alone are the empty text, which is what guidance leads away from.
    """
    tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
    places = ops.arange(LENGTH, dtype="int32") + ops.zeros_like(tokens)
    spelled = ops.where(tokens > 0, tokens - 1, pieces.end_of_text)
    marked = ops.where(ops.equal(places, 0), pieces.start_of_text, spelled)
    context = text([marked, places])
    # it was trained to look at all places, empty ones too
    return keras.Model(tokens, [context, ops.ones_like(tokens, dtype="float32")], name="text_encoder")


def _encoder(encoder: keras.Model, size: int) -> keras.Model:
    """Theirs gives means alone."""
    image = keras.Input((size, size, 3), name="image")
    mean = encoder(image)
    sure = ops.full_like(mean, -LARGEST)
    return keras.Model(image, ops.concatenate([mean, sure], axis=-1), name="encoder")
