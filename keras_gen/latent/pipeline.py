"""Text to picture: a tokenizer, a diffusion model with its text encoder, and the first stage's decoder."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gen.diffusion import Diffusion
from keras_gen.engine import GenerativeModel, to_numpy
from keras_gen.errors import InputError
from keras_gen.images import to_uint8
from keras_gen.latent.autoencoder import LatentAutoencoder
from keras_gen.latent.tokenizer import Tokenizer


@keras.saving.register_keras_serializable("keras_gen.latent")
class TextToImage(GenerativeModel):
    """Pictures by prompt (Rombach et al. 2022). The parts are trained on their own; nothing here is.

    Args:
        diffusion: With a text encoder, of latents or, without an autoencoder, of pictures.
        tokenizer: As the text encoder was trained with.
        autoencoder: The first stage, or None.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        tokenizer: Tokenizer,
        autoencoder: LatentAutoencoder | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if diffusion.text is None:
            raise InputError("Expected a diffusion model with a text encoder. Received: one without.")
        if diffusion.text.input_shape[1] != tokenizer.length:
            raise InputError(
                f"Expected a tokenizer of {diffusion.text.input_shape[1]} places, as the text encoder has. "
                f"Received: {tokenizer.length}."
            )
        if autoencoder is not None and autoencoder.latent_shape != diffusion.data_shape:
            raise InputError(
                f"Expected an autoencoder with latents of {diffusion.data_shape}, as the diffusion model "
                f"makes. Received: {autoencoder.latent_shape}."
            )
        self.diffusion = diffusion
        self.tokenizer = tokenizer
        self.autoencoder = autoencoder
        self.data_shape = diffusion.data_shape if autoencoder is None else autoencoder.data_shape
        self.built = True

    def call(self, inputs, training: bool = False):
        """Pictures in [-1, 1] to themselves, by way of the latents."""
        return self.decode(self.encode(inputs))

    def encode(self, images):
        """Pictures in [-1, 1] to what the diffusion model works in."""
        return images if self.autoencoder is None else self.autoencoder.encode(images)

    def decode(self, latents):
        """And back."""
        return latents if self.autoencoder is None else self.autoencoder.decode(latents)

    def generate(
        self,
        prompts: Sequence[str],
        seed=0,
        steps: int | None = None,
        guidance: float | None = None,
        negative: str = "",
        sampler=None,
        init=None,
        strength: float = 1.0,
        mask=None,
        watch: Callable[[int, Any], None] | None = None,
        every: int | None = None,
    ):
        """Pictures (n, height, width, c) in [-1, 1], one for each prompt.

        Args:
            prompts: n texts; an empty one asks for nothing in particular.
            seed: One for all, or one for each picture.
            steps, guidance, sampler: Other than the diffusion model's own.
            negative: A text that guidance leads away from.
            init: Pictures in [-1, 1] to start from, (n, height, width, c) or (1, ...).
            strength: How much of the way from noise is gone with `init`: 0 gives it back, 1 takes nothing
                of it but what `mask` keeps.
            mask: (n or 1, height, width, 1): 1 where to draw anew; elsewhere the result is `init`, exactly.
            watch: Called with the number of steps done and the pictures that the network sees by then.
            every: After so many steps.

        Raises:
            InputError: A prompt that is not in a list, a strength beyond 0 to 1, a number of steps that
                cannot be, or a mask without `init`.
        """
        if isinstance(prompts, str):
            raise InputError(f"Expected a list of prompts. Received: {prompts!r} alone; put it in brackets.")
        if not 0 <= strength <= 1:
            raise InputError(f"Expected a strength of 0 to 1. Received: {strength}.")
        if mask is not None and init is None:
            raise InputError("Expected a picture to start from, with a mask. Received: none.")
        diffusion = self.diffusion
        steps = diffusion.checked_steps(diffusion.steps if steps is None else steps)
        tokens = self.tokenizer(prompts)
        chosen: dict[str, Any] = {"guidance": guidance, "sampler": sampler, "every": every}
        if negative:
            chosen["against"] = self.tokenizer([negative])
        if watch is not None:
            chosen["watch"] = lambda done, x, clean: watch(done, self.decode(clean))
        if init is None:
            return self.decode(
                diffusion.sample(len(prompts), condition=tokens, seed=seed, steps=steps, **chosen)
            )
        n = len(prompts)
        init = np.broadcast_to(to_numpy(init), (n, *self.data_shape))
        latents = self.encode(init)
        first = steps - round(strength * steps)
        if mask is not None:
            mask = np.broadcast_to(np.asarray(mask, "float32"), (n, *self.data_shape[:2], 1))
            chosen |= {"known": latents, "mask": 1.0 - self._of_latents(mask)}
        made = init
        if first < steps:
            start = diffusion.noised(latents, first, steps, seed)
            made = self.decode(
                diffusion.sample_from(start, condition=tokens, seed=seed, steps=steps, first=first, **chosen)
            )
        if mask is None:
            return made
        return np.where(mask > 0.5, to_numpy(made), init)

    def _of_latents(self, mask: np.ndarray) -> np.ndarray:
        """A mask of pictures, as one of latents: whatever a place has a part in is drawn anew."""
        rows, columns = self.diffusion.data_shape[:2]
        height, width = self.data_shape[:2]
        blocks = mask.reshape(len(mask), rows, height // rows, columns, width // columns, 1)
        return blocks.max(axis=(2, 4))

    def for_use(self) -> "TextToImage":
        """A copy that draws the same, without what only training needs."""
        stage = None if self.autoencoder is None else self.autoencoder.for_use()
        return TextToImage(self.diffusion.for_use(), self.tokenizer, stage)

    def signatures(self) -> dict:
        """What an export serves; see `VAE.signatures`. Prompts are strings: the tokenizer is inside."""
        diffusion = self.diffusion
        image: Any = ((None, *self.data_shape), "uint8", "images, 0 to 255")
        longest = diffusion.schedule.longest
        most = "" if longest is None else f" to {longest}"
        inputs: Any = {
            "prompts": ((None,), "string", "one for each picture"),
            "seed": ((), "int32", "same seed, same pictures"),
            "steps": ((), "int32", f"1{most}, {diffusion.steps} by default"),
            "guidance": ((), "float32", f"1: none; {diffusion.guidance:g} by default"),
        }

        def decoded(latents):
            return to_uint8(latents if self.autoencoder is None else self.autoencoder._decoded(latents))

        def generate(prompts, seed, steps, guidance):
            tokens = self.tokenizer.in_graph(prompts)
            made = diffusion.sample_in_graph(ops.shape(tokens)[0], seed, steps, guidance, tokens)
            return decoded(made)

        serves: dict[str, Any] = {"generate": (generate, inputs, image)}
        if self.autoencoder is not None:
            serves |= self.autoencoder.signatures()
        return serves

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "diffusion": serialize(self.diffusion),
            "tokenizer": serialize(self.tokenizer),
            "autoencoder": None if self.autoencoder is None else serialize(self.autoencoder),
        }
