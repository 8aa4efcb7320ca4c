"""The detector: an autoencoder and a VAE of normal data, and what is usual for them."""

import math

import keras
import numpy as np
from keras import ops

from keras_gen.autoencoders import Autoencoder
from keras_gen.data import Examples
from keras_gen.engine import GenerativeModel, Update, compiled, to_numpy
from keras_gen.errors import InputError
from keras_gen.images import from_uint8
from keras_gen.variational import VAE

SCORES = ("reconstruction", "relative", "code", "bound")
BATCH = 256
"""Every program sees batches of just this size, the last one filled up: not even rounding can make a
score depend on its company."""
MOST_FOR_STATISTICS = 10_000


def threshold_at(scores: np.ndarray, rate: float) -> float:
    """The threshold that a fresh normal example exceeds with probability `rate` at most.

    The k-th smallest of m scores of normal examples that nothing was fitted to, k = ceil((1 - rate)
    (m + 1)): a fresh one exceeds it with probability (m + 1 - k) / (m + 1) exactly, averaged over the
    choice of the m, whatever their distribution, ties apart (Vovk et al. 2005, conformal prediction).

    Raises:
        InputError: Too few scores for such a rate.
    """
    if not 0 < rate < 1:
        raise InputError(f"Expected a false-positive rate between 0 and 1. Received: {rate:g}.")
    needed = math.ceil(round(1 / rate, 9)) - 1
    if len(scores) < needed:
        raise InputError(
            f"Expected at least {needed} held-out normal examples, for a false-positive rate of {rate:g}. "
            f"Received: {len(scores)}. Bring more data, or allow a higher rate."
        )
    k = math.ceil(round((1 - rate) * (len(scores) + 1), 9))
    return float(np.sort(scores)[k - 1])


@keras.saving.register_keras_serializable("keras_gen.anomaly")
class Detector(GenerativeModel):
    """Scores of how strange an example is; higher is stranger.

    reconstruction  mean squared error of the autoencoder's reconstruction; for pictures in units in
                    which black to white is 1, for features in standard deviations
    relative        the same over the variance of the example's own values (plus 1 % of what that is in
                    normal data, for examples without any): the share that stays unexplained. Without
                    it, a picture with much ink is stranger than one with little
    code            Mahalanobis distance of the code to the codes of normal data, squared, with a
                    shrunk covariance (Ledoit & Wolf 2004)
    bound           the VAE's negative evidence lower bound, nats: the divergence in closed form, the
                    expectation over the same fixed noise vectors for every example

    Nothing is drawn when scoring: a score depends on the example alone.

    Training moves both models, an update each. `start_from` comes before it, `fit_statistics` and
    `calibrate` after it; what they find is saved with the weights.

    Args:
        autoencoder: An untrained `Autoencoder`.
        vae: An untrained `VAE` of the same data, or None, for no `bound`.
        default: The score that `score` gives and that the threshold is for first of all.
        draws: Noise vectors of the bound.

    Raises:
        InputError: The models are of different data, or the default is none of the scores.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        vae: VAE | None = None,
        default: str = "relative",
        draws: int = 8,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.names = SCORES if vae is not None else SCORES[:3]
        if default not in self.names:
            raise InputError(f"Expected a score of {', '.join(self.names)}. Received: {default!r}.")
        for name in ("data_key", "data_shape"):
            if vae is not None and getattr(vae, name) != getattr(autoencoder, name):
                raise InputError(
                    f"Expected an autoencoder and a VAE of the same {name}. Received: "
                    f"{getattr(autoencoder, name)} and {getattr(vae, name)}."
                )
        self.autoencoder = autoencoder
        self.vae = vae
        self.default = default
        self.draws = draws
        self.data_key = autoencoder.data_key
        self.data_shape = autoencoder.data_shape
        self._pictures = self.data_key == "image"
        self._unit = 0.25 if self._pictures else 1.0  # pictures span 2 inside, 1 in what is reported
        code = autoencoder.code_shape[-1]

        def constant(name: str, value):
            value = np.asarray(value, "float32")
            return self.add_weight(
                shape=value.shape,
                initializer=lambda shape, dtype: ops.convert_to_tensor(value, dtype),
                dtype="float32",
                trainable=False,
                name=name,
            )

        self.centre = constant("centre", np.zeros(self.data_shape))
        self.factor = constant("factor", np.ones(self.data_shape))
        self.code_mean = constant("code_mean", np.zeros(code))
        self.code_precision = constant("code_precision", np.eye(code))
        self.floor = constant("floor", 1.0)
        self.thresholds = constant("thresholds", np.full(len(self.names), np.inf))
        if vae is not None:
            noise = np.random.default_rng(0).standard_normal((draws, vae.latent_dim))
            self.noise_vectors = constant("noise_vectors", noise)
        self.built = True

    # --- training ------------------------------------------------------------------------------

    def updates(self) -> list[Update]:
        parts = [self.autoencoder] + ([self.vae] if self.vae is not None else [])
        return [self._on_standardised(update) for part in parts for update in part.updates()]

    def _on_standardised(self, update: Update) -> Update:
        def loss(batch, training: bool):
            data = self._standardised(batch[self.data_key])
            return update.loss({**batch, self.data_key: data}, training)[0], {}

        return Update(update.name, loss, update.variables, update.repeats)

    def _standardised(self, data):
        return (ops.cast(data, "float32") - self.centre) * self.factor

    def start_from(self, normal: Examples) -> np.ndarray:
        """Take what training needs from the normal training data: for pictures the biases' start, for
        features their means and standard deviations.

        Returns:
            The indices of features that are constant. They have no scale, so they count for nothing.
        """
        if self._pictures:
            for part in (self.autoencoder, self.vae):
                if part is not None:
                    part.start_from(normal.mean())
            return np.array([], "int64")
        values = normal.floats().astype("float64")
        spread = values.std(axis=0)
        constant = values.max(axis=0) == values.min(axis=0)
        self.centre.assign(values.mean(axis=0))
        self.factor.assign(np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, spread)))
        return np.flatnonzero(constant)

    def fit_statistics(self, normal: Examples) -> None:
        """Learn what is usual from the normal data that were trained on, some thousands of them."""
        from sklearn.covariance import LedoitWolf

        chosen = np.linspace(0, len(normal) - 1, min(len(normal), MOST_FOR_STATISTICS)).astype(int)
        seen = self._by_batch(_statistics, normal.select(chosen)).astype("float64")
        contrast, codes = seen[:, 0], seen[:, 1:]
        estimate = LedoitWolf().fit(codes)
        self.code_mean.assign(estimate.location_)
        self.code_precision.assign(estimate.precision_)
        # an example without contrast must not divide by nothing
        self.floor.assign(max(0.01 * contrast.mean(), 1e-12))

    def calibrate(self, held_out: Examples, rate: float) -> None:
        """Set every score's threshold on normal data that were not trained on; see `threshold_at`."""
        scores = self.scores(held_out)
        self.thresholds.assign([threshold_at(scores[name], rate) for name in self.names])

    # --- the scores ----------------------------------------------------------------------------

    def _errors(self, data):
        """Squared errors (n, ...) of standardised data."""
        difference = data - self.autoencoder(data)
        return self._unit * difference * difference

    def _contrast(self, data):
        """The variance of each example's values, (n,), in the units of the error."""
        return self._unit * ops.var(data, axis=tuple(range(1, len(data.shape))))

    def _scores(self, data):
        """Every score of raw data, (n, number of scores)."""
        data = self._standardised(data)
        reconstruction = ops.mean(self._errors(data), axis=tuple(range(1, len(data.shape))))
        offset = self.autoencoder.encode(data) - self.code_mean
        code = ops.sum(ops.matmul(offset, self.code_precision) * offset, axis=-1)
        scores = [reconstruction, reconstruction / (self._contrast(data) + self.floor), code]
        if self.vae is not None:
            scores.append(self._negative_bound(self.vae, data))
        return ops.stack(scores, axis=-1)

    def _negative_bound(self, vae: VAE, data):
        total = 0.0
        for i in range(self.draws):
            log_likelihood, divergence = vae.bound_terms(data, self.noise_vectors[i])
            total = total + ops.sum(divergence, axis=-1) - log_likelihood
        return total / self.draws

    def _heat_map(self, data):
        data = self._standardised(data)
        errors = self._errors(data)
        if self.default == "relative":
            contrast = ops.reshape(self._contrast(data), (-1, *(1 for _ in self.data_shape)))
            errors = errors / (contrast + self.floor)
        return ops.mean(errors, axis=-1) if self._pictures else errors

    # --- use -----------------------------------------------------------------------------------

    def call(self, inputs, training: bool = False):
        """Reconstruct data (or a batch with it), in the data's own units."""
        data = inputs[self.data_key] if isinstance(inputs, dict) else inputs
        again = self.autoencoder(self._standardised(data))
        inverse = ops.where(self.factor > 0, 1.0 / ops.maximum(self.factor, 1e-30), 0.0)
        return again * inverse + self.centre

    def scores(self, data: "Examples | np.ndarray") -> dict[str, np.ndarray]:
        """Every score, (n,) each, of `Examples`, or of an array as `Examples.floats` gives it."""
        table = self._by_batch(_all_scores, data)
        return {name: table[:, i] for i, name in enumerate(self.names)}

    def score(self, data: "Examples | np.ndarray") -> np.ndarray:
        """The default score, (n,)."""
        return self.scores(data)[self.default]

    @property
    def threshold(self) -> float:
        """Of the default score: above it an example counts as an anomaly. Infinite before `calibrate`."""
        return float(to_numpy(self.thresholds.value)[self.names.index(self.default)])

    def heat_map(self, data: "Examples | np.ndarray") -> np.ndarray:
        """Where an example is strange: (n, height, width) for pictures, (n, d) for features.

        Its mean is the score `relative` if that is the default, `reconstruction` otherwise.
        """
        return self._by_batch(_heat_maps, data)

    def reconstruct(self, data: "Examples | np.ndarray") -> np.ndarray:
        """The autoencoder's version of the data, in their own units."""
        return self._by_batch(_reconstructions, data)

    def standardised(self, data: Examples) -> np.ndarray:
        """What the two models see of data, (n, ...)."""
        return (data.floats() - to_numpy(self.centre.value)) * to_numpy(self.factor.value)

    def _by_batch(self, program, data) -> np.ndarray:
        if len(data) == 0:
            raise InputError("Expected at least one example to score. Received: none.")
        results = []
        for start in range(0, len(data), BATCH):
            part = slice(start, start + BATCH)
            values = data.floats(part) if isinstance(data, Examples) else np.asarray(data[part], "float32")
            filled = np.concatenate([values, np.repeat(values[:1], BATCH - len(values), axis=0)])
            results.append(to_numpy(program(self, filled))[: len(values)])
        return np.concatenate(results)

    # --- deployment and configuration ----------------------------------------------------------

    def signatures(self) -> dict:
        """What an export serves; see `VAE.signatures`."""
        prepare = from_uint8 if self._pictures else (lambda data: data)
        dtype, meaning = (
            ("uint8", "images, 0 to 255") if self._pictures else ("float32", "features, as in the data")
        )
        argument = {self.data_key: ((None, *self.data_shape), dtype, meaning)}
        shape = self.data_shape[:2] if self._pictures else self.data_shape
        at = self.names.index(self.default)

        def endpoint(function):
            if self._pictures:
                return lambda image: function(prepare(image))
            return lambda features: function(features)

        return {
            "score": (
                endpoint(lambda data: self._scores(data)[:, at]),
                argument,
                ((None,), "float32", f"{self.default} scores, higher is stranger"),
            ),
            "is_anomaly": (
                endpoint(lambda data: self._scores(data)[:, at] > self.thresholds[at]),
                argument,
                ((None,), "bool", f"whether the score exceeds its threshold, {self.threshold:.6g}"),
            ),
            "heat_map": (
                endpoint(self._heat_map),
                argument,
                ((None, *shape), "float32", "where: squared errors, whose mean is the score"),
            ),
        }

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "autoencoder": serialize(self.autoencoder),
            "vae": None if self.vae is None else serialize(self.vae),
            "default": self.default,
            "draws": self.draws,
        }


@compiled
def _statistics(model, data):
    """Contrast and code of each example, side by side."""
    data = model._standardised(data)
    contrast = ops.expand_dims(model._contrast(data), -1)
    return ops.concatenate([contrast, model.autoencoder.encode(data)], axis=-1)


@compiled
def _all_scores(model, data):
    return model._scores(data)


@compiled
def _heat_maps(model, data):
    return model._heat_map(data)


@compiled
def _reconstructions(model, data):
    return model(data)
