"""How often drawn scenes are what their captions ask for."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from keras_gen.shapes.captions import Verdict, check, parse
from keras_gen.shapes.dataset import asks_for_novel, example
from keras_gen.shapes.reader import read
from keras_gen.shapes.scene import SIDE


def scenes(n: int, split: str = "test", first: int = 0, side: int = SIDE) -> tuple[list[str], np.ndarray]:
    """A caption each of n scenes of a split, from scene `first` on, and their pictures, uint8.

    Of the split `novel` those whose caption says what is novel.
    """
    every = (example(0, split, i, side, captions=1) for i in itertools.count(first))
    asked = (one for one in every if split != "novel" or asks_for_novel(parse(one.captions[0])))
    found = list(itertools.islice(asked, n))
    return [one.captions[0] for one in found], np.stack([one.picture for one in found])


def prompts(n: int, split: str = "test", first: int = 0) -> list[str]:
    """The captions of `scenes`."""
    return scenes(n, split, first)[0]


def verdicts(captions: Sequence[str], pictures: np.ndarray) -> list[Verdict]:
    """Each picture (side, side, 3) uint8 read and held against its caption."""
    return [check(parse(text), read(picture)) for text, picture in zip(captions, pictures, strict=True)]


def shares(captions: Sequence[str], pictures: np.ndarray) -> dict[str, tuple[float, int]]:
    """Shares of the pictures (n, side, side, 3) uint8 that are what their captions say, and of how many.

    `1 thing` to `3 things`: all of them there in shape and colour, and no other; `relation`, `sizes`,
    `ground`: right where the caption says them, the things included; `relation if there`: right in those
    of these pictures whose things are (nan of 0, where none are).
    """
    counts = [len(parse(text).things) for text in captions]
    rows: dict[str, list[bool]] = {}
    for count, verdict in zip(counts, verdicts(captions, pictures), strict=True):
        rows.setdefault(f"{count} thing{'s' * (count > 1)}", []).append(verdict.things)
        for name in ("relation", "sizes", "ground"):
            said = getattr(verdict, name)
            if said is not None:
                rows.setdefault(name, []).append(said)
        if verdict.relation is not None:
            rows.setdefault("relation if there", []).extend([verdict.relation] * verdict.things)
    order = ("1 thing", "2 things", "3 things", "relation", "relation if there", "sizes", "ground")
    return {
        name: (float(np.mean(rows[name])) if rows[name] else math.nan, len(rows[name]))
        for name in order
        if name in rows
    }


def drawn(
    generate: Callable[[list[str], int], np.ndarray], captions: Sequence[str], batch_size: int = 100
) -> np.ndarray:
    """What `generate(prompts, seed)` draws of the captions, batch by batch."""
    starts = range(0, len(captions), batch_size)
    return np.concatenate([generate(list(captions[s : s + batch_size]), s) for s in starts])


def measure(
    generate: Callable[[list[str], int], np.ndarray], captions: Sequence[str], batch_size: int = 100
) -> dict[str, tuple[float, int]]:
    """`shares` of what `generate(prompts, seed)` draws, uint8."""
    return shares(captions, drawn(generate, captions, batch_size))
