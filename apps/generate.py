"""Train a generator of pictures, draw from it, and export it."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from apps._main import main
from apps._training import (
    TrainingOptions,
    begin,
    card_of_data,
    command,
    compile_model,
    default_epochs,
    deliver,
    described,
    open_run,
    plan,
    read,
    train_model,
)

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    from keras_gen.data import ImageData, Splits
    from keras_gen.metrics import Features
    from keras_gen.training import Run
    from keras_gen.variational import VAE


@dataclass
class Options(TrainingOptions):
    model: Literal["vae"] = "vae"
    """What to train."""
    network: Literal["auto", "mlp", "conv"] = "auto"
    """Encoder and decoder; auto: convolutional from 16 pixels a side."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers, from the picture inward; default by network."""
    activation: str = "relu"
    """Of the hidden layers."""
    latent_dim: int = 8
    """Dimensions of the code; 2 draws its whole manifold."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """p(picture | code)."""
    scale: float | None = None
    """Standard deviation of a Gaussian likelihood, in pixel units of [-1, 1]; default: learned."""
    beta: float = 1.0
    """Weight of the divergence."""
    free_bits: float = 0.0
    """Nats of each code dimension that cost nothing."""
    kl_warmup: int = 0
    """Training steps over which the divergence's weight grows from 0."""
    binarize: Literal["none", "dynamic", "threshold"] = "none"
    """Make pixels binary; dynamic: drawn anew from the grey values at every visit."""
    importance_samples: int | None = None
    """Samples k of the bound on log p(x) reported at the end, on all held-out pictures; 0: none;
    default: 100, on 1,000 of them at most."""
    quality_every: int = 0
    """Epochs between measuring drawn pictures against held-out ones (quality.csv), and keeping the best
    model so far (best.keras); 0: never."""
    quality_n: int = 1000
    """Pictures to measure with; fewer where fewer are held out."""
    quality_features: str = "auto"
    """What they are measured in, as --features of apps.evaluate."""


def work(options: Options) -> None:
    import keras

    from keras_gen.data import Batches
    from keras_gen.metrics import SampleQuality

    options, run = begin("generate", options)
    splits = read(options)
    keras.utils.set_random_seed(options.seed)
    model = build(options, splits.train.shape)
    model.start_from(splits.train.mean())
    made = partial(Batches, batch_size=options.batch_size, seed=options.seed, binarize=options.binarize)
    training, held_out = made(splits.train, training=True), made(splits.test, training=False)
    epochs = default_epochs(options, len(training))
    options = replace(options, epochs=epochs)
    compile_model(model, options, epochs, len(training))
    quality = _measured_in(options, splits)
    run = open_run("generate", options, run, splits.train)
    plan(
        {
            "data": described(splits, options),
            "model": f"{options.model}, {options.latent_dim}-dimensional code, "
            f"{model.count_params():,} parameters, on {keras.backend.backend()}",
            "training": f"{epochs} epochs of {len(training)} steps",
            **({} if quality is None else {"quality": f"{len(quality[1]):,} pictures in {quality[0].name}"}),
            "writing": str(run.path),
        }
    )
    watching: list[keras.callbacks.Callback] = [_progress_pictures(run, model, options.seed, epochs)]
    if quality is not None:
        features, real = quality
        every, seed = options.quality_every, options.seed
        watching.append(SampleQuality(features, real.levels(), every, run.path, seed=seed))
    train_model("generate", model, training, held_out, run, epochs, watching)
    finish(run, model, splits, held_out, options)


def build(options: Options, shape: tuple[int, int, int]) -> "VAE":
    """The untrained model for pictures of `shape`."""
    from keras_gen import networks, variational

    likelihood: variational.Bernoulli | variational.Gaussian = variational.Bernoulli()
    if options.likelihood == "gaussian":
        likelihood = variational.Gaussian(options.scale)
    output_shape = (*shape[:2], shape[2] * likelihood.parameters)
    side = min(shape[:2])
    if options.network == "mlp" or (options.network == "auto" and side < 16):
        hidden = options.hidden or (256, 256)
        encoder = networks.mlp_encoder(shape, 2 * options.latent_dim, hidden, activation=options.activation)
        decoder = networks.mlp_decoder(
            options.latent_dim, output_shape, hidden[::-1], activation=options.activation
        )
    else:
        # halve down to about 8 pixels a side
        stages = max(1, (side // 8).bit_length() - 1)
        hidden = options.hidden or tuple(min(32 * 2**i, 256) for i in range(stages))
        encoder = networks.conv_encoder(shape, 2 * options.latent_dim, hidden, activation=options.activation)
        decoder = networks.conv_decoder(
            options.latent_dim, output_shape, hidden[::-1], activation=options.activation
        )
    return variational.VAE(
        encoder,
        decoder,
        likelihood=likelihood,
        beta=options.beta,
        free_bits=options.free_bits,
        kl_warmup=options.kl_warmup,
        seed=options.seed,
    )


def _progress_pictures(run: "Run", model: "VAE", seed: int, epochs: int):
    from keras_gen import plots
    from keras_gen.engine import to_numpy
    from keras_gen.training.callbacks import AtEpochs

    def draw(epoch: int) -> None:
        folder = run.path / "samples"
        folder.mkdir(exist_ok=True)
        samples = to_numpy(model.sample(64, seed=seed))
        plots.save(plots.grid(samples, 8), folder / f"epoch-{epoch:05d}.png")

    return AtEpochs(draw, epochs)


LEAST = 7
"""Pictures that quality can be told of: two more than the neighbours that are looked at."""


def _measured_in(options: Options, splits: "Splits") -> "tuple[Features, ImageData] | None":
    """What drawn pictures are measured in and against on the way, if they are."""
    from pathlib import Path

    import numpy as np

    from keras_gen.errors import InputError
    from keras_gen.metrics import load_features

    if options.quality_every == 0:
        return None
    order = np.random.default_rng([options.seed, 5]).permutation(len(splits.test))
    real = splits.test.select(np.sort(order[: max(options.quality_n, 0)]))
    if options.quality_every < 0 or len(real) < LEAST:
        raise InputError(
            f"Expected quality_every of 0 or more, and {LEAST} held-out pictures or more to measure with. "
            f"Received: {options.quality_every}, and {len(real)} pictures."
        )
    return load_features(options.quality_features, Path(splits.train.name).name), real


def finish(run: "Run", model: "VAE", splits: "Splits", held_out, options: Options) -> None:
    """Pictures, numbers and artefacts of a trained model."""
    from keras_gen import plots
    from keras_gen.engine import to_numpy

    rows = run.rows()
    plots.curves(rows, run.path / "curves.png")
    plots.save(plots.grid(to_numpy(model.sample(100, seed=options.seed)), 10), run.path / "samples.png")
    originals = held_out[0]["image"][:36]
    plots.save(plots.pairs(originals, to_numpy(model(originals))), run.path / "reconstructions.png")
    plots.save(_manifold(model, splits.test, options), run.path / "manifold.png")

    metrics = {k: round(v, 4) for k, v in rows[-1].items() if k.startswith("val_")}
    metrics |= _bound(model, held_out, options)
    for name, value in metrics.items():
        print(f"{name}: {value}")
    files = ["samples.png", "reconstructions.png", "manifold.png"]
    if options.quality_every and (run.path / "quality.csv").exists():
        files += ["quality.csv", "best.keras"]
    deliver(run, model, _card(run, splits, options, metrics), files)
    print(f"next: python -m apps.sample {run.path} --n 100 --seed 1, python -m apps.evaluate {run.path}")


def _manifold(model: "VAE", data: "ImageData", options: Options):
    """The decoder over the prior's quantiles for a 2-D code, else ways between held-out pictures."""
    import numpy as np

    from keras_gen import plots
    from keras_gen.engine import to_numpy

    if options.latent_dim == 2:
        side = 20
        return plots.grid(to_numpy(model.decode(plots.prior_quantiles(side))), side)
    rows, steps = min(10, len(data) // 2) or 1, 12
    chosen = np.random.default_rng([options.seed, 3]).permutation(len(data))
    codes = to_numpy(model.encode(data.floats(chosen[: 2 * rows])))
    starts, ends = codes[:rows], codes[-rows:]
    return plots.grid(to_numpy(model.decode(plots.interpolations(starts, ends, steps))), steps)


def _bound(model: "VAE", held_out, options: Options) -> dict[str, str]:
    """The k-sample bound on the held-out pictures, by name and with its protocol."""
    import math

    import numpy as np
    from rich.console import Console
    from rich.progress import track

    k = 100 if options.importance_samples is None else options.importance_samples
    if k < 1:
        return {}
    most = 1000 if options.importance_samples is None else len(held_out.data)
    batches = range(math.ceil(min(most, len(held_out.data)) / held_out.batch_size))
    values = []
    console = Console(stderr=True)
    for step in track(batches, f"bound of {k} samples", console=console, transient=True):
        values.append(model.log_likelihood(held_out[step]["image"], k=k, seed=step))
    bound = np.concatenate(values)[:most]
    error = bound.std(ddof=1) / math.sqrt(len(bound)) if len(bound) > 1 else math.nan
    name = f"log p(x), {k}-sample bound, nats, {len(bound)} held-out pictures"
    return {name: f"{bound.mean():.2f} +- {error:.2f} (standard error over pictures)"}


def _card(run: "Run", splits: "Splits", options: Options, metrics: dict) -> dict:
    grey = options.likelihood == "bernoulli" and options.binarize == "none"
    return {
        "name": f"{options.model} on {splits.train.name}",
        "data": card_of_data(splits, options, run),
        "metrics": metrics,
        "protocol": f"held-out pictures of the data's test split or, without one, of a random part; "
        f"binarize: {options.binarize}; "
        + (
            "grey values under a Bernoulli likelihood: a cross entropy, not comparable with "
            "likelihoods of binarised data; "
            if grey
            else ""
        )
        + f"epochs {options.epochs}, seed {options.seed}, backend {run.config['backend']}.",
        "licence": splits.train.licence,
        "command": command("generate", options),
        "usage": [
            "images = model.sample(n=16, seed=0)        # uint8, the same seed gives the same",
            "codes = model.encode(image=images)",
            "again = model.decode(code=codes)",
            "near = model.reconstruct(image=images)",
        ],
    }


if __name__ == "__main__":
    main(Options, work, __doc__)
