"""Train a classifier on all labels, and see what it takes for what."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from apps._main import main
from apps._training import (
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
    train_model,
)

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import numpy as np

    from keras_gen.data import ImageData, Splits
    from keras_gen.semisupervised import Classifier
    from keras_gen.training import Run


@dataclass
class Options(TrainingOptions):
    schedule: Literal["constant", "cosine"] = "cosine"
    """Of the learning rate; cosine: down to 0 at the last epoch."""
    filters: tuple[int, ...] = (16, 32, 64, 128)
    """Of the convolutions, two of each; halved between. The last are the features."""
    dropout: float = 0.3
    """Share of the features left out in training."""
    distortion: str = "affine:0.1"
    """Of every training picture, as --corruption of apps.autoencode (mirror:0.5); none: as they are."""


def work(options: Options) -> None:
    import keras

    from keras_gen import corruptions
    from keras_gen.data import Batches
    from keras_gen.errors import InputError
    from keras_gen.networks import pooled_encoder
    from keras_gen.semisupervised import Classifier

    options, run = begin("classify", options)
    if not options.filters:
        raise InputError("Expected filters of one stage or more. Received: none.")
    distortion = None if options.distortion == "none" else corruptions.parse(options.distortion)
    splits = read(options)
    classes = len(class_counts(splits))
    keras.utils.set_random_seed(options.seed)
    encoder = pooled_encoder(splits.train.shape, options.filters, options.dropout)
    model = Classifier(encoder, classes, weak=distortion, seed=options.seed)
    made = partial(Batches, batch_size=options.batch_size, seed=options.seed)
    training, held_out = made(splits.train, training=True), made(splits.test, training=False)
    options = replace(options, epochs=default_epochs(options, len(training)))
    assert options.epochs is not None
    compile_model(model, options, options.epochs, len(training))
    run = open_run("classify", options, run, splits.train)
    plan(
        {
            "data": described(splits, options),
            "model": f"classifier, {classes} classes by {options.filters[-1]} features, "
            f"{model.count_params():,} parameters, on {keras.backend.backend()}",
            "training": f"{options.epochs} epochs of {len(training)} steps",
            "writing": str(run.path),
        }
    )
    train_model(model, training, held_out, run, options.epochs)
    _finish(run, model, splits, options)


def _finish(run: "Run", model: "Classifier", splits: "Splits", options: Options) -> None:
    """Which classes are taken for which, in numbers and pictures, and the artefacts."""
    from keras_gen import plots

    save_model(run, model)
    plots.curves(run.rows(), run.path / "curves.png")
    files = ["curves.png", "confusion.png"]
    _, probabilities = model.predict_in_parts(splits.test.floats())
    guesses, labels = probabilities.argmax(axis=-1), splits.test.labels
    assert labels is not None
    names = splits.train.classes or tuple(str(i) for i in range(model.classes))
    plots.confusion(_confusion(labels, guesses, model.classes), names, run.path / "confusion.png")
    wrong = _surest_mistakes(splits.test, probabilities)
    if len(wrong):
        plots.save(plots.grid(splits.test.floats(wrong), 12), run.path / "mistakes.png")
        files.append("mistakes.png")
        print("surest mistakes (mistakes.png), taken for (is):")
        print("  " + ", ".join(f"{names[guesses[i]]} ({names[labels[i]]})" for i in wrong[:12]))
    accuracy = f"{100 * (guesses == labels).mean():.2f} % of {len(labels):,} held-out pictures"
    print(f"accuracy: {accuracy}")
    card = {
        "name": f"classifier of {data_name(options)}",
        "data": card_of_data(splits, options, run),
        "classes": list(names),
        "metrics": {"accuracy": accuracy},
        "protocol": f"held-out pictures: {held_out_of(options)}; the last epoch, no choice by held-out "
        f"pictures; epochs {options.epochs}, seed {options.seed}, backend {run.config['backend']}.",
        "licence": splits.train.licence,
        "command": command("classify", options),
        "usage": [
            "found = model.classify(image=images)       # images: uint8",
            "found['label'], found['probability']",
            "vectors = model.features(image=images)     # for distances between sets of pictures",
        ],
    }
    deliver(run, card, files)
    print(f"next: python -m apps.evaluate PICTURES --against {options.data} --features {run.path}")


def _confusion(labels: "np.ndarray", guesses: "np.ndarray", classes: int) -> "np.ndarray":
    """Shares of each class (row) taken for each (column); rows of absent classes are 0."""
    import numpy as np

    counts = np.bincount(labels * classes + guesses, minlength=classes**2).reshape(classes, classes)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _surest_mistakes(data: "ImageData", probabilities: "np.ndarray", most: int = 48) -> "np.ndarray":
    """Indices of wrongly classified pictures, the surest first."""
    import numpy as np

    wrong = np.flatnonzero(probabilities.argmax(axis=-1) != data.labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=-1), kind="stable")][:most]


if __name__ == "__main__":
    main(Options, work, __doc__)
