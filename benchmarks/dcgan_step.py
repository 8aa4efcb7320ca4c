"""Pictures a second of a DCGAN's training: keras_gen, a plain PyTorch loop, the stock Keras `train_step`.

The work: pictures of 28x28 in batches of 128, codes of 100; generator 100-7x7x128-14x14x64-28x28x1, the
discriminator its mirror, kernels of 4, batch normalisation as in DCGAN, the non-saturating loss, Adam at
2e-4; in a step one update of the discriminator on real and on made pictures, apart, and one of the generator
on new codes. Data in memory, drawn at random: speed does not depend on what they show. The stock Keras model
is written as the custom `train_step` of the Keras guides is, once as `compile` leaves it and once
tuned: oneDNN on, jit_compile=False, four steps per execution, all of which keras_gen does by itself or is
asked for here.

    python -m benchmarks.dcgan_step [--steps 40] [--rounds 3] [--filters 64]
"""

import argparse
import os
import time
from functools import partial

from benchmarks._contest import Contestant, contest

BATCH, LATENT, SIDE, RATE, BETAS = 128, 100, 28, 2e-4, (0.5, 0.999)
WARM = 8
"""Steps that compile, warm up and are not timed; a whole number of executions."""
AT_ONCE = 4


def pictures(steps: int):
    import numpy as np

    levels = np.random.default_rng(0).integers(0, 256, (BATCH * steps, SIDE, SIDE, 1))
    return (levels / 127.5 - 1).astype("float32")


def networks(filters: int):
    from keras_gen.networks import dcgan_discriminator, dcgan_generator

    shape = (SIDE, SIDE, 1)
    return dcgan_generator(LATENT, shape, filters), dcgan_discriminator(shape, filters)


def timed(fit, steps: int) -> list[float]:
    """Pictures a second of `fit(images)`, after a warm-up."""
    fit(pictures(WARM))
    images = pictures(steps)
    started = time.perf_counter()
    fit(images)
    return [len(images) / (time.perf_counter() - started)]


def ours(options: argparse.Namespace) -> list[float]:
    from keras_gen.adversarial import GAN  # before Keras: it switches TensorFlow's oneDNN on

    import keras  # isort: skip

    model = GAN(*networks(options.filters))
    optimizers = {name: keras.optimizers.Adam(RATE, *BETAS) for name in ("discriminator", "generator")}
    model.compile(optimizers, steps_per_execution=AT_ONCE)
    return timed(
        lambda images: model.fit({"image": images}, batch_size=BATCH, shuffle=False, verbose=0), options.steps
    )


def stock(options: argparse.Namespace, tuned: bool = False) -> list[float]:
    if tuned:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    import keras
    import tensorflow as tf

    class StockGAN(keras.Model):
        def __init__(self, generator, discriminator):
            super().__init__()
            self.generator, self.discriminator = generator, discriminator
            self.seed_generator = keras.random.SeedGenerator(0)
            self.d_metric, self.g_metric = keras.metrics.Mean("d_loss"), keras.metrics.Mean("g_loss")

        def compile(self, d_optimizer, g_optimizer, loss_fn, **kwargs):
            super().compile(**kwargs)
            self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn

        def train_step(self, real):
            n = tf.shape(real)[0]
            codes = keras.random.normal((n, LATENT), seed=self.seed_generator)
            made = self.generator(codes, training=True)
            with tf.GradientTape() as tape:
                of_real = self.discriminator(real, training=True)
                of_made = self.discriminator(made, training=True)
                d_loss = self.loss_fn(tf.ones((n, 1)), of_real) + self.loss_fn(tf.zeros((n, 1)), of_made)
            variables = self.discriminator.trainable_variables
            self.d_optimizer.apply(tape.gradient(d_loss, variables), variables)
            codes = keras.random.normal((n, LATENT), seed=self.seed_generator)
            with tf.GradientTape() as tape:
                scores = self.discriminator(self.generator(codes, training=True), training=True)
                g_loss = self.loss_fn(tf.ones((n, 1)), scores)
            variables = self.generator.trainable_variables
            self.g_optimizer.apply(tape.gradient(g_loss, variables), variables)
            self.d_metric.update_state(d_loss)
            self.g_metric.update_state(g_loss)
            return {"d_loss": self.d_metric.result(), "g_loss": self.g_metric.result()}

    model = StockGAN(*networks(options.filters))
    optimizers = [keras.optimizers.Adam(RATE, *BETAS) for _ in range(2)]
    settings = {"jit_compile": False, "steps_per_execution": AT_ONCE} if tuned else {}
    model.compile(*optimizers, keras.losses.BinaryCrossentropy(from_logits=True), **settings)
    return timed(lambda images: model.fit(images, batch_size=BATCH, shuffle=False, verbose=0), options.steps)


def plain_pytorch(options: argparse.Namespace) -> list[float]:
    import torch
    from torch import nn

    f = options.filters
    generator = nn.Sequential(
        nn.Linear(LATENT, 49 * 2 * f, bias=False),
        nn.Unflatten(1, (2 * f, 7, 7)),
        nn.BatchNorm2d(2 * f),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * f, f, 4, 2, 1, bias=False),
        nn.BatchNorm2d(f),
        nn.ReLU(),
        nn.ConvTranspose2d(f, 1, 4, 2, 1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, f, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(f, 2 * f, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * f),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(49 * 2 * f, 1),
    )
    d_optimizer, g_optimizer = (
        torch.optim.Adam(network.parameters(), RATE, BETAS) for network in (discriminator, generator)
    )
    loss = nn.BCEWithLogitsLoss()

    def fit(images):
        data = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        for real in data.split(BATCH):
            ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
            made = generator(torch.randn(len(real), LATENT)).detach()
            d_loss = loss(discriminator(real), ones) + loss(discriminator(made), zeros)
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
            g_loss = loss(discriminator(generator(torch.randn(len(real), LATENT))), ones)
            g_optimizer.zero_grad()
            g_loss.backward()
            g_optimizer.step()

    return timed(fit, options.steps)


CONTESTANTS = {
    "keras_gen on tensorflow": Contestant(ours, "tensorflow"),
    "keras_gen on jax": Contestant(ours, "jax"),
    "keras_gen on torch": Contestant(ours, "torch"),
    "stock Keras train_step on tensorflow": Contestant(stock, "tensorflow"),
    "the same, tuned": Contestant(partial(stock, tuned=True), "tensorflow"),
    "plain PyTorch": Contestant(plain_pytorch, "torch"),
}


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="timed steps a round, in fours")
    parser.add_argument("--filters", type=int, default=64)
    peers = ["stock Keras train_step on tensorflow", "the same, tuned", "plain PyTorch"]
    contest("benchmarks.dcgan_step", CONTESTANTS, parser, "pictures/s", peers, higher=True)


if __name__ == "__main__":
    main()
