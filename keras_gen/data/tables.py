"""Tables of numbers: .csv files, and .npz files with an array (n, d)."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_gen.data.examples import Examples
from keras_gen.data.sources import (
    Splits,
    from_arrays,
    held_out,
    key_of_data,
    last_held_out,
    read_arrays,
)
from keras_gen.errors import InputError

SUFFIXES = (".csv", ".tsv")
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-"}


@dataclass(frozen=True)
class FeatureData(Examples):
    """Rows of numbers, in units of their own.

    Attributes:
        name: Where they come from, as the user named it.
        features: (n, d) float32.
        labels: (n,) int32, or None.
        classes: The labels' names, or None.
        licence: Origin and licence, where known.
        columns: The features' names.
    """

    name: str
    features: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    licence: str = ""
    columns: tuple[str, ...] = ()

    key = "features"
    field = "features"
    noun = "rows"


def is_table(path: Path) -> bool:
    """Whether a file holds rows of numbers: a .csv, or an .npz or .npy with an array (n, d)."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix not in (".npz", ".npy") or not path.is_file():
        return False
    arrays = read_arrays(path)
    return arrays[key_of_data(path, arrays)].ndim == 2


def load_table(
    name: str,
    label_column: str | None = None,
    ignore: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    validation: int | None = None,
) -> Splits[FeatureData]:
    """Read a table, parted for training and testing (see `load` for the rest of the arguments).

    A .csv has a header; fields are parted by comma, semicolon or tab. An .npz has `features` (n, d),
    or `x_train` and `x_test`, and may have integer labels (`label`, `y_train`).

    Args:
        name: The file.
        label_column: The column of a .csv with each row's class, any text.
        ignore: Columns to leave out, such as identifiers.

    Raises:
        InputError: No such file, fields that are not numbers, missing values.
    """
    if limit is not None and limit < 1:
        raise InputError(f"Expected limit of 1 or more. Received: {limit}.")
    path = Path(name).expanduser()
    if path.suffix.lower() in SUFFIXES:
        splits = held_out(read_csv(path, label_column, ignore), seed)
    else:
        splits = from_arrays(path, read_arrays(path), seed, _features)
    if validation is not None:
        splits = last_held_out(splits.train, validation)
    parts = []
    for part in (splits.train, splits.test):
        if limit is not None and limit < len(part):
            chosen = np.random.default_rng([seed, 2]).choice(len(part), limit, replace=False)
            part = part.select(np.sort(chosen))
        parts.append(part)
    return Splits(*parts)


def read_table(path: Path, columns: Sequence[str]) -> FeatureData:
    """All rows of a table as one, those columns alone and in that order.

    Raises:
        InputError: As for `load_table`, or columns are missing.
    """
    if path.suffix.lower() in SUFFIXES:
        header, _ = _fields(path)
        missing = [column for column in columns if column not in header]
        if missing:
            raise InputError(
                f"{path}: expected the columns {_listed(columns)}. Received: a table without "
                f"{_listed(missing)}. Add them, or train anew."
            )
        rows = read_csv(path, None, [column for column in header if column not in columns])
        order = [rows.columns.index(column) for column in columns]
        return replace(rows, features=rows.features[:, order], columns=tuple(columns))
    arrays = read_arrays(path)
    key = key_of_data(path, arrays)
    rows = _features(arrays[key], f"{path}[{key}]", None)
    if rows.shape != (len(columns),):
        raise InputError(
            f"{path}[{key}]: expected rows of {len(columns)} numbers. Received: {rows.shape[0]}. Train anew."
        )
    return rows


def _features(array: np.ndarray, origin: str, labels: np.ndarray | None) -> FeatureData:
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "biuf":
        raise InputError(
            f"{origin}: expected numbers of shape (n, d). Received: {array.dtype} of shape {array.shape}."
        )
    columns = tuple(map(str, range(array.shape[1])))
    features = array.astype("float32")
    _refuse_missing(origin, features, columns)
    return FeatureData(origin.rpartition("[")[0], features, labels, columns=columns)


def _refuse_missing(origin: str, features: np.ndarray, columns: Sequence[str]) -> None:
    missing = {c: int(n) for c, n in zip(columns, (~np.isfinite(features)).sum(axis=0), strict=True) if n}
    if missing:
        raise InputError(
            f"{origin}: expected a finite number in every field. Received: missing or not finite, "
            + ", ".join(f"column {c!r} in {n} rows" for c, n in list(missing.items())[:5])
            + (f" and {len(missing) - 5} more columns" if len(missing) > 5 else "")
            + ". Fill them in, or leave out those rows or columns."
        )


def read_csv(path: Path, label_column: str | None = None, ignore: Sequence[str] = ()) -> FeatureData:
    """A .csv with a header; every column but the labels' and those to ignore holds numbers."""
    header, rows = _fields(path)
    unknown = [c for c in (label_column, *ignore) if c is not None and c not in header]
    if unknown:
        raise InputError(
            f"{path}: expected a column {unknown[0]!r}. Received: columns {_listed(header)}. Check the name."
        )
    columns = [c for c in header if c != label_column and c not in ignore]
    if not columns:
        raise InputError(f"{path}: expected columns of numbers. Received: none but {_listed(header)}.")
    features = np.empty((len(rows), len(columns)), "float32")
    for j, column in enumerate(columns):
        at = header.index(column)
        for i, (line, row) in enumerate(rows):
            text = row[at].strip()
            try:
                features[i, j] = np.nan if text.lower() in MISSING else float(text)
            except ValueError:
                raise InputError(
                    f"{path}: expected numbers in column {column!r}. Received: {text!r} in line {line}. "
                    "Name it as the label column, ignore it, or turn it into numbers."
                ) from None
    _refuse_missing(str(path), features, columns)
    labels, classes = None, None
    if label_column is not None:
        texts = [row[header.index(label_column)].strip() for _, row in rows]
        classes = tuple(sorted(set(texts), key=_by_number))
        index = {text: i for i, text in enumerate(classes)}
        labels = np.array([index[text] for text in texts], "int32")
    return FeatureData(str(path), features, labels, classes, columns=tuple(columns))


def _by_number(text: str):
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _fields(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the other rows with their line numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"Expected an existing file. Received: {path}. Check the path.") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: expected text in UTF-8. Received: other bytes. Save it as UTF-8."
        ) from None
    lines = text.splitlines()
    first = lines[0] if lines else ""
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(lines, delimiter=delimiter)
    rows = [(reader.line_num, row) for row in reader if any(field.strip() for field in row)]
    if len(rows) < 2:
        raise InputError(f"{path}: expected a header and rows below it. Received: {len(rows)} lines.")
    header = [name.strip() for name in rows.pop(0)[1]]
    if all(_by_number(name)[0] == 0 for name in header):
        raise InputError(
            f"{path}: expected a header, the columns' names, in the first line. Received: numbers "
            f"({_listed(header)}). Add a line of names."
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path}: expected a name of its own for each column. Received: {twice!r} twice.")
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{path}: expected {len(header)} fields, like the header. "
                f"Received: {len(row)} in line {line}."
            )
    return header, rows
