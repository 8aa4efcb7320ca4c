"""Train a generator of pictures, draw from it, and export it."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from apps._main import main
from apps._training import (
    TrainingOptions,
    begin,
    card_of_data,
    changed,
    command,
    computing_in,
    data_name,
    default_epochs,
    deliver,
    described,
    held_out_of,
    open_run,
    plan,
    read,
    save_model,
    train_model,
)

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    from types import ModuleType

    from keras_gen.data import ImageData, Splits
    from keras_gen.engine import GenerativeModel
    from keras_gen.metrics import Features
    from keras_gen.training import Run


@dataclass
class Options(TrainingOptions):
    model: Literal["vae", "gan", "wgan-gp", "sngan", "cgan", "vae-gan", "ddpm", "flow-matching"] = "vae"
    """What to train: a variational autoencoder, an adversarial network (gan: DCGAN; cgan: one that is told
    the class), both in one, or a diffusion model."""
    latent_dim: int | None = None
    """Dimensions of the code; default: 8, 100 for GANs. A VAE of 2 draws its whole manifold."""

    network: Literal["auto", "mlp", "conv", "residual", "unet"] = "auto"
    """VAE: mlp or conv; auto: convolutional from 16 pixels a side. GAN: conv (DCGAN; auto), or residual
    (SNGAN), slower by far. Diffusion: unet."""
    hidden: tuple[int, ...] = ()
    """VAE: widths of the hidden layers, from the picture inward; default by network."""
    activation: str = "relu"
    """VAE: of the hidden layers."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """VAE: p(picture | code)."""
    scale: float | None = None
    """VAE: standard deviation of a Gaussian likelihood, in pixel units of [-1, 1]; default: learned."""
    beta: float = 1.0
    """VAE, VAE-GAN: weight of the divergence."""
    free_bits: float = 0.0
    """VAE: nats of each code dimension that cost nothing."""
    kl_warmup: int = 0
    """VAE: training steps over which the divergence's weight grows from 0."""
    binarize: Literal["none", "dynamic", "threshold"] = "none"
    """VAE: make pixels binary; dynamic: drawn anew from the grey values at every visit."""
    importance_samples: int | None = None
    """VAE: samples k of the bound on log p(x) reported at the end, on all held-out pictures; 0: none;
    default: 100, on 1,000 of them at most."""

    loss: Literal["non-saturating", "minimax", "least-squares", "hinge", "wasserstein"] | None = None
    """GAN: default by model: non-saturating; wasserstein for wgan-gp, hinge for sngan."""
    penalty: str | None = None
    """GAN: on the discriminator's slope: none, gp:WEIGHT, gp0:WEIGHT (centred at 0) or r1:WEIGHT; default:
    gp:10 for wgan-gp, otherwise none."""
    critic_steps: int | None = None
    """GAN: updates of the discriminator for each of the generator, every one on --batch-size pictures of its
    own; default: 5 for wgan-gp, otherwise 1."""
    gamma: float = 1e-3
    """VAE-GAN: weight of the reconstruction, against deceiving the discriminator."""
    filters: int = 64
    """GAN: of the layer next to the picture, twice as many at half the size; residual: of the
    discriminator's blocks, half those of the generator's."""
    critic_learning_rate: float | None = None
    """GAN: of the discriminator; default: that of the generator."""
    ema: float = 0.999
    """GAN: decay of the average of the generator's weights that makes the samples; 0: the generator's own."""
    label_smoothing: float = 0.0
    """GAN: real pictures are told to the discriminator as 1 less this."""
    random_smoothing: bool = False
    """GAN: less a number drawn up to it."""
    label_flips: float = 0.0
    """GAN: chance that a picture is told as the opposite of what it is."""
    instance_noise: float = 0.0
    """GAN: standard deviation of noise on all the discriminator sees, gone after half of the training."""

    classes: bool = False
    """Diffusion: tell the network the class, so that pictures of one can be asked for."""
    unlabelled: float = 0.1
    """Diffusion, --classes: share of the pictures whose class training hides, for guidance."""
    noise_schedule: Literal["linear", "scaled-linear", "cosine", "sigmoid", "edm", "flow"] | None = None
    """Diffusion: default by model: cosine; flow for flow-matching."""
    times: int = 1000
    """Diffusion: steps T of a discrete schedule."""
    zero_terminal_snr: bool = False
    """Diffusion: stretch a discrete schedule until nothing of the picture is left; --prediction v or x0."""
    prediction: Literal["epsilon", "x0", "v", "velocity", "edm"] | None = None
    """Diffusion: what the network tells; default by model: v; velocity for flow-matching."""
    weighting: Literal["simple", "min-snr", "clipped-snr", "p2"] | None = None
    """Diffusion: how much the loss counts at each level of noise; default by model: min-snr; simple for
    flow-matching."""
    learned_variance: bool = False
    """Diffusion: the network also tells the variance of DDPM's steps."""
    self_condition: bool = False
    """Diffusion: the network also sees its estimate of the step before."""
    ema_pictures: float = 500_000
    """Diffusion: half-life, in pictures, of the average of weights that makes the samples; 0: none."""
    width: int = 32
    """Diffusion: channels of the U-Net at full resolution."""
    multipliers: tuple[int, ...] = ()
    """Diffusion: of the width at each scale; default: 1, then 2 down to about 7 pixels a side."""
    blocks: int = 2
    """Diffusion: residual blocks at each scale."""
    attention: tuple[int, ...] = ()
    """Diffusion: sides of the feature maps that attend to themselves; default: the smallest."""
    heads: int = 1
    """Diffusion: of that attention."""
    dropout: float = 0.0
    """Diffusion: in every block."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Diffusion: of the network's arithmetic in training; bfloat16 is faster on processors and GPUs made for
    it, many times slower elsewhere. Weights, losses and what is saved stay float32."""
    sampler: Literal["ddim", "ddpm", "heun", "dpm-solver++", "unipc"] | None = None
    """Diffusion: how pictures are drawn; default by model: dpm-solver++; heun for flow-matching."""
    steps: int = 20
    """Diffusion: in so many steps."""
    guidance: float = 1.0
    """Diffusion, --classes: pictures are pushed towards their class by so much; 1: not."""

    quality_every: int | None = None
    """Epochs between measuring drawn pictures against held-out ones (quality.csv), and keeping the best
    model so far (best.keras); 0: never; default: a tenth of all epochs, for VAEs 0."""
    quality_n: int = 1000
    """Pictures to measure with; fewer where fewer are held out."""
    quality_features: str = "auto"
    """What they are measured in, as --features of apps.evaluate."""


FRAMES = 60
"""Grids of samples from the same codes on the way, at most: frames of the film."""


def work(options: Options) -> None:
    import keras

    from keras_gen.data import Batches
    from keras_gen.engine import parameters
    from keras_gen.metrics import SampleQuality

    options, run = begin("generate", options)
    family = _family(options)  # a resumed run says itself what it trains
    if run is None:
        _check(options, family)
    options = family.checked(options)
    splits = read(options)
    made = partial(Batches, seed=options.seed, binarize=options.binarize)
    training = made(splits.train, family.pictures_a_step(options), training=True)
    held_out = made(splits.test, options.batch_size, training=False)
    epochs = default_epochs(options, len(training))
    options = replace(options, epochs=epochs)
    keras.utils.set_random_seed(options.seed)
    model = _built(family, options, splits)
    family.compiled(model, options, epochs, len(training))
    every = family.quality_every(options, epochs) if options.quality_every is None else options.quality_every
    quality = _measured_in(options, splits, every)
    run = open_run("generate", options, run, splits.train)
    plan(
        {
            "data": described(splits, options),
            "model": f"{options.model}, {family.kind(model)}, {parameters(model):,} parameters, on "
            f"{keras.backend.backend()}",
            "training": f"{epochs} epochs of {len(training)} steps",
            **({} if quality is None else {"quality": f"{len(quality[1]):,} pictures in {quality[0].name}"}),
            "writing": str(run.path),
        }
    )
    watching: list[keras.callbacks.Callback] = [_progress_pictures(run, model, options.seed, epochs)]
    measured = None
    if quality is not None:
        features, real = quality
        measured = SampleQuality(features, real.levels(), every, run.path, seed=options.seed)
        watching.append(measured)
    watching += family.watchers(run, training, measured)
    train_model(model, training, held_out, run, epochs, watching)
    finish(run, model, splits, held_out, options, family)


def _built(family: "ModuleType", options: Options, splits: "Splits") -> "GenerativeModel":
    with computing_in(options.precision):
        return family.build(options, splits)


def _family(options: Options) -> "ModuleType":
    """The module with the rest: how the model is built, trained and shown."""
    from apps import _diffusion, _gan, _vae

    return {"vae": _vae, "ddpm": _diffusion, "flow-matching": _diffusion}.get(options.model, _gan)


NETWORKS = {
    "vae": ("auto", "mlp", "conv"),
    "vae-gan": ("auto", "conv"),
    **dict.fromkeys(("gan", "cgan", "wgan-gp", "sngan"), ("auto", "conv", "residual")),
    **dict.fromkeys(("ddpm", "flow-matching"), ("auto", "unet")),
}


def _check(options: Options, family: "ModuleType") -> None:
    from apps import _diffusion, _gan, _vae
    from keras_gen.errors import InputError

    known = NETWORKS[options.model]
    if options.network not in known:
        raise InputError(
            f"Expected a --network of {options.model}: {', '.join(known)}. Received: {options.network}."
        )
    modules = [module for module in (_vae, _gan, _diffusion) if module is not family]
    others = {name for module in modules for name in module.OWN.split()}
    foreign = [f"--{name.replace('_', '-')}" for name in changed(options) if name in others]
    if foreign:
        raise InputError(
            f"Expected options of --model {options.model}. Received: {', '.join(foreign)}. Leave out what "
            "belongs to other models; --help says what that is."
        )


def _progress_pictures(run: "Run", model: "GenerativeModel", seed: int, epochs: int):
    from keras_gen import plots
    from keras_gen.engine import to_numpy
    from keras_gen.training.callbacks import AtEpochs

    def draw(epoch: int) -> None:
        folder = run.path / "samples"
        folder.mkdir(exist_ok=True)
        samples = to_numpy(model.sample(64, seed=seed))
        plots.save(plots.grid(samples, 8), folder / f"epoch-{epoch:05d}.png")

    return AtEpochs(draw, epochs, FRAMES)


LEAST = 7
"""Pictures that quality can be told of: two more than the neighbours that are looked at."""


def _measured_in(options: Options, splits: "Splits", every: int) -> "tuple[Features, ImageData] | None":
    """What drawn pictures are measured in and against on the way, if they are."""
    from pathlib import Path

    import numpy as np

    from keras_gen.errors import InputError
    from keras_gen.metrics import load_features

    if every == 0:
        return None
    order = np.random.default_rng([options.seed, 5]).permutation(len(splits.test))
    real = splits.test.select(np.sort(order[: max(options.quality_n, 0)]))
    if every < 0 or len(real) < LEAST:
        raise InputError(
            f"Expected quality_every of 0 or more, and {LEAST} held-out pictures or more to measure with. "
            f"Received: {every}, and {len(real)} pictures."
        )
    return load_features(options.quality_features, Path(splits.train.name).name), real


def finish(
    run: "Run", model: "GenerativeModel", splits: "Splits", held_out, options: Options, family: "ModuleType"
) -> None:
    """Pictures, numbers and artefacts of a trained model."""
    from keras_gen import plots
    from keras_gen.engine import to_numpy

    save_model(run, model)
    rows = run.rows()
    plots.curves(rows, run.path / "curves.png")
    plots.save(plots.grid(to_numpy(model.sample(100, seed=options.seed)), 10), run.path / "samples.png")
    files = ["samples.png"]
    frames = sorted((run.path / "samples").glob("epoch-*.png"))
    if len(frames) > 1:
        plots.film(frames, run.path / "training.gif")
        files.append("training.gif")
    metrics = {k: round(v, 4) for k, v in rows[-1].items() if k.startswith("val_")}
    more, drawn, protocol = family.finished(run, model, splits, held_out, options)
    metrics |= more
    files += drawn
    for name, value in metrics.items():
        print(f"{name}: {value}")
    if (run.path / "quality.csv").exists():
        files += ["quality.csv", "best.keras"]
    card = {
        "name": f"{options.model} on {data_name(options)}",
        "data": card_of_data(splits, options, run),
        "metrics": metrics,
        "protocol": f"held-out pictures: {held_out_of(options)}; "
        f"{protocol}epochs {options.epochs}, seed {options.seed}, backend {run.config['backend']}.",
        "licence": splits.train.licence,
        "command": command("generate", options),
        "usage": [
            *family.usage(model),
        ],
        **family.more_for_card(model),
    }
    deliver(run, card, files)
    print(f"next: python -m apps.sample {run.path} --n 100 --seed 1, python -m apps.evaluate {run.path}")


if __name__ == "__main__":
    main(Options, work, __doc__)
