"""Captions and labels of a folder's pictures, from its `metadata.jsonl` (Hugging Face's layout)."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from keras_gen.errors import InputError

NAME = "metadata.jsonl"

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
    lines on one picture give it several captions. Lines on files that are not there, and pictures that no
    line has a text for, are counted in a warning.

    Raises:
        InputError: A line is no such object, some pictures alone have labels, or no line fits a picture.
    """
    path = folder / NAME
    texts: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    missing: list[str] = []
    there = set(files.tolist())
    with open(path, encoding="utf-8") as lines:
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
        if not isinstance(name, str) or not all(isinstance(text, str) for text in said):
            raise TypeError("file_name or text is no string")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"Expected a JSON object with file_name, and text or label, on each line. Received: line "
            f"{number} of {path} ({type(error).__name__}: {error})."
        ) from None
    return name, [text for text in said if text.strip()], None if label is None else str(label)
