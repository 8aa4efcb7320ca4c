"""Captions and labels of a folder's pictures, from its `metadata.jsonl` (Hugging Face's layout)."""

import json
import logging
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from keras_gen.errors import InputError

NAME = "metadata.jsonl"
WHO = {"man", "men", "woman", "women", "person", "people", "boy", "girl", "facing", "right", "left"}
"""Words of a caption that say who does it or which way, and not what is shown."""

logger = logging.getLogger(__name__)


def as_captions(rows: Iterable[tuple[str, ...]]) -> np.ndarray:
    """Each picture's captions, as one array (n,) of tuples, which indexes like pictures and labels."""
    rows = list(rows)
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def read_metadata(
    folder: Path, files: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None, tuple[str, ...] | None]:
    """`(captions, labels, classes)` of the files; None for what no line has.

    Each line is an object with `file_name`, and `text` (a string, or several) or `label` or both. Several
    lines on one picture give it several captions, and so do `keywords`: the first text, followed by them,
    is one more. Lines on files that are not there, and pictures that no
    line has a text for, are counted in a warning.

    Raises:
        InputError: A line is no such object, some pictures alone have labels, or no line fits a picture.
    """
    path = folder / NAME
    texts: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    missing: list[str] = []
    there = set(files.tolist())
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8. Received: other bytes at {error.start}.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, said, label = _line(path, number, line)
        if name not in there:  # or it is there and was left out, by a limit or as no picture
            missing += [] if (folder / name).is_file() else [name]
            continue
        texts.setdefault(name, []).extend(said)
        if label is not None:
            labels[name] = label
    if not texts:
        raise InputError(
            f"Expected lines on the pictures of {folder}. Received: {path}, of whose lines none names one of "
            "them. Names are relative to that folder."
        )
    if missing:
        logger.warning("%s: %d lines on pictures that are not there: %s", path, len(missing), missing[0])
    captions = [tuple(dict.fromkeys(texts.get(name, ()))) for name in files.tolist()]
    silent = [name for name, said in zip(files.tolist(), captions, strict=True) if not said]
    if silent and len(silent) < len(captions):
        logger.warning("%s: %d pictures without a text: %s", path, len(silent), silent[0])
    if labels and len(labels) < len(there):
        raise InputError(
            f"Expected a label for each picture, or for none. Received: {path}, with {len(labels)} of "
            f"{len(there)}."
        )
    found = as_captions(captions) if len(silent) < len(captions) else None
    if not labels:
        return found, None, None
    classes = tuple(sorted(set(labels.values())))
    return found, np.array([classes.index(labels[name]) for name in files.tolist()], "int32"), classes


def _line(path: Path, number: int, line: str) -> tuple[str, list[str], str | None]:
    try:
        row = json.loads(line)
        name, said, label = row["file_name"], row.get("text", []), row.get("label")
        said = [said] if isinstance(said, str) else list(said)
        words = list(row.get("keywords") or [])
        if not isinstance(name, str) or not all(isinstance(text, str) for text in [*said, *words]):
            raise TypeError("file_name, text or a keyword is no string")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"Expected a JSON object with file_name, and text or label, on each line. Received: line "
            f"{number} of {path} ({type(error).__name__}: {error})."
        ) from None
    if said and words:
        said.append(", ".join([said[0], *words]))
    name = posixpath.normpath(name)  # ./a.png is a.png
    return name, [text for text in said if text.strip()], None if label is None else str(label)


def concepts(captions: np.ndarray, images: np.ndarray) -> np.ndarray:
    """A number for each picture, (n,), the same where the first captions say the same, but for `WHO`, or
    the pictures are the same."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers: dict[object, int] = {}
    ends = []
    for i, (said, image) in enumerate(zip(captions, images, strict=True)):
        words = re.findall(r"[^\W_]+", said[0].lower()) if said else []
        concept = tuple(sorted(set(words) - WHO)) or tuple(words) or i
        ends += [
            (i, len(images) + numbers.setdefault(key, len(numbers))) for key in (concept, image.tobytes())
        ]
    size = len(images) + len(numbers)
    rows, columns = np.array(ends).T
    links = coo_array((np.ones(len(ends)), (rows, columns)), (size, size))
    return connected_components(links, directed=False)[1][: len(images)]
