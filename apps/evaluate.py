"""Measure made pictures against real ones: of a run, a SavedModel, or a folder from anywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from apps._main import main
from apps._sources import ELSEWHERE, Source, open_source

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import numpy as np
    from rich.progress import Progress

    from keras_gen.data import Splits
    from keras_gen.metrics import Extracted, Features


@dataclass
class Options:
    source: tyro.conf.Positional[str]
    """A run, a .keras file, a SavedModel, a folder of pictures, or an .npz file of them."""
    against: str | None = None
    """Real pictures: `digits`, a folder, an .npz file or a TFDS name; default: those of the run."""
    image_size: int | None = None
    """Pixels a side of the real ones; default: as for the run, otherwise as the data are."""
    n: int = 10_000
    """Made, and real, pictures; fewer where there are fewer."""
    split: Literal["test", "train"] = "test"
    """Which of the real pictures."""
    features: str = "auto"
    """What distances are measured in: pixels, inception, data with a classifier that comes along (mnist,
    fashion_mnist, digits), or the path of one; auto: that of the data, otherwise pixels."""
    k: int = 5
    """Neighbours that make a neighbourhood, for precision, recall, density and coverage."""
    likelihood_n: int = 1000
    """Held-out pictures for bounds on log p(x); 0: none."""
    importance_samples: int = 100
    """Samples of each bound of a VAE."""
    flow_steps: int = 0
    """Diffusion: steps of the probability flow that also gives a density, in bits a dimension; 0: none."""
    seed: int = 0
    """Of the drawn pictures and the choice of real ones."""
    out: str | None = None
    """File to write; default: evaluation.json in the run, otherwise here."""


BOUND_STEPS = 50
"""Of a diffusion's variational bound that are looked at, each for its neighbours."""


@dataclass
class Row:
    """A line of the table: a number, and everything that it holds for."""

    key: str
    measure: str
    value: float
    better: str
    n: int
    data: str
    split: str
    features: str
    resize: str
    seed: int
    error: float | None = None
    real: float | None = None


def work(options: Options) -> None:
    from keras_gen.errors import InputError

    for name, least in (
        ("n", 2),
        ("k", 1),
        ("likelihood_n", 0),
        ("importance_samples", 1),
        ("flow_steps", 0),
        ("seed", 0),
    ):
        if getattr(options, name) < least:
            raise InputError(f"Expected {name} of {least} or more. Received: {getattr(options, name)}.")
    source = open_source(options.source)
    out = _place_to_write(options, source)
    splits = _real(options, source)
    if options.flow_steps:
        _check_flow(source, splits)
    rows: list[Row] = []
    more: dict[str, Any] = {}
    if source.draw is not None or source.pictures is not None:
        rows += _samples(options, source, splits, more, out.with_suffix(".png"))
    taken, given = getattr(source.model, "data_shape", None), splits.train.shape
    if source.model is not None and taken is not None and tuple(taken) != given:
        sizes = ["x".join(map(str, shape)) for shape in (taken, given)]
        print(f"no likelihood, no reconstructions: a model of {sizes[0]}, pictures of {sizes[1]}")
    elif source.model is not None:
        rows += _likelihood(options, source, splits)
        rows += _reconstructions(options, source, splits)
    if not rows:
        raise InputError(
            "Expected a model that draws, reconstructs or has a likelihood. Received: "
            f"{source.path}, a {type(source.model).__name__}. {ELSEWHERE}"
        )
    _report(options, source, rows, more, out)


def _real(options: Options, source: Source) -> "Splits":
    from keras_gen.data import load
    from keras_gen.errors import InputError

    arguments = dict(source.data)
    if options.against is not None:
        arguments = {"name": options.against}
    if "name" not in arguments:
        raise InputError(
            f"Expected --against DATA, the real pictures. Received: {source.path}, which does not say what "
            "it was made from."
        )
    if options.image_size is not None:
        arguments["image_size"] = options.image_size
    print(f"reading {arguments['name']}", flush=True)
    return load(**arguments)


def _held_out(options: Options, source: Source) -> str:
    """What the held-out pictures are: a run may have set some of the training ones aside instead."""
    validation = source.data.get("validation") if options.against is None else None
    return "test" if validation is None else f"validation, {validation:,}"


# --- made pictures -----------------------------------------------------------------------------


def _samples(options: Options, source: Source, splits: "Splits", more: dict, picture: Path) -> list[Row]:
    """Made pictures against the real ones, and as many other real pictures against them."""
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from keras_gen import metrics
    from keras_gen.data.arrays import adapted, resizing

    shape, train = splits.train.shape, splits.train
    features = metrics.load_features(options.features, Path(train.name).name)
    made, done = (None, "none") if source.pictures is None else source.pictures(shape)
    n, some_train, some_test = _chosen(options, splits, options.n if made is None else len(made))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        if made is None:
            task = progress.add_task(f"drawing {n:,} pictures", total=n)

            def draw(count, seed):
                drawn = source.draw(count, seed)
                progress.advance(task, count)
                return drawn

            made = metrics.drawn(draw, n, options.seed)
            done = resizing(made.shape[1:], shape)
            made = adapted(made, shape)
        elif len(made) > n:
            made = made[np.sort(np.random.default_rng([options.seed, 6]).permutation(len(made))[:n])]
        sets = {"made": made, "train": train.levels(), "test": splits.test.select(some_test).levels()}
        extracted = _extracted(features, sets, progress)
        # of the training pictures all are looked at for copies: the floor takes its own from them
        others = extracted["train"].select(some_train[:n])
        real = extracted["test"] if options.split == "test" else extracted["train"].select(some_train[n:])
        found = metrics.compare(real, extracted["made"], options.k)
        floor = metrics.compare(real, others, options.k)
        copies = metrics.copying(extracted["train"], extracted["made"], extracted["test"])
    resize = "; ".join(s for s in dict.fromkeys((done, features.resize(shape))) if s != "none") or "none"

    def row(key: str, value: float, error: float, usual: float, split: str) -> Row:
        return Row(
            key,
            metrics.title(key, features),
            value,
            metrics.MEASURES[key].better,
            n,
            train.name,
            split,
            features.name,
            resize,
            options.seed,
            None if np.isnan(error) else error,
            usual,
        )

    split = "train" if options.split == "train" else _held_out(options, source)
    rows = [row(key, e.value, e.error, floor[key].value, split) for key, e in found.items()]
    every = f"train, {len(train):,}"
    rows += [row(key, value, np.nan, usual, every) for key, (value, usual) in copies.items()]
    opinions = {"made": extracted["made"].probabilities, "real": real.probabilities}
    if opinions["made"] is not None:
        names = features.classes or train.classes
        more["class histogram"] = {
            "classes": list(names) if names else None,
            **{name: metrics.class_histogram(p).tolist() for name, p in opinions.items() if p is not None},
        }
    _draw_nearest(sets["made"], sets["train"], extracted, picture)
    more["picture"] = picture.name
    return rows


def _chosen(options: Options, splits: "Splits", most: int) -> "tuple[int, np.ndarray, np.ndarray]":
    """How many pictures on each side, and which.

    Returns:
        n; indices of n training pictures for the floor and, with `--split train`, of n others that are
        the real ones; indices of held-out pictures, n of them where these are the real ones.
    """
    import numpy as np

    from keras_gen.errors import InputError

    from_train = 2 if options.split == "train" else 1
    test, train = len(splits.test), len(splits.train)
    available = train // 2 if options.split == "train" else min(test, train)
    n = min(options.n, most, available)
    if n <= options.k:
        raise InputError(
            f"Expected more than k = {options.k} pictures. Received: {most:,} made ones, and "
            f"{available:,} real ones of the {options.split} split of {splits.train.name}."
        )
    if n < options.n:
        print(f"{n:,} pictures: {most:,} made ones, {available:,} real ones in the {options.split} split")
    some_train = np.random.default_rng([options.seed, 7]).permutation(train)[: from_train * n]
    some_test = np.random.default_rng([options.seed, 5]).permutation(test)[:n]
    return n, some_train, np.sort(some_test)


def _extracted(
    features: "Features", sets: "dict[str, np.ndarray]", progress: "Progress"
) -> "dict[str, Extracted]":
    """Each set's features, with a bar."""
    import numpy as np

    from keras_gen.metrics import Extracted

    total = sum(map(len, sets.values()))
    task = progress.add_task(f"features of {total:,} pictures", total=total)
    made = {}
    for name, pictures in sets.items():
        parts = []
        for start in range(0, len(pictures), 2500):
            parts.append(features(pictures[start : start + 2500]))
            progress.advance(task, len(parts[-1].vectors))
        probabilities = None
        if parts[0].probabilities is not None:
            probabilities = np.concatenate([part.probabilities for part in parts])
        made[name] = Extracted(np.concatenate([part.vectors for part in parts]), probabilities)
    return made


def _draw_nearest(made: "np.ndarray", train: "np.ndarray", extracted: dict, path: Path) -> None:
    """Ten made pictures, each with its five nearest training pictures."""
    from keras_gen import metrics, plots
    from keras_gen.data import ImageData

    some = slice(0, 10)
    _, found = metrics.nearest(extracted["made"].vectors[some], extracted["train"].vectors, 5)
    queries = ImageData("made", made).floats(some)
    plots.save(plots.neighbours(queries, ImageData("train", train).floats(found)), path)


# --- likelihood and reconstruction -------------------------------------------------------------


def _likelihood(options: Options, source: Source, splits: "Splits") -> list[Row]:
    """Bounds on log p(x) of held-out pictures."""
    import math

    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from keras_gen import metrics
    from keras_gen.data import Batches
    from keras_gen.diffusion import Diffusion

    model, k = source.model, options.importance_samples
    if isinstance(model, Diffusion) and options.likelihood_n > 0:
        return _diffusion_likelihood(options, source, splits)
    if not hasattr(model, "log_likelihood") or options.likelihood_n == 0:
        return []
    data = splits.test.select(np.arange(min(options.likelihood_n, len(splits.test))))
    batches = Batches(data, 50, training=False, seed=options.seed, binarize=source.binarize)
    density = model.likelihood.name != "bernoulli"
    spacing = 2 / 255 if density and data.images.dtype == np.uint8 else None
    rng = np.random.default_rng([options.seed, 8])
    bounds = []
    for step in track(
        range(len(batches)), f"bounds of {k} samples", console=Console(stderr=True), transient=True
    ):
        images = batches[step]["image"]
        if spacing is not None:
            images = images + spacing * (rng.random(images.shape, dtype="float32") - np.float32(0.5))
        bounds.append(model.log_likelihood(images, k=k, seed=options.seed + step))
    bound = np.concatenate(bounds)
    error = float(bound.std(ddof=1) / math.sqrt(len(bound))) if len(bound) > 1 else None
    if density:
        protocol = "grey levels, uniform noise added" if spacing else "as they are"
    else:
        protocol = {"none": "grey values: a cross entropy", "dynamic": "binarised by chance, once"}.get(
            source.binarize, "binarised at mid grey"
        )
    common = (len(bound), data.name, _held_out(options, source), protocol, "none", options.seed)
    title = f"log p(x), {k}-sample bound, nats"
    rows = [Row("log_likelihood", title, float(bound.mean()), "higher", *common, error)]
    if spacing is not None or (not density and source.binarize != "none"):
        dims = int(np.prod(data.shape))
        bits = float(metrics.bits_per_dim(bound, dims, spacing).mean())
        bits_error = None if error is None else error / (dims * math.log(2))
        title = "bits a dimension, upper bound"
        rows.append(Row("bits_per_dim", title, bits, "lower", *common, bits_error))
    return rows


def _check_flow(source: Source, splits: "Splits") -> None:
    """Refuse a density before hours of drawing, not after."""
    import numpy as np

    from keras_gen.diffusion import Diffusion
    from keras_gen.diffusion.likelihood import check_density
    from keras_gen.errors import InputError

    if not isinstance(source.model, Diffusion):
        received = "no model" if source.model is None else f"a {type(source.model).__name__}"
        raise InputError(f"Expected a diffusion model, for --flow-steps. Received: {received}.")
    check_density(source.model)
    if splits.test.images.dtype != np.uint8:
        raise InputError(
            "Expected pictures of grey levels, uint8, for --flow-steps. Received: "
            f"{splits.test.images.dtype}, whose bits a dimension are not defined."
        )


def _diffusion_likelihood(options: Options, source: Source, splits: "Splits") -> list[Row]:
    """Of held-out pictures under a diffusion model: the variational bound, and the flow's density."""
    import math

    import numpy as np
    from rich.console import Console
    from rich.progress import Progress, track

    from keras_gen import metrics
    from keras_gen.diffusion import Discrete, log_density, variational_bound

    model = source.model
    data = splits.test.select(np.arange(min(options.likelihood_n, len(splits.test))))
    rng = np.random.default_rng([options.seed, 8])
    rows: list[Row] = []

    def row(title: str, protocol: str, bits: "np.ndarray") -> None:
        error = float(bits.std(ddof=1) / math.sqrt(len(bits))) if len(bits) > 1 else None
        held_out = _held_out(options, source)
        measure = ("bits_per_dim", title, float(bits.mean()), "lower", len(bits), data.name, held_out)
        rows.append(Row(*measure, protocol, "none", options.seed, error))

    parts = [slice(i, i + 100) for i in range(0, len(data), 100)]
    console = Console(stderr=True)
    if isinstance(model.schedule, Discrete) and data.images.dtype == np.uint8:
        every = max(1, model.schedule.steps // BOUND_STEPS)
        looked_at = len(range(1, model.schedule.steps, every)) + 1
        bounds = []
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("variational bound", total=len(parts) * looked_at)
            for k, part in enumerate(parts):
                images, watch = data.floats(part), lambda done: progress.advance(task)
                terms = variational_bound(model, images, None, options.seed + k, every, watch)
                bounds.append(terms["total"])
        protocol = f"one step of {every}" if every > 1 else "all steps"
        row("bits a dimension, variational bound", protocol, np.concatenate(bounds))
    if options.flow_steps > 0:
        spacing = 2 / 255
        found = []
        for part in track(parts, "density along the flow", console=console, transient=True):
            images = data.floats(part)
            images = images + spacing * (rng.random(images.shape, dtype="float32") - np.float32(0.5))
            found.append(log_density(model, images, None, options.flow_steps, options.seed))
        bits = metrics.bits_per_dim(np.concatenate(found), int(np.prod(data.shape)), spacing)
        row("bits a dimension, along the flow", f"{options.flow_steps} Heun steps", bits)
    return rows


def _reconstructions(options: Options, source: Source, splits: "Splits") -> list[Row]:
    """PSNR and SSIM of what is made of held-out pictures by encoding and decoding them."""
    import math

    import numpy as np

    from keras_gen import metrics
    from keras_gen.diffusion import Diffusion
    from keras_gen.engine import to_numpy

    model = source.model
    if not (hasattr(model, "encode") and hasattr(model, "decode")) or isinstance(model, Diffusion):
        return []
    data = splits.test.select(np.arange(min(options.n, len(splits.test))))
    images = data.floats()
    made = np.concatenate([to_numpy(model(images[i : i + 500])) for i in range(0, len(images), 500)])
    common = (len(images), data.name, _held_out(options, source), "pixels", "none", options.seed)
    rows = []
    for key, title, function in (
        ("psnr", "PSNR of reconstructions, dB", metrics.psnr),
        ("ssim", "SSIM of reconstructions", metrics.ssim),
    ):
        values = [function((a + 1) / 2, (b + 1) / 2) for a, b in zip(images, made, strict=True)]
        error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        rows.append(Row(key, title, float(np.mean(values)), "higher", *common, error))
    return [row for row in rows if not math.isnan(row.value)]


# --- the way out -------------------------------------------------------------------------------


def _place_to_write(options: Options, source: Source) -> Path:
    from keras_gen.errors import InputError

    if options.out is None:
        return (source.path if (source.path / "config.json").is_file() else Path()) / "evaluation.json"
    out = Path(options.out).expanduser()
    if out.suffix.lower() != ".json" or out.is_dir():
        raise InputError(f"Expected a .json file to write. Received: {out}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def _report(options: Options, source: Source, rows: list[Row], more: dict, out: Path) -> None:
    """One table, and the same for machines."""
    import json
    from dataclasses import asdict

    import keras
    from rich import box
    from rich.console import Console
    from rich.table import Table

    import keras_gen
    from keras_gen.training.run import write_atomically

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("measure", "made", "real", "n", "split", "features", "resize", "seed"):
        number = name in ("made", "real", "n", "seed")
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    arrows = {"lower": " ↓", "higher": " ↑"}
    for row in rows:
        value = _digits(row.value) + ("" if row.error is None else f" ±{row.error:.2g}")
        usual = "" if row.real is None else _digits(row.real)
        name = row.measure + arrows.get(row.better, "")
        cells = (f"{row.n:,}", f"{row.data} {row.split}", row.features, row.resize, str(row.seed))
        table.add_row(name, value, usual, *cells)
    # a pipe has no width: lines are not folded there
    console = Console()
    Console(width=max(console.width, 200)).print(table)
    histogram = more.get("class histogram")
    if histogram and len(histogram["made"]) <= 20:
        names = histogram["classes"] or range(len(histogram["made"]))
        shares = zip(names, histogram["made"], histogram["real"], strict=True)
        listed = (f"{name} {100 * made:.1f} ({100 * real:.1f})" for name, made, real in shares)
        print("classes made (real), %: " + "  ".join(listed))
    content = {
        "source": str(source.path),
        "protocol": "made: error is the standard error, of the class score the deviation over ten parts; "
        "real: the same measure of as many other real pictures; numbers compare at equal n, split, features "
        "and resize alone",
        "k": options.k,
        "rows": [asdict(row) for row in rows],
        **more,
        "keras_gen": keras_gen.__version__,
        "backend": keras.backend.backend(),
    }
    write_atomically(out, json.dumps(content, indent=2).encode())
    print(f"wrote {out}")
    if "picture" in more:
        print(f"wrote {out.with_suffix('.png')}: made pictures, and the nearest training pictures of each")


def _digits(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 100 else f"{value:.2f}"


if __name__ == "__main__":
    main(Options, work, __doc__)
