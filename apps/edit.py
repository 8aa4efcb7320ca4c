"""Change pictures with a diffusion model: anew from a noisy start, or within a mask; or walk between two."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from apps._files import keep, read_given, read_mask, sources_of, targets_of
from apps._main import main

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import numpy as np

    from keras_gen.diffusion import Diffusion


@dataclass
class Options:
    pictures: tyro.conf.Positional[tuple[str, ...]]
    """Files and folders; they are brought to the model's size first."""
    run: str
    """Folder of a run of apps.generate --model ddpm or flow-matching."""
    strength: float | None = None
    """How far back to noise a picture is taken: 0 gives it back, 1 forgets it; default: 0.6, or 1 with
    --mask."""
    mask: str | None = None
    """A picture of the same size, white where to draw anew; all else stays as it is at the model's size, to
    the last bit."""
    towards: str | None = None
    """Another picture: a strip of --n pictures on the way to it, through the noise that makes both."""
    n: int = 1
    """Versions of each picture, or pictures of a strip."""
    label: int | None = None
    """Class to draw, for a model that was told classes; -1: none in particular."""
    guidance: float | None = None
    """Push towards the class; default: the run's."""
    steps: int | None = None
    """Steps from noise to picture; default: the run's; for --towards 100."""
    sampler: Literal["ddim", "ddpm", "heun", "dpm-solver++", "unipc"] | None = None
    """How; default: the run's. --towards takes ddim whatever is said."""
    seed: int = 0
    """Of the noise."""
    out: Annotated[str | None, tyro.conf.arg(aliases=["-o"])] = None
    """File for one picture, folder for several; default: beside each, as NAME-edited.png."""


def work(options: Options) -> None:
    import numpy as np

    from keras_gen.errors import InputError

    for name, least in (("n", 1), ("seed", 0), ("steps", 1)):
        if getattr(options, name) is not None and getattr(options, name) < least:
            raise InputError(f"Expected {name} of {least} or more. Received: {getattr(options, name)}.")
    if options.strength is not None and not 0 <= options.strength <= 1:
        raise InputError(f"Expected a strength of 0 to 1. Received: {options.strength}.")
    sources = sources_of(options.pictures)
    targets = dict(zip(sources, targets_of(sources, options.out, "edited"), strict=True))
    model = _model(options)
    written_to = [path for target in targets.values() for path in _numbered(target, options)]
    others = [Path(name).expanduser() for name in (options.mask, options.towards) if name]
    keep([*sources, *others], written_to)
    images, kept = read_given(sources, model.data_shape)
    redraw = (
        None if options.mask is None else read_mask(Path(options.mask).expanduser(), kept, model.data_shape)
    )
    other = None if options.towards is None else _other(options, model)
    written: list[Path] = []
    for path, image in zip(kept, images, strict=True):
        if other is not None:
            written += _strip(model, options, image, other, targets[path])
            continue
        versions = _versions(model, options, np.stack([image] * options.n), redraw)
        for made, target in zip(versions, _numbered(targets[path], options), strict=True):
            written.append(_save(made, target))
    print(f"wrote {written[0]}" + (f" and {len(written) - 1} more" if len(written) > 1 else ""))


def _numbered(target: Path, options: Options) -> list[Path]:
    """A file for each version of a picture."""
    if options.n == 1 or options.towards is not None:
        return [target]
    return [target.with_name(f"{target.stem}-{k + 1}{target.suffix}") for k in range(options.n)]


def _model(options: Options) -> "Diffusion":
    """The run's model, checked against what is asked of it."""
    from keras_gen import load_model
    from keras_gen.diffusion import Diffusion
    from keras_gen.errors import InputError
    from keras_gen.training import Run

    model = load_model(Run.open(options.run, reading=True).model_file())
    if not isinstance(model, Diffusion) or model.source is not None:
        raise InputError(
            f"Expected a diffusion model of pictures. Received: {options.run}, a {type(model).__name__}. "
            "Train one: python -m apps.generate --model ddpm."
        )
    if options.label is not None and (model.classes is None or not -1 <= options.label < model.classes):
        known = "no classes" if model.classes is None else f"classes 0 to {model.classes - 1}"
        raise InputError(f"Expected a label that the model knows. Received: {options.label}, of {known}.")
    if options.guidance not in (None, 1) and options.label in (None, -1):
        raise InputError(
            f"Expected --label, for --guidance towards it. Received: guidance {options.guidance:g}."
        )
    if options.towards is not None and (options.mask or options.strength is not None or options.n < 2):
        raise InputError(
            "Expected --towards with --n of 2 or more, without --mask and --strength. "
            f"Received: n {options.n}, mask {options.mask}, strength {options.strength}."
        )
    return model


def _condition(model: "Diffusion", options: Options):
    from keras_gen.diffusion import NOBODY

    if model.classes is None:
        return None
    return NOBODY if options.label is None else options.label


def _versions(model: "Diffusion", options: Options, images: "np.ndarray", redraw) -> "np.ndarray":
    """uint8 pictures drawn anew from noisy ones."""
    import numpy as np

    from keras_gen.engine import to_numpy
    from keras_gen.images import from_uint8, to_uint8

    steps = options.steps or model.steps
    strength = options.strength
    if strength is None:
        strength = 0.6 if redraw is None else 1.0
    first = steps - round(strength * steps)
    floats = to_numpy(from_uint8(images))
    if first == steps:
        return images
    known: dict[str, Any] = (
        {} if redraw is None else {"known": floats, "mask": np.repeat(1 - redraw, len(images), axis=0)}
    )
    made = model.sample_from(
        model.noised(floats, first, steps, options.seed),
        _condition(model, options),
        options.seed,
        steps,
        options.guidance,
        options.sampler,
        first=first,
        **known,
    )
    return to_numpy(to_uint8(made))


def _other(options: Options, model: "Diffusion") -> "np.ndarray":
    return read_given([Path(options.towards or "").expanduser()], model.data_shape)[0][0]


def _strip(model: "Diffusion", options: Options, image, other, target: Path) -> list[Path]:
    """Pictures on the way from one to the other: their noises, and great arcs between."""
    import numpy as np

    from keras_gen import plots
    from keras_gen.engine import to_numpy
    from keras_gen.images import from_uint8

    steps = options.steps or min(100, model.schedule.longest or 100)
    condition = _condition(model, options)
    noise = to_numpy(model.encode(from_uint8(np.stack([image, other])), condition, steps))
    flat = noise.reshape(2, -1)
    path = plots.interpolations(flat[:1], flat[1:], options.n).reshape(-1, *model.data_shape)
    made = to_numpy(model.decode(path, condition, steps))
    target.parent.mkdir(parents=True, exist_ok=True)
    plots.save(plots.grid(made, options.n), target)
    return [target]


def _save(levels: "np.ndarray", target: Path) -> Path:
    from PIL import Image

    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(target)
    return target


if __name__ == "__main__":
    main(Options, work, __doc__)
