"""Runs that stop in every way and go on as if they had not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import make_golden
import numpy as np
import pytest

from keras_gen.data import Batches, ImageData
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError, TrainingError
from keras_gen.training import Checkpoints, Run, train
from keras_gen.training import callbacks as callbacks_module


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    monkeypatch.setattr(callbacks_module, "CHECKPOINT_SECONDS", 0.0)


def started(digits, path, learning_rate=1e-3, **kwargs):
    """A model, its batches and a run, as an app makes them."""
    keras.utils.set_random_seed(0)
    model = make_golden.tiny_vae(**kwargs)
    model.compile(keras.optimizers.Adam(learning_rate))
    batches = Batches(digits.train, 100, training=True, binarize="dynamic")
    held_out = Batches(digits.test, 100, training=False, binarize="dynamic")
    run = Run.open(str(path)) if (path / "config.json").exists() else Run.create("test", {}, str(path))
    return model, batches, held_out, run


def state(model) -> list[np.ndarray]:
    return [to_numpy(v.value).copy() for v in [*model.variables, *model.optimizer.variables]]


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    import keras
    import test_training as t
    from keras_gen import networks, variational
    from keras_gen.data import load
    from keras_gen.training import callbacks, train

    callbacks.CHECKPOINT_SECONDS = 0.0
    path, kind, epochs, kill_in = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == kill_in and batch >= 6:
                os.kill(os.getpid(), signal.SIGKILL)

    model, batches, held_out, run = t.started(load("digits"), path)
    if kind == "conv":
        model = variational.VAE(
            networks.conv_encoder((8, 8, 1), 6, (8,)), networks.conv_decoder(3, (8, 8, 1), (8,)))
        model.compile("adam")
    train(model, batches, held_out, run, epochs, [Kill()])
"""


def run_script(path, kind, epochs, kill_in=-1):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path), kind, str(epochs), str(kill_in)]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["mlp", pytest.param("conv", marks=pytest.mark.once)])
def test_killed_and_resumed_is_bit_for_bit_the_uninterrupted_run(kind, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run_script(whole, kind, 4)
    assert done.returncode == 0, done.stderr[-2000:]
    done = run_script(killed, kind, 4, kill_in=2)
    assert done.returncode == -signal.SIGKILL
    assert [p.name for p in Checkpoints(killed / "checkpoints").paths()][-1] == "epoch-00002.npz"
    done = run_script(killed, kind, 4)
    assert done.returncode == 0, done.stderr[-2000:]
    with (
        np.load(whole / "checkpoints" / "epoch-00004.npz") as expected,
        np.load(killed / "checkpoints" / "epoch-00004.npz") as resumed,
    ):
        assert set(expected.files) == set(resumed.files)
        for name in expected.files:
            np.testing.assert_array_equal(expected[name], resumed[name], name)
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in Run.open(str(p)).rows()]
        for p in (whole, killed)
    ]
    assert timeless[0] == timeless[1] and len(timeless[0]) == 4


@pytest.fixture(scope="module")
def three_epochs(digits, tmp_path_factory):
    """A run of three epochs, and its model."""
    path = tmp_path_factory.mktemp("three") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks_module, "CHECKPOINT_SECONDS", 0.0)
        model, batches, held_out, run = started(digits, path)
        train(model, batches, held_out, run, 3)
    return model, path


class TestCheckpoints:
    def test_restore_brings_everything_back(self, digits, tmp_path):
        model, batches, held_out, run = started(digits, tmp_path / "run")
        train(model, batches, held_out, run, 2)
        before = state(model)
        other, *_ = started(digits, tmp_path / "other")
        assert Checkpoints(tmp_path / "run" / "checkpoints").restore(other) == 2
        for a, b in zip(before, state(other), strict=True):
            if a.shape:  # scalars include metrics, which are no part of the state
                np.testing.assert_array_equal(a, b)

    @pytest.mark.once
    def test_the_newest_are_kept(self, digits, tmp_path):
        model, batches, held_out, run = started(digits, tmp_path / "run")
        train(model, batches, held_out, run, 5)
        names = [p.name for p in Checkpoints(run.path / "checkpoints").paths()]
        assert names == ["epoch-00004.npz", "epoch-00005.npz"]

    @pytest.mark.once
    @pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
    def test_a_damaged_one_falls_back_to_the_one_before(self, digits, three_epochs, tmp_path, damage, caplog):
        model, path = three_epochs
        shutil.copytree(path, tmp_path / "run")
        newest = Checkpoints(tmp_path / "run" / "checkpoints").paths()[-1]
        content = bytearray(newest.read_bytes())
        if damage == "flipped":
            content[len(content) // 2] ^= 0xFF
        newest.write_bytes({"cut": content[: len(content) // 2], "emptied": b""}.get(damage, content))
        again, batches, held_out, run = started(digits, tmp_path / "run")
        assert Checkpoints(run.path / "checkpoints").restore(again) == 2
        assert newest.name in caplog.text
        train(again, batches, held_out, run, 3)
        for a, b in zip(state(model), state(again), strict=True):
            if a.shape:
                np.testing.assert_array_equal(a, b)
        assert [row["epoch"] for row in run.rows()] == [1, 2, 3]

    @pytest.mark.once
    def test_none_left(self, digits, tmp_path):
        model, *_ = started(digits, tmp_path / "run")
        with pytest.raises(InputError, match="has none"):
            Checkpoints(tmp_path / "nothing").restore(model)

    @pytest.mark.once
    def test_of_another_model_or_format(self, digits, tmp_path):
        model, batches, held_out, run = started(digits, tmp_path / "run")
        train(model, batches, held_out, run, 1)
        encoder, decoder = make_golden.mlp_encoder((8, 8, 1), 4), make_golden.mlp_decoder(2, (8, 8, 1))
        other = make_golden.VAE(encoder, decoder)
        other.compile("adam")
        checkpoints = Checkpoints(run.path / "checkpoints")
        with pytest.raises(InputError, match="another model"):
            checkpoints.restore(other)
        for path in checkpoints.paths():
            with np.load(path) as content:
                arrays = dict(content)
            meta = {**json.loads(str(arrays["meta"])), "format": 99}
            np.savez(path, **{**arrays, "meta": np.array(json.dumps(meta))})
        with pytest.raises(InputError, match="format 99"):
            checkpoints.restore(model)

    @pytest.mark.once
    def test_a_full_disk_leaves_the_one_before(self, digits, tmp_path, monkeypatch):
        model, batches, held_out, run = started(digits, tmp_path / "run")
        train(model, batches, held_out, run, 1)
        real = os.fsync

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            train(model, batches, held_out, run, 3)
        monkeypatch.setattr(os, "fsync", real)
        assert not list(run.path.rglob("*.part"))
        train(model, batches, held_out, run, 3)
        assert [row["epoch"] for row in run.rows()] == [1, 2, 3]


class TestStops:
    def test_a_loss_that_is_not_finite(self, digits, tmp_path):
        images = digits.train.images.astype("float32") / 255
        model, batches, held_out, run = started(digits, tmp_path / "run")
        train(model, batches, held_out, run, 1)
        good = state(model)
        images[5] = np.nan
        poisoned = Batches(ImageData("nan", images), 100, training=True)
        with pytest.raises(TrainingError, match="--learning-rate"):
            train(model, poisoned, held_out, run, 3)
        assert all(np.isfinite(to_numpy(v.value)).all() for v in model.trainable_variables)
        for a, b in zip(good, state(model), strict=True):
            if a.shape:
                np.testing.assert_array_equal(a, b)
        assert Checkpoints(run.path / "checkpoints").paths()[-1].name == "epoch-00001.npz"

    def test_interrupted_by_hand(self, digits, tmp_path):
        class Interrupt(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                self.epoch = epoch

            def on_train_batch_end(self, batch, logs=None):
                if self.epoch == 2 and batch >= 3:
                    raise KeyboardInterrupt

        model, batches, held_out, run = started(digits, tmp_path / "run")
        with pytest.raises(KeyboardInterrupt):
            train(model, batches, held_out, run, 4, [Interrupt()])
        train(model, batches, held_out, run, 4)
        whole, batches, held_out, other = started(digits, tmp_path / "whole")
        train(whole, batches, held_out, other, 4)
        for a, b in zip(state(model), state(whole), strict=True):
            if a.shape:
                np.testing.assert_array_equal(a, b)

    def test_a_finished_run_is_left_as_it_is(self, digits, tmp_path):
        model, batches, held_out, run = started(digits, tmp_path / "run")
        train(model, batches, held_out, run, 2)
        before = state(model)
        train(model, batches, held_out, run, 2)
        for a, b in zip(before, state(model), strict=True):
            np.testing.assert_array_equal(a, b)
        with pytest.raises(InputError, match="2 epochs or more"):
            train(model, batches, held_out, run, 1)

    def test_what_callbacks_write_is_there_before_the_state(self, digits, tmp_path):
        """Killed while it measures, a run measures that epoch again, and misses nothing."""

        class Killed(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                if epoch == 1:
                    raise KeyboardInterrupt

        model, batches, held_out, run = started(digits, tmp_path / "run")
        with pytest.raises(KeyboardInterrupt):
            train(model, batches, held_out, run, 2, [Killed()])
        names = sorted(path.name for path in (run.path / "checkpoints").iterdir())
        assert names[-1] < "epoch-00002.npz"


@pytest.mark.once
class TestRun:
    def test_refused(self, tmp_path):
        with pytest.raises(InputError, match="readable config.json"):
            Run.open(str(tmp_path / "nowhere"))
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.txt").write_text("years of work")
        with pytest.raises(InputError, match="new or empty folder"):
            Run.create("test", {}, str(tmp_path / "full"))
        run = Run.create("test", {}, str(tmp_path / "run"))
        with pytest.raises(InputError, match="in use"):
            Run.open(str(run.path))
        with pytest.raises(InputError, match="in use"):
            Run.open(str(run.path), reading=True)
        path = run.path
        del run
        readers = [Run.open(str(path), reading=True) for _ in range(2)]
        with pytest.raises(InputError, match="in use"):
            Run.open(str(path))
        del readers
        with pytest.raises(InputError, match="a run of apps.test"):
            Run.open(str(path), "generate")
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, "format": 7}))
        with pytest.raises(InputError, match="format 7"):
            Run.open(str(path))
        (path / "config.json").write_text("{half")
        with pytest.raises(InputError, match="JSONDecodeError"):
            Run.open(str(path))

    def test_no_permission(self, tmp_path):
        if os.geteuid() == 0:
            blocked = Path("/proc/keras_gen")  # root may write anywhere else
        else:
            tmp_path.chmod(0o500)
            blocked = tmp_path / "run"
        with pytest.raises(InputError, match="can be written.*--out"):
            Run.create("test", {}, str(blocked))

    def test_two_in_one_second(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        first, second = Run.create("test", {}), Run.create("test", {})
        assert first.path != second.path
