"""Find what does not belong: train on normal data, score pictures or rows of numbers, show where."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from apps._main import main
from apps._scoring import explained, write_table
from apps._training import (
    TrainingOptions,
    begin,
    card_of_data,
    command,
    compile_model,
    data_name,
    deliver,
    held_out_of,
    open_run,
    plan,
    save_model,
    train_model,
)

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import numpy as np

    from keras_gen.anomaly import Detector
    from keras_gen.data import Examples, Splits
    from keras_gen.training import Run

logger = logging.getLogger(__name__)

STEPS = 4000
MOST_EPOCHS = 500
MOST_HELD_OUT = 500
FEWEST = 20


@dataclass
class Training(TrainingOptions):
    label_column: str | None = None
    """The column of a .csv with each row's class."""
    ignore: tuple[str, ...] = ()
    """Columns of a .csv to leave out, such as identifiers."""
    batch_size: int = 50
    """Examples in a step."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Of the learning rate; cosine: down to 0 at the last epoch."""
    network: Literal["auto", "mlp", "conv"] = "auto"
    """Encoder and decoder; auto: convolutional above 32 pixels a side."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers, from the data inward; default by network."""
    activation: str = "relu"
    """Of the hidden layers."""
    latent_dim: int | None = None
    """Dimensions of the codes; default: an eighth of the values, at most 8, or 32 where
    the network is convolutional."""
    corruption: str | None = None
    """What the autoencoder has to undo in training, as in apps.autoencode, such as gaussian:0.2."""
    score: Literal["reconstruction", "relative", "code", "bound"] | None = None
    """What decides; default: relative for pictures, reconstruction for tables."""
    false_positive_rate: float = 0.05
    """The share of normal examples that may be taken for anomalies."""


@dataclass
class Train(Training):
    normal_class: tuple[str, ...] = ()
    """The classes that are normal, by name or index; none: all data are, and nothing is compared."""


@dataclass
class Benchmark(Training):
    classes: tuple[str, ...] = ()
    """The classes that are normal in turn; none: every class."""
    seeds: int = 1
    """Runs for each class, with the seeds that follow --seed."""


@dataclass
class Score:
    paths: tyro.conf.Positional[tuple[str, ...]]
    """Pictures, folders of them, .npz files; .csv or .npz files of rows."""
    run: str
    """Folder of the finished run to score with."""
    out: str = "scores.csv"
    """The table to write, strangest first; heat maps go to a folder beside it."""
    maps: int = 24
    """Heat maps of so many of the strangest pictures; 0: none."""


Commands = (
    Annotated[Train, tyro.conf.subcommand("train", description="Learn what is normal.")]
    | Annotated[Score, tyro.conf.subcommand("run", description="Score pictures or rows with a run.")]
    | Annotated[
        Benchmark,
        tyro.conf.subcommand("benchmark", description="Each class normal in turn, against the others."),
    ]
)


def work(options: "Train | Score | Benchmark") -> None:
    if isinstance(options, Score):
        from apps._scoring import score

        score(options)
    elif isinstance(options, Train):
        train(options)
    else:
        benchmark(options)


# --- training ----------------------------------------------------------------------------------


def train(options: Train) -> None:
    from keras_gen import plots

    options, run = begin("detect", options)
    splits = read_any(options)
    chosen = chosen_classes(splits.train, options.normal_class)
    normal, held_out = normal_data(splits.train, chosen, options)
    is_normal = _is_normal(splits.test, chosen)
    options = replace(options, epochs=epochs_of(options, len(normal)))
    detector = build(options, normal)
    run = open_run("detect", options, run, splits.train)
    plan(_plan(splits, normal, held_out, detector, run, options))
    if not chosen:
        print("no --normal-class: all data count as normal, so nothing is compared and no AUROC given")
    fit(detector, normal, held_out, run, options)
    run.config["detect"] = {"columns": getattr(splits.train, "columns", None)}
    run.save_config()
    save_model(run, detector)

    print("looking at it", flush=True)
    plots.curves(run.rows(), run.path / "curves.png")
    scores = detector.scores(splits.test)
    files = ["curves.png", "scores.png", "scores.csv"]
    _write_scores(run.path / "scores.csv", detector, splits.test, scores)
    default = scores[detector.default]
    groups = {"normal, held out": default[is_normal], "other": default[~is_normal]}
    groups = {name: values for name, values in groups.items() if len(values)}
    plots.histogram(groups, detector.threshold, run.path / "scores.png", f"{detector.default} score")
    if splits.test.key == "image":
        plots.save(_examples(detector, splits.test, default), run.path / "examples.png")
        files.append("examples.png")

    metrics = {}
    if is_normal.any():
        alarms = float((default[is_normal] > detector.threshold).mean())
        metrics["false positives on held-out normal data"] = (
            f"{alarms:.3f} of {int(is_normal.sum()):,}, at a stated {options.false_positive_rate:g}"
        )
    if is_normal.any() and not is_normal.all():
        found = float((default[~is_normal] > detector.threshold).mean())
        metrics["anomalies found"] = f"{found:.3f} of {int((~is_normal).sum()):,}"
        rows = compared(detector, normal, splits.test, is_normal, scores, options.seed)
        metrics |= {f"{name}, AUROC / AUPR": f"{a:.4f} / {p:.4f}" for name, (a, p) in rows.items()}
    elif chosen:
        print("the test split has no other class (or no normal one): no AUROC")
    for name, value in metrics.items():
        print(f"{name}: {value}")
    deliver(run, _card(run, splits, len(normal), detector, options, metrics), files)
    kind = "pictures/" if splits.train.key == "image" else "rows.csv"
    print(f"next: python -m apps.detect run {kind} --run {run.path}")


def read_any(options: Training) -> "Splits":
    """Pictures or a table."""
    from keras_gen.data import load, load_table
    from keras_gen.data.tables import is_table
    from keras_gen.errors import InputError

    print(f"reading {options.data}", flush=True)
    if is_table(Path(options.data).expanduser()):
        if options.image_size is not None:
            raise InputError("Expected pictures, for --image-size. Received: a table. Leave it out.")
        rest = (options.limit, options.seed, options.validation)
        return load_table(options.data, options.label_column, options.ignore, *rest)
    if options.label_column is not None or options.ignore:
        raise InputError(
            f"Expected a .csv, for --label-column and --ignore. Received: {options.data}. Leave them out."
        )
    return load(options.data, options.image_size, options.limit, options.seed, options.validation)


def names_of_classes(data: "Examples") -> dict[int, str]:
    """Label to name; without names, labels are called by their number."""
    import numpy as np

    from keras_gen.errors import InputError

    if data.labels is None:
        raise InputError(
            f"Expected data with classes, to tell normal from other. Received: {data.name}, without. Use "
            "subfolders, an array of labels, or --label-column."
        )
    return dict(enumerate(data.classes)) if data.classes else {int(v): str(v) for v in np.unique(data.labels)}


def chosen_classes(data: "Examples", wanted: Sequence[str]) -> list[int]:
    """Labels of classes given by name or index."""
    from keras_gen.errors import InputError

    if not wanted:
        return []
    names = names_of_classes(data)
    by_text = {str(label): label for label in names} | {name: label for label, name in names.items()}
    unknown = [text for text in wanted if text not in by_text]
    if unknown:
        listed = ", ".join(list(names.values())[:20])
        raise InputError(
            f"Expected a class of {listed}{' ...' if len(names) > 20 else ''}, by name or index. "
            f"Received: {unknown[0]!r}."
        )
    return sorted({by_text[text] for text in wanted})


def _is_normal(data: "Examples", chosen: list[int]) -> "np.ndarray":
    import numpy as np

    from keras_gen.errors import InputError

    if not chosen:
        return np.ones(len(data), bool)
    if data.labels is None:
        raise InputError(f"Expected test data with classes. Received: {data.name}, without. Add labels.")
    return np.isin(data.labels, chosen)


def normal_data(data: "Examples", chosen: list[int], options: Training) -> "tuple[Examples, Examples]":
    """The normal examples to train on, and those held out for the threshold."""
    import math

    import numpy as np

    from keras_gen.errors import InputError

    rate = options.false_positive_rate
    if not 0 < rate < 1:
        raise InputError(f"Expected a false-positive rate between 0 and 1. Received: {rate:g}.")
    indices = np.flatnonzero(_is_normal(data, chosen))
    held = max(math.ceil(1 / rate), min(MOST_HELD_OUT, round(0.2 * len(indices))))
    if len(indices) - held < FEWEST:
        raise InputError(
            f"Expected at least {FEWEST + held} normal {data.noun} to train on, {held} of them to set the "
            f"threshold at a false-positive rate of {rate:g}. Received: {len(indices)}. Bring more, or "
            "allow a higher rate."
        )
    order = np.random.default_rng([options.seed, 4]).permutation(indices)
    return data.select(np.sort(order[held:])), data.select(np.sort(order[:held]))


def epochs_of(options: Training, count: int) -> int:
    steps = max(1, count // options.batch_size)
    return options.epochs or max(1, min(MOST_EPOCHS, round(STEPS / steps)))


def build(options: Training, normal: "Examples") -> "Detector":
    """The untrained detector, scaled to the normal data."""
    import math

    import keras

    from keras_gen import corruptions, networks
    from keras_gen.anomaly import Detector
    from keras_gen.autoencoders import Autoencoder
    from keras_gen.errors import InputError
    from keras_gen.variational import VAE, Gaussian

    keras.utils.set_random_seed(options.seed)
    shape, key = normal.shape, normal.key
    conv = options.network == "conv" or (options.network == "auto" and key == "image" and min(shape[:2]) > 32)
    d = options.latent_dim or max(1, min(32 if conv else 8, math.prod(shape) // 8))
    if conv and key != "image":
        raise InputError("Expected pictures, for the conv network. Received: a table. Use mlp.")
    make_encoder: Any = networks.conv_encoder if conv else networks.mlp_encoder
    make_decoder: Any = networks.conv_decoder if conv else networks.mlp_decoder
    hidden = options.hidden or ((32, 64, 128) if conv else (256, 128))

    def encoder(units: int):
        return make_encoder(shape, units, hidden, activation=options.activation)

    def decoder():
        return make_decoder(d, shape, hidden[::-1], activation=options.activation)

    common: dict[str, Any] = {"seed": options.seed, "data_key": key}
    corruption = corruptions.parse(options.corruption) if options.corruption else None
    detector = Detector(
        Autoencoder(encoder(d), decoder(), corruption=corruption, **common),
        VAE(encoder(2 * d), decoder(), likelihood=Gaussian(0.5), **common),
        default=options.score or ("relative" if key == "image" else "reconstruction"),
    )
    constant = detector.start_from(normal)
    if len(constant):
        names = [getattr(normal, "columns", ())[i] for i in constant]
        logger.warning("constant among the normal rows, left out of every score: %s", ", ".join(names))
    if len(constant) == math.prod(shape):
        raise InputError(f"{normal.name}: expected columns that vary. Received: constant ones alone.")
    return detector


def fit(
    detector: "Detector",
    normal: "Examples",
    held_out: "Examples",
    run: "Run",
    options: Training,
    part: str | None = None,
) -> None:
    """Train, and learn what is usual."""
    from keras_gen.data import Batches

    made = partial(Batches, batch_size=options.batch_size, seed=options.seed)
    training = made(normal, training=True)
    assert options.epochs is not None
    compile_model(detector, options, options.epochs, len(training))
    train_model(detector, training, made(held_out, training=False), run, options.epochs, part=part)
    detector.fit_statistics(normal)
    detector.calibrate(held_out, options.false_positive_rate)


def compared(
    detector: "Detector",
    normal: "Examples",
    test: "Examples",
    is_normal: "np.ndarray",
    scores: "dict[str, np.ndarray]",
    seed: int,
) -> dict[str, tuple[float, float]]:
    """AUROC and AUPR of every score and of the baselines, the default first and marked."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    from keras_gen.anomaly import baseline_scores

    print("fitting PCA, isolation forest, one-class SVM", flush=True)
    components = detector.autoencoder.code_shape[-1]
    others = baseline_scores(detector.standardised(normal), detector.standardised(test), components, seed)
    default = detector.default
    table = {f"{default} (default)": scores[default]}
    table |= {name: values for name, values in scores.items() if name != default} | others
    return {
        name: (
            float(roc_auc_score(~is_normal, values)),
            float(average_precision_score(~is_normal, values)),
        )
        for name, values in table.items()
    }


def _plan(splits, normal, held_out, detector, run, options) -> dict[str, str]:
    import keras

    shape = "x".join(map(str, normal.shape))
    steps = max(1, len(normal) // options.batch_size)
    return {
        "data": f"{options.data}: {len(normal):,} normal {normal.noun} to train on, {len(held_out):,} for "
        f"the threshold, {len(splits.test):,} to test, {shape}",
        "model": f"autoencoder and VAE, {detector.autoencoder.code_shape[-1]}-dimensional codes, "
        f"{detector.count_params():,} parameters, on {keras.backend.backend()}; score {detector.default}",
        "training": f"{options.epochs} epochs of {steps} steps",
        "writing": str(run.path),
    }


def _examples(detector: "Detector", test: "Examples", scores: "np.ndarray"):
    """The most normal and the strangest pictures, what is made of them, and where they are strange."""
    import numpy as np

    from keras_gen import plots

    count = min(12, len(test) // 2) or 1
    order = np.argsort(scores, kind="stable")
    chosen = test.select(np.concatenate([order[:count], order[-count:][::-1]]))
    return plots.strips(explained(detector, chosen), count)


def _write_scores(path: Path, detector: "Detector", data: "Examples", scores: dict) -> None:
    labels = [""] * len(data)
    if data.labels is not None:
        names = names_of_classes(data)
        labels = [names[int(label)] for label in data.labels]
    rows = zip(*scores.values(), strict=True)
    write_table(
        path,
        ["index", "class", "anomaly", "threshold", *scores],
        (
            [i, labels[i], int(scores[detector.default][i] > detector.threshold), detector.threshold, *row]
            for i, row in enumerate(rows)
        ),
    )


def _card(
    run: "Run", splits: "Splits", trained_on: int, detector: "Detector", options: Train, metrics: dict
) -> dict:
    key = splits.train.key
    given = "images" if key == "image" else "rows"
    return {
        "name": f"anomaly detector on {data_name(options)}",
        "data": {**card_of_data(splits, options, run), "train": trained_on},
        "metrics": metrics,
        "protocol": f"normal: {', '.join(options.normal_class) or 'everything'}; {detector.default} score, "
        f"chosen beforehand; threshold {detector.threshold:.6g} for a false-positive rate of "
        f"{options.false_positive_rate:g} on normal training {splits.train.noun} held out; measured on "
        f"{held_out_of(options)}; epochs {options.epochs}, seed {options.seed}, "
        f"backend {run.config['backend']}.",
        "licence": splits.train.licence,
        "command": command("detect", options),
        "usage": [
            f"scores = model.score({key}={given})       # {'uint8' if key == 'image' else 'float32'}",
            f"verdicts = model.is_anomaly({key}={given})",
            f"where = model.heat_map({key}={given})",
        ],
    }


# --- each class in turn ------------------------------------------------------------------------


def benchmark(options: Benchmark) -> None:
    import numpy as np

    from keras_gen.errors import InputError

    options, run = begin("detect", options)
    if options.seeds < 1:
        raise InputError(f"Expected seeds of 1 or more. Received: {options.seeds}.")
    splits = read_any(options)
    names = names_of_classes(splits.train)
    chosen = chosen_classes(splits.train, options.classes) or list(names)
    if len(names) < 2:
        raise InputError(f"Expected two classes or more. Received: {len(names)}.")
    for label in chosen:  # before hours of the others
        for seed in range(options.seed, options.seed + options.seeds):
            normal_data(splits.train, [label], replace(options, seed=seed))
        found = int(_is_normal(splits.test, [label]).sum())
        if not 0 < found < len(splits.test):
            raise InputError(
                f"Expected {splits.test.noun} of class {names[label]}, and others, to test with. "
                f"Received: {found} of {len(splits.test)}. Leave the class out of --classes."
            )
    run = open_run("detect", options, run, splits.train, "detect benchmark")
    plan(
        {
            "data": f"{options.data}: {len(splits.train):,} {splits.train.noun} to train on, "
            f"{len(splits.test):,} to test",
            "training": f"{len(chosen)} classes, {options.seeds} times each",
            "writing": str(run.path),
        }
    )
    results: dict[tuple[int, int], dict[str, tuple[float, float]]] = {}
    for seed in range(options.seed, options.seed + options.seeds):
        for label in chosen:
            own = replace(options, seed=seed)
            normal, held_out = normal_data(splits.train, [label], own)
            own = replace(own, epochs=epochs_of(own, len(normal)))
            detector = build(own, normal)
            part = f"class-{label}-seed-{seed}"
            fit(detector, normal, held_out, run, own, part)
            is_normal = _is_normal(splits.test, [label])
            results[label, seed] = compared(
                detector, normal, splits.test, is_normal, detector.scores(splits.test), seed
            )
            shown = "  ".join(f"{k} {100 * a:.1f}" for k, (a, _) in results[label, seed].items())
            print(f"{names[label]}, seed {seed}, AUROC %: {shown}", flush=True)

    methods = list(next(iter(results.values())))
    rows = []
    for label, seed in results:
        for method in methods:
            rows.append([names[label], seed, method, *results[label, seed][method]])
    write_table(run.path / "benchmark.csv", ["normal", "seed", "score", "auroc", "aupr"], rows)
    lines = ["| AUROC, % | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    means = []
    for label in chosen:
        values = np.array([[results[label, s][m][0] for m in methods] for c, s in results if c == label])
        means.append(100 * values.mean(axis=0))
        lines.append(f"| {names[label]} | " + " | ".join(f"{v:.1f}" for v in means[-1]) + " |")
    lines.append("| mean | " + " | ".join(f"{v:.2f}" for v in np.mean(means, axis=0)) + " |")
    (run.path / "benchmark.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"wrote {run.path}/: benchmark.csv benchmark.md")


if __name__ == "__main__":
    main(Commands, work, __doc__, default="train")
