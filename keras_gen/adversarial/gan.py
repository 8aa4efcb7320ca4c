"""The generative adversarial network: one class, composed of a loss, a penalty and kinds of noise."""

import keras
import numpy as np
from keras import ops

from keras_gen.adversarial import losses
from keras_gen.adversarial.losses import AdversarialLoss
from keras_gen.adversarial.noise import InstanceNoise, LabelNoise
from keras_gen.adversarial.penalties import SlopePenalty
from keras_gen.engine import GenerativeModel, Update, average_of, move_average, normal, seeded
from keras_gen.errors import InputError
from keras_gen.images import from_uint8, to_uint8


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class GAN(GenerativeModel):
    """Generator and discriminator in turn; conditional on a class where both networks take labels.

    A training step is `critic_steps` updates of the discriminator, each on its own part of the batch, then
    one of the generator, on as many codes as such a part has pictures. Real and made pictures pass the
    discriminator apart, so that batch normalisation never mixes their statistics.

    Args:
        generator: Codes (n, d), or [codes, labels (n,)], to images in [-1, 1].
        discriminator: Images, or [images, labels], to scores (n, 1), unbounded.
        loss: An `AdversarialLoss`, or `non-saturating`, `minimax`, `least-squares`, `hinge`,
            `wasserstein`.
        penalty: A `SlopePenalty` on the discriminator, or None.
        critic_steps: Updates of the discriminator in a step (n_critic).
        label_noise: What the discriminator is told instead of the truth, or None.
        instance_noise: What is added to all it sees, or None.
        ema: Decay of a moving average of the generator's weights, which then makes the samples
            (Yazici et al. 2019, arXiv:1806.04498); it grows to `ema` as (1 + step) / (10 + step). 0: none.
        classes: Number of classes of a conditional GAN, or None.
        seed: Of codes and noise in training.
        data_key: What a batch calls the data: `image`, or `features` for rows of numbers.

    Logs `discriminator_loss`, `generator_loss`, the mean scores `real_score` and `made_score`, and
    `penalty` if there is one.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        loss: "str | AdversarialLoss" = "non-saturating",
        penalty: SlopePenalty | None = None,
        critic_steps: int = 1,
        label_noise: LabelNoise | None = None,
        instance_noise: InstanceNoise | None = None,
        ema: float = 0.0,
        classes: int | None = None,
        seed: int = 0,
        data_key: str = "image",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if critic_steps < 1 or not 0 <= ema < 1:
            raise InputError(
                "Expected critic_steps of 1 or more and an ema of 0 or more, below 1. "
                f"Received: {critic_steps} and {ema}."
            )
        self.generator = generator
        self.discriminator = discriminator
        self.classes = classes
        self._check_networks()
        self.loss_function = losses.get(loss)
        self.penalty = penalty
        self.critic_steps = critic_steps
        self.label_noise = label_noise
        self.instance_noise = instance_noise
        self.ema = ema
        self.seed = seed
        self.data_key = data_key
        self.latent_dim = generator.inputs[0].shape[-1]
        self.data_shape = tuple(generator.output_shape[1:])
        self.noise = keras.random.SeedGenerator(seed)
        self.average = None
        if ema:
            self.average = average_of(generator)
        self.built = True

    def _check_networks(self) -> None:
        wanted = 1 if self.classes is None else 2
        for network, takes in ((self.generator, "codes"), (self.discriminator, "images")):
            if len(network.inputs) != wanted:
                raise InputError(
                    f"Expected a {network.name} of {takes}"
                    + (", without classes. " if wanted == 1 else f" and labels, for {self.classes} classes. ")
                    + f"Received: one of {len(network.inputs)} inputs."
                )
        made, seen = self.generator.output_shape[1:], self.discriminator.inputs[0].shape[1:]
        if tuple(made) != tuple(seen) or self.discriminator.output_shape[1:] != (1,):
            raise InputError(
                "Expected a discriminator that gives the generator's images one score. Received: "
                f"images {tuple(made)}, a discriminator of {tuple(seen)} to "
                f"{self.discriminator.output_shape[1:]}."
            )

    # --- the mathematics -----------------------------------------------------------------------

    def updates(self) -> list[Update]:
        logs = ("real_score", "made_score", *(("penalty",) if self.penalty is not None else ()))
        return [
            Update(
                "discriminator",
                self._discriminator_loss,
                self.discriminator.trainable_variables,
                repeats=self.critic_steps,
                split=True,
                logs=logs,
            ),
            Update("generator", self._generator_loss, self.generator.trainable_variables),
        ]

    def score(self, images, labels=None, training: bool = False):
        """Scores (n,) float32, the higher the more real; labels (n,) for a conditional GAN."""
        inputs = images if labels is None else [images, labels]
        return ops.cast(self.discriminator(inputs, training=training), "float32")[:, 0]

    def make(self, codes, labels=None, training: bool = False):
        """Images in [-1, 1] of codes (n, d), by the generator in training."""
        return self.generator(codes if labels is None else [codes, labels], training=training)

    def draw(self, n) -> dict:
        """What is random in an update on n pictures: tests hand in their own."""
        noise = self.noise
        drawn = {
            "codes": keras.random.normal((n, self.latent_dim), dtype="float32", seed=noise),
            "mix": keras.random.uniform((n,), dtype="float32", seed=noise),
        }
        if self.instance_noise is not None:
            shape = (n, *self.data_shape)
            drawn["on_real"] = keras.random.normal(shape, dtype="float32", seed=noise)
            drawn["on_made"] = keras.random.normal(shape, dtype="float32", seed=noise)
        if self.label_noise is not None:
            drawn["labels"] = self.label_noise.labels(n, noise)
        return drawn

    def _condition(self, batch):
        if self.classes is None:
            return None
        if "label" not in batch:
            raise InputError("Expected batches with labels, for a conditional GAN. Received: none.")
        return ops.cast(batch["label"], "int32")

    def _noisy(self, images, noise):
        """Images with what is left of the instance noise."""
        if self.instance_noise is None:
            return images
        step = self._optimizers["generator"].iterations
        return images + ops.cast(self.instance_noise.sigma_at(step) * noise, images.dtype)

    def _discriminator_loss(self, batch, training: bool):
        real, labels = batch[self.data_key], self._condition(batch)
        drawn = self.draw(ops.shape(real)[0])
        made = ops.stop_gradient(ops.cast(self.make(drawn["codes"], labels, training), "float32"))
        seen_real = self._noisy(real, drawn.get("on_real"))
        seen_made = self._noisy(made, drawn.get("on_made"))
        of_real = self.score(seen_real, labels, training)
        of_made = self.score(seen_made, labels, training)
        terms = {"real_score": ops.mean(of_real), "made_score": ops.mean(of_made)}
        told = drawn.get("labels", (1.0, 0.0)) if training else (1.0, 0.0)
        loss = self.loss_function.discriminator(of_real, of_made, *told)
        if self.penalty is not None:
            terms["penalty"] = self.penalty(
                lambda images: self.score(images, labels, training), seen_real, seen_made, drawn["mix"]
            )
            loss = loss + terms["penalty"]
        return loss, terms

    def _generator_loss(self, batch, training: bool):
        labels = self._condition(batch)
        n = ops.shape(batch[self.data_key])[0]
        if training and self.critic_steps > 1:  # as many as the discriminator saw at a time
            n = n // self.critic_steps
            labels = labels if labels is None else labels[:n]
        drawn = self.draw(n)
        made = self.make(drawn["codes"], labels, training)
        seen = self._noisy(made, drawn.get("on_made"))
        return ops.mean(self.loss_function.generator(self.score(seen, labels, training))), {}

    def after_updates(self, batch) -> None:
        if self.average is None:
            return
        step = ops.cast(self._optimizers["generator"].iterations, "float32")
        move_average(self.average, self.generator, ops.minimum(self.ema, (1.0 + step) / (10.0 + step)))

    # --- use -----------------------------------------------------------------------------------

    def call(self, inputs, training: bool = False):
        """Scores (n,) of images; without labels, for a conditional GAN, the mean over classes."""
        batch = inputs if isinstance(inputs, dict) else {self.data_key: inputs}
        images = ops.cast(batch[self.data_key], "float32")
        if self.classes is None or "label" in batch:
            return self.score(images, self._condition(batch))
        each = ops.zeros((ops.shape(images)[0],), dtype="int32")
        return sum(self.score(images, each + c) for c in range(self.classes)) / self.classes

    def decode(self, codes, labels=None):
        """Images in [-1, 1] of codes (n, d), by the generator or its average."""
        network = self.generator if self.average is None else self.average
        return ops.cast(network(codes if labels is None else [codes, labels], training=False), "float32")

    def sample(self, n, condition=None, seed=0):
        """n images in [-1, 1]: the same seed gives the same.

        Args:
            condition: For a conditional GAN labels (n,), or one for all; by default drawn evenly.
        """
        codes = normal((n, self.latent_dim), seed, self.noise)
        if self.classes is None:
            if condition is not None:
                raise InputError("This GAN takes no condition. Received one: leave it out.")
            return self.decode(codes)
        if condition is None:
            with seeded(self.noise, seed + 1_000_003):
                condition = keras.random.uniform((n,), 0, self.classes, dtype="float32", seed=self.noise)
        labels = ops.broadcast_to(ops.cast(condition, "int32"), (n,))
        return self.decode(codes, ops.clip(labels, 0, self.classes - 1))

    # --- deployment and configuration ----------------------------------------------------------

    def signatures(self) -> dict:
        """What an export serves; see `VAE.signatures`."""
        data = ((None, *self.data_shape), "float32", self.data_key)
        out = lambda x: x  # noqa: E731
        if self.data_key == "image":
            data = ((None, *self.data_shape), "uint8", "images, 0 to 255")
            out = to_uint8
        code = ((None, self.latent_dim), "float32", "codes, standard normal")
        label = ((None,), "int32", f"classes, 0 to {(self.classes or 1) - 1}")
        seed = ((), "int32", "same seed, same pictures")
        score = ((None,), "float32", "the higher the more real")
        count = ((), "int32", "how many, 1 or more")

        def score_image(image):
            return self(from_uint8(image))

        def score_features(features):
            return self(features)

        scored = score_image if self.data_key == "image" else score_features
        served = {
            "sample": (lambda n, seed: out(self.sample(n, seed=seed)), {"n": count, "seed": seed}, data),
            "score": (scored, {self.data_key: data}, score),
        }
        if self.classes is None:
            return {**served, "decode": (lambda code: out(self.decode(code)), {"code": code}, data)}
        return {
            **served,
            "sample_class": (
                lambda label, seed: out(self.sample(ops.shape(label)[0], label, seed)),
                {"label": label, "seed": seed},
                data,
            ),
            "decode": (
                lambda code, label: out(self.decode(code, label)),
                {"code": code, "label": label},
                data,
            ),
        }

    def get_config(self) -> dict:
        def serialize(part):
            return None if part is None else keras.saving.serialize_keras_object(part)

        return {
            **super().get_config(),
            "generator": serialize(self.generator),
            "discriminator": serialize(self.discriminator),
            "loss": serialize(self.loss_function),
            "penalty": serialize(self.penalty),
            "critic_steps": self.critic_steps,
            "label_noise": serialize(self.label_noise),
            "instance_noise": serialize(self.instance_noise),
            "ema": self.ema,
            "classes": self.classes,
            "seed": self.seed,
            "data_key": self.data_key,
        }


def codes_of(n: int, latent_dim: int, seed: int) -> np.ndarray:
    """Standard normal codes (n, d) for pictures of progress, the same on every backend."""
    return np.random.default_rng(seed).normal(size=(n, latent_dim)).astype("float32")
