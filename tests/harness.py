"""`check_model`: what every model of the suite must do, whatever it models."""

import atexit
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from keras_gen.engine import GenerativeModel, to_numpy
from keras_gen.export import can_export, export_file

CARD = {
    "name": "harness",
    "data": {"name": "noise", "train": 1, "shape": [1, 1, 1]},
    "metrics": {},
    "protocol": "none",
    "command": "none",
    "usage": [],
}


def check_model(
    make: Callable[[], GenerativeModel],
    batch: dict,
    tmp_path: Path,
    export: bool | None = None,
    steps: int = 2,
    draws: dict | None = None,
    given: dict | None = None,
) -> None:
    """Run a model through its whole life.

    Args:
        make: Builds the model anew; called several times, under different dtype policies.
        batch: A batch that it trains on.
        tmp_path: An empty folder.
        export: Serve it too. None: where the running backend is the one that serves; True: from every
            backend; False: never, for a model that differs from a served one in training alone.
        steps: Of training, after which every weight has moved: more where layers start at zero.
        draws: What the served `sample` takes beside n and seed.
        given: What the model's own `sample` needs beside them.
    """
    model = make()
    data = batch[model.data_key]
    _check_training(model, batch, steps)
    _check_config(model, data)
    _check_saving(model, data, tmp_path)
    if hasattr(model, "sample"):
        _check_samples(model, given or {})
    _check_bfloat16(make, batch)
    if export is None:
        export = keras.backend.backend() == "tensorflow"
    if export and can_export():
        _check_export(model, data, tmp_path, draws or {})


def _check_training(model, batch, steps: int) -> None:
    before = [to_numpy(v.value).copy() for v in model.trainable_variables]
    model.compile("adam")
    history = model.fit(batch, batch_size=len(batch[model.data_key]), epochs=steps, verbose=0).history
    logged = {name for name in history if not name.startswith("val_")}
    assert all(np.isfinite(values).all() for values in history.values()), history
    for variable, old in zip(model.trainable_variables, before, strict=True):
        new = to_numpy(variable.value)
        assert np.isfinite(new).all(), variable.path
        assert not np.array_equal(new, old), f"{variable.path} was not trained"
    evaluated = model.evaluate(batch, batch_size=len(batch[model.data_key]), verbose=0, return_dict=True)
    assert set(evaluated) == logged
    assert all(np.isfinite(value) for value in evaluated.values()), evaluated
    bound = next(iter(evaluated))
    again = model.evaluate(batch, batch_size=len(batch[model.data_key]), verbose=0, return_dict=True)
    assert abs(again[bound] - evaluated[bound]) < 0.2 * abs(evaluated[bound]) + 0.3


def _check_config(model, data) -> None:
    config = model.get_config()
    copy = type(model).from_config(config)
    assert copy.get_config() == config
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(to_numpy(copy(data)), to_numpy(model(data)), atol=1e-6)


def _check_saving(model, data, tmp_path) -> None:
    expected = to_numpy(model(data))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(data)), expected)
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(ours.value), to_numpy(theirs.value), ours.path)
    model.save_weights(tmp_path / "model.weights.h5")
    blank = type(model).from_config(model.get_config())
    assert not np.array_equal(to_numpy(blank(data)), expected)
    blank.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(to_numpy(blank(data)), expected)


def _check_samples(model, given: dict) -> None:
    def sample(seed):
        return to_numpy(model.sample(3, seed=seed, **given))

    first = sample(1)
    assert first.shape == (3, *model.data_shape)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(sample(1), first)
    assert not np.array_equal(sample(2), first)
    assert not np.array_equal(first[0], first[1])


def _check_bfloat16(make, batch) -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make()
        model.compile("adam")
        losses = model.fit(batch, batch_size=len(batch[model.data_key]), verbose=0).history
    except RuntimeError as error:
        # PyTorch, on processors without bfloat16, cannot differentiate a convolution of one filter
        if "slow_conv2d: grad_weight must be contiguous" in str(error):
            return
        raise
    finally:
        keras.config.set_dtype_policy(policy)
    assert model.compute_dtype == "bfloat16"
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    assert all(np.isfinite(values).all() for values in losses.values()), losses


SERVE = """
import json
import sys

sys.modules["keras"] = sys.modules["keras_gen"] = None  # importing them is an error
import numpy as np
import tensorflow as tf


def answer(folder, inputs, outputs, draws):
    model = tf.saved_model.load(folder)
    given = np.load(inputs)
    results = {}
    calls = {}
    for key in given.files:
        name, argument = key.split("/")
        calls.setdefault(name, {})[argument] = tf.constant(given[key])
    for name, arguments in calls.items():
        made = getattr(model, name)(**arguments)
        made = made if isinstance(made, dict) else {"": made}
        results |= {f"{name}/{part}".rstrip("/"): value.numpy() for part, value in made.items()}
    if hasattr(model, "sample"):
        more = {name: tf.constant(value) for name, value in json.loads(draws).items()}
        results["sample"] = model.sample(n=5, seed=7, **more).numpy()
        results["sample_again"] = model.sample(n=5, seed=7, **more).numpy()
        results["sample_other"] = model.sample(n=2, seed=8, **more).numpy()
    np.savez(outputs, **results)


for line in sys.stdin:
    answer(*line.rstrip("\\n").split("\\t"))
    print("answered", flush=True)
"""


@functools.cache
def _server() -> subprocess.Popen:
    """One process for all SavedModels of a session: TensorFlow's start is most of what a call costs."""
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    server.errors = errors
    atexit.register(server.kill)
    return server


def serve(
    folder: Path, inputs: dict[str, np.ndarray], tmp_path: Path, draws: dict | None = None
) -> dict[str, np.ndarray]:
    """Call a SavedModel in a process where neither Keras nor keras_gen can be imported.

    `inputs` maps "endpoint/argument" to an array; all of an endpoint are for one call. Returns each
    endpoint's output, and three calls of `sample`, with `draws` beside n and seed.
    """
    np.savez(tmp_path / "inputs.npz", **inputs)
    server = _server()
    server.stdin.write(
        f"{folder}\t{tmp_path / 'inputs.npz'}\t{tmp_path / 'outputs.npz'}\t{json.dumps(draws or {})}\n"
    )
    server.stdin.flush()
    if server.stdout.readline() != "answered\n":
        _server.cache_clear()
        server.kill()
        server.wait()
        server.errors.seek(0)
        raise AssertionError(server.errors.read()[-2000:])
    with np.load(tmp_path / "outputs.npz") as outputs:
        return dict(outputs)


def asked(prompts: Sequence[str], seed: int, steps: int, guidance: float) -> dict[str, np.ndarray]:
    """What `serve` is to hand to `generate`."""
    values = {"prompts": np.array(prompts), "seed": np.int32(seed), "steps": np.int32(steps)}
    values["guidance"] = np.float32(guidance)
    return {f"generate/{name}": value for name, value in values.items()}


def red_and_blue(folder: Path, n: int) -> list[dict]:
    """Pictures of one colour each, 0.png and on; their lines of a metadata.jsonl, which is not written."""
    folder.mkdir()
    lines = []
    for i in range(n):
        colour = ("red", "blue")[i % 2]
        Image.new("RGBA", (16, 16), colour).save(folder / f"{i}.png")
        lines.append({"file_name": f"{i}.png", "text": f"a {colour} square"})
    return lines


def _check_export(model, data, tmp_path, draws: dict) -> None:
    from keras_gen.images import to_uint8, to_unit

    model.save(tmp_path / "model.keras")
    export_file(tmp_path / "model.keras", tmp_path / "savedmodel", CARD)
    assert (tmp_path / "savedmodel" / "card.json").exists()
    signatures = model.signatures()
    key = model.data_key
    kinds = {n: args[key][1] for n, (_, args, _) in signatures.items() if set(args) == {key}}
    if key == "image":
        given = {"uint8": to_numpy(to_uint8(data)), "float32": to_numpy(to_unit(data))}
    else:
        given = {"float32": data}
    inputs = {f"{name}/{key}": given[kind] for name, kind in kinds.items()}
    assert inputs or "sample" in signatures
    served = serve(tmp_path / "savedmodel", inputs, tmp_path, draws)
    expectations = {}
    for name, kind in kinds.items():
        made = signatures[name][0](given[kind])
        made = made if isinstance(made, dict) else {"": made}
        expectations |= {f"{name}/{part}".rstrip("/"): to_numpy(value) for part, value in made.items()}
    for name, expected in expectations.items():
        assert served[name].dtype == expected.dtype
        # one grey level of rounding, or 1e-5 where the output is real
        tolerance = 1 if expected.dtype == np.uint8 else 1e-5 * max(1, np.abs(expected).max())
        difference = np.abs(served[name].astype("float64") - expected.astype("float64"))
        assert difference.max() <= tolerance, name
        assert expected.dtype != np.uint8 or difference.mean() < 0.01, name
    if "sample" in signatures:
        assert served["sample"].dtype == np.uint8
        np.testing.assert_array_equal(served["sample"], served["sample_again"])
        assert len(served["sample_other"]) == 2
        assert not np.array_equal(served["sample"][:2], served["sample_other"])
