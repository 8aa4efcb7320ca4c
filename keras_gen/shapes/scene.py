"""Scenes of one to three things on a grey ground: what they are made of, and how they are drawn."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "yellow": (235, 200, 30),
    "green": (40, 170, 60),
    "cyan": (30, 190, 200),
    "blue": (50, 80, 220),
    "purple": (160, 50, 200),
}
"""Hues at least 45 degrees apart: mixed with any grey a colour keeps its hue, by which it is read again."""
SIZES = {"small": 0.11, "large": 0.19}
"""Radius in sides of the picture."""
GROUNDS = ("white", "grey", "black", "striped", "checked", "speckled")
RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

SIDE = 32
"""Pixels a side of a picture, where nobody says."""
FINE = 8
"""Places of a thing, and samples of its edge, to a pixel."""


@dataclass(frozen=True)
class Thing:
    """What stands in a scene; `x` and `y` in sides of the picture from its upper left corner."""

    shape: str
    colour: str
    size: str
    x: float
    y: float

    @property
    def radius(self) -> float:
        return SIZES[self.size]


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]
    ground: str


def stands(first: Thing, relation: str, second: Thing) -> bool:
    """Whether the relation holds: further along its axis than across it."""
    dx, dy = second.x - first.x, second.y - first.y
    along, across = {
        "left of": (dx, dy),
        "right of": (-dx, dy),
        "above": (dy, dx),
        "below": (-dy, dx),
    }[relation]
    return along > 0 and along >= abs(across)


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a shape of radius 1 about the origin is; y grows downward."""
    if shape == "circle":
        return x * x + y * y <= 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.88
    if shape == "triangle":
        return (abs(x) <= 0.98 * (y + 1) / 1.8) & (y <= 0.8)
    if shape == "cross":
        return (np.minimum(abs(x), abs(y)) <= 0.34) & (np.maximum(abs(x), abs(y)) <= 1)
    return (x * x + y * y <= 1) & (x * x + y * y >= 0.25)  # ring


@cache
def coverage(shape: str, radius: float, along: int, down: int) -> np.ndarray:
    """The share of each pixel that a shape covers, square, odd-sided.

    Args:
        radius: In pixels.
        along, down: How far the centre is off the middle pixel's upper left corner, in `FINE`ths of a pixel.
    """
    reach = math.ceil(radius) + 1
    fine = (np.arange((2 * reach + 1) * FINE) + 0.5) / FINE - reach
    x, y = np.meshgrid((fine - along / FINE) / radius, (fine - down / FINE) / radius)
    covered = _inside(shape, x, y).reshape(2 * reach + 1, FINE, 2 * reach + 1, FINE).mean(axis=(1, 3))
    covered.setflags(write=False)
    return covered


def placed(shape: str, radius: float, x: float, y: float, side: int) -> np.ndarray:
    """Coverage (side, side) of a shape about (x, y), all in pixels; what is outside is cut off."""
    column, along = divmod(round(x * FINE), FINE)
    row, down = divmod(round(y * FINE), FINE)
    patch = coverage(shape, radius, along, down)
    reach = len(patch) // 2
    canvas = np.zeros((side, side))
    top, left = max(row - reach, 0), max(column - reach, 0)
    bottom, right = min(row + reach + 1, side), min(column + reach + 1, side)
    if top < bottom and left < right:
        canvas[top:bottom, left:right] = patch[
            top - row + reach : bottom - row + reach, left - column + reach : right - column + reach
        ]
    return canvas


def _ground(kind: str, side: int, rng: np.random.Generator) -> np.ndarray:
    """Grey levels (side, side)."""
    plain = {"white": 242.0, "grey": 128.0, "black": 16.0}
    if kind in plain:
        return np.full((side, side), plain[kind])
    if kind == "speckled":
        return 128.0 + rng.uniform(-40, 40, (side, side))
    band = max(1, side // 8)
    rows, columns = np.indices((side, side)) // band
    odd = rows % 2 if kind == "striped" else (rows + columns) % 2
    return np.where(odd == 1, 190.0, 90.0)


def draw(scene: Scene, rng: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """A picture (side, side, 3) uint8.

    Args:
        rng: Of speckles.
    """
    picture = np.repeat(_ground(scene.ground, side, rng)[..., None], 3, axis=-1)
    for thing in scene.things:
        covered = placed(thing.shape, thing.radius * side, thing.x * side, thing.y * side, side)[..., None]
        picture += covered * (np.array(COLOURS[thing.colour]) - picture)
    return np.round(picture).astype("uint8")
