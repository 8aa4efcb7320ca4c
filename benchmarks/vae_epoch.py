"""Seconds per epoch of an MLP VAE: keras_gen on each backend, and pythae, on the same work.

The work: 60,000 pictures of 28x28 in batches of 100, encoder 784-400-2x20, decoder 20-400-784,
ReLU, Bernoulli likelihood, Adam at 1e-3, shuffled every epoch, data in memory, nothing evaluated.
pythae trains through its own `TrainingPipeline`, keras_gen through its own `fit`: each as its users
would, progress bars and checkpoints off. An epoch's time does not depend on what the pictures show;
they are drawn at random, so that no data is needed.

Every contestant runs in a process of its own, in turn. The first epoch, which compiles, is left out.

    python -m benchmarks.vae_epoch            # or: tox -e benchmarks
"""

import argparse
import time

from benchmarks._contest import Contestant, contest

BATCH, LATENT, HIDDEN, SIDE = 100, 20, 400, 28


def images(n: int):
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 1), "uint8")


def ours(options: argparse.Namespace) -> list[float]:
    import keras

    from keras_gen.data import Batches, ImageData
    from keras_gen.networks import mlp_decoder, mlp_encoder
    from keras_gen.variational import VAE

    shape = (SIDE, SIDE, 1)
    model = VAE(mlp_encoder(shape, 2 * LATENT, (HIDDEN,)), mlp_decoder(LATENT, shape, (HIDDEN,)))
    model.compile(keras.optimizers.Adam(1e-3), steps_per_execution=20)
    batches = Batches(ImageData("random", images(options.pictures)), BATCH, training=True)
    clock = EpochClock.callback(keras, batches)
    model.fit(
        batches.stream(),
        steps_per_epoch=len(batches),
        epochs=options.epochs + 1,
        shuffle=False,
        verbose=0,
        callbacks=[clock],
    )
    return clock.seconds[1:]


class EpochClock:
    @staticmethod
    def callback(keras, batches):
        class Clock(keras.callbacks.Callback):
            seconds: list[float] = []

            def on_epoch_begin(self, epoch, logs=None):
                batches.epoch = epoch
                self.started = time.perf_counter()

            def on_epoch_end(self, epoch, logs=None):
                self.seconds.append(time.perf_counter() - self.started)

        return Clock()


def pythae(options: argparse.Namespace) -> list[float]:
    import logging
    import tempfile

    import numpy as np
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback
    from torch import nn

    logging.disable(logging.CRITICAL)

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Sequential(nn.Linear(SIDE * SIDE, HIDDEN), nn.ReLU())
            self.mean, self.log_var = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

        def forward(self, x):
            h = self.hidden(x.reshape(len(x), -1))
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, SIDE * SIDE), nn.Sigmoid()
            )

        def forward(self, z):
            return ModelOutput(reconstruction=self.layers(z).reshape(-1, 1, SIDE, SIDE))

    seconds = []

    class Clock(TrainingCallback):
        def on_epoch_begin(self, training_config, **kwargs):
            self.started = time.perf_counter()

        def on_epoch_end(self, training_config, **kwargs):
            seconds.append(time.perf_counter() - self.started)

    data = (images(options.pictures).transpose(0, 3, 1, 2) / np.float32(255)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=options.epochs + 1,
            learning_rate=1e-3,
            per_device_train_batch_size=BATCH,
            steps_saving=None,
            no_cuda=True,
        )
        model = VAE(VAEConfig((1, SIDE, SIDE), LATENT, reconstruction_loss="bce"), Encoder(), Decoder())
        TrainingPipeline(training_config=config, model=model)(train_data=data, callbacks=[Clock()])
    return seconds[1:]


CONTESTANTS = {
    "keras_gen on jax": Contestant(ours, "jax"),
    "keras_gen on tensorflow": Contestant(ours, "tensorflow"),
    "keras_gen on torch": Contestant(ours, "torch"),
    "pythae": Contestant(pythae, "torch"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs a round")
    parser.add_argument("--pictures", type=int, default=60_000)
    contest("benchmarks.vae_epoch", CONTESTANTS, parser, "s/epoch", ["pythae"], higher=False)


if __name__ == "__main__":
    main()
