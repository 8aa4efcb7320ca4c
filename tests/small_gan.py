"""A small GAN that only the tests need: BatchNorm, several critic steps, a gradient penalty.

It exercises the engine where a VAE does not: two optimizers, updates in turn, a gradient inside a
loss, layers that assign state while being differentiated. Its noise comes with the batch, so that
backends can be compared.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_gen.engine import GenerativeModel, Update, grad

NOISE = 6
SHAPE = (8, 8, 1)


class SmallGAN(GenerativeModel):
    def __init__(self, n_critic: int = 3, only: str | None = None):
        super().__init__()
        self.n_critic = n_critic
        self.only = only
        self.generator = keras.Sequential(
            [
                keras.Input((NOISE,)),
                layers.Dense(4 * 4 * 4),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Reshape((4, 4, 4)),
                layers.Conv2DTranspose(1, 4, 2, padding="same", activation="tanh"),
            ],
            name="generator",
        )
        self.critic = keras.Sequential(
            [
                keras.Input(SHAPE),
                layers.Conv2D(6, 4, 2, padding="same"),
                layers.LeakyReLU(0.2),
                layers.Flatten(),
                layers.Dense(1, kernel_regularizer=keras.regularizers.L2(1e-3)),
            ],
            name="critic",
        )
        self.built = True

    def call(self, inputs, training: bool = False):
        images = inputs["image"] if isinstance(inputs, dict) else inputs
        return self.critic(images, training=training)

    def critic_loss(self, batch, training):
        real, fake = batch["image"], self.generator(batch["noise"], training=training)
        mix = ops.reshape(batch["mix"], (-1, 1, 1, 1))
        between = mix * real + (1 - mix) * fake
        slope = grad(lambda x: self.critic(x, training=training))(between)
        norm = ops.sqrt(ops.sum(slope * slope, axis=(1, 2, 3)) + 1e-12)
        penalty = ops.mean((norm - 1) ** 2)
        loss = ops.mean(self.critic(fake, training=training))
        loss = loss - ops.mean(self.critic(real, training=training)) + 10 * penalty
        return loss, {"penalty": penalty}

    def generator_loss(self, batch, training):
        fake = self.generator(batch["noise"], training=training)
        return -ops.mean(self.critic(fake, training=training)), {}

    def updates(self):
        both = [
            Update(
                "critic",
                self.critic_loss,
                self.critic.trainable_variables,
                repeats=self.n_critic,
                logs=("penalty",),
            ),
            Update("generator", self.generator_loss, self.generator.trainable_variables),
        ]
        return [u for u in both if self.only in (None, u.name)]


def batch(n: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image": np.tanh(rng.normal(size=(n, *SHAPE))).astype("float32"),
        "noise": rng.normal(size=(n, NOISE)).astype("float32"),
        "mix": rng.random(n).astype("float32"),
    }


def set_known_weights(model: keras.Model, seed: int = 1) -> None:
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.2, size=tuple(variable.shape)).astype("float32"))


def optimizers() -> dict:
    return {
        "critic": keras.optimizers.Adam(1e-3, beta_1=0.5, clipnorm=1.0),
        "generator": keras.optimizers.Adam(2e-3, beta_1=0.5),
    }


def trained(steps: int = 6, **kwargs) -> tuple[SmallGAN, dict]:
    """The model after some steps from the known weights, and what was logged at every step."""
    model = SmallGAN()
    set_known_weights(model)
    model.compile(optimizers(), **kwargs)
    data = batch()
    history = model.fit(data, batch_size=16, epochs=steps, shuffle=False, verbose=0).history
    return model, history
