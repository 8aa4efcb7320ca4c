"""CLIP's text encoder through keras-hub: its own classes, small, with random weights, from a folder."""

import importlib.util
import json
import zipfile

import numpy as np
import pytest
from calls import refused
from harness import asked, red_and_blue, serve

from keras_gen import load_model
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.export import can_export
from keras_gen.latent import ClipVectors, PieceTokenizer, load_clip
from keras_gen.latent.pieces import END, START, letters

HERE = importlib.util.find_spec("keras_hub") is not None
needed = pytest.mark.skipif(not HERE, reason="keras-hub is not installed: tox -e pretrained")

MERGES = ("r e", "re d</w>", "c a", "ca t</w>", "t h", "th e</w>", "e r", "i n", "in g</w>", "Ã ©")
PIECES = (
    *letters(),
    *(f"{sign}</w>" for sign in letters()),
    *(merge.replace(" ", "") for merge in MERGES),
    START,
    END,
)
TEXTS = [
    "a red cat",
    "",
    "  Two\tSPACES\n",
    "it's we'll 42 cats!!",
    "été größe 漢字 κύκλος 🙂🙂",
    "e\u0301te\u0301",
    "²½ Ⅷ x²",
    "a\u00a0b\u2028c\x0bd\x85e",
    "rererered cacat the thering ering",
    "....,,,---'s 'sx 'tis",
    "the cat " * 40,
]


@pytest.fixture
def tokenizer() -> PieceTokenizer:
    return PieceTokenizer(PIECES, MERGES, 20)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A CLIP of 2 blocks and 16 channels, saved as keras-hub saves those that can be fetched."""
    import keras_hub

    sizes = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "intermediate_dim": 32}
    text = keras_hub.models.CLIPTextEncoder(len(PIECES), 16, **sizes, max_sequence_length=12)
    image = keras_hub.models.CLIPVisionEncoder(patch_size=4, image_shape=(8, 8, 3), **sizes)
    folder = tmp_path_factory.mktemp("preset") / "small"
    keras_hub.models.CLIPBackbone(image, text, 8).save_to_preset(folder)
    _theirs().save_to_preset(folder)
    return str(folder)


def _theirs():
    import keras_hub

    return keras_hub.models.CLIPTokenizer({piece: i for i, piece in enumerate(PIECES)}, list(MERGES))


class TestPieceTokenizer:
    @needed
    def test_as_keras_hub_has_it(self, tokenizer):
        for text, wanted in zip(TEXTS, _theirs()(TEXTS), strict=True):
            (found,) = tokenizer([text])
            wanted = [1 + int(piece) for piece in wanted][:20]
            assert found.tolist() == [*wanted, *[0] * (20 - len(wanted))], text

    @needed
    @pytest.mark.skipif(not can_export(), reason="TensorFlow is not installed")
    def test_the_same_in_a_graph(self, tokenizer):
        """The decomposed é is another text to it: TensorFlow does not compose."""
        import tensorflow as tf

        texts = [text for text in TEXTS if "\u0301" not in text]
        graph = tf.function(tokenizer.in_graph, input_signature=[tf.TensorSpec([None], tf.string)])
        assert np.array_equal(graph(tf.constant(texts)), tokenizer(texts))
        assert not graph(tf.constant([""])).numpy().any()

    @needed
    def test_places(self, tokenizer):
        assert tokenizer.fitted(["red cat", "a red cat"]).length == 3
        assert tokenizer.fitted(["cat " * 50]).length == 20
        assert tokenizer.count("a red cat") == 3 and tokenizer.unknown("xyzzy") == []
        assert PieceTokenizer.from_config(tokenizer.get_config()) == tokenizer

    def test_refused(self):
        with pytest.raises(InputError, match="bytes.*Received: no zq"):
            PieceTokenizer(PIECES, ["z q"])
        with pytest.raises(InputError, match="length of 1 or more"):
            PieceTokenizer(PIECES, MERGES, 0)


@needed
class TestVectors:
    def test_are_clips(self, preset):
        tokenizer, network = load_clip(preset)
        assert tokenizer.length == 10 and tokenizer.merges == MERGES
        vectors = ClipVectors(network, *tokenizer.marks)
        found, mask = map(to_numpy, vectors(tokenizer.fitted(["a red cat"])(["a cat", "", "a red cat"])))
        a, red, cat = (PIECES.index(f"{word}</w>") for word in ("a", "red", "cat"))
        start, end = PIECES.index(START), PIECES.index(END)
        marked = np.array([[start, a, cat, end, end], [start, *[end] * 4], [start, a, red, cat, end]])
        assert np.allclose(found, to_numpy(network({"token_ids": marked})), atol=1e-6)
        assert mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
        assert not vectors.trainable_variables

    def test_empty_places_change_nothing(self, preset):
        from keras_gen.networks import text_encoder

        tokenizer, network = load_clip(preset)
        sizes = {"dim": 8, "blocks": 1, "heads": 2, "layout": (2, 2, 4)}
        made = (ClipVectors(network, *tokenizer.marks) for _ in range(2))
        read = [text_encoder(2, places, **sizes, vectors=v) for places, v in zip((10, 2), made, strict=True)]
        read[1].set_weights(read[0].get_weights())
        many, few = (encoder(tokenizer(["a cat"])[:, : encoder.input_shape[1]]) for encoder in read)
        assert np.allclose(to_numpy(many[0])[:, :4], to_numpy(few[0]), atol=1e-5)
        assert np.allclose(to_numpy(many[2]), to_numpy(few[2]), atol=1e-5)

    def test_no_preset(self, tmp_path, monkeypatch):
        with pytest.raises(InputError, match=r"folder with a CLIP preset.*clip_vit_base_patch32.*nowhere"):
            load_clip("nowhere")
        with pytest.raises(InputError, match=f"Received: {tmp_path}"):
            load_clip(str(tmp_path))

        def away(*args, **kwargs):
            raise ConnectionError("Name or service not known\nand more")

        monkeypatch.setattr("keras_hub.src.utils.preset_utils.get_file", away)
        with pytest.raises(InputError, match=r"ConnectionError: Name or service not known\)\. Try again"):
            load_clip()


@pytest.mark.skipif(HERE, reason="keras-hub is installed")
def test_without_keras_hub(here, tmp_path):
    line = refused(here("apps.text_to_image", "train", "--text-encoder", "clip", "--out", tmp_path / "run"))
    assert "keras-hub" in line and "pip install" in line and not (tmp_path / "run").exists()
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        part = {"module": "keras_hub.src.models", "class_name": "CLIPTextEncoder", "config": {}}
        file.writestr("config.json", json.dumps({**part, "registered_name": "keras_hub>CLIPTextEncoder"}))
    with pytest.raises(InputError, match="Expected keras-hub.*pip install"):
        load_model(tmp_path / "model.keras")


@needed
def test_a_run(preset, here, tmp_path):
    """Trained, drawn, served: CLIP's part as it was."""
    folder = tmp_path / "pictures"
    lines = red_and_blue(folder, 24)
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    small = "--width 8 --blocks 1 --multipliers 1 --text-dim 8 --text-blocks 1 --steps 2 --epochs 1"
    small += " --text-epochs 1 --autoencoder-width 8 --autoencoder-epochs 1 --batch-size 8 --image-size 16"
    flags = ["--data", folder, *small.split(), "--text-encoder", preset, "--out", tmp_path / "run"]
    done = here("apps.text_to_image", "train", *flags)
    assert done.returncode == 0, done.stderr
    assert "524 pieces of words" in done.stdout
    model = load_model(tmp_path / "run" / "model.keras")
    assert model.diffusion.text_average.get_layer("clip") is model.diffusion.text.get_layer("clip")
    assert not model.diffusion.text.get_layer("clip").trainable_variables
    kept = model.diffusion.text.get_layer("clip").get_weights()
    theirs = load_clip(preset)[1].get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(kept, theirs, strict=True))
    done = here("apps.text_to_image", "a xyzzy cat", "--run", tmp_path / "run", "-o", tmp_path / "a.png")
    assert done.returncode == 0 and (tmp_path / "a.png").exists(), done.stderr
    if can_export():
        from keras_gen.images import to_uint8

        prompts = ["a red cat", "etwas größer"]
        made = to_numpy(to_uint8(model.generate(prompts, seed=5, steps=2, guidance=3.0)))
        given = asked(prompts, seed=5, steps=2, guidance=3.0)
        served = serve(tmp_path / "run" / "savedmodel", given, tmp_path)["generate"]
        assert np.abs(served.astype(int) - made).max() <= 1
