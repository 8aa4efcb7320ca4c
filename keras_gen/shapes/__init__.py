"""Captioned scenes drawn without any download, whose captions can be checked against their pictures."""

from keras_gen.shapes.captions import Meaning, Named, Verdict, check, parse, wording
from keras_gen.shapes.dataset import Example, example, examples, is_novel
from keras_gen.shapes.reader import read
from keras_gen.shapes.scene import COLOURS, GROUNDS, RELATIONS, SHAPES, SIZES, Scene, Thing, draw, stands

__all__ = [
    "COLOURS",
    "GROUNDS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "Example",
    "Meaning",
    "Named",
    "Scene",
    "Thing",
    "Verdict",
    "check",
    "draw",
    "example",
    "examples",
    "is_novel",
    "parse",
    "read",
    "stands",
    "wording",
]
