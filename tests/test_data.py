"""Sources and batches: what is read is what was written, and bad input is named."""

import logging

import keras
import numpy as np
import pytest
from PIL import Image

from keras_gen.data import Batches, ImageData, load
from keras_gen.errors import InputError

TF = keras.backend.backend() == "tensorflow"


def save_pictures(folder, count=20, size=(9, 7), mode="L"):
    folder.mkdir(exist_ok=True, parents=True)
    rng = np.random.default_rng(0)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,), "LA": (2,)}[mode]
    suffix = "jpg" if mode == "CMYK" else "png"
    for i in range(count):
        values = rng.integers(0, 256, (size[1], size[0], *channels), "uint8")
        Image.fromarray(values, mode).save(folder / f"{mode}-{i:03d}.{suffix}")
    return folder


@pytest.mark.once
class TestDigits:
    def test_shape_range_and_split(self, digits):
        assert digits.train.shape == (8, 8, 1)
        assert len(digits.train) + len(digits.test) == 1797
        assert digits.train.images.dtype == np.uint8
        assert digits.train.images.max() == 255
        assert set(digits.test.labels) == set(range(10))

    def test_no_picture_is_on_both_sides(self, digits):
        train = {x.tobytes() for x in digits.train.images}
        shared = sum(x.tobytes() in train for x in digits.test.images)
        assert shared == 0

    def test_beside_a_folder_of_their_name(self, tmp_path, monkeypatch):
        (tmp_path / "digits").mkdir()
        monkeypatch.chdir(tmp_path)
        assert load("digits", limit=3).train.name == "digits"
        with pytest.raises(InputError, match="picture"):
            load("./digits")

    def test_limit_and_size(self):
        splits = load("digits", image_size=16, limit=50, seed=1)
        assert splits.train.images.shape == (50, 16, 16, 1)
        assert len(splits.test) == 50
        again = load("digits", image_size=16, limit=50, seed=1)
        np.testing.assert_array_equal(splits.train.images, again.train.images)
        other = load("digits", image_size=16, limit=50, seed=2)
        assert not np.array_equal(splits.train.images, other.train.images)


@pytest.mark.once
class TestFolder:
    def test_mixed_sizes_and_modes(self, tmp_path):
        save_pictures(tmp_path, 8, (9, 7), "L")
        save_pictures(tmp_path, 8, (30, 40), "RGB")
        save_pictures(tmp_path, 8, (12, 12), "RGBA")
        save_pictures(tmp_path, 8, (20, 11), "CMYK")
        save_pictures(tmp_path, 8, (20, 11), "LA")
        Image.fromarray(np.full((10, 10), 65535, "uint16")).save(tmp_path / "deep.png")
        Image.new("1", (5, 5), 1).save(tmp_path / "bit.png")
        splits = load(str(tmp_path), image_size=12)
        assert splits.train.shape == (12, 12, 3)
        assert len(splits.train) + len(splits.test) == 42

    def test_grey_stays_grey_and_default_size(self, tmp_path):
        save_pictures(tmp_path)
        assert load(str(tmp_path)).train.shape == (64, 64, 1)

    def test_values_survive(self, tmp_path):
        values = np.arange(256, dtype="uint8").reshape(16, 16)
        for i in range(4):
            Image.fromarray(values).save(tmp_path / f"{i}.png")
            deep = values.astype("uint16") * 257
            Image.fromarray(deep).save(tmp_path / f"deep{i}.png")
        images = load(str(tmp_path), image_size=16).train.images
        assert (images == values[None, :, :, None]).all()

    def test_transparency_is_laid_on_white(self, tmp_path):
        for i in range(4):
            Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / f"{i}.png")
        assert (load(str(tmp_path), image_size=8).train.images == 255).all()

    def test_subfolders_are_classes(self, tmp_path):
        save_pictures(tmp_path / "cat")
        save_pictures(tmp_path / "dog")
        train = load(str(tmp_path)).train
        assert train.classes == ("cat", "dog")
        assert set(train.labels) == {0, 1}

    def test_first_frame_of_an_animation(self, tmp_path):
        for i in range(3):
            frames = [Image.new("L", (8, 8), c) for c in (0, 255)]
            frames[0].save(tmp_path / f"{i}.gif", save_all=True, append_images=frames[1:])
        assert (load(str(tmp_path), image_size=8).train.images == 0).all()

    def test_corrupt_pictures_are_named_and_skipped(self, tmp_path, caplog):
        save_pictures(tmp_path, 30)
        (tmp_path / "broken.png").write_bytes(b"not a picture")
        whole = (tmp_path / "L-000.png").read_bytes()
        (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
        with caplog.at_level(logging.WARNING):
            splits = load(str(tmp_path))
        assert len(splits.train) + len(splits.test) == 30
        assert "broken.png" in caplog.text and "cut.png" in caplog.text

    def test_too_many_corrupt_pictures(self, tmp_path):
        save_pictures(tmp_path, 10)
        for i in range(3):
            (tmp_path / f"broken{i}.png").write_bytes(b"not a picture")
        with pytest.raises(InputError, match="3 of 13.*broken0.png"):
            load(str(tmp_path))

    def test_empty_folder_and_single_picture(self, tmp_path):
        with pytest.raises(InputError, match="has none"):
            load(str(tmp_path))
        save_pictures(tmp_path, 1)
        with pytest.raises(InputError, match="at least 2 pictures"):
            load(str(tmp_path))


@pytest.mark.once
class TestArrays:
    def images(self, n=20):
        return np.random.default_rng(0).integers(0, 256, (n, 6, 5, 1), "uint8")

    def test_round_trip(self, tmp_path):
        images = self.images()
        np.savez(tmp_path / "a.npz", image=images, label=np.arange(20))
        splits = load(str(tmp_path / "a.npz"))
        both = np.concatenate([splits.train.images, splits.test.images])
        labels = np.concatenate([splits.train.labels, splits.test.labels])
        np.testing.assert_array_equal(both[np.argsort(labels)], images)

    def test_keras_names_and_their_own_split(self, tmp_path):
        path = tmp_path / "a.npz"
        images = self.images()[..., 0]
        np.savez(path, x_train=images, y_train=np.zeros(20, int), x_test=images[:4], y_test=np.ones(4, int))
        splits = load(str(path))
        assert (len(splits.train), len(splits.test)) == (20, 4)
        assert splits.train.shape == (6, 5, 1)
        assert set(splits.test.labels) == {1}

    def test_floats_and_npy(self, tmp_path):
        np.save(tmp_path / "a.npy", self.images().astype("float64") / 255)
        train = load(str(tmp_path / "a.npy"), image_size=4).train
        assert train.images.dtype == np.float32 and train.shape == (4, 4, 1)
        assert train.floats().min() >= -1 and train.floats().max() <= 1

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda x: np.where(x > 250, np.nan, x / 255.0), "NaN or infinity in"),
            (lambda x: x / 127.5 - 1, r"within \[0, 1\]"),
            (lambda x: x.astype("int32") * 3, "0 to 255"),
            (lambda x: x.astype("complex64"), "type complex64"),
            (lambda x: x.astype("U3"), "type <U3"),
            (lambda x: x[:0], "at least one picture"),
            (lambda x: x[0, 0, 0], r"shape \(1,\)"),
            (lambda x: np.repeat(x, 2, axis=-1), r"\(20, 6, 5, 2\)"),
            (lambda x: np.zeros((5, 3, 28, 28), "uint8"), "channels first"),
            (lambda x: x[:1], "at least 2 pictures"),
        ],
    )
    def test_refused(self, tmp_path, make, message):
        np.savez(tmp_path / "a.npz", image=make(self.images()))
        with pytest.raises(InputError, match=message):
            load(str(tmp_path / "a.npz"))

    def test_other_bad_files(self, tmp_path):
        with pytest.raises(InputError, match="existing file"):
            load(str(tmp_path / "missing.npz"))
        (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut")
        with pytest.raises(InputError, match="readable .npz"):
            load(str(tmp_path / "a.npz"))
        np.savez(tmp_path / "b.npz", image=np.array([object()]), allow_pickle=True)
        with pytest.raises(InputError, match="readable .npz"):
            load(str(tmp_path / "b.npz"))
        np.savez(tmp_path / "c.npz", first=self.images(), second=self.images())
        with pytest.raises(InputError, match="first, second"):
            load(str(tmp_path / "c.npz"))
        np.savez(tmp_path / "d.npz", image=self.images(), label=np.arange(3))
        with pytest.raises(InputError, match="20 integer labels"):
            load(str(tmp_path / "d.npz"))


@pytest.mark.once
class TestNames:
    def test_unknown(self):
        with pytest.raises(InputError, match="digits.*Received: 'mnits'"):
            load("mnits")
        with pytest.raises(InputError, match="existing folder or file"):
            load("no/such/folder")

    @pytest.mark.parametrize("options", [{"image_size": 0}, {"limit": 0}])
    def test_zero(self, options):
        with pytest.raises(InputError, match="of 1 or more"):
            load("digits", **options)

    def test_a_tfds_dataset_made_here(self, tmp_path, monkeypatch):
        tfds = pytest.importorskip("tensorflow_datasets")
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
        from tiny_dataset import TinyPictures

        TinyPictures(data_dir=str(tmp_path)).download_and_prepare()
        for name in ("tiny_pictures", str(tmp_path / "tiny_pictures" / "1.0.0")):
            splits = load(name, image_size=8)
            assert splits.train.images.shape == (30, 8, 8, 3)
            assert len(splits.test) == 5
            assert splits.train.classes == ("dark", "light")
            bright = splits.train.images.mean(axis=(1, 2, 3)) > 127
            np.testing.assert_array_equal(bright, splits.train.labels == 1)
            for said, light in zip(splits.train.captions, bright, strict=True):
                assert 1 <= len(said) <= 3 and set(said) == {"light" if light else "dark"}
        assert load("tiny_pictures").train.shape == (64, 64, 3)  # they differ in size
        assert len(load("tiny_pictures", limit=7).train) == 7
        assert tfds.__version__


@pytest.mark.once
def test_real_mnist():
    import os

    root = os.environ.get("TFDS_DATA_DIR", "")
    if not os.path.exists(os.path.join(root, "mnist")):
        pytest.skip("TFDS_DATA_DIR has no mnist")
    pytest.importorskip("tensorflow_datasets")
    splits = load("mnist")
    assert (len(splits.train), len(splits.test)) == (60_000, 10_000)
    assert np.bincount(splits.train.labels)[0] == 5923
    assert abs(splits.train.images.mean() / 255 - 0.1307) < 1e-4


class TestBatches:
    def data(self, n=23):
        images = np.arange(n, dtype="uint8")[:, None, None, None] * np.ones((1, 4, 4, 1), "uint8")
        return ImageData("ramp", images, np.arange(n, dtype="int32"))

    def streamed(self, batches, epoch):
        """The batches of an epoch as `fit` gets them."""
        if not TF:
            batches.epoch = epoch
            return [batches[i] for i in range(len(batches))]
        stream = batches.stream(epoch).take(len(batches))
        return [{k: v.numpy() for k, v in b.items()} for b in stream]

    def test_every_picture_with_its_label(self):
        batches = self.streamed(Batches(self.data(), 5, training=False), 0)
        assert [len(b["label"]) for b in batches] == [5, 5, 5, 5, 3]
        labels = np.concatenate([b["label"] for b in batches])
        np.testing.assert_array_equal(labels, np.arange(23))
        images = np.concatenate([b["image"] for b in batches])
        np.testing.assert_allclose(images[:, 0, 0, 0], np.arange(23) / 127.5 - 1, atol=1e-6)
        assert images.dtype == np.float32

    def test_training_shuffles_anew_and_drops_the_rest(self):
        batches = Batches(self.data(), 5, training=True, seed=1)
        epochs = [np.concatenate([b["label"] for b in self.streamed(batches, e)]) for e in (0, 1, 0)]
        assert all(len(set(e)) == 20 for e in epochs)
        assert not np.array_equal(epochs[0], epochs[1])
        np.testing.assert_array_equal(epochs[0], epochs[2])
        np.testing.assert_array_equal(epochs[0], batches.order(0))
        other = Batches(self.data(), 5, training=True, seed=2)
        assert not np.array_equal(other.order(0), batches.order(0))

    def test_the_stream_runs_on_into_the_next_epoch(self):
        if not TF:
            pytest.skip("other backends ask for each epoch's batches by number")
        batches = Batches(self.data(), 5, training=True)
        long = [b["label"].numpy() for b in batches.stream(3).take(8)]
        np.testing.assert_array_equal(np.concatenate(long[4:]), batches.order(4))

    def test_dynamic_binarization(self):
        grey = ImageData("grey", np.full((500, 8, 8, 1), 64, "uint8"))
        batches = Batches(grey, 100, training=True, binarize="dynamic")
        first, second = (self.streamed(batches, e)[0]["image"] for e in (0, 1))
        assert set(np.unique(first)) == {-1.0, 1.0}
        expected, n = 64 / 255, first.size
        assert abs((first == 1).mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
        assert (first != second).mean() > 0.2
        np.testing.assert_array_equal(first, self.streamed(batches, 0)[0]["image"])

    def test_held_out_pictures_are_binarized_once(self):
        grey = ImageData("grey", np.full((50, 8, 8, 1), 64, "uint8"))
        batches = Batches(grey, 20, training=False, binarize="dynamic")
        first, later = (self.streamed(batches, e)[1]["image"] for e in (0, 5))
        np.testing.assert_array_equal(first, later)

    def test_black_and_white_stay(self):
        images = np.stack([np.zeros((8, 8, 1)), np.full((8, 8, 1), 255)]).astype("uint8")
        for how in ("dynamic", "threshold", "none"):
            batch = self.streamed(Batches(ImageData("bw", images), 2, training=False, binarize=how), 0)
            assert (batch[0]["image"][0] == -1).all() and (batch[0]["image"][1] == 1).all()

    def test_larger_than_memory_is_mapped(self, monkeypatch):
        from keras_gen.data import arrays, batches

        monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", 1000)
        monkeypatch.setattr(batches, "IN_MEMORY_BYTES", 1000)
        splits = load("digits", image_size=16)
        assert isinstance(arrays.allocate((100, 100)), np.memmap)
        expected = load("digits", image_size=16).test.floats(slice(0, 4))
        got = self.streamed(Batches(splits.test, 4, training=False), 0)[0]["image"]
        np.testing.assert_allclose(got, expected, atol=1e-6)

    def test_refused(self):
        with pytest.raises(InputError, match="batch size of 1"):
            Batches(self.data(), 0, training=True)
        with pytest.raises(InputError, match="'sometimes'"):
            Batches(self.data(), 1, training=True, binarize="sometimes")
