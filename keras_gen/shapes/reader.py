"""A scene read off a picture: by hue, connected regions, and the best-fitting shape."""

import numpy as np
from scipy import ndimage

from keras_gen.shapes.scene import COLOURS, SHAPES, SIZES, Scene, Thing, placed

GREY = 0.12
"""Pixels of less chroma (range of the channels, of 1) are ground."""
LEAST = 0.4
"""Smallest region, in areas of the smallest thing: less is a blot."""
UNLIKE = 0.45
"""Most difference from the best-fitting shape, in sums of both: more is a thing of no shape."""
NO_SHAPE = "blot"


def _hue(rgb: np.ndarray) -> np.ndarray:
    """Degrees (..., 3) to (...)."""
    a = rgb[..., 0] - 0.5 * (rgb[..., 1] + rgb[..., 2])
    b = np.sqrt(0.75) * (rgb[..., 1] - rgb[..., 2])
    return np.degrees(np.arctan2(b, a)) % 360


_NAMES = tuple(COLOURS)
_PALETTE = np.array([COLOURS[name] for name in _NAMES]) / 255.0
_HUES = _hue(_PALETTE)
_CHROMA = np.ptp(_PALETTE, axis=-1)


def coverages(picture: np.ndarray) -> np.ndarray:
    """How much of each pixel each colour covers, (colours, height, width), 0 to 1.

    A colour over any grey keeps its hue, and has the share of its chroma that it covers.
    """
    rgb = picture.astype("float64") / 255.0
    chroma = np.ptp(rgb, axis=-1)
    apart = abs((_hue(rgb)[..., None] - _HUES + 180) % 360 - 180)
    nearest = np.where(chroma > GREY, apart.argmin(axis=-1), -1)
    return np.stack(
        [np.where(nearest == i, np.minimum(chroma / _CHROMA[i], 1), 0) for i in range(len(_NAMES))]
    )


def read(picture: np.ndarray) -> Scene:
    """The things in a picture (side, side, 3) uint8, and its ground.

    On renders of `scene.draw` this is exact but for places, which are right to a quarter of a pixel. A
    region of no known shape is a thing of the shape `blot`, which fits no caption.
    """
    side = picture.shape[0]
    least = LEAST * min(
        placed(shape, SIZES["small"] * side, side / 2, side / 2, side).sum() for shape in SHAPES
    )
    things: list[Thing] = []
    shares = coverages(picture)
    for name, share in zip(_NAMES, shares, strict=True):
        regions, count = ndimage.label(share > 0.35, structure=np.ones((3, 3)))
        for k in range(1, count + 1):
            region = regions == k
            if share[region].sum() < least:
                continue
            around = ndimage.binary_dilation(region, np.ones((3, 3))) & ((regions == 0) | region)
            things.append(_thing(name, np.where(around, share, 0.0)))
    return Scene(tuple(things), _ground(picture, shares.sum(axis=0)))


def _thing(colour: str, share: np.ndarray) -> Thing:
    side = len(share)
    total = share.sum()
    rows, columns = np.indices(share.shape) + 0.5
    x, y = (share * columns).sum() / total, (share * rows).sum() / total
    best = (np.inf, NO_SHAPE, "small", x, y)
    for shape in SHAPES:
        for size, radius in SIZES.items():
            # a triangle's centre of gravity lies below its middle
            cx, cy = x, y - (0.2 * radius * side if shape == "triangle" else 0.0)
            other = placed(shape, radius * side, cx, cy, side)
            best = min(best, (abs(share - other).sum() / (total + other.sum()), shape, size, cx, cy))
    unlike, shape, size, cx, cy = best
    return Thing(shape if unlike < UNLIKE else NO_SHAPE, colour, size, cx / side, cy / side)


def _ground(picture: np.ndarray, covered: np.ndarray) -> str:
    free = ndimage.binary_erosion(covered < 0.05, border_value=1)
    if free.sum() < 0.1 * free.size:
        return "none"
    grey = picture.astype("float64").mean(axis=-1)
    values = grey[free]
    if values.std() < 12:
        return min(("black", 16), ("grey", 128), ("white", 242), key=lambda g: abs(values.mean() - g[1]))[0]
    side = len(grey)
    rows, columns = np.indices(grey.shape) // max(1, side // 8)
    level = np.where(free, grey - values.mean(), 0.0)
    size = np.sqrt((level**2).sum() * free.sum())
    striped = abs((level * (1 - 2 * (rows % 2))).sum()) / size
    checked = abs((level * (1 - 2 * ((rows + columns) % 2))).sum()) / size
    if max(striped, checked) < 0.5:
        return "speckled"
    return "striped" if striped > checked else "checked"
