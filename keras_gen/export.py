"""SavedModels that need TensorFlow alone, with a card that says what they are."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import keras

import keras_gen
from keras_gen.engine import parameters
from keras_gen.errors import InputError


def can_export() -> bool:
    """Whether TensorFlow, which writes SavedModels, is installed."""
    return importlib.util.find_spec("tensorflow") is not None


def export(model: keras.Model, path: str | Path, card: dict) -> None:
    """Write `model` as a SavedModel with the endpoints of its `signatures()` and its card.

    The folder holds the SavedModel, `card.json` and `README.md`. It is written beside its place and
    moved there when complete; an earlier export there is replaced.

    Raises:
        InputError: The running backend is not TensorFlow (`export_file` starts one that is).
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "Expected the TensorFlow backend, which writes SavedModels. Received: "
            f"{keras.backend.backend()}. Use `python -m apps.export RUN`."
        )
    import tensorflow as tf

    path = Path(path)
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    archive = keras.export.ExportArchive()
    # without archive.track(model), which would write every variable twice
    for name, (function, inputs, _) in model.signatures().items():
        specs = [tf.TensorSpec(shape, dtype, name=argument) for argument, (shape, dtype, _) in inputs.items()]
        archive.add_endpoint(name, function, input_signature=specs)
    # the gradients that are written out by hand make a third of a U-Net's graph, and serve nobody who serves
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(str(part), options=options, verbose=False)
    _forget_gradients(part)
    (part / "card.json").write_text(json.dumps(_complete(card, model, part), indent=2) + "\n")
    (part / "README.md").write_text(_readme(json.loads((part / "card.json").read_text())))
    shutil.rmtree(path, ignore_errors=True)
    os.replace(part, path)


def _forget_gradients(folder: Path) -> None:
    """Take out the names of gradients that were left out, of which TensorFlow would warn whoever loads it.

    Gradients through the SavedModel are then those that TensorFlow derives itself.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / "saved_model.pb"
    content = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in (meta.graph_def for meta in content.meta_graphs):
        for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
            for node in nodes:
                if "_gradient_op_type" in node.attr:
                    del node.attr["_gradient_op_type"]
    file.write_bytes(content.SerializeToString(deterministic=True))
    (folder / "fingerprint.pb").unlink(missing_ok=True)  # of the graph before


def save_for_use(model: keras.Model, path: Path) -> None:
    """Write a .keras file without what only training needs, compressed, which Keras' own are not."""
    part = path.with_name("model.part.keras")
    model.for_use().save(part)
    with zipfile.ZipFile(part) as given, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name in given.namelist():
            made.writestr(name, given.read(name))
    part.unlink()


def export_file(model_file: Path, path: Path, card: dict) -> None:
    """`export` of a .keras file, whatever backend runs: elsewhere in a TensorFlow process.

    Raises:
        InputError: TensorFlow is not installed, or that process failed.
    """
    if keras.backend.backend() == "tensorflow":
        export(keras_gen.load_model(model_file), path, card)
        return
    if not can_export():
        raise InputError(
            "Expected TensorFlow, which writes SavedModels. Received: an environment without it. "
            'Install it: pip install -e ".[tensorflow]", or export on another machine.'
        )
    done = subprocess.run(
        [sys.executable, "-m", "keras_gen.export", str(model_file), str(path)],
        input=json.dumps(card),
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        text=True,
        capture_output=True,
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise InputError(f"Expected a model that exports. Received: {model_file} ({last}).")


def load_exported(path: Path):
    """A SavedModel, with its endpoints as methods.

    Raises:
        InputError: TensorFlow is not installed.
    """
    if not can_export():
        raise InputError(
            "Expected TensorFlow, which reads SavedModels. Received: an environment without it. Install "
            f'it: pip install -e ".[tensorflow]", or take the run that wrote {path}.'
        )
    import tensorflow as tf

    return tf.saved_model.load(str(path))


def _complete(card: dict, model: keras.Model, folder: Path) -> dict:
    def described(spec):
        if isinstance(spec, dict):
            return {name: described(part) for name, part in spec.items()}
        shape, dtype, meaning = spec
        return {"shape": list(shape), "dtype": dtype, "meaning": meaning}

    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    return {
        **card,
        "model": type(model).__name__,
        "parameters": parameters(model),
        "megabytes": round(size / 1e6, 2),
        "signatures": {
            name: {
                "inputs": described(inputs),
                "output": described(output),
            }
            for name, (_, inputs, output) in model.signatures().items()
        },
        "written": date.today().isoformat(),
        "keras_gen": keras_gen.__version__,
        "keras": keras.__version__,
    }


def _readme(card: dict) -> str:
    data = card["data"]
    lines = [
        f"# {card['name']}",
        "",
        f"A {card['model']} of {card['parameters']:,} parameters ({card['megabytes']} MB), trained by "
        f"keras_gen {card['keras_gen']} on `{data['name']}`: {data['train']:,} {_described(data['shape'])}.",
        "",
        "It needs TensorFlow alone:",
        "",
        "```python",
        "import tensorflow as tf",
        "",
        "model = tf.saved_model.load('path/to/this/folder')",
        *card["usage"],
        "```",
        "",
        "| endpoint | takes | gives |",
        "|---|---|---|",
    ]
    for name, signature in card["signatures"].items():
        output = signature["output"]
        gives = _arguments({"": output} if "shape" in output else output)
        lines.append(f"| `{name}` | {_arguments(signature['inputs'])} | {gives} |")
    lines += ["", "A size of None is free: the first is the batch.", "", "## Measured", ""]
    lines += [f"- {name}: {value}" for name, value in card["metrics"].items()]
    lines += ["", f"Protocol: {card['protocol']}", "", "## Trained with", "", "```"]
    lines += [card["command"], "```", ""]
    if card.get("licence"):
        lines += ["## Data and licence", "", card["licence"], ""]
    return "\n".join(lines)


def _described(shape: list[int]) -> str:
    if len(shape) == 1:
        return f"rows of {shape[0]} numbers"
    return f"pictures of {'x'.join(map(str, shape))} (height, width, channels)"


def _arguments(specs: dict[str, dict]) -> str:
    def written(name: str, spec: dict) -> str:
        shape = ", ".join(map(str, spec["shape"]))
        return f"{name} {spec['dtype']} [{shape}], {spec['meaning']}".strip()

    return "; ".join(written(name, spec) for name, spec in specs.items())


if __name__ == "__main__":
    export(keras_gen.load_model(sys.argv[1]), sys.argv[2], json.load(sys.stdin))
