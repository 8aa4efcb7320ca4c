"""Names, folders and files to pictures in memory, split for training and testing."""

import hashlib
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from keras_gen.data import captions as captions_of
from keras_gen.data.arrays import checked_images, resized
from keras_gen.data.datasets import BUILT_IN, licence, read_tfds
from keras_gen.data.examples import Examples
from keras_gen.data.folder import read_folder
from keras_gen.errors import InputError

logger = logging.getLogger(__name__)

TEST_FRACTION = 0.1
"""Held out where a source has no test split of its own."""
MOST_LICENCE = 4000
"""Characters of a folder's licence or attribution that are taken over."""

Kind = TypeVar("Kind", bound=Examples)


@dataclass(frozen=True)
class ImageData(Examples):
    """Pictures that fit one shape, (height, width, channels).

    Attributes:
        name: Where they come from, as the user named it.
        images: (n, height, width, channels), uint8 in 0 to 255 or float32 in [0, 1].
        labels: (n,) int32, or None.
        classes: The labels' names, or None.
        licence: Origin and licence, where known.
        files: (n,) strings, each picture's path within the folder it was read from, or None.
        captions: (n,) tuples of strings, each picture's texts, perhaps none; or None.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    licence: str = ""
    files: np.ndarray | None = None
    captions: np.ndarray | None = None

    key = "image"
    field = "images"
    noun = "pictures"

    @property
    def affine(self) -> tuple[float, float]:
        return 2.0 / (255.0 if self.images.dtype == np.uint8 else 1.0), -1.0

    def levels(self) -> np.ndarray:
        """The pictures as uint8, 0 to 255."""
        if self.images.dtype == np.uint8:
            return self.images
        return np.round(self.images * 255).astype("uint8")

    def fingerprint(self) -> str:
        """That of the pictures and, where there are any, of their captions."""
        if self.captions is None:
            return super().fingerprint()
        digest = hashlib.blake2b(super().fingerprint().encode(), digest_size=12)
        for said in self.captions:
            digest.update(repr(tuple(said)).encode())
        return digest.hexdigest()

    def select(self, indices) -> "ImageData":
        files = None if self.files is None else self.files[indices]
        captions = None if self.captions is None else self.captions[indices]
        return replace(super().select(indices), files=files, captions=captions)


@dataclass(frozen=True)
class LatentData(Examples):
    """Latents of pictures (n, h, w, c), float32, for models of pictures to work on."""

    name: str
    latents: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    licence: str = ""

    key = "image"
    field = "latents"
    noun = "latents"


@dataclass(frozen=True)
class Splits(Generic[Kind]):
    train: Kind
    test: Kind


def load(
    name: str,
    image_size: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    validation: int | None = None,
    by_concept: bool = False,
    captioned: bool = False,
) -> Splits[ImageData]:
    """Read data.

    Args:
        name: `digits` (built in: 1,797 handwritten digits of 8x8, grey), `shapes` (built in: captioned
            scenes drawn at 32x32, see `keras_gen.shapes`), a folder of pictures, perhaps with a
            `metadata.jsonl`, an .npz or .npy file, the folder of a prepared TFDS dataset, or a TFDS name.
            A folder called as what is built in is `./digits`.
        image_size: Pixels a side; pictures are cut to their central square. Default: as they are,
            or 64 of a folder and where they differ in size.
        limit: At most so many pictures in each split.
        seed: Of the choice of held-out and limited pictures, where the source leaves one.
        validation: Instead of the test split, hold out the last so many training pictures.
        by_concept: Of a folder with captions: hold out all pictures of what is held out, see
            `captions.concepts`, so that a test picture shows what no training picture does.
        captioned: Leave out pictures without a caption.

    Raises:
        InputError: One line with what was expected, what was received and what to do.
    """
    for option, value in (("image_size", image_size), ("limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"Expected {option} of 1 or more. Received: {value}.")
    path = Path(name).expanduser()
    if by_concept and (name in BUILT_IN or not (path / captions_of.NAME).is_file()):
        raise InputError(
            f"Expected a folder with a {captions_of.NAME}, to hold out by concept. Received: {name}."
        )
    if by_concept and validation is not None:
        raise InputError(
            "Expected the held-out concepts or the last training pictures to be held out. Received: both."
        )
    if name == "digits":  # also beside a folder of that name, which may be a run on them
        splits = _digits()
    elif name == "shapes":
        splits = _shapes(image_size, limit, seed)
    elif path.is_dir() and not any(path.glob("dataset_info.json")):
        images, labels, classes, files = read_folder(path, image_size, limit, seed)
        captions = None
        if (path / captions_of.NAME).exists():
            captions, told, kinds = captions_of.read_metadata(path, files)
            labels, classes = told, kinds  # folders are places then, not classes
        data = ImageData(name, images, labels, classes, licence_of(path), files=files, captions=captions)
        if captioned:  # before any are held out: those might be the ones
            data = _with_captions(data)
        groups = None
        if by_concept:
            assert data.captions is not None  # there is the file, see above
            groups = captions_of.concepts(data.captions, data.images)
        splits = held_out(data, seed, groups=groups)
    elif path.is_file() or path.suffix in (".npz", ".npy"):
        splits = from_arrays(path, read_arrays(path), seed, _pictures)
    elif path.is_dir() or ":" in name or not ("/" in name or path.suffix):
        splits = _from_tfds(str(path) if path.is_dir() else name, image_size, limit, seed)
    else:
        raise InputError(f"Expected an existing folder or file. Received: {name}. Check the path.")
    if validation is not None:
        splits = last_held_out(splits.train, validation)
    parts = []
    for part in (splits.train, splits.test):
        if limit is not None and limit < len(part):
            chosen = np.random.default_rng([seed, 2]).choice(len(part), limit, replace=False)
            part = part.select(np.sort(chosen))
        if image_size is not None:
            part = replace(part, images=resized(part.images, image_size))
        parts.append(_with_captions(part) if captioned else part)
    return Splits(*parts)


def _with_captions(data: ImageData) -> ImageData:
    """The pictures that have one."""
    said = [] if data.captions is None else [bool(texts) for texts in data.captions]
    if not any(said):
        raise InputError(
            f"Expected captions: a {captions_of.NAME} with lines of file_name and text in the folder, a TFDS "
            f"dataset with texts, or shapes. Received: {data.name}, without."
        )
    if all(said):
        return data
    logger.warning("left out: %d of %d pictures, which have no caption", len(said) - sum(said), len(said))
    return data.select(np.flatnonzero(said))


def _digits() -> Splits:
    from sklearn.datasets import load_digits

    digits = load_digits()
    # 17 levels, 0 to 16
    images = np.round(digits.images[..., None] * (255 / 16)).astype("uint8")
    data = ImageData(
        "digits",
        images,
        digits.target.astype("int32"),
        tuple(str(i) for i in range(10)),
        licence="Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998, UCI Machine "
        "Learning Repository, doi:10.24432/C50P49, CC BY 4.0; through scikit-learn.",
    )
    # the split does not depend on the user's seed: numbers on it are comparable
    return held_out(data, seed=0, fraction=0.2)


SHAPES = (40_000, 2_000)
"""Scenes to train on, and held out."""


def _shapes(image_size: int | None, limit: int | None, seed: int) -> Splits[ImageData]:
    from keras_gen.shapes.dataset import examples
    from keras_gen.shapes.scene import SIDE

    side = image_size or SIDE
    parts = []
    for split, most in zip(("train", "test"), SHAPES, strict=True):
        n = min(limit or most, most)
        images, said = np.empty((n, side, side, 3), "uint8"), []
        # scenes do not depend on the user's seed: numbers on them are comparable
        for i, example in enumerate(examples(n, split, side)):
            images[i] = example.picture
            said.append(example.captions)
        parts.append(
            ImageData(
                "shapes",
                images,
                licence="Scenes drawn by keras_gen itself, Apache-2.0.",
                captions=captions_of.as_captions(said),
            )
        )
    return Splits(*parts)


def licence_of(folder: Path) -> str:
    """What a folder's ATTRIBUTION, or else its LICENSE, says, on one line; "" without either."""
    for stem in ("ATTRIBUTION", "LICENCE", "LICENSE"):
        for suffix in (".md", ".txt", ""):
            file = folder / f"{stem}{suffix}"
            if file.is_file():
                text = " ".join(file.read_text(errors="replace").split())
                return text if len(text) <= MOST_LICENCE else f"{text[:MOST_LICENCE]}... (see {file.name})"
    return ""


def held_out(
    data: Kind, seed: int, fraction: float = TEST_FRACTION, groups: np.ndarray | None = None
) -> Splits[Kind]:
    """Data without a test split of their own, parted by chance; groups (n,) stay together."""
    if len(data) < 2:
        raise InputError(
            f"{data.name}: expected at least 2 {data.noun}, one to train on and one to test. "
            f"Received: {len(data)}. Add {data.noun}."
        )
    if groups is not None:
        if len(np.unique(groups)) < 2:
            raise InputError(f"{data.name}: expected 2 concepts or more. Received: one in all pictures.")
        from sklearn.model_selection import GroupShuffleSplit

        parted = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
        train, test = next(parted.split(groups, groups=groups))
        return Splits(data.select(train), data.select(test))
    order = np.random.default_rng([seed, 0]).permutation(len(data))
    held = max(1, round(fraction * len(data)))
    return Splits(data.select(np.sort(order[held:])), data.select(np.sort(order[:held])))


def last_held_out(data: Kind, count: int) -> Splits[Kind]:
    if not 0 < count < len(data):
        raise InputError(
            f"Expected a validation part within 1 to {len(data) - 1} {data.noun} of {data.name}. "
            f"Received: {count}."
        )
    return Splits(data.select(slice(None, -count)), data.select(slice(-count, None)))


_KEYS = ("x_train", "train_images", "images", "image", "features", "x", "X", "arr_0")
_LABEL_KEYS = ("y_train", "train_labels", "labels", "label", "y", "Y")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or the one of an .npy file under `arr_0`."""
    try:
        content = np.load(path, allow_pickle=False)
        return {"arr_0": content} if isinstance(content, np.ndarray) else dict(content)
    except FileNotFoundError:
        raise InputError(f"Expected an existing file. Received: {path}. Check the path.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Expected a readable .npz or .npy file of numbers. Received: {path} "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). Write it anew with np.savez."
        ) from None


def key_of_data(path: Path, arrays: dict[str, np.ndarray]) -> str:
    """Which of a file's arrays holds the examples."""
    key = next((k for k in _KEYS if k in arrays), None)
    if key is None and len(arrays) == 1:
        key = next(iter(arrays))
    if key is None:
        raise InputError(
            f"{path}: expected an array named one of {', '.join(_KEYS)}. "
            f"Received: {', '.join(arrays) or 'no arrays'}. Rename the one with the data."
        )
    return key


def from_arrays(
    path: Path,
    arrays: dict[str, np.ndarray],
    seed: int,
    make: Callable[[np.ndarray, str, np.ndarray | None], Kind],
) -> Splits[Kind]:
    """A file's training and test part; `make(array, origin, labels)` checks each."""
    key = key_of_data(path, arrays)
    label_key = next((k for k in _LABEL_KEYS if k in arrays), None)
    train = make(arrays[key], f"{path}[{key}]", _labels(path, arrays, key, label_key))
    test_key = key.replace("train", "test")
    if test_key == key or test_key not in arrays:
        return held_out(train, seed)
    test_label_key = label_key.replace("train", "test") if label_key else None
    labels = _labels(path, arrays, test_key, test_label_key if test_label_key in arrays else None)
    test = make(arrays[test_key], f"{path}[{test_key}]", labels)
    if test.shape != train.shape:
        raise InputError(
            f"{path}: expected training and test {train.noun} of one shape. "
            f"Received: {train.shape} and {test.shape}."
        )
    return Splits(train, test)


def _labels(path: Path, arrays: dict, key: str, label_key: str | None) -> np.ndarray | None:
    if label_key is None:
        return None
    count, labels = len(arrays[key]), np.asarray(arrays[label_key]).squeeze()
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{path}[{label_key}]: expected {count} integer labels, one for each of {key}. "
            f"Received: {labels.dtype} of shape {labels.shape}."
        )
    return labels.astype("int32")


def _pictures(array: np.ndarray, origin: str, labels: np.ndarray | None) -> ImageData:
    return ImageData(origin.rpartition("[")[0], checked_images(array, origin), labels)


def _from_tfds(name: str, image_size: int | None, limit: int | None, seed: int) -> Splits:
    parts = {
        role: ImageData(name, images, labels, classes, licence(name), captions=captions)
        for role, images, labels, captions, classes in read_tfds(name, image_size, limit)
    }
    if "test" in parts:
        return Splits(parts["train"], parts["test"])
    return held_out(parts["train"], seed)
