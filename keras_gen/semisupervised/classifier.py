"""A classifier on an encoder, which may learn from pictures without labels as well."""

import keras
import numpy as np
from keras import layers, ops

from keras_gen.corruptions import Corruption
from keras_gen.engine import GenerativeModel, Update, compiled, to_numpy
from keras_gen.errors import InputError
from keras_gen.images import from_uint8

PART = 500
"""Images a call when there are many."""


@keras.saving.register_keras_serializable("keras_gen.semisupervised")
class Classifier(GenerativeModel):
    """Encoder and a linear layer to class scores.

    Its loss is the cross entropy of the labelled pictures and, with `strong`, FixMatch's consistency
    (Sohn et al. 2020, arXiv:2001.07685, eq. 4): where the prediction for a weakly distorted
    unlabelled picture is surer than `threshold`, it is the label of the strongly distorted one.

    Batches hold `image`, `label` (int32 (n,), or probabilities (n, classes)), and in training with
    `strong` also `unlabelled`, pictures of the same shape.

    Args:
        encoder: A built model from pictures to vectors.
        classes: How many.
        weak: Distortion of every training picture.
        strong: Distortion on top of `weak` for the unlabelled ones.
        consistency: Weight of the unlabelled part (lambda_u).
        threshold: tau.
        seed: Of the distortions.

    Logs `loss`, `accuracy` and, with `strong`, `confident`: the share of unlabelled pictures used.
    """

    def __init__(
        self,
        encoder: keras.Model,
        classes: int,
        weak: Corruption | None = None,
        strong: Corruption | None = None,
        consistency: float = 1.0,
        threshold: float = 0.95,
        seed: int = 0,
        data_key: str = "image",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if classes < 2:
            raise InputError(f"Expected 2 classes or more. Received: {classes}.")
        if not (0 <= threshold < 1 and consistency >= 0):
            raise InputError(
                "Expected a threshold within 0 to 1 and a consistency of 0 or more. "
                f"Received: {threshold} and {consistency}."
            )
        self.encoder = encoder
        self.classes = classes
        self.weak = weak
        self.strong = strong
        self.consistency = consistency
        self.threshold = threshold
        self.seed = seed
        self.data_key = data_key
        self.data_shape = tuple(encoder.input_shape[1:])
        self.noise = keras.random.SeedGenerator(seed)
        self.head = layers.Dense(classes, name="head")
        self.head.build(encoder.output_shape)
        self.built = True

    # --- the mathematics -----------------------------------------------------------------------

    def updates(self) -> list[Update]:
        logs = ("accuracy", "confident") if self.strong is not None else ("accuracy",)
        return [Update("classification", self._loss, self.trainable_variables, logs=logs)]

    def _loss(self, batch, training: bool):
        images, labels = batch[self.data_key], batch["label"]
        if len(labels.shape) == 1:
            labels = ops.one_hot(labels, self.classes, dtype="float32")
        if training and self.weak is not None:
            images = self.weak(images, self.noise)
        logits = self.logits(images, training)
        loss = ops.mean(cross_entropy(labels, logits))
        right = ops.equal(ops.argmax(logits, axis=-1), ops.argmax(labels, axis=-1))
        terms = {"accuracy": ops.mean(ops.cast(right, "float32"))}
        if self.strong is None:
            return loss, terms
        if not training:
            return loss, {**terms, "confident": ops.zeros(())}
        weak = batch["unlabelled"]
        if self.weak is not None:
            weak = self.weak(weak, self.noise)
        consistency, terms["confident"] = self.consistency_from_distorted(weak, self.strong(weak, self.noise))
        return loss + self.consistency * consistency, terms

    def consistency_from_distorted(self, weak, strong):
        """FixMatch's unlabelled loss, and the share of pictures that count in it."""
        sure = ops.stop_gradient(ops.softmax(self.logits(weak), axis=-1))
        confident = ops.cast(ops.max(sure, axis=-1) >= self.threshold, "float32")
        guessed = ops.one_hot(ops.argmax(sure, axis=-1), self.classes, dtype="float32")
        entropy = cross_entropy(guessed, self.logits(strong, training=True))
        return ops.mean(confident * entropy), ops.mean(confident)

    def logits(self, images, training: bool = False):
        """Class scores, (n, classes) float32."""
        return ops.cast(self.head(self.features(images, training)), "float32")

    # --- use -----------------------------------------------------------------------------------

    def features(self, images, training: bool = False):
        """What the encoder makes of the images, (n, d)."""
        return self.encoder(images, training=training)

    def call(self, inputs, training: bool = False):
        """Probabilities, (n, classes)."""
        images = inputs[self.data_key] if isinstance(inputs, dict) else inputs
        return ops.softmax(self.logits(images), axis=-1)

    def predict_in_parts(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, d) and probabilities (n, classes) of any number of images in [-1, 1]."""
        parts = [self._predicted(images[i : i + PART]) for i in range(0, len(images), PART)]
        features, probabilities = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(probabilities)

    def _predicted(self, images):
        # filled up to one size: every size of a batch would be compiled anew
        n = len(images)
        if n < PART:
            images = np.concatenate([images, np.zeros((PART - n, *images.shape[1:]), images.dtype)])
        features, probabilities = self._features_and_probabilities(images)
        return to_numpy(features)[:n], to_numpy(probabilities)[:n]

    @compiled
    def _features_and_probabilities(self, images):
        features = ops.cast(self.features(images), "float32")
        return features, ops.softmax(ops.cast(self.head(features), "float32"), axis=-1)

    def signatures(self) -> dict:
        """What an export serves; see `VAE.signatures`."""
        image = ((None, *self.data_shape), "uint8", "images, 0 to 255")

        def classify(image):
            probabilities = self(from_uint8(image))
            return {
                "label": ops.cast(ops.argmax(probabilities, axis=-1), "int32"),
                "probability": ops.max(probabilities, axis=-1),
            }

        return {
            "classify": (
                classify,
                {"image": image},
                {
                    "label": ((None,), "int32", "the likeliest class"),
                    "probability": ((None,), "float32", "its probability"),
                },
            ),
            "probabilities": (
                lambda image: self(from_uint8(image)),
                {"image": image},
                ((None, self.classes), "float32", "of every class"),
            ),
            "features": (
                lambda image: ops.cast(self.features(from_uint8(image)), "float32"),
                {"image": image},
                ((None, self.encoder.output_shape[-1]), "float32", "what the classes are told by"),
            ),
        }

    def get_config(self) -> dict:
        def serialize(part):
            return None if part is None else keras.saving.serialize_keras_object(part)

        return {
            **super().get_config(),
            "encoder": serialize(self.encoder),
            "classes": self.classes,
            "weak": serialize(self.weak),
            "strong": serialize(self.strong),
            "consistency": self.consistency,
            "threshold": self.threshold,
            "seed": self.seed,
            "data_key": self.data_key,
        }


def cross_entropy(labels, logits):
    """-sum_c labels_c log softmax(logits)_c for each example, (n,)."""
    labels = ops.convert_to_tensor(labels)
    return -ops.sum(labels * ops.log_softmax(logits, axis=-1), axis=-1)
