"""Single picture files, read and written without loss: any mode, 8 or 16 bits, transparency kept."""

import importlib.util
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from keras_gen.errors import InputError

WITH_ALPHA = {".png", ".webp", ".tif", ".tiff"}
DEEP = {".png", ".tif", ".tiff"}
WRITABLE = sorted(WITH_ALPHA | {".jpg", ".jpeg", ".bmp", ".ppm", ".pgm"})


@dataclass(frozen=True)
class Picture:
    """Attributes:
    pixels: (height, width, 1 | 3) float32 in [0, 1].
    alpha: (height, width) as in the file (uint8 or uint16), or None.
    depth: Bits a channel in the file, 8 or 16.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    depth: int = 8

    def levels(self) -> np.ndarray:
        """The pixels as they are written: uint8 or uint16, alpha last where there is one."""
        most = 2**self.depth - 1
        whole = np.round(np.clip(self.pixels, 0, 1) * most).astype(f"uint{self.depth}")
        return whole if self.alpha is None else np.concatenate([whole, self.alpha[..., None]], axis=-1)

    def showing(self, pixels: np.ndarray) -> "Picture":
        """The same file with other pixels."""
        return replace(self, pixels=pixels)


def read_picture(path: Path) -> Picture:
    """Read a file, upright. Palettes and CMYK become RGB.

    Raises:
        InputError: It does not exist, cannot be decoded, is animated, or holds no 8 or 16 bits.
    """
    try:
        with Image.open(path) as file:
            frames = getattr(file, "n_frames", 1)
            if frames > 1:
                raise InputError(
                    f"Expected a still picture. Received: {path}, {frames} frames. Save the frames as files."
                )
            if _bits(file, path) == 16 and file.mode not in ("I;16", "I;16B", "I;16L", "I"):
                return _read_deep_colour(path)
            file.load()
            return _from_pillow(ImageOps.exif_transpose(file), path)
    except FileNotFoundError:
        raise InputError(f"Expected an existing picture. Received: {path}. Check the path.") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        raise InputError(
            f"Expected a picture. Received: {path}, which cannot be decoded "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'})."
        ) from None


def _bits(file: Image.Image, path: Path) -> int:
    """Bits a channel. Pillow opens 16-bit colour as if it had 8."""
    if file.format == "PNG":
        with open(path, "rb") as raw:
            return raw.read(25)[24]
    if file.format == "TIFF":
        return max(np.atleast_1d(file.tag_v2.get(258, 8)))  # type: ignore[attr-defined]
    return 8


def _from_pillow(file: Image.Image, path: Path) -> Picture:
    if file.mode.startswith("I"):
        values = np.asarray(file)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"Expected 8 or 16 bits a channel. Received: {path}, values to {values.max()}.")
        return Picture((values[..., None] / 65535).astype("float32"), depth=16)
    if file.mode == "F":
        raise InputError(
            f"Expected 8 or 16 bits a channel. Received: {path}, floating point. Save it as 16-bit TIFF."
        )
    grey = file.mode in ("1", "L", "LA", "La")
    if file.has_transparency_data:
        rgba = np.asarray(file.convert("LA" if grey else "RGBA"))
        return Picture((rgba[..., :-1] / 255).astype("float32"), rgba[..., -1].copy())
    levels = np.asarray(file.convert("L" if grey else "RGB"))
    return Picture((levels[..., None] if grey else levels).astype("float32") / 255)


def _opencv(path: Path):
    if importlib.util.find_spec("cv2") is None:
        raise InputError(
            "Expected OpenCV, which reads and writes 16-bit colour. Received: an environment without it, and "
            f'{path}. Install it: pip install -e ".[denoise]", or convert the picture to 8 bits.'
        )
    import cv2

    return cv2


def _read_deep_colour(path: Path) -> Picture:
    levels = _opencv(path).imread(str(path), -1)  # as it is: blue, green, red, alpha
    if levels is None or levels.dtype != np.uint16:
        raise InputError(f"Expected 8 or 16 bits a channel. Received: {path}, which cannot be decoded.")
    alpha = levels[..., 3].copy() if levels.shape[-1] == 4 else None
    return Picture((levels[..., 2::-1] / 65535).astype("float32"), alpha, 16)


def check_writable(picture: Picture, path: Path) -> None:
    """Refuse a file that cannot hold the picture, before any work is done for it."""
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise InputError(f"Expected a file to write of {', '.join(WRITABLE)}. Received: {path}.")
    if picture.alpha is not None and suffix not in WITH_ALPHA:
        raise InputError(
            f"Expected a file that keeps transparency ({', '.join(sorted(WITH_ALPHA))}). Received: {path}."
        )
    if picture.depth == 16 and suffix not in DEEP:
        raise InputError(f"Expected a file that keeps 16 bits ({', '.join(sorted(DEEP))}). Received: {path}.")


def write_picture(picture: Picture, path: Path) -> None:
    """Write a file, whole or not at all.

    Raises:
        InputError: Its kind cannot hold the picture.
    """
    check_writable(picture, path)
    levels = picture.levels()
    part = path.with_name(f".part-{path.name}")
    try:
        if picture.depth == 16 and levels.shape[-1] > 1:
            if levels.shape[-1] == 2:  # OpenCV has no grey with alpha
                levels = np.concatenate([np.repeat(levels[..., :1], 3, axis=-1), levels[..., 1:]], axis=-1)
            order = [2, 1, 0, 3][: levels.shape[-1]]
            _opencv(path).imwrite(str(part), levels[..., order])
        else:
            Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(part, quality=95)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
