"""The diffusion model: its loss, its conditions, its samples, its life from training to SavedModel."""

import functools
import json

import keras
import make_golden
import numpy as np
import pytest
from harness import CARD, check_model, serve
from keras import ops

from keras_gen import diffusion
from keras_gen.corruptions import parse
from keras_gen.diffusion import Diffusion, log_density, variational_bound
from keras_gen.engine import _value_and_gradients, to_numpy
from keras_gen.errors import InputError
from keras_gen.export import can_export
from keras_gen.images import to_uint8
from keras_gen.networks import time_unet

SHAPE = (8, 8, 1)


def network(channels: int = 1, outputs: int = 1, classes: int | None = None, attention=()):
    return time_unet((8, 8, channels), outputs, 16, (1,), 1, attention, classes=classes)


@functools.cache
def trained(kind: str = "ddpm") -> Diffusion:
    """A model of digits that has seen a little, with weights that are no longer zero anywhere."""
    from keras_gen.data import load

    digits = load("digits").train
    keras.utils.set_random_seed(0)
    model = {
        "ddpm": lambda: Diffusion(network(classes=11), "cosine", classes=10),
        "flow": lambda: Diffusion(network(), "flow", "velocity", sampler="heun"),
    }[kind]()
    model.compile(keras.optimizers.Adam(2e-3))
    batch = {"image": digits.floats(slice(0, 512)), "label": digits.labels[:512]}
    model.fit(batch, batch_size=64, epochs=15, verbose=0)
    return model


# --- its life -----------------------------------------------------------------------------------

KINDS = {
    "ddpm": (lambda: Diffusion(network()), {"steps": 3}),
    "conditional": (
        lambda: Diffusion(
            network(2, 2, 11, (8,)),
            "linear",
            classes=10,
            self_condition=True,
            learned_variance=True,
            rescaled=0.5,
            interval=(0.1, 10.0),
        ),
        {"steps": 3, "guidance": 2.0, "label": [3]},
    ),
    "flow": (lambda: Diffusion(network(), "flow", "velocity", sampler="heun"), {"steps": 3}),
    "edm": (lambda: Diffusion(network(), "edm", "edm", "min-snr", sampler="unipc", ema=0), {"steps": 3}),
    "translating": (lambda: Diffusion(network(2), source=parse("downsampling:2"), steps=3), {}),
}


ONCE = {"ddpm", "edm", "translating"}
"""Of which the rest is told by the others."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.once if kind in ONCE else ()) for kind in KINDS]
)
def test_life(kind, digits, tmp_path):
    make, draws = KINDS[kind]
    batch = {"image": digits.train.floats(slice(0, 16)), "label": digits.train.labels[:16]}
    given = {"source": batch["image"][:3]} if kind == "translating" else {}
    check_model(make, batch, tmp_path, steps=5, draws=draws, given=given)


# --- on every backend ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", make_golden.diffusion_family())
def test_steps_and_samples_are_those_of_other_backends(name):
    golden = json.loads((make_golden.GOLDEN / "losses.json").read_text())[f"diffusion {name}"]
    found = make_golden.diffusion_results(name)
    assert set(found) == set(golden)
    for key, values in golden.items():
        scale = max(1.0, np.abs(values).max())
        np.testing.assert_allclose(found[key], values, atol=1e-4 * scale, err_msg=key)


# --- the loss -----------------------------------------------------------------------------------


def drawn(n: int, **given) -> dict:
    rng = np.random.default_rng(3)
    return {
        "uniform": rng.random(n).astype("float32"),
        "noise": rng.normal(size=(n, *SHAPE)).astype("float32"),
        "hide": np.ones(n, "float32"),
        "again": np.ones(n, "float32"),
        **given,
    }


def test_loss_of_an_untrained_network_is_the_mean_square_of_its_target(digits):
    images = digits.train.floats(slice(0, 64))
    given = drawn(64)
    for kind, target in (("epsilon", given["noise"]), ("x0", images)):
        model = Diffusion(network(), prediction=kind)
        loss, terms = model.loss_from(images, given)
        np.testing.assert_allclose(float(to_numpy(loss)), (target**2).mean(), rtol=1e-5)
        assert terms == {}
    many = float(to_numpy(Diffusion(network())._loss({"image": digits.train.floats()}, False)[0]))
    assert abs(many - 1) < 0.02


def test_times_of_a_batch_are_spread_evenly():
    model = Diffusion(network())
    times = np.sort(to_numpy(model.draw(50)["uniform"]))
    np.testing.assert_allclose(np.diff(times), 0.02, atol=1e-5)
    apart = np.sort(to_numpy(Diffusion(network(), stratified=False).draw(50)["uniform"]))
    assert np.diff(apart).max() > 0.03


@pytest.mark.once
def test_a_hidden_label_is_hidden_from_its_example_alone(digits):
    """In the loss of a batch in training, against labels that say so."""
    model = Diffusion(network(classes=11), classes=10, unlabelled=0.5)
    model.set_weights([w + 0.05 for w in model.get_weights()])
    images, labels = digits.train.floats(slice(0, 8)), digits.train.labels[:8]
    hide = np.array([0.1, 0.9] * 4, "float32")
    given = drawn(8, hide=hide)
    model.draw = lambda n: given
    in_training, _ = model._loss({"image": images, "label": labels}, True)
    told = np.where(hide < 0.5, diffusion.NOBODY, labels)
    np.testing.assert_allclose(float(in_training), float(model.loss_from(images, given, told)[0]), rtol=1e-6)
    evaluated, _ = model._loss({"image": images, "label": labels}, False)
    np.testing.assert_allclose(float(evaluated), float(model.loss_from(images, given, labels)[0]), rtol=1e-6)
    assert abs(float(in_training) - float(evaluated)) > 1e-6


@pytest.mark.once
def test_self_condition_shows_the_estimate_to_half_of_the_examples(digits):
    model = Diffusion(network(2), self_condition=True)
    model.set_weights([w + 0.05 for w in model.get_weights()])
    images = digits.train.floats(slice(0, 8))
    seen, hidden = (
        float(model.loss_from(images, drawn(8, again=np.full(8, a, "float32")))[0]) for a in (0.1, 0.9)
    )
    mixed = float(model.loss_from(images, drawn(8, again=np.array([0.1, 0.9] * 4, "float32")))[0])
    assert min(seen, hidden) < mixed < max(seen, hidden)


def test_learned_variance_moves_the_variance_alone(digits):
    """The bound's gradient does not reach what the mean is made of."""
    model = Diffusion(network(1, 2), learned_variance=True)
    images, given = digits.train.floats(slice(0, 16)), drawn(16)
    _, terms = model.loss_from(images, given)
    assert set(terms) == {"bound"} and np.isfinite(float(to_numpy(terms["bound"])))
    plain = Diffusion(network())
    assert float(to_numpy(plain.loss_from(images, given)[0])) == pytest.approx(
        float(to_numpy(model.loss_from(images, given)[0])) - float(to_numpy(terms["bound"])), rel=1e-4
    )  # a thousandth of a thousand steps
    bias = model.network.layers[-1].bias
    (_, _), (gradient,) = _value_and_gradients(
        lambda: (model.loss_from(images, given)[1]["bound"], {}), [bias]
    )
    of_mean, of_mix = to_numpy(gradient)
    assert of_mean == 0 and abs(of_mix) > 1e-7


def test_average_of_weights(digits):
    """Half-life in pictures, at most a twentieth of those seen."""
    model = Diffusion(network(), ema=100)
    start = [w.copy() for w in model.average.get_weights()]
    model.compile(keras.optimizers.SGD(0.0))
    model.network.set_weights([w + 1.0 for w in start])
    images, expected = digits.train.floats(slice(0, 64)), 0.0
    model.fit({"image": images}, batch_size=16, epochs=1, verbose=0)
    for step in range(1, 5):
        decay = 0.5 ** (16 / min(100, 0.05 * 16 * step))
        expected = decay * expected + (1 - decay)
    found = [a - s for a, s in zip(model.average.get_weights(), start, strict=True)]
    assert all(np.allclose(f, expected, atol=1e-4) for f in found)
    assert float(model.seen) == 64
    model.average.set_weights(model.network.get_weights())
    model.fit({"image": images}, batch_size=16, epochs=1, verbose=0)
    for a, w in zip(model.average.get_weights(), model.network.get_weights(), strict=True):
        np.testing.assert_allclose(a, w, atol=1e-6)


@pytest.mark.once
def test_training_learns_to_tell_the_picture(digits):
    """Nearer to the picture, at the middle of the noise, than the best linear estimate of every pixel."""
    model = trained()
    images, labels = digits.test.floats(slice(0, 200)), digits.test.labels[:200]
    point = model.schedule.at(int(model.schedule.middle))
    noise = np.random.default_rng(0).normal(size=images.shape)
    x = (float(point.alpha) * images + float(point.sigma) * noise).astype("float32")
    made = to_numpy(model({"image": x, "label": labels}))
    data = digits.train.floats()
    mean, variance = data.mean(axis=0), data.var(axis=0)
    share = float(point.alpha) * variance / (float(point.alpha) ** 2 * variance + float(point.sigma) ** 2)
    linear = mean + share * (x - float(point.alpha) * mean)
    assert ((made - images) ** 2).mean() < 0.9 * ((linear - images) ** 2).mean()


# --- samples ------------------------------------------------------------------------------------

REST = ["ddim", "heun", "dpm-solver++", "unipc"]


@pytest.mark.parametrize("sampler", ["ddpm", *(pytest.param(s, marks=pytest.mark.once) for s in REST)])
def test_a_picture_depends_on_its_seed_and_place_alone(sampler):
    model = trained()
    together = to_numpy(model.sample(4, 3, seed=5, steps=6, sampler=sampler))
    alone = to_numpy(model.sample(1, 3, seed=5, steps=6, sampler=sampler))
    np.testing.assert_allclose(alone[0], together[0], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.1
    own = to_numpy(model.sample(3, 3, seed=np.array([7, 5, 7]), steps=6, sampler=sampler))
    other = to_numpy(model.sample(2, 3, seed=np.array([5, 7]), steps=6, sampler=sampler))
    np.testing.assert_allclose(own[[1, 0]], other, atol=1e-5)
    np.testing.assert_allclose(own[0], own[2], atol=1e-5)


@pytest.mark.once
def test_solvers_agree_where_steps_are_many():
    model = trained("flow")
    ends = {
        name: to_numpy(model.sample(4, seed=1, steps=100, sampler=name)) for name in ("ddim", "heun", "unipc")
    }
    fine = ends["heun"]
    assert np.abs(ends["unipc"] - fine).mean() < 0.02
    assert np.abs(ends["ddim"] - fine).mean() < 0.05


def test_guidance_of_1_is_the_condition_and_of_0_is_none():
    model = trained()
    labels = np.array([3, 8])
    plain = to_numpy(model.sample(2, labels, seed=1, steps=5))
    # nearly 1: the guided program, not the plain one
    np.testing.assert_allclose(
        to_numpy(model.sample(2, labels, seed=1, steps=5, guidance=1.0 + 1e-7)), plain, atol=1e-4
    )
    none = to_numpy(model.sample(2, diffusion.NOBODY, seed=1, steps=5))
    np.testing.assert_allclose(
        to_numpy(model.sample(2, labels, seed=1, steps=5, guidance=0.0)), none, atol=1e-4
    )
    assert np.abs(plain - none).max() > 0.01
    assert np.abs(to_numpy(model.sample(2, labels, seed=1, steps=5, guidance=4.0)) - plain).max() > 0.05


@pytest.mark.once
def test_guidance_acts_within_its_interval():
    model = trained()
    labels = np.array([3, 8])
    copy = Diffusion.from_config(model.get_config() | {"interval": [1e6, 1e7]})
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(
        to_numpy(copy.sample(2, labels, seed=1, steps=5, guidance=4.0)),
        to_numpy(model.sample(2, labels, seed=1, steps=5)),
        atol=1e-4,
    )


@pytest.mark.once
def test_the_way_from_noise_can_be_watched():
    model = trained()
    seen = []
    watched = model.sample(
        2, 1, seed=1, steps=7, watch=lambda done, x, clean: seen.append((done, x, clean)), every=3
    )
    assert [done for done, _, _ in seen] == [0, 3, 6, 7]
    np.testing.assert_allclose(to_numpy(watched), to_numpy(model.sample(2, 1, seed=1, steps=7)), atol=1e-5)
    np.testing.assert_array_equal(to_numpy(seen[-1][1]), to_numpy(watched))
    assert np.abs(to_numpy(seen[0][1])).max() > 1.5  # noise


@pytest.mark.once
def test_the_known_part_comes_back_to_the_bit(digits):
    model = trained()
    levels = (digits.test.images[:3] * 1).astype("uint8")
    known = digits.test.floats(slice(0, 3))
    mask = np.zeros((3, 8, 8, 1), "float32")
    mask[:, :, :4] = 1
    for sampler in ["ddpm", *REST]:
        x = model.noised(known, 0, 6, seed=2)
        made = to_numpy(to_uint8(model.sample_from(x, 3, 2, 6, sampler=sampler, known=known, mask=mask)))
        np.testing.assert_array_equal(made[:, :, :4], levels[:, :, :4])
        assert not np.array_equal(made[:, :, 4:], levels[:, :, 4:])


@pytest.mark.once
def test_a_noised_start_lies_between_the_picture_and_a_sample(digits):
    model, steps = trained(), 10
    images = digits.test.floats(slice(0, 20))
    labels = digits.test.labels[:20]

    def redrawn(first):
        x = model.noised(images, first, steps, seed=4)
        return to_numpy(model.sample_from(x, labels, 4, steps, first=first))

    np.testing.assert_allclose(redrawn(0), to_numpy(model.sample(20, labels, 4, steps)), atol=1e-5)
    far = [np.abs(redrawn(first) - images).mean() for first in (0, 5, 9)]
    assert far[0] > far[1] > far[2]


@pytest.mark.once
@pytest.mark.parametrize("kind", ["ddpm", "flow"])
def test_pictures_come_back_from_their_noise(kind, digits):
    model = trained(kind)
    images = digits.test.floats(slice(0, 8))
    noise = model.encode(images, steps=50)
    back = to_numpy(model.decode(noise, steps=50))
    once = to_numpy(model.decode(model.encode(images, steps=50, refine=1), steps=50))
    assert np.abs(back - images).mean() < 0.06
    assert np.abs(back - images).mean() < np.abs(once - images).mean()
    assert 0.7 < to_numpy(noise).std() < 1.2


@pytest.mark.once
def test_bound_and_density(digits):
    model = trained()
    images, labels = digits.test.floats(slice(0, 4)), digits.test.labels[:4]
    found = variational_bound(model, images, labels, every=100)
    assert found["steps"].shape == (4, 10)
    np.testing.assert_allclose(
        found["total"], found["prior"] + found["steps"].sum(axis=1) + found["reconstruction"], rtol=1e-5
    )
    other = Diffusion(network(classes=11), "cosine", classes=10)
    untrained = variational_bound(other, images, labels, every=100)
    assert (found["total"] < untrained["total"]).all()
    density = log_density(model, images, labels, steps=30)
    noise = np.random.default_rng(0).uniform(-1, 1, images.shape).astype("float32")
    assert (density > log_density(model, noise, labels, steps=30)).all()
    with pytest.raises(InputError, match="discrete schedule"):
        variational_bound(trained("flow"), images)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Diffusion(network(2)), "with 1 channels in for 1 out"),
        (lambda: Diffusion(network(), classes=10), "images, times and labels"),
        (lambda: Diffusion(network(1, 2), "flow", "velocity", learned_variance=True), "a discrete schedule"),
        (lambda: Diffusion(network(), diffusion.Linear(zero_terminal_snr=True)), "in pure noise"),
        (lambda: Diffusion(network(), steps=1001), "1000 at most"),
        (lambda: Diffusion(network(), unlabelled=1.0), "unlabelled of 0"),
        (lambda: Diffusion(network(), "flow", "velocity").sample(2, condition=1), "takes no condition"),
        (lambda: trained().sample(2, steps=0), "1 step or more"),
        (lambda: trained().sample_from(np.zeros((1, *SHAPE), "float32"), known=1.0), "a mask together"),
        (lambda: Diffusion(network(2), source=parse("downsampling:2")).sample(1), "the sources"),
    ],
)  # fmt: skip
def test_impossible_models_and_calls_are_refused(wrong, said):
    with pytest.raises(InputError, match=said) as error:
        wrong()
    assert "Expected" in str(error.value) or "takes no" in str(error.value)


@pytest.mark.once
@pytest.mark.skipif(not can_export(), reason="TensorFlow writes SavedModels")
def test_the_exported_sample_is_that_of_the_model(tmp_path):
    from keras_gen.export import export

    export(trained(), tmp_path / "savedmodel", CARD)
    draws = {"steps": 4, "guidance": 3.0, "label": [0, 7, -1]}
    served = serve(tmp_path / "savedmodel", {}, tmp_path, draws)["sample"]
    here = to_numpy(to_uint8(trained().sample(5, [0, 7, -1, 0, 7], seed=7, steps=4, guidance=3.0)))
    assert np.abs(served.astype(int) - here).max() <= 1


@pytest.mark.once
def test_the_model_looks_at_what_a_batch_says():
    model = trained()
    images = np.zeros((2, *SHAPE), "float32")
    said = to_numpy(model({"image": images, "time": np.array([10, 900]), "label": np.array([1, 1])}))
    assert np.abs(said[0] - said[1]).max() > 0.01
    np.testing.assert_allclose(
        to_numpy(model(images)),
        to_numpy(
            model(
                {
                    "image": images,
                    "label": np.full(2, diffusion.NOBODY),
                    "time": np.full(2, model.schedule.middle),
                }
            )
        ),
        atol=1e-5,
    )
    assert ops.shape(model(images)) == (2, *SHAPE)
