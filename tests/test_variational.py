"""The VAE's mathematics against independent truth, and the model through its whole life."""

import keras
import make_golden
import numpy as np
import pytest
from harness import check_model
from keras import layers, ops
from scipy.stats import multivariate_normal, norm

from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.networks import conv_decoder, conv_encoder, mlp_decoder, mlp_encoder
from keras_gen.variational import VAE, Bernoulli, Gaussian, kl_to_standard_normal


class TestDivergence:
    def test_equals_monte_carlo(self):
        rng = np.random.default_rng(0)
        mean, log_var = np.array([0.7, -1.2, 0.0]), np.array([-0.5, 0.3, 0.0])
        z = mean + np.exp(log_var / 2) * rng.normal(size=(100_000, 3))
        ratio = norm.logpdf(z, mean, np.exp(log_var / 2)) - norm.logpdf(z)
        closed = to_numpy(kl_to_standard_normal(ops.convert_to_tensor(mean), ops.convert_to_tensor(log_var)))
        error = ratio.std(axis=0) / np.sqrt(len(z))
        assert (np.abs(ratio.mean(axis=0) - closed) <= 3 * error + 1e-7).all()

    @pytest.mark.parametrize("d", [1, 7])
    def test_is_half_the_dimension_for_a_unit_shift(self, d):
        kl = ops.sum(kl_to_standard_normal(ops.ones((d,)), ops.zeros((d,))))
        assert float(to_numpy(kl)) == pytest.approx(d / 2)

    def test_is_zero_at_the_prior_alone(self):
        kl = to_numpy(kl_to_standard_normal(ops.array([0.0, 0.1]), ops.array([0.0, 0.0])))
        assert kl[0] == 0 and kl[1] > 0

    def test_is_summed_over_the_code_and_averaged_over_the_batch(self):
        model = make_golden.tiny_vae()
        images = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 1)).astype("float32")
        mean, log_var = (to_numpy(t) for t in model.posterior(images))
        expected = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(axis=1).mean()
        _, terms = model.loss_from_noise({"image": images}, np.zeros((5, 3), "float32"), False)
        assert float(to_numpy(terms["kl"])) == pytest.approx(expected, rel=1e-5)


class TestLikelihoods:
    def test_bernoulli_is_a_distribution(self):
        logits = np.array([[-3.0, 0.2]], "float32")
        total = 0.0
        for a in (-1, 1):
            for b in (-1, 1):
                x = np.array([[a, b]], "float32")
                total += np.exp(to_numpy(Bernoulli().log_prob(x, logits))[0])
        assert total == pytest.approx(1, abs=1e-6)
        p = 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(to_numpy(Bernoulli().mean(logits)), 2 * p - 1, atol=1e-6)

    def test_bernoulli_at_extreme_logits(self):
        logits = np.array([[500.0, -500.0]], "float32")
        right = to_numpy(Bernoulli().log_prob(np.array([[1.0, -1.0]], "float32"), logits))
        wrong = to_numpy(Bernoulli().log_prob(np.array([[-1.0, 1.0]], "float32"), logits))
        assert right[0] == 0 and wrong[0] == pytest.approx(-1000)

    def test_gaussian_of_fixed_scale(self):
        x, mean = np.array([[0.3, -0.4]], "float32"), np.array([[0.1, 0.5]], "float32")
        expected = norm.logpdf(x, mean, 0.25).sum()
        assert to_numpy(Gaussian(0.25).log_prob(x, mean))[0] == pytest.approx(expected, rel=1e-5)

    def test_gaussian_of_learned_scale(self):
        likelihood = Gaussian()
        x = np.array([[0.3, -0.4]], "float32")
        output = np.array([[0.1, 0.5, -1.0, -0.5]], "float32")
        floor = np.log(1 / 255)
        scale = np.exp(floor + np.log1p(np.exp(output[0, 2:] - floor)))
        expected = norm.logpdf(x, output[:, :2], scale).sum()
        assert to_numpy(likelihood.log_prob(x, output))[0] == pytest.approx(expected, rel=1e-4)
        np.testing.assert_array_equal(to_numpy(likelihood.mean(output)), output[:, :2])

    def test_a_learned_scale_has_a_floor(self):
        x = np.zeros((1, 1), "float32")
        density = to_numpy(Gaussian().log_prob(x, np.array([[0.0, -1000.0]], "float32")))[0]
        assert density == pytest.approx(norm.logpdf(0, 0, 1 / 255), rel=1e-4)

    def test_errors(self):
        with pytest.raises(InputError, match="'poisson'"):
            VAE(*_networks(), likelihood="poisson")
        with pytest.raises(InputError, match="positive"):
            Gaussian(0.0)


def _networks(latent=3, shape=(8, 8, 1)):
    return mlp_encoder(shape, 2 * latent, (16,)), mlp_decoder(latent, shape, (16,))


class LinearGaussian:
    """x = W z + b + s e with orthogonal columns of W: everything is known in closed form.

    Probabilistic PCA (Tipping & Bishop 1999). The posterior is diagonal, so a VAE's encoder can be
    exact.
    """

    D, LATENT, SCALE = 6, 2, 0.5

    def __init__(self):
        rng = np.random.default_rng(4)
        orthogonal, _ = np.linalg.qr(rng.normal(size=(self.D, self.LATENT)))
        self.w = orthogonal * [1.5, 0.8]
        self.b = rng.normal(size=self.D)
        precision = np.sum(self.w**2, axis=0) / self.SCALE**2 + 1
        self.variance = 1 / precision
        self.to_mean = self.w / self.SCALE**2 * self.variance
        z = rng.normal(size=(64, self.LATENT))
        noise = self.SCALE * rng.normal(size=(64, self.D))
        self.x = (z @ self.w.T + self.b + noise).astype("float32")
        covariance = self.w @ self.w.T + self.SCALE**2 * np.eye(self.D)
        self.log_evidence = multivariate_normal(self.b, covariance).logpdf(self.x)

    def vae(self, off_by: float = 0.0, widened: float = 0.0) -> VAE:
        """Its VAE, the encoder's mean and log variance off by so much."""
        encoder = keras.Sequential([keras.Input((self.D,)), layers.Dense(2 * self.LATENT)])
        kernel = np.concatenate([self.to_mean, np.zeros_like(self.to_mean)], axis=1)
        bias = np.concatenate([-self.b @ self.to_mean + off_by, np.log(self.variance) + widened])
        encoder.layers[0].set_weights([kernel, bias])
        decoder = keras.Sequential([keras.Input((self.LATENT,)), layers.Dense(self.D)])
        decoder.layers[0].set_weights([self.w.T, self.b])
        return VAE(encoder, decoder, likelihood=Gaussian(self.SCALE), data_key="features")


class TestBounds:
    def test_every_importance_weight_is_the_evidence_at_the_exact_posterior(self):
        truth = LinearGaussian()
        model = truth.vae()
        for k in (1, 5):
            bound = model.log_likelihood(truth.x, k=k)
            np.testing.assert_allclose(bound, truth.log_evidence, atol=1e-3)

    def test_elbo_meets_the_evidence_at_the_exact_posterior(self):
        truth = LinearGaussian()
        model = truth.vae()
        draws = np.stack([model.elbo(truth.x, seed=s) for s in range(200)])
        error = draws.std(axis=0) / np.sqrt(len(draws))
        assert (np.abs(draws.mean(axis=0) - truth.log_evidence) < 4 * error + 1e-4).all()

    @pytest.mark.parametrize(("off_by", "widened"), [(0.3, 0.0), (0.0, 0.7), (-0.2, -0.5)])
    def test_elbo_stays_below_by_the_posterior_gap(self, off_by, widened):
        truth = LinearGaussian()
        model = truth.vae(off_by, widened)
        draws = np.array([model.elbo(truth.x, seed=s).mean() for s in range(200)])
        error = draws.std() / np.sqrt(len(draws))
        # KL(q || p(z|x)) between the Gaussians, the same for every x
        gap = 0.5 * np.sum(off_by**2 / truth.variance + np.exp(widened) - 1 - widened)
        assert gap > 10 * error
        assert abs(truth.log_evidence.mean() - draws.mean() - gap) < 4 * error

    def test_the_importance_weighted_bound_grows_with_k(self):
        truth = LinearGaussian()
        model = truth.vae(0.4, 0.5)
        means, errors = [], []
        for k in (1, 5, 50):
            draws = np.array([model.log_likelihood(truth.x, k=k, seed=s).mean() for s in range(60)])
            means.append(draws.mean())
            errors.append(draws.std() / np.sqrt(len(draws)))
        evidence = truth.log_evidence.mean()
        assert means[1] > means[0] + 3 * np.hypot(errors[0], errors[1])
        assert means[2] > means[1] + 3 * np.hypot(errors[1], errors[2])
        assert means[2] < evidence + 3 * errors[2]
        assert evidence - means[2] < 0.1 * (evidence - means[0])

    def test_one_importance_sample_is_the_elbo_in_expectation(self):
        truth = LinearGaussian()
        model = truth.vae(0.3, 0.4)
        one = np.array([model.log_likelihood(truth.x, k=1, seed=s).mean() for s in range(200)])
        bound = np.array([model.elbo(truth.x, seed=1000 + s).mean() for s in range(200)])
        error = np.hypot(one.std(), bound.std()) / np.sqrt(200)
        assert abs(one.mean() - bound.mean()) < 3 * error

    def test_chunks_change_nothing_but_the_draws(self):
        truth = LinearGaussian()
        model = truth.vae(0.3, 0.4)
        whole = model.log_likelihood(truth.x, k=400, chunk=400)
        parts = model.log_likelihood(truth.x, k=400, chunk=37)
        assert np.abs(whole - parts).mean() < 0.1
        np.testing.assert_array_equal(model.log_likelihood(truth.x, k=400, chunk=37), parts)


class TestLoss:
    def test_is_the_negative_bound(self, digits):
        model = make_golden.tiny_vae()
        images = digits.test.floats(slice(0, 16))
        noise = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
        loss, terms = model.loss_from_noise({"image": images}, noise, True)
        total = float(to_numpy(terms["reconstruction"])) + float(to_numpy(terms["kl"]))
        assert float(to_numpy(loss)) == pytest.approx(total, rel=1e-6)
        log_likelihood, divergence = model.bound_terms(images, noise)
        assert float(to_numpy(loss)) == pytest.approx(
            -(to_numpy(log_likelihood) - to_numpy(divergence).sum(axis=1)).mean(), rel=1e-6
        )

    def test_beta_and_free_bits(self, digits):
        images = digits.test.floats(slice(0, 16))
        noise = np.zeros((16, 3), "float32")
        model = make_golden.tiny_vae(beta=3.0, free_bits=0.2)
        loss, terms = model.loss_from_noise({"image": images}, noise, True)
        divergence = to_numpy(model.bound_terms(images, noise)[1]).mean(axis=0)
        charged = 3.0 * np.maximum(divergence, 0.2).sum()
        assert float(to_numpy(loss)) == pytest.approx(
            float(to_numpy(terms["reconstruction"])) + charged, rel=1e-5
        )
        assert float(to_numpy(terms["kl"])) == pytest.approx(divergence.sum(), rel=1e-5)

    def test_warmup_raises_the_weight_step_by_step(self, digits):
        model = make_golden.NoiseGiven(make_golden.tiny_vae())
        model.kl_warmup = 4
        model.compile(keras.optimizers.SGD(0.0))
        data = {"image": digits.train.floats(slice(0, 8)), "noise": np.ones((8, 3), "float32")}
        history = model.fit(data, batch_size=8, epochs=6, verbose=0).history
        weights = (np.array(history["loss"]) - history["reconstruction"]) / history["kl"]
        np.testing.assert_allclose(weights, [0, 0.25, 0.5, 0.75, 1, 1], atol=1e-4)
        evaluated = model.evaluate(data, verbose=0, return_dict=True)
        assert evaluated["loss"] == pytest.approx(evaluated["reconstruction"] + evaluated["kl"], rel=1e-5)

    def test_noise_differs_from_step_to_step_and_follows_the_seed(self, digits):
        def losses(seed):
            model = make_golden.tiny_vae(seed=seed)
            for v in model.trainable_variables:
                v.assign(np.full(tuple(v.shape), 0.05, "float32"))
            model.compile(keras.optimizers.SGD(0.0))
            data = {"image": digits.train.floats(slice(0, 8))}
            history = model.fit(data, batch_size=8, epochs=3, shuffle=False, verbose=0).history
            return history["loss"]

        first = losses(1)
        assert len(set(first)) == 3
        assert losses(1) == first
        assert losses(2) != first


class TestTraining:
    def test_learns_digits(self, digits):
        """An untrained model is at 44 nats, one that ignores its code at 27.3 (measured)."""
        model = VAE(mlp_encoder((8, 8, 1), 8, (64,)), mlp_decoder(4, (8, 8, 1), (64,)))
        model.start_from(digits.train.floats().mean(axis=0))
        model.compile(keras.optimizers.Adam(3e-3))
        model.fit({"image": digits.train.floats()}, batch_size=100, epochs=30, verbose=0)
        held_out = digits.test.floats()
        bound = model.elbo(held_out).mean()
        assert bound > -25.5
        assert model.log_likelihood(held_out, k=50).mean() > bound
        assert np.abs(to_numpy(model(held_out)) - held_out).mean() < 0.35

    def test_start_from_the_mean(self, digits):
        for model in (
            VAE(*_networks()),
            VAE(conv_encoder((8, 8, 1), 6, (8,)), conv_decoder(3, (8, 8, 1), (8,))),
        ):
            mean = digits.train.floats().mean(axis=0)
            model.start_from(mean)
            drawn = to_numpy(model.sample(200)).mean(axis=0)
            assert abs(drawn.mean() - mean.mean()) < 0.1
        dense = VAE(*_networks(), likelihood=Gaussian(0.5))
        dense.start_from(mean)
        first = dense.encoder.layers[2]
        np.testing.assert_allclose(to_numpy(first(mean.reshape(1, -1))), 0, atol=1e-5)


@pytest.mark.parametrize(
    "kind", ["mlp", pytest.param("conv", marks=pytest.mark.once), "gaussian, odd size, colour"]
)
def test_check_model(kind, tmp_path):
    gaussian = kind.startswith("gaussian")
    shape = (13, 10, 3) if gaussian else (8, 8, 1)

    def make():
        if kind == "mlp":
            return VAE(*_networks(shape=shape), beta=0.5, free_bits=0.1, kl_warmup=10, seed=3)
        channels = shape[-1] * (2 if gaussian else 1)
        return VAE(
            conv_encoder(shape, 6, (4, 8), 16),
            conv_decoder(3, (*shape[:2], channels), (8, 4), 16),
            likelihood="gaussian" if gaussian else "bernoulli",
        )

    rng = np.random.default_rng(0)
    batch = {"image": np.tanh(rng.normal(size=(6, *shape))).astype("float32")}
    check_model(make, batch, tmp_path, export=False if kind == "conv" else None)


def test_networks_that_do_not_fit():
    encoder, decoder = _networks()
    with pytest.raises(InputError, match="6 outputs.*Received: 5"):
        VAE(mlp_encoder((8, 8, 1), 5), decoder)
    with pytest.raises(InputError, match=r"\(8, 8, 2\).*Received: \(8, 8, 1\)"):
        VAE(encoder, decoder, likelihood="gaussian")
    with pytest.raises(InputError, match="beta of 0 or more"):
        VAE(encoder, decoder, beta=-1)
    with pytest.raises(InputError, match="at least 4 pixels"):
        conv_encoder((3, 8, 1), 4)
    with pytest.raises(InputError, match="no condition"):
        VAE(encoder, decoder).sample(1, condition=3)
