"""The apps as people use them: a process, its exit code, and what it leaves behind."""

import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from calls import ROOT, refused, run
from harness import serve
from PIL import Image

from keras_gen import load_model
from keras_gen.export import can_export

TINY = ["--epochs", "2", "--hidden", "16", "--limit", "200", "--importance-samples", "4"]


TASKS = (
    "autoencode",
    "classify",
    "denoise",
    "detect",
    "edit",
    "evaluate",
    "explore",
    "export",
    "generate",
    "pretrain",
    "retrieve",
    "sample",
    "text_to_image",
    "translate",
)
COMMANDS = ("denoise", "detect", "retrieve", "text_to_image", "translate")
"""The tasks that begin with a command."""


def copied(run_folder: Path, to: Path) -> Path:
    """A run to go on with, without the SavedModel, which takes longest."""
    shutil.copytree(run_folder, to, ignore=shutil.ignore_patterns("savedmodel"))
    config = json.loads((to / "config.json").read_text())
    config["options"]["export"] = False
    (to / "config.json").write_text(json.dumps(config))
    return to


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny finished run."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    done = run("apps.generate", "--out", out, *TINY)
    assert done.returncode == 0, done.stderr
    return out, done


class TestGenerate:
    def test_leaves_what_it_promises(self, finished):
        out, done = finished
        for name in ("samples.png", "reconstructions.png", "manifold.png", "curves.png"):
            with Image.open(out / name) as picture:
                assert picture.size > (50, 50)
                assert np.asarray(picture.convert("L")).std() > 5
        assert list((out / "samples").glob("epoch-*.png"))
        config = json.loads((out / "config.json").read_text())
        assert config["options"]["epochs"] == 2
        assert config["backend"] == keras.backend.backend()
        with open(out / "metrics.csv") as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1", "2"]
        assert {"loss", "kl", "reconstruction", "val_loss"} <= set(rows[0])
        assert (out / "checkpoints" / "epoch-00002.npz").exists()
        assert load_model(out / "model.keras").latent_dim == 8
        assert f"python -m apps.sample {out}" in done.stdout.splitlines()[-1]
        assert re.search(r"epoch 2/2 .*left", done.stderr)

    def test_savedmodel_and_card(self, finished):
        pytest.importorskip("tensorflow")
        out, _ = finished
        card = json.loads((out / "savedmodel" / "card.json").read_text())
        assert set(card["signatures"]) == {"sample", "encode", "decode", "reconstruct"}
        assert card["data"]["train"] == 200
        assert card["parameters"] == load_model(out / "model.keras").count_params()
        text = (out / "savedmodel" / "README.md").read_text()
        assert "tf.saved_model.load" in text and "`reconstruct`" in text
        assert card["command"] in text and "--hidden 16" in card["command"]

    @pytest.mark.once
    def test_the_card_s_code_runs(self, finished):
        pytest.importorskip("tensorflow")
        out, _ = finished
        text = (out / "savedmodel" / "README.md").read_text()
        code = (
            text.split("```python\n")[1]
            .split("```")[0]
            .replace("path/to/this/folder", str(out / "savedmodel"))
        )
        code += "\nassert near.shape == images.shape == (16, 8, 8, 1) and codes.shape == (16, 8)"
        code += "\nassert images.dtype == again.dtype == tf.uint8"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-1000:]

    @pytest.mark.once
    def test_a_two_dimensional_code_draws_its_manifold(self, tmp_path, here):
        done = here("apps.generate", "--out", tmp_path / "r", "--latent-dim", 2, "--no-export", *TINY)
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / "r" / "manifold.png") as picture:
            assert picture.size[0] == picture.size[1] > 1000

    @pytest.mark.once
    def test_a_folder_of_colour_pictures(self, tmp_path, here):
        rng = np.random.default_rng(0)
        (tmp_path / "pictures").mkdir()
        for i in range(30):
            values = rng.integers(0, 256, (20 + i, 33, 3), "uint8")
            Image.fromarray(values).save(tmp_path / "pictures" / f"{i}.jpg")
        (tmp_path / "pictures" / "broken.png").write_bytes(b"x")
        options = ["--likelihood", "gaussian", "--image-size", 20, "--epochs", 1, "--network", "conv"]
        options += ["--no-export", "--out", tmp_path / "r"]
        done = here("apps.generate", "--data", tmp_path / "pictures", *options)
        assert done.returncode == 0, done.stderr
        assert "broken.png" in done.stderr
        with Image.open(tmp_path / "r" / "samples.png") as picture:
            assert picture.mode == "RGB"

    def test_resume_after_the_end_and_with_more_epochs(self, finished, tmp_path, here):
        out = copied(finished[0], tmp_path / "again")
        os.remove(out / "samples.png")
        assert here("apps.generate", "--resume", out).returncode == 0
        assert (out / "samples.png").exists()
        done = here("apps.generate", "--resume", out, "--epochs", 3)
        assert done.returncode == 0, done.stderr
        with open(out / "metrics.csv") as file:
            assert len(list(csv.DictReader(file))) == 3
        made_by = json.loads((out / "card.json").read_text())["command"]
        assert "--epochs 3 " in made_by and made_by.endswith("first with --epochs 2, then resumed")
        assert "3 epochs or more" in refused(here("apps.generate", "--resume", out, "--epochs", 2))
        assert here("apps.generate", "--resume", out).returncode == 0, "refused without harm"
        line = refused(here("apps.generate", "--resume", out, "--hidden", 8, "--limit", 5))
        assert "--limit, --hidden" in line

    @pytest.mark.once
    def test_ctrl_c_says_how_to_go_on(self, tmp_path, here):
        command = [sys.executable, "-m", "apps.generate", "--out", str(tmp_path / "r"), "--epochs", "5000"]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            # a shell that runs the tests in the background lets them ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        deadline = time.time() + 120
        while time.time() < deadline and len(list(tmp_path.glob("r/checkpoints/*"))) < 2:
            time.sleep(0.2)
        in_use = refused(here("apps.generate", "--resume", tmp_path / "r"))
        assert "in use" in in_use
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in stderr
        assert f"--resume {tmp_path / 'r'}" in stderr.splitlines()[-1]

    @pytest.mark.once
    def test_ctrl_c_after_training_says_so_too(self, tmp_path, here, monkeypatch):
        pytest.importorskip("tensorflow")

        def stopped(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("keras_gen.export.export_file", stopped)
        done = here("apps.generate", "--out", tmp_path / "r", *TINY)
        assert done.returncode == 130
        assert done.stderr.endswith(
            f"stopped. Go on with: python -m apps.generate --resume {tmp_path / 'r'}\n"
        )
        assert (tmp_path / "r" / "model.keras").exists()


class TestExportAndSample:
    @pytest.mark.once
    def test_export_elsewhere_and_again(self, finished, tmp_path, here):
        pytest.importorskip("tensorflow")
        out, _ = finished
        for _ in range(2):
            done = here("apps.export", out, "--out", tmp_path / "served" / "1")
            assert done.returncode == 0, done.stderr
        assert (tmp_path / "served" / "1" / "saved_model.pb").exists()
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("years of work")
        assert "holds other things" in refused(here("apps.export", out, "--out", tmp_path / "mine"))

    def test_sample(self, finished, tmp_path, here):
        out, _ = finished
        assert here("apps.sample", out, "--n", 4, "--out", tmp_path / "sheet.png").returncode == 0
        assert here("apps.sample", out, "--n", 3, "--seed", 5, "--out", tmp_path / "many").returncode == 0
        pictures = sorted((tmp_path / "many").iterdir())
        assert [p.name for p in pictures] == ["5-00000.png", "5-00001.png", "5-00002.png"]
        with Image.open(pictures[0]) as picture:
            assert picture.size == (8, 8)

    @pytest.mark.once
    def test_refused(self, finished, tmp_path, here):
        out, _ = finished
        assert "n of 1 or more" in refused(here("apps.sample", out, "--n", 0))
        (tmp_path / "config.json").write_text((out / "config.json").read_text())
        assert "a finished run" in refused(here("apps.export", tmp_path))


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnits"], "Received: 'mnits'"),
        (["--data", "no/such.npz"], "existing file"),
        (["--epochs", "0"], "epochs of 1 or more"),
        (["--batch-size", "0"], "batch_size of 1 or more"),
        (["--learning-rate", "-1"], "positive learning rate"),
        (["--latent-dim", "0"], "latent_dim of 1"),
        (["--beta", "-1"], "beta of 0 or more"),
        (["--hidden", "8", "0"], "hidden of 1 or more. Received: 8 0"),
        (["--label-flips", "0.1", "--guidance", "2"], "Received: --label-flips, --guidance"),
        (["--scale", "-1", "--likelihood", "gaussian"], "positive standard deviations"),
        (["--network", "conv", "--hidden", "8", "8", "8", "8"], "at least 16 pixels"),
        (["--activation", "wobbly"], "wobbly"),
        (["--learning-rate", "1e30", "--epochs", "3"], "lower --learning-rate"),
        (["--out", "/proc/nowhere"], "can be written"),
        (["--resume", "no/such/run"], "config.json"),
    ],
)
def test_generate_refuses(arguments, message, tmp_path, monkeypatch, here):
    monkeypatch.chdir(tmp_path)
    assert message in refused(here("apps.generate", *arguments))


@pytest.mark.once
def test_help_imports_nothing_heavy(here):
    for task in TASKS:
        done = here(f"apps.{task}", *(["train"] if task in COMMANDS else []), "--help")
        assert done.returncode == 0 and "--out" in done.stdout
    code = (
        f"import sys\nfrom apps import {', '.join(TASKS)}\n"
        "print({'keras', 'tensorflow', 'jax', 'torch', 'numpy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


@pytest.mark.once
def test_the_list_of_tasks():
    done = run("apps")
    assert done.returncode == 0
    for task in TASKS:
        assert re.search(rf"^  {task} +\w", done.stdout, re.MULTILINE)
    assert "_main" not in done.stdout


@pytest.mark.once
def test_without_the_datasets_extra(tmp_path, monkeypatch):
    """A TFDS name where TFDS is not installed."""
    from keras_gen.data import load
    from keras_gen.errors import InputError

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "tensorflow_datasets" else real(n, *a)
    )
    with pytest.raises(InputError, match=r'pip install -e "\.\[tensorflow'):
        load("mnist")


@pytest.mark.once
def test_the_shipped_model():
    """savedmodels/: the README's code runs, and the card tells the truth about held-out digits."""
    pytest.importorskip("tensorflow")
    text = (ROOT / "savedmodels" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    code += (
        "\nfrom keras_gen.data import load\nimport numpy as np\n"
        "digits = load('digits').test.images\n"
        "error = np.abs(model.reconstruct(image=digits).numpy().astype(float) - digits).mean()\n"
        "assert images.shape == again.shape == near.shape == (16, 8, 8, 1), images.shape\n"
        "assert codes.shape == (16, 8) and error < 32, error\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]


def test_the_shipped_denoiser(tmp_path, here):
    """A noisy photograph by the command of the README, and the same by the SavedModel."""
    from sklearn.datasets import load_sample_image

    from keras_gen.metrics import psnr

    photograph = Image.fromarray(load_sample_image("china.jpg")).resize((160, 106), Image.Resampling.BOX)
    clean = np.asarray(photograph)[:101, :131] / 255
    noise = np.random.default_rng(0).normal(0, 25 / 255, clean.shape)
    noisy = np.clip(np.round(255 * (clean + noise)), 0, 255).astype("uint8")
    Image.fromarray(noisy).save(tmp_path / "noisy.png")
    done = here("apps.denoise", "run", tmp_path / "noisy.png", "-o", tmp_path / "clean.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "clean.png") as picture:
        made = np.asarray(picture)
    assert psnr(clean, made / 255) > psnr(clean, noisy / 255) + 7.3
    if can_export():
        served = serve(ROOT / "savedmodels" / "denoise", {"denoise/image": noisy[None]}, tmp_path)
        assert np.abs(served["denoise"].astype(int) - made).max() <= 1
