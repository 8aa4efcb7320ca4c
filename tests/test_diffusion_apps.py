"""apps.generate with diffusion models, apps.edit, and apps.translate --model ddpm."""

import json

import keras
import numpy as np
import pytest
from calls import refused
from PIL import Image

from keras_gen import load_model
from keras_gen.diffusion import Diffusion
from keras_gen.engine import to_numpy
from keras_gen.export import can_export
from keras_gen.images import to_uint8

SMALL = ["--limit", "300", "--width", "8", "--blocks", "1", "--multipliers", "1", "--batch-size", "100"]


@pytest.fixture(scope="module")
def conditional(tmp_path_factory, here):
    """A run of a class-conditional model, of two epochs, begun and gone on with."""
    folder = tmp_path_factory.mktemp("ddpm") / "run"
    flags = ["--model", "ddpm", "--classes", *SMALL, "--epochs", "1", "--steps", "5", "--out", folder]
    done = here(
        "apps.generate", *flags, "--quality-every", "1", "--quality-features", "pixels", "--no-export"
    )
    assert done.returncode == 0, done.stderr
    assert "cosine schedule, predicts v" in done.stdout
    done = here("apps.generate", "--resume", folder, "--epochs", "2")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def pictures(digits, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(digits.test.images[i][..., 0]).save(folder / f"{i}.png")
    return folder


class TestGenerate:
    def test_what_a_run_leaves(self, conditional):
        names = {"samples.png", "chain.png", "chain.gif", "guidance-0.png", "guidance-5.png", "quality.csv"}
        assert names | {"best.keras", "model.keras", "training.gif"} <= {
            p.name for p in conditional.iterdir()
        }
        with Image.open(conditional / "chain.gif") as film:
            assert film.n_frames > 10
        card = json.loads((conditional / "card.json").read_text())
        assert card["draws"] == {"steps": 5, "guidance": 1.0, "label": list(range(10))}

    def test_going_on_is_going_through(self, conditional, here, tmp_path):
        """The average of weights and the count of pictures go on too."""
        flags = ["--model", "ddpm", "--classes", *SMALL, "--epochs", "2", "--steps", "5", "--no-export"]
        done = here("apps.generate", *flags, "--quality-every", "0", "--out", tmp_path / "through")
        assert done.returncode == 0, done.stderr
        ours, theirs = (load_model(folder / "model.keras") for folder in (conditional, tmp_path / "through"))
        assert isinstance(ours, Diffusion) and float(ours.seen) == float(theirs.seen) == 600
        # TensorFlow adds the gradients of paths that join in the order in which they arrive
        tolerance = 1e-3 if keras.backend.backend() == "tensorflow" else 0
        for mine, other in zip(ours.average.get_weights(), theirs.average.get_weights(), strict=True):
            np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance)

    @pytest.mark.once("torch")  # a run is long on TensorFlow, for tracing
    def test_flow_matching_and_its_measures(self, here, tmp_path):
        run = tmp_path / "run"
        done = here("apps.generate", "--model", "flow-matching", *SMALL, "--epochs", "1", "--out", run)
        assert done.returncode == 0, done.stderr
        assert "flow schedule, predicts velocity" in done.stdout
        measures = ["--against", "digits", "--n", "50", "--features", "pixels"]
        done = here("apps.evaluate", run, *measures, "--likelihood-n", "5", "--flow-steps", "5")
        assert done.returncode == 0 and "along the flow" in done.stdout, done.stderr
        assert "variational" not in done.stdout
        if can_export():
            done = here(
                "apps.evaluate",
                run / "savedmodel",
                *measures,
                "--out",
                tmp_path / "e.json",
            )
            assert done.returncode == 0, done.stderr
            rows = json.loads((tmp_path / "e.json").read_text())["rows"]
            before = json.loads((run / "evaluation.json").read_text())["rows"]
            assert rows[0]["value"] == pytest.approx(before[0]["value"], rel=1e-3), "the same pictures"
        done = here("apps.sample", run, "--n", "4", "--out", tmp_path / "four.png")
        assert done.returncode == 0 and (tmp_path / "four.png").exists()
        assert "apps.edit" in refused(here("apps.explore", run))

    @pytest.mark.once
    def test_bits_of_the_bound(self, conditional, here, tmp_path):
        measures = ["--n", "50", "--likelihood-n", "3", "--features", "pixels", "--out", tmp_path / "e.json"]
        done = here("apps.evaluate", conditional, *measures)
        assert done.returncode == 0, done.stderr
        rows = {row["key"]: row for row in json.loads((tmp_path / "e.json").read_text())["rows"]}
        assert rows["bits_per_dim"]["n"] == 3 and 0 < rows["bits_per_dim"]["value"] < 50

    @pytest.mark.once
    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (["--guidance", "2"], "--guidance with --classes"),
            (["--network", "mlp"], "auto, unet"),
            (["--steps", "2000"], "1000 at most"),
            (["--noise-schedule", "linear", "--zero-terminal-snr", "--prediction", "epsilon"], "pure noise"),
            (["--noise-schedule", "edm", "--learned-variance"], "discrete schedule"),
            (["--binarize", "dynamic"], "Received: --binarize"),
            (["--noise-schedule", "edm", "--times", "50"], "schedule of discrete steps"),
            (["--width", "2"], "width of 4 or more"),
            (["--heads", "3", "--attention", "8"], "heads that divide"),
        ],
    )
    def test_impossible_runs(self, here, tmp_path, flags, said):
        done = here("apps.generate", "--model", "ddpm", *SMALL, *flags, "--out", tmp_path / "run")
        assert said in refused(done)
        assert not (tmp_path / "run").exists()


class TestEdit:
    def test_within_a_mask(self, conditional, pictures, here, tmp_path, digits):
        mask = np.zeros((8, 8), "uint8")
        mask[:, 5:] = 255
        Image.fromarray(mask).save(tmp_path / "mask.png")
        flags = ["--mask", tmp_path / "mask.png", "--label", "3", "--guidance", "2", "--n", "2"]
        done = here("apps.edit", pictures, "--run", conditional, *flags, "-o", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        made = {p.name: np.asarray(Image.open(p)) for p in (tmp_path / "out").iterdir()}
        assert set(made) == {"0-1.png", "0-2.png", "1-1.png", "1-2.png"}
        for name, picture in made.items():
            original = digits.test.images[int(name[0])][..., 0]
            np.testing.assert_array_equal(picture[:, :5], original[:, :5])
            assert not np.array_equal(picture[:, 5:], original[:, 5:])
        assert not np.array_equal(made["0-1.png"], made["0-2.png"])

    @pytest.mark.once
    def test_from_a_noisy_start(self, conditional, pictures, here, tmp_path, digits):
        for strength in ("0", "1"):
            flags = [
                "--strength",
                strength,
                "--label",
                "4",
                "--seed",
                "3",
                "-o",
                tmp_path / f"{strength}.png",
            ]
            done = here("apps.edit", pictures / "0.png", "--run", conditional, *flags)
            assert done.returncode == 0, done.stderr
        unchanged, forgotten = (np.asarray(Image.open(tmp_path / f"{s}.png")) for s in ("0", "1"))
        np.testing.assert_array_equal(unchanged, digits.test.images[0][..., 0])
        sample = load_model(conditional / "model.keras").sample(1, 4, seed=3)
        assert np.abs(forgotten.astype(int) - to_numpy(to_uint8(sample))[0, ..., 0]).max() <= 1

    @pytest.mark.once
    def test_towards_another_picture(self, conditional, pictures, here, tmp_path):
        flags = ["--towards", pictures / "1.png", "--n", "5", "-o", tmp_path / "strip.png"]
        done = here("apps.edit", pictures / "0.png", "--run", conditional, *flags)
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / "strip.png") as strip:
            assert strip.width == 5 * strip.height - 4 * strip.height / 10

    @pytest.mark.once
    def test_refusals(self, conditional, pictures, here, tmp_path):
        Image.fromarray(np.zeros((9, 9), "uint8")).save(tmp_path / "nine.png")
        (tmp_path / "broken.png").write_text("no picture")
        for flags, said in (
            (["--mask", tmp_path / "nine.png"], "a mask of the picture's size, 8x8"),
            (["--mask", tmp_path / "broken.png"], "a picture as the mask"),
            (["--mask", tmp_path / "absent.png"], "a picture as the mask"),
            (["--strength", "2"], "a strength of 0 to 1"),
            (["--label", "10"], "classes 0 to 9"),
            (["--towards", tmp_path / "nine.png"], "--n of 2 or more"),
            (["--steps", "5000"], "1000 at most"),
        ):
            line = refused(
                here("apps.edit", pictures / "0.png", "--run", conditional, *flags, "-o", tmp_path / "o.png")
            )
            assert said in line
        assert "the folder of a run" in refused(
            here("apps.edit", pictures / "0.png", "--run", tmp_path / "absent", "-o", tmp_path / "o.png")
        )
        assert not (tmp_path / "o.png").exists()


@pytest.mark.once("torch")
def test_translation_by_diffusion(here, tmp_path, pictures):
    flags = [
        "--model",
        "ddpm",
        "--source",
        "downsampling:2",
        "--limit",
        "200",
        "--filters",
        "8",
        "--epochs",
        "1",
    ]
    done = here(
        "apps.translate", "train", *flags, "--measure", "20", "--no-export", "--out", tmp_path / "run"
    )
    assert done.returncode == 0, done.stderr
    assert "PSNR, made" in done.stdout
    done = here("apps.translate", "run", pictures, "--run", tmp_path / "run", "-o", tmp_path / "made")
    assert done.returncode == 0 and len(list((tmp_path / "made").iterdir())) == 2, done.stderr
