"""Diffusion models in apps.generate: how they are built and trained, and what they are shown by."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apps._training import best_quality, class_counts, compile_model

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    from apps.generate import Options
    from keras_gen.data import Batches, Splits
    from keras_gen.diffusion import Diffusion
    from keras_gen.metrics import SampleQuality
    from keras_gen.training import Run

PRESETS: dict[str, dict[str, Any]] = {
    # with what the years after Ho et al. 2020 found to learn faster: in ten epochs of 1,000 digits the
    # Frechet distance came to 17.6 so, to 21.6 with epsilon and the simple weighting, 23.6 on linear betas
    "ddpm": {
        "noise_schedule": "cosine",
        "prediction": "v",
        "weighting": "min-snr",
        "sampler": "dpm-solver++",
    },
    # Lipman et al. 2023
    "flow-matching": {
        "noise_schedule": "flow",
        "prediction": "velocity",
        "weighting": "simple",
        "sampler": "heun",
    },
}
SMALLEST = 7
"""Pixels a side of the smallest feature maps, at least, where nobody says how often to halve."""


OWN = (
    "classes unlabelled noise_schedule times zero_terminal_snr prediction weighting learned_variance "
    "self_condition ema_pictures width multipliers blocks attention heads dropout precision sampler steps "
    "guidance"
)
"""Options of no other family."""


def checked(options: "Options") -> "Options":
    """The options with their defaults for this model."""
    from keras_gen.errors import InputError

    given, preset = options, PRESETS[options.model]
    options = replace(
        options, **{name: value for name, value in preset.items() if getattr(options, name) is None}
    )
    if given.noise_schedule == "edm":  # what belongs to it
        own: dict[str, Any] = {"prediction": "edm", "weighting": "simple", "sampler": "heun"}
        options = replace(options, **{k: v for k, v in own.items() if getattr(given, k) is None})
    if options.guidance != 1 and not options.classes:
        raise InputError("Expected --guidance with --classes. Received: a model that is told no classes.")
    discrete = options.noise_schedule not in ("edm", "flow")
    if options.resume is None and not discrete and (options.zero_terminal_snr or options.times != 1000):
        raise InputError(
            "Expected --times and --zero-terminal-snr with a schedule of discrete steps, such as cosine. "
            f"Received: {options.noise_schedule}, which has none."
        )
    return options


def pictures_a_step(options: "Options") -> int:
    return options.batch_size


def multipliers_for(side: int) -> tuple[int, ...]:
    """Halvings down to about 7 pixels a side, twice the width from the first on."""
    halvings = 0
    while side // 2 ** (halvings + 1) >= SMALLEST:
        halvings += 1
    return (1, *[2] * max(1, halvings))


def build(options: "Options", splits: "Splits") -> "Diffusion":
    from keras_gen import diffusion, networks
    from keras_gen.diffusion import schedules

    shape = splits.train.shape
    classes = len(class_counts(splits)) if options.classes else None
    multipliers = options.multipliers or multipliers_for(min(shape[:2]))
    side = -(-min(shape[:2]) // 2 ** (len(multipliers) - 1))
    network = networks.time_unet(
        (*shape[:2], shape[2] * (1 + options.self_condition)),
        shape[2] * (1 + options.learned_variance),
        options.width,
        multipliers,
        options.blocks,
        options.attention or (side,),
        options.heads,
        options.dropout,
        None if classes is None else classes + 1,
    )
    kind: Any = schedules.SCHEDULES[options.noise_schedule or "cosine"]
    given: dict[str, Any] = {}
    if issubclass(kind, diffusion.Discrete):
        given = {"steps": options.times, "zero_terminal_snr": options.zero_terminal_snr}
    return diffusion.Diffusion(
        network,
        kind(**given),
        options.prediction or "epsilon",
        options.weighting or "simple",
        classes=classes,
        unlabelled=options.unlabelled,
        self_condition=options.self_condition,
        learned_variance=options.learned_variance,
        ema=options.ema_pictures,
        sampler=options.sampler or "dpm-solver++",
        steps=options.steps,
        guidance=options.guidance,
        seed=options.seed,
    )


def kind(model: "Diffusion") -> str:
    """What the model is, for the plan."""
    schedule, prediction = type(model.schedule).__name__.lower(), model.prediction.name
    return f"{schedule} schedule, predicts {prediction}"


def compiled(model: "Diffusion", options: "Options", epochs: int, steps: int) -> None:
    compile_model(model, options, epochs, steps)


def quality_every(options: "Options", epochs: int) -> int:
    return max(1, epochs // 10)


def watchers(run: "Run", training: "Batches", quality: "SampleQuality | None") -> list:
    return []


def usage(model: "Diffusion") -> list[str]:
    """Lines of Python for the card."""
    if model.classes is None:
        return [
            f"images = model.sample(n=16, seed=0, steps={model.steps})    # uint8, same seed, same pictures"
        ]
    return [
        f"ones = model.sample(n=16, seed=0, steps={model.steps}, guidance=2.0, label=[1])     # uint8",
        f"any = model.sample(n=16, seed=0, steps={model.steps}, guidance=1.0, label=[-1])",
    ]


def more_for_card(model: "Diffusion") -> dict:
    """What the exported `sample` takes beside n and seed, where nobody says."""
    draws: dict[str, Any] = {"steps": model.steps}
    if model.classes is not None:
        draws |= {"guidance": float(model.guidance), "label": list(range(model.classes))}
    return {"draws": draws}


SCALES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0)


def finished(
    run: "Run", model: "Diffusion", splits: "Splits", held_out: "Batches", options: "Options"
) -> tuple[dict[str, str], list[str], str]:
    """Pictures and numbers of a trained model: metrics, files, and what the numbers hold for."""
    import numpy as np

    from keras_gen import plots
    from keras_gen.engine import to_numpy

    files = ["chain.png", "chain.gif"]
    chain, frames = [], []

    def watch(done, x, clean):
        chain.append(to_numpy(x)[:8])
        frames.append(to_numpy(x))

    steps = min(model.schedule.longest or 60, 60)
    model.sample(64, seed=options.seed, steps=steps, watch=watch, every=2)
    every = max(1, len(chain) // 10)
    kept = [*range(0, len(chain) - 1, every), len(chain) - 1]
    strip = np.stack([chain[i] for i in kept], axis=1)
    plots.save(plots.grid(strip.reshape(-1, *strip.shape[2:]), len(kept)), run.path / "chain.png")
    plots.film([plots.grid(frame, 8) for frame in frames], run.path / "chain.gif")
    if model.classes is not None:
        count = min(model.classes, 10)
        for scale in SCALES:
            labels = np.repeat(np.arange(count), 10)
            drawn = to_numpy(model.sample(len(labels), labels, options.seed, guidance=scale))
            name = f"guidance-{scale:g}.png"
            plots.save(plots.grid(drawn, 10), run.path / name)
            files.append(name)
    metrics, protocol = best_quality(run)
    return (
        metrics,
        files,
        f"{kind(model)}, {model.weighting.name} weighting, {options.steps} steps of "
        f"{model.sampler.name}; {protocol}",
    )
