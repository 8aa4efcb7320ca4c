"""What a text encoder learns before it is trained with a denoiser."""

import keras
from keras import ops

from keras_gen.engine import GenerativeModel, Update
from keras_gen.errors import InputError
from keras_gen.layers import one_caption


@keras.saving.register_keras_serializable("keras_gen.latent")
class TextMean(GenerativeModel):
    """The mean of the pictures, or latents, that a text may stand for.

    It is what a denoiser has to say where nothing but noise is left of the picture, at a small part of the
    cost. There alone which thing stands where must come from the words, and a denoiser trained at all
    levels of noise did not find it: it takes a text encoder that tells roles apart and places that know
    what to look for, neither of which helps without the other.

    Loss: mean squared error.

    Args:
        text: The encoder: tokens (n, length) to contexts, masks and layouts.
        head: Layouts to the mean; of no use afterwards.
        seed: Of which of several captions is read.
    """

    data_key = "label"

    def __init__(self, text: keras.Model, head: keras.Model, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.text = text
        self.head = head
        self.seed = seed
        self.data_shape = tuple(head.output_shape[1:])
        made = [tuple(output.shape[1:]) for output in text.outputs]
        if made[2:] != [tuple(head.input_shape[1:])]:
            raise InputError(
                f"Expected an encoder with layouts of {tuple(head.input_shape[1:])}, as the head takes. "
                f"Received: {made[2] if made[2:] else 'one without layouts'}."
            )
        self.chosen = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training: bool = False):
        """Tokens (n, length) int32, or a batch with them as labels, to means."""
        tokens = inputs["label"] if isinstance(inputs, dict) else inputs
        return self.head(self.text(tokens, training=training)[2], training=training)

    def updates(self) -> list[Update]:
        return [Update("text", self._loss, self.trainable_variables)]

    def _loss(self, batch, training: bool):
        if not {"image", "label"} <= set(batch):
            raise InputError(
                f"Expected batches of images with tokens as labels. Received: {', '.join(batch)}."
            )
        tokens = one_caption(ops.cast(batch["label"], "int32"), self.chosen)
        images = ops.cast(batch["image"], "float32")
        return ops.mean((self(tokens, training=training) - images) ** 2), {}

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "text": serialize(self.text),
            "head": serialize(self.head),
            "seed": self.seed,
        }
