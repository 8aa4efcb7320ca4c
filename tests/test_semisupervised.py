"""Classifiers on few labels: the loss against NumPy, the batches, and apps.pretrain."""

import csv

import keras
import numpy as np
import pytest
from calls import refused, run
from harness import check_model
from test_apps import copied

from keras_gen.corruptions import Gaussian, Masking
from keras_gen.data import LabelledBatches
from keras_gen.data.augmentation import augmentation
from keras_gen.data.sources import ImageData
from keras_gen.engine import grad, to_numpy
from keras_gen.errors import InputError
from keras_gen.networks import mlp_encoder
from keras_gen.semisupervised import Classifier, linear_probe

SHAPE = (8, 8, 1)


def classifier(classes=10, **kwargs):
    return Classifier(mlp_encoder(SHAPE, 16, (16,), "tanh"), classes, **kwargs)


def pictures(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, *SHAPE)).astype("float32")


class TestClassifier:
    def test_check_model(self, digits, tmp_path):
        batch = {"image": digits.train.floats(slice(0, 40)), "label": digits.train.labels[:40]}
        check_model(lambda: classifier(weak=Gaussian(0.1)), batch, tmp_path)

    def test_check_model_with_unlabelled_pictures(self, digits, tmp_path):
        batch = {
            "image": digits.train.floats(slice(0, 40)),
            "label": digits.train.labels[:40],
            "unlabelled": digits.train.floats(slice(40, 80)),
        }
        model = lambda: classifier(strong=Masking(0.3), threshold=0.0)  # noqa: E731
        check_model(model, batch, tmp_path, export=False)

    def test_consistency_is_fixmatch(self):
        """Equation 4 of Sohn et al. 2020, in NumPy."""
        model = classifier(4, strong=Masking(0.3))
        model.head.kernel.assign(2.0 * model.head.kernel)
        weak, strong = pictures(50, 1), pictures(50, 2)
        p, log_q = to_numpy(model(weak)), np.log(to_numpy(model(strong)))
        model.threshold = float(np.median(p.max(axis=1)))
        sure = p.max(axis=1) >= model.threshold
        assert sure.sum() == 25, "the case tests nothing"
        expected = -(sure * log_q[np.arange(50), p.argmax(axis=1)]).mean()
        loss, used = model.consistency_from_distorted(weak, strong)
        assert float(to_numpy(loss)) == pytest.approx(expected, rel=1e-4)
        assert float(to_numpy(used)) == pytest.approx(sure.mean())

    def test_the_guess_is_not_differentiated(self):
        model = classifier(4, strong=Masking(0.3), threshold=0.0)
        weak, strong = pictures(5, 1), pictures(5, 2)

        def by(argnum):
            f = lambda *args: model.consistency_from_distorted(*args)[0]  # noqa: E731
            return to_numpy(
                grad(f, argnum)(keras.ops.convert_to_tensor(weak), keras.ops.convert_to_tensor(strong))
            )

        assert np.abs(by(0)).max() == 0 and np.abs(by(1)).max() > 0

    def test_labels_may_be_probabilities(self):
        model, images = classifier(4), pictures(6)
        labels = np.array([0, 1, 2, 3, 0, 1], "int32")
        hard, _ = model._loss({"image": images, "label": labels}, False)
        soft, _ = model._loss({"image": images, "label": np.eye(4, dtype="float32")[labels]}, False)
        p = to_numpy(model(images))
        assert float(to_numpy(hard)) == pytest.approx(float(to_numpy(soft)), rel=1e-6)
        assert float(to_numpy(hard)) == pytest.approx(-np.log(p[np.arange(6), labels]).mean(), rel=1e-4)

    @pytest.mark.once
    def test_unlabelled_pictures_help(self):
        """Two clouds of many dimensions, one label each: the middle between the two is not theirs."""
        rng = np.random.default_rng(0)
        side = rng.integers(2, size=600).astype("int32")
        points = (2 * side - 1)[:, None] * 3 / np.sqrt(20) + rng.normal(size=(600, 20))
        points = points.astype("float32")

        def askew(pair):
            """The error of the middle between two pictures."""
            away = [np.linalg.norm(points - points[i], axis=1) for i in pair]
            return np.mean((away[1] < away[0]) != side)

        pairs = [[rng.choice(np.flatnonzero(side == s)) for s in (0, 1)] for _ in range(50)]
        first = min(pairs, key=lambda pair: abs(askew(pair) - 0.2))
        errors = {}
        for strong in (None, Gaussian(0.5)):
            keras.utils.set_random_seed(0)
            model = Classifier(
                mlp_encoder((20,), 16, (32,)), 2, strong=strong, threshold=0.8, data_key="features"
            )
            model.compile(keras.optimizers.Adam(3e-3))
            data = {
                "features": np.repeat(points[first], 300, axis=0),
                "label": np.repeat(side[first], 300),
                "unlabelled": points,
            }
            model.fit(data, batch_size=100, epochs=20, verbose=0)
            errors[strong is not None] = np.mean(to_numpy(model(points)).argmax(axis=1) != side)
        assert errors[False] > 0.02, "the case tests nothing"
        assert errors[True] < 0.5 * errors[False]

    @pytest.mark.parametrize("classes", [2, 5])
    def test_linear_probe_is_a_head(self, classes):
        """Scores that separate what can be separated, in the features' own units, however large."""
        rng = np.random.default_rng(0)
        labels = np.arange(60) % classes
        features = 100 * (3 * np.eye(classes, 8)[labels] + 0.3 * rng.normal(size=(60, 8)))
        kernel, bias = linear_probe(features, labels)
        assert kernel.shape == (8, classes) and bias.shape == (classes,)
        assert ((features @ kernel + bias).argmax(axis=1) == labels).all()
        single = linear_probe(features[:classes], labels[:classes])
        assert ((features @ single[0] + single[1]).argmax(axis=1) == labels).mean() > 0.9

    def test_refused(self):
        with pytest.raises(InputError, match="2 classes"):
            classifier(1)
        with pytest.raises(InputError, match="threshold"):
            classifier(threshold=1.5)


class TestLabelledBatches:
    def data(self, n, labels=True):
        images = (np.arange(n * 64) % 251).astype("uint8").reshape(n, *SHAPE)
        return ImageData("made", images, np.arange(n, dtype="int32") % 3 if labels else None)

    def test_content(self):
        batches = LabelledBatches(self.data(9), self.data(50, False), 6, steps=4, ratio=3, seed=1)
        assert len(batches) == 4
        one = batches[2]
        assert one["image"].shape == (6, *SHAPE) and one["unlabelled"].shape == (18, *SHAPE)
        assert one["image"].dtype == one["unlabelled"].dtype == np.float32
        again = LabelledBatches(self.data(9), self.data(50, False), 6, steps=4, ratio=3, seed=1)[2]
        for key in one:
            np.testing.assert_array_equal(one[key], again[key])
        assert not np.array_equal(one["image"], batches[3]["image"])
        pairs = {
            p.tobytes(): label for p, label in zip(self.data(9).floats(), self.data(9).labels, strict=True)
        }
        assert all(pairs[p.tobytes()] == label for p, label in zip(one["image"], one["label"], strict=True))

    def test_fewer_pictures_than_a_batch(self):
        batch = LabelledBatches(self.data(3), None, 8, steps=1)[0]
        assert batch["image"].shape[0] == 8 and "unlabelled" not in batch

    def test_labels_are_required(self):
        with pytest.raises(InputError, match="without labels"):
            LabelledBatches(self.data(3, False), None, 8, steps=1)


class TestAugmentation:
    @pytest.mark.parametrize("name", ["randaugment", "mixup", "cutmix"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_keras_own(self, name, channels):
        images = np.random.default_rng(0).uniform(-1, 1, (12, 16, 16, channels)).astype("float32")
        labels = np.arange(12) % 4
        augment = augmentation(name, 4, seed=1)
        made, soft = augment(images, labels)
        assert made.shape == images.shape and made.dtype == np.float32
        assert made.min() >= -1 and made.max() <= 1 and not np.array_equal(made, images)
        np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-5)
        if name == "randaugment":
            np.testing.assert_array_equal(soft.argmax(axis=1), labels)

    def test_none(self):
        assert augmentation("none", 4) is None

    def test_refused(self):
        with pytest.raises(InputError, match="'blend'"):
            augmentation("blend", 4)

    def test_keras_cv(self):
        import importlib.util

        if importlib.util.find_spec("keras_cv") is None or keras.backend.backend() != "tensorflow":
            with pytest.raises(InputError, match="keras-cv"):
                augmentation("keras-cv:GridMask", 4)
            return
        images = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 1)).astype("float32")
        made, soft = augmentation("keras-cv:GridMask", 4)(images, np.arange(4))
        assert made.shape == images.shape and not np.array_equal(made, images)
        np.testing.assert_array_equal(soft, np.eye(4))


TINY = ["--epochs", 2, "--steps", 4, "--seeds", 2, "--limit", 300, "--latent-dim", 8]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """All methods; on TensorFlow with further seeds and the curve, each of which is one more training."""
    out = tmp_path_factory.mktemp("pretrain") / "run"
    less = [] if keras.backend.backend() == "tensorflow" else ["--seeds", 1, "--no-curve"]
    done = run("apps.pretrain", "--out", out, *TINY, "--labels", 20, *less)
    assert done.returncode == 0, done.stderr
    return out, done


class TestApp:
    def test_leaves_what_it_promises(self, finished):
        out, done = finished
        wanted = {("20", "0")}
        for name in ("results.csv", "reconstructions.png", "model.keras", "card.json"):
            assert (out / name).exists()
        if keras.backend.backend() == "tensorflow":
            assert (out / "labels.png").exists()
            wanted |= {("20", "1"), ("10", "0"), ("40", "0"), ("80", "0")}
        with open(out / "results.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        methods = {row["method"] for row in rows}
        assert len(methods) == 5
        for method in methods:
            seeds = {(r["labels"], r["seed"]) for r in rows if r["method"] == method}
            assert wanted <= seeds
        assert "better than from scratch on" in done.stdout

    @pytest.mark.once
    def test_goes_on_where_it_was(self, finished, tmp_path, here):
        out = copied(finished[0], tmp_path / "again")
        lines = (out / "results.csv").read_text().splitlines()
        (out / "results.csv").write_text("\n".join(lines[:-3]) + "\n")
        done = here("apps.pretrain", "--resume", out)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(" labels  seed ") == 3
        assert (out / "results.csv").read_text().splitlines() == lines

    @pytest.mark.once
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--labels", 15], "multiple of 10"),
            (["--labels", 0], "labels of 1 or more"),
            (["--labels", 100, 100], "different numbers"),
            (["--labels", 5000], "at most"),
            (["--data", "plain.npz"], "Expected labels"),
            (["--weak", "fog:1"], "Expected corruptions"),
            (["--augment", "blend"], "Expected an augmentation"),
        ],
    )
    def test_refused(self, arguments, message, tmp_path, monkeypatch, here):
        np.savez(tmp_path / "plain.npz", x=np.zeros((20, 8, 8), "uint8"))
        monkeypatch.chdir(tmp_path)
        assert message in refused(here("apps.pretrain", *arguments))
        assert not (tmp_path / "runs").exists()
