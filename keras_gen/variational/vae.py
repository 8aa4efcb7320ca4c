"""The variational autoencoder (Kingma & Welling 2013, arXiv:1312.6114)."""

import math

import keras
import numpy as np
from keras import ops

from keras_gen.engine import GenerativeModel, Update, compiled, normal, to_numpy, without_gradient
from keras_gen.errors import InputError
from keras_gen.images import from_uint8, to_uint8
from keras_gen.networks.start import centre_inputs, start_outputs_at
from keras_gen.variational import likelihoods


def kl_to_standard_normal(mean, log_var):
    """KL(N(mean, exp(log_var)) || N(0, 1)) for each dimension, in nats (appendix B of the paper).

    Shape as given: sum over the last axis for the divergence of an example.
    """
    return 0.5 * (mean * mean + ops.exp(log_var) - 1.0 - log_var)


def _log_normal(x, mean=0.0, log_var=0.0):
    """log N(x; mean, exp(log_var)), summed over the last axis."""
    d = x - mean
    return -0.5 * ops.sum(
        d * d * ops.exp(-log_var) + log_var + math.log(2 * math.pi) + ops.zeros_like(x), axis=-1
    )


@keras.saving.register_keras_serializable("keras_gen")
class VAE(GenerativeModel):
    """Encoder q(z|x) = N(mean, diag exp(log_var)), prior N(0, I), decoder p(x|z).

    The loss is the negative evidence lower bound, in nats per example, averaged over the batch:
    -E_q[log p(x|z)] + beta KL(q(z|x) || p(z)), the divergence in closed form, summed over the code's
    dimensions.

    Args:
        encoder: A built model from data to vectors of 2 d numbers: mean and log variance.
        decoder: A built model from d numbers to the likelihood's parameters of the data.
        likelihood: `"bernoulli"`, `"gaussian"` or an object of `keras_gen.variational.likelihoods`.
        beta: Weight of the divergence (Higgins et al. 2017). 1 gives the bound itself.
        free_bits: Nats per code dimension, averaged over the batch, that the divergence may have
            free of charge (Kingma et al. 2016, arXiv:1606.04934, eq. 15); against dead dimensions.
        kl_warmup: Training steps over which the divergence's weight grows from 0 to `beta`.
        seed: Of the noise in training.

    Logs `loss`, `reconstruction` (-E_q[log p(x|z)]) and `kl` (unweighted); the sum of the last two
    is the negative bound whatever beta.

    Raises:
        InputError: The networks' shapes do not fit each other or the likelihood.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        likelihood="bernoulli",
        beta: float = 1.0,
        free_bits: float = 0.0,
        kl_warmup: int = 0,
        seed: int = 0,
        data_key: str = "image",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.likelihood = likelihoods.get(likelihood)
        self.latent_dim = decoder.input_shape[-1]
        self.data_shape = tuple(encoder.input_shape[1:])
        _check_shapes(encoder, decoder, self.likelihood)
        for name, value in (("beta", beta), ("free_bits", free_bits), ("kl_warmup", kl_warmup)):
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(f"Expected {name} of 0 or more. Received: {value}.")
        self.encoder = encoder
        self.decoder = decoder
        self.beta = beta
        self.free_bits = free_bits
        self.kl_warmup = kl_warmup
        self.seed = seed
        self.data_key = data_key
        self.noise = keras.random.SeedGenerator(seed)
        self.built = True

    # --- the mathematics -----------------------------------------------------------------------

    def posterior(self, data):
        """Mean and log variance of q(z|x), each (batch, d) in float32."""
        mean, log_var = ops.split(ops.cast(self.encoder(data), "float32"), 2, axis=-1)
        return mean, log_var

    def bound_terms(self, data, noise, training: bool = False):
        """The bound's two terms for given noise (batch, d).

        Returns:
            `log_likelihood` (batch,): log p(x | z) at z = mean + exp(log_var / 2) noise;
            `divergence` (batch, d): the closed-form KL of every dimension. Nats.
        """
        mean, log_var = ops.split(ops.cast(self.encoder(data, training=training), "float32"), 2, axis=-1)
        z = mean + ops.exp(0.5 * log_var) * ops.convert_to_tensor(noise)
        log_likelihood = self.likelihood.log_prob(data, self.decoder(z, training=training))
        return log_likelihood, kl_to_standard_normal(mean, log_var)

    def loss_from_noise(self, batch, noise, training: bool):
        """The update's loss for given noise: `(scalar, terms)`."""
        log_likelihood, divergence = self.bound_terms(batch[self.data_key], noise, training)
        reconstruction = -ops.mean(log_likelihood)
        kl_by_dimension = ops.mean(divergence, axis=0)
        kl = ops.sum(kl_by_dimension)
        charged = ops.sum(ops.maximum(kl_by_dimension, self.free_bits)) if self.free_bits else kl
        loss = reconstruction + self.beta * self._warmup(training) * charged
        return loss, {"reconstruction": reconstruction, "kl": kl}

    def _warmup(self, training: bool):
        if not (self.kl_warmup and training):
            return 1.0
        step = ops.cast(self.optimizer.iterations, "float32")
        return ops.minimum(1.0, step / self.kl_warmup)

    def updates(self) -> list[Update]:
        return [Update("bound", self._loss, self.trainable_variables, logs=("reconstruction", "kl"))]

    def _loss(self, batch, training: bool):
        n = ops.shape(batch[self.data_key])[0]
        noise = keras.random.normal((n, self.latent_dim), dtype="float32", seed=self.noise)
        return self.loss_from_noise(batch, noise, training)

    def start_from(self, mean: np.ndarray) -> None:
        """Set biases so that training starts at the data's mean (in [-1, 1], of the data's shape).

        Optional, once, before training.
        """
        centre_inputs(self.encoder, mean)
        start_outputs_at(self.decoder, mean, self.likelihood.output_for)

    # --- use -----------------------------------------------------------------------------------

    def call(self, inputs, training: bool = False):
        """Reconstruct: data (or a batch with it) through the code's mean, in [-1, 1]."""
        data = inputs[self.data_key] if isinstance(inputs, dict) else inputs
        return self.decode(self.encode(data))

    def encode(self, data):
        """Data in [-1, 1] to the mean of its code, (batch, d)."""
        return self.posterior(data)[0]

    def decode(self, codes):
        """Codes (batch, d) to the mean of the data, in [-1, 1]."""
        return self.likelihood.mean(self.decoder(codes))

    @without_gradient
    def sample(self, n, condition=None, seed=0):
        """`n` samples in [-1, 1]: the decoder's mean at codes drawn from the prior.

        The same seed gives the same samples on one backend. `n` and `seed` may be tensors.
        """
        if condition is not None:
            raise InputError("This model takes no condition. Received one: leave it out.")
        return self.decode(normal((n, self.latent_dim), seed, self.noise))

    def elbo(self, data, samples: int = 1, seed: int = 0) -> np.ndarray:
        """The evidence lower bound of each example (beta = 1), in nats, shape (n,).

        The expectation of log p(x|z) is over `samples` draws, the divergence is exact.
        """
        total = np.zeros(len(data))
        for i in range(samples):
            noise = self._draw((len(data), self.latent_dim), seed, i)
            total = total + to_numpy(self._elbo(data, noise))
        return total / samples

    def log_likelihood(self, data, k: int = 1, seed: int = 0, chunk: int = 50) -> np.ndarray:
        """The k-sample importance-weighted bound of log p(x) of each example, in nats, shape (n,).

        log 1/k sum_i p(x, z_i) / q(z_i | x), z_i ~ q(z | x) (Burda et al. 2015, arXiv:1509.00519,
        eq. 8): never above log p(x) in expectation, closer to it with growing k, and with k = 1 an
        estimate of the evidence lower bound.

        Args:
            data: (n, ...) in [-1, 1]; keep n to some hundreds for a large k.
            k: Importance samples.
            seed: Of the samples.
            chunk: How many of the k are held in memory at a time.
        """
        if k < 1:
            raise InputError(f"Expected k of 1 or more. Received: {k}.")
        parts = []
        for start in range(0, k, chunk):
            size = min(chunk, k - start)
            noise = self._draw((size, len(data), self.latent_dim), seed, start)
            parts.append(to_numpy(self._log_weights(data, noise)))
        return np.logaddexp.reduce(np.concatenate(parts).astype("float64"), axis=0) - math.log(k)

    def _draw(self, shape, seed: int, part: int):
        # one stream per part, so that chunks of one call never share noise
        mixed = int(np.random.SeedSequence([seed, part]).generate_state(1)[0] >> 1)
        return normal(shape, mixed, self.noise)

    @compiled
    def _elbo(self, data, noise):
        log_likelihood, divergence = self.bound_terms(data, noise)
        return log_likelihood - ops.sum(divergence, axis=-1)

    @compiled
    def _log_weights(self, data, noise):
        """log p(x, z) - log q(z | x) for noise (k, n, d). Returns (k, n)."""
        mean, log_var = self.posterior(data)
        z = mean + ops.exp(0.5 * log_var) * noise
        k = ops.shape(noise)[0]
        output = self.decoder(ops.reshape(z, (-1, self.latent_dim)))
        repeated = ops.broadcast_to(ops.expand_dims(data, 0), (k, *ops.shape(data)))
        repeated = ops.reshape(repeated, (-1, *self.data_shape))
        log_likelihood = ops.reshape(self.likelihood.log_prob(repeated, output), (k, -1))
        return log_likelihood + _log_normal(z) - _log_normal(z, mean, log_var)

    # --- deployment and configuration ----------------------------------------------------------

    def signatures(self) -> dict:
        """What an export serves: name -> (function, {argument: (shape, dtype, meaning)}, result).

        Images are uint8 here; None is the free batch size.
        """
        image = ((None, *self.data_shape), "uint8", "images, 0 to 255")
        code = ((None, self.latent_dim), "float32", "codes, standard normal under the prior")
        return {
            "sample": (
                lambda n, seed: to_uint8(self.sample(n, seed=seed)),
                {
                    "n": ((), "int32", "how many pictures, 1 or more"),
                    "seed": ((), "int32", "same seed, same pictures"),
                },
                image,
            ),
            "encode": (lambda image: self.encode(from_uint8(image)), {"image": image}, code),
            "decode": (lambda code: to_uint8(self.decode(code)), {"code": code}, image),
            "reconstruct": (lambda image: to_uint8(self(from_uint8(image))), {"image": image}, image),
        }

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "likelihood": serialize(self.likelihood),
            "beta": self.beta,
            "free_bits": self.free_bits,
            "kl_warmup": self.kl_warmup,
            "seed": self.seed,
            "data_key": self.data_key,
        }


def _check_shapes(encoder, decoder, likelihood) -> None:
    latent = decoder.input_shape[-1]
    if encoder.output_shape[-1] != 2 * latent:
        raise InputError(
            f"Expected an encoder with {2 * latent} outputs, a mean and a log variance for each of "
            f"the decoder's {latent} inputs. Received: {encoder.output_shape[-1]}."
        )
    data = tuple(encoder.input_shape[1:])
    expected = (*data[:-1], data[-1] * likelihood.parameters)
    if tuple(decoder.output_shape[1:]) != expected:
        raise InputError(
            f"Expected a decoder with outputs {expected}: {likelihood.parameters} numbers for each "
            f"value of the encoder's inputs {data} under a {likelihood.name} likelihood. "
            f"Received: {tuple(decoder.output_shape[1:])}."
        )
