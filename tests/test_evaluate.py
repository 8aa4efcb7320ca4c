"""apps.classify, whose features measure, and apps.evaluate, which measures with them."""

import json

import numpy as np
import pytest
from calls import refused
from harness import check_model
from PIL import Image

from keras_gen import load_model, metrics
from keras_gen.corruptions import Affine
from keras_gen.data import load
from keras_gen.export import can_export
from keras_gen.networks import pooled_encoder
from keras_gen.semisupervised import Classifier
from keras_gen.shipped import shipped_names

needs_tensorflow = pytest.mark.skipif(not can_export(), reason="TensorFlow is not installed")


def test_check_model_with_batch_normalisation(digits, tmp_path):
    """What apps.classify trains."""
    batch = {"image": digits.train.floats(slice(0, 32)), "label": digits.train.labels[:32]}
    encoder = lambda: pooled_encoder((8, 8, 1), (4, 6), dropout=0.2)  # noqa: E731
    check_model(lambda: Classifier(encoder(), 10, weak=Affine(0.1)), batch, tmp_path)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A run of apps.classify that has learned something."""
    from calls import run

    folder = tmp_path_factory.mktemp("classify") / "run"
    done = run("apps.classify", "--epochs", "40", "--filters", "16", "32", "--no-export", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert f"next: python -m apps.evaluate PICTURES --against digits --features {folder}" in done.stdout
    return folder


@pytest.fixture(scope="module")
def vae(tmp_path_factory, here):
    """A run of apps.generate, measured on the way."""
    folder = tmp_path_factory.mktemp("generate") / "run"
    flags = ["--epochs", "6", "--hidden", "64", "--importance-samples", "0", "--out", folder]
    done = here("apps.generate", *flags, "--quality-every", "3", "--quality-features", "pixels")
    assert done.returncode == 0, done.stderr
    return folder


class TestClassify:
    def test_learns_and_shows(self, classifier):
        card = json.loads((classifier / "card.json").read_text())
        assert float(card["metrics"]["accuracy"].split()[0]) > 90
        assert card["classes"] == [str(i) for i in range(10)]
        for name in ("confusion.png", "curves.png", "mistakes.png"):
            with Image.open(classifier / name) as picture:
                assert np.asarray(picture.convert("L")).std() > 10, name
        assert isinstance(load_model(classifier / "model.keras"), Classifier)

    @pytest.mark.once
    def test_refused(self, here, tmp_path):
        np.savez(tmp_path / "bare.npz", images=np.zeros((20, 8, 8), "uint8"))
        assert "Expected labels" in refused(here("apps.classify", "--data", tmp_path / "bare.npz"))
        assert "dropout of 0 to below 1" in refused(here("apps.classify", "--dropout", "1"))
        assert "at least 16 pixels" in refused(here("apps.classify", "--filters", *range(2, 7)))


class TestQuality:
    def test_the_best_is_kept(self, vae):
        rows = (vae / "quality.csv").read_text().splitlines()
        assert rows[0].startswith("epoch,frechet,kernel") and len(rows) == 3
        assert load_model(vae / "best.keras").sample(2, seed=0).shape[0] == 2

    @pytest.mark.once
    def test_refused(self, here, tmp_path):
        line = refused(here("apps.generate", "--quality-every", "1", "--quality-n", "3"))
        assert "7 held-out pictures" in line and "3 pictures" in line
        line = refused(here("apps.generate", "--quality-every", "1", "--quality-features", "nonsense"))
        assert "Expected features" in line
        assert not (tmp_path / "runs").exists()


def rows_of(path):
    return {row["key"]: row for row in json.loads(path.read_text())["rows"]}


class TestEvaluate:
    def test_a_run(self, here, vae, classifier):
        done = here("apps.evaluate", vae, "--features", classifier, "--n", "300")
        assert done.returncode == 0, done.stderr
        rows = rows_of(vae / "evaluation.json")
        samples = set(metrics.MEASURES)
        assert set(rows) == samples | {"log_likelihood", "psnr", "ssim"}
        for row in rows.values():
            assert row["seed"] == 0 and row["data"] == "digits" and row["resize"] == "none"
            assert np.isfinite(row["value"])
        assert {rows[key]["n"] for key in samples} == {300}
        assert {rows[key]["features"].split("@")[0] for key in samples} == {"run"}
        # real digits are nearer to real digits than those of a VAE of six epochs
        assert rows["frechet"]["value"] > 2 * rows["frechet"]["real"]
        assert rows["kernel"]["error"] > 0 and rows["coverage"]["real"] > 0.9
        assert rows["class_score"]["real"] > 5
        assert "classes made (real), %: 0 " in done.stdout
        lines = [line for line in done.stdout.splitlines() if " digits " in line]
        assert len(lines) == len(rows) and sum(" 300 " in line for line in lines) == len(rows) - 1
        with Image.open(vae / "evaluation.png") as picture:
            assert picture.width > 300

    @pytest.mark.once
    def test_the_same_again(self, here, vae, classifier, tmp_path):
        """To the last digit, and other pictures for another seed."""
        made = []
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            flags = ["--n", "200", "--likelihood-n", "0", "--seed", seed, "--out", tmp_path / f"{name}.json"]
            done = here("apps.evaluate", vae, "--features", classifier, *flags)
            assert done.returncode == 0, done.stderr
            made.append(rows_of(tmp_path / f"{name}.json"))
        assert made[0] == made[1]
        assert made[0]["frechet"]["value"] != made[2]["frechet"]["value"]
        assert "log_likelihood" not in made[0]

    @pytest.mark.once
    def test_pictures_of_another_program(self, here, classifier, tmp_path, digits):
        """Held-out digits, enlarged, as colour files: as good as real, and the resizing is told."""
        folder = tmp_path / "made"
        folder.mkdir()
        for i, image in enumerate(digits.test.images[:120, ..., 0]):
            Image.fromarray(image).resize((32, 32), 0).convert("RGB").save(folder / f"{i}.png")
        (folder / "broken.png").write_bytes(b"no picture")
        flags = ["--against", "digits", "--features", classifier, "--split", "train"]
        done = here("apps.evaluate", folder, *flags, "--out", tmp_path / "out.json")
        assert done.returncode == 0, done.stderr
        assert "broken.png" in done.stderr
        rows = rows_of(tmp_path / "out.json")
        assert "psnr" not in rows
        assert rows["frechet"]["resize"] == "central part, Lanczos to 8x8, colour to grey"
        assert rows["frechet"]["n"] == 120 and rows["frechet"]["split"] == "train"
        assert rows["precision"]["value"] > 0.8 and rows["coverage"]["value"] > 0.8
        assert rows["copies"]["value"] < 0.1

    @pytest.mark.once
    def test_copies_are_found(self, here, classifier, tmp_path, digits):
        """And the lack of half the classes."""
        train = digits.train
        np.savez(tmp_path / "made.npz", images=train.images[train.labels < 5][:200])
        flags = ["--against", "digits", "--features", classifier, "--out", tmp_path / "out.json"]
        assert here("apps.evaluate", tmp_path / "made.npz", *flags).returncode == 0
        rows = rows_of(tmp_path / "out.json")
        assert rows["copies"]["value"] == 1 and rows["memorisation"]["value"] < 0.01
        assert rows["copies"]["real"] < 0.1
        assert rows["classes_hit"]["value"] == 5 and rows["classes_hit"]["real"] == 10
        assert rows["coverage"]["value"] < 0.7 < rows["precision"]["value"]

    @pytest.mark.once
    @needs_tensorflow
    def test_a_savedmodel(self, here, vae, tmp_path):
        """Draws what the run draws: the same kind of pictures, at the same distance."""
        for name, source in (("run", vae), ("served", vae / "savedmodel")):
            flags = ["--features", "pixels", "--likelihood-n", "0", "--out", tmp_path / f"{name}.json"]
            done = here("apps.evaluate", source, *flags)
            assert done.returncode == 0, done.stderr
        run, served = rows_of(tmp_path / "run.json"), rows_of(tmp_path / "served.json")
        assert served["frechet"]["value"] == pytest.approx(run["frechet"]["value"], rel=0.15)
        assert served["frechet"]["real"] == run["frechet"]["real"]

    @pytest.mark.once
    def test_refused(self, here, vae, classifier, tmp_path):
        assert "Expected a run, a .keras file" in refused(here("apps.evaluate", tmp_path / "nothing"))
        (tmp_path / "empty").mkdir()
        assert "--against DATA" in refused(here("apps.evaluate", tmp_path / "empty"))
        line = refused(here("apps.evaluate", tmp_path / "empty", "--against", "digits"))
        assert "Expected a folder with pictures" in line
        line = refused(here("apps.evaluate", classifier))
        assert "draws, reconstructs or has a likelihood" in line and "a Classifier" in line
        assert "Expected n of 2 or more" in refused(here("apps.evaluate", vae, "--n", "1"))
        assert "more than k = 5" in refused(here("apps.evaluate", vae, "--n", "4"))
        assert "Expected a .json file" in refused(here("apps.evaluate", vae, "--out", tmp_path))
        assert "Expected features" in refused(here("apps.evaluate", vae, "--features", "fid"))
        (tmp_path / "bad.keras").write_text("no model")
        assert "Expected a model" in refused(here("apps.evaluate", tmp_path / "bad.keras"))

    @pytest.mark.once
    def test_the_best_model_of_a_run_sees_its_data(self, here, tmp_path):
        """Binarised as in training, or its likelihood would be another number."""
        flags = ["--binarize", "threshold", "--epochs", "1", "--hidden", "8", "--importance-samples", "0"]
        run = tmp_path / "run"
        flags += ["--quality-every", "1", "--quality-features", "pixels", "--no-export", "--out", run]
        assert here("apps.generate", *flags).returncode == 0
        for name, source in (("run", run), ("best", run / "best.keras")):
            flags = ["--features", "pixels", "--likelihood-n", "50", "--out", tmp_path / f"{name}.json"]
            assert here("apps.evaluate", source, *flags).returncode == 0
        rows = [rows_of(tmp_path / f"{name}.json")["log_likelihood"] for name in ("run", "best")]
        assert rows[0] == rows[1] and rows[0]["features"] == "binarised at mid grey"

    @pytest.mark.once
    def test_a_validation_split_is_called_so(self, here, tmp_path):
        """The test split stays unseen, and is not named."""
        flags = ["--validation", "100", "--epochs", "1", "--hidden", "8", "--importance-samples", "0"]
        done = here("apps.generate", *flags, "--no-export", "--out", tmp_path / "run")
        assert done.returncode == 0, done.stderr
        done = here("apps.evaluate", tmp_path / "run", "--features", "pixels", "--likelihood-n", "50")
        assert done.returncode == 0, done.stderr
        rows = rows_of(tmp_path / "run" / "evaluation.json")
        assert {rows[key]["split"] for key in ("frechet", "psnr", "log_likelihood")} == {"validation, 100"}
        assert rows["frechet"]["n"] == 100

    @pytest.mark.once
    def test_data_of_another_size(self, here, vae, tmp_path):
        """What is drawn is brought to the real pictures' size, and the table says so."""
        real = np.random.default_rng(0).integers(256, size=(60, 12, 12), dtype="uint8")
        np.savez(tmp_path / "real.npz", images=real)
        flags = ["--features", "pixels", "--likelihood-n", "0", "--out", tmp_path / "out.json", "--k", "2"]
        done = here("apps.evaluate", vae, "--against", tmp_path / "real.npz", *flags)
        assert done.returncode == 0, done.stderr
        assert rows_of(tmp_path / "out.json")["frechet"]["resize"] == "central part, Lanczos to 12x12"
        assert "a model of 8x8x1, pictures of 12x12x1" in done.stdout


def test_a_distance_is_the_same_on_every_backend(digits):
    """Held-out against training digits, in the shipped features: features and statistic together."""
    features = metrics.load_features("digits")
    held_out, train = (features(x).vectors for x in (digits.test.levels(), digits.train.levels()[:359]))
    assert features.name == "classifier_digits@c4e5405a"
    assert metrics.frechet_distance(held_out, train) == pytest.approx(1.520263, rel=1e-4)


def test_shipped_features_know_their_data():
    """Where the test data are at hand: digits always."""
    assert {f"classifier_{name}" for name in ("digits", "fashion_mnist", "mnist")} <= set(shipped_names())
    features = metrics.load_features("auto", "digits")
    test = load("digits").test
    found = features(test.levels())
    assert (found.probabilities.argmax(axis=1) == test.labels).mean() > 0.97
