"""Find pictures alike by hash codes: train and index a database, then ask it with pictures.

`train` (the default) learns binary codes of the training pictures and builds the index, `run` answers.
The run folder keeps the database's pictures (database.npy, uint8), so that answers need neither the data
nor their reading, and cannot show other pictures than were indexed.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from apps._files import keep
from apps._main import main
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
    import numpy as np

    from keras_gen.data import Batches, ImageData, Splits
    from keras_gen.hashing import HashIndex, SemanticHash
    from keras_gen.training import Run

QUERIES = 1000
"""Held-out pictures that measure, as many of each class as there are."""

SHOWN, NEIGHBOURS = 12, 10
"""Rows and columns of the picture of neighbours."""

MOST_VALUES = 1 << 27
"""The baselines are fitted to as many pictures as hold so many numbers, 0.5 GB of them."""


@dataclass
class Train(TrainingOptions):
    """Learn codes, index the training pictures, and measure both."""

    bits: int = 32
    """Of a code."""
    network: Literal["mlp", "conv"] = "mlp"
    """Encoder and decoder."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers, from the picture inward; default: 256 256, for conv 32 64."""
    activation: str = "relu"
    """Of the hidden layers."""
    code_noise: float = 0.0
    """Noise before the code's sigmoid in training, which drives it further to 0 and 1."""
    corruption: str = "affine:0.1"
    """What the code is to be blind to, as in apps.autoencode, or none."""
    neighbours: int = 20
    """A picture's code has to serve so many of its nearest in pixels as well; 0: itself alone."""
    contrast: float = 0.05
    """Weight of telling pictures apart by their codes, beside drawing them from their codes."""
    temperature: float = 0.3
    """Of telling apart."""


@dataclass
class Ask:
    """Answer pictures with the nearest of a run's database."""

    pictures: tyro.conf.Positional[tuple[str, ...]]
    """Picture files, or folders of them."""
    run: str
    """Folder of the run."""
    k: int = 10
    """At most so many neighbours each."""
    radius: int | None = None
    """Only neighbours that differ in at most so many bits."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])] = "neighbours.png"
    """The picture to write: queries in the first column, their neighbours beside them."""


def work(options: Train | Ask) -> None:
    if isinstance(options, Train):
        train(options)
    else:
        ask(options)


# --- train -------------------------------------------------------------------------------------


def train(options: Train) -> None:
    import keras

    options, run = begin("retrieve", options)
    splits = read(options)
    keras.utils.set_random_seed(options.seed)
    model = build(options, splits.train.shape)
    model.start_from(splits.train.mean())
    training = _batches(splits.train, options, training=True)
    held_out = _batches(splits.test, options, training=False)
    epochs = default_epochs(options, len(training))
    options = replace(options, epochs=epochs)
    run = open_run("retrieve", options, run, splits.train)
    plan(
        {
            "data": described(splits, options),
            "model": f"{options.network} autoencoder, {options.bits} bits, {model.count_params():,} "
            f"parameters, on {keras.backend.backend()}",
            "training": f"{epochs} epochs of {len(training)} steps",
            "writing": str(run.path),
        }
    )
    compile_model(model, options, epochs, len(training))
    train_model(model, training, held_out, run, epochs)
    finish(run, model, splits, options)


def build(options: Train, shape: tuple[int, int, int]) -> "SemanticHash":
    """The untrained model for pictures of `shape`."""
    from keras_gen import corruptions, networks
    from keras_gen.hashing import SemanticHash

    kinds: dict = {
        "mlp": (networks.mlp_encoder, networks.mlp_decoder, (256, 256)),
        "conv": (networks.conv_encoder, networks.conv_decoder, (32, 64)),
    }
    make_encoder, make_decoder, default = kinds[options.network]
    inward = options.hidden or default
    code = {"code_activation": "sigmoid", "code_noise": options.code_noise}
    return SemanticHash(
        make_encoder(shape, options.bits, inward, activation=options.activation, **code),
        make_decoder(options.bits, shape, inward[::-1], activation=options.activation),
        corruption=None if options.corruption == "none" else corruptions.parse(options.corruption),
        contrast=options.contrast,
        temperature=options.temperature,
        seed=options.seed,
    )


def _batches(data: "ImageData", options: Train, training: bool) -> "Batches":
    from keras_gen.data import Batches
    from keras_gen.hashing import NeighbourBatches, neighbours_of

    order: dict = {"batch_size": options.batch_size, "seed": options.seed, "training": training}
    if not options.neighbours:
        return Batches(data, **order)
    return NeighbourBatches(data, neighbours_of(data, options.neighbours, options.seed), **order)


def finish(run: "Run", model: "SemanticHash", splits: "Splits", options: Train) -> None:
    """The index, pictures, numbers and artefacts of a trained model."""
    from keras_gen import plots
    from keras_gen.hashing import HashIndex, hashes_of

    print("indexing", flush=True)
    database, queries = splits.train, _queries(splits.test)
    index = HashIndex(hashes_of(model, database), options.bits)
    # a run with a model has the index that was made by it
    (run.path / "model.keras").unlink(missing_ok=True)
    index.save(run.path / "index.npz")
    _keep(run, database)
    save_model(run, model)
    plots.curves(run.rows(), run.path / "curves.png")
    codes = hashes_of(model, queries)
    _draw_neighbours(run.path / "neighbours.png", index, database, queries, codes)
    _write_queries(run, queries)
    metrics = _measured(model, index, codes, database, queries, options)
    for name, value in metrics.items():
        print(f"{name}: {value}")
    files = ["index.npz", "database.npy", "neighbours.png", "curves.png", "queries/"]
    deliver(run, _card(run, splits, len(queries), options, metrics), files)
    print(f"ask it: python -m apps.retrieve run {run.path / 'queries'} --run {run.path}")


def _queries(held_out: "ImageData") -> "ImageData":
    """At most QUERIES held-out pictures, as many of each class as there are."""
    import numpy as np

    if held_out.labels is None:
        return held_out.select(slice(0, QUERIES))
    place = np.empty(len(held_out), int)
    for label in np.unique(held_out.labels):
        of_class = np.flatnonzero(held_out.labels == label)
        place[of_class] = np.arange(len(of_class))
    return held_out.select(np.sort(np.argsort(place, kind="stable")[:QUERIES]))


def _keep(run: "Run", database: "ImageData") -> None:
    """The database's pictures, and what is known of them, into the run's folder."""
    import numpy as np

    levels = database.images
    if levels.dtype != np.uint8:
        levels = np.round(levels * 255).astype("uint8")
    part = run.path / "database.part.npy"
    np.save(part, levels)
    part.replace(run.path / "database.npy")
    known = {"labels": database.labels, "classes": database.classes, "files": database.files}
    arrays: dict = {name: np.asarray(value) for name, value in known.items() if value is not None}
    part = run.path / "database.part.npz"
    np.savez(part, **arrays)
    part.replace(run.path / "database.npz")


def _draw_neighbours(path: Path, index: "HashIndex", database, queries, codes) -> None:
    import numpy as np

    from keras_gen import plots

    chosen = np.linspace(0, len(queries) - 1, min(SHOWN, len(queries))).round().astype(int)
    k = min(NEIGHBOURS, len(index))
    found = np.stack([index.nearest(codes[i], k)[0] for i in chosen])
    pictures = database.floats(found.ravel()).reshape(*found.shape, *database.shape)
    wrong = None
    if database.labels is not None and queries.labels is not None:
        wrong = database.labels[found] != queries.labels[chosen][:, None]
    plots.save(plots.neighbours(queries.floats(chosen), pictures, wrong), path)


def _write_queries(run: "Run", queries: "ImageData") -> None:
    """A few held-out pictures as files, to ask with."""
    from keras_gen import plots

    (run.path / "queries").mkdir(exist_ok=True)
    for i, image in enumerate(queries.floats(slice(0, 5))):
        plots.save(plots.picture(image), run.path / "queries" / f"{i}.png")


def _measured(
    model: "SemanticHash",
    index: "HashIndex",
    codes: "np.ndarray",
    database: "ImageData",
    queries: "ImageData",
    options: Train,
) -> dict[str, str]:
    import time

    import numpy as np

    from keras_gen.autoencoders import codes_of
    from keras_gen.hashing import bit_balance, mean_average_precision, unpack

    metrics = {}
    if database.labels is not None and queries.labels is not None:
        share = partial(mean_average_precision, query_labels=queries.labels, labels=database.labels)
        metrics["mAP"] = f"{share(queries=codes, database=index.packed):.4f}"
        for name, theirs in _baselines(database, queries, options).items():
            metrics[f"mAP of {name}"] = (
                "none, more bits than dimensions"
                if theirs is None
                else (f"{share(queries=theirs[0], database=theirs[1]):.4f}")
            )
    balance = bit_balance(unpack(index.packed, options.bits))
    metrics["share of ones, bit by bit"] = f"{balance.min():.3f} to {balance.max():.3f}"
    real = codes_of(model, queries.floats())
    metrics["share of the code within 0.1 of 0 or 1"] = f"{(np.abs(real - 0.5) > 0.4).mean():.3f}"
    metrics["different codes in the database"] = f"{len(np.unique(index.packed, axis=0)):,} of {len(index):,}"

    def milliseconds(look) -> str:
        took = []
        for code in codes[:200]:
            start = time.perf_counter()
            look(code)
            took.append(time.perf_counter() - start)
        return f"{1000 * float(np.median(took)):.3f} ms"

    k = min(NEIGHBOURS, len(index))
    name = f"median time of a query among {len(index):,} codes"
    metrics[f"{name}, {k} nearest"] = milliseconds(lambda code: index.nearest(code, k))
    metrics[f"{name}, all within 2 bits"] = milliseconds(lambda code: index.within(code, 2))
    return metrics


def _baselines(database: "ImageData", queries: "ImageData", options: Train) -> dict:
    """Packed codes of queries and database by hashing without a network; None: too many bits."""
    import numpy as np

    from keras_gen.hashing import itq, lsh, pack

    most = max(options.bits, MOST_VALUES // int(np.prod(database.shape)))
    chosen = np.random.default_rng(options.seed).permutation(len(database))[:most]
    sample = database.floats(np.sort(chosen))
    made: dict = {}
    for name, fit in (("LSH", lsh), ("PCA-ITQ", itq)):
        if fit is itq and options.bits > min(len(sample), sample[0].size):
            made[name] = None
            continue
        hashed = fit(sample, options.bits, options.seed)
        starts = range(0, len(database), 5000)
        bits = [hashed.bits(database.floats(slice(s, s + 5000))) for s in starts]
        made[name] = pack(hashed.bits(queries.floats())), pack(np.concatenate(bits))
    return made


def _card(run: "Run", splits: "Splits", queries: int, options: Train, metrics: dict) -> dict:
    last = f"the last {options.validation} training pictures"
    held_out = last if options.validation else "the held-out split"
    return {
        "name": f"hash codes of {data_name(options)}",
        "data": card_of_data(splits, options, run),
        "metrics": metrics,
        "protocol": f"no labels in training; database: the {len(splits.train):,} training pictures; "
        f"{queries:,} queries from {held_out}, classes evenly; mean average precision over the whole "
        "ranking by Hamming distance, relevant: the same class, expected over random orders of the "
        f"equally distant; epochs {options.epochs}, seed {options.seed}, backend {run.config['backend']}.",
        "licence": splits.train.licence,
        "command": command("retrieve", options),
        "usage": [
            "bits = model.hash(image=images)            # images: uint8; bits: uint8, 8 to a byte",
            "codes = model.encode(image=images)         # the same before rounding, 0 to 1",
        ],
    }


# --- ask ---------------------------------------------------------------------------------------


def ask(options: Ask) -> None:
    import numpy as np

    from keras_gen import load_model, plots
    from keras_gen.errors import InputError
    from keras_gen.hashing import HashIndex, hashes_of
    from keras_gen.training import Run

    if options.k < 1:
        raise InputError(f"Expected k of 1 or more. Received: {options.k}.")
    if options.radius is not None and options.radius < 0:
        raise InputError(f"Expected a radius of 0 or more. Received: {options.radius}.")
    out = Path(options.out).expanduser()
    if out.suffix.lower() != ".png":
        raise InputError(f"Expected a .png file to write. Received: {options.out}.")
    paths = _paths(options.pictures)
    keep(paths, [out])
    run = Run.open(options.run, "retrieve", reading=True)
    model = load_model(run.model_file())
    index = HashIndex.load(run.path / "index.npz")
    database, known = _kept(run, len(index))
    if options.k > len(index):
        raise InputError(
            f"Expected k within 1 to the {len(index):,} pictures of the database. Received: {options.k}."
        )
    pictures = np.stack([_read(path, model.data_shape) for path in paths])
    floats = pictures / np.float32(127.5) - np.float32(1)
    found = np.full((len(paths), options.k, *model.data_shape), np.nan, "float32")
    for i, (path, code) in enumerate(zip(paths, hashes_of(model, floats), strict=True)):
        if options.radius is None:
            indices, away = index.nearest(code, options.k)
            print(path)
        else:
            indices, away = index.within(code, options.radius)
            print(f"{path}: {len(indices):,} within {options.radius} bits")
        indices, away = indices[: options.k], away[: options.k]
        found[i, : len(indices)] = database[indices] / np.float32(127.5) - np.float32(1)
        for one, bits in zip(indices, away, strict=True):
            print(f"  {_named(one, known)}  {bits} of {index.bits} bits apart")
    out.parent.mkdir(parents=True, exist_ok=True)
    plots.save(plots.neighbours(floats, found), out)
    print(f"wrote {out}")


def _kept(run: "Run", n: int) -> "tuple[np.ndarray, dict[str, np.ndarray]]":
    """What `_keep` wrote; the pictures are read from the disk when they are looked at."""
    import zipfile

    import numpy as np

    from keras_gen.errors import InputError

    try:
        pictures = np.load(run.path / "database.npy", mmap_mode="r", allow_pickle=False)
        with np.load(run.path / "database.npz", allow_pickle=False) as content:
            known = dict(content)
        if {n} != {len(pictures), *(len(v) for k, v in known.items() if k != "classes")}:
            raise ValueError("other pictures")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Expected the {n:,} pictures of the index in {run.path}. Received: a database.npy or "
            f"database.npz that does not hold them ({type(error).__name__}). Write them anew: "
            f"python -m apps.retrieve --resume {run.path}."
        ) from None
    return pictures, known


def _named(one: int, known: "dict[str, np.ndarray]") -> str:
    """A picture of the database in words: its file or number, and its class."""
    name = str(known["files"][one]) if "files" in known else f"#{one}"
    if "labels" not in known:
        return name
    label = known["labels"][one]
    return f"{name} ({known['classes'][label] if 'classes' in known else label})"


def _paths(given: tuple[str, ...]) -> list[Path]:
    from keras_gen.data.folder import SUFFIXES
    from keras_gen.errors import InputError

    if not given:
        raise InputError("Expected pictures to ask with. Received: none. Name files or folders.")
    paths: list[Path] = []
    for name in given:
        path = Path(name).expanduser()
        inside = [path] if path.is_file() else []
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise InputError(
                f"Expected a picture, or a folder with pictures. Received: {name}. Check the path."
            )
        paths += inside
    return paths


def _read(path: Path, shape: tuple[int, int, int]) -> "np.ndarray":
    """A picture as the model's data are, (height, width, channels) uint8, cut and resampled to size."""
    import numpy as np
    from PIL import Image, ImageOps

    from keras_gen.data.folder import read_picture
    from keras_gen.errors import InputError

    height, width, channels = shape
    try:
        picture = read_picture(path)
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file
        raise InputError(
            f"Expected a picture that can be read. Received: {path} ({type(error).__name__}). "
            "Repair it or leave it out."
        ) from None
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), method=Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(shape)


Options = Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Ask, tyro.conf.subcommand("run")]


if __name__ == "__main__":
    main(Options, work, __doc__, default="train")
