"""Folders with a metadata.jsonl."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from keras_gen.data import load
from keras_gen.errors import InputError

pytestmark = pytest.mark.once


def folder_of(path, rows, pictures=6):
    (path / "in").mkdir(parents=True)
    for i in range(pictures):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(path / "in" / f"{i}.png")
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (path / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return str(path)


def rows(n=6, **more):
    return [{"file_name": f"in/{i}.png", "text": f"picture {i}"} | more for i in range(n)]


def said(splits):
    """Each picture's captions, by its level of red."""
    parts = (splits.train, splits.test)
    return {int(p.images[i, 0, 0, 0]): p.captions[i] for p in parts for i in range(len(p))}


def test_texts_follow_their_pictures(tmp_path):
    splits = load(folder_of(tmp_path, rows()))
    assert said(splits) == {i: (f"picture {i}",) for i in range(6)}
    assert splits.train.labels is None, "the folder is a place, not a class"


def test_several_texts_and_several_lines(tmp_path):
    more = [
        {"file_name": "in/0.png", "text": "again"},
        {"file_name": "in/1.png", "text": ["one", "two", " "]},
    ]
    found = said(load(folder_of(tmp_path, [*rows(), *more])))
    assert found[0] == ("picture 0", "again") and found[1] == ("picture 1", "one", "two")


def test_labels(tmp_path):
    lines = [{"file_name": f"in/{i}.png", "label": ["cat", "dog"][i % 2]} for i in range(6)]
    splits = load(folder_of(tmp_path, lines))
    assert splits.train.classes == ("cat", "dog") and splits.train.captions is None
    for part in (splits.train, splits.test):
        np.testing.assert_array_equal(part.labels, part.images[:, 0, 0, 0] % 2)


def test_missing_pictures_and_missing_texts_are_counted(tmp_path, caplog):
    lines = [*rows(4), {"file_name": "in/77.png", "text": "gone"}]
    with caplog.at_level(logging.WARNING):
        found = said(load(folder_of(tmp_path, lines)))
    assert found[4] == () and found[3] == ("picture 3",)
    assert "1 lines on pictures that are not there: in/77.png" in caplog.text
    assert "2 pictures without a text: in/4.png" in caplog.text


def test_pictures_left_out_are_not_missing(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        splits = load(folder_of(tmp_path, rows()), limit=4)
    assert len(said(splits)) == 4 and not caplog.text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1"),
        ([*rows(1), {"text": "nothing"}], "line 2 .*file_name"),
        ([{"file_name": 3, "text": "a"}], "line 1"),
        ([{"file_name": "in/0.png", "text": [3]}], "line 1"),
        ([{"file_name": "elsewhere.png", "text": "a"}], "none names one"),
        ([{"file_name": "in/0.png", "label": "a"}], "with 1 of 6"),
    ],
)
def test_bad_lines(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        load(folder_of(tmp_path, lines))


def test_keywords_are_one_more_caption(tmp_path):
    found = said(load(folder_of(tmp_path, rows(keywords=["red", "dark"]))))
    assert found[2] == ("picture 2", "picture 2, red, dark")
    (tmp_path / "metadata.jsonl").write_text(json.dumps(rows(1, keywords=[3])[0]))
    with pytest.raises(InputError, match="line 1.*keyword"):
        load(str(tmp_path))


def test_held_out_by_concept(tmp_path):
    """Whoever does it, and whatever it is called: nothing held out is seen in training."""
    verbs = ("running", "cooking", "singing")
    lines = [
        {"file_name": f"in/{i}.png", "text": f"{('man', 'woman')[i % 2]} {verbs[i // 2]}"} for i in range(6)
    ]
    for seed in range(5):
        splits = load(folder_of(tmp_path / str(seed), lines), seed=seed, by_concept=True)
        levels = sorted(splits.test.images[:, 0, 0, 0].tolist())
        assert levels in ([0, 1], [2, 3], [4, 5])


def test_the_same_picture_is_one_concept(tmp_path):
    folder = folder_of(tmp_path, rows())
    for i in (1, 2, 3):
        Image.new("RGB", (8, 8), (9, 0, 0)).save(tmp_path / "in" / f"{i}.png")
    for seed in range(8):
        splits = load(folder, seed=seed, by_concept=True)
        nines = [int((part.images[:, 0, 0, 0] == 9).sum()) for part in (splits.train, splits.test)]
        assert sorted(nines) == [0, 3]


def test_concepts_need_captions(tmp_path):
    with pytest.raises(InputError, match="metadata.jsonl, to hold out by concept. Received: digits"):
        load("digits", by_concept=True)
    with pytest.raises(InputError, match="Received: both"):
        load(str(folder_of(tmp_path / "f", rows())), by_concept=True, validation=1)
    with pytest.raises(InputError, match="2 concepts or more"):
        load(folder_of(tmp_path, [row | {"text": "a cat"} for row in rows()]), by_concept=True)


def test_whose_the_pictures_are(tmp_path):
    folder = folder_of(tmp_path, rows())
    assert load(folder).train.licence == ""
    (tmp_path / "LICENSE.txt").write_text("MIT licence " * 400)
    assert load(folder).train.licence.endswith("... (see LICENSE.txt)")
    (tmp_path / "ATTRIBUTION.md").write_text("Drawn by\n  Ann.")
    assert load(folder).train.licence == "Drawn by Ann."
