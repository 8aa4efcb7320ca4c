"""A VAE whose reconstructions are compared in a discriminator's features (Larsen et al. 2016)."""

import keras
from keras import ops

from keras_gen.adversarial import losses
from keras_gen.adversarial.losses import AdversarialLoss
from keras_gen.engine import GenerativeModel, Update, normal
from keras_gen.errors import InputError
from keras_gen.images import from_uint8, to_uint8
from keras_gen.variational.vae import kl_to_standard_normal


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class VAEGAN(GenerativeModel):
    """Encoder, generator and discriminator, moved in turn (arXiv:1512.09300, algorithm 1).

    The generator is decoder of the one and generator of the other. A pixel-wise likelihood, which blurs,
    gives way to a Gaussian one of unit variance on the activations of one of the discriminator's layers
    (eq. 7).

    Args:
        encoder: Images to 2 d numbers: mean and log variance of q(z|x).
        generator: Codes (n, d) to images in [-1, 1].
        discriminator: Images to scores (n, 1), unbounded.
        layer: Name of the discriminator's layer that reconstructions are compared at.
        loss: An `AdversarialLoss` or its name.
        beta: Weight of the divergence.
        gamma: Weight of the reconstruction in the generator's loss, against deceiving the discriminator.
        seed: Of the noise in training.

    Logs `discriminator_loss`, `encoder_loss`, `generator_loss`, the mean scores `real_score` and
    `made_score`, `kl` in nats and `similarity`, half the squared distance of features.
    """

    data_key = "image"

    def __init__(
        self,
        encoder: keras.Model,
        generator: keras.Model,
        discriminator: keras.Model,
        layer: str,
        loss: "str | AdversarialLoss" = "non-saturating",
        beta: float = 1.0,
        gamma: float = 1e-3,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.latent_dim = generator.input_shape[-1]
        self.data_shape = tuple(generator.output_shape[1:])
        ends = tuple(encoder.input_shape[1:]), encoder.output_shape[-1]
        if ends != (self.data_shape, 2 * self.latent_dim):
            raise InputError(
                f"Expected an encoder of {self.data_shape} to {2 * self.latent_dim} numbers. "
                f"Received: one of {ends[0]} to {ends[1]}."
            )
        names = [part.name for part in discriminator.layers]
        if layer not in names:
            raise InputError(
                f"Expected a layer of the discriminator: {', '.join(names)}. Received: {layer!r}."
            )
        for name, value in (("beta", beta), ("gamma", gamma)):
            if not value >= 0:
                raise InputError(f"Expected {name} of 0 or more. Received: {value}.")
        self.encoder = encoder
        self.generator = generator
        self.discriminator = discriminator
        self.layer = layer
        self.loss_function = losses.get(loss)
        self.beta = beta
        self.gamma = gamma
        self.seed = seed
        self.noise = keras.random.SeedGenerator(seed)
        # the same layers: a second way out of the discriminator
        features = discriminator.get_layer(layer).output
        self._scored = keras.Model(discriminator.input, [discriminator.output, features])
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
            Update(
                "encoder", self._encoder_loss, self.encoder.trainable_variables, logs=("kl", "similarity")
            ),
            Update("generator", self._generator_loss, self.generator.trainable_variables),
        ]

    def posterior(self, images, training: bool = False):
        """Mean and log variance of q(z|x), each (n, d) in float32."""
        encoded = ops.cast(self.encoder(images, training=training), "float32")
        mean, log_var = ops.split(encoded, 2, axis=-1)
        return mean, log_var

    def draw(self, n) -> dict:
        """What is random in an update on n pictures: tests hand in their own."""
        shape = (n, self.latent_dim)
        return {
            name: keras.random.normal(shape, dtype="float32", seed=self.noise)
            for name in ("posterior", "prior")
        }

    def _passed(self, batch, training: bool):
        """Images, their posterior, and images made of a sample of it and of the prior."""
        images = batch[self.data_key]
        drawn = self.draw(ops.shape(images)[0])
        mean, log_var = self.posterior(images, training)
        z = mean + ops.exp(0.5 * log_var) * drawn["posterior"]
        again = ops.cast(self.generator(z, training=training), "float32")
        fresh = ops.cast(self.generator(drawn["prior"], training=training), "float32")
        return images, (mean, log_var), again, fresh

    def _judged(self, images, training: bool):
        """Scores (n,) and the layer's activations (n, ...)."""
        score, features = self._scored(images, training=training)
        return ops.cast(score, "float32")[:, 0], ops.cast(features, "float32")

    def _similarity(self, features, others):
        axes = tuple(range(1, len(features.shape)))
        return 0.5 * ops.mean(ops.sum((features - others) ** 2, axis=axes))

    def _discriminator_loss(self, batch, training: bool):
        images, _, again, fresh = self._passed(batch, training)
        real, _ = self._judged(images, training)
        made = ops.concatenate(
            [self._judged(ops.stop_gradient(x), training)[0] for x in (again, fresh)], axis=0
        )
        terms = {"real_score": ops.mean(real), "made_score": ops.mean(made)}
        return self.loss_function.discriminator(real, made), terms

    def _encoder_loss(self, batch, training: bool):
        images, (mean, log_var), again, _ = self._passed(batch, training)
        similarity = self._similarity(self._judged(images, training)[1], self._judged(again, training)[1])
        kl = ops.mean(ops.sum(kl_to_standard_normal(mean, log_var), axis=-1))
        return similarity + self.beta * kl, {"kl": kl, "similarity": similarity}

    def _generator_loss(self, batch, training: bool):
        images, _, again, fresh = self._passed(batch, training)
        _, of_images = self._judged(images, training)
        of_again, features = self._judged(again, training)
        of_fresh, _ = self._judged(fresh, training)
        deceived = ops.mean(self.loss_function.generator(ops.concatenate([of_again, of_fresh], axis=0)))
        return deceived + self.gamma * self._similarity(of_images, features), {}

    # --- use -----------------------------------------------------------------------------------

    def call(self, inputs, training: bool = False):
        """Reconstruct images, from the mean code."""
        images = inputs[self.data_key] if isinstance(inputs, dict) else inputs
        return self.decode(self.encode(images))

    def encode(self, images):
        """The mean codes (n, d)."""
        return self.posterior(images)[0]

    def decode(self, codes):
        """Images in [-1, 1] of codes (n, d)."""
        return ops.cast(self.generator(codes, training=False), "float32")

    def sample(self, n, condition=None, seed=0):
        """n images in [-1, 1] from the prior: the same seed gives the same."""
        if condition is not None:
            raise InputError("This model takes no condition. Received one: leave it out.")
        return self.decode(normal((n, self.latent_dim), seed, self.noise))

    # --- deployment and configuration ----------------------------------------------------------

    def signatures(self) -> dict:
        """What an export serves; see `VAE.signatures`."""
        image = ((None, *self.data_shape), "uint8", "images, 0 to 255")
        code = ((None, self.latent_dim), "float32", "codes, standard normal under the prior")
        count, seed = ((), "int32", "how many pictures, 1 or more"), ((), "int32", "same seed, same pictures")
        return {
            "sample": (
                lambda n, seed: to_uint8(self.sample(n, seed=seed)),
                {"n": count, "seed": seed},
                image,
            ),
            "encode": (lambda image: self.encode(from_uint8(image)), {"image": image}, code),
            "decode": (lambda code: to_uint8(self.decode(code)), {"code": code}, image),
            "reconstruct": (lambda image: to_uint8(self(from_uint8(image))), {"image": image}, image),
            "score": (
                lambda image: self._judged(from_uint8(image), False)[0],
                {"image": image},
                ((None,), "float32", "the higher the more real"),
            ),
        }

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialize(self.encoder),
            "generator": serialize(self.generator),
            "discriminator": serialize(self.discriminator),
            "layer": self.layer,
            "loss": serialize(self.loss_function),
            "beta": self.beta,
            "gamma": self.gamma,
            "seed": self.seed,
        }
