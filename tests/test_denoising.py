"""The denoiser, the pictures it reads and writes, what it is measured by, and its app."""

import io

import keras
import numpy as np
import pytest
from calls import refused, run
from harness import check_model
from keras import ops
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio
from test_apps import copied

from keras_gen import classical, load_model
from keras_gen.autoencoders import Denoiser
from keras_gen.corruptions import Gaussian
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.metrics import psnr, ssim
from keras_gen.networks.unet import bias_free_unet, reach, stride
from keras_gen.pictures import Picture, read_picture, write_picture

WIDTHS = (6, 8, 10)


def denoiser(channels=1, widths=WIDTHS, blocks=1, sigma=(0.0, 0.22), **kwargs):
    return Denoiser(
        bias_free_unet(channels, widths, blocks),
        Gaussian(sigma),
        stride=stride(widths),
        reach=reach(widths, blocks),
        **kwargs,
    )


def noise(shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, shape).astype("float32")


class TestDenoiser:
    def test_check_model(self, tmp_path):
        check_model(
            lambda: denoiser(3, widths=(4, 6), grey_share=0.5, saturation=1.5),
            {"image": 2 * noise((8, 9, 7, 3)) - 1},
            tmp_path,
        )

    def test_the_network_is_homogeneous(self):
        network, x = denoiser(3).network, noise((1, 16, 12, 3)) - 0.5
        np.testing.assert_allclose(to_numpy(network(3 * x)), 3 * to_numpy(network(x)), rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize("blocks", [1, 2])
    def test_reach_is_half_the_receptive_field(self, blocks):
        model = denoiser(blocks=blocks)
        side = 2 * model.reach + 9
        picture = noise((side, side, 1))
        other = picture.copy()
        middle = model.reach + 4
        other[middle, middle] += 0.5
        changed = np.abs(model.denoise(other, 1000) - model.denoise(picture, 1000)).max(axis=-1) > 0
        rows, columns = np.nonzero(changed)
        distance = max(abs(rows - middle).max(), abs(columns - middle).max())
        assert model.reach - model.stride < distance <= model.reach

    @pytest.mark.parametrize("size", [pytest.param((75, 101), marks=pytest.mark.once), (16, 90), (33, 8)])
    def test_tiles_leave_no_seam(self, size):
        model, picture = denoiser(3), noise((*size, 3))
        np.testing.assert_allclose(model.denoise(picture, 16), model.denoise(picture, 1000), atol=1e-5)

    @pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3), (4, 4), (7, 9)])
    def test_any_size(self, size):
        made = denoiser(1).denoise(noise((*size, 1)))
        assert made.shape == (*size, 1) and made.min() >= 0 and made.max() <= 1

    def test_other_numbers_of_channels(self):
        grey, colour = noise((9, 9, 1)), noise((9, 9, 3))
        model = denoiser(3)
        expected = model.denoise(np.repeat(grey, 3, axis=-1)).mean(axis=-1, keepdims=True)
        np.testing.assert_allclose(model.denoise(grey), expected, atol=1e-6)
        single = denoiser(1)
        planes = [single.denoise(colour[..., i : i + 1]) for i in range(3)]
        np.testing.assert_allclose(single.denoise(colour), np.concatenate(planes, -1), atol=1e-6)

    def test_learns_to_denoise_at_levels_it_is_not_told(self, digits):
        model = denoiser(widths=(16, 24), blocks=1)
        model.compile(keras.optimizers.Adam(3e-3))
        model.fit({"image": digits.train.floats()}, batch_size=50, epochs=20, verbose=0)
        clean = (digits.test.floats(slice(0, 100)) + 1) / 2
        for sigma in (25 / 255, 50 / 255):
            noisy = clean + sigma * np.random.default_rng(1).normal(size=clean.shape).astype("float32")
            before = np.mean([psnr(c, n) for c, n in zip(clean, noisy, strict=True)])
            after = np.mean([psnr(c, model.denoise(n)) for c, n in zip(clean, noisy, strict=True)])
            assert after > before + 0.7

    def test_grey_pictures_are_grey_in_training(self):
        """Of colour pictures shown as grey, all channels carry the same noise."""
        seen = []

        class Watched(Denoiser):
            def loss_from_corrupted(self, clean, corrupted):
                seen.append((to_numpy(clean), to_numpy(corrupted)))
                return super().loss_from_corrupted(clean, corrupted)

        model = Watched(bias_free_unet(3, WIDTHS, 1), Gaussian(0.1), 4, 9, grey_share=0.5)
        model._loss({"image": ops.convert_to_tensor(2 * noise((64, 4, 4, 3)) - 1)}, True)
        clean, corrupted = seen[0]
        grey = np.ptp(clean, axis=-1).max(axis=(1, 2)) < 1e-6
        assert 16 < grey.sum() < 48
        assert np.ptp(corrupted[grey], axis=-1).max() < 1e-6
        assert np.ptp(corrupted[~grey], axis=-1).min() > 0

    def test_colours_are_moved_from_grey_in_training(self):
        """By a factor within the range, the same for a whole picture; its grey values stay."""
        seen = []

        class Watched(Denoiser):
            def loss_from_corrupted(self, clean, corrupted):
                seen.append(to_numpy(clean))
                return super().loss_from_corrupted(clean, corrupted)

        model = Watched(bias_free_unet(3, WIDTHS, 1), Gaussian(0.1), 4, 9, grey_share=0, saturation=3)
        images = 0.4 * noise((64, 4, 4, 3)) - 0.2  # times 3 still within the range
        model._loss({"image": ops.convert_to_tensor(images)}, True)
        mean, factor = images.mean(axis=-1), seen[0] - images.mean(axis=-1, keepdims=True)
        np.testing.assert_allclose(seen[0].mean(axis=-1), mean, atol=1e-6)
        factor = (factor / (images - mean[..., None])).reshape(64, -1)
        np.testing.assert_allclose(factor, np.median(factor, axis=1, keepdims=True).repeat(48, 1), rtol=1e-2)
        assert 1 / 3 <= np.median(factor, axis=1).min() < 0.5
        assert 2 < np.median(factor, axis=1).max() <= 3.01

    def test_refused(self):
        with pytest.raises(InputError, match="grey share"):
            denoiser(grey_share=2)
        with pytest.raises(InputError, match="saturation of 1"):
            denoiser(saturation=0.5)
        with pytest.raises(InputError, match="tile of 1"):
            denoiser().denoise(noise((4, 4, 1)), 0)
        network = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(3, 3)])
        with pytest.raises(InputError, match="same shape"):
            Denoiser(network, Gaussian(0.1), 1, 1)


@pytest.mark.once
class TestPictures:
    @pytest.mark.parametrize(
        ("mode", "channels", "alpha"),
        [("1", 1, 0), ("L", 1, 0), ("LA", 1, 1), ("P", 3, 0), ("RGB", 3, 0), ("RGBA", 3, 1), ("CMYK", 3, 0)],
    )
    def test_modes(self, mode, channels, alpha, tmp_path):
        original = Image.fromarray((noise((6, 5, 4)) * 255).astype("uint8"), "RGBA").convert("RGB")
        if mode == "RGBA":
            original.putalpha(77)
        elif mode == "LA":
            original = original.convert("L")
            original.putalpha(77)
        else:
            original = original.convert(mode)
        path = tmp_path / ("p.tif" if mode == "CMYK" else "p.png")
        original.save(path)
        picture = read_picture(path)
        assert picture.pixels.shape == (6, 5, channels) and picture.depth == 8
        assert (picture.alpha is not None) == bool(alpha)
        write_picture(picture, tmp_path / "q.png")
        again = read_picture(tmp_path / "q.png")
        np.testing.assert_array_equal(again.pixels, picture.pixels)
        if alpha:
            assert (again.alpha == 77).all()

    def test_sixteen_bits_of_grey(self, tmp_path):
        levels = (noise((6, 5)) * 65535).astype("uint16")
        for suffix in ("png", "tif"):
            Image.fromarray(levels).save(tmp_path / f"p.{suffix}")
            picture = read_picture(tmp_path / f"p.{suffix}")
            assert picture.depth == 16
            write_picture(picture, tmp_path / f"q.{suffix}")
            np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"q.{suffix}")), levels)

    @pytest.mark.parametrize("channels", [3, 4])
    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_sixteen_bits_of_colour(self, channels, suffix, tmp_path):
        cv2 = pytest.importorskip("cv2")
        levels = (noise((6, 5, channels)) * 65535).astype("uint16")
        assert cv2.imwrite(str(tmp_path / f"p.{suffix}"), levels)
        picture = read_picture(tmp_path / f"p.{suffix}")
        assert picture.depth == 16 and (picture.alpha is not None) == (channels == 4)
        np.testing.assert_allclose(picture.pixels[..., 0], levels[..., 2] / 65535, atol=1e-6)
        write_picture(picture, tmp_path / f"q.{suffix}")
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / f"q.{suffix}"), -1), levels)

    def test_sixteen_bits_of_colour_without_opencv(self, tmp_path, monkeypatch):
        import importlib.util

        png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x10\x02\x00\x00\x00"
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "cv2" else real(n, *a))
        # the header alone: 1 x 1, 16 bits, RGB
        import zlib

        body = zlib.compress(b"\x00" + bytes(6))
        chunk = len(body).to_bytes(4, "big") + b"IDAT" + body + zlib.crc32(b"IDAT" + body).to_bytes(4, "big")
        end = b"\x00\x00\x00\x00IEND\xaeB`\x82"
        (tmp_path / "p.png").write_bytes(png + zlib.crc32(png[12:]).to_bytes(4, "big") + chunk + end)
        with pytest.raises(InputError, match="OpenCV"):
            read_picture(tmp_path / "p.png")

    def test_turned_by_its_camera(self, tmp_path):
        exif = Image.Exif()
        exif[274] = 6
        Image.new("RGB", (8, 4), "red").save(tmp_path / "p.jpg", exif=exif)
        assert read_picture(tmp_path / "p.jpg").pixels.shape == (8, 4, 3)

    def test_refused(self, tmp_path):
        frames = [Image.new("L", (4, 4), c) for c in (0, 255)]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match="2 frames"):
            read_picture(tmp_path / "a.gif")
        Image.fromarray(noise((4, 4))).save(tmp_path / "f.tif")
        with pytest.raises(InputError, match="floating point"):
            read_picture(tmp_path / "f.tif")
        buffer = io.BytesIO()
        Image.fromarray((noise((64, 64)) * 255).astype("uint8")).save(buffer, "PNG")
        (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:200])
        with pytest.raises(InputError, match="cannot be decoded"):
            read_picture(tmp_path / "cut.png")
        with pytest.raises(InputError, match="existing picture"):
            read_picture(tmp_path / "none.png")
        grey = noise((4, 4, 1))
        with pytest.raises(InputError, match="transparency"):
            write_picture(Picture(grey, np.zeros((4, 4), "uint8")), tmp_path / "p.jpg")
        with pytest.raises(InputError, match="16 bits"):
            write_picture(Picture(grey, depth=16), tmp_path / "p.webp")
        with pytest.raises(InputError, match="file to write"):
            write_picture(Picture(grey), tmp_path / "p.xyz")
        assert not list(tmp_path.glob("*part*"))


@pytest.mark.once
class TestClassical:
    def test_psnr(self):
        clean, estimate = noise((8, 8, 3)), noise((8, 8, 3), 1)
        expected = peak_signal_noise_ratio(clean, estimate, data_range=1)
        assert psnr(clean, estimate) == pytest.approx(expected, abs=1e-4)
        assert psnr(clean, clean) == float("inf")
        assert psnr(np.zeros((4, 4, 1)), np.full((4, 4, 1), -5.0)) == float("inf"), "clipped"
        with pytest.raises(ValueError, match="one shape"):
            psnr(clean, estimate[..., 0])

    def test_ssim(self):
        clean = noise((16, 16, 1))
        assert ssim(clean, clean) == pytest.approx(1)
        assert ssim(clean, 1 - clean) < 0
        assert np.isnan(ssim(clean[:5], clean[:5]))

    @pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (10, 32, 3)])
    @pytest.mark.parametrize("name", list(classical.METHODS))
    def test_every_method_gains_on_a_smooth_picture(self, name, shape):
        if classical.available()[name]:
            pytest.skip(classical.available()[name])
        rng = np.random.default_rng(0)
        clean = gaussian_filter(rng.normal(size=(2, *shape)), (0, 6, 6, 0), mode="nearest")
        clean = ((clean - clean.min()) / np.ptp(clean)).astype("float32")
        noisy = clean + 0.1 * rng.normal(size=clean.shape).astype("float32")
        denoise, _ = classical.tuned(name, 0.1, clean[:1], noisy[:1])
        made = denoise(noisy[1])
        assert made.shape == shape
        assert psnr(clean[1], made) > psnr(clean[1], noisy[1]) + 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("denoise") / "run"
    done = run(
        "apps.denoise", "--out", out, "--epochs", 2, "--limit", 100, "--widths", 4, 6, "--blocks", 1,
        "--measure", 2, "--batch-size", 20,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out, done


class TestApp:
    def test_leaves_what_it_promises(self, finished):
        out, done = finished
        for name in ("curves.png", "denoised.png", "methods.png", "model.keras", "card.json"):
            assert (out / name).exists()
        for method in ("noisy", "median", "total variation", "this model"):
            assert done.stdout.count(f"/255  {method}") == 3

    def test_one_picture_and_a_folder(self, finished, tmp_path, here):
        out, _ = finished
        folder = tmp_path / "noisy"
        folder.mkdir()
        Image.fromarray((noise((13, 17, 3)) * 255).astype("uint8")).save(folder / "a.png")
        Image.fromarray((noise((3, 2)) * 255).astype("uint8")).save(folder / "a.jpg")
        Image.fromarray((noise((9, 9, 4)) * 255).astype("uint8")).save(folder / "b.png")
        (folder / "c.png").write_text("no picture")
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        done = here("apps.denoise", "run", folder / "b.png", "--run", out, "-o", tmp_path / "clean.png")
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / "clean.png") as made, Image.open(folder / "b.png") as given:
            assert made.mode == "RGBA" and made.size == (9, 9)
            np.testing.assert_array_equal(np.asarray(made)[..., 3], np.asarray(given)[..., 3])
        done = here("apps.denoise", "run", folder, "--run", out, "-o", tmp_path / "clean")
        assert done.returncode == 0, done.stderr
        assert "c.png, which cannot be decoded" in done.stdout
        made = sorted(p.name for p in (tmp_path / "clean").iterdir())
        assert made == ["a.jpg.png", "a.png.png", "b.png"]
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == before

    @pytest.mark.once
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["run", "none.png"], "existing picture or folder"),
            (["run", "empty"], "which has none"),
            (["run", "a.png", "-o", "a.jpg"], "keeps transparency"),
            (["run", "a.png", "-o", "a.png"], "over the given"),
            (["run", "a.png", "b.png", "-o", "x.png"], "a folder for 2"),
            (["run", "a.png", "--tile", 0], "tile of 1"),
            (["train", "--noise", "fog:1"], "Expected corruptions"),
            (["measure", "--levels", -1], "positive noise"),
            (["measure"], "--data or a --run"),
        ],
    )
    def test_refused(self, arguments, message, tmp_path, monkeypatch, here):
        Image.fromarray((noise((9, 9, 4)) * 255).astype("uint8")).save(tmp_path / "a.png")
        Image.fromarray((noise((9, 9)) * 255).astype("uint8")).save(tmp_path / "b.png")
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path)
        assert message in refused(here("apps.denoise", *arguments))

    @pytest.mark.once
    def test_measures_on_the_run_s_own_data(self, finished, here):
        done = here("apps.denoise", "measure", "--run", finished[0], "--levels", 40, "--n", 3)
        assert done.returncode == 0, done.stderr
        assert "means over 3 held-out pictures" in done.stdout and "40/255  this model" in done.stdout

    @pytest.mark.once
    def test_starts_from_another_run(self, finished, tmp_path, here):
        """At a learning rate of nothing the weights stay those that it started with."""
        out, flags = tmp_path / "tuned", ["--measure", 0, "--no-export", "--learning-rate", 1e-12]
        done = here("apps.denoise", "train", "--start", finished[0], "--epochs", 1, *flags, "--out", out)
        assert done.returncode == 0, done.stderr
        before, after = (load_model(path / "model.keras") for path in (finished[0], out))
        for old, new in zip(before.get_weights(), after.get_weights(), strict=True):
            np.testing.assert_allclose(new, old, atol=1e-6)
        assert (after.stride, after.reach) == (before.stride, before.reach)
        assert (out / "start.keras").exists()  # so that the run resumes wherever the other one goes
        line = refused(here("apps.denoise", "train", "--start", "shipped", "--out", tmp_path / "grey"))
        assert "for pictures of 1 channels. Received: shipped, for 3" in line

    @pytest.mark.once
    def test_resumes(self, finished, tmp_path, here):
        out = copied(finished[0], tmp_path / "again")
        done = here("apps.denoise", "--resume", out, "--epochs", 3)
        assert done.returncode == 0, done.stderr
        assert len((out / "metrics.csv").read_text().splitlines()) == 4
