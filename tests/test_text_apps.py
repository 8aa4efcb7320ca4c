"""apps.text_to_image: from captioned pictures to a picture by a sentence."""

import json
import shutil

import numpy as np
import pytest
from calls import ROOT, refused, run
from harness import asked, red_and_blue, serve
from PIL import Image

from keras_gen import load_model
from keras_gen.engine import to_numpy
from keras_gen.export import can_export
from keras_gen.images import to_uint8
from keras_gen.shapes import check, parse, read
from keras_gen.shipped import shipped

needs_tensorflow = pytest.mark.skipif(not can_export(), reason="TensorFlow is not installed")

APP = "apps.text_to_image"
DENOISER = [
    *["--width", "8", "--blocks", "1", "--multipliers", "1", "--text-dim", "8", "--text-blocks", "1"],
    *["--epochs", "2", "--text-epochs", "2", "--steps", "2"],
]
SMALL = [*DENOISER, "--autoencoder-width", "8", "--autoencoder-epochs", "2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on captioned pictures of a folder, one of them without a caption, one named twice."""
    root = tmp_path_factory.mktemp("text")
    folder = root / "pictures"
    lines = red_and_blue(folder, 40)[1:]
    for line in lines:
        line["file_name"] = "./" + line["file_name"]
    lines.append({"file_name": "1.png", "text": ["all blue", "nothing but blue"]})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    flags = ["--data", folder, "--image-size", "16", "--batch-size", "8", *SMALL, "--no-export"]
    done = run(APP, "train", *flags, "--out", root / "run")
    assert done.returncode == 0, done.stderr
    assert "1 pictures without a text: 0.png" in done.stderr
    assert (
        "35 pictures to train on, 4 held out" in done.stdout
        and "words" in done.stdout
        and "reconstruction:" in done.stdout
    )
    return root / "run"


@pytest.mark.once("torch")  # a run is long on TensorFlow, for tracing
class TestTrain:
    def test_what_a_run_leaves(self, trained):
        names = {"autoencoder.keras", "latents.npz", "model.keras", "samples.png", "reconstructions.png"}
        assert names <= {p.name for p in trained.iterdir()}
        with np.load(trained / "latents.npz") as latents:
            assert abs(latents["train"].std() - 1) < 1e-3 and latents["train"].shape[1:] == (4, 4, 8)
        model = load_model(trained / "model.keras")
        assert set(model.tokenizer.vocabulary) >= {"red", "blue", "square", "nothing", "but"}
        assert (trained / "samples" / "epoch-00001.png").exists()

    def test_going_on_at_any_stage(self, trained, here, tmp_path):
        last = {"denoiser": "checkpoints/epoch-00002.npz", "text": "text/checkpoints/epoch-00002.npz"}
        last["stage"] = "autoencoder/checkpoints/epoch-00002.npz"
        late = ["model.keras", "checkpoints", "text"]
        for name, gone in (
            ("denoiser", ["model.keras", last["denoiser"]]),
            ("between", ["model.keras", "checkpoints"]),
            ("text", ["model.keras", "checkpoints", last["text"]]),
            ("stage", [*late, "latents.npz", "autoencoder.keras", last["stage"]]),
        ):
            shutil.copytree(trained, tmp_path / name)
            for path in (tmp_path / name / one for one in gone):
                path.unlink() if path.is_file() else shutil.rmtree(path)
            done = here(APP, "--resume", tmp_path / name)
            assert done.returncode == 0, done.stderr
            assert (tmp_path / name / "text" / "metrics.csv").exists()
            if name != "stage":  # trained on, the first stage may differ in its last digits
                theirs, ours = (load_model(run / "model.keras") for run in (trained, tmp_path / name))
                for a, b in zip(theirs.diffusion.get_weights(), ours.diffusion.get_weights(), strict=True):
                    np.testing.assert_allclose(a, b, atol=1e-5)
            with np.load(tmp_path / name / "latents.npz") as ours, np.load(trained / "latents.npz") as theirs:
                np.testing.assert_allclose(ours["train"], theirs["train"], atol=1e-5)

    def test_a_first_stage_of_another_run(self, trained, here, tmp_path):
        data = json.loads((trained / "config.json").read_text())["options"]["data"]
        flags = ["--data", data, "--image-size", "16", "--batch-size", "8", *DENOISER]
        done = here(APP, "train", *flags, "--autoencoder", trained, "--out", tmp_path / "run")
        assert done.returncode == 0 and "of " + str(trained) in done.stdout, done.stderr
        assert not (tmp_path / "run" / "autoencoder").exists(), "nothing was trained there"
        if can_export():
            card = json.loads((tmp_path / "run" / "savedmodel" / "card.json").read_text())
            assert card["signatures"]["generate"]["inputs"]["prompts"]["dtype"] == "string"
        message = refused(here(APP, "train", "--data", data, "--autoencoder", tmp_path))
        assert "trained first stage" in message
        message = refused(here(APP, "train", "--data", data, "--image-size", "32", "--autoencoder", trained))
        assert "(32, 32, 3)" in message and "(16, 16, 3)" in message

    def test_measured_by_the_captions_own_pictures(self, trained, here):
        done = here(APP, "measure", "--run", trained, "--split", "train", "--n", "8")
        assert done.returncode == 0, done.stderr
        assert "8 prompts, train" in done.stdout and "own in nearest 5" in done.stdout
        assert "test or train" in refused(here(APP, "measure", "--run", trained, "--split", "novel"))
        assert "test or novel" in refused(here(APP, "measure", "--split", "train"))

    @pytest.mark.once
    def test_on_pixels_and_scenes(self, here, tmp_path):
        flags = ["--limit", "64", "--space", "pixel", "--measure", "4", *DENOISER, "--attention", "0"]
        done = here(APP, "train", *flags, "--batch-size", "32", "--no-export", "--out", tmp_path / "run")
        assert done.returncode == 0, done.stderr
        assert "thing" in done.stdout and not (tmp_path / "run" / "latents.npz").exists()
        measured = ["--n", "6", "--guidance", "0", "2", "--out", tmp_path / "m.json"]
        done = here(APP, "measure", "--run", tmp_path / "run", *measured)
        assert done.returncode == 0, done.stderr
        rows = json.loads((tmp_path / "m.json").read_text())
        assert list(rows) == ["another's picture", "guidance 0", "guidance 2"]
        assert (tmp_path / "m.png").exists()
        assert sum(row["of"] for name, row in rows["guidance 2"].items() if "thing" in name) == 6

    def test_networks_that_cannot_be_are_refused_at_once(self, here, tmp_path):
        for flags, message in (
            (["--heads", "3"], "heads that divide"),
            (["--heads", "0"], "heads of 1"),
            (["--width", "5"], "even width"),
            (["--layout", "10"], "heads that divide"),
            (["--attention", "7"], "sides of maps, 8, 4"),
            (["--autoencoder-epochs", "0"], "autoencoder_epochs of 1"),
            (["--steps", "2000"], "1000 at most"),
            (["--features", "classifier_mnist"], "--feature-loss"),
        ):
            refusal = refused(here(APP, "train", "--limit", "8", *flags, "--out", tmp_path / "run"))
            assert message in refusal, (flags, refusal)
        assert not (tmp_path / "run").exists()

    def test_options_that_would_count_for_nothing(self, here):
        def line(*arguments):
            return refused(here(APP, "train", "--limit", "8", *arguments))

        assert "adam" in line("--adversarial", "0.5", "--optimizer", "sgd")
        assert "pixel. Received: --power, --kl." in line("--space", "pixel", "--kl", "1", "--power", "1")
        assert "Received: --latent-channels." in line("--autoencoder", "run", "--latent-channels", "4")
        assert "--feature-loss together" in line("--feature-loss", "1")

    def test_data_without_captions(self, here):
        assert "Expected captions" in refused(here(APP, "train", "--data", "digits"))


@pytest.mark.once("torch")
class TestDraw:
    def test_one_picture(self, trained, here, tmp_path):
        target = tmp_path / "new" / "red.png"
        done = here(APP, "a red square", "--run", trained, "--out", target, "--strip", "--seed", "3")
        assert done.returncode == 0, done.stderr
        assert Image.open(target).size == (128, 128)
        assert Image.open(tmp_path / "new" / "red-strip.png").size[0] > 128
        again = tmp_path / "again.png"
        here(APP, "draw", "a red square", "--run", trained, "-o", again, "--seed", "3", "--scale", "1")
        small = np.asarray(Image.open(target).resize((16, 16), 0))
        np.testing.assert_array_equal(small, np.asarray(Image.open(again)))

    def test_several(self, trained, here, tmp_path):
        (tmp_path / "prompts.txt").write_text("a red square\n\nall blue\n")
        folder = tmp_path / "out"
        flags = ["--prompts-file", tmp_path / "prompts.txt", "--n", "2", "--out", folder]
        done = here(APP, *flags, "--run", trained, "--guidance", "1.5", "--negative", "blue")
        assert done.returncode == 0, done.stderr
        made = [np.asarray(Image.open(folder / f"a-red-square-{i}.png")) for i in (1, 2)]
        assert not np.array_equal(*made), "versions differ"
        for more in (["--negative", "blue"], ["--guidance", "1.5"]):  # each alone makes other pictures
            here(APP, "a red square", "--run", trained, *more, "-o", tmp_path / "other.png")
            assert not np.array_equal(np.asarray(Image.open(tmp_path / "other.png")), made[0])
        names = sorted(p.name for p in folder.iterdir())
        assert names == [*(f"a-red-square-{i}.png" for i in (1, 2, 3, 4)), "a-red-square-sheet.png"]
        done = here(APP, "all blue", "a red square", "--run", trained, "--out", tmp_path / "sheet.png")
        assert done.returncode == 0 and (tmp_path / "sheet.png").exists()

    def test_from_a_picture_within_a_mask(self, trained, here, tmp_path):
        rng = np.random.default_rng(0)
        given = rng.integers(0, 256, (16, 16, 3), "uint8")
        mask = np.zeros((16, 16), "uint8")
        mask[2:9, 3:12] = 255
        Image.fromarray(given).save(tmp_path / "given.png")
        Image.fromarray(mask).save(tmp_path / "mask.png")
        flags = ["--init", tmp_path / "given.png", "--run", trained, "--scale", "1"]
        done = here(APP, "all blue", *flags, "--mask", tmp_path / "mask.png", "-o", tmp_path / "made.png")
        assert done.returncode == 0, done.stderr
        made = np.asarray(Image.open(tmp_path / "made.png"))
        np.testing.assert_array_equal(made[mask == 0], given[mask == 0])
        assert (made[mask > 0] != given[mask > 0]).any()
        done = here(APP, "all blue", *flags, "--strength", "0", "--strip", "-o", tmp_path / "same.png")
        assert "no strip" in done.stdout and not (tmp_path / "same-strip.png").exists()
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "same.png")), given)
        Image.new("L", (8, 8), 255).save(tmp_path / "other.png")
        message = refused(here(APP, "all blue", *flags, "--mask", tmp_path / "other.png"))
        assert "16x16" in message and "8x8" in message
        message = refused(here(APP, "all blue", *flags, "-o", tmp_path / "given.png"))
        assert "over the given pictures" in message
        # enlarged, as apps write small pictures, it is still the same
        Image.fromarray(given).resize((128, 128), 0).save(tmp_path / "large.png")
        flags = ["--init", tmp_path / "large.png", "--run", trained, "--scale", "1", "--strength", "0"]
        done = here(APP, "all blue", *flags, "-o", tmp_path / "small.png")
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "small.png")), given)

    def test_words(self, trained, here, tmp_path):
        out = ["--run", trained, "--out", tmp_path / "a.png"]
        done = here(APP, "a rad square", *out)
        assert done.returncode == 0 and "'rad' (near: red" in done.stdout
        assert "'crimson', 'circle'" in refused(here(APP, "crimson circle", *out))
        assert "'κύκλος'" in refused(here(APP, "κύκλος", *out))
        assert "no words at all" in refused(here(APP, "?!", *out))
        done = here(APP, "a red " * 30 + "square", *out)
        assert done.returncode == 0 and "61 places, of which the first 3 count" in done.stdout

    def test_names_that_nobody_chose_overwrite_nothing(self, trained, here, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("blue", "blue-v2", "blue-v3"):
            done = here(APP, "blue", "--run", trained)
            assert done.returncode == 0 and done.stdout.splitlines()[-1] == f"wrote {name}.png"

    def test_many_are_drawn_in_batches(self, trained, monkeypatch):
        from apps import text_to_image as app

        model = load_model(trained / "model.keras")
        options = app.Draw(seed=4, strip=True)
        monkeypatch.setattr(app, "MOST_AT_ONCE", 2)
        made, ways = app._drawn(options, model, ["blue"] * 3, {})
        assert made.shape == (3, 16, 16, 3) and ways.shape == (3, 2, 16, 16, 3)
        for start, n, seed in ((0, 2, 4), (2, 1, 5)):
            np.testing.assert_allclose(
                made[start : start + n], to_numpy(model.generate(["blue"] * n, seed=seed)), atol=1e-5
            )

    def test_a_damaged_model(self, trained, here, tmp_path):
        (tmp_path / "run").mkdir()
        shutil.copy(trained / "config.json", tmp_path / "run")
        (tmp_path / "run" / "model.keras").write_bytes((trained / "model.keras").read_bytes()[:5000])
        assert "model.keras, which is damaged" in refused(here(APP, "blue", "--run", tmp_path / "run"))

    def test_refused(self, trained, here, tmp_path):
        assert "seed below" in refused(here(APP, "blue", "--run", trained, "--seed", 2**31 - 1))
        flags = ["--run", trained, "--negative", "red", "--guidance", "1"]
        assert "--guidance other than 1" in refused(here(APP, "blue", *flags))
        assert "an empty one" in refused(here(APP, "", "--run", trained))
        assert "Received: none" in refused(here(APP, "--run", trained))
        assert "--init" in refused(here(APP, "blue", "--run", trained, "--mask", "m.png"))
        assert "0 to 1" in refused(here(APP, "blue", "--run", trained, "--init", "x", "--strength", "2"))
        assert ".png" in refused(here(APP, "blue", "--run", trained, "--out", tmp_path / "a.jpg"))
        assert "file of text" in refused(here(APP, "--prompts-file", tmp_path, "--run", trained))
        assert "folder of a run" in refused(here(APP, "blue", "--run", tmp_path / "nowhere"))


@pytest.mark.once
class TestShipped:
    def test_draws_what_it_is_asked_for(self, here, tmp_path):
        prompts = ["a small red circle left of a large blue square", "a large cyan ring"]
        done = here(APP, *prompts, "--scale", "1", "-o", tmp_path)
        assert done.returncode == 0, done.stderr
        for i, prompt in enumerate(prompts, 1):
            (file,) = tmp_path.glob(f"*-{i}.png")
            picture = np.asarray(Image.open(file))
            verdict = check(parse(prompt), read(picture))
            assert verdict.things and verdict.relation in (True, None)

    @needs_tensorflow
    def test_served(self, tmp_path):
        """What comes along as a SavedModel draws what comes along as a model."""
        prompts = ["a large blue square above a small red circle", "a green cross"]
        inputs = asked(prompts, seed=5, steps=4, guidance=3.0)
        served = serve(ROOT / "savedmodels" / "text_to_image_shapes", inputs, tmp_path)["generate"]
        model = load_model(shipped("text_to_image_shapes"))
        made = to_numpy(to_uint8(model.generate(prompts, seed=5, steps=4, guidance=3.0)))
        assert np.abs(served.astype(int) - made).max() <= 1

    @needs_tensorflow
    def test_the_digits_that_come_along(self, tmp_path):
        folder = ROOT / "savedmodels" / "generate_mnist"
        card = json.loads((folder / "card.json").read_text())
        served = serve(folder, {}, tmp_path, card.get("draws"))["sample"]
        assert served.shape == (5, 28, 28, 1) and served.std() > 50

    def test_is_small_enough_to_come_along(self):
        folders = [ROOT / "savedmodels" / name for name in ("text_to_image_shapes", "generate_mnist")]
        assert sum(file.stat().st_size for folder in folders for file in folder.rglob("*")) < 40e6
