"""Semantic hashing: bits, index and measure against brute force, the model, and the app."""

import json
import math
import shutil

import keras
import numpy as np
import pytest
from calls import refused, run
from harness import check_model, serve
from PIL import Image
from scipy.ndimage import affine_transform
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score
from test_apps import copied

from keras_gen import corruptions, hashing, load_model, plots
from keras_gen.autoencoders import codes_of
from keras_gen.corruptions import Affine, geometry
from keras_gen.data import load
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.hashing import HashIndex, NeighbourBatches, SemanticHash, bits_of, pack, unpack
from keras_gen.hashing.codes import distances, to_words
from keras_gen.hashing.model import agreement, imbalance
from keras_gen.networks import mlp_decoder, mlp_encoder

SHAPE = (8, 8, 1)


def random_bits(n, d, seed=0):
    """Codes in clusters, with doubles: few distances, many ties."""
    rng = np.random.default_rng(seed)
    centres = rng.random((max(1, n // 20), d)) < 0.5
    return (centres[rng.integers(len(centres), size=n)] ^ (rng.random((n, d)) < 0.1)).astype("uint8")


def generator(seed=0):
    return keras.random.SeedGenerator(seed)


@pytest.mark.once
class TestCodes:
    @pytest.mark.parametrize("d", [1, 7, 8, 9, 16, 31, 33, 64, 65, 100])
    def test_round_trip_and_distance(self, d):
        bits = random_bits(50, d)
        packed = pack(bits)
        assert packed.shape == (50, math.ceil(d / 8)) and packed.dtype == np.uint8
        np.testing.assert_array_equal(unpack(packed, d), bits)
        words = to_words(packed)
        np.testing.assert_array_equal(distances(words, words[3]), (bits != bits[3]).sum(axis=1))

    def test_bits_are_0_and_1(self):
        bits = bits_of(np.array([[0.2, 0.9], [0.5, 0.51]]), 0.5)
        assert bits.dtype == np.uint8 and bits.tolist() == [[0, 1], [0, 1]]
        assert hashing.bit_balance(bits).tolist() == [0.0, 1.0]

    def test_refused(self):
        for wrong in (np.array([[0, 2]]), np.array([0, 1]), np.zeros((3, 0)), np.array([[0.5]])):
            with pytest.raises(InputError, match="0 or 1"):
                pack(wrong)
        with pytest.raises(InputError, match=r"shape \(n, 2\)"):
            unpack(np.zeros((3, 1), "uint8"), 9)
        with pytest.raises(InputError, match="1 bit or more"):
            unpack(np.zeros((3, 1), "uint8"), 0)
        with pytest.raises(InputError, match="zeros after the 7 bits"):
            unpack(np.ones((3, 1), "uint8"), 7)


@pytest.mark.once
class TestIndex:
    @pytest.mark.parametrize("costs", [(0, 0), (15_000, 8), (1e12, 8)], ids=["tables", "chosen", "scan"])
    @pytest.mark.parametrize(("n", "d"), [(1, 3), (300, 6), (3000, 12), (3000, 20), (500, 37), (2000, 70)])
    def test_is_brute_force(self, n, d, costs, monkeypatch):
        monkeypatch.setattr(hashing.index, "LOOKUP", costs[0])
        monkeypatch.setattr(hashing.index, "BUCKET", costs[1])
        bits = random_bits(n, d)
        index = HashIndex(pack(bits), d)
        # buckets of a large radius are many, and only a scan is meant to go there
        radii = [r for r in (0, 1, 2, 5, d) if r <= 2 * len(index._tables) or costs != (0, 0)]
        for query in random_bits(4, d, seed=1).tolist() + bits[:2].tolist():
            away = (bits != np.array(query)).sum(axis=1)
            order = np.lexsort((np.arange(n), away))
            code = pack(np.array([query]))[0]
            for radius in radii:
                found, far = index.within(code, radius)
                expected = order[: (away <= radius).sum()]
                np.testing.assert_array_equal(found, expected)
                np.testing.assert_array_equal(far, away[expected])
            for k in {1, min(7, n), n} if costs != (0, 0) else {1}:
                found, far = index.nearest(code, k)
                np.testing.assert_array_equal(found, order[:k])
                np.testing.assert_array_equal(far, away[order[:k]])

    def test_looks_into_few_buckets(self, monkeypatch):
        """The tables must do the work where they can: codes looked at, not time."""
        bits = (np.random.default_rng(0).random((200_000, 32)) < 0.5).astype("uint8")
        index = HashIndex(pack(bits), 32)
        looked_at = []
        real = hashing.index.distances
        monkeypatch.setattr(hashing.index, "distances", lambda w, q: looked_at.append(len(w)) or real(w, q))
        found, _ = index.within(index.packed[7], 2)
        assert 7 in found and looked_at[-1] < 1000
        found, _ = index.nearest(index.packed[7], 1)
        assert found.tolist() == [7] and looked_at[-1] < 1000
        index.within(index.packed[7], 20)
        assert looked_at[-1] == 200_000

    def test_save_and_load(self, tmp_path):
        index = HashIndex(pack(random_bits(40, 11)), 11)
        index.save(tmp_path / "index.npz")
        again = HashIndex.load(tmp_path / "index.npz")
        np.testing.assert_array_equal(again.packed, index.packed)
        assert again.bits == 11 and len(again) == 40
        content = (tmp_path / "index.npz").read_bytes()
        (tmp_path / "index.npz").write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match="that HashIndex.save wrote"):
            HashIndex.load(tmp_path / "index.npz")

    def test_refused(self):
        index = HashIndex(pack(random_bits(40, 11)), 11)
        for k in (0, 41):
            with pytest.raises(InputError, match="k within 1 to the 40 codes"):
                index.nearest(index.packed[0], k)
        with pytest.raises(InputError, match="radius of 0 or more"):
            index.within(index.packed[0], -1)
        with pytest.raises(InputError, match="packed codes of 11 bits"):
            index.within(index.packed[0][:1], 1)
        with pytest.raises(InputError, match="at least one code"):
            HashIndex(np.zeros((0, 2), "uint8"), 11)


@pytest.mark.once
class TestMeanAveragePrecision:
    def test_without_ties_it_is_scikit_learns(self):
        database = pack(np.tril(np.ones((40, 40), "uint8")))  # 1 to 40 bits from zero
        labels = np.random.default_rng(0).integers(3, size=40)
        query = pack(np.zeros((1, 40), "uint8"))
        ours = hashing.average_precisions(query, labels[:1], database, labels)
        expected = average_precision_score(labels == labels[0], -np.arange(40))
        assert ours[0] == pytest.approx(expected)

    def test_with_ties_it_is_the_mean_over_their_orders(self):
        rng = np.random.default_rng(0)
        bits = rng.integers(2, size=(30, 4)).astype("uint8")
        labels = rng.integers(2, size=30)
        away = bits.sum(axis=1)
        drawn = [average_precision_score(labels, -(away + 0.5 * rng.random(30))) for _ in range(4000)]
        ours = hashing.mean_average_precision(pack(bits[:1] * 0), np.array([1]), pack(bits), labels)
        assert abs(ours - np.mean(drawn)) < 4 * np.std(drawn) / np.sqrt(4000)
        assert np.std(drawn) > 0.01

    def test_order_of_the_database_is_nothing(self):
        bits, labels = random_bits(200, 9), np.random.default_rng(0).integers(4, size=200)
        order = np.random.default_rng(1).permutation(200)
        queries = pack(random_bits(5, 9, 2)), np.arange(5) % 4
        one = hashing.average_precisions(*queries, pack(bits), labels)
        two = hashing.average_precisions(*queries, pack(bits[order]), labels[order])
        np.testing.assert_allclose(one, two)

    def test_all_equal_codes_give_chance_and_nothing_to_find_nan(self):
        labels = np.repeat([0, 1], [100, 900])
        same = pack(np.ones((1000, 5), "uint8"))
        found = hashing.average_precisions(same[:2], np.array([0, 7]), same, labels)
        assert found[0] == pytest.approx(0.1, abs=0.01) and np.isnan(found[1])


@pytest.mark.once
class TestBaselines:
    def test_lsh_sees_angles(self):
        """Two directions differ in a bit with probability angle / pi."""
        data = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
        bits = hashing.lsh(data, 20_000).bits(data)
        assert (bits[0] != bits[1]).mean() == pytest.approx(1 / 2, abs=0.02)
        assert (bits[0] != bits[4]).mean() == pytest.approx(1 / 4, abs=0.02)
        assert (bits[0] == bits[2]).sum() == 0

    def test_itq_rotates_components_to_lose_less(self, digits):
        data = digits.train.floats()
        found = hashing.itq(data, 16)
        components = hashing.itq(data, 16, iterations=0)
        np.testing.assert_allclose(found.matrix.T @ found.matrix, np.eye(16), atol=1e-4)

        def lost(one):
            projected = (data.reshape(len(data), -1) - one.mean) @ one.matrix
            return ((np.sign(projected) - projected) ** 2).mean()

        assert lost(found) < 0.97 * lost(components)
        with pytest.raises(InputError, match="at most 64 bits"):
            hashing.itq(data, 65)


class TestAffine:
    def test_is_scipys(self):
        images = np.random.default_rng(0).normal(size=(3, 9, 12, 2)).astype("float32")
        maps = np.eye(2, 3) + 0.2 * np.random.default_rng(1).normal(size=(3, 2, 3))
        ours = to_numpy(geometry._resampled(images, maps.astype("float32")))
        half = (np.array([9, 12]) - 1) / 2
        for image, map_, mine in zip(images, maps, ours, strict=True):
            matrix = half[:, None] * map_[:, :2] / half[None]
            offset = half + half * map_[:, 2] - matrix @ half
            for channel in range(2):
                expected = affine_transform(image[..., channel], matrix, offset, order=1, mode="nearest")
                np.testing.assert_allclose(mine[..., channel], expected, atol=1e-4)

    def test_strength(self, digits):
        images = digits.train.floats(slice(0, 200))
        np.testing.assert_allclose(to_numpy(Affine(0.0)(images, generator())), images, atol=1e-5)
        changes = [np.abs(to_numpy(Affine(s)(images, generator())) - images).mean() for s in (0.02, 0.1, 0.3)]
        assert changes == sorted(changes) and changes[0] > 0.01
        each = to_numpy(Affine((0.0, 0.3))(images, generator()))
        assert np.abs(each - images).mean(axis=(1, 2, 3)).std() > 0.05
        with pytest.raises(InputError, match="expected pictures"):
            Affine(0.1)(np.zeros((2, 5), "float32"), generator())
        assert corruptions.parse("affine:0.1-0.2") == Affine((0.1, 0.2))


def hashing_model(bits=12, noise=1.0, **kwargs):
    encoder = mlp_encoder(SHAPE, bits, (32,), "relu", "sigmoid", code_noise=noise)
    return SemanticHash(encoder, mlp_decoder(bits, SHAPE, (32,)), corruption=Affine(0.1), **kwargs)


class TestModel:
    def test_check_model(self, digits, tmp_path):
        images = digits.train.floats(slice(0, 40))
        check_model(hashing_model, {"image": images, "neighbour": images[::-1]}, tmp_path)

    def test_without_neighbours_a_picture_is_its_own(self, digits):
        images = digits.train.floats(slice(0, 40))
        model = hashing_model()
        alone, _ = model.loss_from_corrupted({"image": images}, np.concatenate([images, images]), False)
        pairs = {"image": images, "neighbour": images}
        paired, _ = model.loss_from_corrupted(pairs, np.concatenate([images, images]), False)
        assert float(to_numpy(alone)) == float(to_numpy(paired))

    def test_hash_packs_the_code_s_bits(self, digits):
        model, images = hashing_model(bits=11), digits.test.floats(slice(0, 50))
        expected = pack(bits_of(codes_of(model, images), 0.5))
        np.testing.assert_array_equal(hashing.hashes_of(model, images, batch_size=20), expected)
        np.testing.assert_array_equal(hashing.hashes_of(model, digits.test.select(slice(0, 50))), expected)
        raw = digits.test.images[:50]
        np.testing.assert_array_equal(to_numpy(model.signatures()["hash"][0](raw)), expected)

    def test_agreement_is_the_cross_entropy_of_partners(self):
        one, two = np.random.default_rng(0).random((2, 6, 5)).astype("float32")
        similar = (2 * one - 1) @ (2 * two - 1).T / 5 / 0.3
        forth = np.exp(similar) / np.exp(similar).sum(axis=1, keepdims=True)
        back = np.exp(similar) / np.exp(similar).sum(axis=0, keepdims=True)
        expected = -(np.log(np.diag(forth)) + np.log(np.diag(back))).mean() / 2
        assert float(to_numpy(agreement(one, two, 0.3))) == pytest.approx(expected, rel=1e-5)
        same = np.ones((6, 5), "float32")
        assert float(to_numpy(agreement(same, same, 0.3))) == pytest.approx(np.log(6), rel=1e-5)

    def test_imbalance(self):
        one, two = np.random.default_rng(0).random((2, 50, 3)).astype("float32")
        expected = ((2 * one - 1).mean(0) * (2 * two - 1).mean(0)).sum()
        assert float(to_numpy(imbalance(one, two))) == pytest.approx(expected, rel=1e-4)

    def test_the_loss_asks_for_the_neighbour(self, digits):
        model = hashing_model(noise=0.0, contrast=0.1)
        images, others = digits.train.floats(slice(0, 8)), digits.train.floats(slice(8, 16))
        both = np.concatenate([images, others])
        loss, terms = model.loss_from_corrupted({"image": images, "neighbour": others}, both, False)
        error = (((to_numpy(model(images)) - others) / 2) ** 2).mean()
        assert float(to_numpy(terms["reconstruction"])) == pytest.approx(error, rel=1e-4)
        expected = error + 0.1 * float(to_numpy(terms["agreement"] + terms["imbalance"]))
        assert float(to_numpy(loss)) == pytest.approx(expected, rel=1e-4)

    def test_refused(self):
        with pytest.raises(InputError, match="sigmoid"):
            SemanticHash(mlp_encoder(SHAPE, 4), mlp_decoder(4, SHAPE))
        for numbers in ({"contrast": -1.0}, {"temperature": 0.0}):
            with pytest.raises(InputError, match="temperature above 0"):
                hashing_model(**numbers)


class TestNeighbours:
    def test_are_brute_force(self, digits):
        data = digits.train.select(slice(0, 300))
        found = hashing.neighbours_of(data, 5)
        flat = PCA(32, random_state=0).fit_transform(data.floats().reshape(300, -1))
        away = ((flat[:, None] - flat[None]) ** 2).sum(-1)
        np.testing.assert_array_equal(found, np.argsort(away, axis=1, kind="stable")[:, :5])
        assert (found[:, 0] == np.arange(300)).all() and found.dtype == np.int32
        assert (data.labels[found] == data.labels[:, None]).mean() > 0.9
        assert hashing.neighbours_of(data.select(slice(0, 3)), 5).shape == (3, 3)

    def test_of_a_sample_they_are_indices_into_all(self, digits, monkeypatch):
        monkeypatch.setattr(hashing.neighbours, "MOST", 200)
        found = hashing.neighbours_of(digits.train, 3)
        assert found.shape == (len(digits.train), 3) and len(np.unique(found)) <= 200
        assert (digits.train.labels[found] == digits.train.labels[:, None]).mean() > 0.8

    def test_batches(self, digits):
        data = digits.train.select(slice(0, 100))
        neighbours = hashing.neighbours_of(data, 4)
        batches = NeighbourBatches(data, neighbours, 30, training=True, seed=3)
        stream = iter(batches.stream())
        for step in range(3):
            batch = batches[step]
            served = batch if stream is None or keras.backend.backend() != "tensorflow" else next(stream)
            for key in ("image", "neighbour"):
                np.testing.assert_allclose(to_numpy(served[key]), batch[key], atol=1e-6)
            indices = batches.order(0)[30 * step : 30 * step + 30]
            allowed = data.floats(neighbours[indices].ravel()).reshape(30, 4, *SHAPE)
            assert (allowed == batch["neighbour"][:, None]).all(axis=(2, 3, 4)).any(axis=1).all()
        first = batches[0]["neighbour"]
        batches.epoch = 1
        assert not np.array_equal(batches[0]["neighbour"], first)
        held_out = NeighbourBatches(data, neighbours, 30, training=False)
        np.testing.assert_array_equal(held_out[0]["neighbour"], data.floats(neighbours[:30, -1]))


@pytest.mark.once
def test_the_picture_of_neighbours():
    black, white = np.full((2, 4, 4, 1), -1.0), np.ones((2, 3, 4, 4, 1))
    white[1, 2] = np.nan
    wrong = np.array([[False, True, False], [False, False, False]])
    drawn = np.asarray(plots.neighbours(black, white, wrong))
    height, width = drawn.shape[0] / 2, drawn.shape[1] / 5
    middles = drawn[[int(height / 2), int(3 * height / 2)]][:, [int((i + 0.5) * width) for i in range(5)], 0]
    assert middles.tolist() == [[0, 128, 255, 255, 255], [0, 128, 255, 255, 128]]
    red = np.argwhere((drawn == (255, 0, 0)).all(axis=-1))
    assert len(red) and (red[:, 0] < height).all() and set(red[:, 1] // width) == {3}


# --- the app -----------------------------------------------------------------------------------

TRAIN = ["--bits", "24", "--hidden", "128", "--epochs", "40", "--learning-rate", "3e-3", "--seed", "1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that has learned something."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    done = run("apps.retrieve", "--out", out, *TRAIN)
    assert done.returncode == 0, done.stderr
    return out, done


class TestApp:
    def test_leaves_what_it_promises(self, finished):
        out, done = finished
        for name in ("neighbours.png", "curves.png"):
            with Image.open(out / name) as picture:
                assert picture.size > (50, 50)
        assert len(HashIndex.load(out / "index.npz")) == len(np.load(out / "database.npy")) == 1438
        assert done.stdout.splitlines()[-1].startswith("ask it: python -m apps.retrieve run ")
        metrics = json.loads((out / "card.json").read_text())["metrics"]
        for name in ("mAP", "mAP of LSH", "mAP of PCA-ITQ"):
            assert f"{name}: {metrics[name]}" in done.stdout
        assert any("time of a query among 1,438 codes" in name for name in metrics)

    def test_the_codes_are_good(self, finished, digits):
        """Near-binary, balanced, none dead, the index made by the model, and ahead of the baselines."""
        out, _ = finished
        model, index = load_model(out / "model.keras"), HashIndex.load(out / "index.npz")
        np.testing.assert_array_equal(hashing.hashes_of(model, digits.train), index.packed)
        balance = hashing.bit_balance(unpack(index.packed, 24))
        assert (np.abs(balance - 0.5) <= 0.1).all(), balance
        codes = codes_of(model, digits.test.floats())
        assert (np.abs(codes - 0.5) > 0.4).mean() > 0.75
        metrics = json.loads((out / "card.json").read_text())["metrics"]
        assert float(metrics["mAP"]) > float(metrics["mAP of PCA-ITQ"]) > float(metrics["mAP of LSH"])

    def test_served(self, finished, digits, tmp_path):
        pytest.importorskip("tensorflow")
        out, _ = finished
        images = digits.test.images[:50]
        served = serve(out / "savedmodel", {"hash/image": images}, tmp_path)["hash"]
        expected = hashing.hashes_of(load_model(out / "model.keras"), digits.test.select(slice(0, 50)))
        assert served.dtype == np.uint8 and served.shape == (50, 3)
        # a code that lies on the threshold may fall to either side
        assert (unpack(served, 24) != unpack(expected, 24)).mean() < 1e-3
        readme = (out / "savedmodel" / "README.md").read_text()
        assert "model.hash(image=images)" in readme

    def test_answers(self, finished, digits, tmp_path, here):
        """Pictures of the database find themselves; sizes and colours are brought to the model's."""
        out, _ = finished
        plots.save(plots.picture(digits.train.floats(slice(7, 8))[0]), tmp_path / "seven.png")
        large = Image.fromarray(digits.train.images[9, ..., 0]).convert("RGB").resize((40, 40), 0)
        large.save(tmp_path / "nine.png")
        options = ["--run", out, "--k", 3, "-o", tmp_path / "made" / "n.png"]
        done = here("apps.retrieve", "run", tmp_path / "seven.png", tmp_path / "nine.png", *options)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0] == str(tmp_path / "seven.png") and lines[4] == str(tmp_path / "nine.png")
        index = HashIndex.load(out / "index.npz")
        found, away = index.nearest(index.packed[7], 3)
        labels = digits.train.labels
        for line, i, bits in zip(lines[1:4], found, away, strict=True):
            assert line == f"  #{i} ({labels[i]})  {bits} of 24 bits apart"
        with Image.open(tmp_path / "made" / "n.png") as picture:
            assert np.asarray(picture).std() > 5

    @pytest.mark.once
    def test_answers_from_a_folder_name_files(self, tmp_path, here):
        rng = np.random.default_rng(0)
        for kind, level in (("dark", 30), ("light", 200)):
            (tmp_path / "pictures" / kind).mkdir(parents=True)
            for i in range(12):
                values = (level + rng.integers(0, 25, (20, 30, 3))).astype("uint8")
                Image.fromarray(values).save(tmp_path / "pictures" / kind / f"{i}.jpg")
        options = ["--image-size", 12, "--bits", 5, "--epochs", 1, "--hidden", 8]
        options += ["--no-export", "--out", tmp_path / "r"]
        done = here("apps.retrieve", "train", "--data", tmp_path / "pictures", *options)
        assert done.returncode == 0, done.stderr
        asked = ["--radius", 5, "-o", tmp_path / "n.png", "--k", 4]
        done = here("apps.retrieve", "run", tmp_path / "pictures" / "dark", "--run", tmp_path / "r", *asked)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 12 * 5 + 1 and lines[0].endswith("dark/0.jpg: 22 within 5 bits")
        assert lines[1].strip().startswith(("dark/", "light/")) and "(dark)" in done.stdout

    @pytest.mark.once
    def test_resumed_it_is_indexed_anew(self, finished, tmp_path, here):
        out = copied(finished[0], tmp_path / "again")
        done = here("apps.retrieve", "--resume", out, "--epochs", 41)
        assert done.returncode == 0, done.stderr
        model, index = load_model(out / "model.keras"), HashIndex.load(out / "index.npz")
        np.testing.assert_array_equal(hashing.hashes_of(model, load("digits").train), index.packed)
        config = json.loads((out / "config.json").read_text())
        config["data"]["fingerprint"] = "0"
        (out / "config.json").write_text(json.dumps(config))
        assert "with other pictures" in refused(here("apps.retrieve", "--resume", out))


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "0"], "bits of 1 or more"),
        (["--neighbours", "-1"], "neighbours of 0 or more"),
        (["--contrast", "-1"], "contrast of 0 or more"),
        (["--corruption", "fog:1"], "'fog:1'"),
        (["--data", "no/such.npz"], "existing file"),
        (["run", __file__, "--run", "no/such/run"], "config.json"),
        (["run", "--run", "r"], "Received: none"),
    ],
)
def test_refuses(arguments, message, tmp_path, monkeypatch, here):
    monkeypatch.chdir(tmp_path)
    assert message in refused(here("apps.retrieve", *arguments))


@pytest.mark.once
def test_refuses_to_answer(finished, tmp_path, here):
    out, picture = finished[0], finished[0] / "queries" / "0.png"
    (tmp_path / "broken.png").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    target = tmp_path / "n.png"

    def ask(*arguments, of=out):
        return refused(here("apps.retrieve", "run", *arguments, "--run", of, "-o", target))

    assert "broken.png" in ask(picture, tmp_path / "broken.png")
    assert "Check the path" in ask(tmp_path / "none.png")
    assert "folder with pictures" in ask(tmp_path / "empty")
    assert "k of 1 or more" in ask(picture, "--k", 0)
    assert "the 1,438 pictures" in ask(picture, "--k", 1439)
    assert "radius of 0 or more" in ask(picture, "--radius", -1)
    assert not target.exists()
    shutil.copytree(out, tmp_path / "r")
    np.save(tmp_path / "r" / "database.npy", np.load(out / "database.npy")[:-1])
    assert "the 1,438 pictures of the index" in ask(picture, of=tmp_path / "r")
    copied = shutil.copy(picture, tmp_path / "q.png")
    assert "over the given pictures" in refused(
        here("apps.retrieve", "run", copied, "--run", out, "-o", copied)
    )
    (tmp_path / "r" / "model.keras").unlink()
    assert "a finished run" in ask(picture, of=tmp_path / "r")
