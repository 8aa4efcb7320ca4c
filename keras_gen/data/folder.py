"""A folder of pictures of mixed sizes and modes."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from keras_gen.data.arrays import allocate, fit
from keras_gen.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
DEFAULT_SIZE = 64
GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "F"}
MOST_UNREADABLE = 0.1

logger = logging.getLogger(__name__)


def read_picture(path: Path | BinaryIO) -> Image.Image:
    """A file's first frame, upright, as 8-bit L or RGB; transparency is laid on white.

    Raises:
        OSError, ValueError and what else Pillow raises for files it cannot decode.
    """
    with Image.open(path) as file:
        file.load()
        picture: Image.Image = ImageOps.exif_transpose(file)
        if picture.mode.startswith("I") or picture.mode == "F":
            return _to_8_bit(picture)
        if picture.has_transparency_data:
            rgba = picture.convert("RGBA")
            white = Image.new("RGBA", rgba.size, "white")
            flat = Image.alpha_composite(white, rgba)
            return flat.convert("L" if picture.mode in GREY_MODES else "RGB")
        return picture.convert("L" if picture.mode in GREY_MODES else "RGB")


def _to_8_bit(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture, "float64")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError("values that are negative or not finite")
    # 16-bit pictures arrive as "I;16" or "I"; "F" and small "I" values have no fixed range
    full = 65535 if picture.mode != "F" and values.max() > 255 else max(255.0, values.max())
    return Image.fromarray(np.round(values * (255 / full)).astype("uint8"))


def picture_files(folder: Path) -> list[Path]:
    """All pictures below a folder, by their endings, in order."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def read_folder(
    folder: Path, size: int | None, limit: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None, np.ndarray]:
    """All pictures below `folder`, as `(images, labels, classes, files)`.

    Grey if every picture is grey, colour otherwise. When every picture lies in a subfolder, the
    names of the first level of subfolders are the classes. Files that cannot be decoded are named
    in a warning and skipped.

    Raises:
        InputError: No picture there, or more than a tenth of them unreadable.
    """
    paths = picture_files(folder)
    if not paths:
        raise InputError(
            f"Expected a folder with pictures ({', '.join(sorted(SUFFIXES))}). Received: {folder}, "
            "which has none. Check the path."
        )
    if limit is not None and limit < len(paths):
        chosen = np.random.default_rng([seed, 1]).choice(len(paths), limit, replace=False)
        paths = [paths[i] for i in sorted(chosen)]
    size = size or DEFAULT_SIZE

    def read(path: Path):
        try:
            return np.asarray(fit(read_picture(path), size)), ""
        except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
            return None, f"{type(error).__name__}: {error}".splitlines()[0]

    images = allocate((len(paths), size, size, 3))
    kept: list[Path] = []
    bad: list[str] = []
    colour = False
    with ThreadPoolExecutor() as pool:
        for path, (picture, reason) in zip(paths, pool.map(read, paths), strict=True):
            if picture is None:
                bad.append(f"{path} ({reason})")
                continue
            colour = colour or picture.ndim == 3
            images[len(kept)] = picture if picture.ndim == 3 else picture[..., None]
            kept.append(path)
    if len(bad) > MOST_UNREADABLE * len(paths):
        raise InputError(
            f"Expected readable pictures in {folder}. Received: {len(bad)} of {len(paths)} that "
            f"cannot be decoded, the first {bad[0]}. Repair or remove them."
        )
    for name in bad:
        logger.warning("skipped, cannot be decoded: %s", name)
    images = images[: len(kept)] if colour else images[: len(kept), ..., :1]

    files = np.array([str(path.relative_to(folder)) for path in kept])
    parts = [path.relative_to(folder).parts for path in kept]
    if not all(len(p) > 1 for p in parts):
        return images, None, None, files
    classes = tuple(sorted({p[0] for p in parts}))
    labels = np.array([classes.index(p[0]) for p in parts], "int32")
    return images, labels, classes, files


def read_pictures(
    paths: Sequence[Path], shape: Sequence[int]
) -> tuple[np.ndarray, list[Path], list[tuple[Path, str]]]:
    """Files as pictures of one shape (height, width, 1 | 3), cut to its sides' ratio and resampled.

    Returns:
        Pictures (n, *shape) uint8, the files they come from, and pairs of a file and the reason why it
        could not be read.
    """
    images, kept, bad = [], [], []
    for path in paths:
        try:
            picture = read_picture(path).convert("L" if shape[2] == 1 else "RGB")
            images.append(np.asarray(fit(picture, (shape[1], shape[0]))).reshape(shape))
            kept.append(path)
        except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
            bad.append((path, f"{type(error).__name__}: {error}".splitlines()[0]))
    return np.array(images, "uint8").reshape(-1, *shape), kept, bad
