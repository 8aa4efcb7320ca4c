"""Train a denoiser, take the noise out of pictures, and measure it beside the classical methods."""

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from apps._files import sources_of, targets_of
from apps._main import main
from apps._sources import arguments_of_data
from apps._training import (
    TrainingOptions,
    begin,
    card_of_data,
    command,
    compile_model,
    data_name,
    default_epochs,
    deliver,
    described,
    open_run,
    plan,
    read,
    save_model,
    train_model,
)

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import keras

    from keras_gen.autoencoders import Denoiser
    from keras_gen.pictures import Picture

LEVELS = (15.0, 25.0, 50.0)
START = "start.keras"


@dataclass
class Train(TrainingOptions):
    """Train on clean pictures, to which the noise is added."""

    noise: str = "gaussian:0-0.22"
    """What to undo: gaussian, salt, masking, blur, jpeg, downsampling with a strength or a range of
    them, where black to white is 1; several joined by +."""
    widths: tuple[int, ...] = (32, 64, 96)
    """Filters at each scale of the network, from full resolution down."""
    blocks: int = 2
    """Residual blocks at each scale."""
    mixed_precision: bool = False
    """Multiply in bfloat16: faster where the processor knows it, slower by far where not."""
    start: str | None = None
    """Weights to begin with: `shipped`, or the folder of a run, whose widths and blocks then count;
    default: random ones."""
    measure: int = 100
    """Held-out pictures in the table at the end; 0: no table."""


@dataclass
class Apply:
    """Take the noise out of pictures."""

    pictures: tyro.conf.Positional[tuple[str, ...]]
    """Files and folders."""
    run: str | None = None
    """Folder of a training run; default: the model that comes with keras_gen."""
    out: Annotated[str | None, tyro.conf.arg(aliases=["-o"])] = None
    """File for one picture, folder for several; default: beside each, as NAME-denoised.png."""
    tile: int = 256
    """Pixels a side of the pieces that large pictures are done in; smaller takes less memory."""


@dataclass
class Measure:
    """PSNR and SSIM on held-out pictures, beside the classical methods on the same noise."""

    run: str | None = None
    """Folder of a training run; default: the model that comes with keras_gen."""
    data: str | None = None
    """Whose held-out pictures: `digits`, a folder, an .npz file or a TFDS name; default: those of the
    run."""
    image_size: int | None = None
    """Pixels a side; default: as the data are, 64 of folders and of mixed sizes."""
    levels: tuple[float, ...] = LEVELS
    """Standard deviations of the Gaussian noise, of 255."""
    n: int = 100
    """How many held-out pictures, the first ones; 0: all."""
    seed: int = 0
    """Of the noise."""


Options = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Apply, tyro.conf.subcommand("run")]
    | Annotated[Measure, tyro.conf.subcommand("measure")]
)


def work(options: Train | Apply | Measure) -> None:
    {Train: train, Apply: run, Measure: measure}[type(options)](options)  # type: ignore[operator]


def train(options: Train) -> None:
    import keras

    from keras_gen import corruptions
    from keras_gen.autoencoders import Denoiser
    from keras_gen.data import Batches
    from keras_gen.errors import InputError
    from keras_gen.networks import unet

    options, run = begin("denoise", options)
    corruption = corruptions.parse(options.noise)
    if not options.widths:
        raise InputError("Expected widths of one scale or more. Received: none.")
    splits = read(options)
    keras.utils.set_random_seed(options.seed)
    if options.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    channels = splits.train.shape[-1]
    kept = None if run is None else run.path / START
    start = str(kept) if kept is not None and kept.exists() else options.start
    if start:
        network, stride, reach = _started(start, channels)
    else:
        network = unet.bias_free_unet(channels, options.widths, options.blocks)
        stride, reach = unet.stride(options.widths), unet.reach(options.widths, options.blocks)
    model = Denoiser(network, corruption, stride, reach, seed=options.seed)
    made = partial(Batches, batch_size=options.batch_size, seed=options.seed)
    training, held_out = made(splits.train, training=True), made(splits.test, training=False)
    options = replace(options, epochs=default_epochs(options, len(training)))
    assert options.epochs is not None
    compile_model(model, options, options.epochs, len(training))
    run = open_run("denoise", options, run, splits.train)
    if start and not (run.path / START).exists():  # wherever it comes from, the run can go on without
        part = run.path / "start.part.keras"
        shutil.copyfile(_file_of(start), part)
        part.replace(run.path / START)
    plan(
        {
            "data": described(splits, options),
            "model": f"denoiser of {options.noise}, {model.count_params():,} parameters, on "
            f"{keras.backend.backend()}",
            "training": f"{options.epochs} epochs of {len(training)} steps",
            "writing": str(run.path),
        }
    )
    train_model(model, training, held_out, run, options.epochs)
    if options.mixed_precision:  # what is kept computes in float32
        keras.mixed_precision.set_global_policy("float32")
        trained, model = model, Denoiser.from_config(_with_policy(model.get_config(), "float32"))
        model.set_weights(trained.get_weights())
    save_model(run, model)

    from keras_gen import plots
    from keras_gen.engine import to_numpy

    plots.curves(run.rows(), run.path / "curves.png")
    clean = splits.test.floats(slice(0, 12))
    noisy = to_numpy(corruption.at(clean, options.seed))
    plots.save(plots.strips([noisy, to_numpy(model(noisy)), clean]), run.path / "denoised.png")
    metrics = {k: f"{v:.6f}" for k, v in run.rows()[-1].items() if k.startswith("val_")}
    protocol = f"held-out pictures; noise {options.noise} in training; "
    if options.measure:
        count = min(options.measure, len(splits.test))
        protocol += f"PSNR averaged over {count} pictures, estimates clipped; "
        rows = table(model, splits, LEVELS, options.measure, options.seed, run.path / "methods.png")
        show(rows)
        metrics |= {
            f"PSNR at Gaussian noise of {row['level']:g}/255, {row['method']}": f"{row['psnr']:.2f} dB"
            for row in rows
        }
    card = {
        "name": f"denoiser on {data_name(options)}",
        "data": card_of_data(splits, options, run),
        "metrics": metrics,
        "protocol": protocol + f"epochs {options.epochs}, seed {options.seed}, "
        f"backend {run.config['backend']}.",
        "licence": splits.train.licence,
        "command": command("denoise train", options),
        "usage": [
            "clean = model.denoise(image=noisy)         # uint8, any height and width",
            "clean = model.denoise_unit(image=noisy)    # float32 in [0, 1]",
        ],
    }
    deliver(run, card, ["curves.png", "denoised.png", *(["methods.png"] if options.measure else [])])
    print(f"next: python -m apps.denoise run noisy.png --run {run.path} -o clean.png")


def _started(start: str, channels: int) -> "tuple[keras.Model, int, int]":
    """A trained denoiser's network, its stride and its reach."""
    import keras

    from keras_gen import load_model
    from keras_gen.errors import InputError

    found = load_model(_file_of(start))
    if found.channels != channels:
        raise InputError(
            f"Expected a --start for pictures of {channels} channels. Received: {start}, for "
            f"{found.channels}. Begin with another, or leave it out."
        )
    policy = keras.config.dtype_policy().name
    network = keras.Model.from_config(_with_policy(found.network.get_config(), policy))
    network.set_weights(found.network.get_weights())
    return network, found.stride, found.reach


def _with_policy(config, name: str):
    """A model's configuration with another dtype policy in all its parts."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return name
        return {k: _with_policy(v, name) for k, v in config.items()}
    return [_with_policy(v, name) for v in config] if isinstance(config, (list, tuple)) else config


def load_denoiser(run: str | None) -> "Denoiser":
    from keras_gen import load_model

    return load_model(_file_of(run or "shipped"))


def _file_of(name: str) -> Path:
    """The model that is meant: `shipped`, a run's, or a .keras file."""
    from keras_gen.errors import InputError
    from keras_gen.shipped import shipped
    from keras_gen.training import Run

    if name.endswith(".keras") and Path(name).is_file():
        return Path(name)
    if name != "shipped":
        return Run.open(name, "denoise", reading=True).model_file()
    file = shipped("denoise")
    if file is None:
        raise InputError(
            "Expected the model that comes along. Received: an installation without it. Name a --run."
        )
    return file


# --- run ---------------------------------------------------------------------------------------


def run(options: Apply) -> None:
    from rich.console import Console
    from rich.progress import track

    from keras_gen.errors import InputError
    from keras_gen.pictures import check_writable, read_picture, write_picture

    if options.tile < 1:
        raise InputError(f"Expected a tile of 1 pixel or more. Received: {options.tile}.")
    sources = sources_of(options.pictures)
    targets = targets_of(sources, options.out, "denoised")
    alone = len(sources) == 1
    if alone:  # refuse before the model is loaded
        check_writable(read_picture(sources[0]), targets[0])
    model = load_denoiser(options.run)
    skipped = []
    console = Console(stderr=True)
    pairs = list(zip(sources, targets, strict=True))
    for source, target in track(
        pairs, "denoising", console=console, transient=True, disable=alone or not console.is_terminal
    ):
        try:
            picture = read_picture(source)
            done: Picture = picture.showing(model.denoise(picture.pixels, options.tile))
            target.parent.mkdir(parents=True, exist_ok=True)
            write_picture(done, target)
        except InputError as error:
            if alone:
                raise
            skipped.append(str(error))
    for reason in skipped:
        print(f"skipped: {reason}")
    if len(skipped) == len(sources):
        raise InputError(f"Expected pictures. Received: {len(sources)} files, none that can be denoised.")
    if alone:
        print(f"wrote {targets[0]}")
    else:
        print(f"wrote {len(sources) - len(skipped)} pictures to {targets[0].parent}")


# --- measure -----------------------------------------------------------------------------------


def measure(options: Measure) -> None:
    from keras_gen.data import load
    from keras_gen.errors import InputError
    from keras_gen.training import Run

    if any(level <= 0 for level in options.levels) or not options.levels:
        raise InputError(f"Expected positive noise levels. Received: {options.levels}.")
    for name in ("n", "seed"):
        if getattr(options, name) < 0:
            raise InputError(f"Expected {name} of 0 or more. Received: {getattr(options, name)}.")
    arguments: dict[str, Any] = {"name": options.data}
    if options.data is None:
        if options.run is None:
            raise InputError("Expected --data or a --run, for pictures to measure on. Received: neither.")
        arguments = arguments_of_data(Run.open(options.run, "denoise", reading=True))
    if options.image_size is not None:
        arguments["image_size"] = options.image_size
    model = load_denoiser(options.run)
    splits = load(**arguments)
    show(table(model, splits, options.levels, options.n or len(splits.test), options.seed))


def table(model: "Denoiser", splits, levels, n: int, seed: int, picture: Path | None = None) -> list[dict]:
    """A row for each noise level and method: PSNR and SSIM, means over the first n held-out pictures."""
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from keras_gen import classical, plots
    from keras_gen.metrics import psnr, ssim

    clean = (splits.test.floats(slice(0, n)) + 1) / 2
    tuning = (splits.train.floats(slice(0, 32)) + 1) / 2
    rows, shown = [], {}
    console = Console(stderr=True)
    for level in levels:
        rng = np.random.default_rng([seed, round(level * 1000)])
        noisy = clean + level / 255 * rng.normal(size=clean.shape).astype("float32")
        noisy_tuning = tuning + level / 255 * rng.normal(size=tuning.shape).astype("float32")
        methods: dict = {"noisy": lambda picture: picture}
        for name, missing in classical.available().items():
            if missing:
                print(f"{name} is left out: {missing}")
                continue
            methods[name] = classical.tuned(name, level / 255, tuning, noisy_tuning)[0]
        methods["this model"] = model.denoise
        for name, denoise in methods.items():
            label = f"{name}, noise of {level:g}/255"
            work = track(noisy, label, console=console, transient=True, disable=not console.is_terminal)
            made = np.stack([denoise(one) for one in work])
            rows.append(
                {
                    "level": level,
                    "method": name,
                    "n": len(clean),
                    "psnr": float(np.mean([psnr(c, m) for c, m in zip(clean, made, strict=True)])),
                    "ssim": float(np.mean([ssim(c, m) for c, m in zip(clean, made, strict=True)])),
                }
            )
            shown[level, name] = made[:8]
    if picture is not None:
        middle = levels[len(levels) // 2]
        strips = [made for (level, _), made in shown.items() if level == middle]
        plots.save(plots.strips([2 * s - 1 for s in [*strips, clean[:8]]], 8), picture)
    return rows


def show(rows: list[dict]) -> None:
    print(f"means over {rows[0]['n']} held-out pictures")
    print(f"{'noise':>8}  {'method':18}{'PSNR dB':>8}{'SSIM':>8}")
    for row in rows:
        level = f"{row['level']:g}/255"
        print(f"{level:>8}  {row['method']:18}{row['psnr']:8.2f}{row['ssim']:8.4f}")


if __name__ == "__main__":
    main(Options, work, __doc__, default="train")
