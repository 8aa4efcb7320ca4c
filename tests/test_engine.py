"""The training step, on whichever backend runs; golden numbers carry it across backends."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import make_golden
import numpy as np
import pytest
import small_gan
from keras import ops

from keras_gen.engine import GenerativeModel, Update, compiled, grad, normal, to_numpy
from keras_gen.errors import InputError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "losses.json").read_text())


def values(variables) -> list[np.ndarray]:
    return [to_numpy(v.value).copy() for v in variables]


def same(first, second) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


class Line(GenerativeModel):
    """y = w x in one variable per update; every number can be worked out by hand."""

    data_key = "features"

    def __init__(self, names=("slope",)):
        super().__init__()
        self.parts = {n: self.add_weight(shape=(), initializer="ones", name=n) for n in names}
        self.built = True

    def call(self, x, training: bool = False):
        x = x["features"] if isinstance(x, dict) else x
        return x * sum(v.value for v in self.parts.values())

    def updates(self):
        def loss(batch, training):
            return ops.mean(self(batch)), {}

        return [Update(name, loss, [variable]) for name, variable in self.parts.items()]


class TestParity:
    """The same weights, batches and noise give the same losses on every backend."""

    def test_gan_with_three_critic_steps(self):
        _, history = small_gan.trained()
        assert set(history) == set(GOLDEN["gan"])
        for name, expected in GOLDEN["gan"].items():
            np.testing.assert_allclose(history[name], expected, atol=1e-4, err_msg=name)

    def test_alternating_steps(self):
        """Twenty of two GANs, with batch normalisation, a slope penalty and a moving average."""
        found = make_golden.adversarial_steps()
        assert set(found) == set(GOLDEN["adversarial"])
        for name, expected in GOLDEN["adversarial"].items():
            assert np.ptp(expected) > 1e-4, f"{name} tests nothing"
            np.testing.assert_allclose(found[name], expected, atol=1e-4, err_msg=name)

    def test_vae(self):
        for name, logged in make_golden.vae_step_losses().items():
            np.testing.assert_allclose(logged, GOLDEN["vae"][name], rtol=1e-5, atol=1e-4)

    @pytest.mark.parametrize("name", make_golden.autoencoder_family())
    def test_autoencoders(self, name):
        history = make_golden.autoencoder_step_losses(name)
        assert set(history) == set(GOLDEN[name])
        for term, logged in history.items():
            np.testing.assert_allclose(logged, GOLDEN[name][term], rtol=1e-4, atol=1e-5, err_msg=term)

    @pytest.mark.parametrize("trained_on", ["tensorflow", "jax", "torch"])
    def test_a_model_trained_on_another_backend(self, trained_on, digits):
        folder = Path(__file__).parent / "golden"
        model = keras.models.load_model(folder / f"vae_{trained_on}.keras")
        assert model.compiled
        images = digits.test.floats(slice(0, 20))
        mean, log_var = model.posterior(images)
        with np.load(folder / f"vae_{trained_on}.npz") as expected:
            assert np.abs(to_numpy(model(images)) - expected["reconstruction"]).max() < 1e-5
            assert np.abs(to_numpy(mean) - expected["mean"]).max() < 1e-5
            assert np.abs(to_numpy(log_var) - expected["log_var"]).max() < 1e-5
        model.fit({"image": images}, verbose=0)  # its optimizer came along


class TestUpdates:
    @pytest.mark.parametrize(("moved", "kept"), [("critic", "generator"), ("generator", "critic")])
    def test_an_update_moves_its_variables_alone(self, moved, kept):
        model = small_gan.SmallGAN(only=moved)
        model.compile({moved: small_gan.optimizers()[moved]})
        before = values(getattr(model, kept).trainable_variables)
        own = values(getattr(model, moved).trainable_variables)
        model.fit(small_gan.batch(), epochs=3, verbose=0)
        assert same(values(getattr(model, kept).trainable_variables), before)
        assert not same(values(getattr(model, moved).trainable_variables), own)

    def test_each_sees_what_the_one_before_it_did(self):
        model = Line(["first", "second"])
        model.compile(keras.optimizers.SGD(0.5))
        x = np.full((4, 1), 2.0, "float32")
        history = model.fit({"features": x}, epochs=1, verbose=0).history
        # loss 2 (w1 + w2) = 4, w1 -= 0.5 * 2, and the second update finds 2 (0 + 1)
        assert history["first_loss"] == [4.0]
        assert history["second_loss"] == [2.0]
        assert [float(to_numpy(v.value)) for v in model.parts.values()] == [0.0, 0.0]

    def test_repeats_count(self):
        model, _ = small_gan.trained(steps=4)
        counts = {n: int(to_numpy(o.iterations.value)) for n, o in model.optimizer.optimizers.items()}
        assert counts == {"critic": 12, "generator": 4}

    def test_batchnorm_statistics_move_and_agree_with_their_definition(self):
        model = small_gan.SmallGAN(only="generator")
        small_gan.set_known_weights(model)
        dense, norm = model.generator.layers[:2]
        data = small_gan.batch()
        expected = 0.01 * to_numpy(dense(data["noise"])).mean(axis=0)
        model.compile("sgd")
        model.fit(data, batch_size=16, epochs=1, verbose=0)
        np.testing.assert_allclose(to_numpy(norm.moving_mean.value), expected, atol=1e-6)

    def test_regularisers_are_part_of_the_loss(self):
        model = small_gan.SmallGAN(only="critic")
        small_gan.set_known_weights(model)
        model.compile("sgd")
        data = small_gan.batch()
        plain, _ = model.critic_loss(ops_batch(data), False)
        penalty = 1e-3 * np.sum(to_numpy(model.critic.layers[-1].kernel.value) ** 2)
        assert penalty > 1e-3
        logged = model.evaluate(data, batch_size=16, verbose=0, return_dict=True)["loss"]
        assert abs(logged - float(to_numpy(plain)) - penalty) < 1e-5

    def test_losses_added_in_call_are_part_of_the_loss(self):
        class Adds(Line):
            def call(self, x, training: bool = False):
                y = super().call(x)
                self.add_loss(ops.convert_to_tensor(3.0) + 0 * ops.sum(y))
                return y

        model = Adds()
        model.compile("sgd")
        x = np.full((4, 1), 2.0, "float32")
        assert model.evaluate({"features": x}, verbose=0) == 5.0
        assert model.fit({"features": x}, verbose=0).history["loss"] == [5.0]

    def test_logs_are_means_over_examples(self):
        model = Line()
        model.compile("sgd")
        x = np.arange(10, dtype="float32")[:, None]  # batches of 4, 4 and 2
        assert abs(model.evaluate({"features": x}, batch_size=4, verbose=0) - 4.5) < 1e-6


def ops_batch(data):
    return {k: ops.convert_to_tensor(v) for k, v in data.items()}


class TestTrainer:
    """What `fit` offers works through the engine."""

    def test_steps_per_execution_changes_nothing(self):
        def run(steps_per_execution):
            model = small_gan.SmallGAN()
            small_gan.set_known_weights(model)
            model.compile(small_gan.optimizers(), steps_per_execution=steps_per_execution)
            data = small_gan.batch(64)
            model.fit(data, batch_size=16, epochs=2, shuffle=False, verbose=0)
            return values(model.trainable_variables)

        for one, four in zip(run(1), run(4), strict=True):
            np.testing.assert_allclose(one, four, atol=1e-6)

    def test_validation_data_and_test_step(self):
        model = small_gan.SmallGAN()
        small_gan.set_known_weights(model)
        model.compile(small_gan.optimizers())
        held = small_gan.batch(seed=5)
        history = model.fit(small_gan.batch(), validation_data=(held,), epochs=2, verbose=0).history
        assert {"val_critic_loss", "val_generator_loss", "val_penalty"} <= set(history)
        before = values(model.weights)
        evaluated = model.evaluate(held, verbose=0, return_dict=True)
        assert same(values(model.weights), before)
        assert abs(evaluated["penalty"] - history["val_penalty"][-1]) < 1e-5

    def test_gradient_accumulation_equals_the_large_batch(self):
        data = make_vae_data()

        def run(batch_size, steps):
            model = make_golden.NoiseGiven(make_golden.tiny_vae())
            small_gan.set_known_weights(model)
            optimizer = keras.optimizers.SGD(1e-2, gradient_accumulation_steps=steps)
            model.compile(optimizer)
            model.fit(data, batch_size=batch_size, epochs=2, shuffle=False, verbose=0)
            return values(model.trainable_variables)

        for whole, parts in zip(run(32, None), run(8, 4), strict=True):
            np.testing.assert_allclose(whole, parts, atol=1e-5)

    def test_clipping_bounds_the_step(self):
        model = make_golden.NoiseGiven(make_golden.tiny_vae())
        small_gan.set_known_weights(model)
        model.compile(keras.optimizers.SGD(1.0, global_clipnorm=0.01))
        before = values(model.trainable_variables)
        model.fit(make_vae_data(), batch_size=32, epochs=1, verbose=0)
        after = values(model.trainable_variables)
        moved = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(after, before, strict=True)))
        assert abs(moved - 0.01) < 1e-5

    def test_moving_average_of_weights(self):
        model = Line()
        model.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9))
        x = np.full((4, 1), 2.0, "float32")
        model.fit({"features": x}, epochs=1, verbose=0)
        # the step takes 1 to 0; the average, begun at the first value seen, ends in the weight
        average = float(to_numpy(model.optimizer._model_variables_moving_average[0].value))
        assert float(to_numpy(model.parts["slope"].value)) == pytest.approx(average)
        model.fit({"features": x}, epochs=3, verbose=0)
        assert np.isfinite(average)

    def test_learning_rate_schedules_and_callbacks(self):
        model = Line()
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.5, 0.0])
        model.compile(keras.optimizers.SGD(schedule))
        x = np.full((4, 1), 2.0, "float32")
        stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e-3)
        history = model.fit({"features": x}, epochs=20, verbose=0, callbacks=[stop]).history
        assert 2 <= len(history["loss"]) < 10

    def test_eager(self):
        _, history = small_gan.trained(steps=2, run_eagerly=True)
        np.testing.assert_allclose(history["critic_loss"], GOLDEN["gan"]["critic_loss"][:2], atol=1e-4)

    def test_a_bare_array_and_labels(self):
        model = Line()
        model.compile("sgd")
        assert model.fit(np.ones((4, 1), "float32"), verbose=0).history["loss"] == [1.0]


def make_vae_data():
    rng = np.random.default_rng(3)
    return {
        "image": np.tanh(rng.normal(size=(32, 8, 8, 1))).astype("float32"),
        "noise": rng.normal(size=(32, 3)).astype("float32"),
    }


class TestGrad:
    def test_of_a_power(self):
        x = np.array([1.0, -2.0, 3.0], "float32")
        np.testing.assert_allclose(to_numpy(grad(lambda x: ops.sum(x**3))(x)), 3 * x**2, rtol=1e-6)

    def test_sums_an_output_that_is_not_scalar(self):
        x = np.array([1.0, -2.0], "float32")
        np.testing.assert_allclose(to_numpy(grad(lambda x: x**2)(x)), 2 * x)

    def test_argnums(self):
        gradient = grad(lambda a, b: ops.sum(a * b * b), argnums=1)(np.float32(2), np.float32(3))
        assert float(to_numpy(gradient)) == 12.0

    def test_second_order(self):
        gradient = grad(grad(lambda x: ops.sum(x**4)))(np.array([2.0], "float32"))
        np.testing.assert_allclose(to_numpy(gradient), [48.0], rtol=1e-5)

    def test_of_nothing_is_zero(self):
        constant = grad(lambda x: ops.sum(ops.ones((2,))))(np.array([2.0], "float32"))
        np.testing.assert_array_equal(to_numpy(constant), [0.0])

    def test_where_gradients_are_off(self, backend):
        if backend != "torch":
            pytest.skip("only PyTorch can switch gradients off")
        import torch

        with torch.no_grad():
            gradient = grad(lambda x: ops.sum(x**2))(np.array([2.0], "float32"))
        assert not gradient.requires_grad
        np.testing.assert_array_equal(to_numpy(gradient), [4.0])


class TestCompiled:
    def test_sees_new_weights(self):
        class Doubled(Line):
            @compiled
            def doubled(self, x, *, times=2):
                return times * self(x)

        model = Doubled()
        x = np.ones((3, 1), "float32")
        assert float(to_numpy(model.doubled(x))[0, 0]) == 2.0
        model.parts["slope"].assign(5.0)
        assert float(to_numpy(model.doubled(x))[0, 0]) == 10.0
        assert float(to_numpy(model.doubled(x, times=3))[0, 0]) == 15.0


class TestNoise:
    def test_depends_on_the_seed_alone(self):
        generator = keras.random.SeedGenerator(0)
        first = to_numpy(normal((1000, 4), 3, generator))
        keras.random.normal((2,), seed=generator)
        np.testing.assert_array_equal(to_numpy(normal((1000, 4), 3, generator)), first)
        assert not np.array_equal(to_numpy(normal((1000, 4), 4, generator)), first)
        assert abs(first.mean()) < 0.06 and abs(first.std() - 1) < 0.05

    def test_is_what_keras_gives_for_that_seed(self):
        generator = keras.random.SeedGenerator(0)
        ours = to_numpy(normal((5, 2), 11, generator))
        np.testing.assert_array_equal(ours, to_numpy(keras.random.normal((5, 2), seed=11)))


class TestRefusals:
    def test_an_unbuilt_model(self):
        class Unbuilt(GenerativeModel):
            def updates(self):
                return []

        with pytest.raises(InputError, match="built model"):
            Unbuilt().compile()

    def test_optimizers_that_do_not_fit(self):
        with pytest.raises(InputError, match=r"\['critic', 'generator'\]"):
            small_gan.SmallGAN().compile({"critic": "adam"})

    def test_a_batch_without_the_data(self):
        model = Line()
        model.compile("sgd")
        with pytest.raises(ValueError, match="'features'.*'picture'"):
            model.fit({"picture": np.ones((4, 1), "float32")}, verbose=0)

    def test_float16(self):
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = small_gan.SmallGAN()
            with pytest.raises(InputError, match="bfloat16"):
                model.compile()
        finally:
            keras.config.set_dtype_policy(policy)

    def test_undeclared_logs(self):
        class Surprising(Line):
            def updates(self):
                return [Update("a", lambda b, t: (ops.mean(self(b)), {"new": 1.0}), self.trainable_variables)]

        model = Surprising()
        model.compile("sgd", run_eagerly=True)
        with pytest.raises(ValueError, match="declares logs"):
            model.fit({"features": np.ones((4, 1), "float32")}, verbose=0)


DISTRIBUTED = {
    "jax": """
        import jax, keras
        assert len(jax.devices()) == 4, jax.devices()
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        import small_gan
        model, history = small_gan.trained()
        variable = model.critic.trainable_variables[0]
        assert len(variable.value.sharding.device_set) == 4
    """,
    "tensorflow": """
        import tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        import make_golden, small_gan, test_engine
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        assert strategy.num_replicas_in_sync == 2

        def weights():
            model = make_golden.NoiseGiven(make_golden.tiny_vae())
            small_gan.set_known_weights(model)
            model.compile(keras.optimizers.SGD(1e-2))
            model.fit(test_engine.make_vae_data(), batch_size=32, epochs=3, shuffle=False, verbose=0)
            return model.get_weights()

        alone = weights()
        with strategy.scope():
            together = weights()
            gan = small_gan.SmallGAN()
            gan.compile(small_gan.optimizers())
        for a, b in zip(alone, together):
            assert abs(a - b).max() < 1e-5, abs(a - b).max()
        losses = gan.fit(small_gan.batch(), batch_size=16, verbose=0).history
        assert all(abs(v[-1]) < 100 for v in losses.values()), losses
        history = None
    """,
}


def test_data_parallel(backend):
    if backend not in DISTRIBUTED:
        pytest.skip("keras.distribution has no PyTorch backend in this version of Keras")
    import os
    import textwrap

    script = "import json, keras\n" + textwrap.dedent(DISTRIBUTED[backend]) + "\nprint(json.dumps(history))"
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    history = json.loads(done.stdout.splitlines()[-1])
    if history is not None:
        for name, expected in GOLDEN["gan"].items():
            np.testing.assert_allclose(history[name], expected, atol=1e-4, err_msg=name)
