"""Names, folders and files to pictures in memory, split for training and testing."""

import hashlib
import logging
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_gen.data.arrays import checked_images, resized
from keras_gen.data.datasets import read_tfds
from keras_gen.data.folder import read_folder
from keras_gen.errors import InputError

logger = logging.getLogger(__name__)

TEST_FRACTION = 0.1
"""Held out where a source has no test split of its own."""


@dataclass(frozen=True)
class ImageData:
    """Pictures that fit one shape.

    Attributes:
        name: Where they come from, as the user named it.
        images: (n, height, width, channels), uint8 in 0 to 255 or float32 in [0, 1].
        labels: (n,) int32, or None.
        classes: The labels' names, or None.
        licence: Origin and licence, where known.
        files: (n,) strings, each picture's path within the folder it was read from, or None.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    licence: str = ""
    files: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.images.shape[1:]

    def select(self, indices) -> "ImageData":
        labels = None if self.labels is None else self.labels[indices]
        files = None if self.files is None else self.files[indices]
        return replace(self, images=self.images[indices], labels=labels, files=files)

    def floats(self, indices=slice(None)) -> np.ndarray:
        """The chosen pictures as float32 in [-1, 1]."""
        images = self.images[indices]
        scale = 255.0 if images.dtype == np.uint8 else 1.0
        return images.astype("float32") * np.float32(2.0 / scale) - np.float32(1.0)

    def mean(self) -> np.ndarray:
        """The mean picture, (height, width, channels) in [-1, 1]."""
        starts = range(0, len(self), 10_000)
        total = sum(self.floats(slice(s, s + 10_000)).sum(axis=0, dtype="float64") for s in starts)
        return (total / len(self)).astype("float32")

    def fingerprint(self) -> str:
        """A digest of up to 4,096 pictures spread over the set, to notice that data changed."""
        digest = hashlib.blake2b(digest_size=12)
        digest.update(repr((self.images.shape, str(self.images.dtype))).encode())
        step = -(-len(self) // 4096)
        digest.update(np.ascontiguousarray(self.images[::step]).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Splits:
    train: ImageData
    test: ImageData


def load(
    name: str,
    image_size: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    validation: int | None = None,
) -> Splits:
    """Read data.

    Args:
        name: `digits` (built in: 1,797 handwritten digits of 8x8, grey), a folder of pictures, an
            .npz or .npy file, the folder of a prepared TFDS dataset, or a TFDS name.
        image_size: Pixels a side; pictures are cut to their central square. Default: as they are,
            or 64 where they differ in size.
        limit: At most so many pictures in each split.
        seed: Of the choice of held-out and limited pictures, where the source leaves one.
        validation: Instead of the test split, hold out the last so many training pictures.

    Raises:
        InputError: One line with what was expected, what was received and what to do.
    """
    for option, value in (("image_size", image_size), ("limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"Expected {option} of 1 or more. Received: {value}.")
    path = Path(name).expanduser()
    if name == "digits" and not path.exists():
        splits = _digits()
    elif path.is_dir() and not any(path.glob("dataset_info.json")):
        images, labels, classes, files = read_folder(path, image_size, limit, seed)
        splits = _held_out(ImageData(name, images, labels, classes, files=files), seed)
    elif path.is_file() or path.suffix in (".npz", ".npy"):
        splits = _from_file(path, seed)
    elif path.is_dir() or not ("/" in name or path.suffix):
        splits = _from_tfds(str(path) if path.is_dir() else name, image_size, limit, seed)
    else:
        raise InputError(f"Expected an existing folder or file. Received: {name}. Check the path.")
    if validation is not None:
        splits = _last_held_out(splits.train, validation)
    parts = []
    for part in (splits.train, splits.test):
        if limit is not None and limit < len(part):
            chosen = np.random.default_rng([seed, 2]).choice(len(part), limit, replace=False)
            part = part.select(np.sort(chosen))
        if image_size is not None:
            part = replace(part, images=resized(part.images, image_size))
        parts.append(part)
    return Splits(*parts)


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
    return _held_out(data, seed=0, fraction=0.2)


def _held_out(data: ImageData, seed: int, fraction: float = TEST_FRACTION) -> Splits:
    if len(data) < 2:
        raise InputError(
            f"{data.name}: expected at least 2 pictures, one to train on and one to test. "
            f"Received: {len(data)}. Add pictures."
        )
    order = np.random.default_rng([seed, 0]).permutation(len(data))
    held = max(1, round(fraction * len(data)))
    return Splits(data.select(np.sort(order[held:])), data.select(np.sort(order[:held])))


def _last_held_out(data: ImageData, count: int) -> Splits:
    if not 0 < count < len(data):
        raise InputError(
            f"Expected a validation part within 1 to {len(data) - 1} pictures of {data.name}. "
            f"Received: {count}."
        )
    return Splits(data.select(slice(None, -count)), data.select(slice(-count, None)))


_IMAGE_KEYS = ("x_train", "train_images", "images", "image", "x", "X", "arr_0")
_LABEL_KEYS = ("y_train", "train_labels", "labels", "label", "y", "Y")


def _from_file(path: Path, seed: int) -> Splits:
    try:
        content = np.load(path, allow_pickle=False)
        arrays = {"arr_0": content} if isinstance(content, np.ndarray) else dict(content)
    except FileNotFoundError:
        raise InputError(f"Expected an existing file. Received: {path}. Check the path.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Expected a readable .npz or .npy file of numbers. Received: {path} "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). Write it anew with np.savez."
        ) from None
    key = next((k for k in _IMAGE_KEYS if k in arrays), None)
    if key is None and len(arrays) == 1:
        key = next(iter(arrays))
    if key is None:
        raise InputError(
            f"{path}: expected an array named one of {', '.join(_IMAGE_KEYS)}. "
            f"Received: {', '.join(arrays) or 'no arrays'}. Rename the one with the pictures."
        )
    label_key = next((k for k in _LABEL_KEYS if k in arrays), None)
    train = _checked(path, arrays, key, label_key)
    test_key = key.replace("train", "test")
    if test_key == key or test_key not in arrays:
        return _held_out(train, seed)
    test_label_key = label_key.replace("train", "test") if label_key else None
    test = _checked(path, arrays, test_key, test_label_key if test_label_key in arrays else None)
    if test.shape != train.shape:
        raise InputError(
            f"{path}: expected training and test pictures of one shape. "
            f"Received: {train.shape} and {test.shape}."
        )
    return Splits(train, test)


def _checked(path: Path, arrays: dict, key: str, label_key: str | None) -> ImageData:
    images = checked_images(arrays[key], f"{path}[{key}]")
    labels = None
    if label_key is not None:
        labels = np.asarray(arrays[label_key]).squeeze()
        if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
            raise InputError(
                f"{path}[{label_key}]: expected {len(images)} integer labels, one a picture. "
                f"Received: {labels.dtype} of shape {labels.shape}."
            )
        labels = labels.astype("int32")
    return ImageData(str(path), images, labels)


def _from_tfds(name: str, image_size: int | None, limit: int | None, seed: int) -> Splits:
    parts = {
        role: ImageData(name, images, labels, classes)
        for role, images, labels, classes in read_tfds(name, image_size, limit)
    }
    if "test" in parts:
        return Splits(parts["train"], parts["test"])
    return _held_out(parts["train"], seed)
