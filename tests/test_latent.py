"""Latent diffusion: the first stage, the text encoder, and pictures by text, from training to SavedModel."""

import functools
import json

import keras
import make_golden
import numpy as np
import pytest
from harness import CARD, asked, check_model, serve
from keras import ops

from keras_gen import load_model
from keras_gen.data import ImageData
from keras_gen.diffusion import Diffusion
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.export import can_export, export_file
from keras_gen.latent import (
    LatentAutoencoder,
    TextMean,
    TextToImage,
    WordTokenizer,
    feature_distance,
    words_of,
)
from keras_gen.layers import DirectedMask, one_caption
from keras_gen.networks import (
    latent_decoder,
    latent_encoder,
    layout_head,
    patch_discriminator,
    text_encoder,
    time_unet,
)

SHAPE = (16, 16, 3)
LAYOUT = (4, 4, 8)
TEXTS = ("a small red circle", "a large blue ring left of a square")


def first_stage(**more) -> LatentAutoencoder:
    sizes = {"channels": 2, "width": 8, "multipliers": (1, 2)}
    return LatentAutoencoder(latent_encoder(SHAPE, **sizes), latent_decoder(SHAPE, **sizes), **more)


def denoiser(tokenizer: WordTokenizer, shape=(8, 8, 2), **more) -> Diffusion:
    text = text_encoder(len(tokenizer.vocabulary) + 1, tokenizer.length, 16, 1, 2, layout=LAYOUT)
    network = time_unet(shape, None, 16, (1,), 1, (8,), context=(1 + tokenizer.length, 16), layout=LAYOUT)
    given = {"schedule": "cosine", "prediction": "v", "clip": False, "steps": 4, "guidance": 2.0} | more
    return Diffusion(network, text=text, **given)


@functools.cache
def pictures() -> np.ndarray:
    """Smooth random pictures in [-1, 1]."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(-1, 1, (32, 4, 4, 3)).astype("float32")
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)


@functools.cache
def tokenizer() -> WordTokenizer:
    return WordTokenizer.learned(TEXTS)


@functools.cache
def pipeline() -> TextToImage:
    """Trained a little: no weight is zero any more."""
    keras.utils.set_random_seed(0)
    stage = first_stage()
    stage.compile(keras.optimizers.Adam(3e-3))
    stage.fit({"image": pictures()}, batch_size=8, epochs=25, verbose=0)
    latents = stage.measure(ImageData("noise", (pictures() + 1) / 2))
    model = denoiser(tokenizer())
    model.compile(keras.optimizers.Adam(3e-3))
    tokens = tokenizer()(TEXTS * 16)
    model.fit({"image": latents, "label": np.stack([tokens, tokens], axis=1)}, epochs=20, verbose=0)
    return TextToImage(model, tokenizer(), stage)


def test_the_same_on_every_backend():
    golden = json.loads((make_golden.GOLDEN / "losses.json").read_text())["latent"]
    found = make_golden.latent_results()
    assert set(found) == set(golden)
    for key, values in golden.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-4, atol=1e-4, err_msg=key)


# --- first stage --------------------------------------------------------------------------------


class TestFirstStage:
    def test_life(self, tmp_path):
        check_model(first_stage, {"image": pictures()[:16]}, tmp_path, steps=3)

    @pytest.mark.once
    def test_life_with_a_discriminator_and_features(self, tmp_path):
        image = keras.Input(SHAPE)
        near = keras.layers.Conv2D(4, 3, activation="relu")(image)
        features = keras.Model(image, [near, keras.layers.Conv2D(4, 3)(near)])

        def make():
            copy = keras.models.clone_model(features)
            critic = patch_discriminator(SHAPE, None, 8)
            # under the hinge, the bias of a critic that is unsure of everything has no slope
            return first_stage(discriminator=critic, features=copy, loss="non-saturating")

        check_model(make, {"image": pictures()[:16]}, tmp_path, steps=3, export=False)
        stage = make()
        stage.scale.assign([2.0, 3.0])
        lean = stage.for_use()
        assert lean.discriminator is None and lean.features is None
        some = pictures()[:2]
        np.testing.assert_allclose(to_numpy(lean.encode(some)), to_numpy(stage.encode(some)), atol=1e-5)

    def test_it_learns(self):
        stage = pipeline().autoencoder
        error = np.abs(to_numpy(stage(pictures())) - pictures()).mean()
        assert error < 0.25, "a grey picture's is .5"

    def test_latents_are_measured_and_undone(self):
        stage = pipeline().autoencoder
        latents = to_numpy(stage.encode(pictures()))
        np.testing.assert_allclose(latents.mean(axis=(0, 1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(latents.std(axis=(0, 1, 2)), 1, atol=1e-4)
        np.testing.assert_allclose(to_numpy(stage.decode(latents)), to_numpy(stage(pictures())), atol=1e-5)
        again = stage.measure(ImageData("noise", (pictures() + 1) / 2))
        np.testing.assert_allclose(again, latents, atol=1e-5)

    @pytest.mark.once
    def test_a_channel_without_variance_is_refused(self):
        stage = first_stage()
        for variable in stage.encoder.layers[-1].weights:
            variable.assign(ops.zeros_like(variable))
        with pytest.raises(InputError, match="vary in every channel"):
            stage.measure(ImageData("noise", (pictures() + 1) / 2))

    @pytest.mark.once
    def test_the_divergence_by_hand(self):
        stage = first_stage(kl=0.5)
        kernel, bias = stage.encoder.layers[-1].weights
        kernel.assign(ops.zeros_like(kernel))
        bias.assign([1.0, -2.0, 0.5, -0.5])
        loss, terms = stage._loss({"image": pictures()}, False)
        expected = np.mean([0.5 * (1 + np.exp(0.5) - 1 - 0.5), 0.5 * (4 + np.exp(-0.5) - 1 + 0.5)])
        assert float(terms["divergence"]) == pytest.approx(expected, rel=1e-5)
        assert float(loss) == pytest.approx(float(terms["error"]) + 0.5 * expected, rel=1e-5)

    @pytest.mark.once
    @pytest.mark.parametrize("power", [1, 2])
    def test_the_error_by_hand(self, power):
        model = first_stage(kl=0.0, power=power)
        images = pictures()[:4]
        made = to_numpy(model._passed(images, False)[0])
        loss, terms = model._loss({"image": images}, False)
        wanted = np.mean(np.abs(made - images) ** power)
        assert abs(float(loss) - wanted) < 1e-6 and abs(float(terms["error"]) - wanted) < 1e-6

    @pytest.mark.once
    def test_deception_weighs_as_much_as_it_should(self):
        """Of a discriminator a x.sum() the slope is the same everywhere, so the balance is known."""
        image = keras.Input(SHAPE)
        score = keras.layers.Conv2D(
            1, 16, use_bias=False, kernel_initializer=keras.initializers.Constant(3.0)
        )
        stage = first_stage(discriminator=keras.Model(image, score(image)), adversarial=0.25)
        n, size = 4, np.prod(SHAPE)
        made = ops.convert_to_tensor(0.5 * pictures()[:n])
        found = float(stage._deception(made, ops.convert_to_tensor(pictures()[:n]), False))
        of_error, of_score = 1 / np.sqrt(n * size), 3.0 * np.sqrt(size) / np.sqrt(n)
        expected = 0.25 * of_error / of_score * -3.0 * float(np.mean(0.5 * pictures()[:n])) * size
        assert found == pytest.approx(expected, rel=1e-3)
        stage.start = 5
        assert float(stage._deception(made, ops.convert_to_tensor(pictures()[:n]), False)) == 0

    @pytest.mark.once
    def test_distance_of_features(self):
        image = keras.Input(SHAPE)
        features = keras.Model(image, [keras.layers.Identity()(image)])
        a = ops.ones((2, *SHAPE))
        assert float(feature_distance(features, a, 5 * a)) == pytest.approx(0, abs=1e-6), "directions alone"
        assert float(feature_distance(features, a, -a)) == pytest.approx(4, abs=1e-4)

    @pytest.mark.once
    def test_another_power(self):
        with pytest.raises(InputError, match="power of 1 or 2. Received: 3"):
            first_stage(power=3)

    @pytest.mark.once
    def test_networks_that_do_not_fit(self):
        with pytest.raises(InputError, match="Expected an encoder"):
            LatentAutoencoder(latent_encoder(SHAPE, 3, 8), latent_decoder(SHAPE, 2, 8))
        with pytest.raises(InputError, match="sides 4 divides"):
            latent_encoder((18, 16, 3), 2, 8)


# --- text ---------------------------------------------------------------------------------------


class TestTokenizer:
    def test_words_to_numbers(self):
        known = WordTokenizer(["red", "ring"], 3)
        np.testing.assert_array_equal(
            known(["Red, RING!", "a red ring", "", "ring ring ring red"]),
            [[1, 2, 0], [0, 1, 2], [0, 0, 0], [2, 2, 2]],
        )
        assert known.unknown("a red rang a") == ["a", "rang"] and "ring" in known.nearest("rang")

    def test_learned_from_texts(self):
        found = WordTokenizer.learned(["b a", "a c", "a b"], least=2)
        assert found.vocabulary == ("a", "b") and found.length == 2
        assert WordTokenizer.learned(["b a", "a c"], most=1).vocabulary == ("a",)
        with pytest.raises(InputError, match="captions with words"):
            WordTokenizer.learned(["...", ""])

    @pytest.mark.once
    @pytest.mark.skipif(not can_export(), reason="needs TensorFlow")
    def test_in_the_graph_as_in_python(self):
        import tensorflow as tf

        texts = [
            "A small RED circle!",
            "größe ÉTÉ κύκλος 12 rouge",
            "",
            "  ring,ring of_ring\tred\nblue ",
            "крас red 漢字 ring",
            " ".join(["ring"] * 40),
        ]
        known = WordTokenizer(["small", "red", "ring", "größe", "été", "κύκλος", "12", "漢字", "of"], 8)
        np.testing.assert_array_equal(known.in_graph(tf.constant(texts)).numpy(), known(texts))
        assert words_of(texts[1]) == ["größe", "été", "κύκλος", "12", "rouge"]


class TestText:
    @pytest.mark.once
    def test_empty_places_change_nothing(self):
        keras.utils.set_random_seed(1)
        short, long = (text_encoder(9, length, 16, 2, 2, layout=LAYOUT) for length in (4, 7))
        rng = np.random.default_rng(0)  # no weight is zero, as what is to be learned first is
        short.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in short.get_weights()])
        values = short.get_weights()
        places = next(i for i, w in enumerate(short.weights) if w.name == "places")
        values[places] = np.concatenate([values[places], np.full((3, 16), 7.0, "float32")])
        long.set_weights(values)
        tokens = np.array([[3, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]])
        near, there, layout = (to_numpy(x) for x in short(tokens))
        far, far_there, far_layout = (to_numpy(x) for x in long(np.pad(tokens, ((0, 0), (0, 3)))))
        np.testing.assert_allclose(far_layout, layout, atol=1e-5)
        assert np.abs(layout[0] - layout[1]).max() > 1e-2, "texts have layouts of their own"
        np.testing.assert_array_equal(there, [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
        np.testing.assert_allclose(far[:, :5][there > 0], near[there > 0], atol=1e-5)
        assert np.abs(near[0, 1] - near[1, 1]).max() > 1e-3 and np.isfinite(near).all()
        unet = time_unet((8, 8, 2), None, 16, (1,), 1, (8,), context=(5, 16))
        unet.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in unet.get_weights()])
        longer = time_unet((8, 8, 2), None, 16, (1,), 1, (8,), context=(8, 16))
        longer.set_weights(unet.get_weights())
        x, times = rng.normal(size=(3, 8, 8, 2)).astype("float32"), np.array([1.0, 50, 900])
        made = to_numpy(unet([x, times, near, there]))
        np.testing.assert_allclose(to_numpy(longer([x, times, far, far_there])), made, atol=1e-4)
        other = to_numpy(unet([x, times, near[::-1].copy(), there[::-1].copy()]))
        assert np.abs(other - made).max() > 1e-2, "texts matter"
        laid = time_unet((8, 8, 2), None, 16, (1,), 1, (8,), context=(5, 16), layout=LAYOUT)
        laid.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in laid.get_weights()])
        one, two = (to_numpy(laid([x, times, near, there, maps])) for maps in (layout, layout[::-1].copy()))
        assert np.abs(one - two).max() > 1e-2, "layouts matter"

    @pytest.mark.once
    def test_order_of_words_matters(self):
        keras.utils.set_random_seed(1)
        encoder = text_encoder(9, 3, 16, 1, 2)
        ab, ba = (to_numpy(encoder(np.array([t]))[0]) for t in ([1, 2, 0], [2, 1, 0]))
        assert np.abs(ab[:, 0] - ba[:, 0]).max() > 1e-4
        # by what stands before a word and what after, even without vectors for places
        values = [
            np.zeros_like(w) if v.name == "places" else w
            for v, w in zip(encoder.weights, encoder.get_weights(), strict=True)
        ]
        encoder.set_weights(values)
        ab, ba = (to_numpy(encoder(np.array([t]))[0]) for t in ([1, 2, 0], [2, 1, 0]))
        assert np.abs(ab[0, 1] - ba[0, 2]).max() > 1e-3, "word 1, before and after word 2"

    @pytest.mark.once
    def test_before_and_after_by_the_mask(self):
        seen = to_numpy(DirectedMask(2)(np.array([[1.0, 1, 1, 0]], "float32")))[0]
        np.testing.assert_array_equal(seen[0], [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
        np.testing.assert_array_equal(seen[1], [[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

    @pytest.mark.once
    def test_sizes_that_cannot_be(self):
        with pytest.raises(InputError, match="heads that divide"):
            text_encoder(9, 3, 10, 1, 4)
        with pytest.raises(InputError, match="even number of heads"):
            text_encoder(9, 3, 9, 1, 3)
        with pytest.raises(InputError, match="sides divide"):
            layout_head((3, 4, 8), (8, 8, 2))
        with pytest.raises(InputError, match="sides divide"):
            time_unet((8, 8, 2), None, 16, (1,), 1, (8,), context=(5, 16), layout=(8, 3, 4))


def mean_of_text() -> TextMean:
    return TextMean(text_encoder(8, 6, 16, 2, 2, layout=LAYOUT), layout_head(LAYOUT, (8, 8, 1)))


class TestMeanOfText:
    def test_life(self, tmp_path):
        rng = np.random.default_rng(0)
        batch = {"image": rng.normal(size=(16, 8, 8, 1)).astype("float32")}
        batch["label"] = rng.integers(0, 8, (16, 6)).astype("int32")
        check_model(mean_of_text, batch, tmp_path, steps=3, export=False)

    @pytest.mark.once
    def test_which_stands_left_is_learned_from_pictures(self):
        # words 1 and 2 leave 1 and -1 on the side that "left" (3) or "right" (4) between them says
        rng = np.random.default_rng(0)
        first, left = rng.integers(1, 3, 512), rng.integers(0, 2, 512)
        texts = np.stack([first, 4 - left, 3 - first, *[0 * first] * 3], axis=1).astype("int32")
        sign = np.where((first == 1) == (left == 1), 1.0, -1.0).astype("float32")
        pictures = np.repeat([[1.0, -1.0]], 4, axis=1).reshape(1, 1, 8, 1) * sign[:, None, None, None]
        pictures = np.broadcast_to(pictures, (512, 8, 8, 1)).astype("float32")
        keras.utils.set_random_seed(0)
        model = mean_of_text()
        model.compile(keras.optimizers.Adam(3e-3))
        model.fit({"image": pictures, "label": texts}, batch_size=64, epochs=12, verbose=0)
        assert np.abs(to_numpy(model(texts[:32])) - pictures[:32]).mean() < 0.1, "chance is 1"

    @pytest.mark.once
    def test_an_encoder_without_layouts_is_refused(self):
        with pytest.raises(InputError, match="without layouts"):
            TextMean(text_encoder(8, 6, 16, 2, 2), layout_head(LAYOUT, (8, 8, 1)))
        model = mean_of_text()
        model.compile("sgd")
        with pytest.raises(InputError, match="tokens as labels"):
            model.fit({"label": np.ones((2, 6), "int32")}, verbose=0)


# --- the denoiser -------------------------------------------------------------------------------


class TestDenoiser:
    @pytest.mark.once
    def test_life(self, tmp_path):
        known = tokenizer()
        batch = {"image": np.random.default_rng(0).normal(size=(16, 8, 8, 2)).astype("float32")}
        batch["label"] = known(TEXTS * 8)
        tokens = known([TEXTS[0]]).tolist()
        draws = {"steps": 3, "guidance": 2.0, "label": tokens}
        check_model(lambda: denoiser(known), batch, tmp_path, steps=6, draws=draws, export=False)

    @pytest.mark.once
    def test_one_caption_of_several(self):
        tokens = np.arange(1, 1 + 64 * 3 * 2, dtype="int32").reshape(64, 3, 2)
        chosen = to_numpy(one_caption(ops.convert_to_tensor(tokens), keras.random.SeedGenerator(0)))
        where = (tokens == chosen[:, None]).all(axis=2)
        assert (where.sum(axis=1) == 1).all() and set(where.argmax(axis=1)) == {0, 1, 2}

    def test_guidance_leads_to_the_text_and_away_from_another(self):
        model = pipeline().diffusion
        first, second = (np.repeat(tokenizer()([text]), 2, axis=0) for text in TEXTS)

        def drawn(**more):
            return to_numpy(model.sample(2, condition=first, seed=3, **more))

        plain, guided = drawn(guidance=1.0), drawn(guidance=3.0)
        assert np.abs(plain - guided).max() > 1e-3
        np.testing.assert_allclose(drawn(guidance=3.0, against=first), plain, atol=1e-4)
        nothing = np.zeros_like(first)
        np.testing.assert_allclose(drawn(guidance=3.0, against=nothing), guided, atol=1e-4)
        assert np.abs(drawn(guidance=3.0, against=second) - guided).max() > 1e-3
        unasked = to_numpy(model.sample(2, seed=3, guidance=1.0))
        np.testing.assert_allclose(drawn(guidance=0.0), unasked, atol=1e-4)

    def test_an_average_that_begins_anew(self):
        model = denoiser(tokenizer())
        model.compile("adam")
        for part in (model.network, model.text):
            part.set_weights([w + 1 for w in part.get_weights()])
        model.restart_average()
        for part, average in ((model.network, model.average), (model.text, model.text_average)):
            for w, mean in zip(part.get_weights(), average.get_weights(), strict=True):
                np.testing.assert_array_equal(mean, w)

    @pytest.mark.once
    def test_classes_and_texts_together_are_refused(self):
        model = denoiser(tokenizer())
        with pytest.raises(InputError, match="both"):
            Diffusion(model.network, classes=3, text=model.text)


# --- the pipeline -------------------------------------------------------------------------------


class TestPipeline:
    def test_a_picture_depends_on_its_prompt_and_seed_alone(self):
        model = pipeline()
        both = to_numpy(model.generate(TEXTS, seed=1))
        assert both.shape == (2, *SHAPE) and np.abs(both).max() <= 1
        np.testing.assert_allclose(to_numpy(model.generate(TEXTS[:1], seed=1)), both[:1], atol=1e-5)
        assert np.abs(to_numpy(model.generate(TEXTS, seed=2)) - both).max() > 1e-3
        swapped = to_numpy(model.generate(TEXTS[::-1], seed=1))
        assert np.abs(swapped[0] - both[0]).max() > 1e-3
        seeds = to_numpy(model.generate([TEXTS[0]] * 2, seed=np.array([1, 1])))
        np.testing.assert_allclose(seeds[0], seeds[1], atol=1e-5)

    def test_loaded_it_draws_the_same(self, tmp_path):
        model = pipeline()
        slim = model.for_use()
        assert slim.count_params() < 0.7 * model.count_params()
        np.testing.assert_allclose(
            to_numpy(slim.generate(TEXTS, seed=1)), to_numpy(model.generate(TEXTS, seed=1)), atol=1e-5
        )
        model.save(tmp_path / "model.keras")
        loaded = load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(
            to_numpy(loaded.generate(TEXTS, seed=1)), to_numpy(model.generate(TEXTS, seed=1)), atol=1e-5
        )
        assert loaded.tokenizer == model.tokenizer

    @pytest.mark.once
    def test_prompts_and_steps_that_cannot_be(self):
        with pytest.raises(InputError, match="list of prompts"):
            pipeline().generate("a ring")
        with pytest.raises(InputError, match="1 step or more"):
            pipeline().generate(["a ring"], steps=0, init=pictures()[:1])

    def test_from_a_picture(self):
        model, given = pipeline(), pictures()[:2]
        np.testing.assert_array_equal(model.generate(TEXTS, init=given, strength=0.0), given)
        whole = to_numpy(model.generate(TEXTS, seed=1, init=given, strength=1.0))
        np.testing.assert_allclose(whole, to_numpy(model.generate(TEXTS, seed=1)), atol=1e-5)
        half = to_numpy(model.generate(TEXTS, seed=1, init=given, strength=0.25))
        stage = model.autoencoder
        assert np.abs(half - to_numpy(stage(given))).mean() < np.abs(whole - to_numpy(stage(given))).mean()

    def test_within_a_mask(self, monkeypatch):
        model, given = pipeline(), pictures()[:2]
        mask = np.zeros((1, 16, 16, 1), "float32")
        mask[:, :7, :5] = 1  # not on the latents' grid
        made = to_numpy(model.generate(TEXTS, seed=1, init=given, mask=mask))
        keep = np.broadcast_to(mask, made.shape) == 0
        np.testing.assert_array_equal(made[keep], given[keep])
        assert np.abs(made - given)[~keep].max() > 1e-2
        seen = {}
        monkeypatch.setattr(model.diffusion, "sample_from", lambda x, **more: (seen.update(more), x)[1])
        model.generate(TEXTS, seed=1, init=given, mask=mask)
        known = np.ones((2, 8, 8, 1))
        known[:, :4, :3] = 0  # in latents: whatever a place has a part in is drawn anew
        np.testing.assert_array_equal(to_numpy(seen["mask"]), known)
        np.testing.assert_allclose(to_numpy(seen["known"]), to_numpy(model.encode(given)), atol=1e-5)
        with pytest.raises(InputError, match="with a mask"):
            model.generate(TEXTS, mask=mask)

    @pytest.mark.once
    def test_intermediate_pictures(self):
        seen = []
        pipeline().generate(TEXTS, watch=lambda done, x: seen.append((done, to_numpy(x).shape)), every=2)
        assert seen == [(0, (2, *SHAPE)), (2, (2, *SHAPE)), (4, (2, *SHAPE))]

    @pytest.mark.once
    def test_parts_that_do_not_fit(self):
        model = pipeline()
        with pytest.raises(InputError, match="tokenizer of"):
            TextToImage(model.diffusion, WordTokenizer(["a"], 2), model.autoencoder)
        with pytest.raises(InputError, match="autoencoder with latents"):
            TextToImage(denoiser(tokenizer(), (8, 8, 3)), tokenizer(), model.autoencoder)
        with pytest.raises(InputError, match="text encoder"):
            TextToImage(Diffusion(time_unet((8, 8, 2), None, 8, (1,), 1, ())), tokenizer())

    @pytest.mark.once
    def test_without_a_first_stage(self):
        model = TextToImage(denoiser(tokenizer(), (8, 8, 3), clip=True), tokenizer())
        assert to_numpy(model.generate(TEXTS)).shape == (2, 8, 8, 3)
        assert set(model.signatures()) == {"generate"}

    @pytest.mark.once
    @pytest.mark.skipif(not can_export(), reason="needs TensorFlow")
    def test_served(self, tmp_path):
        """Strings in, pictures out, where neither Keras nor keras_gen is."""
        model = pipeline()
        model.save(tmp_path / "model.keras")
        export_file(tmp_path / "model.keras", tmp_path / "savedmodel", CARD)
        levels = np.round((pictures()[:2] + 1) * 127.5).astype("uint8")
        inputs = asked(TEXTS, seed=1, steps=3, guidance=4.0)  # other than the model's own
        served = serve(tmp_path / "savedmodel", {"encode/image": levels, **inputs}, tmp_path)
        expected = to_numpy(model.autoencoder.encode(levels / 127.5 - 1))
        np.testing.assert_allclose(served["encode"], expected, atol=1e-4)
        assert b"_gradient_op_type" not in (tmp_path / "savedmodel" / "saved_model.pb").read_bytes()
        made = served["generate"]
        assert made.dtype == np.uint8
        ours, plain = (
            to_numpy(model.generate(TEXTS, seed=1, **more)) for more in ({"steps": 3, "guidance": 4.0}, {})
        )
        assert np.abs(made - (ours + 1) * 127.5).max() <= 1.01
        assert np.abs(ours - plain).max() * 127.5 > 2
