"""Arrays of pictures: checking, bringing to one size, and room for many."""

import tempfile

import numpy as np
from PIL import Image, ImageOps

from keras_gen.errors import InputError

IN_MEMORY_BYTES = 2 << 30
"""Above this, pictures are spooled to a temporary file and read through a memory map."""


def allocate(shape: tuple[int, ...], dtype="uint8") -> np.ndarray:
    """An uninitialised array, on disk (deleted with the process) when it would be large."""
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= IN_MEMORY_BYTES:
        return np.empty(shape, dtype)
    return np.memmap(tempfile.TemporaryFile(prefix="keras_gen-"), dtype, "w+", shape=shape)


def checked_images(images: np.ndarray, origin: str) -> np.ndarray:
    """`images` as (n, height, width, channels), uint8 or float32 in [0, 1].

    Takes (n, h, w) and (n, h, w, c) with c of 1, 3 or 4 (alpha is laid on white), of type bool,
    any integer within 0 to 255, or floats within [0, 1].

    Raises:
        InputError: Anything else, naming `origin`.
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        hint = ""
        if images.ndim == 4 and images.shape[1] in (1, 3):
            hint = " It looks like channels first: transpose it with (0, 2, 3, 1)."
        raise InputError(
            f"{origin}: expected pictures of shape (n, height, width) or (n, height, width, "
            f"1 | 3 | 4). Received: shape {images.shape}.{hint}"
        )
    if 0 in images.shape:
        raise InputError(
            f"{origin}: expected at least one picture with pixels. Received: shape {images.shape}."
        )
    if images.dtype == bool:
        images = images.astype("uint8") * 255
    elif np.issubdtype(images.dtype, np.integer):
        low, high = int(images.min()), int(images.max())
        if low < 0 or high > 255:
            raise InputError(
                f"{origin}: expected integers within 0 to 255. Received: {images.dtype} within "
                f"{low} to {high}. Scale them to 0 to 255 (16-bit data: divide by 257)."
            )
        images = images.astype("uint8", copy=False)
    elif np.issubdtype(images.dtype, np.floating):
        bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        if len(bad):
            raise InputError(
                f"{origin}: expected finite values. Received: NaN or infinity in {len(bad)} "
                f"pictures, the first at index {bad[0]}. Remove or repair them."
            )
        least, most = float(images.min()), float(images.max())
        if least < 0 or most > 1:
            raise InputError(
                f"{origin}: expected floats within [0, 1]. Received: [{least:g}, {most:g}]. "
                "Rescale them, or store integers within 0 to 255."
            )
        images = images.astype("float32", copy=False)
    else:
        raise InputError(
            f"{origin}: expected integers within 0 to 255 or floats within [0, 1]. "
            f"Received: type {images.dtype}."
        )
    return images if images.shape[-1] != 4 else _on_white(images)


def _on_white(images: np.ndarray) -> np.ndarray:
    full = 255 if images.dtype == np.uint8 else 1
    alpha = images[..., 3:].astype("float32") / full
    flat = images[..., :3] * alpha + full * (1 - alpha)
    return flat.astype("float32") if full == 1 else np.round(flat).astype("uint8")


def resized(images: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Every picture cut to its central part and resampled (Lanczos) to `size`: pixels a side, or
    (width, height)."""
    width, height = (size, size) if isinstance(size, int) else size
    if images.shape[1:3] == (height, width):
        return images
    out = allocate((len(images), height, width, images.shape[-1]), images.dtype)
    for target, picture in zip(out, images, strict=True):
        # Pillow has no mode for several float channels: one plane at a time serves all types
        for channel in range(images.shape[-1]):
            plane = fit(Image.fromarray(np.ascontiguousarray(picture[..., channel])), size)
            target[..., channel] = np.asarray(plane)
    if out.dtype == np.float32:
        np.clip(out, 0, 1, out=out)  # Lanczos overshoots at edges
    return out


def adapted(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pictures (n, h, w, 1 | 3) of any size, grey or in colour, at `shape`; see `resizing`."""
    if images.shape[-1] == 1 and shape[2] == 3:
        images = np.repeat(images, 3, axis=-1)
    elif images.shape[-1] == 3 and shape[2] == 1:
        grey = images.astype("float32") @ np.array([0.299, 0.587, 0.114], "float32")  # as Pillow's "L"
        grey = grey[..., None]
        images = grey if images.dtype == np.float32 else np.round(grey).astype("uint8")
    return resized(images, (shape[1], shape[0]))


def resizing(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    """What `adapted` does, in words."""
    size = "" if before[:2] == after[:2] else f"central part, Lanczos to {after[0]}x{after[1]}"
    colour = {(1, 3): "grey as colour", (3, 1): "colour to grey"}.get((before[2], after[2]), "")
    return ", ".join(filter(None, (size, colour))) or "none"


def fit(
    picture: Image.Image,
    size: int | tuple[int, int],
    resampling: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """The central part of a picture at `size`: pixels a side, or (width, height).

    A picture that was enlarged by repeating its pixels, as apps draw small ones, becomes what it was.
    """
    width, height = (size, size) if isinstance(size, int) else size
    factor = picture.width // width
    if factor > 1 and picture.size == (factor * width, factor * height):
        small = picture.resize((width, height), Image.Resampling.NEAREST)
        if small.resize(picture.size, Image.Resampling.NEAREST).tobytes() == picture.tobytes():
            return small
    return ImageOps.fit(picture, (width, height), method=resampling)
