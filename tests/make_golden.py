"""Write what the backends are compared with: `KERAS_BACKEND=NAME python tests/make_golden.py`.

Run it once on each backend, in any order, whenever the meaning of a step has changed on purpose;
only TensorFlow writes the losses, every backend writes a trained model and its outputs.
"""

import json
from pathlib import Path

import keras
import numpy as np
import small_gan

from keras_gen.adversarial import GAN, GradientPenalty
from keras_gen.autoencoders import Autoencoder, Denoiser, penalties
from keras_gen.corruptions import Corruption
from keras_gen.data import load
from keras_gen.diffusion import Ancestral, Diffusion, log_density, variational_bound
from keras_gen.engine import to_numpy
from keras_gen.hashing import SemanticHash
from keras_gen.latent import LatentAutoencoder, TextToImage, WordTokenizer
from keras_gen.networks import (
    dcgan_discriminator,
    dcgan_generator,
    latent_decoder,
    latent_encoder,
    mlp_decoder,
    mlp_encoder,
    patch_discriminator,
    text_encoder,
    time_unet,
    unet,
)
from keras_gen.semisupervised import Classifier
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


class KnownNoise(Corruption):
    """Adds the same numbers everywhere."""

    def apply(self, data, generator):
        noise = np.random.default_rng(3).normal(0, 0.3, size=(64, *data.shape[1:])).astype("float32")
        return data + keras.ops.convert_to_tensor(noise)[: keras.ops.shape(data)[0]]


def autoencoder_family() -> dict:
    """A function for each model whose steps are compared."""
    shape, noise = (8, 8, 1), KnownNoise()

    def mlp(units: int, activation: str = "linear"):
        encoder = mlp_encoder(shape, units, (16,), "tanh", code_activation=activation)
        return encoder, mlp_decoder(units, shape, (16,), "tanh")

    return {
        "contractive": lambda: Autoencoder(
            mlp(4)[0], "tied", noise, penalties.Contractive(1e-2, "exact"), seed=1
        ),
        "sparse": lambda: Autoencoder(*mlp(6, "sigmoid"), noise, penalties.KLSparsity(0.1, 1e-2)),
        "denoiser": lambda: Denoiser(
            unet.bias_free_unet(1, (4, 6), 1), noise, unet.stride((4, 6)), unet.reach((4, 6), 1), grey_share=0
        ),
        "classifier": lambda: Classifier(mlp(6)[0], 10, weak=noise, strong=noise, threshold=0.16),
        "hash": lambda: SemanticHash(*mlp(8, "sigmoid"), noise),
    }


def autoencoder_step_losses(name: str, steps: int = 5) -> dict:
    """What a model of the family logs at each of its first steps, from known weights."""
    model = autoencoder_family()[name]()
    small_gan.set_known_weights(model)
    model.compile(keras.optimizers.Adam(1e-2))
    digits = load("digits").train
    batch = {
        "image": digits.floats(slice(0, 32)),
        "label": digits.labels[:32],
        "unlabelled": digits.floats(slice(32, 64)),
        "neighbour": digits.floats(slice(64, 96)),
    }
    return model.fit(batch, batch_size=32, epochs=steps, shuffle=False, verbose=0).history


class KnownDraws(GAN):
    """A GAN whose codes and mixtures are the same everywhere."""

    def draw(self, n):
        rng = np.random.default_rng(4)
        codes, mix = rng.normal(size=(64, self.latent_dim)), rng.random(64)
        return {
            "codes": keras.ops.convert_to_tensor(codes.astype("float32"))[:n],
            "mix": keras.ops.convert_to_tensor(mix.astype("float32"))[:n],
        }


def adversarial_steps(steps: int = 20) -> dict:
    """What two GANs log at each of their alternating steps, and their statistics after the last."""
    digits = load("digits").train
    found = {}
    for name, norm, loss, penalty, critic_steps in (
        ("dcgan", "batch", "non-saturating", None, 1),
        ("wgan-gp", "layer", "wasserstein", GradientPenalty(), 2),
    ):
        model = KnownDraws(
            dcgan_generator(6, (8, 8, 1), 4),
            dcgan_discriminator((8, 8, 1), 4, norm),
            loss,
            penalty,
            critic_steps,
            ema=0.9,
        )
        small_gan.set_known_weights(model)
        model.average.set_weights(model.generator.get_weights())
        model.compile({n: keras.optimizers.Adam(1e-3, 0.5) for n in ("discriminator", "generator")})
        data = {"image": digits.floats(slice(0, 32))}
        history = model.fit(data, batch_size=32, epochs=steps, shuffle=False, verbose=0).history
        found |= {f"{name} {term}": values for term, values in history.items()}
        statistics = [v for v in model.non_trainable_variables if "seed" not in v.path]
        found[f"{name} statistics"] = [float(to_numpy(v.value).mean()) for v in statistics]
    return found


class KnownNoiseDiffusion(Diffusion):
    """A diffusion model whose times and noise in training are the same everywhere."""

    def draw(self, n):
        rng = np.random.default_rng(5)
        drawn = {"uniform": rng.random(64), "noise": rng.normal(size=(64, *self.data_shape))}
        drawn |= {"hide": rng.random(64), "again": rng.random(64)}
        return {k: keras.ops.convert_to_tensor(v.astype("float32"))[:n] for k, v in drawn.items()}


def diffusion_family() -> dict:
    """Models of which the steps, and all that is drawn from them, are compared."""

    def network(channels: int, outputs: int, classes: int | None, attention: tuple = ()):
        return time_unet((8, 8, channels), outputs, 8, (1,), 1, attention, classes=classes)

    return {
        "ddpm": lambda: KnownNoiseDiffusion(
            network(2, 2, 11, (8,)),
            "cosine",
            classes=10,
            self_condition=True,
            learned_variance=True,
            rescaled=0.7,
        ),
        "flow": lambda: KnownNoiseDiffusion(network(1, 1, None), "flow", "velocity", "min-snr"),
        "edm": lambda: KnownNoiseDiffusion(network(1, 1, None), "edm", "edm"),
    }


DRAWN = {"ddpm": (Ancestral("large"), "unipc"), "flow": ("heun",), "edm": ("ddim", "dpm-solver++")}


def diffusion_results(name: str) -> dict:
    """What is drawn from a model of known weights, and what it logs at its first steps.

    The noise of samples is the same everywhere by itself.
    """
    model = diffusion_family()[name]()
    small_gan.set_known_weights(model)
    model.average.set_weights(model.network.get_weights())
    digits = load("digits").train
    batch = {"image": digits.floats(slice(0, 32)), "label": digits.labels[:32]}
    found = {}
    for sampler in DRAWN[name]:
        made = model.sample(3, seed=1, steps=5, guidance=2.0, sampler=sampler)
        found[f"sample {sampler if isinstance(sampler, str) else sampler.variance}"] = to_numpy(made).ravel()
    if name == "ddpm":
        learned = model.sample(3, seed=1, steps=5, sampler=Ancestral("learned"))
        found["sample learned"] = to_numpy(learned).ravel()
        found["bound"] = variational_bound(model, batch["image"][:4], every=250)["total"]
    if name == "flow":
        found["encoded"] = to_numpy(model.encode(batch["image"][:2], steps=5)).ravel()
        found["density"] = log_density(model, batch["image"][:2], steps=5) / 1000
    model.compile(keras.optimizers.Adam(1e-3))
    found |= model.fit(batch, batch_size=32, epochs=5, shuffle=False, verbose=0).history
    return {key: [round(float(v), 6) for v in values] for key, values in found.items()}


class KnownNoiseStage(LatentAutoencoder):
    """A first stage whose noise in training is the same everywhere."""

    def draw(self, n):
        noise = np.random.default_rng(6).normal(size=(64, *self.latent_shape)).astype("float32")
        return keras.ops.convert_to_tensor(noise)[:n]


def latent_results() -> dict:
    """What a first stage with a discriminator and a denoiser with texts log, and what is drawn by text."""
    digits = load("digits").train.floats(slice(0, 32))
    sizes = {"channels": 2, "width": 8, "multipliers": (1, 2)}
    stage = KnownNoiseStage(
        latent_encoder((8, 8, 1), **sizes),
        latent_decoder((8, 8, 1), **sizes),
        discriminator=patch_discriminator((8, 8, 1), None, 4),
    )
    texts = ["a one", "a two or a three"] * 16
    tokenizer = WordTokenizer.learned(texts)
    layout = (2, 2, 4)
    text = text_encoder(len(tokenizer.vocabulary) + 1, tokenizer.length, 8, 1, 2, layout=layout)
    network = time_unet((4, 4, 2), None, 8, (1,), 1, (4,), context=(1 + tokenizer.length, 8), layout=layout)
    model = KnownNoiseDiffusion(network, "cosine", "v", text=text, clip=False, steps=4, guidance=2.0)
    for part in (stage, model):
        small_gan.set_known_weights(part)
    model.average.set_weights(network.get_weights())
    model.text_average.set_weights(text.get_weights())
    stage.scale.assign([1.5, 0.5])
    pipeline = TextToImage(model, tokenizer, stage)
    found = {"latents": to_numpy(stage.encode(digits[:2])).ravel()}
    found["drawn"] = to_numpy(pipeline.generate(texts[:2], seed=1, negative="three")).ravel()
    stage.compile({name: keras.optimizers.Adam(1e-3) for name in ("autoencoder", "discriminator")})
    found |= stage.fit({"image": digits}, batch_size=32, epochs=5, shuffle=False, verbose=0).history
    model.compile(keras.optimizers.Adam(1e-3))
    batch = {"image": to_numpy(stage.encode(digits)), "label": tokenizer(texts)}
    history = model.fit(batch, batch_size=32, epochs=5, shuffle=False, verbose=0).history
    found["denoiser"] = history["loss"]
    return {key: [round(float(v), 6) for v in values] for key, values in found.items()}


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    backend = keras.backend.backend()
    keras.utils.set_random_seed(0)
    if backend == "tensorflow":
        losses = {"gan": small_gan.trained()[1], "vae": vae_step_losses()}
        losses["adversarial"] = adversarial_steps()
        losses |= {f"diffusion {name}": diffusion_results(name) for name in diffusion_family()}
        losses["latent"] = latent_results()
        losses |= {name: autoencoder_step_losses(name) for name in autoencoder_family()}
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
