"""Scores of a finished detector for pictures and rows, and the tables that hold them."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apps._files import keep

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import numpy as np

    from apps.detect import Score
    from keras_gen.anomaly import Detector
    from keras_gen.data import Examples

logger = logging.getLogger(__name__)


def write_table(path: Path, header: list[str], rows) -> None:
    """A .csv, whole or not at all."""
    from keras_gen.training.run import write_atomically

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([v if isinstance(v, (str, int)) else f"{v:.8g}" for v in row])
    write_atomically(path, text.getvalue().encode())


def explained(detector: "Detector", data: "Examples") -> "list[np.ndarray]":
    """Pictures, what the detector makes of them, and where they are strange: three of (n, h, w, 3)."""
    import numpy as np

    from keras_gen import plots

    maps = detector.heat_map(data)
    versions = [data.floats(), detector.reconstruct(data), plots.heat(maps, float(np.quantile(maps, 0.995)))]
    return [np.broadcast_to(version, (*version.shape[:-1], 3)) for version in versions]


def score(options: "Score") -> None:
    import numpy as np

    from keras_gen import load_model, plots
    from keras_gen.errors import InputError
    from keras_gen.training import Run

    if not options.paths:
        raise InputError("Expected pictures, folders or files to score. Received: none.")
    run = Run.open(options.run, "detect", reading=True)
    detector = load_model(run.model_file())
    out = Path(options.out).expanduser()
    if out.is_dir():
        raise InputError(f"Expected a file to write, such as {out}/scores.csv. Received: the folder {out}.")
    keep((Path(path).expanduser() for path in options.paths), [out])
    columns = run.config.get("detect", {}).get("columns")
    names, data, bad = (
        _pictures_to_score(options.paths, detector.data_shape)
        if columns is None
        else _rows_to_score(options.paths, tuple(columns))
    )
    for path, reason in bad:
        logger.warning("skipped, cannot be read: %s (%s)", path, reason)
    if not names:
        raise InputError(
            f"Expected something to score. Received: {', '.join(options.paths)[:200]}, with "
            f"{len(bad)} unreadable files and nothing else. Check the paths."
        )
    scores = detector.scores(data)
    default, threshold = scores[detector.default], detector.threshold
    order = sorted(range(len(names)), key=lambda i: (-default[i], names[i]))
    where = None
    if columns is not None:
        where = [columns[int(row.argmax())] for row in detector.heat_map(data)]
    others = [name for name in detector.names if name != detector.default]
    out.parent.mkdir(parents=True, exist_ok=True)
    header = ["file", "score", "threshold", "verdict", *(["where"] if where else []), *others]
    write_table(
        out,
        header,
        (
            [
                names[i],
                default[i],
                threshold,
                "anomaly" if default[i] > threshold else "normal",
                *([where[i]] if where else []),
                *(scores[name][i] for name in others),
            ]
            for i in order
        ),
    )
    wrote = [str(out)]
    if columns is None and options.maps > 0:
        folder = out.with_name(f"{out.stem}-heat-maps")
        folder.mkdir(exist_ok=True)
        chosen = order[: options.maps]
        versions = explained(detector, data.select(chosen))
        for rank, (i, *strip) in enumerate(zip(chosen, *versions, strict=True)):
            stem = Path(names[i]).name.replace("[", "-").replace("]", "")
            plots.save(plots.grid(np.stack(strip), 3), folder / f"{rank + 1:04d}-{stem}.png")
        wrote.append(f"{folder}/ (picture, reconstruction, where)")
    count = int((default > threshold).sum())
    print(f"{count} of {len(names)} above the threshold {threshold:.6g} of the {detector.default} score")
    print(f"wrote {', '.join(wrote)}")


def _pictures_to_score(paths: Sequence[str], shape):
    """Names, pictures of the model's shape, and what could not be read."""
    import numpy as np

    from keras_gen.data import ImageData
    from keras_gen.data.arrays import adapted, checked_images
    from keras_gen.data.folder import picture_files, read_pictures
    from keras_gen.data.sources import key_of_data, read_arrays
    from keras_gen.errors import InputError

    files: list[Path] = []
    names: list[str] = []
    parts: list[np.ndarray] = []
    for text in paths:
        path = Path(text).expanduser()
        if path.is_dir():
            found = picture_files(path)
            if not found:
                raise InputError(f"Expected a folder with pictures. Received: {path}, which has none.")
            files += found
        elif path.suffix in (".npz", ".npy"):
            arrays = read_arrays(path)
            key = key_of_data(path, arrays)
            images = adapted(checked_images(arrays[key], f"{path}[{key}]"), shape)
            names += [f"{path}[{i}]" for i in range(len(images))]
            parts.append(images)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"Expected an existing file or folder. Received: {path}. Check the path.")
    images, kept, bad = read_pictures(files, shape)
    names += [str(path) for path in kept]
    if len(images):
        parts.append(images)
    if any(part.dtype == np.float32 for part in parts):
        parts = [part if part.dtype == np.float32 else part.astype("float32") / 255 for part in parts]
    return names, ImageData("scored", np.concatenate(parts or [images])), bad


def _rows_to_score(paths: Sequence[str], columns: tuple[str, ...]):
    import numpy as np

    from keras_gen.data import FeatureData
    from keras_gen.data.tables import read_table
    from keras_gen.errors import InputError

    names: list[str] = []
    parts: list[np.ndarray] = []
    for text in paths:
        path = Path(text).expanduser()
        if path.is_dir() or path.suffix.lower() not in (".csv", ".tsv", ".npz", ".npy"):
            raise InputError(
                f"Expected .csv or .npz files: the run was trained on a table. Received: {path}."
            )
        rows = read_table(path, columns)
        names += [f"{path}[{i}]" for i in range(len(rows))]
        parts.append(rows.features)
    return names, FeatureData("scored", np.concatenate(parts)), []
