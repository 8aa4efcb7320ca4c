"""Pictures through TensorFlow Datasets: any prepared dataset, or any that TFDS can fetch."""

import difflib
import functools
import importlib.util
import io
import os
import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keras_gen.data.arrays import allocate, fit
from keras_gen.data.captions import as_captions
from keras_gen.data.folder import DEFAULT_SIZE, read_picture
from keras_gen.errors import InputError

BUILT_IN = ("digits", "shapes")


def prepared() -> list[str]:
    """The datasets that lie ready in the TFDS data folder."""
    root = Path(os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets"))
    return sorted({p.parent.parent.name for p in root.glob("*/**/dataset_info.json")})


LICENCES = {
    "mnist": "MNIST, Y. LeCun, C. Cortes and C. Burges, 1998, from NIST data; commonly given as "
    "CC BY-SA 3.0.",
    "fashion_mnist": "Fashion-MNIST, H. Xiao, K. Rasul and R. Vollgraf, 2017, arXiv:1708.07747; MIT licence, "
    "(c) 2017 Zalando SE.",
    "cifar10": "CIFAR-10, A. Krizhevsky, 2009, Learning Multiple Layers of Features from Tiny Images; no "
    "licence stated.",
}
"""Of the commonest datasets: TFDS states none for them."""


def licence(name: str) -> str:
    """Origin and licence of a TFDS dataset, where known."""
    for part in reversed(os.path.normpath(name).split(os.sep)):
        plain = part.partition(":")[0].removesuffix("_subset")
        if plain in LICENCES:
            return LICENCES[plain]
    return ""


def read_tfds(name: str, size: int | None, limit: int | None) -> Iterator[tuple]:
    """Yield `(split, images, labels, captions, classes)` for the train and, where there is one, test split.

    `name` is a TFDS name (`mnist`, `cifar10:3.*`) or the folder of a prepared dataset.

    Raises:
        InputError: TFDS is not installed, the name is unknown or cannot be fetched, or the
            dataset has no pictures.
    """
    if importlib.util.find_spec("tensorflow_datasets") is None or not importlib.util.find_spec("tensorflow"):
        raise InputError(
            f"Expected a built-in dataset ({', '.join(BUILT_IN)}), a folder or an .npz file. "
            f"Received: {name!r}, which could only be a TFDS name, and TensorFlow Datasets is not "
            'installed. Check the path, or install it: pip install -e ".[tensorflow]".'
        )
    builder = _builder(name)
    image_key, image_feature = _image_feature(builder, name)
    label_key, classes = _label(builder)
    text_key = _text(builder)
    splits = {"train": "train"}
    if "train" not in builder.info.splits:
        splits = {"train": next(iter(builder.info.splits))}
    held_out = next((s for s in ("test", "validation") if s in builder.info.splits), None)
    if held_out is not None:
        splits["test"] = held_out
    grey = image_feature.shape[-1] == 1
    if size is None and None in image_feature.shape[:2]:
        size = DEFAULT_SIZE
    for role, split in splits.items():
        n = builder.info.splits[split].num_examples
        n = min(n, limit or n)
        keys = (image_key, label_key, text_key)
        yield role, *_read(builder, f"{split}[:{n}]", n, keys, size, grey), classes


def _builder(name: str):
    import tensorflow_datasets as tfds

    if os.path.isdir(name):
        return tfds.builder_from_directory(name)
    try:
        builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
    except (tfds.core.registered.DatasetNotFoundError, ValueError):
        known = {*BUILT_IN, *prepared(), *tfds.list_builders(with_community_datasets=False)}
        near = difflib.get_close_matches(name, sorted(known), n=3)
        raise InputError(
            f"Expected a dataset: {', '.join(BUILT_IN)}, a folder of pictures, an .npz file, or a "
            f"TFDS name. Received: {name!r}. "
            + (f"Nearest names: {', '.join(near)}. " if near else "")
            + f"Prepared here: {', '.join(prepared()) or 'none'}."
        ) from None
    if not builder.info.splits and _offline():
        # TFDS would try for minutes
        raise InputError(
            f"Expected {name!r} to be prepared, or a network to fetch it. Received: neither. "
            f"Prepared here: {', '.join(prepared()) or 'none'}; set TFDS_DATA_DIR to where others "
            f"lie. Built in: {', '.join(BUILT_IN)}."
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # the network, the disk, a checksum, a manual download
        raise InputError(
            f"Expected TFDS to have or fetch {name!r}. Received: {type(error).__name__}: "
            f"{str(error).strip().splitlines()[0]}. Prepared here: "
            f"{', '.join(prepared()) or 'none'}; set TFDS_DATA_DIR to where others lie."
        ) from None
    return builder


def _offline() -> bool:
    if urllib.request.getproxies():
        return False  # names are resolved by the proxy
    try:
        socket.getaddrinfo("storage.googleapis.com", 443)
    except OSError:
        return True
    return False


def _image_feature(builder, name: str):
    import tensorflow_datasets as tfds

    features = builder.info.features
    found = [(k, f) for k, f in features.items() if type(f) is tfds.features.Image]
    if not found:
        raise InputError(
            f"Expected a dataset with a feature of type Image. Received: {name!r} with {', '.join(features)}."
        )
    return found[0]


def _label(builder):
    import tensorflow_datasets as tfds

    for key, feature in builder.info.features.items():
        if type(feature) is tfds.features.ClassLabel:
            return key, tuple(feature.names)
    return None, None


TEXTS = ("text", "texts", "caption", "captions")


def _text(builder):
    """The path to the feature with texts: one, a sequence of them, or one of all in a sequence of more."""
    import tensorflow_datasets as tfds

    for key, feature in builder.info.features.items():
        inner = getattr(feature, "feature", feature)
        if key in TEXTS and isinstance(inner, tfds.features.Text):
            return (key,)
        if key in TEXTS and isinstance(inner, tfds.features.FeaturesDict):
            within = [k for k, f in inner.items() if k in TEXTS and isinstance(f, tfds.features.Text)]
            if within:
                return key, within[0]
    return None


def _read(builder, split, n, keys, size, grey):
    import tensorflow_datasets as tfds

    def decode(encoded: bytes) -> np.ndarray:
        picture = read_picture(io.BytesIO(encoded))
        if size is not None and picture.size != (size, size):
            picture = fit(picture, size)
        pixels = np.asarray(picture if grey else picture.convert("RGB"))
        return pixels[..., None] if grey else pixels

    image_key, label_key, text_key = keys
    # Pillow decodes what folders hold in the same way, any size and mode; the order is that on disk
    decoders = {image_key: tfds.decode.SkipDecoding()}
    dataset = builder.as_dataset(split=split, decoders=decoders)
    # of texts some examples have more than others
    dataset = (dataset.ragged_batch if text_key else dataset.batch)(1024).prefetch(2)
    images, labels, start = None, np.empty(n, "int32") if label_key else None, 0
    texts: list[tuple[str, ...]] = []
    with ThreadPoolExecutor() as pool:
        for batch in tfds.as_numpy(dataset):
            encoded = batch[image_key]
            # threads cost more than they save on pictures of some hundred bytes
            run = pool.map if len(encoded[0]) > 4096 else map
            for picture in run(decode, encoded):
                if images is None:
                    images = allocate((n, *picture.shape))
                images[start] = picture
                start += 1
            if labels is not None:
                labels[start - len(encoded) : start] = batch[label_key]
            if text_key is not None:
                said = functools.reduce(lambda inside, key: inside[key], text_key, batch)
                texts += [_texts(row) for row in said]
    return images, labels, as_captions(texts) if text_key else None


def _texts(said) -> tuple[str, ...]:
    return tuple(text.decode() for text in np.atleast_1d(said).tolist() if text)
