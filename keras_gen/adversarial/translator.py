"""Paired image-to-image translation: pix2pix (Isola et al. 2017)."""

import keras
from keras import ops

from keras_gen.adversarial import losses
from keras_gen.adversarial.losses import AdversarialLoss
from keras_gen.autoencoders.autoencoder import EVALUATION_SEED
from keras_gen.corruptions import Corruption
from keras_gen.engine import GenerativeModel, Update
from keras_gen.errors import InputError
from keras_gen.images import from_uint8, to_uint8


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class Translator(GenerativeModel):
    """A generator from sources to pictures, and a discriminator of pairs.

    Pairs are made from pictures alone: the source of a picture is what a `Corruption` makes of it (its
    grey values, its edges, a small version). The discriminator sees the source beside the picture and
    scores patches; the generator is charged for its scores and for the mean absolute error
    (arXiv:1611.07004, eq. 4).

    Args:
        generator: Sources to images in [-1, 1] of the same size.
        discriminator: [sources, images] to scores, (n, ..., 1), unbounded.
        source: Pictures to sources, of the same shape.
        loss: An `AdversarialLoss` or its name.
        weight: Of the absolute error, lambda; 0: deceiving alone.
        seed: Of what is random in `source`.

    Logs `discriminator_loss`, `generator_loss`, the mean scores `real_score` and `made_score`, and `error`:
    the mean absolute error in units in which black to white is 2.
    """

    data_key = "image"

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        source: Corruption,
        loss: "str | AdversarialLoss" = "non-saturating",
        weight: float = 100.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.data_shape = tuple(generator.output_shape[1:])
        if tuple(generator.input_shape[1:]) != self.data_shape or len(discriminator.inputs) != 2:
            raise InputError(
                "Expected a generator of images to images of the same shape, and a discriminator of sources "
                f"and images. Received: {tuple(generator.input_shape[1:])} to {self.data_shape}, and one of "
                f"{len(discriminator.inputs)} inputs."
            )
        if not weight >= 0:
            raise InputError(f"Expected a weight of 0 or more. Received: {weight}.")
        self.generator = generator
        self.discriminator = discriminator
        self.source = source
        self.loss_function = losses.get(loss)
        self.weight = weight
        self.seed = seed
        self.noise = keras.random.SeedGenerator(seed)
        self.built = True

    # --- the mathematics -----------------------------------------------------------------------

    def updates(self) -> list[Update]:
        return [
            Update(
                "discriminator",
                self._discriminator_loss,
                self.discriminator.trainable_variables,
                logs=("real_score", "made_score"),
            ),
            Update("generator", self._generator_loss, self.generator.trainable_variables, logs=("error",)),
        ]

    def sources(self, images, training: bool = False):
        """What the generator is given for pictures in [-1, 1]."""
        if training:
            return self.source(images, self.noise)
        return self.source.at(images, EVALUATION_SEED, self.noise)

    def _made(self, sources, training: bool):
        return ops.cast(self.generator(sources, training=training), "float32")

    def _scores(self, sources, images, training: bool):
        return ops.cast(self.discriminator([sources, images], training=training), "float32")

    def _discriminator_loss(self, batch, training: bool):
        images = batch[self.data_key]
        sources = self.sources(images, training)
        made = ops.stop_gradient(self._made(sources, training))
        real, fake = self._scores(sources, images, training), self._scores(sources, made, training)
        # halved, which slows the discriminator down against the generator (section 3.3)
        loss = 0.5 * self.loss_function.discriminator(real, fake)
        return loss, {"real_score": ops.mean(real), "made_score": ops.mean(fake)}

    def _generator_loss(self, batch, training: bool):
        images = batch[self.data_key]
        sources = self.sources(images, training)
        made = self._made(sources, training)
        error = ops.mean(ops.abs(made - images))
        deceived = ops.mean(self.loss_function.generator(self._scores(sources, made, training)))
        return deceived + self.weight * error, {"error": error}

    # --- use -----------------------------------------------------------------------------------

    def call(self, inputs, training: bool = False):
        """Sources in [-1, 1] to pictures."""
        sources = inputs[self.data_key] if isinstance(inputs, dict) else inputs
        return self._made(ops.cast(sources, "float32"), False)

    def translate(self, sources, seed: int = 0):
        """Sources in [-1, 1] to pictures; nothing in it is drawn, whatever the seed."""
        return self(sources)

    def signatures(self) -> dict:
        """What an export serves; see `VAE.signatures`."""
        image = ((None, *self.data_shape), "uint8", "images, 0 to 255")
        return {
            "translate": (lambda image: to_uint8(self(from_uint8(image))), {"image": image}, image),
            "source": (lambda image: to_uint8(self.sources(from_uint8(image))), {"image": image}, image),
        }

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "generator": serialize(self.generator),
            "discriminator": serialize(self.discriminator),
            "source": serialize(self.source),
            "loss": serialize(self.loss_function),
            "weight": self.weight,
            "seed": self.seed,
        }
