"""What the apps that train share: their options, resumption, the plan, and the way out."""

import contextlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from apps._main import say_when_stopped

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import keras
    import numpy as np

    from keras_gen.data import Batches, ImageData, Splits
    from keras_gen.engine import GenerativeModel
    from keras_gen.training import Run

RATE = 1e-3
ADVERSARIAL_RATE = 2e-4
ADVERSARIAL_BETAS = (0.5, 0.999)
"""Radford et al. 2016."""
STEPS = 6000
"""A run is so many steps long if nobody says how many epochs."""
LEAST = {
    0: "greedy neighbours measure attention code_noise beta free_bits kl_warmup ema_pictures instance_noise "
    "text_epochs quality_n weight",
    1: "epochs batch_size validation latent_dim bits hidden widths filters multipliers blocks heads steps "
    "times critic_steps seeds labels text_blocks autoencoder_epochs autoencoder_multipliers",
    4: "width text_dim layout latent_channels autoencoder_width",
}
"""Of the options of any app that trains, where it has them."""


@dataclass
class TrainingOptions:
    data: str = "digits"
    """`digits`, a folder of pictures, an .npz file, or a TFDS name such as `mnist`."""
    image_size: int | None = None
    """Pixels a side; default: as the data are, 64 of folders and of mixed sizes."""
    limit: int | None = None
    """Use at most so many pictures of each split."""
    validation: int | None = None
    """Hold out the last so many training pictures, and leave the test split alone."""
    epochs: int | None = None
    """Passes over the data; default: as many as make about 6,000 steps, 200 at most."""
    batch_size: int = 100
    """Pictures in a step."""
    optimizer: Literal["adam", "nadam", "adamw", "sgd"] = "adam"
    """What moves the weights."""
    learning_rate: float | None = None
    """Of the optimizer; default: 1e-3, for GANs 2e-4."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate; cosine: down to 0 at the last epoch."""
    seed: int = 0
    """Of weights, order, noise and samples."""
    export: bool = True
    """Write the SavedModel at the end; apps.export does it at any time."""
    out: str | None = None
    """Folder to write; default: runs/<task>/<time>."""
    resume: str | None = None
    """Folder of a run to go on with; only --epochs may be given with it."""


Options = TypeVar("Options", bound=TrainingOptions)


def changed(options: TrainingOptions) -> dict[str, Any]:
    """The options that differ from their defaults."""
    values = {f.name: getattr(options, f.name) for f in fields(options)}
    defaults = {f.name: f.default for f in fields(options)}
    return {name: value for name, value in values.items() if value != defaults[name]}


def command(task: str, options: TrainingOptions) -> str:
    """The command that makes a run like this one."""
    words = ["python -m", f"apps.{task}"]
    for name, value in changed(options).items():
        flag = name.replace("_", "-")
        if name in ("export", "out", "resume"):
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            values = value if isinstance(value, (tuple, list)) else [value]
            words.append(" ".join([f"--{flag}", *(shlex.quote(str(v)) for v in values)]))
    return " ".join(words)


def begin(task: str, options: Options) -> "tuple[Options, Run | None]":
    """Options to work with, those of the run to go on with if there is one, checked.

    A new run's folder is made by `open_run`, when the data and the model are known to be good.
    """
    from keras_gen.errors import InputError
    from keras_gen.training import Run

    run = None
    if options.resume is not None:
        run = Run.open(options.resume, task)
        options = _resumed(options, run)
    for least, names in LEAST.items():
        for name in names.split():
            value = getattr(options, name, None)
            given = value if isinstance(value, tuple) else (value,)
            if any(number is not None and number < least for number in given):
                raise InputError(f"Expected {name} of {least} or more. Received: {shown(value)}.")
    for name in ("dropout", "unlabelled", "label_flips", "label_smoothing", "ema"):
        if not 0 <= getattr(options, name, 0) < 1:
            raise InputError(f"Expected {name} of 0 to below 1. Received: {getattr(options, name)}.")
    for name in ("activation", "code_activation"):
        _check_activation(getattr(options, name, "relu"))
    if not 0 <= options.seed < 2**31:
        raise InputError(f"Expected a seed of 0 to {2**31 - 1}. Received: {options.seed}.")
    if options.learning_rate is not None and not options.learning_rate > 0:
        raise InputError(f"Expected a positive learning rate. Received: {options.learning_rate}.")
    return options, run


def shown(value: Any) -> str:
    """As it was written on the command line."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_activation(name: str) -> None:
    import keras

    from keras_gen.errors import InputError

    try:
        keras.activations.get(name)
    except ValueError:
        raise InputError(
            f"Expected an activation that Keras knows, such as relu, tanh, silu, gelu. Received: {name!r}."
        ) from None


def _resumed(options: Options, run: "Run") -> Options:
    from keras_gen.errors import InputError
    from keras_gen.training import Checkpoints

    given = [name for name in changed(options) if name not in ("resume", "epochs")]
    if given:
        raise InputError(
            "Expected --epochs alone beside --resume: the rest is what the run was started with. "
            f"Received: {', '.join('--' + n.replace('_', '-') for n in given)}. Leave them out, or "
            "start a new run."
        )
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in run.config["options"].items()
    }
    try:
        saved = type(options)(**values)
    except TypeError as error:
        raise InputError(
            f"Expected a config.json with the options of a run. Received: {run.path} ({error})."
        ) from None
    epochs = options.epochs if options.epochs is not None else saved.epochs
    done = Checkpoints(run.path / "checkpoints").epochs()
    if epochs is not None and epochs < done:
        raise InputError(f"Expected {done} epochs or more, which {run.path} has seen. Received: {epochs}.")
    return replace(saved, epochs=epochs, resume=options.resume)


def read(options: TrainingOptions, by_concept: bool = False, captioned: bool = False) -> "Splits":
    from keras_gen.data import load

    print(f"reading {options.data}", flush=True)
    return load(
        options.data,
        options.image_size,
        options.limit,
        options.seed,
        options.validation,
        by_concept,
        captioned,
    )


def class_counts(splits: "Splits") -> "np.ndarray":
    """Training pictures of each class, for the apps that need labels."""
    import numpy as np

    from keras_gen.errors import InputError

    if splits.train.labels is None or splits.test.labels is None:
        raise InputError(
            "Expected labels: a folder with a subfolder for each class, or an array y_train. "
            f"Received: {splits.train.name}, without them."
        )
    least = min(splits.train.labels.min(), splits.test.labels.min())
    if least < 0:
        raise InputError(f"Expected labels of 0 or more. Received: {least}, in {splits.train.name}.")
    classes = int(max(splits.train.labels.max(), splits.test.labels.max())) + 1
    counts = np.bincount(splits.train.labels, minlength=classes)
    if counts.min() == 0 or classes < 2:
        raise InputError(
            "Expected 2 classes or more, each with training pictures. "
            f"Received: {np.sum(counts > 0)} of {classes}."
        )
    return counts


def default_epochs(options: TrainingOptions, steps: int) -> int:
    return options.epochs or max(1, min(200, round(STEPS / steps)))


def compile_model(model: "keras.Model", options: TrainingOptions, epochs: int, steps: int) -> None:
    """Compile with the optimizer and the schedule that the options name."""
    import keras

    rate: Any = options.learning_rate or RATE
    if options.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, epochs * steps)
    optimizer = keras.optimizers.get(
        {"class_name": options.optimizer, "config": {"learning_rate": options.learning_rate or RATE}}
    )
    optimizer = type(optimizer)(learning_rate=rate)
    model.compile(optimizer, steps_per_execution=steps_at_once(steps))


def compile_adversarial(
    model: "GenerativeModel",
    options: TrainingOptions,
    epochs: int,
    steps: int,
    betas: tuple[float, float] = ADVERSARIAL_BETAS,
    rates: "dict[str, float | None] | None" = None,
) -> None:
    """Compile with an Adam for each update, at the rate named for it or the options' own."""
    import keras

    from keras_gen.errors import InputError

    if options.optimizer != "adam":
        raise InputError(f"Expected adam for adversarial training. Received: {options.optimizer}.")

    optimizers = {}
    for update in model.updates():
        rate: Any = (rates or {}).get(update.name) or options.learning_rate or ADVERSARIAL_RATE
        if options.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(rate, epochs * steps * update.repeats)
        optimizers[update.name] = keras.optimizers.Adam(rate, *betas)
    model.compile(optimizers, steps_per_execution=steps_at_once(steps))


def steps_at_once(steps: int) -> int:
    """Steps of an execution: up to 20, and a whole number of executions in an epoch."""
    return max(d for d in range(1, 21) if steps % d == 0)


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Networks built within compute so; their weights are float32."""
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def open_run(
    task: str, options: TrainingOptions, run: "Run | None", data: "ImageData", app: str | None = None
) -> "Run":
    """The run's folder, new or old, with its options; refused if the data are others now.

    From here on, Ctrl-C says how to go on: with `app`, where that is more than the task.
    """
    from keras_gen.errors import InputError
    from keras_gen.training import Run

    if run is None:
        run = Run.create(task, asdict(options), options.out)
    now = data.fingerprint()
    before = run.config.setdefault("data", {"fingerprint": now})["fingerprint"]
    if before != now:
        raise InputError(
            f"Expected the data that {run.path} was trained on. Received: {data.name} with other "
            "pictures. Bring the old ones back, or start a new run."
        )
    earlier = run.config["options"]["epochs"]
    if earlier != options.epochs:
        run.config.setdefault("earlier_epochs", []).append(earlier)
    run.config["options"]["epochs"] = options.epochs
    run.save_config()
    say_when_stopped(f"Go on with: python -m apps.{app or task} --resume {shlex.quote(str(run.path))}")
    return run


def train_model(
    model: "keras.Model",
    training: "Batches",
    held_out: "Batches",
    run: "Run",
    epochs: int,
    callbacks: Sequence = (),
    part: str | None = None,
) -> None:
    """Train in the run's folder or a part of it."""
    from keras_gen.training import train

    train(model, training, held_out, run if part is None else run.part(part), epochs, callbacks)


def plan(lines: dict[str, str]) -> None:
    """What is about to be done, printed before anything takes long."""
    print("\n".join(f"{name:8} {line}" for name, line in lines.items()), flush=True)


def described(splits: "Splits", options: TrainingOptions) -> str:
    shape = "x".join(map(str, splits.train.shape))
    return (
        f"{options.data}: {len(splits.train):,} pictures to train on, {len(splits.test):,} held out, {shape}"
    )


def held_out_of(options: TrainingOptions) -> str:
    """What held-out pictures are, for the card."""
    if options.validation is not None:
        return f"the last {options.validation:,} training pictures"
    return "the data's test split or, without one, a random part"


def data_name(options: TrainingOptions) -> str:
    """What the data are called, wherever they lie."""
    return Path(options.data).name


def card_of_data(splits: "Splits", options: TrainingOptions, run: "Run") -> dict:
    return {
        "name": data_name(options),
        "train": len(splits.train),
        "held_out": len(splits.test),
        "shape": list(splits.train.shape),
        **run.config["data"],
    }


def best_quality(run: "Run") -> tuple[dict[str, str], str]:
    """What was measured at the best of a run's epochs, if anything, and what that holds for."""
    from keras_gen.training.run import read_rows

    # the file, not the callback: a run that was finished before has measured nothing now
    best = min(read_rows(run.path / "quality.csv"), key=lambda row: row["frechet"], default=None)
    if best is None:
        return {}, ""
    metrics = {"best, of epoch": f"{best['epoch']:.0f} (best.keras)"}
    for name in ("frechet", "precision", "recall", "coverage"):
        metrics[f"{name}, there"] = f"{best[name]:.4g}"
    return metrics, f"quality of {best['n']:.0f} drawn and as many held-out pictures; "


def save_model(run: "Run", model: "keras.Model") -> None:
    """What the run is for: written before anything is measured, whatever becomes of that."""
    part = run.path / "model.part.keras"
    model.save(part)
    part.replace(run.path / "model.keras")


def deliver(run: "Run", card: dict, files: Sequence[str]) -> None:
    """Write the card and the SavedModel of the saved model, and say what lies where."""
    from keras_gen.export import can_export, export_file
    from keras_gen.training.run import write_atomically

    for earlier in run.config.get("earlier_epochs", []):  # on a cosine this is not one run of all epochs
        card["command"] += f"   # first with --epochs {earlier}, then resumed"
    write_atomically(run.path / "card.json", json.dumps(card, indent=2).encode())
    wanted = run.config["options"].get("export", True)
    if wanted and can_export():
        export_file(run.path / "model.keras", run.path / "savedmodel", card)
        print(f"wrote {run.path}/: {' '.join([*files, 'model.keras', 'savedmodel/'])}")
        return
    print(f"wrote {run.path}/: {' '.join([*files, 'model.keras'])}")
    if wanted:
        print(f"no SavedModel: TensorFlow is not installed. Where it is: python -m apps.export {run.path}")
