"""Captioned scenes: what is drawn is read again, what is said is understood, and what is wrong is noticed."""

import dataclasses

import numpy as np
import pytest

from keras_gen.errors import InputError
from keras_gen.latent import words_of
from keras_gen.shapes import (
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    Meaning,
    Named,
    Scene,
    Thing,
    Verdict,
    check,
    draw,
    example,
    examples,
    is_novel,
    parse,
    read,
    stands,
)
from keras_gen.shapes.faithfulness import measure, prompts, scenes

INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def inverted(meaning: Meaning) -> Meaning:
    """The same said from the second thing's side."""
    if meaning.relation is None:
        return meaning
    first, second, *rest = meaning.things
    return Meaning((second, first, *rest), INVERSE[meaning.relation], meaning.ground)


pytestmark = pytest.mark.once


def described(scene: Scene):
    return sorted((t.shape, t.colour, t.size) for t in scene.things), scene.ground


class TestReader:
    @pytest.mark.parametrize(
        ("split", "n", "side"), [("train", 400, 32), ("novel", 200, 32), ("test", 60, 64)]
    )
    def test_every_clean_render_is_read(self, split, n, side):
        for made in examples(n, split, side):
            found = read(made.picture)
            assert described(found) == described(made.scene)
            for thing in made.scene.things:
                same = (thing.shape, thing.colour)
                ((x, y),) = ((t.x, t.y) for t in found.things if (t.shape, t.colour) == same)
                assert abs(x - thing.x) < 0.3 / 32 and abs(y - thing.y) < 0.3 / 32

    def test_each_thing_on_each_ground_in_each_size(self):
        rng = np.random.default_rng(0)
        for ground in ("white", "black", "striped", "speckled"):
            for shape in SHAPES:
                for colour in COLOURS:
                    for size in SIZES:
                        scene = Scene((Thing(shape, colour, size, 0.43, 0.57),), ground)
                        assert described(read(draw(scene, rng))) == described(scene)

    def test_with_noise(self):
        rng = np.random.default_rng(1)
        right = 0
        for made in examples(100, "test"):
            noisy = np.clip(made.picture + rng.normal(0, 10, made.picture.shape), 0, 255).astype("uint8")
            right += described(read(noisy))[0] == described(made.scene)[0]
        assert right >= 95

    def test_a_blot_is_no_thing_and_nothing_is_nothing(self):
        canvas = np.full((32, 32, 3), 128, "uint8")
        assert read(canvas).things == ()
        canvas[2:30, 14:17] = COLOURS["red"]  # a bar
        (thing,) = read(canvas).things
        assert thing.shape == "blot" and not check(parse("a red cross"), read(canvas)).things
        canvas[:] = 128
        canvas[5, 5] = COLOURS["blue"]
        assert read(canvas).things == ()


class TestCaptions:
    def test_every_wording_is_understood_and_true(self):
        counts = set()
        for made in examples(300, "train"):
            for text in made.captions:
                meaning = parse(text)
                counts.add((len(meaning.things), meaning.relation is not None))
                verdict = check(meaning, made.scene)
                assert verdict.things and False not in dataclasses.astuple(verdict), text
                assert check(inverted(meaning), made.scene) == verdict
        assert counts == {(1, False), (2, False), (2, True), (3, False), (3, True)}

    @pytest.mark.parametrize(
        ("text", "meaning"),
        [
            ("a small red circle", Meaning((Named("circle", "red", "small"),))),
            ("  There is a RED circle. ", Meaning((Named("circle", "red"),))),
            (
                "one blue ring on a striped ground",
                Meaning((Named("ring", "blue"),), ground="striped"),
            ),
            (
                "a small red circle to the left of a large blue square",
                Meaning((Named("circle", "red", "small"), Named("square", "blue", "large")), "left of"),
            ),
            (
                "a red circle is under a blue square, and a green cross on a white background",
                Meaning(
                    (Named("circle", "red"), Named("square", "blue"), Named("cross", "green")),
                    "below",
                    "white",
                ),
            ),
        ],
    )
    def test_meaning(self, text, meaning):
        assert parse(text) == meaning

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "a dog",
            "a red",
            "a red circle near a blue square",
            "a red circle, a red ring, a red cross and a red square",
        ],
    )
    def test_nonsense(self, text):
        with pytest.raises(InputError):
            parse(text)

    def test_what_is_wrong_is_noticed(self):
        scene = Scene(
            (Thing("circle", "red", "small", 0.2, 0.5), Thing("square", "blue", "large", 0.7, 0.5)), "grey"
        )

        def verdict(text):
            return dataclasses.astuple(check(parse(text), scene))

        assert verdict("a small red circle left of a large blue square") == (True, True, True, None)
        assert verdict("a red circle right of a blue square") == (True, False, None, None)
        assert verdict("a red circle above a blue square") == (True, False, None, None)
        assert verdict("a large red circle and a blue square") == (True, None, False, None)
        assert verdict("a red circle and a blue square on a white ground") == (True, None, None, False)
        assert verdict("a red circle") == (False, None, None, None), "one thing too many"
        assert verdict("a blue circle left of a red square") == (False, False, None, None)
        assert verdict("a red circle, a red ring and a blue square") == (False, None, None, None)

    def test_relations(self):
        middle, right = Thing("ring", "red", "small", 0.5, 0.5), Thing("ring", "blue", "small", 0.8, 0.6)
        assert [r for r in RELATIONS if stands(middle, r, right)] == ["left of"]
        assert [r for r in RELATIONS if stands(right, r, middle)] == ["right of"]

    def test_many_things_are_not_tried_in_every_order(self):
        """As a bad model's picture may be read: it would take longer than anybody waits."""
        blots = tuple(Thing("blot", "red", "small", i / 30, 0.5) for i in range(30))
        verdict = check(parse("a red circle left of a blue ring"), Scene(blots, "white"))
        assert verdict == Verdict(things=False, relation=False, sizes=None, ground=None)


class TestDataset:
    def test_the_same_again_and_others_elsewhere(self):
        a, b = example(0, "train", 7), example(0, "train", 7)
        assert a.captions == b.captions
        np.testing.assert_array_equal(a.picture, b.picture)
        assert not np.array_equal(example(0, "test", 7).picture, a.picture)
        assert not np.array_equal(example(0, "train", 8).picture, a.picture)

    def test_novel_combinations_are_in_novel_alone(self):
        for split in ("train", "test"):
            assert not any(is_novel(made.scene) for made in examples(200, split))
        assert all(is_novel(made.scene) for made in examples(50, "novel"))
        pair = Scene((Thing("ring", "red", "small", 0.5, 0.5),), "grey")
        assert is_novel(pair)
        above = Thing("square", "red", "small", 0.5, 0.8), Thing("circle", "red", "small", 0.5, 0.2)
        assert is_novel(Scene(above, "grey")), "said from the other side"
        assert not is_novel(Scene((above[0], dataclasses.replace(above[1], y=0.95)), "grey"))

    def test_captions_of_training_never_ask_for_what_is_novel(self):
        def asks(text):
            found = parse(text)
            pairs = {(thing.colour, thing.shape) for thing in found.things}
            said = (found.things[0].shape, found.relation, found.things[:2][-1].shape)
            novel = {("red", "ring"), ("blue", "triangle"), ("green", "cross"), ("yellow", "circle")}
            return bool(pairs & novel) or said in {
                ("circle", "above", "square"),
                ("square", "below", "circle"),
                ("cross", "left of", "triangle"),
                ("triangle", "right of", "cross"),
            }

        assert all(asks(text) for text in prompts(300, "novel"))
        assert not any(asks(text) for made in examples(300, "train") for text in made.captions)

    def test_all_words_are_seen_in_training(self):
        def vocabulary(split, n):
            return {w for made in examples(n, split) for text in made.captions for w in words_of(text)}

        assert vocabulary("novel", 200) <= vocabulary("train", 400)

    def test_faithfulness_of_the_scenes_themselves_is_whole_and_of_others_is_not(self):
        texts, pictures = scenes(60)
        assert prompts(20) == texts[:20] and scenes(2, first=5)[0] == texts[5:7]
        drawn = dict(zip(texts, pictures, strict=True))
        right = measure(lambda some, seed: np.stack([drawn[text] for text in some]), texts, 25)
        assert all(share == 1 for share, _ in right.values()) and right["1 thing"][1] > 10
        wrong = measure(lambda some, seed: np.stack([drawn[texts[0]]] * len(some)), texts)
        assert wrong["2 things"][0] < 0.1

    def test_as_data(self):
        from keras_gen.data import load

        splits = load("shapes", limit=30)
        assert splits.train.shape == (32, 32, 3) and len(splits.test) == 30
        assert splits.train.captions[3] == example(0, "train", 3).captions
        some = splits.train.select(np.array([2, 5]))
        assert some.captions[1] == splits.train.captions[5]
        assert load("shapes", image_size=48, limit=2).train.shape == (48, 48, 3)

    def test_as_tfds(self, tmp_path, monkeypatch):
        pytest.importorskip("tensorflow_datasets")
        from keras_gen.data import load
        from keras_gen.shapes import tfds_builder

        monkeypatch.setattr(tfds_builder, "SHAPES", (12, 6))
        monkeypatch.setattr(tfds_builder, "NOVEL", 4)
        builder = tfds_builder.Shapes(data_dir=str(tmp_path))
        builder.download_and_prepare()
        assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
            "train": 12,
            "test": 6,
            "novel": 4,
        }
        splits = load(str(builder.data_path))
        mine = {made.captions: made.picture for made in examples(12, "train")}
        assert len(splits.train) == 12
        for picture, said in zip(splits.train.images, splits.train.captions, strict=True):
            np.testing.assert_array_equal(picture, mine[said])
