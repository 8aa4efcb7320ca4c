"""Learn to turn one kind of picture into another: edges, grey values or small versions into pictures."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from apps._diffusion import multipliers_for
from apps._files import read_given, sources_of, targets_of
from apps._main import main
from apps._training import (
    TrainingOptions,
    begin,
    card_of_data,
    command,
    compile_adversarial,
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
    import numpy as np

    from keras_gen.adversarial import Translator
    from keras_gen.corruptions import Corruption
    from keras_gen.data import Splits
    from keras_gen.diffusion import Diffusion
    from keras_gen.training import Run

SOURCES = {"edges": "edges:1", "grey": "grey:1", "small": "downsampling:4"}


@dataclass
class Train(TrainingOptions):
    """Train on pictures; their sources are made from them."""

    batch_size: int = 16
    """Pictures in a step."""
    model: Literal["pix2pix", "ddpm"] = "pix2pix"
    """An adversarial network, which gives one picture, or a diffusion model, which draws one of many."""
    source: str = "edges"
    """What is given: edges, grey (to be coloured) or small (a quarter of the size), or a corruption as of
    apps.autoencode."""
    loss: Literal["non-saturating", "minimax", "least-squares", "hinge"] = "non-saturating"
    """pix2pix: of the discriminator."""
    weight: float = 100.0
    """pix2pix: of the mean absolute error, against deceiving the discriminator."""
    filters: int = 32
    """Of the networks' first layer."""
    measure: int = 1000
    """Held-out pictures in the table at the end; 0: no table."""


@dataclass
class Apply:
    """Translate pictures."""

    pictures: tyro.conf.Positional[tuple[str, ...]]
    """Files and folders."""
    run: str
    """Folder of a training run."""
    out: Annotated[str | None, tyro.conf.arg(aliases=["-o"])] = None
    """File for one picture, folder for several; default: beside each, as NAME-translated.png."""
    make_source: bool = False
    """The pictures given are of the kind to be made: make their sources first."""


Options = Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Apply, tyro.conf.subcommand("run")]


def work(options: Train | Apply) -> None:
    if isinstance(options, Train):
        train(options)
    else:
        run(options)


def train(options: Train) -> None:
    import keras

    from keras_gen import corruptions
    from keras_gen.data import Batches
    from keras_gen.engine import parameters
    from keras_gen.errors import InputError

    options, run = begin("translate", options)
    source = corruptions.parse(SOURCES.get(options.source, options.source))
    splits = read(options)
    shape = splits.train.shape
    if options.source == "grey" and shape[2] == 1:
        raise InputError(f"Expected colour pictures, to colour. Received: grey ones, {splits.train.name}.")
    made = partial(Batches, batch_size=options.batch_size, seed=options.seed)
    training, held_out = made(splits.train, training=True), made(splits.test, training=False)
    options = replace(options, epochs=default_epochs(options, len(training)))
    assert options.epochs is not None
    keras.utils.set_random_seed(options.seed)
    model = (_pix2pix if options.model == "pix2pix" else _ddpm)(options, shape, source)
    if options.model == "pix2pix":
        compile_adversarial(model, options, options.epochs, len(training))
    else:
        compile_model(model, options, options.epochs, len(training))
    run = open_run("translate", options, run, splits.train)
    plan(
        {
            "data": described(splits, options),
            "model": f"{options.model} of {options.source}, {parameters(model):,} parameters, on "
            f"{keras.backend.backend()}",
            "training": f"{options.epochs} epochs of {len(training)} steps",
            "writing": str(run.path),
        }
    )
    train_model(model, training, held_out, run, options.epochs, [_progress(run, model, splits, options)])
    _finish(run, model, splits, options)


def _pix2pix(options: Train, shape: tuple[int, int, int], source: "Corruption") -> "Translator":
    from keras_gen.adversarial import Translator
    from keras_gen.networks import patch_discriminator, translation_unet

    return Translator(
        translation_unet(shape, shape[2], options.filters),
        patch_discriminator(shape, shape[2], options.filters),
        source,
        options.loss,
        options.weight,
        options.seed,
    )


def _ddpm(options: Train, shape: tuple[int, int, int], source: "Corruption") -> "Diffusion":
    """The source stands beside the noisy picture (Saharia et al. 2022, arXiv:2104.07636, section 2)."""
    from keras_gen.diffusion import Diffusion
    from keras_gen.networks import time_unet

    halvings = multipliers_for(min(shape[:2]))
    network = time_unet((*shape[:2], 2 * shape[2]), shape[2], options.filters, halvings, attention=())
    return Diffusion(network, "cosine", source=source, seed=options.seed)


def _strip(model: "Translator | Diffusion", images: "np.ndarray"):
    """Sources, what is made of them, and the pictures they come from, row below row."""
    from keras_gen import plots
    from keras_gen.engine import to_numpy

    sources = to_numpy(model.sources(images))
    return plots.strips([sources, to_numpy(model.translate(sources)), images])


def _progress(run: "Run", model: "Translator | Diffusion", splits: "Splits", options: Train):
    from keras_gen import plots
    from keras_gen.training.callbacks import AtEpochs

    def draw(epoch: int) -> None:
        folder = run.path / "samples"
        folder.mkdir(exist_ok=True)
        plots.save(_strip(model, splits.test.floats(slice(0, 12))), folder / f"epoch-{epoch:05d}.png")

    assert options.epochs is not None
    return AtEpochs(draw, options.epochs)


def _finish(run: "Run", model: "Translator | Diffusion", splits: "Splits", options: Train) -> None:
    from keras_gen import plots

    save_model(run, model)
    plots.curves(run.rows(), run.path / "curves.png")
    plots.save(_strip(model, splits.test.floats(slice(0, 24))), run.path / "translated.png")
    metrics = {}
    n = min(options.measure, len(splits.test))
    if n:
        metrics = _table(model, splits, n)
        for name, value in metrics.items():
            print(f"{name}: {value}")
    card = {
        "name": f"{options.source} to {data_name(options)}",
        "data": card_of_data(splits, options, run),
        "metrics": metrics,
        "protocol": f"the first {n} held-out pictures; sources made from the pictures ({options.source}); "
        f"epochs {options.epochs}, seed {options.seed}, backend {run.config['backend']}.",
        "licence": splits.train.licence,
        "command": command("translate train", options),
        "usage": [
            "sources = model.source(image=pictures)     # what the model was trained on, made from pictures",
            "made = model.translate(image=sources)      # uint8"
            if options.model == "pix2pix"
            else f"made = model.translate(image=sources, seed=0, steps={model.steps})      # uint8",
        ],
    }
    deliver(run, card, ["translated.png", "curves.png"])
    print(f"next: python -m apps.translate run PICTURE --run {run.path} -o made.png")


def _table(model: "Translator | Diffusion", splits: "Splits", n: int) -> dict[str, str]:
    """How near to the pictures their sources are, and what is made of these."""
    import numpy as np

    from keras_gen import metrics
    from keras_gen.engine import to_numpy

    values: dict[str, list[float]] = {}
    for start in range(0, n, 100):
        images = splits.test.floats(slice(start, min(start + 100, n)))
        sources = to_numpy(model.sources(images))
        for name, others in (("source", sources), ("made", to_numpy(model.translate(sources)))):
            for picture, other in zip((images + 1) / 2, (others + 1) / 2, strict=True):
                values.setdefault(f"PSNR, {name}", []).append(metrics.psnr(picture, other))
                values.setdefault(f"SSIM, {name}", []).append(metrics.ssim(picture, other))
    return {
        name: f"{np.mean(found):.2f} dB" if name.startswith("PSNR") else f"{np.mean(found):.4f}"
        for name, found in values.items()
        if np.isfinite(found).all()
    }


# --- run ---------------------------------------------------------------------------------------


def run(options: Apply) -> None:
    from keras_gen import load_model, plots
    from keras_gen.data import ImageData
    from keras_gen.engine import to_numpy
    from keras_gen.training import Run

    sources = sources_of(options.pictures)
    targets = targets_of(sources, options.out, "translated")
    model = load_model(Run.open(options.run, "translate", reading=True).model_file())
    places = dict(zip(sources, targets, strict=True))
    images, kept = read_given(sources, model.data_shape)
    pictures = ImageData("given", images)
    for start in range(0, len(kept), 50):
        given = pictures.floats(slice(start, start + 50))
        if options.make_source:
            given = to_numpy(model.sources(given))
        for path, made in zip(kept[start : start + 50], to_numpy(model.translate(given)), strict=True):
            places[path].parent.mkdir(parents=True, exist_ok=True)
            plots.save(plots.picture(made), places[path])
    if len(kept) == 1:
        print(f"wrote {places[kept[0]]}")
    else:
        print(f"wrote {len(kept)} pictures to {targets[0].parent}")


if __name__ == "__main__":
    main(Options, work, __doc__, default="train")
