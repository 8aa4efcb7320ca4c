"""Scenes by the thousand: drawn by chance, some combinations kept for later."""

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from keras_gen.shapes.captions import Meaning, Named, relation_of, wording
from keras_gen.shapes.scene import COLOURS, GROUNDS, INVERSE, SHAPES, SIDE, SIZES, Scene, Thing, draw

NOVEL_PAIRS = frozenset({("red", "ring"), ("blue", "triangle"), ("green", "cross"), ("yellow", "circle")})
"""Colours of shapes that are never seen in training."""
NOVEL_RELATIONS = frozenset({("circle", "above", "square"), ("cross", "left of", "triangle")})
"""Relations of shapes that are never seen in training, nor from the other side."""
SPLITS = ("train", "test", "novel")
COUNTS = (0.35, 0.45, 0.2)
"""Shares of the scenes of one, two and three things."""
GAP = 0.05
"""Between two things, in sides of the picture."""
CLEAR = 1.5
"""Two things are this much further apart along one axis than along the other."""


@dataclass(frozen=True)
class Example:
    """A scene, its picture (side, side, 3) uint8 and its captions."""

    scene: Scene
    picture: np.ndarray
    captions: tuple[str, ...]


def is_novel(scene: Scene) -> bool:
    """Whether a scene has a combination that training never shows."""
    pairs = itertools.combinations(scene.things, 2)
    return _held_out(scene.things, [(a.shape, relation_of(a, b), b.shape) for a, b in pairs])


def asks_for_novel(meaning: Meaning) -> bool:
    """Whether a caption names a combination that training never shows: that of a novel scene may not."""
    said = []
    if meaning.relation is not None:
        said = [(meaning.things[0].shape, meaning.relation, meaning.things[1].shape)]
    return _held_out(meaning.things, said)


def _held_out(things: Iterable[Thing | Named], relations: Iterable[tuple[str, str, str]]) -> bool:
    said = {there for a, how, b in relations for there in ((a, how, b), (b, INVERSE[how], a))}
    return bool(said & NOVEL_RELATIONS) or any((t.colour, t.shape) in NOVEL_PAIRS for t in things)


def scene_by_chance(rng: np.random.Generator, count: int | None = None) -> Scene:
    """Things apart from each other, no two of one shape and colour, each pair clearly along one axis."""
    if count is None:
        count = 1 + bisect.bisect(list(itertools.accumulate(COUNTS[:-1])), rng.random())
    while True:
        things = [_thing(rng) for _ in range(count)]
        if all(_apart(a, b) for a, b in itertools.combinations(things, 2)):
            return Scene(tuple(things), GROUNDS[rng.integers(len(GROUNDS))])


_COLOURS, _SIZES = tuple(COLOURS), tuple(SIZES)


def _thing(rng: np.random.Generator) -> Thing:
    size = _SIZES[rng.integers(len(_SIZES))]
    room = 1 - 2 * (SIZES[size] + 0.02)
    x, y = (0.5 + room * (rng.random(2) - 0.5)).tolist()
    return Thing(SHAPES[rng.integers(len(SHAPES))], _COLOURS[rng.integers(len(_COLOURS))], size, x, y)


def _apart(a: Thing, b: Thing) -> bool:
    dx, dy = abs(a.x - b.x), abs(a.y - b.y)
    return (
        math.hypot(dx, dy) >= 1.05 * (a.radius + b.radius) + GAP
        and max(dx, dy) >= CLEAR * min(dx, dy)
        and (a.shape, a.colour) != (b.shape, b.colour)
    )


def example(seed: int, split: str, index: int, side: int = SIDE, captions: int = 4) -> Example:
    """The same for the same arguments."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    while True:
        scene = scene_by_chance(rng)
        if is_novel(scene) == (split == "novel"):
            break
    return Example(scene, draw(scene, rng, side), tuple(wording(scene, rng) for _ in range(captions)))


def examples(n: int, split: str, side: int = SIDE, seed: int = 0, captions: int = 4) -> Iterator[Example]:
    for index in range(n):
        yield example(seed, split, index, side, captions)
