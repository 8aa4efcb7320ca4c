"""What is done to data on purpose, on every backend, against Pillow, SciPy and closed forms."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

from keras_gen import corruptions
from keras_gen.corruptions import (
    Blur,
    Chain,
    Downsampling,
    Dropout,
    Edges,
    Gaussian,
    Grey,
    Jpeg,
    Masking,
    Mirror,
    SaltAndPepper,
    corrupted,
)
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError


def generator(seed=0):
    return keras.random.SeedGenerator(seed)


ALL = [
    Gaussian(0.1),
    Gaussian((0.0, 0.2)),
    Masking(0.5),
    Dropout(0.5),
    SaltAndPepper(0.3),
    Blur(1.0),
    Blur((0.5, 2.0)),
    Downsampling(2),
    Jpeg(30),
    Jpeg((10, 90)),
    Mirror(0.5),
    Edges(),
    Blur(1.0) | Gaussian(0.1) | Jpeg(50),
]


@pytest.fixture(scope="module")
def photos():
    """Smooth colour pictures with edges and a little noise, 20 x 27: no multiple of anything."""
    grain = np.random.default_rng(0).normal(size=(4, 20, 27, 3)) * 0.03
    y, x = np.mgrid[0:20, 0:27] / 27.0
    smooth = [[np.sin(3 * x + i), np.cos(4 * y - i), np.sin(2 * x * y + i)] for i in range(4)]
    edge = [np.sign(x + y - 0.3 * i)[..., None] for i in range(4)]
    pictures = 0.6 * np.moveaxis(np.array(smooth), 1, -1) + 0.4 * np.array(edge)
    return np.round((0.8 * pictures + grain + 1) * 127.5).astype("uint8")


class TestCorruptions:
    @pytest.mark.parametrize("corruption", ALL, ids=repr)
    @pytest.mark.parametrize("channels", [1, 3])
    def test_shape_seed_and_config(self, corruption, channels, photos):
        images = photos[..., :channels].astype("float32") / 127.5 - 1
        once = to_numpy(corruption(images, generator(3)))
        assert once.shape == images.shape and np.isfinite(once).all()
        assert not np.array_equal(once, images)
        assert corruption.get_config()
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(corruption))
        np.testing.assert_array_equal(to_numpy(again(images, generator(3))), once)
        np.testing.assert_array_equal(to_numpy(corruption.at(images, 5)), to_numpy(corruption.at(images, 5)))

    def test_gaussian_has_its_sigma(self):
        zeros = np.zeros((200, 16, 16, 1), "float32")
        noise = to_numpy(Gaussian(25 / 255)(zeros, generator())) * 127.5
        assert noise.std() == pytest.approx(25, rel=0.02) and abs(noise.mean()) < 0.5
        blind = to_numpy(Gaussian((0.0, 0.2))(zeros, generator())) / 2
        levels = blind.reshape(200, -1).std(axis=1)
        assert levels.min() < 0.02 and levels.max() > 0.18
        assert levels.mean() == pytest.approx(0.1, rel=0.15)

    def test_mirror(self):
        """Whole pictures, left for right, as many as asked for."""
        images = np.random.default_rng(0).uniform(-1, 1, (200, 3, 5, 1)).astype("float32")
        turned = to_numpy(Mirror(0.3)(images, generator()))
        flipped = (turned == images[:, :, ::-1]).all(axis=(1, 2, 3))
        same = (turned == images).all(axis=(1, 2, 3))
        assert (flipped ^ same).all() and flipped.mean() == pytest.approx(0.3, abs=0.1)
        with pytest.raises(InputError, match="expected pictures"):
            Mirror()(np.zeros((2, 3), "float32"), generator())

    def test_grey(self, photos):
        """As Pillow's, in part or in whole."""
        images = photos.astype("float32") / 127.5 - 1
        expected = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in photos]) / 127.5 - 1
        found = to_numpy(Grey()(images, generator()))
        assert np.ptp(found, axis=-1).max() < 1e-6
        np.testing.assert_allclose(found[..., 0], expected, atol=0.006)
        half = to_numpy(Grey(0.5)(images, generator()))
        np.testing.assert_allclose(half, (images + found) / 2, atol=1e-6)
        np.testing.assert_allclose(to_numpy(Grey()(images[..., :1], generator())), images[..., :1], atol=1e-6)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(Grey((0.0, 1.0))))
        assert copy == Grey((0.0, 1.0))

    def test_edges(self):
        """As SciPy's Sobel operator, black from the given slope on; a flat picture stays white."""
        from scipy.ndimage import sobel

        picture = np.random.default_rng(0).uniform(-1, 1, (9, 7)).astype("float32")
        unit = (picture + 1) / 2
        slope = np.hypot(sobel(unit, 0, mode="nearest"), sobel(unit, 1, mode="nearest"))
        found = to_numpy(Edges(2.0)(picture[None, ..., None], generator()))[0, ..., 0]
        np.testing.assert_allclose(found, 1 - 2 * np.minimum(slope / 2, 1), atol=1e-5)
        assert to_numpy(Edges()(np.full((1, 5, 5, 3), 0.3, "float32"), generator())).min() > 0.99

    def test_masking_and_dropout(self):
        images = np.full((50, 16, 16, 3), 0.5, "float32")
        masked = to_numpy(Masking(0.3)(images, generator()))
        assert (masked == -1).mean() == pytest.approx(0.3, abs=0.02)
        assert set(np.unique(masked)) == {-1.0, 0.5}
        assert (masked.min(axis=-1) == masked.max(axis=-1)).all(), "all channels of a pixel together"
        dropped = to_numpy(Dropout(0.3)(images, generator()))
        assert dropped.mean() == pytest.approx(0.5, abs=0.03)

    def test_salt_and_pepper(self):
        images = np.zeros((50, 16, 16, 3), "float32")
        corrupt = to_numpy(SaltAndPepper(0.4)(images, generator()))
        assert (corrupt == 1).mean() == pytest.approx(0.2, abs=0.02)
        assert (corrupt == -1).mean() == pytest.approx(0.2, abs=0.02)

    def test_blur_is_scipys(self, photos):
        from scipy.ndimage import gaussian_filter

        images = photos.astype("float32") / 127.5 - 1
        expected = np.stack([gaussian_filter(p, (1.5, 1.5, 0), mode="nearest", truncate=4.0) for p in images])
        np.testing.assert_allclose(to_numpy(Blur(1.5)(images, generator())), expected, atol=1e-5)

    def test_downsampling_is_a_mean(self):
        image = np.arange(16, dtype="float32").reshape(1, 4, 4, 1) / 16
        coarse = to_numpy(Downsampling(2)(image, generator()))[0, ..., 0]
        assert coarse[0, 0] == coarse[1, 1] == pytest.approx(image[0, :2, :2].mean())
        assert np.unique(coarse).size == 4

    @pytest.mark.parametrize("quality", [10, 50, 90])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_jpeg_is_the_files(self, quality, channels, photos):
        levels = photos[..., :channels]
        ours = np.round(
            (to_numpy(Jpeg(quality)(levels.astype("float32") / 127.5 - 1, generator())) + 1) * 127.5
        )
        for picture, mine in zip(levels, ours, strict=True):
            file = io.BytesIO()
            flat = picture[..., 0] if channels == 1 else picture
            Image.fromarray(flat).save(file, "JPEG", quality=quality)
            theirs = np.asarray(Image.open(file), "float32").reshape(picture.shape)
            lost = np.abs(theirs - picture).mean()
            # libjpeg interpolates colour between its coarse samples; grey must agree to rounding
            assert np.abs(mine - theirs).mean() < (0.6 if channels == 1 else 0.5 * lost + 1)

    def test_pictures_are_required(self):
        for corruption in (Blur(1.0), Jpeg(50), Downsampling(2)):
            with pytest.raises(InputError, match="expected pictures"):
                corruption(np.zeros((2, 5), "float32"), generator())

    def test_parse(self):
        assert corruptions.parse("gaussian:0.2") == Gaussian(0.2)
        assert corruptions.parse("blur:1+jpeg:30-60") == Chain([Blur(1.0), Jpeg((30.0, 60.0))])

    @pytest.mark.parametrize(
        "text", ["", "fog:1", "gaussian", "gaussian:a", "masking:2", "jpeg:0", "blur:3-1"]
    )
    def test_parse_refuses(self, text):
        with pytest.raises(InputError):
            corruptions.parse(text)

    def test_serves_tf_data(self, photos):
        tf = pytest.importorskip("tensorflow")
        images = photos.astype("float32") / 127.5 - 1
        clean = tf.data.Dataset.from_tensor_slices(images).batch(2)
        pairs = list(corrupted(clean, Blur(1.0) | Gaussian(0.1), seed=1).as_numpy_iterator())
        again = list(corrupted(clean, Blur(1.0) | Gaussian(0.1), seed=1).as_numpy_iterator())
        assert len(pairs) == 2
        for i, ((noisy, target), (same, _)) in enumerate(zip(pairs, again, strict=True)):
            np.testing.assert_array_equal(target, images[2 * i : 2 * i + 2])
            np.testing.assert_array_equal(noisy, same)
            assert not np.allclose(noisy, target)
        difference = pairs[0][0] - to_numpy(Blur(1.0)(images[:2], generator()))
        assert difference.std() == pytest.approx(0.2, rel=0.1)
