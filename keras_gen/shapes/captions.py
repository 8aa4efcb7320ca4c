"""Wordings of scenes, and their meaning again."""

import itertools
import re
from dataclasses import dataclass

import numpy as np

from keras_gen.errors import InputError
from keras_gen.shapes.scene import COLOURS, GROUNDS, RELATIONS, SHAPES, SIZES, Scene, Thing, stands

SAID = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
LEADS = ("", "there is ", "a picture of ")


@dataclass(frozen=True)
class Named:
    """A thing as a caption names it."""

    shape: str
    colour: str
    size: str | None = None

    def __str__(self) -> str:
        return " ".join(word for word in (self.size, self.colour, self.shape) if word)

    def fits(self, thing: Thing) -> bool:
        return (self.shape, self.colour) == (thing.shape, thing.colour)


@dataclass(frozen=True)
class Meaning:
    """What a caption says.

    Attributes:
        relation: How the first of the things stands to the second, or None where it is not said.
        ground: None where it is not said.
    """

    things: tuple[Named, ...]
    relation: str | None = None
    ground: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a scene is what a caption says.

    Attributes:
        things: All of them are there, in shape and colour, and no other.
        relation, sizes, ground: So are these; None where the caption says nothing. They need the things.
    """

    things: bool
    relation: bool | None
    sizes: bool | None
    ground: bool | None


def relation_of(first: Thing, second: Thing) -> str:
    return next(relation for relation in RELATIONS if stands(first, relation, second))


def wording(scene: Scene, rng: np.random.Generator) -> str:
    """One of the ways to say what a scene shows: sizes, relation and ground are said or left out."""
    order = list(rng.permutation(len(scene.things)))
    things = [scene.things[i] for i in order]
    with_sizes = rng.random() < 0.7
    named = [f"a {Named(t.shape, t.colour, t.size if with_sizes else None)}" for t in things]
    if len(named) == 1:
        text = named[0] if rng.random() < 0.8 else "one" + named[0][1:]
    elif rng.random() < 0.7:
        said = SAID[relation_of(things[0], things[1])]
        text = f"{named[0]} {said[rng.integers(len(said))]} {named[1]}"
        if len(named) == 3:
            text += f", and {named[2]}"
    else:
        text = f"{', '.join(named[:-1])} and {named[-1]}"
    text = LEADS[max(0, int(rng.integers(7)) - 4)] + text
    if rng.random() < 0.4:
        text += f" on a {scene.ground} ground"
    return text


def _one_of(name: str, words) -> str:
    return rf"(?P<{name}>{'|'.join(words)})"


_THING = rf"(?:a|one) (?:{_one_of('size', SIZES)} )?{_one_of('colour', COLOURS)} {_one_of('shape', SHAPES)}"
_GROUND = re.compile(rf" on an? ({'|'.join(GROUNDS)}) (?:back)?ground$")
_RELATION = re.compile(
    "|".join(rf" (?P<r{i}>{'|'.join(SAID[name])}) " for i, name in enumerate(RELATIONS)).replace(
        " (?P", " (?:is )?(?P"
    )
)


def parse(caption: str) -> Meaning:
    """The meaning of a caption like those of `wording`.

    Raises:
        InputError: It is none.
    """
    text = re.sub(r"\s+", " ", caption.strip().lower()).rstrip(".")
    for lead in LEADS[1:]:
        text = text.removeprefix(lead)
    ground = None
    if found := _GROUND.search(text):
        ground, text = found[1], text[: found.start()]
    relation = None
    if found := _RELATION.search(text):
        relation = RELATIONS[next(i for i in range(len(RELATIONS)) if found[f"r{i}"])]
        parts = [text[: found.start()], *text[found.end() :].split(", and ")]
    else:
        parts = re.split(r", | and ", text)
    named = [_named(part, caption) for part in parts]
    if not 1 <= len(named) <= 3:
        raise InputError(f"Expected one to three things. Received: {caption!r}.")
    return Meaning(tuple(named), relation, ground)


def _named(text: str, caption: str) -> Named:
    found = re.fullmatch(_THING, text)
    if found is None:
        raise InputError(
            f"Expected things like 'a small red circle', of colours {', '.join(COLOURS)} and shapes "
            f"{', '.join(SHAPES)}. Received: {text!r} in {caption!r}."
        )
    return Named(found["shape"], found["colour"], found["size"])


def check(meaning: Meaning, scene: Scene) -> Verdict:
    """Hold a scene, as it was drawn or read off a picture, against a caption's meaning."""
    # orders of no other number: what an untrained model draws may be read as a dozen things
    orders = itertools.permutations(scene.things) if len(scene.things) == len(meaning.things) else ()
    fitting = [
        order for order in orders if all(n.fits(t) for n, t in zip(meaning.things, order, strict=True))
    ]
    related = [
        order for order in fitting if meaning.relation and stands(order[0], meaning.relation, order[1])
    ]
    sized = [
        order
        for order in fitting
        if all(n.size in (None, t.size) for n, t in zip(meaning.things, order, strict=True))
    ]
    has_sizes = any(n.size for n in meaning.things)
    return Verdict(
        things=bool(fitting),
        relation=bool(related) if meaning.relation else None,
        sizes=bool(sized) if has_sizes else None,
        ground=None if meaning.ground is None else bool(fitting) and meaning.ground == scene.ground,
    )
