"""The training of apps.text_to_image: first stage, latents, text encoder, then the denoiser with it."""

import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

from apps._training import (
    TrainingOptions,
    begin,
    card_of_data,
    command,
    compile_adversarial,
    compile_model,
    computing_in,
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
    import numpy as np

    from keras_gen.data import Batches, ImageData, Splits
    from keras_gen.diffusion import Diffusion
    from keras_gen.latent import ClipVectors, LatentAutoencoder, TextMean, TextToImage
    from keras_gen.latent.tokenizer import Tokenizer
    from keras_gen.training import Run

FIRST_STAGE = "autoencoder.keras"
LATENTS = "latents.npz"
PROMPTS = 16
"""Drawn on the way, always the same."""
MOST_PIXELS = 4096
"""Values of pictures between which a Frechet distance is worked out as they are."""


@dataclass
class Train(TrainingOptions):
    """Train on captioned pictures: the autoencoder, the text encoder, then the denoiser with it."""

    data: str = "shapes"
    """`shapes`, a folder of pictures with a metadata.jsonl, or the name of a TFDS dataset with texts."""
    by_concept: bool = False
    """Of a captioned folder: pictures whose first captions have the same words, or whose pixels are the same,
    are all trained on or all held out."""
    batch_size: int = 64
    """Pictures in a step."""
    space: Literal["latent", "pixel"] = "latent"
    """Where the denoiser works; pixel: on the pictures themselves, without a first stage."""
    autoencoder: str | None = None
    """Folder of a run of this app whose first stage is taken instead of training one."""
    autoencoder_epochs: int | None = None
    """Of the first stage; default: as many as make about 6,000 steps, 200 at most."""
    autoencoder_width: int = 32
    """Channels of the autoencoder at full resolution."""
    autoencoder_multipliers: tuple[int, ...] = (1, 2, 2)
    """Of its width at each scale; three make the latents a quarter as wide and high as the pictures."""
    latent_channels: int = 8
    """Of the latents."""
    power: Literal[1, 2] = 2
    """Of the reconstruction's error: 2 minds small bright things more, and grain less, than 1."""
    kl: float = 1e-4
    """Weight of the latents' divergence."""
    adversarial: float = 0.0
    """Weight of a discriminator of patches in the first stage, relative to the reconstruction; 0: none."""
    feature_loss: float = 0.0
    """Weight of the distance in features of the classifier named by --features."""
    features: str | None = None
    """A run of apps.classify, a .keras file, or one that comes along, such as classifier_mnist."""

    width: int = 64
    """Channels of the U-Net at its finest scale."""
    multipliers: tuple[int, ...] = (1, 2)
    """Of its width at each scale."""
    blocks: int = 2
    """Residual blocks at each scale."""
    attention: tuple[int, ...] = ()
    """Sides of the maps that attend to themselves and the text; 0: in the middle alone; default: all of 8
    and below, or the smallest."""
    heads: int = 4
    """Of attention."""
    text_encoder: str = "words"
    """`words`: all of it is learned here, from the captions' own words; or one of keras-hub's CLIP presets,
    by its name, `clip` for the smallest, or its folder: below what is learned here then stays CLIP's text
    encoder, as others trained it."""
    text_dim: int = 128
    """Dimension of the text encoder."""
    text_blocks: int = 2
    """Its depth."""
    layout: int = 64
    """Channels of the map of places, 8 by 8 at most, that look at the text before anything is drawn."""
    text_epochs: int | None = None
    """In which the text encoder first learns the mean picture of every caption, before it is trained on with
    the denoiser: which thing stands where is learned so. Default: as many as make about 4,000 steps, 20 at
    most."""
    weighting: Literal["simple", "min-snr", "clipped-snr", "p2"] = "clipped-snr"
    """Of the levels of noise: min-snr and p2 learn late what the noisiest decide (grounds, places), simple
    learns shapes late."""
    unlabelled: float = 0.1
    """Share of the captions that training hides, for guidance."""
    ema_pictures: float = 500_000
    """Half-life, in pictures, of the average of weights that makes the samples; 0: none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the networks' arithmetic in training, as of apps.generate."""
    steps: int = 20
    """Steps from noise to picture, where nobody says."""
    guidance: float = 3.0
    """Push towards the text, where nobody says."""
    measure: int = 200
    """shapes: prompts of held-out scenes whose pictures are read at the end; 0: none."""


def train(options: Train) -> None:
    import keras

    from keras_gen.engine import parameters
    from keras_gen.latent import TextMean, TextToImage
    from keras_gen.networks import layout_head

    options, run = begin("text_to_image", options)
    _check(options)
    splits = read(options, by_concept=options.by_concept, captioned=True)
    tokenizer, vectors = _read_by(options, [text for said in splits.train.captions for text in said])
    steps = len(splits.train) // min(options.batch_size, len(splits.train))
    options = replace(
        options, epochs=default_epochs(options, steps), text_epochs=_text_epochs(options, steps)
    )
    if options.space == "latent" and options.autoencoder is None:
        epochs = default_epochs(replace(options, epochs=options.autoencoder_epochs), steps)
        options = replace(options, autoencoder_epochs=epochs)
    # all parts before any is trained: what cannot be built is refused now, and every part begins alike
    # whether a run goes through or is resumed
    keras.utils.set_random_seed(options.seed)
    stage = _first_stage(options, run, splits, steps) if options.space == "latent" else None
    shape = splits.train.shape if stage is None else stage.latent_shape
    keras.utils.set_random_seed(options.seed)
    text = _text_encoder(options, shape, tokenizer, vectors)
    mean = TextMean(text, layout_head(text.outputs[2].shape[1:], shape), seed=options.seed)
    diffusion = _diffusion(options, shape, text)
    run = open_run("text_to_image", options, run, splits.train)
    plan(
        {
            "data": f"{described(splits, options)}; {len(tokenizer.vocabulary):,} "
            + ("words" if vectors is None else "pieces of words"),
            **({} if stage is None else {"first": _first_line(options, stage)}),
            "then": f"denoiser of {'x'.join(map(str, shape))}, {parameters(diffusion):,} parameters",
            "training": f"{options.epochs} epochs of {steps} steps, on {keras.backend.backend()}",
            "writing": str(run.path),
        }
    )
    latents: Splits[Any] = splits
    if stage is not None:
        stage = _trained_first_stage(options, run, splits, stage)
        latents = _latents(run, splits, stage)
    told = _told(splits, latents, tokenizer)
    _train_text(options, run, mean, told)
    diffusion.restart_average()
    model = TextToImage(diffusion, tokenizer, stage)
    _train_denoiser(options, run, model, splits, told)
    _finish(options, run, model, splits)


def _check(options: Train) -> None:
    from keras_gen.errors import InputError

    if (options.features is not None) != (options.feature_loss > 0):
        raise InputError("Expected --features and --feature-loss together. Received: one of them.")
    if options.autoencoder is not None and options.space == "pixel":
        raise InputError("Expected --autoencoder with --space latent. Received: --space pixel.")
    if options.adversarial and options.optimizer != "adam":
        raise InputError(f"Expected adam, with --adversarial. Received: {options.optimizer}.")
    if options.resume is None and (options.autoencoder is not None or options.space == "pixel"):
        changed = [name for name in OF_THE_FIRST_STAGE if getattr(options, name) != getattr(Train, name)]
        if changed:
            where = "--space pixel" if options.autoencoder is None else "--autoencoder, which is trained"
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
            raise InputError(f"Expected no option of a first stage with {where}. Received: {flags}.")


OF_THE_FIRST_STAGE = (
    "autoencoder_epochs",
    "autoencoder_width",
    "autoencoder_multipliers",
    "latent_channels",
    "power",
    "kl",
    "adversarial",
    "feature_loss",
    "features",
)


# --- first stage -------------------------------------------------------------------------------


def _first_stage(options: Train, run: "Run | None", splits: "Splits", steps: int) -> "LatentAutoencoder":
    """This run's, if it has been trained, or that of another, or a new one, of so many steps an epoch."""
    from keras_gen import load_model, networks
    from keras_gen.errors import InputError
    from keras_gen.latent import LatentAutoencoder

    shape = splits.train.shape
    file = None if run is None else run.path / FIRST_STAGE
    if file is None or not file.exists():
        other = options.autoencoder
        file = None if other is None else Path(other).expanduser() / FIRST_STAGE
    if file is not None:
        if not file.exists():
            raise InputError(
                f"Expected a run with a trained first stage. Received: {file}, which is not there."
            )
        stage = load_model(file)
        if stage.data_shape != shape:
            raise InputError(f"Expected an autoencoder of pictures of {shape}. Received: {stage.data_shape}.")
        return stage
    assert options.autoencoder_epochs is not None
    sizes = (options.latent_channels, options.autoencoder_width, options.autoencoder_multipliers)
    with computing_in(options.precision):
        encoder, decoder = networks.latent_encoder(shape, *sizes), networks.latent_decoder(shape, *sizes)
    return LatentAutoencoder(
        encoder,
        decoder,
        options.kl,
        networks.patch_discriminator(shape, None, 32) if options.adversarial else None,
        adversarial=options.adversarial,
        start=min(2000, options.autoencoder_epochs * steps // 4),  # a quarter of a short training
        features=_features(options, shape) if options.feature_loss else None,
        feature_weight=options.feature_loss,
        power=options.power,
        seed=options.seed,
    )


def _features(options: Train, shape: tuple[int, ...]):
    """The last three feature maps of a classifier, as a network of pictures in [-1, 1]."""
    import keras

    from keras_gen.errors import InputError
    from keras_gen.metrics import ClassifierFeatures
    from keras_gen.shipped import shipped, shipped_names

    name = str(options.features)
    file = shipped(name) or Path(name).expanduser()
    if not file.exists():
        raise InputError(
            f"Expected a classifier's .keras file, or one of {', '.join(shipped_names('classifier'))}, as "
            f"--features. Received: {name}."
        )
    network = ClassifierFeatures.load(file).model.network
    maps = [layer.output for layer in network.layers if len(getattr(layer.output, "shape", ())) == 4]
    if tuple(network.input_shape[1:]) != tuple(shape) or not maps[1:]:
        raise InputError(
            f"Expected a classifier of pictures of {shape}, with feature maps. Received: one of "
            f"{tuple(network.input_shape[1:])}, {'with' if maps[1:] else 'without'}."
        )
    return keras.Model(network.inputs, maps[1:][-3:])  # the first of all is the picture itself


def _first_line(options: Train, stage: "LatentAutoencoder") -> str:
    from keras_gen.engine import parameters

    size = "x".join(map(str, stage.latent_shape))
    where = f", of {options.autoencoder}" if options.autoencoder else f", {options.autoencoder_epochs} epochs"
    count = parameters(stage.encoder) + parameters(stage.decoder)
    return f"autoencoder to {size}, {count:,} parameters{where}"


def _trained_first_stage(
    options: Train, run: "Run", splits: "Splits", stage: "LatentAutoencoder"
) -> "LatentAutoencoder":
    from keras_gen import load_model, plots
    from keras_gen.engine import to_numpy

    file = run.path / FIRST_STAGE
    if file.exists():
        return load_model(file)
    if options.autoencoder is None:
        assert options.autoencoder_epochs is not None
        training, held_out = _batches(options, _bare(splits.train), _bare(splits.test))
        epochs = options.autoencoder_epochs
        rated = replace(options, schedule="cosine")  # a constant rate leaves a good dB behind
        if options.adversarial:
            compile_adversarial(stage, rated, epochs, len(training))
        else:
            compile_model(stage, rated, epochs, len(training))
        train_model(stage, training, held_out, run, epochs, part="autoencoder")
    stage.measure(splits.train)
    some = splits.test.floats(slice(0, 24))
    plots.save(plots.pairs(some, to_numpy(stage(some))), run.path / "reconstructions.png")
    part = file.with_name("autoencoder.part.keras")
    stage.save(part)
    part.replace(file)
    return load_model(file)  # as whoever goes on with the run will


def _batches(options: Train, train, test) -> "tuple[Batches, Batches]":
    from keras_gen.data import Batches

    made = partial(Batches, batch_size=options.batch_size, seed=options.seed)
    return made(train, training=True), made(test, training=False)


def _bare(data: "ImageData") -> "ImageData":
    return replace(data, labels=None)


def _latents(run: "Run", splits: "Splits", stage: "LatentAutoencoder") -> "Splits":
    """What the denoiser learns on, encoded once and kept."""
    import numpy as np

    from keras_gen.data import LatentData, Splits
    from keras_gen.errors import InputError

    file = run.path / LATENTS
    if not file.exists():
        part = file.with_name("latents.part.npz")
        np.savez(part, train=stage.latents(splits.train), test=stage.latents(splits.test))
        part.replace(file)
    try:
        with np.load(file) as kept:
            return Splits(*(LatentData(splits.train.name, kept[name]) for name in ("train", "test")))
    except (OSError, ValueError, KeyError, BadZipFile):
        raise InputError(
            f"Expected the latents of this run. Received: {file}, damaged. Delete it: it is made again."
        ) from None


def _told(splits: "Splits", latents: "Splits", tokenizer: "Tokenizer") -> "Splits":
    """Latents with the tokens of their captions as labels."""
    from keras_gen.data import Splits

    pairs = ((latents.train, splits.train), (latents.test, splits.test))
    return Splits(
        *(replace(data, labels=tokens_of(pictures.captions, tokenizer)) for data, pictures in pairs)
    )


# --- text encoder ------------------------------------------------------------------------------


def _text_epochs(options: Train, steps: int) -> int:
    return round(min(20, max(1, 4000 / steps))) if options.text_epochs is None else options.text_epochs


def _read_by(options: Train, captions: list[str]) -> "tuple[Tokenizer, ClipVectors | None]":
    """What reads these captions, and what its tokens are to others, if they trained that."""
    from keras_gen.latent import WordTokenizer, clip

    if options.text_encoder == "words":
        return WordTokenizer.learned(captions), None
    with computing_in(options.precision):
        tokenizer, network = clip.load_clip(
            clip.PRESET if options.text_encoder == "clip" else options.text_encoder
        )
        tokenizer = tokenizer.fitted(captions)
        return tokenizer, clip.ClipVectors(network, *tokenizer.marks, name="clip")


def _text_encoder(
    options: Train, shape: tuple[int, ...], tokenizer: "Tokenizer", vectors: "ClipVectors | None"
) -> "keras.Model":
    from keras_gen.networks import text_encoder

    rows, columns = (max(d for d in range(1, 9) if side % d == 0) for side in shape[:2])
    with computing_in(options.precision):
        return text_encoder(
            len(tokenizer.vocabulary) + 1,
            tokenizer.length,
            options.text_dim,
            options.text_blocks,
            layout=(rows, columns, options.layout),
            vectors=vectors,
        )


def _train_text(options: Train, run: "Run", model: "TextMean", told: "Splits") -> None:
    assert options.text_epochs is not None
    if not options.text_epochs:
        return
    training, held_out = _batches(options, told.train, told.test)
    compile_model(model, replace(options, schedule="cosine"), options.text_epochs, len(training))
    train_model(model, training, held_out, run, options.text_epochs, part="text")


# --- denoiser ----------------------------------------------------------------------------------


def _diffusion(options: Train, shape: tuple[int, ...], text: "keras.Model") -> "Diffusion":
    from keras_gen.diffusion import Diffusion
    from keras_gen.errors import InputError
    from keras_gen.networks import time_unet

    most = 2 ** (len(options.multipliers) - 1)
    finest = -(-min(shape[:2]) // most) * most  # what the halvings do not divide is padded
    sides = [finest // 2**i for i in range(len(options.multipliers))]
    if not set(options.attention) <= {*sides, 0}:
        raise InputError(
            f"Expected --attention at sides of maps, {', '.join(map(str, sides))}. "
            f"Received: {', '.join(map(str, options.attention))}."
        )
    with computing_in(options.precision):
        network = time_unet(
            (shape[0], shape[1], shape[2]),
            None,
            options.width,
            options.multipliers,
            options.blocks,
            options.attention or tuple(s for s in sides if s <= 8) or sides[-1:],
            options.heads,
            context=tuple(text.outputs[0].shape[1:]),
            layout=tuple(text.outputs[2].shape[1:]),
        )
    return Diffusion(
        network,
        "cosine",
        "v",
        options.weighting,
        text=text,
        unlabelled=options.unlabelled,
        ema=options.ema_pictures,
        clip=options.space == "pixel",
        steps=options.steps,
        guidance=options.guidance,
        seed=options.seed,
    )


def tokens_of(captions: "np.ndarray", tokenizer: "Tokenizer") -> "np.ndarray":
    """(n, most captions of a picture, length): those with fewer have theirs again."""
    import numpy as np

    most = max(len(said) for said in captions)
    flat = [said[i % len(said)] for said in captions for i in range(most)]
    return np.reshape(tokenizer(flat), (len(captions), most, tokenizer.length))


def _train_denoiser(
    options: Train, run: "Run", model: "TextToImage", splits: "Splits", told: "Splits"
) -> None:
    assert options.epochs is not None
    training, held_out = _batches(options, told.train, told.test)
    compile_model(model.diffusion, options, options.epochs, len(training))
    progress = [_progress(run, model, splits, options)]
    train_model(model.diffusion, training, held_out, run, options.epochs, progress)


def _fixed_prompts(splits: "Splits") -> list[str]:
    return [said[0] for said in splits.test.captions[:PROMPTS]]


def _progress(run: "Run", model: "TextToImage", splits: "Splits", options: Train):
    from keras_gen import plots
    from keras_gen.engine import to_numpy
    from keras_gen.training.callbacks import AtEpochs

    prompts = _fixed_prompts(splits)

    def draw(epoch: int) -> None:
        folder = run.path / "samples"
        folder.mkdir(exist_ok=True)
        made = to_numpy(model.generate(prompts, seed=options.seed))
        plots.save(plots.captioned(made, prompts), folder / f"epoch-{epoch:05d}.png")

    assert options.epochs is not None
    return AtEpochs(draw, options.epochs, options.epochs)


def _finish(options: Train, run: "Run", model: "TextToImage", splits: "Splits") -> None:
    from keras_gen import plots
    from keras_gen.engine import to_numpy

    prompts = _fixed_prompts(splits)
    plots.curves(run.rows(), run.path / "curves.png")
    made = to_numpy(model.generate(prompts, seed=options.seed))
    plots.save(plots.captioned(made, prompts), run.path / "samples.png")
    files = ["samples.png", "curves.png"]
    save_model(run, model)
    metrics: dict[str, str] = {}
    if model.autoencoder is not None:
        metrics |= _reconstruction(model, splits)
        files.append("reconstructions.png")
    if _are_scenes(splits) and options.measure:
        metrics |= _faithful(model, options.measure)
    for name, value in metrics.items():
        print(f"{name}: {value}")
    sizes = f"steps {options.steps}, guidance {options.guidance:g}"
    card = {
        "name": f"text to image, {data_name(options)}",
        "data": card_of_data(splits, options, run),
        "metrics": metrics,
        "protocol": f"held-out pictures{' of held-out concepts' * options.by_concept} and their captions; "
        f"{sizes}; text encoder {options.text_encoder}; epochs {options.epochs}, "
        f"seed {options.seed}, backend {run.config['backend']}.",
        "licence": splits.train.licence,
        "command": command("text_to_image train", options),
        "usage": [
            f"images = model.generate(prompts={prompts[:1]!r}, seed=0, steps={options.steps}, "
            f"guidance={options.guidance:.1f})   # uint8"
        ],
    }
    deliver(run, card, files)
    print(f"next: python -m apps.text_to_image {shlex.quote(prompts[0])} --run {shlex.quote(str(run.path))}")


def _reconstruction(model: "TextToImage", splits: "Splits", n: int = 500) -> dict[str, str]:
    """What the first stage keeps of held-out pictures: no drawing can be better."""
    import numpy as np

    from keras_gen import metrics
    from keras_gen.engine import to_numpy
    from keras_gen.images import to_uint8
    from keras_gen.shapes import faithfulness

    images = splits.test.floats(slice(0, n))
    made = coded(model, images)
    pairs = zip((images + 1) / 2, (made + 1) / 2, strict=True)
    level = np.mean([metrics.psnr(a, b) for a, b in pairs])
    quality = f"{level:.2f} dB PSNR"
    features = metrics.load_features("auto", Path(splits.train.name).name)
    # between pixels it takes matrices of their number squared
    if len(images) > 1 and not (features.name == "pixels" and images[0].size > MOST_PIXELS):
        real, again = (features(to_numpy(to_uint8(pictures))) for pictures in (images, made))
        distance = metrics.frechet_distance(real.vectors, again.vectors)
        quality += f", Frechet distance {distance:.3g} in {features.name}"
    found = {"reconstruction": f"{quality}, of {len(images)} held-out pictures"}
    if _are_scenes(splits):
        captions = [said[0] for said in splits.test.captions[:n]]
        found |= _shares("reconstructed", faithfulness.shares(captions, to_numpy(to_uint8(made))))
    return found


def _are_scenes(splits: "Splits") -> bool:
    """Whether the data are the built-in `shapes`, not a folder of that name."""
    return splits.test.name == "shapes" and splits.test.files is None


def coded(model: "TextToImage", images: "np.ndarray", batch: int = 100) -> "np.ndarray":
    """Pictures in [-1, 1] through the first stage and back."""
    import numpy as np

    from keras_gen.engine import to_numpy

    starts = range(0, len(images), batch)
    return np.concatenate([to_numpy(model(images[start : start + batch])) for start in starts])


def _shares(what: str, found: dict[str, tuple[float, int]]) -> dict[str, str]:
    return {
        f"{what} {name} right": f"{100 * share:.1f} % of {of}" for name, (share, of) in found.items() if of
    }


def _faithful(model: "TextToImage", n: int) -> dict[str, str]:
    from keras_gen.engine import to_numpy
    from keras_gen.images import to_uint8
    from keras_gen.shapes import faithfulness

    def generate(prompts, seed):
        return to_numpy(to_uint8(model.generate(prompts, seed=seed)))

    return _shares("drawn", faithfulness.measure(generate, faithfulness.prompts(n)))
