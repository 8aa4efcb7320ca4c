"""apps.generate with adversarial models, and apps.translate."""

import csv
import json

import numpy as np
import pytest
from calls import refused
from harness import serve
from PIL import Image
from test_apps import copied

from keras_gen import load_model
from keras_gen.adversarial import GAN, Translator
from keras_gen.engine import to_numpy
from keras_gen.export import can_export

needs_tensorflow = pytest.mark.skipif(not can_export(), reason="TensorFlow is not installed")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory, here):
    """A run of a conditional GAN with every kind of noise."""
    folder = tmp_path_factory.mktemp("cgan") / "run"
    flags = ["--model", "cgan", "--filters", "8", "--latent-dim", "10", "--epochs", "4", "--out", folder]
    noise = ["--label-smoothing", "0.1", "--label-flips", "0.05", "--instance-noise", "0.1"]
    done = here("apps.generate", *flags, *noise, "--quality-every", "2", "--quality-features", "pixels")
    assert done.returncode == 0, done.stderr
    return folder


class TestGenerate:
    def test_what_a_run_leaves(self, conditional):
        names = {"samples.png", "training.gif", "classes.png", "walk.png", "watch.csv", "quality.csv"}
        assert names | {"best.keras", "model.keras"} <= {p.name for p in conditional.iterdir()}
        with Image.open(conditional / "training.gif") as film:
            assert film.n_frames == 4
        with open(conditional / "watch.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
        assert float(rows[0]["generator_gradient"]) > 0 and rows[0]["coverage"] == "" != rows[1]["coverage"]
        model = load_model(conditional / "model.keras")
        assert isinstance(model, GAN) and model.classes == 10 and model.label_noise.flip == 0.05
        assert model.instance_noise.steps == 28, "half of four epochs of fourteen steps"

    @needs_tensorflow
    def test_served_by_class(self, conditional, tmp_path):
        """`sample_class(label, seed)` draws what the model draws."""
        import tensorflow as tf

        served = serve(conditional / "savedmodel", {}, tmp_path)
        assert served["sample"].shape == (5, 8, 8, 1)
        loaded = tf.saved_model.load(str(conditional / "savedmodel"))
        made = loaded.sample_class(label=tf.constant([7, 7, 2]), seed=tf.constant(3)).numpy()
        model = load_model(conditional / "model.keras")
        import keras

        if keras.backend.backend() == "tensorflow":  # elsewhere the same seed gives other codes
            expected = to_numpy(model.sample(3, condition=np.array([7, 7, 2]), seed=3))
            assert np.abs(made.astype("float32") / 127.5 - 1 - expected).max() < 0.02
        usage = json.loads((conditional / "card.json").read_text())["usage"]
        assert any("sample_class" in line for line in usage)

    @pytest.mark.parametrize(
        ("model", "network"),
        [
            pytest.param("wgan-gp", "auto", marks=pytest.mark.once),
            pytest.param("sngan", "residual", marks=pytest.mark.once),
            ("vae-gan", "auto"),
        ],
    )
    def test_the_other_models(self, here, tmp_path, model, network):
        flags = ["--filters", "4", "--latent-dim", "6", "--epochs", "1", "--batch-size", "50", "--no-export"]
        flags += ["--quality-every", "0", "--network", network, "--out", tmp_path / "r"]
        done = here("apps.generate", "--model", model, *flags)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "r" / "model.keras").exists() and not (tmp_path / "r" / "quality.csv").exists()
        assert (tmp_path / "r" / "reconstructions.png").exists() == (model == "vae-gan")

    @pytest.mark.once
    def test_goes_on(self, here, conditional, tmp_path):
        """As what it was: --resume alone names no model."""
        folder = copied(conditional, tmp_path / "run")
        done = here("apps.generate", "--resume", folder, "--epochs", "5")
        assert done.returncode == 0, done.stderr
        model = load_model(folder / "model.keras")
        assert isinstance(model, GAN) and model.classes == 10
        with open(folder / "watch.csv", newline="") as file:
            assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5"]

    @pytest.mark.once
    def test_refused(self, here, tmp_path):
        def line(*arguments):
            return refused(here("apps.generate", *arguments, "--out", tmp_path / "r"))

        assert "critic_steps of 1 or more" in line("--model", "gan", "--critic-steps", "0")
        assert "auto, conv, residual. Received: mlp" in line("--model", "gan", "--network", "mlp")
        assert "auto, mlp, conv. Received: residual" in line("--network", "residual")
        assert "Received: --binarize" in line("--model", "gan", "--binarize", "dynamic")
        assert "none, gp, gp0 or r1" in line("--model", "gan", "--penalty", "l2")
        assert "--label-flips" in line("--model", "vae-gan", "--label-flips", "0.1")
        assert "below a half" in line("--model", "gan", "--label-smoothing", "0.6")
        assert "1500 training pictures" in line("--model", "wgan-gp", "--batch-size", "300")
        np.savez(tmp_path / "bare.npz", images=np.zeros((40, 8, 8), "uint8"))
        assert "Expected labels" in line("--model", "cgan", "--data", tmp_path / "bare.npz")
        np.savez(tmp_path / "odd.npz", images=np.zeros((400, 9, 9), "uint8"))
        assert "in even numbers" in line("--model", "gan", "--data", tmp_path / "odd.npz")
        assert not (tmp_path / "r").exists()


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    from calls import run

    folder = tmp_path_factory.mktemp("translate") / "run"
    flags = ["--source", "small", "--filters", "8", "--epochs", "3", "--measure", "50", "--out", folder]
    done = run("apps.translate", "train", *flags)
    assert done.returncode == 0, done.stderr
    assert "PSNR, made" in done.stdout
    return folder


class TestTranslate:
    def test_a_folder(self, here, translator, tmp_path, digits):
        given = tmp_path / "given"
        given.mkdir()
        for i, image in enumerate(digits.test.images[:3, ..., 0]):
            Image.fromarray(image).save(given / f"{i}.png")
        (given / "broken.png").write_bytes(b"no picture")
        flags = ["--run", translator, "--make-source", "-o", tmp_path / "made"]
        done = here("apps.translate", "run", given, *flags)
        assert done.returncode == 0, done.stderr
        assert "skipped" in done.stdout and "wrote 3 pictures" in done.stdout
        model = load_model(translator / "model.keras")
        assert isinstance(model, Translator)
        expected = to_numpy(model(model.sources(digits.test.floats(slice(1, 2)))))[0, ..., 0]
        with Image.open(tmp_path / "made" / "1.png") as picture:
            assert np.abs(np.asarray(picture) / 127.5 - 1 - expected).max() < 0.01

    @pytest.mark.once
    def test_refused(self, here, translator, tmp_path):
        def line(*arguments):
            return refused(here("apps.translate", *arguments))

        assert "existing picture" in line("run", "nothing.png", "--run", translator)
        (tmp_path / "a.png").write_bytes(b"no picture")
        assert "Expected a picture" in line("run", tmp_path / "a.png", "--run", translator)
        assert "colour pictures" in line("train", "--source", "grey", "--out", tmp_path / "r")
        assert "gaussian:0.2" in line("train", "--source", "fog")
        assert "weight of 0 or more" in line("train", "--weight", "-1")


@pytest.fixture(scope="module")
def vae(tmp_path_factory, here):
    """A run that encodes."""
    folder = tmp_path_factory.mktemp("vae") / "run"
    flags = ["--epochs", "30", "--hidden", "128", "--importance-samples", "0", "--no-export", "--out", folder]
    done = here("apps.generate", *flags)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def gan(tmp_path_factory, here):
    folder = tmp_path_factory.mktemp("gan") / "run"
    flags = ["--model", "gan", "--filters", "4", "--epochs", "1", "--quality-every", "0", "--no-export"]
    done = here("apps.generate", *flags, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def cell(path, row, column):
    """One 8x8 picture of a sheet, in [-1, 1]: enlarged seven times, with a line of a pixel between."""
    with Image.open(path) as sheet:
        levels = np.asarray(sheet.convert("L"), "float32")
    top, left = (7 + 63 * i for i in (row, column))
    return levels[top + 3 : top + 56 : 7, left + 3 : left + 56 : 7] / 127.5 - 1


class TestExplore:
    def test_an_attribute(self, here, vae, tmp_path):
        """Ones moved towards zeros lose their stroke in the middle."""
        flags = ["--attribute", "0", "--instead-of", "1", "--rows", "4", "--steps", "3", "--out", tmp_path]
        done = here("apps.explore", vae, *flags)
        assert done.returncode == 0, done.stderr
        assert "from 1 (left) to 0 (right)" in done.stdout
        middles = [
            np.mean([cell(tmp_path / "attribute.png", row, column)[3:5, 3:5] for row in range(4)])
            for column in (0, 2)
        ]
        assert middles[0] > middles[1] + 0.25
        assert (tmp_path / "walk.png").exists()

    def test_an_analogy_with_itself(self, here, vae, tmp_path, digits):
        """As a is to a, b is to b's reconstruction."""
        paths = []
        for i in (3, 3, 7):
            paths.append(tmp_path / f"{len(paths)}.png")
            Image.fromarray(digits.test.images[i, ..., 0]).save(paths[-1])
        done = here("apps.explore", vae, "--analogy", *paths, "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        model = load_model(vae / "model.keras")
        expected = to_numpy(model(digits.test.floats(slice(7, 8))))[0, ..., 0]
        made = cell(tmp_path / "analogy.png", 0, 3)
        assert np.abs(made - expected).max() < 0.02

    @pytest.mark.once
    def test_a_gan_by_a_classifier(self, here, gan, tmp_path):
        done = here("apps.explore", gan, "--attribute", "8", "--n", "1000", "--rows", "2", "--out", tmp_path)
        # after one epoch all may look alike to the classifier; then it says so
        assert done.returncode == 0 or "Ask for more with --n" in refused(done)

    @pytest.mark.once
    def test_refused(self, here, vae, gan, conditional):
        def line(*arguments):
            return refused(here("apps.explore", *arguments))

        assert "Expected a class: 0, 1" in line(vae, "--attribute", "cat")
        assert "beside --instead-of" in line(vae, "--instead-of", "1")
        assert "with an encoder" in line(gan, "--analogy", "a.png", "b.png", "c.png")
        assert "existing picture" in line(vae, "--analogy", "a.png", "b.png", "c.png")
        assert "not told a class" in line(conditional)
        assert "Expected --features of a classifier" in line(gan, "--attribute", "1", "--features", "pixels")
        assert "Ask for fewer --rows" in line(vae, "--rows", "500")
