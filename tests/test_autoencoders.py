"""The autoencoder family against independent truth, and each member through its whole life."""

import keras
import numpy as np
import pytest
from harness import check_model
from keras import layers, ops
from sklearn.decomposition import PCA

from keras_gen.autoencoders import Autoencoder, codes_of, fit_greedily, penalties
from keras_gen.autoencoders.penalties import L1, L2, Contractive, KLSparsity
from keras_gen.corruptions import (
    Gaussian,
    Masking,
)
from keras_gen.engine import grad, to_numpy
from keras_gen.errors import InputError
from keras_gen.networks import (
    conv_decoder,
    conv_encoder,
    mlp_decoder,
    mlp_encoder,
    recurrent_decoder,
    recurrent_encoder,
)

SHAPE = (8, 8, 1)


def generator(seed=0):
    return keras.random.SeedGenerator(seed)


def dense(code=4, hidden=(16,), shape=SHAPE, code_activation="linear", data_key="image", **kwargs):
    encoder = mlp_encoder(shape, code, hidden, "tanh", code_activation)
    return Autoencoder(encoder, mlp_decoder(code, shape, hidden[::-1], "tanh"), data_key=data_key, **kwargs)


def tied(code=4, hidden=(16,), **kwargs):
    return Autoencoder(mlp_encoder(SHAPE, code, hidden, "tanh"), "tied", **kwargs)


MEMBERS = {
    "undercomplete": dense,
    "tied": tied,
    "convolutional": lambda: Autoencoder(
        conv_encoder(SHAPE, 4, (4, 8), 16), conv_decoder(4, SHAPE, (8, 4), 16)
    ),
    "recurrent": lambda: Autoencoder(recurrent_encoder(SHAPE, 4, (8,)), recurrent_decoder(4, SHAPE, (8,))),
    "denoising": lambda: dense(corruption=Gaussian((0.0, 0.3)) | Masking(0.2)),
    "sparse": lambda: dense(code_activation="sigmoid", penalty=KLSparsity(0.1, 1e-2)),
    "contractive": lambda: dense(hidden=(), code_activation="sigmoid", penalty=Contractive(1e-3)),
    "contractive deep": lambda: dense(penalty=Contractive(1e-3)),
    "hashing": lambda: Autoencoder(
        mlp_encoder(SHAPE, 4, (16,), "tanh", "sigmoid", code_noise=4.0), mlp_decoder(4, SHAPE, (16,), "tanh")
    ),
}


ONCE = {"undercomplete", "convolutional", "denoising"}
"""Of which the rest is told by the others."""


@pytest.mark.parametrize(
    "member", [pytest.param(m, marks=pytest.mark.once if m in ONCE else ()) for m in MEMBERS]
)
def test_check_model(member, digits, tmp_path):
    served = member in ("tied", "recurrent")
    check_model(MEMBERS[member], {"image": digits.train.floats(slice(0, 40))}, tmp_path, export=served)


def test_check_model_on_features(tmp_path):
    features = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
    check_model(lambda: dense(2, shape=(6,), data_key="features"), {"features": features}, tmp_path)


# --- the linear case ---------------------------------------------------------------------------


def spread_data(n=600, d=8, seed=1):
    """Gaussian features of a known, well separated spectrum, and where they came from."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(d, d)))
    scales = np.array([2.0, 1.5, 1.0, 0.4, 0.3, 0.2, 0.15, 0.1])[:d]
    return (rng.normal(size=(n, d)) * scales @ basis.T + rng.normal(size=d)).astype("float32")


def trained_on(model, data, steps=1500, rate=1e-2):
    """Full-batch training, fifty steps an epoch: an epoch's overhead is that of many steps."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.Adam(schedule), steps_per_execution=50)
    many = {model.data_key: np.tile(data, (50, 1))}
    model.fit(many, batch_size=len(data), epochs=steps // 50, shuffle=False, verbose=0)
    return model


class TestLinear:
    def test_is_principal_component_analysis(self):
        data, k = spread_data(), 3
        model = Autoencoder(mlp_encoder((8,), k, ()), mlp_decoder(k, (8,), ()), data_key="features")
        model.start_from(data.mean(axis=0))
        trained_on(model, data, 2000)
        pca = PCA(k).fit(data)
        error = to_numpy(model.reconstruction_error(data)).mean()
        discarded = PCA().fit(data).explained_variance_[k:].sum() * (len(data) - 1) / len(data) / 8
        assert discarded * (1 - 1e-5) <= error <= 1.01 * discarded
        decoded = model.decoder.layers[1].kernel
        spanned, _ = np.linalg.qr(to_numpy(decoded).T)
        # the sine of the largest principal angle, which the cosine resolves only to 1e-4 in float32
        outside = spanned - pca.components_.T @ (pca.components_ @ spanned)
        assert np.arcsin(np.linalg.norm(outside, 2)) < 1e-2

    @pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
    def test_one_nonlinear_layer_gains_nothing(self, activation):
        """Bourlard & Kamp 1988: with a linear decoder the optimum is still the principal subspace."""
        data, k = spread_data(), 3
        model = Autoencoder(
            mlp_encoder((8,), k, (), code_activation=activation),
            mlp_decoder(k, (8,), ()),
            data_key="features",
        )
        model.start_from(data.mean(axis=0))
        trained_on(model, data, 3000, 3e-2)
        error = to_numpy(model.reconstruction_error(data)).mean()
        pca = PCA(k).fit(data)
        best = ((data - pca.inverse_transform(pca.transform(data))) ** 2).mean()
        assert best * (1 - 1e-5) <= error <= 1.15 * best


class TestTied:
    def test_gradient_is_the_sum_of_both_paths(self, digits):
        """The tied kernel's gradient = the encoder's + the decoder's transposed, untied at equal weights."""
        images = digits.train.floats(slice(0, 16))
        one = tied(hidden=(6,))
        two = dense(hidden=(6,))
        kernels = [layer.kernel for layer in one.encoder.layers if layer.weights]
        for mine, theirs in zip(kernels, [la for la in two.encoder.layers if la.weights], strict=True):
            theirs.kernel.assign(to_numpy(mine.value))
        for mine, theirs in zip(kernels[::-1], [la for la in two.decoder.layers if la.weights], strict=True):
            theirs.kernel.assign(to_numpy(mine.value).T)
        model_gradients = []
        for model, variables in (
            (one, kernels),
            (two, [la.kernel for la in [*two.encoder.layers, *two.decoder.layers] if la.weights]),
        ):
            # one step of plain descent shows the gradient
            before = [to_numpy(v.value).copy() for v in variables]
            model.compile(keras.optimizers.SGD(1.0), run_eagerly=False)
            model.fit({"image": images}, batch_size=16, verbose=0)
            model_gradients.append([b - to_numpy(v.value) for b, v in zip(before, variables, strict=True)])
        tied_gradients, (e1, e2, d1, d2) = model_gradients
        np.testing.assert_allclose(tied_gradients[0], e1 + d2.T, atol=1e-6)
        np.testing.assert_allclose(tied_gradients[1], e2 + d1.T, atol=1e-6)

    def test_has_no_kernels_of_its_own(self):
        model = tied(hidden=(16,))
        assert [tuple(v.shape) for v in model.decoder.trainable_variables] == [(16,), (64,)]

    def test_refuses_what_cannot_be_mirrored(self):
        with pytest.raises(InputError, match="dense layers alone"):
            Autoencoder(conv_encoder(SHAPE, 4, (4,)), "tied")
        with pytest.raises(InputError, match="'untied'"):
            Autoencoder(mlp_encoder(SHAPE, 4), "untied")
        with pytest.raises(InputError, match="tied one"):
            tied().stage = 0


class TestGreedy:
    def test_a_stage_moves_its_own_pair_alone(self, digits):
        model = dense(hidden=(16, 8))
        assert model.stages() == 3
        model.stage = 1
        model.compile("adam")
        before = [to_numpy(v.value).copy() for v in model.trainable_variables]
        model.fit({"image": digits.train.floats(slice(0, 64))}, verbose=0)
        moved = [
            tuple(v.shape)
            for v, old in zip(model.trainable_variables, before, strict=True)
            if not np.array_equal(to_numpy(v.value), old)
        ]
        assert sorted(moved) == sorted([(16, 8), (8,), (8, 16), (16,)])

    @pytest.mark.once
    def test_pretrained_then_fine_tuned(self, digits):
        model = dense(hidden=(16,))
        images = digits.train.floats()
        model.start_from(images.mean(axis=0))
        fit_greedily(model, {"image": images}, 20, lambda: keras.optimizers.Adam(1e-2), verbose=0)
        assert model.stage is None
        pretrained = float(to_numpy(model.reconstruction_error(images)).mean())
        assert pretrained < 0.93 * images.var(axis=0).mean() / 4
        model.compile(keras.optimizers.Adam(3e-3))
        model.fit({"image": images}, epochs=3, verbose=0)
        assert float(to_numpy(model.reconstruction_error(images)).mean()) < pretrained

    @pytest.mark.once
    def test_convolutional_stages_learn_each(self, digits):
        model = MEMBERS["convolutional"]()
        images = digits.train.floats()
        for stage in range(model.stages()):
            model.stage = stage
            model.compile(keras.optimizers.Adam(3e-3))
            history = model.fit({"image": images}, epochs=4, verbose=0).history["loss"]
            assert history[-1] < 0.9 * history[0]

    @pytest.mark.once
    def test_saved_in_the_midst_of_it(self, digits, tmp_path):
        model = dense(hidden=(16, 8))
        model.stage = 0
        model.compile("adam")
        model.fit({"image": digits.train.floats(slice(0, 64))}, verbose=0)
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras", compile=False)
        images = digits.test.floats(slice(0, 5))
        np.testing.assert_array_equal(to_numpy(again(images)), to_numpy(model(images)))

    def test_refused(self):
        uneven = Autoencoder(mlp_encoder(SHAPE, 4, (16, 8)), mlp_decoder(4, SHAPE, (16,)))
        with pytest.raises(InputError, match="as many layers"):
            uneven.stages()
        with pytest.raises(InputError, match="within 0 to 1"):
            dense().stage = 2
        inputs = keras.Input((8,))
        side = layers.Dense(3)(inputs)
        branching = keras.Model(inputs, layers.Concatenate()([side, layers.Dense(1)(inputs)]))
        with pytest.raises(InputError, match="plain chains"):
            Autoencoder(branching, mlp_decoder(4, (8,), ()), data_key="features").stages()


# --- penalties ---------------------------------------------------------------------------------


class TestContractive:
    def encoder(self, hidden=()):
        encoder = mlp_encoder((6,), 4, hidden, "tanh", "sigmoid")
        rng = np.random.default_rng(0)
        encoder.set_weights([rng.normal(size=w.shape) for w in encoder.get_weights()])
        return encoder

    def jacobian_norm(self, encoder, x):
        """Central differences in float64, by hand."""
        weights = [w.astype("float64") for w in encoder.get_weights()]

        def forward(x):
            for i in range(0, len(weights), 2):
                x = x @ weights[i] + weights[i + 1]
                x = 1 / (1 + np.exp(-x)) if i == len(weights) - 2 else np.tanh(x)
            return x

        step = 1e-5
        columns = [(forward(x + step * e) - forward(x - step * e)) / (2 * step) for e in np.eye(x.shape[1])]
        return sum((c**2).sum(axis=1) for c in columns)

    def test_closed_form(self):
        encoder, x = self.encoder(), np.random.default_rng(1).normal(size=(5, 6)).astype("float32")
        norm = penalties.squared_norm_closed(encoder.layers[-1].kernel, encoder(x))
        np.testing.assert_allclose(to_numpy(norm), self.jacobian_norm(encoder, x), rtol=1e-4)

    @pytest.mark.parametrize("hidden", [(), (7,)])
    def test_exact_by_differentiation(self, hidden):
        encoder, x = self.encoder(hidden), np.random.default_rng(1).normal(size=(5, 6)).astype("float32")
        norm = penalties.squared_norm_exact(encoder, ops.convert_to_tensor(x), 4)
        np.testing.assert_allclose(to_numpy(norm), self.jacobian_norm(encoder, x), rtol=1e-4)

    def test_stochastic_is_unbiased(self):
        encoder, x = self.encoder((7,)), np.random.default_rng(1).normal(size=(3, 6)).astype("float32")
        many = np.repeat(x, 4000, axis=0)
        estimates = to_numpy(
            penalties.squared_norm_stochastic(
                encoder, ops.convert_to_tensor(many), encoder(many), generator()
            )
        ).reshape(3, 4000)
        error = estimates.std(axis=1) / np.sqrt(4000)
        assert (np.abs(estimates.mean(axis=1) - self.jacobian_norm(encoder, x)) < 4 * error).all()

    def test_the_methods_agree_in_the_loss(self, digits):
        images = ops.convert_to_tensor(digits.train.floats(slice(0, 8)))
        losses = {}
        for method in ("auto", "closed", "exact", "stochastic"):
            keras.utils.set_random_seed(1)
            model = dense(
                hidden=(),
                code_activation="sigmoid",
                penalty=Contractive(0.1, method, probes=400 if method == "stochastic" else 1),
            )
            losses[method] = float(
                to_numpy(model.loss_from_corrupted({"image": images}, images, False)[1]["penalty"])
            )
        assert losses["auto"] == losses["closed"] == pytest.approx(losses["exact"], rel=1e-4)
        assert losses["stochastic"] == pytest.approx(losses["exact"], rel=0.1)

    @pytest.mark.once
    def test_the_norm_falls_with_lambda(self, digits):
        images = digits.train.floats(slice(0, 400))
        norms = []
        for weight in (0.0, 1e-2, 1e-1):
            keras.utils.set_random_seed(0)
            model = dense(16, (), code_activation="sigmoid", penalty=Contractive(weight))
            model.compile(keras.optimizers.Adam(1e-2))
            model.fit({"image": images}, batch_size=50, epochs=25, verbose=0)
            norms.append(to_numpy(model.jacobian_norm(images[:100])).mean())
        assert norms == sorted(norms, reverse=True)
        assert norms[-1] < 0.5 * norms[0]

    def test_refused(self):
        with pytest.raises(InputError, match="one dense sigmoid layer"):
            dense(penalty=Contractive(1.0, "closed"))
        with pytest.raises(InputError, match="'approximate'"):
            Contractive(1.0, "approximate")
        with pytest.raises(InputError, match="0 or more"):
            Contractive(-1.0)


class TestSparse:
    def test_kl_is_zero_at_the_target_alone(self):
        q = np.array([0.05, 0.1, 0.2], "float32")
        kl = to_numpy(penalties.bernoulli_kl(0.1, q))
        expected = 0.1 * np.log(0.1 / q) + 0.9 * np.log(0.9 / (1 - q))
        np.testing.assert_allclose(kl, expected, atol=1e-6)
        assert abs(kl[1]) < 1e-7 and kl[0] > 1e-3 and kl[2] > 1e-3

    def test_kl_is_finite_at_dead_and_saturated_units(self):
        assert np.isfinite(to_numpy(penalties.bernoulli_kl(0.1, np.array([0.0, 1.0], "float32")))).all()

    @pytest.mark.once
    def test_kl_brings_the_activity_to_its_target(self, digits):
        images = digits.train.floats()
        model = dense(32, (), code_activation="sigmoid", penalty=KLSparsity(0.1, 0.02))
        model.compile(keras.optimizers.Adam(1e-2))
        model.fit({"image": images}, batch_size=100, epochs=30, verbose=0)
        assert abs(codes_of(model, images).mean() - 0.1) < 0.02

    def test_l1_and_l2(self):
        codes = ops.convert_to_tensor(np.array([[1.0, -2.0], [0.0, 3.0]], "float32"))
        assert float(to_numpy(L1(0.5)(None, None, codes, None))) == pytest.approx(0.5 * 3)
        assert float(to_numpy(L2(0.5)(None, None, codes, None))) == pytest.approx(0.5 * 7)

    def test_refused(self):
        with pytest.raises(InputError, match="sigmoid"):
            dense(penalty=KLSparsity())
        with pytest.raises(InputError, match="between 0 and 1"):
            KLSparsity(1.0)

    @pytest.mark.parametrize("text", ["l1:1e-4", "l2:0.1", "kl:0.1:5e-3", "contractive:0.1"])
    def test_parse(self, text):
        penalty = penalties.parse(text)
        again = type(penalty).from_config(penalty.get_config())
        assert again.get_config() == penalty.get_config()

    @pytest.mark.parametrize("text", ["l3:1", "l1", "l1:a", "kl:2:1", "l1:-1"])
    def test_parse_refuses(self, text):
        with pytest.raises(InputError):
            penalties.parse(text)


class TestDenoising:
    @pytest.mark.once
    def test_recovers_the_wiener_filter(self):
        """For Gaussian data the best linear map from noisy to clean is C (C + s**2 I)^-1."""
        data = spread_data(2000, 4)
        data -= data.mean(axis=0)
        s = 0.8
        model = Autoencoder(
            mlp_encoder((4,), 4, ()),
            mlp_decoder(4, (4,), ()),
            corruption=Gaussian(s / 2),
            data_key="features",
        )
        trained_on(model, data, 2000)
        covariance = np.cov(data.T, bias=True)
        wiener = covariance @ np.linalg.inv(covariance + s**2 * np.eye(4))
        found = to_numpy(model(np.eye(4, dtype="float32"))) - to_numpy(model(np.zeros((1, 4), "float32")))
        np.testing.assert_allclose(found.T, wiener, atol=0.02)

    @pytest.mark.once
    def test_its_residual_is_the_score(self):
        """Alain & Bengio 2014: r(x) - x is s**2 times the gradient of the log density (Tweedie)."""
        rng = np.random.default_rng(0)
        centres, width, s = np.array([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]]), 0.25, 0.3
        data = (centres[rng.integers(3, size=6000)] + width * rng.normal(size=(6000, 2))).astype("float32")
        model = Autoencoder(
            mlp_encoder((2,), 32, (64,), "tanh", "tanh"),
            mlp_decoder(32, (2,), (64,), "tanh"),
            corruption=Gaussian(s / 2),
            data_key="features",
        )
        model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, 40 * 30)))
        model.fit({"features": data}, batch_size=200, epochs=40, verbose=0)
        x = (centres[rng.integers(3, size=500)] + np.hypot(width, s) * rng.normal(size=(500, 2))).astype(
            "float32"
        )
        offsets = centres[None] - x[:, None]
        weights = np.exp(-(offsets**2).sum(-1) / (2 * (width**2 + s**2)))
        weights /= weights.sum(axis=1, keepdims=True)
        score = (weights[..., None] * offsets).sum(axis=1) / (width**2 + s**2)
        residual = to_numpy(model(x)) - x
        assert np.corrcoef(residual.ravel(), (s**2 * score).ravel())[0, 1] > 0.95
        assert np.polyfit((s**2 * score).ravel(), residual.ravel(), 1)[0] == pytest.approx(1, abs=0.1)

    def test_evaluation_repeats_itself(self, digits):
        model = dense(corruption=Gaussian(0.3))
        model.compile("adam")
        images = {"image": digits.test.floats(slice(0, 64))}
        first = model.evaluate(images, verbose=0, return_dict=True)["loss"]
        state = to_numpy(model.noise.state.value).copy()
        assert model.evaluate(images, verbose=0, return_dict=True)["loss"] == first
        np.testing.assert_array_equal(to_numpy(model.noise.state.value), state)
        clean = to_numpy(model.reconstruction_error(images["image"])).mean()
        assert first != pytest.approx(clean, rel=1e-3), "the corrupted input was not used"


class TestConventions:
    def test_error_is_of_pixels_from_0_to_1(self, digits):
        model = dense()
        images = digits.test.floats(slice(0, 7))
        expected = (((images + 1) / 2 - (to_numpy(model(images)) + 1) / 2) ** 2).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(to_numpy(model.reconstruction_error(images)), expected, rtol=1e-5)
        model.compile("adam")
        logged = model.evaluate({"image": images}, verbose=0, return_dict=True)["loss"]
        assert logged == pytest.approx(expected.mean(), rel=1e-5)

    def test_shapes_are_checked(self):
        with pytest.raises(InputError, match="decoder of codes"):
            Autoencoder(mlp_encoder(SHAPE, 4), mlp_decoder(5, SHAPE))
        with pytest.raises(InputError, match="data's shape"):
            Autoencoder(mlp_encoder(SHAPE, 4), mlp_decoder(4, (8, 8, 3)))

    def test_codes_of_is_encode(self, digits):
        model, images = dense(), digits.test.floats(slice(0, 11))
        np.testing.assert_allclose(codes_of(model, images, 4), to_numpy(model.encode(images)), atol=1e-6)

    def test_the_gradient_reaches_through_a_penalty(self):
        """A penalty on a gradient is itself differentiated: the norm's gradient is not zero."""
        kernel = ops.convert_to_tensor(np.ones((3, 2), "float32"))
        x = ops.convert_to_tensor(np.ones((1, 3), "float32"))

        def norm(kernel):
            return penalties.squared_norm_exact(lambda x: ops.tanh(ops.matmul(x, kernel)), x, 2)

        assert np.abs(to_numpy(grad(norm)(kernel))).min() > 1e-6
