"""Measures of made pictures, against closed forms, published constants and failures made on purpose."""

import csv

import keras
import numpy as np
import pytest
from keras import ops
from scipy.linalg import sqrtm
from sklearn.metrics import pairwise_distances

from keras_gen import metrics
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.metrics import Extracted, Moments
from keras_gen.networks import mlp_decoder, mlp_encoder, pooled_encoder
from keras_gen.semisupervised import Classifier
from keras_gen.variational import VAE


def normal(n, d=8, seed=0, mean=0.0, scale=1.0):
    return mean + scale * np.random.default_rng(seed).normal(size=(n, d))


def covariance(d, seed):
    root = np.random.default_rng(seed).normal(size=(d, d))
    return root @ root.T / d


class TestFrechet:
    @pytest.mark.once
    def test_closed_form_of_gaussians(self):
        """For commuting covariances the trace is that of (s1 - s2)^2."""
        first = Moments(np.array([1.0, 2.0, 0.0]), np.diag([1.0, 4.0, 9.0]), 100)
        second = Moments(np.array([0.0, 2.0, 2.0]), np.diag([4.0, 4.0, 0.25]), 100)
        assert metrics.frechet_of_moments(first, second) == pytest.approx(1 + 4 + 1 + 0 + 2.5**2)

    @pytest.mark.once
    def test_any_covariances(self):
        """Against the matrix root of the product."""
        first, second = Moments(np.zeros(6), covariance(6, 1), 9), Moments(np.ones(6), covariance(6, 2), 9)
        root = sqrtm(first.covariance @ second.covariance).real
        expected = 6 + np.trace(first.covariance + second.covariance - 2 * root)
        assert metrics.frechet_of_moments(first, second) == pytest.approx(expected, rel=1e-10)
        assert metrics.frechet_of_moments(second, first) == pytest.approx(expected, rel=1e-10)

    @pytest.mark.parametrize(("n", "d"), [(500, 8), (10, 64)])
    def test_identical_sets_are_at_no_distance(self, n, d):
        """Also where the features have no full rank."""
        x = normal(n, d)
        assert metrics.frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-9)

    @pytest.mark.once
    def test_rank_deficient_features(self):
        """In a subspace the distance is that within the subspace."""
        x, y = normal(300, 3, 1), normal(300, 3, 2, mean=0.5, scale=2.0)
        basis = np.linalg.qr(np.random.default_rng(3).normal(size=(40, 3)))[0].T
        within = metrics.frechet_distance(x, y)
        assert metrics.frechet_distance(x @ basis, y @ basis) == pytest.approx(within, rel=1e-9)

    @pytest.mark.once
    def test_large_numbers_keep_their_digits(self):
        x, y = normal(400, 5, 1), normal(400, 5, 2, mean=0.1)
        near = metrics.frechet_distance(x, y)
        assert metrics.frechet_distance(x + 1e4, y + 1e4) == pytest.approx(near, rel=1e-6)

    @pytest.mark.once
    def test_falls_with_the_number_of_vectors(self):
        few, many = (metrics.frechet_distance(normal(n, 16, 1), normal(n, 16, 2)) for n in (100, 10_000))
        assert 20 * many < few

    def test_metric(self):
        """The Keras metric, batch by batch, is the function on everything."""
        real, made = normal(2000, 8, 1), normal(700, 8, 2, mean=0.4, scale=1.3).astype("float32")
        metric = metrics.FrechetDistance(Moments.of(real))
        for start in range(0, 700, 100):
            metric.update_state(ops.convert_to_tensor(made[start : start + 100]))
        expected = metrics.frechet_distance(real, made)
        assert float(metric.result()) == pytest.approx(expected, rel=1e-3)
        metric.reset_state()
        metric.update_state(real.astype("float32"))
        assert float(metric.result()) == pytest.approx(0, abs=1e-3)
        with pytest.raises(InputError, match="sample weights"):
            metric.update_state(made, sample_weight=np.ones(700))


class TestKernel:
    @pytest.mark.once
    def test_is_the_u_statistic(self):
        """Against sums over all pairs."""
        x, y = normal(23, 4, 1), normal(31, 4, 2, mean=0.3)

        def mean_of_pairs(a):
            values = metrics.cubic_kernel(a, a)
            n = len(a)
            return sum(values[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

        expected = mean_of_pairs(x) + mean_of_pairs(y) - 2 * metrics.cubic_kernel(x, y).mean()
        assert metrics.kernel_distance(x, y).value == pytest.approx(expected, rel=1e-10)

    @pytest.mark.once
    def test_unbiased_with_an_honest_error(self):
        """Over many draws: mean 0 under equality, and a spread that the error foretells."""
        for mean in (0.0, 0.5):
            found = [
                metrics.kernel_distance(normal(200, 5, 2 * i), normal(200, 5, 2 * i + 1, mean))
                for i in range(200)
            ]
            values, errors = np.array(found).T
            spread = values.std(ddof=1)
            if mean == 0:
                assert abs(values.mean()) < 3 * spread / np.sqrt(200)
                # a degenerate statistic: the jackknife errs on the safe side
                assert 0.8 < errors.mean() / spread < 2
            else:
                assert values.mean() > 5 * spread / np.sqrt(200)
                assert 0.85 < errors.mean() / spread < 1.15

    def test_another_kernel(self):
        x, y = normal(60, 3, 1), normal(60, 3, 2, mean=2)
        rbf = lambda a, b: np.exp(-(pairwise_distances(a, b) ** 2) / 2)  # noqa: E731
        assert 0.3 < metrics.kernel_distance(x, y, rbf).value < 2

    def test_few_vectors(self):
        assert np.isnan(metrics.kernel_distance(normal(3), normal(3, seed=1)).error)
        with pytest.raises(InputError, match="2 vectors or more"):
            metrics.kernel_distance(normal(1), normal(3))

    def test_metric(self):
        real, made = normal(60, 4, 1).astype("float32"), normal(60, 4, 2, mean=0.3).astype("float32")
        metric = metrics.KernelDistance()
        for start in (0, 30):
            metric.update_state(real[start : start + 30], made[start : start + 30])
        parts = [metrics.kernel_distance(real[s : s + 30], made[s : s + 30]).value for s in (0, 30)]
        assert float(metric.result()) == pytest.approx(np.mean(parts), rel=1e-3, abs=1e-5)
        metric.reset_state()
        assert float(metric.result()) == 0


@pytest.mark.once
class TestNeighbours:
    @pytest.mark.once
    def test_known_answer(self):
        """10,000 standard normal vectors a side in 1,000 dimensions, k = 5: the example of Naeem et al.

        One draw, as theirs is. Over five draws of ours density lies within .91 to 1.07.
        """
        found = metrics.precision_recall_density_coverage(
            normal(10_000, 1000, 1).astype("float32"), normal(10_000, 1000, 2).astype("float32"), 5
        )
        assert found.precision == pytest.approx(0.4772, abs=0.03)
        assert found.recall == pytest.approx(0.4705, abs=0.03)
        assert found.density == pytest.approx(1.0555, abs=0.2)
        assert found.coverage == pytest.approx(0.9735, abs=0.02)

    def test_expectations(self):
        """Of equal distributions the mean density is 1; coverage is 1 less a half for each neighbour."""
        found = np.array(
            [
                metrics.precision_recall_density_coverage(normal(150, 30, i), normal(150, 30, 1000 + i), 3)
                for i in range(60)
            ]
        )
        mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(60)
        assert abs(mean[2] - 1) < 3 * error[2]
        uncovered = np.prod([(150 - 1 - i) / (300 - 1 - i) for i in range(3)])
        assert abs(mean[3] - (1 - uncovered)) < 3 * error[3]
        assert max(error[2:]) < 0.03

    def test_by_the_definitions(self, monkeypatch):
        """In plain loops, and whatever the parts the distances come in."""
        real, made, k = normal(60, 3, 1), normal(45, 3, 2, mean=0.7), 3
        across = pairwise_distances(real, made)
        reach = [np.sort(pairwise_distances(x), axis=1)[:, k] for x in (real, made)]
        inside_real = across <= reach[0][:, None]
        expected = (
            inside_real.any(axis=0).mean(),
            (across <= reach[1]).any(axis=1).mean(),
            inside_real.sum() / (k * 45),
            inside_real.any(axis=1).mean(),
        )
        found = metrics.precision_recall_density_coverage(real, made, k)
        np.testing.assert_allclose(found, expected)

        import sklearn

        with sklearn.config_context(working_memory=1):
            np.testing.assert_allclose(metrics.precision_recall_density_coverage(real, made, k), expected)

    def test_identical_and_disjoint_sets(self):
        x = normal(200, 4)
        assert metrics.precision_recall_density_coverage(x, x.copy()) == (1, 1, pytest.approx(1, abs=0.25), 1)
        assert metrics.precision_recall_density_coverage(x, x + 100) == (0, 0, 0, 0)

    def test_lost_classes_show_in_recall_and_coverage(self):
        """And leave precision alone; noise does the opposite."""
        rng = np.random.default_rng(0)
        centres = 8 * rng.normal(size=(10, 6))
        real, same = (centres[rng.integers(10, size=2000)] + rng.normal(size=(2000, 6)) for _ in range(2))
        half = centres[rng.integers(5, size=2000)] + rng.normal(size=(2000, 6))
        noisy = same + 4 * rng.normal(size=same.shape)
        alike, lost, vague = (
            metrics.precision_recall_density_coverage(real, made) for made in (same, half, noisy)
        )
        assert min(alike.precision, alike.recall) > 0.9 and alike.coverage > 0.93
        assert lost.precision > 0.9 and lost.recall < 0.6 and lost.coverage < 0.6
        assert vague.precision < 0.6 and vague.density < 0.5

    def test_full_collapse(self):
        """One picture, again and again: covers nothing, recalls nothing."""
        real = normal(300, 4)
        found = metrics.precision_recall_density_coverage(real, np.repeat(real[:1], 300, axis=0))
        assert found.recall < 0.01 and found.coverage < 0.06

    def test_mean_distance(self):
        x = normal(300, 6)
        expected = np.mean([np.linalg.norm(x[i] - x[j]) for i in range(300) for j in range(300) if i != j])
        assert metrics.mean_distance(x) == pytest.approx(expected)
        assert metrics.mean_distance(np.repeat(x[:1], 9, axis=0)) == pytest.approx(0, abs=1e-6)

    def test_retrieved(self):
        """Pictures of which the first two change places: the others find their own at once."""
        own = np.arange(7.0)[:, None, None, None] * np.ones((1, 2, 2, 1))
        made = own[[1, 0, 2, 3, 4, 5, 6]] + 0.1
        assert metrics.retrieved(made, own) == {1: 5 / 7, 5: 1.0}

    def test_memorisation(self):
        train, held_out, fresh = normal(2000, 6, 1), normal(500, 6, 2), normal(500, 6, 3)
        copied = train[:500] + 1e-3 * normal(500, 6, 4)
        honest, caught = (metrics.memorisation(train, made, held_out) for made in (fresh, copied))
        assert honest.ratio == pytest.approx(1, abs=0.1)
        assert honest.copies == pytest.approx(honest.copies_held_out, abs=0.03)
        assert caught.ratio < 0.01 and caught.copies > 0.99
        mixed = metrics.memorisation(train, np.concatenate([copied[:50], fresh[:450]]), held_out)
        assert mixed.ratio > 0.8 and mixed.copies > honest.copies + 0.08
        twice = np.concatenate([train, train])
        assert metrics.memorisation(twice, train[:100], held_out).copies == 1

    def test_refused(self):
        with pytest.raises(InputError, match="more than k = 5"):
            metrics.precision_recall_density_coverage(normal(5), normal(50))
        with pytest.raises(InputError, match="equally many dimensions.*8 and 4"):
            metrics.precision_recall_density_coverage(normal(50), normal(50, 4))
        with pytest.raises(InputError, match="NaN or infinity in 1 of 50"):
            metrics.frechet_distance(normal(50), np.concatenate([normal(49), np.full((1, 8), np.nan)]))
        with pytest.raises(InputError, match=r"shape \(n, d\)"):
            metrics.frechet_distance(normal(50), normal(50)[None])


@pytest.mark.once
class TestModes:
    def test_the_grid_itself(self):
        """99 % of a plane Gaussian lie within three standard deviations."""
        from keras_gen.metrics.modes import grid_centres, grid_of_gaussians, modes

        found = modes(grid_of_gaussians(2500, 0), grid_centres(), 0.05)
        assert found.hit == 25 and found.quality == pytest.approx(1 - np.exp(-4.5), abs=0.01)
        assert found.divergence < 0.02

    def test_by_hand(self):
        from keras_gen.metrics.modes import modes

        centres = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
        samples = np.array([[0, 0.1], [0.02, 0], [1, 0], [0.5, 0.5]])
        found = modes(samples, centres, 0.05)
        assert found.hit == 2 and found.quality == 0.75
        expected = 2 / 3 * np.log(8 / 3) + 1 / 3 * np.log(4 / 3)
        assert found.divergence == pytest.approx(expected)
        assert modes(samples[3:], centres, 0.05) == (0, 0.0, np.inf)


@pytest.mark.once
class TestClasses:
    def test_score(self):
        """1 for one opinion of everything; the number of classes for sure and even ones."""
        assert metrics.class_score(np.full((50, 10), 0.1)) == (pytest.approx(1), pytest.approx(0))
        sure = np.eye(10)[np.arange(100) % 10]
        assert metrics.class_score(sure, splits=5).value == pytest.approx(10)
        p = np.array([[0.8, 0.2], [0.4, 0.6]])
        q = p.mean(axis=0)
        by_hand = np.exp(np.mean([(row * np.log(row / q)).sum() for row in p]))
        assert metrics.class_score(p, 1).value == pytest.approx(by_hand)

    def test_histogram(self):
        p = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.5, 0.4, 0.1]])
        shares = metrics.class_histogram(p)
        np.testing.assert_allclose(shares, [0.75, 0.25, 0])
        even = np.full(3, 1 / 3)
        assert metrics.histogram_divergence(even, even) == 0
        expected = 0.75 * np.log(2.25) + 0.25 * np.log(0.75)
        assert metrics.histogram_divergence(shares, even) == pytest.approx(expected)
        assert metrics.histogram_divergence(even, shares) == np.inf

    def test_refused(self):
        with pytest.raises(InputError, match="add up to 1"):
            metrics.class_score(np.ones((20, 3)))
        with pytest.raises(InputError, match="within 1 to 4"):
            metrics.class_score(np.full((4, 2), 0.5))


class TestPictures:
    """The metrics on the device, against scikit-image."""

    def pairs(self, shape=(6, 12, 9, 3)):
        rng = np.random.default_rng(0)
        clean = rng.uniform(-1, 1, shape).astype("float32")
        return clean, (clean + 0.2 * rng.normal(size=shape)).astype("float32")

    @pytest.mark.parametrize("channels", [1, 3])
    def test_are_means_of_the_functions(self, channels):
        clean, noisy = self.pairs((6, 12, 9, channels))
        for metric, function in ((metrics.PSNR(), metrics.psnr), (metrics.SSIM(), metrics.ssim)):
            metric.update_state(clean[:4], noisy[:4])
            metric.update_state(clean[4:], noisy[4:])
            expected = [function((c + 1) / 2, (n + 1) / 2) for c, n in zip(clean, noisy, strict=True)]
            assert float(metric.result()) == pytest.approx(np.mean(expected), rel=1e-4), function

    def test_identical_pictures(self):
        clean, _ = self.pairs()
        for metric, best in ((metrics.PSNR(), 120), (metrics.SSIM(), 1)):
            metric.update_state(clean, clean)
            assert float(metric.result()) == pytest.approx(best, rel=1e-4)
            metric.reset_state()
            assert type(metric).from_config(metric.get_config()).get_config() == metric.get_config()

    def test_in_compile(self, digits):
        """As any metric of Keras."""
        model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 3, padding="same")])
        model.compile("adam", "mse", metrics=[metrics.PSNR(), metrics.SSIM()])
        images = digits.train.floats(slice(0, 64))
        logs = model.fit(images, images, epochs=3, verbose=0).history
        assert logs["psnr"][-1] > logs["psnr"][0] and np.isfinite(logs["ssim"]).all()

    def test_small_pictures_refused(self):
        with pytest.raises(InputError, match="7 pixels"):
            metrics.SSIM().update_state(np.zeros((1, 6, 9, 1)), np.zeros((1, 6, 9, 1)))


def test_bits_per_dim():
    """A fair coin for every pixel costs a bit; the uniform density over [-1, 1] costs 8 of 256 levels."""
    assert metrics.bits_per_dim(784 * np.log(0.5), 784) == pytest.approx(1)
    width = 2 / 255
    uniform = 12 * np.log(1 / (256 * width))
    assert metrics.bits_per_dim(uniform, 12, width) == pytest.approx(8)


def classifier(shape=(8, 8, 1)):
    return Classifier(pooled_encoder(shape, (4, 6)), 10)


class TestFeatures:
    def test_pixels(self, digits):
        found = metrics.load_features("pixels")(digits.train.images[:3])
        np.testing.assert_allclose(found.vectors[1], digits.train.images[1].ravel() / 255)
        assert found.probabilities is None

    def test_classifier(self, digits, tmp_path):
        """The encoder's output, the same whatever the parts, and the classes' probabilities."""
        model = classifier()
        model.save(tmp_path / "mine.keras")
        features = metrics.load_features(str(tmp_path / "mine.keras"))
        assert features.name.startswith("mine@") and features.frechet == "Frechet distance"
        pictures = digits.train.images[:601]
        found = features(pictures)
        expected = to_numpy(model.encoder(digits.train.floats(slice(0, 601)), training=False))
        np.testing.assert_allclose(found.vectors, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(features(pictures[600:]).vectors, found.vectors[600:])
        model.head.bias.assign(model.head.bias + 1)
        assert metrics.ClassifierFeatures(model, "mine").name != features.name, "the digest tells weights"

    def test_resizes_and_says_so(self):
        features = metrics.ClassifierFeatures(classifier(), "small")
        pictures = np.random.default_rng(0).integers(256, size=(4, 20, 16, 3), dtype="uint8")
        assert features(pictures).vectors.shape == (4, 6)
        assert features.resize((20, 16, 3)) == "central part, Lanczos to 8x8, colour to grey"
        assert features.resize((8, 8, 1)) == "none"

    @pytest.mark.once
    def test_inception(self):
        """The function; its weights are not ours to ship."""
        features = metrics.InceptionFeatures(weights=None)
        pictures = np.random.default_rng(0).integers(256, size=(3, 8, 8, 1), dtype="uint8")
        found = features(pictures)
        assert found.vectors.shape == (3, 2048) and found.probabilities.shape == (3, 1000)
        np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-4)
        assert np.ptp(found.vectors, axis=0).max() > 0
        assert metrics.title("frechet", features) == "FID" and metrics.title("kernel", features) == "KID"
        assert features.resize((8, 8, 1)) == "bilinear to 299x299"

    def test_refused(self, tmp_path):
        pictures = np.zeros((2, 8, 8, 1), "uint8")
        with pytest.raises(InputError, match="uint8 pictures.*float32"):
            metrics.Pixels()(pictures.astype("float32"))
        with pytest.raises(InputError, match="Check the path, or train one"):
            metrics.load_features("nothing_of_that_name")
        with pytest.raises(InputError, match=r"there is no model.keras"):
            metrics.load_features(str(tmp_path))
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "model.keras")
        with pytest.raises(InputError, match="classifier of pictures.*a Sequential"):
            metrics.load_features(str(tmp_path))
        (tmp_path / "model.keras").write_text("no model")
        with pytest.raises(InputError, match=r"which is damaged"):
            metrics.load_features(str(tmp_path))


@pytest.mark.once
class TestCompare:
    def test_a_set_with_lost_classes(self, digits):
        """The measures of classes see what was lost; they are left out where there are no classes."""
        labels = digits.train.labels
        halves = [digits.train.images[labels >= 5][:300], digits.train.images[:300]]
        features = metrics.Pixels()

        def known(pictures, labels):
            return Extracted(features(pictures).vectors, np.eye(10)[labels].astype("float32"))

        real = known(digits.train.images[300:600], labels[300:600])
        lost = metrics.compare(real, known(halves[0], labels[labels >= 5][:300]))
        whole = metrics.compare(real, known(halves[1], labels[:300]))
        assert set(whole) <= set(metrics.MEASURES)
        assert (lost["classes_hit"].value, whole["classes_hit"].value) == (5, 10)
        assert lost["class_divergence"].value > 0.5 > 0.05 > whole["class_divergence"].value
        assert lost["coverage"].value < whole["coverage"].value - 0.05
        assert "class_score" not in metrics.compare(features(halves[0]), features(halves[1]))

    def test_drawn(self):
        """The same pictures whatever their number, none in common between seeds."""
        calls = []

        def sample(n, seed):
            calls.append(seed)
            return np.full((n, 1, 1, 1), seed)

        assert len(metrics.drawn(sample, 700, 2)) == 700 and calls == [2000, 2001]
        np.testing.assert_array_equal(metrics.drawn(sample, 3, 2), metrics.drawn(sample, 700, 2)[:3])
        with pytest.raises(InputError, match="1 to 500,000"):
            metrics.drawn(sample, 0, 0)


class Wandering(VAE):
    """A VAE whose samples are good at one epoch."""

    good: np.ndarray

    def sample(self, n, condition=None, seed=0):
        rng = np.random.default_rng(seed)
        images = self.good[rng.integers(len(self.good), size=n)]
        return images if self.now == 4 else 0.5 * images


@pytest.mark.once
class TestCallback:
    def fit(self, digits, folder, epochs, initial_epoch=0, **kwargs):
        model = Wandering(mlp_encoder((8, 8, 1), 8, (8,)), mlp_decoder(4, (8, 8, 1), (8,)))
        model.good = digits.train.floats(slice(400, 800))
        model.now = 0

        class Now(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                model.now = epoch + 1

        watch = metrics.SampleQuality(
            metrics.Pixels(), digits.train.images[:100], every=2, folder=folder, **kwargs
        )
        model.compile("adam")
        data = {"image": digits.train.floats(slice(0, 64))}
        history = model.fit(
            data, epochs=epochs, initial_epoch=initial_epoch, verbose=0, callbacks=[Now(), watch]
        )
        return watch, history

    def test_keeps_the_best(self, digits, tmp_path):
        watch, _ = self.fit(digits, tmp_path, 6)
        assert [row["epoch"] for row in watch.rows] == [2, 4, 6]
        assert watch.best["epoch"] == 4 and watch.best["n"] == 100
        assert (tmp_path / "best.keras").exists()
        with open(tmp_path / "quality.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert float(rows[1]["frechet"]) < 0.5 * float(rows[0]["frechet"])
        best, written = watch.best, (tmp_path / "best.keras").stat().st_mtime_ns
        resumed, _ = self.fit(digits, tmp_path, 8, initial_epoch=6)
        assert [row["epoch"] for row in resumed.rows] == [2, 4, 6, 8]
        assert resumed.best["frechet"] == pytest.approx(best["frechet"], rel=1e-6)
        assert (tmp_path / "best.keras").stat().st_mtime_ns == written
        again, _ = self.fit(digits, tmp_path, 4, initial_epoch=3)
        assert [row["epoch"] for row in again.rows] == [2, 4]

    def test_in_the_logs(self, digits):
        """So that Keras' own callbacks can go by them."""
        watch, history = self.fit(digits, None, 4, monitor="coverage")
        assert len(history.history["coverage"]) == 2
        assert watch.best["epoch"] == 4

    def test_refused(self, digits):
        with pytest.raises(InputError, match="Expected a measure.*'loss'"):
            self.fit(digits, None, 1, monitor="loss")
