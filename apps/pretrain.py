"""Learn from all pictures without labels, then classify with few, beside starting from scratch."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from apps._main import main
from apps._training import (
    RATE,
    TrainingOptions,
    begin,
    card_of_data,
    class_counts,
    command,
    compile_model,
    data_name,
    default_epochs,
    deliver,
    described,
    held_out_of,
    open_run,
    plan,
    read,
    save_model,
    shown,
    train_model,
)

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import keras
    import numpy as np

    from keras_gen.data import ImageData, Splits
    from keras_gen.engine import GenerativeModel
    from keras_gen.semisupervised import Classifier
    from keras_gen.training import Run

PCA_BASELINE = "PCA + logistic regression"
SCRATCH = "from scratch"
FROZEN = "pretrained, frozen"
TUNED = "pretrained, fine-tuned"
CONSISTENT = "pretrained, with unlabelled pictures"
METHODS = (PCA_BASELINE, SCRATCH, FROZEN, TUNED, CONSISTENT)


@dataclass
class Options(TrainingOptions):
    labels: tuple[int, ...] = (100,)
    """Labelled pictures in all, as many of each class; of several numbers the classifier
    of the first is exported."""
    seeds: int = 5
    """Choices of the labelled pictures, and initialisations, that the table averages over."""
    pretext: Literal["autoencoder", "denoising", "sparse", "contractive", "vae"] = "denoising"
    """What is learned without labels."""
    network: Literal["auto", "mlp", "conv"] = "auto"
    """The encoder; auto: convolutional from 16 pixels a side."""
    latent_dim: int = 64
    """Dimensions of the code that the classifier sees."""
    weak: str = "affine:0.1"
    """Distortion of every picture that a classifier is trained on; see --strong."""
    strong: str = "affine:0.3+masking:0.3"
    """Further distortion of unlabelled pictures, whose class must stay; none: leave the method out."""
    augment: str = "none"
    """On top, for the labelled pictures: randaugment, mixup, cutmix, or keras-cv:LAYER."""
    threshold: float = 0.95
    """How sure a prediction must be to serve as the label of an unlabelled picture."""
    steps: int = 1000
    """Training steps of a classifier."""
    curve: bool = True
    """Draw accuracy against labels: for one number of --labels from a quarter to four times
    as many (first seed), otherwise for those named."""


def work(options: Options) -> None:
    import keras

    from keras_gen.data import Batches

    options, run = begin("pretrain", options)
    splits = read(options)
    each = _check(options, splits)
    keras.utils.set_random_seed(options.seed)
    model = build_pretext(options, splits.train.shape)
    model.start_from(splits.train.mean())
    made = partial(Batches, batch_size=options.batch_size, seed=options.seed)
    training, held_out = made(splits.train, training=True), made(splits.test, training=False)
    options = replace(options, epochs=default_epochs(options, len(training)))
    assert options.epochs is not None
    compile_model(model, options, options.epochs, len(training))
    before = options.epochs if run is None else run.config["options"]["epochs"]
    run = open_run("pretrain", options, run, splits.train)
    counts = _label_counts(each, splits) if options.curve else each
    if before != options.epochs:  # what was compared, was with what had been learned by then
        for name in ("results.csv", "model.keras"):
            (run.path / name).unlink(missing_ok=True)
    plan(
        {
            "data": described(splits, options),
            "model": f"{options.pretext}, {options.latent_dim}-dimensional code, "
            f"{model.count_params():,} parameters, on {keras.backend.backend()}",
            "training": f"{options.epochs} epochs of {len(training)} steps without labels, then "
            f"classifiers of {options.steps} steps on {_listed(options.labels)} labels, "
            f"{options.seeds} seeds",
            "writing": str(run.path),
        }
    )
    train_model(model, training, held_out, run, options.epochs)
    _compare(run, model, splits, options, each, counts)
    _finish(run, model, splits, options)


# --- what is asked for -------------------------------------------------------------------------


def _check(options: Options, splits: "Splits") -> list[int]:
    """Labelled pictures of each class for each number of --labels.

    Refuses before anything is trained what cannot be had.
    """

    from keras_gen import corruptions
    from keras_gen.data.augmentation import augmentation
    from keras_gen.errors import InputError

    if not 0 <= options.threshold < 1:
        raise InputError(f"Expected a threshold of 0 to below 1. Received: {options.threshold}.")
    for name, value in (
        ("labels", min(options.labels, default=0)),
        ("seeds", options.seeds),
        ("steps", options.steps),
    ):
        if value < 1:
            raise InputError(f"Expected {name} of 1 or more. Received: {value}.")
    if len(set(options.labels)) < len(options.labels):
        raise InputError(f"Expected different numbers of labels. Received: {shown(options.labels)}.")
    counts = class_counts(splits)
    classes = len(counts)
    for labels in options.labels:
        if labels % classes:
            raise InputError(
                f"Expected as many labels of each of the {classes} classes. Received: {labels} in all. "
                f"Ask for a multiple of {classes}."
            )
        if labels // classes > counts.min():
            least = int(counts.argmin())
            name = splits.train.classes[least] if splits.train.classes else str(least)
            raise InputError(
                f"Expected {labels // classes} labelled pictures of each class. Received: class {name} "
                f"with {counts.min()}. Ask for {counts.min() * classes} labels at most."
            )
    corruptions.parse(options.weak)
    if options.strong != "none":
        corruptions.parse(options.strong)
    augmentation(options.augment, classes)
    return [labels // classes for labels in options.labels]


def _label_counts(each: list[int], splits: "Splits") -> list[int]:
    """Labels a class along the curve: those asked for, about a single one others as well."""
    import numpy as np

    assert splits.train.labels is not None
    most = np.bincount(splits.train.labels).min()
    if len(each) > 1:
        return each
    others = {max(1, round(each[0] * f)) for f in (0.25, 0.5, 2, 4) if each[0] * f <= most} - {each[0]}
    return [*each, *sorted(others)]


def _listed(labels: tuple[int, ...]) -> str:
    return " and ".join(f"{n:,}" for n in labels)


def choose(labels: "np.ndarray", each: int, seed: int) -> "np.ndarray":
    """Indices of `each` pictures of every class, sorted."""
    import numpy as np

    rng = np.random.default_rng([seed, 4])
    chosen = [rng.choice(np.flatnonzero(labels == c), each, replace=False) for c in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


# --- models ------------------------------------------------------------------------------------


def _networks(options: Options, shape, units: int, code_activation: str = "linear"):
    from keras_gen import networks

    side = min(shape[:2])
    if options.network == "mlp" or (options.network == "auto" and side < 16):
        encoder = networks.mlp_encoder(shape, units, (256, 256), code_activation=code_activation)
        return encoder, networks.mlp_decoder(options.latent_dim, shape, (256, 256))
    stages = max(1, min(3, (side // 7).bit_length()))
    filters = tuple(32 * 2**i for i in range(stages))
    encoder = networks.conv_encoder(shape, units, filters, code_activation=code_activation)
    return encoder, networks.conv_decoder(options.latent_dim, shape, filters[::-1])


def build_pretext(options: Options, shape) -> "GenerativeModel":
    """The untrained model that learns without labels."""
    from keras_gen import corruptions
    from keras_gen.autoencoders import Autoencoder, penalties
    from keras_gen.variational import VAE

    if options.pretext == "vae":
        encoder, decoder = _networks(options, shape, 2 * options.latent_dim)
        return VAE(encoder, decoder, seed=options.seed)
    sigmoid = options.pretext in ("sparse", "contractive")
    encoder, decoder = _networks(options, shape, options.latent_dim, "sigmoid" if sigmoid else "linear")
    extras: dict[str, dict] = {
        "autoencoder": {},
        "denoising": {"corruption": corruptions.parse("affine:0.2+masking:0.3")},
        "sparse": {"penalty": penalties.KLSparsity(0.1, 5e-3)},
        "contractive": {"penalty": penalties.Contractive(1e-3)},
    }
    return Autoencoder(encoder, decoder, seed=options.seed, **extras[options.pretext])


def code_encoder(model: "GenerativeModel") -> "keras.Model":
    """The encoder of a pretext model, to the code alone: a VAE's without its variances."""
    import keras

    encoder = keras.models.clone_model(model.encoder)
    encoder.set_weights(model.encoder.get_weights())
    units = getattr(model, "latent_dim", None)
    if units is None:
        return encoder
    return keras.Model(encoder.input, encoder.output[:, :units], name="encoder")


def _fresh_weights(options: Options, splits: "Splits", seed: int) -> list["np.ndarray"]:
    """An untrained encoder's weights, centred on the data as the pretext's were."""
    import keras

    keras.utils.set_random_seed(1000 + seed)
    model = build_pretext(options, splits.train.shape)
    model.start_from(splits.train.mean())
    return code_encoder(model).get_weights()


class _Trainable:
    """A compiled classifier that can be set back, so that it is compiled once for all seeds."""

    def __init__(self, encoder, classes: int, options: Options, **kwargs):
        import keras

        from keras_gen.engine import to_numpy
        from keras_gen.semisupervised import Classifier

        self.model: Classifier = Classifier(encoder, classes, seed=options.seed, **kwargs)
        rate = keras.optimizers.schedules.CosineDecay(options.learning_rate or RATE, options.steps)
        self.model.compile(keras.optimizers.Adam(rate))
        self.state = [*self.model.variables, *self.model.optimizer.variables]
        self.start = [to_numpy(v.value).copy() for v in self.state]

    def reset(self, encoder_weights: list["np.ndarray"], seed: int, head=None) -> None:
        """Set back; the head to a kernel and a bias, or to random numbers."""
        import keras

        for variable, value in zip(self.state, self.start, strict=True):
            variable.assign(value)
        self.model.encoder.set_weights(encoder_weights)
        kernel = self.model.head.kernel
        if head is None:
            kernel.assign(keras.initializers.GlorotUniform(seed)(kernel.shape))
        else:
            kernel.assign(head[0])
            self.model.head.bias.assign(head[1])


# --- the comparison ----------------------------------------------------------------------------

FIELDS = ("method", "labels", "seed", "error")


def _compare(
    run: "Run", pretext, splits: "Splits", options: Options, each: list[int], counts: list[int]
) -> None:
    """Fill results.csv, a row for each method, number of labels and seed; what is there is not redone."""
    import numpy as np

    from keras_gen.autoencoders import codes_of
    from keras_gen.data import LabelledBatches
    from keras_gen.data.augmentation import augmentation
    from keras_gen.semisupervised import linear_probe

    labels = splits.train.labels
    assert labels is not None
    classes = len(class_counts(splits))
    exported = (CONSISTENT if options.strong != "none" else TUNED, each[0] * classes, 0)
    if not (run.path / "model.keras").exists():
        _write_results(run, [r for r in results(run) if (r["method"], r["labels"], r["seed"]) != exported])
    done = {(r["method"], r["labels"], r["seed"]) for r in results(run)}
    encoder = code_encoder(pretext)
    pretrained = encoder.get_weights()
    make = _trainers(options, pretext, classes)
    features = {
        PCA_BASELINE: _pca_features(splits, options),
        FROZEN: lambda data: codes_of(pretext, data.floats()),
    }
    held_out = {method: of(splits.test) for method, of in features.items()}
    for count in counts:
        for seed in range(options.seeds if count in each else 1):
            labelled = splits.train.select(choose(labels, count, seed))
            for method in METHODS:
                key = (method, count * classes, seed)
                if key in done or (method == CONSISTENT and options.strong == "none"):
                    continue
                if method in (PCA_BASELINE, FROZEN):
                    kernel, bias = linear_probe(features[method](labelled), labelled.labels, seed)
                    guesses = (held_out[method] @ kernel + bias).argmax(axis=1)
                    error = float(np.mean(guesses != splits.test.labels))
                else:
                    trainer = make(method)
                    if method == SCRATCH:
                        trainer.reset(_fresh_weights(options, splits, seed), seed)
                    else:
                        # a random head would spoil what was learned before it has learned anything
                        # itself (Kumar et al. 2022, arXiv:2202.10054)
                        head = linear_probe(features[FROZEN](labelled), labelled.labels, seed)
                        trainer.reset(pretrained, seed, head)
                    batches = LabelledBatches(
                        labelled,
                        splits.train if method == CONSISTENT else None,
                        BATCH,
                        options.steps,
                        seed=seed,
                        augment=augmentation(options.augment, classes, seed),
                    )
                    trainer.model.fit(batches, shuffle=False, verbose=0)
                    error = test_error(trainer.model, splits.test)
                    if key == exported:
                        save_model(run, trainer.model)
                _write_results(run, [*results(run), dict(zip(FIELDS, (*key, error), strict=True))])
                print(
                    f"{count * classes:6} labels  seed {seed}  {method:38} error {100 * error:6.2f} %",
                    flush=True,
                )
    assert np.isfinite([r["error"] for r in results(run)]).all()


BATCH = 32
"""Labelled pictures a step; the unlabelled ones are seven times as many, as in the FixMatch paper."""


def _trainers(options: Options, pretext, classes: int):
    """Make each method's classifier once, when first needed; two methods share one."""
    import functools

    from keras_gen import corruptions

    weak = corruptions.parse(options.weak)

    @functools.cache
    def make(kind: str) -> _Trainable:
        extras: dict[str, dict] = {
            "supervised": {"weak": weak},
            CONSISTENT: {
                "weak": weak,
                "strong": corruptions.parse(options.strong) if options.strong != "none" else None,
                "threshold": options.threshold,
            },
        }
        return _Trainable(code_encoder(pretext), classes, options, **extras[kind])

    return lambda method: make("supervised" if method in (SCRATCH, TUNED) else method)


def test_error(model: "Classifier", data) -> float:
    """The share of pictures whose class is not the likeliest one."""
    import numpy as np

    _, probabilities = model.predict_in_parts(data.floats())
    return float(np.mean(probabilities.argmax(axis=-1) != data.labels))


def _pca_features(splits: "Splits", options: Options) -> "Callable[[ImageData], np.ndarray]":
    """Principal components of all training pictures (20,000 of them at most)."""
    import numpy as np
    from sklearn.decomposition import PCA

    sample = np.random.default_rng(0).permutation(len(splits.train))[:20_000]
    flat = splits.train.floats(np.sort(sample)).reshape(len(sample), -1)
    pca = PCA(min(options.latent_dim, *flat.shape), random_state=0).fit(flat)
    return lambda data: pca.transform(data.floats().reshape(len(data), -1))


def results(run: "Run") -> list[dict]:
    """The rows of results.csv."""
    path = run.path / "results.csv"
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    kinds = {"method": str, "labels": int, "seed": int, "error": float}
    return [{name: kinds[name](value) for name, value in row.items()} for row in rows]


def _write_results(run: "Run", rows: list[dict]) -> None:
    from keras_gen.training.run import write_atomically

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(run.path / "results.csv", text.getvalue().encode())


# --- the way out -------------------------------------------------------------------------------


def _finish(run: "Run", pretext, splits: "Splits", options: Options) -> None:
    from keras_gen import plots
    from keras_gen.engine import to_numpy

    rows = results(run)
    metrics: dict[str, str] = {}
    for labels in options.labels:
        metrics |= _table(rows, labels, options.seeds)
    files = ["results.csv", "reconstructions.png"]
    counts = sorted({r["labels"] for r in rows})
    if len(counts) > 1:
        _draw_curve(rows, counts, run)
        files.append("labels.png")
    images = splits.test.floats(slice(0, 12))
    strips = [images, to_numpy(pretext(images))]
    if getattr(pretext, "corruption", None) is not None:
        given = to_numpy(pretext.corruption.at(images, options.seed))
        strips = [images, given, to_numpy(pretext(given))]
    plots.save(plots.strips(strips), run.path / "reconstructions.png")
    classes = splits.train.classes
    card = {
        "name": f"classifier of {data_name(options)}, {options.labels[0]:,} labels",
        "data": card_of_data(splits, options, run),
        "metrics": metrics,
        "protocol": f"errors on {held_out_of(options)}; labelled pictures chosen by seed, as many of each "
        f"class; the {options.pretext} pretext was trained once, on all {len(splits.train):,} training "
        f"pictures; classifiers: {options.steps} steps of {BATCH} labelled pictures, Adam, cosine decay; no "
        f"choice by test error; this model: {CONSISTENT if options.strong != 'none' else TUNED}, first seed "
        f"and first number of labels; backend {run.config['backend']}.",
        **({"classes": list(classes)} if classes else {}),
        "licence": splits.train.licence,
        "command": command("pretrain", options),
        "usage": [
            "found = model.classify(image=images)       # images: uint8",
            "found['label'], found['probability']",
        ],
    }
    deliver(run, card, files)


def _table(rows: list[dict], labels: int, seeds: int) -> dict[str, str]:
    """Print one number of labels' rows; the same for the card."""
    import numpy as np

    metrics, scratch = {}, _errors(rows, SCRATCH, labels)
    print(f"\ntest error with {labels:,} labels, mean and standard deviation over {seeds} seeds")
    for method in METHODS:
        errors = 100 * _errors(rows, method, labels)
        if len(errors) == 0:
            continue
        spread = errors.std(ddof=1) if len(errors) > 1 else 0.0
        beats = int(np.sum(errors < 100 * scratch)) if method not in (SCRATCH, PCA_BASELINE) else None
        against = "" if beats is None else f"   better than from scratch on {beats} of {len(errors)} seeds"
        print(f"  {method:38}{errors.mean():7.2f} +- {spread:.2f} %{against}")
        metrics[f"test error, {labels:,} labels, {method}"] = f"{errors.mean():.2f} +- {spread:.2f} %"
    return metrics


def _errors(rows: list[dict], method: str, labels: int) -> "np.ndarray":
    import numpy as np

    some = [r for r in rows if r["method"] == method and r["labels"] == labels]
    return np.array([r["error"] for r in sorted(some, key=lambda r: r["seed"])])


def _draw_curve(rows: list[dict], counts: list[int], run: "Run") -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4.5))
    for method in METHODS:
        errors = [_errors(rows, method, count) for count in counts]
        if not all(len(e) for e in errors):
            continue
        accuracy = [100 * (1 - e.mean()) for e in errors]
        spread = [100 * e.std(ddof=1) if len(e) > 1 else 0 for e in errors]
        ax.errorbar(counts, accuracy, spread, marker="o", ms=4, capsize=3, label=method)
    ax.set(xscale="log", xlabel="labelled pictures", ylabel="test accuracy, %")
    ax.set_xticks(counts, [str(c) for c in counts])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(run.path / "labels.png", dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main(Options, work, __doc__)
