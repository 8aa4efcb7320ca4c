"""Stable Diffusion through keras-cv: its own networks of full size, with random weights."""

import gzip
import importlib.util

import keras
import numpy as np
import pytest
from calls import refused

from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.latent.stable_diffusion import LENGTH, stable_diffusion

HERE = importlib.util.find_spec("keras_cv") is not None and importlib.util.find_spec("tensorflow") is not None
needed = pytest.mark.skipif(not HERE, reason="keras-cv is not installed")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """CLIP's file has a line of its version, then a merge a line."""
    path = tmp_path_factory.mktemp("clip") / "vocabulary.txt.gz"
    path.write_bytes(gzip.compress(b"#version: 0.2\nc a\nca t</w>"))
    return str(path)


@pytest.fixture(scope="module")
def model(vocabulary):
    return stable_diffusion(128, trained=False, vocabulary=vocabulary)


@pytest.mark.skipif(HERE, reason="keras-cv is installed")
def test_without_keras_cv(here):
    with pytest.raises(InputError, match="Expected keras-cv and TensorFlow.*keras-cv"):
        stable_diffusion()
    line = refused(here("apps.text_to_image", "a cat", "--model", "stable-diffusion"))
    assert "keras-cv" in line and "pip install" in line


def test_another_size():
    with pytest.raises(InputError, match="128 divides.*Received: 100"):
        stable_diffusion(100)


@needed
class TestParts:
    def test_tokens(self, model):
        tokens = model.tokenizer(["a cat", "cat " * 100, ""])
        cat = tokens[0, 1]
        assert tokens.shape == (3, LENGTH - 2) and (tokens[0, 2:] == 0).all() and cat > 0
        assert (tokens[1] == cat).all() and not tokens[2].any()
        assert model.tokenizer.count("cat " * 100) == 100

    def test_tokens_are_theirs(self, model, vocabulary):
        from keras_cv.models.stable_diffusion import SimpleTokenizer

        theirs = SimpleTokenizer(vocabulary)
        for text in ("a cat", "it's 42 CATS!!", "été 漢字 🙂", "²½ x²"):
            wanted = [1 + piece for piece in theirs.encode(text)[1:-1]]
            (found,) = model.tokenizer([text])
            assert found[: len(wanted)].tolist() == wanted and not found[len(wanted) :].any(), text

    def test_the_text_encoder_sees_the_marks(self, model):
        """Zeros are the empty text: its start, then its end at every place."""
        pieces, theirs = model.tokenizer.vocabulary, _layer(model.diffusion.text, "TextEncoder")
        marked = np.full((1, LENGTH), pieces.index("<|endoftext|>"), "int32")
        marked[0, 0] = pieces.index("<|startoftext|>")
        wanted = theirs([marked, np.arange(LENGTH, dtype="int32")[None]])
        found, mask = model.diffusion.text(np.zeros((1, LENGTH - 2), "int32"))
        assert np.allclose(to_numpy(found), to_numpy(wanted), atol=1e-6) and to_numpy(mask).all()

    def test_the_denoiser_gets_their_time(self, model):
        """Compared with the embedding that they make of a step."""
        from keras_cv.models import StableDiffusion

        theirs = _layer(model.diffusion.network, "DiffusionModel")
        latents, context = np.random.default_rng(0).normal(size=(1, 16, 16, 4)), np.zeros((1, LENGTH, 768))
        embedded = to_numpy(StableDiffusion(128, 128)._get_timestep_embedding(400, 1))
        wanted = to_numpy(theirs([latents.astype("float32"), embedded, context.astype("float32")]))
        time = to_numpy(model.diffusion.schedule.network_time(np.array([400])))
        given = [latents.astype("float32"), time, context.astype("float32"), np.ones((1, LENGTH), "float32")]
        found = to_numpy(model.diffusion.network(given))
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()

    def test_the_schedule_is_theirs(self, model):
        from keras_cv.src.models.stable_diffusion.constants import _ALPHAS_CUMPROD

        points = model.diffusion.schedule.at(np.arange(1000))
        assert np.allclose(to_numpy(points.alpha) ** 2, _ALPHAS_CUMPROD, atol=2e-6)


@needed
class TestPictures:
    def test_drawn(self, model):
        both = [to_numpy(model.generate(["a cat"], seed=s, steps=2, sampler="ddim")) for s in (1, 1)]
        assert both[0].shape == (1, 128, 128, 3) and np.isfinite(both[0]).all() and both[0].std() > 0.01
        assert np.array_equal(*both)

    def test_drawn_anew_in_part(self, model):
        init, mask = np.zeros((1, 128, 128, 3), "float32"), np.zeros((1, 128, 128, 1), "float32")
        mask[:, :64] = 1
        made = model.generate(["a cat"], seed=1, steps=1, init=init, mask=mask)
        assert not made[:, 64:].any() and made[:, :64].std() > 0.01


@needed
class TestFetching:
    """What keras-cv fetches is stood in for by files of the same form, or by a network that is not there."""

    def test_weights_of_a_file(self, monkeypatch, tmp_path):
        import h5py
        from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
        from keras_cv.models.stable_diffusion import Decoder

        saved, file = Decoder(128, 128, download_weights=False), tmp_path / "decoder.h5"
        with h5py.File(file, "w") as group:
            save_weights_to_hdf5_group(group, saved)
        monkeypatch.setattr(keras.utils, "get_file", lambda *args, **kwargs: str(file))
        fetched = Decoder(128, 128)
        latents = np.random.default_rng(0).normal(size=(1, 16, 16, 4)).astype("float32")
        assert np.array_equal(to_numpy(fetched(latents)), to_numpy(saved(latents)))

    def test_no_network(self, monkeypatch):
        def away(*args, origin=None, **kwargs):
            raise Exception(f"URL fetch failure on {origin}: None -- [Errno -2] Name or service not known")

        monkeypatch.setattr(keras.utils, "get_file", away)
        with pytest.raises(InputError, match="Expected Stable Diffusion's vocabulary.*Name or service"):
            stable_diffusion()


def _layer(network, kind: str):
    return next(layer for layer in network.layers if type(layer).__name__ == kind)
