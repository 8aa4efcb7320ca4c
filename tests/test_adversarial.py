"""GANs: losses against constants, penalties against closed forms, and what trains where."""

import keras
import numpy as np
import pytest
from harness import check_model
from keras import layers, ops

from keras_gen.adversarial import (
    GAN,
    R1,
    VAEGAN,
    GradientPenalty,
    InstanceNoise,
    LabelNoise,
    Translator,
    losses,
    penalties,
)
from keras_gen.corruptions import Grey
from keras_gen.engine import grad, gradient_norms, to_numpy
from keras_gen.errors import InputError
from keras_gen.layers import SpectralConv2D, SpectralDense
from keras_gen.networks import (
    conv_encoder,
    dcgan_discriminator,
    dcgan_generator,
    patch_discriminator,
    residual_discriminator,
    residual_generator,
    translation_unet,
)

SHAPE = (8, 8, 1)


def gan(classes=None, norm="batch", **kwargs):
    generator = dcgan_generator(5, SHAPE, 4, classes)
    bias = kwargs.get("loss") != "wasserstein"
    discriminator = dcgan_discriminator(SHAPE, 4, norm, classes, bias)
    return GAN(generator, discriminator, classes=classes, **kwargs)


def batch(digits, n=24):
    return {"image": digits.train.floats(slice(0, n)), "label": digits.train.labels[:n]}


class TestLosses:
    """Scores 1 and -2 of real pictures, 0.5 and -1 of made ones."""

    EXPECTED = {
        "minimax": (np.log1p(np.exp([-1, 2])), np.log1p(np.exp([0.5, -1])), -np.log1p(np.exp([0.5, -1]))),
        "non-saturating": (
            np.log1p(np.exp([-1, 2])),
            np.log1p(np.exp([0.5, -1])),
            np.log1p(np.exp([-0.5, 1])),
        ),
        "least-squares": ([0, 4.5], [0.125, 0.5], [0.125, 2]),
        "hinge": ([0, 3], [1.5, 0], [-0.5, 1]),
        "wasserstein": ([-1, 2], [0.5, -1], [-0.5, 1]),
    }

    @pytest.mark.parametrize("name", list(losses.LOSSES))
    def test_constants(self, name):
        loss = losses.get(name)
        real, made = ops.convert_to_tensor([1.0, -2.0]), ops.convert_to_tensor([0.5, -1.0])
        found = [loss.real(real), loss.fake(made), loss.generator(made)]
        for value, expected in zip(found, self.EXPECTED[name], strict=True):
            np.testing.assert_allclose(to_numpy(value), expected, rtol=1e-5, atol=1e-6)
        of_real, of_made, _ = self.EXPECTED[name]
        total = float(to_numpy(loss.discriminator(real, made)))
        assert total == pytest.approx(np.mean(of_real) + np.mean(of_made), rel=1e-5)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert type(copy) is type(loss)

    def test_soft_labels_are_those_of_cross_entropy_and_least_squares(self):
        d = ops.convert_to_tensor([0.7, -0.3])
        t = ops.convert_to_tensor([0.9, 0.2])
        cross = losses.NonSaturating()
        soft = to_numpy(t * cross.real(d) + (1 - t) * cross.fake(d))
        p = 1 / (1 + np.exp(-np.array([0.7, -0.3])))
        target = np.array([0.9, 0.2])
        expected = -(target * np.log(p) + (1 - target) * np.log(1 - p))
        np.testing.assert_allclose(soft, expected, rtol=1e-5)
        squares = losses.LeastSquares()
        slope = grad(lambda d: t * squares.real(d) + (1 - t) * squares.fake(d))(d)
        np.testing.assert_allclose(to_numpy(slope), np.array([0.7, -0.3]) - target, rtol=1e-5)

    def test_both_cross_entropies_have_one_stationary_point(self):
        """Where D cannot tell (d = 0) their generator gradients point the same way, elsewhere too."""
        d = ops.convert_to_tensor(np.linspace(-3, 3, 7).astype("float32"))
        slopes = [to_numpy(grad(losses.get(n).generator)(d)) for n in ("minimax", "non-saturating")]
        assert (slopes[0] < 0).all() and (slopes[1] < 0).all()
        np.testing.assert_allclose(slopes[0][3], slopes[1][3], rtol=1e-6)

    def test_refused(self):
        with pytest.raises(InputError, match="non-saturating, minimax.*'wgan'"):
            losses.get("wgan")


class TestPenalties:
    def test_a_linear_score(self):
        """For D(x) = a . x the slope is a everywhere."""
        a = np.random.default_rng(0).normal(size=(4, 4, 1)).astype("float32")
        score = lambda x: ops.sum(x * ops.convert_to_tensor(a), axis=(1, 2, 3))  # noqa: E731
        rng = np.random.default_rng(1)
        real, made = (ops.convert_to_tensor(rng.normal(size=(6, 4, 4, 1)).astype("float32")) for _ in "ab")
        mix = ops.convert_to_tensor(rng.random(6).astype("float32"))
        norm = np.linalg.norm(a)
        for penalty, expected in (
            (GradientPenalty(10.0), 10 * (norm - 1) ** 2),
            (GradientPenalty(3.0, centre=0.0), 3 * norm**2),
            (R1(10.0), 5 * norm**2),
        ):
            assert float(to_numpy(penalty(score, real, made, mix))) == pytest.approx(expected, rel=1e-5)

    def test_where(self):
        """R1 at real pictures, the other between. For D(x) = |x|^2 / 2 the slope is x."""
        score = lambda x: 0.5 * ops.sum(x * x, axis=(1, 2, 3))  # noqa: E731
        real = ops.full((2, 1, 1, 1), 3.0)
        made = ops.full((2, 1, 1, 1), 1.0)
        assert float(to_numpy(R1(2.0)(score, real, made, None))) == pytest.approx(9)
        mix = ops.convert_to_tensor(np.array([0.5, 1.0], "float32"))
        found = float(to_numpy(GradientPenalty(1.0)(score, real, made, mix)))
        assert found == pytest.approx(np.mean([(2 - 1) ** 2, (3 - 1) ** 2]), rel=1e-5)

    def test_parse(self):
        assert penalties.parse("none") is None
        assert (penalties.parse("gp0:5").weight, penalties.parse("gp0:5").centre) == (5, 0)
        assert isinstance(penalties.parse("r1"), R1)
        for text in ("l2", "gp:x"):
            with pytest.raises(InputError, match="none, gp, gp0 or r1"):
                penalties.parse(text)
        with pytest.raises(InputError, match="weight of 0 or more"):
            penalties.parse("r1:-1")


class TestSpectral:
    @pytest.mark.parametrize("kind", ["dense", "conv"])
    def test_largest_singular_value(self, kind):
        """1 after some calls in training, by SVD; nothing moves outside of training."""
        rng = np.random.default_rng(0)
        if kind == "dense":
            layer, x = SpectralDense(7), rng.normal(size=(3, 12)).astype("float32")
        else:
            layer, x = (
                SpectralConv2D(6, 4, 2, padding="same"),
                rng.normal(size=(2, 8, 8, 3)).astype("float32"),
            )
        layer(x)
        layer._kernel.assign(3 * rng.normal(size=layer._kernel.shape))
        kernel = to_numpy(layer._kernel.value)
        for _ in range(60):
            layer(x, training=True)
        normalised = to_numpy(layer.normalised_kernel(training=False))
        found = np.linalg.svd(normalised.reshape(-1, normalised.shape[-1]), compute_uv=False)[0]
        assert found == pytest.approx(1, abs=1e-3)
        np.testing.assert_array_equal(to_numpy(layer._kernel.value), kernel)
        before = to_numpy(layer.direction.value)
        first = to_numpy(layer(x))
        np.testing.assert_array_equal(to_numpy(layer(x)), first)
        np.testing.assert_array_equal(to_numpy(layer.direction.value), before)

    def test_is_the_plain_layer_over_sigma(self):
        x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
        layer = SpectralConv2D(6, 3, 1, padding="same", activation="tanh")
        for _ in range(60):
            layer(x, training=True)
        plain = layers.Conv2D(6, 3, 1, padding="same", activation="tanh")
        plain(x)
        plain.set_weights([to_numpy(layer.normalised_kernel(False)), to_numpy(layer.bias.value)])
        np.testing.assert_allclose(to_numpy(layer(x)), to_numpy(plain(x)), atol=1e-5)

    def test_gradient(self):
        """Of the quotient, not of the kernel at a fixed sigma: scaling the kernel changes nothing."""
        layer = SpectralDense(4, use_bias=False)
        x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
        for _ in range(80):
            layer(x, training=True)
        kernel = to_numpy(layer._kernel.value)

        def output(kernel):
            with keras.StatelessScope([(layer._kernel, kernel)]):
                return ops.sum(layer(ops.convert_to_tensor(x)) ** 2)

        slope = to_numpy(grad(output)(ops.convert_to_tensor(kernel)))
        assert abs((slope * kernel).sum()) < 1e-3 * np.abs(slope * kernel).sum()


class TestGAN:
    @pytest.mark.parametrize(
        "settings",
        [
            {"ema": 0.9, "label_noise": LabelNoise(0.1, random=True, flip=0.05)},
            {"classes": 10, "norm": "spectral", "loss": "least-squares"},
            {
                "norm": "layer",
                "loss": "wasserstein",
                "penalty": GradientPenalty(),
                "critic_steps": 3,
                "instance_noise": InstanceNoise(0.2, 100),
            },
        ],
        ids=["dcgan", "conditional", "wgan-gp"],
    )
    def test_check_model(self, settings, digits, tmp_path):
        given = batch(digits)
        if "classes" not in settings:
            del given["label"]
        check_model(lambda: gan(**settings), given, tmp_path)

    def test_check_model_of_the_residual_pair(self, digits, tmp_path):
        def make():
            pair = residual_generator(5, SHAPE, 6, 10), residual_discriminator(SHAPE, 4, classes=10)
            return GAN(*pair, "hinge", classes=10, ema=0.9)

        check_model(make, batch(digits), tmp_path, export=False)

    def test_each_update_leaves_the_other_network_alone(self, digits):
        """Bit for bit, statistics aside."""

        class Half(GAN):
            only = "discriminator"

            def updates(self):
                return [u for u in super().updates() if u.name == self.only]

        for only in ("discriminator", "generator"):
            model = Half(dcgan_generator(5, SHAPE, 4), dcgan_discriminator(SHAPE, 4))
            model.only = only
            model.compile("sgd")
            weights = lambda network: [to_numpy(v.value).copy() for v in network.trainable_variables]  # noqa: E731
            before = {name: weights(getattr(model, name)) for name in ("discriminator", "generator")}
            model.fit({"image": batch(digits)["image"]}, batch_size=24, epochs=2, verbose=0)
            for name, old in before.items():
                same = [np.array_equal(a, b) for a, b in zip(weights(getattr(model, name)), old, strict=True)]
                assert all(same) if name != only else not any(same), (only, name)

    def test_each_critic_step_sees_its_own_pictures(self, digits):
        seen = []

        class Watched(GAN):
            def _discriminator_loss(self, batch, training):
                seen.append(to_numpy(batch["image"]))
                return super()._discriminator_loss(batch, training)

            def draw(self, n):
                seen.append(int(n))
                return super().draw(n)

        model = Watched(dcgan_generator(5, SHAPE, 4), dcgan_discriminator(SHAPE, 4, "none"), critic_steps=3)
        model.compile("adam", run_eagerly=True, jit_compile=False)
        images = batch(digits, 24)["image"]
        model._train_program({"image": ops.convert_to_tensor(images)})
        parts = [part for part in seen if not isinstance(part, int)]
        np.testing.assert_array_equal(np.concatenate(parts), images)
        assert [part for part in seen if isinstance(part, int)] == [8, 8, 8, 8]

    @pytest.mark.once
    def test_moving_average(self, digits):
        """In closed form, and the samples are its own."""
        model = gan(ema=0.5)
        model.compile(keras.optimizers.SGD(0.1))
        expected = model.generator.get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(expected, model.average.get_weights(), strict=True))
        data = {"image": batch(digits)["image"]}
        trail = []
        for _ in range(3):
            trail.append([to_numpy(v.value).copy() for v in model.generator.trainable_variables])
            model.fit(data, batch_size=24, epochs=1, verbose=0, shuffle=False)
        trail.append([to_numpy(v.value).copy() for v in model.generator.trainable_variables])
        mean = trail[0]
        for step, weights in enumerate(trail[1:], 1):  # after each step
            decay = min(0.5, (1 + step) / (10 + step))
            mean = [decay * m + (1 - decay) * w for m, w in zip(mean, weights, strict=True)]
        kernels = [
            v for v in model.average.weights if v.path.split("/")[-1] in ("kernel", "gamma", "beta", "bias")
        ]
        for found, wanted in zip(kernels, mean, strict=True):
            np.testing.assert_allclose(to_numpy(found.value), wanted, atol=1e-5)
        codes = np.random.default_rng(0).normal(size=(2, 5)).astype("float32")
        np.testing.assert_allclose(to_numpy(model.decode(codes)), to_numpy(model.average(codes)), atol=1e-6)

    def test_conditions(self):
        model = gan(classes=3)
        one, other = (to_numpy(model.sample(4, condition=c, seed=1)) for c in (0, 2))
        assert not np.allclose(one, other)
        by_name = to_numpy(model.sample(4, condition=np.array([0, 2, 2, 0]), seed=1))
        np.testing.assert_allclose(by_name, np.stack([one[0], other[1], other[2], one[3]]), atol=1e-6)
        with pytest.raises(InputError, match="takes no condition"):
            gan().sample(2, condition=1)

    def test_refused(self):
        with pytest.raises(InputError, match="without classes.*2 inputs"):
            GAN(dcgan_generator(5, SHAPE, 4, 3), dcgan_discriminator(SHAPE, 4))
        with pytest.raises(InputError, match="and labels, for 3 classes.*1 inputs"):
            GAN(dcgan_generator(5, SHAPE, 4), dcgan_discriminator(SHAPE, 4), classes=3)
        with pytest.raises(InputError, match="one score"):
            GAN(dcgan_generator(5, (16, 16, 1), 4), dcgan_discriminator(SHAPE, 4))
        with pytest.raises(InputError, match="in even numbers.*8x9"):
            dcgan_generator(5, (8, 9, 1))
        with pytest.raises(InputError, match="below a half"):
            LabelNoise(0.5)
        model = gan(classes=3)
        model.compile("adam", run_eagerly=True, jit_compile=False)
        with pytest.raises(InputError, match="batches with labels"):
            model._train_program({"image": np.zeros((4, *SHAPE), "float32")})


class TestNoise:
    def test_labels(self):
        generator = keras.random.SeedGenerator(1)
        real, made = (to_numpy(x) for x in LabelNoise(0.1).labels(50, generator))
        np.testing.assert_allclose(real, 0.9)
        np.testing.assert_array_equal(made, 0)
        real, made = (
            to_numpy(x) for x in LabelNoise(0.2, two_sided=True, random=True).labels(4000, generator)
        )
        for blur in (1 - real, made):
            assert 0 <= blur.min() < 0.01 and 0.19 < blur.max() <= 0.2
            assert blur.mean() == pytest.approx(0.1, abs=0.01)
        real, made = (to_numpy(x) for x in LabelNoise(0.1, flip=0.25).labels(4000, generator))
        assert set(np.round(real, 3)) == {np.float32(0.9), np.float32(0.1)}
        assert (real < 0.5).mean() == pytest.approx(0.25, abs=0.04)
        assert (made > 0.5).mean() == pytest.approx(0.25, abs=0.04)

    def test_instance_noise_fades(self):
        noise = InstanceNoise(0.4, 100)
        assert [float(to_numpy(noise.sigma_at(s))) for s in (0, 50, 100, 500)] == pytest.approx(
            [0.4, 0.2, 0, 0]
        )


class Slope(layers.Layer):
    """D(x) = slope x."""

    def build(self, shape):
        self.slope = self.add_weight(shape=(), initializer=keras.initializers.Constant(1.0), name="slope")

    def call(self, x):
        return self.slope * x


class Place(layers.Layer):
    """G(z) = place."""

    def build(self, shape):
        self.place = self.add_weight(shape=(), initializer=keras.initializers.Constant(1.0), name="place")

    def call(self, z):
        return 0.0 * z + self.place


@pytest.mark.once
@pytest.mark.parametrize(("penalty", "converges"), [(None, False), (R1(1.0), True)], ids=["plain", "r1"])
def test_dirac_gan(penalty, converges):
    """Mescheder et al. 2018, figure 1: real data at 0; R1 brings the generator there, alone it circles."""
    generator, discriminator = (
        keras.Sequential([keras.Input((1,)), layer], name=name)
        for layer, name in ((Place(), "generator"), (Slope(), "discriminator"))
    )
    model = GAN(generator, discriminator, "minimax", penalty, data_key="features")
    model.compile(keras.optimizers.SGD(0.2))
    data = {"features": np.zeros((400, 1), "float32")}
    model.fit(data, batch_size=4, epochs=4, verbose=0)
    place, slope = (float(to_numpy(n.trainable_variables[0].value)) for n in (generator, discriminator))
    distance = np.hypot(place, slope)
    assert distance < 0.01 if converges else distance > 1, distance


class TestNetworks:
    @pytest.mark.once
    @pytest.mark.parametrize("side", [8, 12, 28, 32, 64])
    def test_sizes(self, side):
        """Halved down to 4 pixels or a little more, and back to the same size."""
        shape = (side, side, 3)
        generator, discriminator = dcgan_generator(7, shape, 2), dcgan_discriminator(shape, 2)
        assert generator.output_shape == (None, *shape)
        assert discriminator.output_shape == (None, 1)
        smallest = min(layer.output.shape[1] for layer in generator.layers if len(layer.output.shape) == 4)
        assert 4 <= smallest < 8 or smallest % 2

    def test_the_guidelines(self):
        """No normalisation at the generator's output, nor at the discriminator's input; kernels of 4."""
        generator, discriminator = dcgan_generator(7, (16, 16, 1), 4), dcgan_discriminator((16, 16, 1), 4)
        kinds = [type(layer).__name__ for layer in generator.layers]
        assert kinds[-2:] == ["ReLU", "Conv2DTranspose"]
        assert kinds.count("BatchNormalization") == 2
        kinds = [type(layer).__name__ for layer in discriminator.layers]
        assert kinds[1:3] == ["Conv2D", "LeakyReLU"] and kinds.count("BatchNormalization") == 1
        for layer in [*generator.layers, *discriminator.layers]:
            if "Conv" in type(layer).__name__:
                assert layer.kernel_size == (4, 4) and layer.strides == (2, 2)
                assert to_numpy(layer.kernel.value).std() == pytest.approx(0.02, rel=0.3)

    @pytest.mark.once
    @pytest.mark.parametrize(("side", "smallest"), [(8, 4), (12, 6), (28, 7), (32, 8), (64, 8)])
    def test_residual_sizes(self, side, smallest):
        shape = (side, side, 3)
        generator, discriminator = residual_generator(7, shape, 2), residual_discriminator(shape, 2)
        assert generator.output_shape == (None, *shape)
        assert discriminator.output_shape == (None, 1)
        last = [layer.output.shape for layer in discriminator.layers if len(layer.output.shape) == 4][-1]
        assert last == (None, smallest, smallest, 2)

    @pytest.mark.once
    def test_the_residual_pair_is_the_paper_s(self):
        """Parameters counted from table 4, at 32 pixels."""

        def block(a, b, side):
            return side**2 * a * b + b

        generator, discriminator = residual_generator(128, (32, 32, 3)), residual_discriminator((32, 32, 3))
        up = 2 * block(256, 256, 3) + block(256, 256, 1) + 2 * 4 * 256
        wanted = 129 * 16 * 256 + 3 * up + 4 * 256 + block(256, 3, 3)
        assert generator.count_params() == wanted
        first = block(3, 128, 3) + block(128, 128, 3) + block(3, 128, 1)
        wanted = first + 3 * 2 * block(128, 128, 3) + block(128, 128, 1) + 129
        assert sum(int(np.prod(v.shape)) for v in discriminator.trainable_variables) == wanted
        kernels = [layer for layer in discriminator.layers if hasattr(layer, "kernel")]
        assert all(isinstance(layer, SpectralConv2D | SpectralDense) for layer in kernels)
        with pytest.raises(InputError, match="spectral, none"):
            residual_discriminator((32, 32, 3), norm="batch")

    @pytest.mark.parametrize("discriminator", [dcgan_discriminator, residual_discriminator])
    def test_projection(self, discriminator):
        """The label adds the product of its embedding and the features, and nothing else."""
        network = discriminator(SHAPE, 4, "none", 3)
        images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")
        embedding = next(layer for layer in network.layers if isinstance(layer, layers.Embedding))
        embedding.set_weights([np.zeros(embedding.get_weights()[0].shape)])
        scores = [to_numpy(network([images, np.full(2, c, "int32")])) for c in range(3)]
        np.testing.assert_allclose(scores[0], scores[2], atol=1e-6)


class TestWatch:
    def rows(self, **last):
        row = {"real_score": 1.0, "made_score": -1.0, "coverage": 0.6, "diversity": 0.9}
        row |= {"discriminator_gradient": 2.0, "generator_gradient": 0.5}
        return [{"epoch": e, **row} for e in (1, 2, 3)] + [{"epoch": 4, **row, **last}]

    @pytest.mark.parametrize(
        ("last", "kind", "words"),
        [
            ({}, None, ""),
            ({"coverage": 0.05}, "collapse", "cover 0.050 of the real pictures, after 0.600"),
            ({"coverage": 0.4, "diversity": 0.1}, "collapse", "differ 0.10 times"),
            ({"generator_gradient": 1e-5}, "generator dead", "the discriminator has won"),
            ({"discriminator_gradient": 1e-4}, "discriminator dead", "the generator has won"),
            ({"discriminator_gradient": 3000.0}, "divergence", "usually 2"),
            ({"made_score": -5e4}, "divergence", "mean scores of 1 for real and -5e+04"),
        ],
    )
    def test_alarms(self, last, kind, words):
        from keras_gen.adversarial.watch import alarms

        found = alarms(self.rows(**last))
        assert set(found) == ({kind} if kind else set())
        assert words in found.get(kind, "")

    def test_coverage_that_never_was_is_no_collapse(self):
        from keras_gen.adversarial.watch import alarms

        rows = [
            {"epoch": 1, "coverage": 0.05, "diversity": 0.9},
            {"epoch": 2, "coverage": 0.005, "diversity": 0.9},
        ]
        assert not alarms(rows)

    @pytest.mark.once
    def test_a_generator_that_gives_one_picture(self, digits, tmp_path, caplog):
        """Warned of once, with the place of the best model."""
        from keras_gen.adversarial.watch import Watch
        from keras_gen.metrics import Pixels, SampleQuality

        class Broken(GAN):
            epoch = 0

            def sample(self, n, condition=None, seed=0):
                if self.epoch < 2:
                    return digits.train.floats(slice(0, n))
                return np.repeat(digits.train.floats(slice(0, 1)), n, axis=0)

        class Count(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                self.model.epoch = epoch

        model = Broken(dcgan_generator(5, SHAPE, 4), dcgan_discriminator(SHAPE, 4))
        model.compile("adam")
        data = {"image": batch(digits)["image"]}
        quality = SampleQuality(Pixels(), digits.test.levels()[:60], folder=tmp_path)
        watch = Watch(data, tmp_path, quality)
        model.fit(data, batch_size=24, epochs=4, verbose=0, callbacks=[Count(), quality, watch])
        assert len(watch.rows) == 4 and {"coverage", "generator_gradient", "real_score"} <= set(watch.rows[0])
        warnings = [record.getMessage() for record in caplog.records if "collapse" in record.getMessage()]
        assert len(warnings) == 1 and warnings[0].startswith("epoch 3:")
        assert "of epoch 1, is in best.keras" in warnings[0]
        assert (tmp_path / "watch.csv").read_text().count("\n") == 5


def test_gradient_norms(digits):
    """Those of the step, and nothing of the model has moved."""
    model = gan(norm="layer", loss="least-squares")
    model.compile(keras.optimizers.SGD(1.0))
    data = {"image": batch(digits)["image"]}
    before = [to_numpy(v.value).copy() for v in model.variables]
    norms = gradient_norms(model, data)
    for variable, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable.value), old, variable.path)
    old = [to_numpy(v.value).copy() for v in model.discriminator.trainable_variables]
    model.fit(data, batch_size=24, epochs=1, verbose=0, shuffle=False)
    # with a rate of 1 plain descent moves by the gradient itself
    new = [to_numpy(v.value) for v in model.discriminator.trainable_variables]
    moved = np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(new, old, strict=True)))
    assert norms["discriminator"] == pytest.approx(moved, rel=1e-3)


class TestVAEGAN:
    def make(self, **kwargs):
        discriminator = dcgan_discriminator((16, 16, 1), 4)
        layer = next(part.name for part in discriminator.layers[4:] if isinstance(part, layers.LeakyReLU))
        encoder, generator = conv_encoder((16, 16, 1), 10, (4, 6)), dcgan_generator(5, (16, 16, 1), 4)
        for variable in generator.trainable_variables:  # at N(0, 0.02) all pictures are the same grey
            variable.assign(5 * to_numpy(variable.value))
        return VAEGAN(encoder, generator, discriminator, layer, **kwargs)

    def images(self, n=12):
        return np.tanh(np.random.default_rng(0).normal(size=(n, 16, 16, 1))).astype("float32")

    def test_check_model(self, tmp_path):
        check_model(self.make, {"image": self.images()}, tmp_path)

    def test_losses_are_those_of_the_paper(self):
        """Equations 3, 5 and 7, in NumPy, on the networks' own outputs."""
        model = self.make(beta=0.3, gamma=0.02)
        rng = np.random.default_rng(1)
        drawn = {k: rng.normal(size=(12, 5)).astype("float32") for k in ("posterior", "prior")}
        model.draw = lambda n: {k: ops.convert_to_tensor(v) for k, v in drawn.items()}
        images = self.images()
        mean, log_var = (to_numpy(x) for x in model.posterior(images))
        again = to_numpy(model.generator(mean + np.exp(log_var / 2) * drawn["posterior"], training=False))
        fresh = to_numpy(model.generator(drawn["prior"], training=False))
        scores, features = zip(
            *(
                [to_numpy(x) for x in model._judged(ops.convert_to_tensor(y), False)]
                for y in (images, again, fresh)
            ),
            strict=True,
        )
        softplus = lambda x: np.log1p(np.exp(x)).mean()  # noqa: E731
        similarity = 0.5 * ((features[0] - features[1]) ** 2).reshape(12, -1).sum(axis=1).mean()
        kl = 0.5 * (np.exp(log_var) + mean**2 - 1 - log_var).sum(axis=1).mean()
        made = np.concatenate(scores[1:])
        data = {"image": ops.convert_to_tensor(images)}
        expected = {
            model._discriminator_loss: softplus(-scores[0]) + softplus(made),
            model._encoder_loss: similarity + 0.3 * kl,
            model._generator_loss: softplus(-made) + 0.02 * similarity,
        }
        for loss, value in expected.items():
            assert float(to_numpy(loss(data, False)[0])) == pytest.approx(value, rel=1e-4), loss

    def test_refused(self):
        discriminator = dcgan_discriminator((16, 16, 1), 4)
        encoder, generator = conv_encoder((16, 16, 1), 9, (4, 6)), dcgan_generator(5, (16, 16, 1), 4)
        with pytest.raises(InputError, match="to 10 numbers.*to 9"):
            VAEGAN(encoder, generator, discriminator, "flatten")
        with pytest.raises(InputError, match="a layer of the discriminator"):
            VAEGAN(conv_encoder((16, 16, 1), 10, (4, 6)), generator, discriminator, "nothing")


class TestTranslator:
    def make(self, shape=(12, 12, 3), source=None, **kwargs):
        generator = translation_unet(shape, shape[2], 4)
        discriminator = patch_discriminator(shape, shape[2], 4)
        return Translator(generator, discriminator, source or Grey(), **kwargs)

    def images(self, n=6, shape=(12, 12, 3)):
        return np.tanh(np.random.default_rng(0).normal(size=(n, *shape))).astype("float32")

    def test_check_model(self, tmp_path):
        shape = (8, 8, 3)
        check_model(lambda: self.make(shape), {"image": self.images(shape=shape)}, tmp_path)

    @pytest.mark.parametrize("side", [8, 9, 28, 32])
    def test_any_size(self, side):
        network = translation_unet((side, side + 1, 1), 3, 2)
        assert network.output_shape == (None, side, side + 1, 3)
        assert np.ptp(to_numpy(network(self.images(2, (side, side + 1, 1))))) > 0

    def test_losses_are_those_of_the_paper(self):
        """Equations 1, 3 and 4, the discriminator's halved, in NumPy."""
        model = self.make(weight=7.0)
        images = ops.convert_to_tensor(self.images())
        sources = model.sources(images)
        made = model.generator(sources, training=False)
        real, fake = (to_numpy(model.discriminator([sources, x], training=False)) for x in (images, made))
        assert real.ndim == 4 and real.shape[1] > 1, "scores of patches"
        softplus = lambda x: np.log1p(np.exp(x)).mean()  # noqa: E731
        error = np.abs(to_numpy(made) - to_numpy(images)).mean()
        found = float(to_numpy(model._discriminator_loss({"image": images}, False)[0]))
        assert found == pytest.approx(0.5 * (softplus(-real) + softplus(fake)), rel=1e-4)
        found = float(to_numpy(model._generator_loss({"image": images}, False)[0]))
        assert found == pytest.approx(softplus(-fake) + 7 * error, rel=1e-4)

    @pytest.mark.once
    def test_learns_colours_from_grey_values(self):
        """Where a picture's colour follows from its brightness: dark is red, bright is blue."""
        brightness = np.random.default_rng(0).uniform(-0.8, 0.8, (64, 4, 4, 1)).repeat(2, 1).repeat(2, 2)
        tint = np.array([1.0, 0.0, -1.0]) * np.where(brightness < 0, 0.4, -0.4)
        images = np.clip(brightness + tint, -1, 1).astype("float32")
        model = self.make((8, 8, 3))
        model.compile(keras.optimizers.Adam(2e-3, 0.5))
        model.fit({"image": images}, batch_size=16, epochs=60, verbose=0)
        sources = to_numpy(model.sources(images))
        assert np.ptp(sources, axis=-1).max() < 1e-5
        before, after = (np.abs(x - images).mean() for x in (sources, to_numpy(model(sources))))
        assert after < 0.5 * before

    def test_refused(self):
        with pytest.raises(InputError, match="of the same shape"):
            Translator(translation_unet((8, 8, 1), 3, 2), patch_discriminator((8, 8, 1), 3, 2), Grey())
        with pytest.raises(InputError, match="weight of 0 or more"):
            self.make(weight=-1)
