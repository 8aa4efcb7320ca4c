"""The autoencoder: one class, of which the lecture's many are arguments."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gen.autoencoders.penalties import Penalty, squared_norm_exact
from keras_gen.corruptions import Corruption
from keras_gen.engine import GenerativeModel, Update, compiled, to_numpy
from keras_gen.errors import InputError
from keras_gen.images import from_uint8, to_uint8
from keras_gen.networks.chain import mirrored_blocks
from keras_gen.networks.start import centre_inputs, start_outputs_at
from keras_gen.networks.tied import TiedDecoder

EVALUATION_SEED = 0
"""Held-out data are corrupted the same way every time: numbers are comparable across epochs."""


@keras.saving.register_keras_serializable("keras_gen")
class Autoencoder(GenerativeModel):
    """Encoder and decoder that reproduce their input: loss = reconstruction + penalty.

    Linear networks make it principal component analysis, a corruption makes it denoising, a penalty
    sparse or contractive, noise before a sigmoid code (`code_noise` of the encoders) semantic
    hashing, recurrent networks sequence to vector to sequence.

    The reconstruction error is the mean squared error per value, in units in which black to white is
    1 (pixels / 255), so that -10 log10 of it is the PSNR; in the data's own units for `features`.

    Args:
        encoder: A built model from data to codes (d,).
        decoder: A built model from codes to data, or `"tied"`: the encoder's matrices, transposed.
        corruption: What the encoder's input suffers in training and evaluation, not in use.
        penalty: What the code costs.
        seed: Of the corruption and of stochastic penalties.

    Logs `loss` and, where there is a penalty, its parts `reconstruction` and `penalty`.

    Raises:
        InputError: The networks do not fit each other, the corruption or the penalty.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: "keras.Model | str",
        corruption: Corruption | None = None,
        penalty: Penalty | None = None,
        seed: int = 0,
        data_key: str = "image",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.tied = isinstance(decoder, str)
        if isinstance(decoder, str) and decoder != "tied":
            raise InputError(f"Expected a decoder network or 'tied'. Received: {decoder!r}.")
        self.encoder = encoder
        self.decoder: Any = TiedDecoder(encoder) if self.tied else decoder
        self.data_shape = tuple(encoder.input_shape[1:])
        self.code_shape = tuple(encoder.output_shape[1:])
        _check_shapes(self)
        if penalty is not None:
            penalty.check(encoder)
        self.corruption = corruption
        self.penalty = penalty
        self.seed = seed
        self.data_key = data_key
        self.noise = keras.random.SeedGenerator(seed)
        self._unit = 0.25 if data_key == "image" else 1.0  # pictures span 2 inside, 1 in what is reported
        self._stage: int | None = None
        self.built = True

    # --- the mathematics -----------------------------------------------------------------------

    def updates(self) -> list[Update]:
        if self._stage is not None:
            return [self._stage_update(self._stage)]
        logs = ("reconstruction", "penalty") if self.penalty is not None else ()
        return [Update("reconstruction", self._loss, self.trainable_variables, logs=logs)]

    def _loss(self, batch, training: bool):
        return self.loss_from_corrupted(batch, self._corrupted(batch[self.data_key], training), training)

    def _corrupted(self, clean, training: bool):
        if self.corruption is None:
            return clean
        if training:
            return self.corruption(clean, self.noise)
        return self.corruption.at(clean, EVALUATION_SEED, self.noise)

    def loss_from_corrupted(self, batch, corrupted, training: bool):
        """The update's loss for a given corrupted input: `(scalar, terms)`."""

        def encode(data):
            return ops.cast(self.encoder(data, training=training), "float32")

        codes = encode(corrupted)
        output = self.decoder(codes, training=training)
        reconstruction = ops.mean(self.squared_error(batch[self.data_key], output))
        if self.penalty is None:
            return reconstruction, {}
        penalty = self.penalty(encode, corrupted, codes, self.noise)
        return reconstruction + penalty, {"reconstruction": reconstruction, "penalty": penalty}

    def squared_error(self, data, reconstruction):
        """The mean squared error of each example, (n,), in the units of the loss."""
        difference = ops.cast(data, "float32") - ops.cast(reconstruction, "float32")
        axes = tuple(range(1, len(data.shape)))
        return self._unit * ops.mean(difference * difference, axis=axes)

    # --- layer by layer ------------------------------------------------------------------------

    def stages(self) -> int:
        """How many pairs of layers greedy pretraining has."""
        return len(self._pairs())

    def _pairs(self):
        if self.tied:
            raise InputError(
                "Expected a decoder with weights of its own, to train layer by layer. Received: a tied "
                "one. Untie it, or train all at once."
            )
        return mirrored_blocks(self.encoder, self.decoder)

    @property
    def stage(self) -> int | None:
        """Which pair of layers the training step trains, from 0 at the data inward; None: all.

        To be set before `compile`. A stage reconstructs what the layers before it, which stay as
        they are, make of the data (Bengio et al. 2006, Greedy layer-wise training).
        """
        return self._stage

    @stage.setter
    def stage(self, stage: int | None) -> None:
        if stage is not None and not 0 <= stage < self.stages():
            raise InputError(f"Expected a stage within 0 to {self.stages() - 1}, or None. Received: {stage}.")
        self._stage = stage
        pairs = self._pairs() if stage is not None else []
        self._stage_pairs = lambda: pairs  # hidden from Keras, which would save the layers twice

    def _stage_update(self, stage: int) -> Update:
        pairs = self._stage_pairs()
        encode, decode = pairs[stage]

        def loss(batch, training: bool):
            target = batch[self.data_key]
            for before, _ in pairs[:stage]:
                target = before(target)
            given = self._corrupted(target, training) if stage == 0 else target
            difference = ops.cast(target, "float32") - ops.cast(
                decode(encode(given, training=training), training=training), "float32"
            )
            return ops.mean(difference * difference) * (self._unit if stage == 0 else 1.0), {}

        variables = [*encode.trainable_variables, *decode.trainable_variables]
        return Update("reconstruction", loss, variables)

    # --- use -----------------------------------------------------------------------------------

    def start_from(self, mean: np.ndarray) -> None:
        """Set biases so that training starts at the data's mean. Optional, once, before training."""
        centre_inputs(self.encoder, mean)
        if self.tied:
            self.decoder.biases[-1].assign(mean.reshape(-1))
        else:
            start_outputs_at(self.decoder, mean, lambda m: m)

    def call(self, inputs, training: bool = False):
        """Reconstruct data (or a batch with it)."""
        data = inputs[self.data_key] if isinstance(inputs, dict) else inputs
        return self.decode(self.encode(data))

    def encode(self, data):
        """Data to codes, (n, d) float32."""
        return ops.cast(self.encoder(data), "float32")

    def decode(self, codes):
        """Codes to data, float32."""
        return ops.cast(self.decoder(codes), "float32")

    @compiled
    def reconstruction_error(self, data):
        """The mean squared error of each example as it is, uncorrupted, (n,)."""
        return self.squared_error(data, self(data))

    @compiled
    def jacobian_norm(self, data):
        """||d code / d data||_F of each example, (n,), exact."""
        return ops.sqrt(squared_norm_exact(self.encode, data, self.code_shape[-1]))

    # --- deployment and configuration ----------------------------------------------------------

    def signatures(self) -> dict:
        """What an export serves; see `VAE.signatures`."""
        codes = ((None, *self.code_shape), "float32", "codes")
        if self.data_key != "image":
            data = ((None, *self.data_shape), "float32", "as in training")
            return {
                "encode": (lambda features: self.encode(features), {"features": data}, codes),
                "decode": (lambda code: self.decode(code), {"code": codes}, data),
                "reconstruct": (lambda features: self(features), {"features": data}, data),
            }
        image = ((None, *self.data_shape), "uint8", "images, 0 to 255")
        return {
            "encode": (lambda image: self.encode(from_uint8(image)), {"image": image}, codes),
            "decode": (lambda code: to_uint8(self.decode(code)), {"code": codes}, image),
            "reconstruct": (lambda image: to_uint8(self(from_uint8(image))), {"image": image}, image),
        }

    def get_config(self) -> dict:
        def serialize(part):
            return None if part is None else keras.saving.serialize_keras_object(part)

        return {
            **super().get_config(),
            "encoder": serialize(self.encoder),
            "decoder": "tied" if self.tied else serialize(self.decoder),
            "corruption": serialize(self.corruption),
            "penalty": serialize(self.penalty),
            "seed": self.seed,
            "data_key": self.data_key,
        }


def _check_shapes(model: Autoencoder) -> None:
    if tuple(model.decoder.input_shape[1:]) != model.code_shape:
        raise InputError(
            f"Expected a decoder of codes of shape {model.code_shape}, which the encoder gives. "
            f"Received: one of {tuple(model.decoder.input_shape[1:])}."
        )
    if tuple(model.decoder.output_shape[1:]) != model.data_shape:
        raise InputError(
            f"Expected a decoder whose outputs have the data's shape {model.data_shape}. "
            f"Received: {tuple(model.decoder.output_shape[1:])}."
        )


def fit_greedily(model: Autoencoder, data, epochs: int, optimizer=keras.optimizers.Adam, **fit) -> None:
    """Train one pair of layers after another, `epochs` each, then leave the model to be fine-tuned.

    `optimizer` makes a new optimizer for every stage; `fit` goes to `Model.fit`.
    """
    for stage in range(model.stages()):
        model.stage = stage
        model.compile(optimizer())
        model.fit(data, epochs=epochs, **fit)
    model.stage = None


def codes_of(model, data: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """The codes of many examples, as an array."""
    starts = range(0, len(data), batch_size)
    return np.concatenate([to_numpy(_encode(model, data[s : s + batch_size])) for s in starts])


@compiled
def _encode(model, data):
    return model.encode(data)
