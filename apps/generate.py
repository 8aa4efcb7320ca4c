"""Train a generator of pictures, draw from it, and export it."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from apps._main import main

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    from keras_gen.data import ImageData, Splits
    from keras_gen.training import Run
    from keras_gen.variational import VAE


@dataclass
class Options:
    data: str = "digits"
    """`digits`, a folder of pictures, an .npz file, or a TFDS name such as `mnist`."""
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
    image_size: int | None = None
    """Pixels a side; default: as the data are, 64 for mixed sizes."""
    limit: int | None = None
    """Use at most so many pictures of each split."""
    epochs: int | None = None
    """Passes over the data; default: as many as make about 6,000 steps, 200 at most."""
    batch_size: int = 100
    """Pictures in a step."""
    learning_rate: float = 1e-3
    """Of Adam."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate; cosine: down to 0 at the last epoch."""
    importance_samples: int | None = None
    """Samples k of the bound on log p(x) reported at the end, on all held-out pictures; 0: none;
    default: 100, on 1,000 of them at most."""
    seed: int = 0
    """Of weights, order, noise and samples."""
    out: str | None = None
    """Folder to write; default: runs/generate/<time>."""
    resume: str | None = None
    """Folder of a run to go on with; only --epochs may be given with it."""


def changed(options: Options) -> list[str]:
    """The options that differ from their defaults."""
    return [f.name for f in fields(options) if getattr(options, f.name) != f.default]


def work(options: Options) -> None:
    import keras

    from keras_gen.data import Batches, load
    from keras_gen.errors import InputError
    from keras_gen.training import Run, train

    if options.resume is not None:
        run = Run.open(options.resume, "generate")
        options = _resumed(options, run)
    else:
        run = None  # made when the data and the model are known to be good
    for name in ("latent_dim", "batch_size"):
        if getattr(options, name) < 1:
            raise InputError(f"Expected {name} of 1 or more. Received: {getattr(options, name)}.")
    if not options.learning_rate > 0:
        raise InputError(f"Expected a positive learning rate. Received: {options.learning_rate}.")
    if options.epochs is not None and options.epochs < 1:
        raise InputError(f"Expected 1 epoch or more. Received: {options.epochs}.")

    print(f"reading {options.data}", flush=True)
    splits = load(options.data, options.image_size, options.limit, options.seed)
    keras.utils.set_random_seed(options.seed)
    model = build(options, splits.train.shape)
    model.start_from(splits.train.mean())
    training = Batches(
        splits.train, options.batch_size, training=True, seed=options.seed, binarize=options.binarize
    )
    held_out = Batches(
        splits.test, options.batch_size, training=False, seed=options.seed, binarize=options.binarize
    )
    epochs = options.epochs or max(1, min(200, round(6000 / len(training))))
    options = replace(options, epochs=epochs)
    rate = options.learning_rate
    if options.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, epochs * len(training))
    model.compile(
        keras.optimizers.Adam(rate),
        steps_per_execution=max(d for d in range(1, 21) if len(training) % d == 0),
    )
    if run is None:
        run = Run.create("generate", asdict(options), options.out)
    _remember_data(run, splits.train)
    run.config["options"]["epochs"] = epochs
    run.save_config()

    print(
        f"data     {options.data}: {len(splits.train):,} pictures to train on, {len(splits.test):,} "
        f"held out, {'x'.join(map(str, splits.train.shape))}\n"
        f"model    {options.model}, {options.latent_dim}-dimensional code, "
        f"{model.count_params():,} parameters, on {keras.backend.backend()}\n"
        f"training {epochs} epochs of {len(training)} steps\n"
        f"writing  {run.path}",
        flush=True,
    )
    try:
        train(model, training, held_out, run, epochs, [_progress_pictures(run, model, options.seed, epochs)])
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Go on with: python -m apps.generate --resume {run.path}") from None
    finish(run, model, splits, held_out, options)


def _resumed(options: Options, run: "Run") -> Options:
    from keras_gen.errors import InputError

    given = [n for n in changed(options) if n not in ("resume", "epochs")]
    if given:
        raise InputError(
            "Expected --epochs alone beside --resume: the rest is what the run was started with. "
            f"Received: {', '.join('--' + n.replace('_', '-') for n in given)}. Leave them out, or "
            "start a new run."
        )
    try:
        saved = Options(**{**run.config["options"], "hidden": tuple(run.config["options"]["hidden"])})
    except (TypeError, KeyError) as error:
        raise InputError(
            f"Expected a config.json with the options of a run. Received: {run.path} ({error})."
        ) from None
    epochs = options.epochs if options.epochs is not None else saved.epochs
    return replace(saved, epochs=epochs, resume=options.resume)


def _remember_data(run: "Run", data: "ImageData") -> None:
    from keras_gen.errors import InputError

    now = data.fingerprint()
    before = run.config.setdefault("data", {"fingerprint": now})["fingerprint"]
    if before != now:
        raise InputError(
            f"Expected the data that {run.path} was trained on. Received: {data.name} with other "
            "pictures. Bring the old ones back, or start a new run."
        )


def build(options: Options, shape: tuple[int, int, int]) -> "VAE":
    """The untrained model for pictures of `shape`."""
    import keras

    from keras_gen import networks, variational
    from keras_gen.errors import InputError

    try:
        keras.activations.get(options.activation)
    except ValueError:
        raise InputError(
            "Expected an activation that Keras knows, such as relu, tanh, silu, gelu. "
            f"Received: {options.activation!r}."
        ) from None

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


def finish(run: "Run", model: "VAE", splits: "Splits", held_out, options: Options) -> None:
    """Pictures, numbers and artefacts of a trained model."""
    from keras_gen import plots
    from keras_gen.engine import to_numpy
    from keras_gen.export import can_export, export_file
    from keras_gen.training.run import write_atomically

    rows = run.rows()
    plots.curves(rows, run.path / "curves.png")
    plots.save(plots.grid(to_numpy(model.sample(100, seed=options.seed)), 10), run.path / "samples.png")
    originals = held_out[0]["image"][:36]
    plots.save(plots.pairs(originals, to_numpy(model(originals))), run.path / "reconstructions.png")
    plots.save(_manifold(model, splits.test, options), run.path / "manifold.png")

    metrics = {k: round(v, 4) for k, v in rows[-1].items() if k.startswith("val_")}
    metrics |= _bound(model, held_out, options)
    card = _card(run, splits, options, metrics)
    write_atomically(run.path / "card.json", json.dumps(card, indent=2).encode())
    part = run.path / "model.part.keras"
    model.save(part)
    part.replace(run.path / "model.keras")

    for name, value in metrics.items():
        print(f"{name}: {value}")
    if can_export():
        export_file(run.path / "model.keras", run.path / "savedmodel", card)
        print(f"wrote {run.path}/: samples.png reconstructions.png manifold.png model.keras savedmodel/")
    else:
        print(f"wrote {run.path}/: samples.png reconstructions.png manifold.png model.keras")
        print(f"no SavedModel: TensorFlow is not installed. Where it is: python -m apps.export {run.path}")
    print(f"next: python -m apps.sample {run.path} --n 100 --seed 1")


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
    given = {k: v for k, v in asdict(options).items() if k in changed(replace(options, resume=None))}
    flags = " ".join(
        f"--{k.replace('_', '-')} {' '.join(map(str, v)) if isinstance(v, (tuple, list)) else v}"
        for k, v in given.items()
        if k not in ("out", "resume")
    )
    return {
        "name": f"{options.model} on {splits.train.name}",
        "data": {
            "name": options.data if options.data == "digits" else Path(options.data).name,
            "train": len(splits.train),
            "held_out": len(splits.test),
            "shape": list(splits.train.shape),
            **run.config["data"],
        },
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
        "command": f"python -m apps.generate {flags}".strip(),
        "usage": [
            "images = model.sample(n=16, seed=0)        # uint8, the same seed gives the same",
            "codes = model.encode(image=images)",
            "again = model.decode(code=codes)",
            "near = model.reconstruct(image=images)",
        ],
    }


if __name__ == "__main__":
    main(Options, work, __doc__)
