"""Write what the backends are compared with: `KERAS_BACKEND=NAME python tests/make_golden.py`.

Run it once on each backend, in any order, whenever the meaning of a step has changed on purpose;
only TensorFlow writes the losses, every backend writes a trained model and its outputs.
"""

import json
from pathlib import Path

import keras
import numpy as np
import small_gan

from keras_gen.data import load
from keras_gen.engine import to_numpy
from keras_gen.networks import mlp_decoder, mlp_encoder
from keras_gen.variational import VAE

GOLDEN = Path(__file__).parent / "golden"


def tiny_vae(**kwargs) -> VAE:
    encoder = mlp_encoder((8, 8, 1), 6, (16,), "tanh")
    return VAE(encoder, mlp_decoder(3, (8, 8, 1), (16,), "tanh"), **kwargs)


def vae_step_losses(steps: int = 5) -> dict:
    """Losses of a VAE from known weights and noise, gradients included through the steps."""
    model = NoiseGiven(tiny_vae(beta=0.7, free_bits=0.05))
    small_gan.set_known_weights(model)
    model.compile(keras.optimizers.Adam(1e-2))
    images = load("digits").train.floats(slice(0, 32))
    noise = np.random.default_rng(2).normal(size=(32, 3)).astype("float32")
    return model.fit(
        {"image": images, "noise": noise}, batch_size=32, epochs=steps, shuffle=False, verbose=0
    ).history


class NoiseGiven(VAE):
    """A VAE whose noise comes with the batch."""

    def __init__(self, vae: VAE):
        super().__init__(vae.encoder, vae.decoder, beta=vae.beta, free_bits=vae.free_bits)

    def _loss(self, batch, training):
        return self.loss_from_noise(batch, batch["noise"], training)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    backend = keras.backend.backend()
    keras.utils.set_random_seed(0)
    if backend == "tensorflow":
        losses = {"gan": small_gan.trained()[1], "vae": vae_step_losses()}
        losses = {k: {n: [float(x) for x in v] for n, v in h.items()} for k, h in losses.items()}
        (GOLDEN / "losses.json").write_text(json.dumps(losses, indent=1) + "\n")
    digits = load("digits")
    model = tiny_vae()
    model.compile(keras.optimizers.Adam(5e-3))
    model.fit({"image": digits.train.floats()}, batch_size=100, epochs=30, verbose=0)
    model.save(GOLDEN / f"vae_{backend}.keras")
    images = digits.test.floats(slice(0, 20))
    mean, log_var = model.posterior(images)
    np.savez_compressed(
        GOLDEN / f"vae_{backend}.npz",
        reconstruction=to_numpy(model(images)),
        mean=to_numpy(mean),
        log_var=to_numpy(log_var),
    )
