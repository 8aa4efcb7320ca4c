"""What can be measured, by its path: runs, models, SavedModels, pictures."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import numpy as np

    from keras_gen.training import Run

ELSEWHERE = (
    "Denoisers: python -m apps.denoise measure; detectors: python -m apps.detect benchmark; classifiers and "
    "hash codes: their runs end with a table."
)


@dataclass
class Source:
    """What is to be measured."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)
    """Arguments of `load` for what it was trained on, if known."""
    model: Any = None
    """Of a run: with `sample`, `log_likelihood`, or what it has."""
    binarize: str = "none"
    draw: Any = None
    """(n, seed) -> uint8 pictures."""
    pictures: Any = None
    """(shape) -> uint8 pictures of that shape, and what was done to them."""


def open_source(name: str) -> Source:
    """What lies at the path `name`.

    Raises:
        InputError: Nothing that can be measured.
    """
    from keras_gen.errors import InputError

    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return _open_run(path)
    if (path / "saved_model.pb").is_file():
        return _open_savedmodel(path)
    if path.suffix == ".keras" and path.is_file():
        return _with_model(_of_run(path, path.parent), path)
    if path.is_dir() or path.suffix in (".npz", ".npy"):
        return Source(path, pictures=lambda shape: _pictures(path, shape))
    raise InputError(
        "Expected a run, a .keras file, a SavedModel, a folder of pictures or an .npz file. "
        f"Received: {path}. Check the path."
    )


def _of_run(path: Path, folder: Path) -> Source:
    """A source that knows what the run in `folder` saw of which data; nothing if it is none."""
    from keras_gen.training import Run

    if not (folder / "config.json").is_file():
        return Source(path)
    run = Run.open(str(folder), reading=True)
    return Source(path, arguments_of_data(run), binarize=run.config["options"].get("binarize", "none"))


def arguments_of_data(run: "Run") -> dict[str, Any]:
    """Of `load`, for what a run was trained on."""
    options = run.config["options"]
    return {
        "name": options["data"],
        **{name: options.get(name) for name in ("image_size", "limit", "validation")},
        "seed": options["seed"],
        "by_concept": options.get("by_concept", False),
    }


def _open_run(path: Path) -> Source:
    from keras_gen.training import Run

    return _with_model(_of_run(path, path), Run.open(str(path), reading=True).model_file())


def _with_model(source: Source, file: Path) -> Source:
    from keras_gen import load_model
    from keras_gen.engine import to_numpy
    from keras_gen.errors import InputError
    from keras_gen.images import to_uint8

    model = source.model = load_model(file)
    if getattr(model, "data_key", "image") != "image":
        raise InputError(
            f"Expected a model of pictures. Received: {file}, one of {model.data_key}. {ELSEWHERE}"
        )
    if hasattr(model, "sample"):
        source.draw = lambda n, seed: to_numpy(to_uint8(model.sample(n, seed=seed)))
    return source


def _open_savedmodel(path: Path) -> Source:
    import json

    from keras_gen.errors import InputError
    from keras_gen.export import load_exported

    loaded = load_exported(path)
    if "sample" not in loaded.signatures:
        raise InputError(
            f"Expected a SavedModel with an endpoint sample(n, seed). Received: {path} with "
            f"{', '.join(loaded.signatures) or 'none'}."
        )
    card = path / "card.json"
    name = json.loads(card.read_text()).get("data", {}).get("name") if card.exists() else None

    # a diffusion's endpoint takes more: what it says it was made for
    spec = json.loads(card.read_text()).get("draws", {}) if card.exists() else {}

    def draw(n: int, seed: int):
        return loaded.sample(n=n, seed=seed, **spec).numpy()

    return Source(path, {"name": name} if name else {}, draw=draw)


def _pictures(path: Path, shape) -> "tuple[np.ndarray, str]":
    """Pictures from any program at the real ones' shape, and what was done to them."""
    import logging

    from PIL import Image

    from keras_gen.data import ImageData
    from keras_gen.data.arrays import adapted, checked_images, resizing
    from keras_gen.data.folder import picture_files, read_pictures
    from keras_gen.data.sources import key_of_data, read_arrays
    from keras_gen.errors import InputError

    if not path.is_dir():
        arrays = read_arrays(path)
        key = key_of_data(path, arrays)
        images = checked_images(arrays[key], f"{path}[{key}]")
        done = resizing(images.shape[1:], shape)
        return ImageData(str(path), adapted(images, shape)).levels(), done
    files = picture_files(path)
    if not files:
        raise InputError(f"Expected a folder with pictures. Received: {path}, which has none.")
    images, kept, bad = read_pictures(files, shape)
    for file, reason in bad:
        logging.getLogger(__name__).warning("skipped, cannot be read: %s (%s)", file, reason)
    if not kept:
        raise InputError(
            f"Expected pictures that can be read. Received: {path}, with {len(bad)} that cannot."
        )
    found = set()
    for file in kept:
        with Image.open(file) as picture:
            channels = 1 if picture.mode in ("1", "L", "LA", "I", "I;16") else 3
            found.add(resizing((picture.height, picture.width, channels), shape))
    return images, "; ".join(sorted(found - {"none"})) or "none"
