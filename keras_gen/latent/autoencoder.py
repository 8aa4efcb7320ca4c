"""The first stage: pictures to small maps that a diffusion model can work in, and back."""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_gen.adversarial import losses
from keras_gen.adversarial.losses import AdversarialLoss
from keras_gen.engine import GenerativeModel, Update, compiled, grad, to_numpy
from keras_gen.errors import InputError
from keras_gen.images import from_uint8, to_uint8

LARGEST = 10.0
"""Of the logarithm of a variance, either way: beyond it no gradient."""


@keras.saving.register_keras_serializable("keras_gen.latent")
class LatentAutoencoder(GenerativeModel):
    """A variational autoencoder with a small divergence, whose latents come out with mean 0 and variance 1.

    Loss: mean |x - x'|^power + features + kl KL + adversarial part (Rombach et al. 2022, section 3.1). The
    divergence is the mean over latent values; it keeps them from running away, no more.

    Args:
        encoder: Images to means and logarithms of variances of the latents, twice the channels.
        decoder: Latents to images.
        kl: Weight of the divergence.
        discriminator: Images to scores of patches (n, rows, columns, 1), or None.
        loss: What its scores cost: an `AdversarialLoss`, or the name of one.
        adversarial: Weight of deceiving it, relative to the reconstruction: both slopes at the picture are
            made equal first (Esser et al. 2021, eq. 7, there at the last layer).
        start: Training steps before the discriminator counts for the autoencoder.
        features: A network of images to a list of feature maps, or None; it is not trained.
        feature_weight: Of the mean squared distance of feature maps, each place's vector of length 1
            (Zhang et al. 2018, eq. 1, unweighted).
        power: Of the error: 1, the mean distance, or 2, which minds small things of a bright colour more
            and what cannot be kept, such as grain, less.
        seed: Of the latents' noise in training.

    Logs `loss`, `error` (mean |x - x'|^power), `divergence`; with features `features`; with a discriminator
    `autoencoder_loss` instead of `loss`, `discriminator_loss`, `real_score` and `made_score`.

    Attributes:
        shift, scale: What `encode` takes off the latents and divides them by, of each channel; set by
            `measure`.
    """

    data_key = "image"

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        kl: float = 1e-4,
        discriminator: keras.Model | None = None,
        loss: "str | AdversarialLoss" = "hinge",
        adversarial: float = 0.5,
        start: int = 0,
        features: keras.Model | None = None,
        feature_weight: float = 1.0,
        power: int = 1,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.data_shape = tuple(decoder.output_shape[1:])
        self.latent_shape = tuple(decoder.input_shape[1:])
        wanted = (*self.latent_shape[:2], 2 * self.latent_shape[2])
        if tuple(encoder.output_shape[1:]) != wanted or tuple(encoder.input_shape[1:]) != self.data_shape:
            raise InputError(
                f"Expected an encoder of {self.data_shape} to {wanted}, for this decoder. Received: one of "
                f"{tuple(encoder.input_shape[1:])} to {tuple(encoder.output_shape[1:])}."
            )
        if not (kl >= 0 and adversarial >= 0 and feature_weight >= 0 and start >= 0):
            raise InputError(
                "Expected weights and a start of 0 or more. "
                f"Received: {kl}, {adversarial}, {feature_weight} and {start}."
            )
        if power not in (1, 2):
            raise InputError(f"Expected a power of 1 or 2. Received: {power}.")
        self.encoder = encoder
        self.decoder = decoder
        self.power = power
        self.kl = kl
        self.discriminator = discriminator
        self.adversarial = adversarial
        self.start = start
        self.features = features
        self.feature_weight = feature_weight
        self.seed = seed
        if features is not None:
            features.trainable = False
        self.loss_function = losses.get(loss)
        self.noise = keras.random.SeedGenerator(seed)

        def still(name: str, shape: tuple, value: str):
            return self.add_weight(
                shape, initializer=value, dtype="float32", trainable=False, autocast=False, name=name
            )

        self.steps_done = still("steps_done", (), "zeros")
        self.shift = still("shift", self.latent_shape[-1:], "zeros")
        self.scale = still("scale", self.latent_shape[-1:], "ones")
        self.built = True

    # --- the mathematics -----------------------------------------------------------------------

    def updates(self) -> list[Update]:
        logs = ("error", "divergence", *(("features",) if self.features is not None else ()))
        variables = self.encoder.trainable_variables + self.decoder.trainable_variables
        both = [Update("autoencoder", self._loss, variables, logs=logs)]
        if self.discriminator is not None:
            critic = self.discriminator.trainable_variables
            both.append(
                Update("discriminator", self._discriminator_loss, critic, logs=("real_score", "made_score"))
            )
        return both

    def after_updates(self, batch) -> None:
        self.steps_done.assign(self.steps_done + 1.0)

    def draw(self, n):
        """The noise of n pictures' latents in training: tests hand in their own."""
        return keras.random.normal((n, *self.latent_shape), dtype="float32", seed=self.noise)

    def _moments(self, images, training: bool):
        output = ops.cast(self.encoder(images, training=training), "float32")
        mean, log_variance = ops.split(output, 2, axis=-1)
        return mean, ops.clip(log_variance, -LARGEST, LARGEST)

    def _passed(self, images, training: bool):
        """Reconstructions, means and logarithms of variances."""
        mean, log_variance = self._moments(images, training)
        latents = mean
        if training:
            latents = mean + ops.exp(0.5 * log_variance) * self.draw(ops.shape(mean)[0])
        return ops.cast(self.decoder(latents, training=training), "float32"), mean, log_variance

    def _loss(self, batch, training: bool):
        images = ops.cast(batch[self.data_key], "float32")
        made, mean, log_variance = self._passed(images, training)
        error = self._error(made, images)
        divergence = 0.5 * ops.mean(mean**2 + ops.exp(log_variance) - 1.0 - log_variance)
        loss, terms = error + self.kl * divergence, {"error": error, "divergence": divergence}
        if self.features is not None:
            apart = feature_distance(self.features, made, images)
            loss, terms["features"] = loss + self.feature_weight * apart, apart
        if self.discriminator is not None and self.adversarial:
            loss = loss + self._deception(made, images, training)
        return loss, terms

    def _error(self, made, images):
        apart = ops.abs(made - images)
        return ops.mean(apart if self.power == 1 else apart * apart)

    def _score(self, images, training: bool):
        assert self.discriminator is not None
        return ops.cast(self.discriminator(images, training=training), "float32")

    def _deception(self, made, images, training: bool):
        def slope(cost: Callable):
            found = grad(lambda x: ops.reshape(cost(x), (1,)))(ops.stop_gradient(made))
            return ops.sqrt(ops.sum(found * found))

        deceived = lambda x: ops.mean(self.loss_function.generator(self._score(x, training)))  # noqa: E731
        # both as they would move the picture
        of_error = slope(lambda x: self._error(x, images))
        balance = ops.minimum(of_error / (slope(deceived) + 1e-8), 1e4)
        on = ops.cast(self.steps_done >= self.start, "float32")
        return on * self.adversarial * ops.stop_gradient(balance) * deceived(made)

    def _discriminator_loss(self, batch, training: bool):
        images = ops.cast(batch[self.data_key], "float32")
        made = ops.stop_gradient(self._passed(images, training)[0])
        real, fake = self._score(images, training), self._score(made, training)
        loss = 0.5 * self.loss_function.discriminator(real, fake)
        return loss, {"real_score": ops.mean(real), "made_score": ops.mean(fake)}

    # --- use -----------------------------------------------------------------------------------

    def call(self, inputs, training: bool = False):
        """Reconstructions in [-1, 1], of the latents' means."""
        images = inputs[self.data_key] if isinstance(inputs, dict) else inputs
        return ops.clip(self._passed(ops.cast(images, "float32"), False)[0], -1.0, 1.0)

    @compiled
    def encode(self, images):
        """Latents (n, h, w, c) of pictures in [-1, 1]: the means, less `shift`, over `scale`."""
        mean, _ = self._moments(ops.cast(images, "float32"), False)
        return (mean - self.shift) / self.scale

    @compiled
    def decode(self, latents):
        """Pictures in [-1, 1] of latents as `encode` gives them."""
        return self._decoded(latents)

    def _decoded(self, latents):
        latents = ops.cast(latents, "float32") * self.scale + self.shift
        return ops.clip(ops.cast(self.decoder(latents, training=False), "float32"), -1.0, 1.0)

    def latents(self, pictures, batch_size: int = 500) -> np.ndarray:
        """Latents of a set of pictures (`keras_gen.data`), float32."""
        starts = range(0, len(pictures), batch_size)
        return np.concatenate(
            [to_numpy(self.encode(pictures.floats(slice(s, s + batch_size)))) for s in starts]
        )

    def measure(self, pictures) -> np.ndarray:
        """Set `shift` and `scale` to mean and deviation of these pictures' latents, and return the latents.

        Raises:
            InputError: A channel of the latents is the same everywhere.
        """
        raw = self.latents(pictures) * to_numpy(self.scale) + to_numpy(self.shift)
        shift, scale = raw.mean(axis=(0, 1, 2)), raw.std(axis=(0, 1, 2))
        if not (np.isfinite(scale).all() and scale.min() > 1e-6):
            raise InputError(
                f"Expected latents that vary in every channel. Received: deviations of {scale.tolist()}. "
                "Train the autoencoder for longer, or with a smaller kl."
            )
        self.shift.assign(shift)
        self.scale.assign(scale)
        return ((raw - shift) / scale).astype("float32")

    def for_use(self) -> "LatentAutoencoder":
        """A copy that encodes and decodes the same, without discriminator and features."""
        if self.discriminator is None and self.features is None:
            return self
        copy = LatentAutoencoder.from_config({**self.get_config(), "discriminator": None, "features": None})
        copy.encoder.set_weights(self.encoder.get_weights())
        copy.decoder.set_weights(self.decoder.get_weights())
        copy.shift.assign(to_numpy(self.shift))
        copy.scale.assign(to_numpy(self.scale))
        return copy

    def signatures(self) -> dict:
        """What an export serves; see `VAE.signatures`."""
        image = ((None, *self.data_shape), "uint8", "images, 0 to 255")
        latent = ((None, *self.latent_shape), "float32", "latents, of mean 0 and variance 1")

        def encode(image):
            mean, _ = self._moments(from_uint8(image), False)
            return (mean - self.shift) / self.scale

        return {
            "encode": (encode, {"image": image}, latent),
            "decode": (lambda latent: to_uint8(self._decoded(latent)), {"latent": latent}, image),
        }

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "kl": self.kl,
            "discriminator": None if self.discriminator is None else serialize(self.discriminator),
            "loss": serialize(self.loss_function),
            "adversarial": self.adversarial,
            "start": self.start,
            "features": None if self.features is None else serialize(self.features),
            "feature_weight": self.feature_weight,
            "power": self.power,
            "seed": self.seed,
        }


def feature_distance(features: keras.Model, a, b):
    """Mean over maps of the squared distance of a's and b's feature vectors, each of length 1; a scalar."""

    def maps(x):
        found = features(x, training=False)
        found = found if isinstance(found, (list, tuple)) else [found]
        for each in found:
            each = ops.cast(each, "float32")
            yield each / (ops.sqrt(ops.sum(each * each, axis=-1, keepdims=True)) + 1e-8)

    apart = [ops.mean(ops.sum((x - y) ** 2, axis=-1)) for x, y in zip(maps(a), maps(b), strict=True)]
    return sum(apart) / math.fsum(1 for _ in apart)
