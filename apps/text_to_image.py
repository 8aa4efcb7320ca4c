"""Draw pictures by their description, or train a model that does."""

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from apps._main import main
from apps._text import Train, coded, train

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import numpy as np

    from keras_gen.latent import TextToImage

SHIPPED = "text_to_image_shapes"


@dataclass
class Draw:
    """Draw pictures of prompts."""

    prompts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Descriptions, each in quotes."""
    prompts_file: str | None = None
    """A file with a description on each line."""
    model: Literal["shapes", "stable-diffusion"] = "shapes"
    """What draws, without --run: the model that comes with keras_gen, or Stable Diffusion through keras-cv,
    which fetches 4 GB of weights at the first use (licence: CreativeML Open RAIL-M)."""
    run: str | None = None
    """Folder of a training run, to draw with its model."""
    size: int | None = None
    """stable-diffusion: side of the pictures, a multiple of 128; default: 512."""
    n: int = 1
    """Pictures of each prompt."""
    seed: int = 0
    """Of the noise: same seed, same pictures."""
    steps: int | None = None
    """Steps from noise to picture; default: the model's."""
    guidance: float | None = None
    """Push towards the prompt, 1: none; default: the model's."""
    negative: str = ""
    """What to lead away from."""
    sampler: Literal["ddim", "ddpm", "heun", "dpm-solver++", "unipc"] | None = None
    """How; default: the model's."""
    init: str | None = None
    """A picture to start from."""
    strength: float | None = None
    """With --init: how far back to noise it is taken: 0 gives it back, 1 forgets it; default: .6, with
    --mask 1."""
    mask: str | None = None
    """With --init: a picture of the same size, white where to draw anew; the rest stays as it is, at the
    model's size."""
    strip: bool = False
    """Write the way from noise to picture too, as NAME-strip.png."""
    scale: int | None = None
    """Pixels of the file for each pixel of the picture, each way; default: as many as make 128, or 1."""
    out: Annotated[str | None, tyro.conf.arg(aliases=["-o"])] = None
    """File for the picture or, of several, for the sheet with the prompts below; or a folder, for both and
    each picture. Default: a new name after the prompt, here."""


@dataclass
class Measure:
    """How often pictures of `shapes` are what their prompts ask for, read off the pixels; of other data, how
    often the drawn picture resembles its prompt's own more than any other prompt's."""

    run: str | None = None
    """Folder of a training run; default: the model that comes with keras_gen."""
    n: int = 1000
    """Prompts, one for each of so many scenes."""
    split: Literal["test", "novel", "train"] = "test"
    """Of shapes: test, scenes like those of training, or novel, of combinations never seen there; of other
    data: test, what was held out, or train, what was trained on."""
    guidance: tuple[float, ...] = ()
    """Scales, a row each; default: the model's."""
    steps: int | None = None
    """Steps from noise to picture; default: the model's."""
    first: int = 0
    """The first scene, or picture: others than those that guidance was chosen with."""
    out: str | None = None
    """File for the table, .json; and beside it, with several scales, the curve as PNG."""


Options = (
    Annotated[Draw, tyro.conf.subcommand("draw")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Measure, tyro.conf.subcommand("measure")]
)
COMMANDS = ("draw", "train", "measure")


def work(options: Draw | Train | Measure) -> None:
    {Draw: draw, Train: train, Measure: measure}[type(options)](options)  # type: ignore[operator]


def _chosen(options: Draw) -> "TextToImage":
    from keras_gen.errors import InputError
    from keras_gen.latent import stable_diffusion

    if options.model == "shapes":
        if options.size is not None:
            raise InputError("Expected --size with --model stable-diffusion. Received: --model shapes.")
        return _model(options.run)
    if options.run is not None:
        raise InputError("Expected --run or --model stable-diffusion. Received: both.")
    print(f"Stable Diffusion 1.4, licence: {stable_diffusion.LICENCE}", flush=True)
    return stable_diffusion.stable_diffusion(512 if options.size is None else options.size)


def _model(run: str | None) -> "TextToImage":
    from keras_gen import load_model
    from keras_gen.errors import InputError
    from keras_gen.latent import TextToImage
    from keras_gen.shipped import shipped
    from keras_gen.training import Run

    if run is None:
        file = shipped(SHIPPED)
        if file is None:
            raise InputError(
                "Expected the model that comes along. Received: an installation without it. "
                "Train one: python -m apps.text_to_image train, and name it with --run."
            )
    else:
        file = Run.open(run, "text_to_image", reading=True).model_file()
    model = load_model(file)
    if not isinstance(model, TextToImage):
        raise InputError(f"Expected a model that draws by text. Received: {file}, a {type(model).__name__}.")
    return model


# --- draw --------------------------------------------------------------------------------------


def draw(options: Draw) -> None:
    from keras_gen import plots

    prompts = _prompts(options)
    _check(options, prompts)
    targets = _targets(options, prompts)
    _keep_given(options, targets)
    model = _chosen(options)
    scale = options.scale or max(1, 128 // max(model.data_shape[:2]))
    for prompt in dict.fromkeys([*prompts, *([options.negative] if options.negative else [])]):
        _know(model, prompt)
    given = _given(options, model)
    asked = [prompt for prompt in prompts for _ in range(options.n)]
    made, frames = _drawn(options, model, asked, given)
    for picture, target in zip(made, targets.each, strict=False):  # none, where a sheet is asked for
        plots.save(_enlarged(plots.picture(picture), scale), target)
    if targets.sheet is not None:
        plots.save(plots.captioned(made, asked, scale), targets.sheet)
    if options.strip and not frames.shape[1]:
        options.strip = False
        print("no strip: so little strength leaves no step to show")
    if options.strip:
        strip = plots.grid(frames.reshape(-1, *made.shape[1:]), frames.shape[1])
        plots.save(_enlarged(strip, scale), targets.strip)
    print(f"wrote {', '.join(map(str, targets.written(options.strip)))}")


MOST_AT_ONCE = 64
"""Pictures, of those so small that their sides do not matter."""


def _drawn(
    options: Draw, model: "TextToImage", asked: list[str], given: dict[str, Any]
) -> "tuple[np.ndarray, np.ndarray]":
    """The pictures (n, ...), and of each what was seen on the way (n, frames, ...), batch by batch."""
    import numpy as np

    from keras_gen.engine import to_numpy

    height, width, _ = model.data_shape
    size = max(1, min(MOST_AT_ONCE, 2**19 // (height * width)))  # of 512x512 two
    steps = options.steps or model.diffusion.steps
    made, ways = [], []
    for start in range(0, len(asked), size):
        frames: list[np.ndarray] = []
        watching: dict[str, Any] = {}
        if options.strip:
            watching["watch"] = lambda done, clean, frames=frames: frames.append(to_numpy(clean))
            watching["every"] = max(1, steps // 8)
        pictures = model.generate(
            asked[start : start + size],
            seed=options.seed + start // size,
            steps=options.steps,
            guidance=options.guidance,
            negative=options.negative,
            sampler=options.sampler,
            **given,
            **watching,
        )
        made.append(to_numpy(pictures))
        # the first is before any step
        ways.append(np.stack(frames[1:], axis=1) if frames[1:] else np.empty((len(made[-1]), 0)))
        if len(asked) > size:
            print(f"drawn: {min(start + size, len(asked)):,} of {len(asked):,}", file=sys.stderr, flush=True)
    return np.concatenate(made), np.concatenate(ways)


def _prompts(options: Draw) -> list[str]:
    from keras_gen.errors import InputError

    found = list(options.prompts)
    if options.prompts_file is not None:
        path = Path(options.prompts_file).expanduser()
        try:
            found += [line.strip() for line in path.read_text().splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"Expected a file of text. Received: {path} ({error}).") from None
    if not found or not all(prompt.strip() for prompt in found):
        raise InputError(
            'Expected a description, such as "a small red circle". Received: '
            f"{'none' if not found else 'an empty one'}."
        )
    return found


def _check(options: Draw, prompts: list[str]) -> None:
    from keras_gen.errors import InputError

    for name, least in (("n", 1), ("scale", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(f"Expected {name} of {least} or more. Received: {value}.")
    if options.seed >= 2**31 - 2**16:  # every batch has one of its own
        raise InputError(f"Expected a seed below {2**31 - 2**16}. Received: {options.seed}.")
    if options.negative and options.guidance == 1:
        raise InputError(
            "Expected --negative with a --guidance other than 1. Received: 1, which leads nowhere."
        )
    if options.strength is not None and not 0 <= options.strength <= 1:
        raise InputError(f"Expected a strength of 0 to 1. Received: {options.strength}.")
    if options.init is None and (options.mask is not None or options.strength is not None):
        raise InputError("Expected --mask and --strength with --init. Received: no picture to start from.")


@dataclass
class _Targets:
    each: list[Path]
    sheet: Path | None
    strip: Path

    def written(self, strip: bool) -> list[Path]:
        rest = [self.sheet] if self.sheet is not None else []
        each = self.each if len(self.each) < 4 else [self.each[0].parent]
        return [*each, *rest, *([self.strip] if strip else [])]


def _targets(options: Draw, prompts: list[str]) -> _Targets:
    from keras_gen.errors import InputError

    count = len(prompts) * options.n
    short = "-".join("".join(c if c.isalnum() else " " for c in prompts[0]).split())[:60] or "picture"
    out = Path(options.out).expanduser() if options.out is not None else None
    if out is not None and out.suffix.lower() == ".png" and not out.is_dir():
        out.parent.mkdir(parents=True, exist_ok=True)
        strip = out.with_name(f"{out.stem}-strip.png")
        if count == 1:
            return _Targets([out], None, strip)
        return _Targets([], out, strip)
    if out is not None and out.suffix and not out.is_dir():
        raise InputError(f"Expected a .png file or a folder as --out. Received: {out}.")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        return _targets_in(out, short, count)
    # nobody named these files: what lies here under such names stays
    names = itertools.chain([short], (f"{short}-v{i}" for i in itertools.count(2)))
    every = (_targets_in(Path("."), name, count) for name in names)
    return next(t for t in every if not any(p.exists() for p in [*t.each, t.sheet or t.strip, t.strip]))


def _targets_in(folder: Path, name: str, count: int) -> _Targets:
    strip = folder / f"{name}-strip.png"
    if count == 1:
        return _Targets([folder / f"{name}.png"], None, strip)
    return _Targets(_numbered(folder / f"{name}.png", count), folder / f"{name}-sheet.png", strip)


def _keep_given(options: Draw, targets: _Targets) -> None:
    from apps._files import keep

    written = [*targets.each, targets.sheet, targets.strip if options.strip else None]
    keep(
        [Path(name).expanduser() for name in (options.init, options.mask) if name is not None],
        [path for path in written if path is not None],
    )


def _numbered(path: Path, count: int) -> list[Path]:
    digits = len(str(count))
    return [path.with_name(f"{path.stem}-{i + 1:0{digits}}.png") for i in range(count)]


def _know(model: "TextToImage", prompt: str, whole: bool = True) -> None:
    """Say which words the model does not know, and what is too long; refuse a prompt of none that it knows.

    Args:
        whole: The text is a prompt, not the words of many.
    """
    from keras_gen.errors import InputError

    unknown = model.tokenizer.unknown(prompt)
    offers = []
    for word in unknown[:5]:
        near = model.tokenizer.nearest(word)
        offers.append(f"{word!r}" + (f" (near: {', '.join(near)})" if near else ""))
    if len(unknown) > 5:
        offers.append(f"and {len(unknown) - 5} more")
    if not model.tokenizer(prompt.split()).any():
        known = ", ".join(sorted(model.tokenizer.vocabulary[:40]))
        raise InputError(
            f"Expected words that the model knows: {known}. "
            f"Received: {', '.join(offers) or repr(prompt) + ', no words at all'}."
        )
    if unknown:
        print(f"unknown words, left out: {', '.join(offers)}")
    length, most = model.tokenizer.count(prompt), model.tokenizer.length
    if whole and length > most:
        print(f"the prompt takes {length} places, of which the first {most} count: {prompt[:60]}...")


def _given(options: Draw, model: "TextToImage") -> dict[str, Any]:
    """The picture to start from, and the mask, as `generate` takes them."""
    from apps._files import read_given, read_mask, sources_of
    from keras_gen.data import ImageData

    if options.init is None:
        return {}
    sources = sources_of((options.init,))
    images, kept = read_given(sources[:1], model.data_shape)
    strength = options.strength
    if strength is None:
        strength = 0.6 if options.mask is None else 1.0
    given: dict[str, Any] = {"init": ImageData("given", images).floats(), "strength": strength}
    if options.mask is not None:
        given["mask"] = read_mask(Path(options.mask).expanduser(), kept, model.data_shape)
    return given


def _enlarged(picture, scale: int):
    return picture.resize((picture.width * scale, picture.height * scale), 0)


# --- measure -----------------------------------------------------------------------------------


def _data_of(run: str | None) -> dict[str, Any] | None:
    """Arguments of `load` for a run's captioned data; None for `shapes`, whose pictures can be read."""
    from apps._sources import arguments_of_data
    from keras_gen.training import Run

    if run is None:
        return None
    data = arguments_of_data(Run.open(run, "text_to_image", reading=True))
    return None if data["name"] == "shapes" else data


def _of_scenes(options: Measure, model: "TextToImage") -> "tuple[list[str], np.ndarray, Callable]":
    """Prompts, the pictures that they are of, and what is right of others, by both."""
    from keras_gen.errors import InputError
    from keras_gen.shapes import faithfulness

    height, width = model.data_shape[:2]
    if height != width:
        raise InputError(f"Expected a model of square pictures. Received: one of {height}x{width}.")
    prompts, pictures = faithfulness.scenes(options.n, options.split, options.first, height)
    _know(model, " ".join(dict.fromkeys(" ".join(prompts).split())), whole=False)
    return prompts, pictures, faithfulness.shares


def _of_captions(options: Measure, data: dict[str, Any]) -> "tuple[list[str], np.ndarray, Callable]":
    """The same of data in whose pictures nobody can read what they show."""
    from keras_gen.data import load
    from keras_gen.errors import InputError
    from keras_gen.metrics import retrieved

    splits = load(**data, captioned=True)
    part = splits.test if options.split == "test" else splits.train
    part = part.select(slice(options.first, options.first + options.n))
    if len(part) < 2:
        raise InputError(f"Expected 2 pictures or more to tell apart. Received: {len(part)}.")
    assert part.captions is not None
    pictures = part.levels()

    def resembling(prompts, made):
        found = retrieved(made, pictures)
        return {f"own in nearest {k}": (share, len(pictures)) for k, share in found.items()}

    return [said[0] for said in part.captions], pictures, resembling


def measure(options: Measure) -> None:
    import json

    import numpy as np

    from keras_gen import plots
    from keras_gen.data import ImageData
    from keras_gen.engine import to_numpy
    from keras_gen.errors import InputError
    from keras_gen.images import to_uint8
    from keras_gen.shapes import faithfulness
    from keras_gen.training.run import write_atomically

    if options.n < 2 or options.first < 0:
        raise InputError(f"Expected n of 2 or more, from 0 or more. Received: {options.n}, {options.first}.")
    out = None if options.out is None else Path(options.out).expanduser()
    if out is not None and (out.suffix.lower() != ".json" or out.is_dir()):
        raise InputError(f"Expected a .json file as --out. Received: {out}.")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    data = _data_of(options.run)
    known = ("test", "novel") if data is None else ("test", "train")
    if options.split not in known:
        raise InputError(f"Expected --split {' or '.join(known)} of such data. Received: {options.split}.")
    model = _model(options.run)
    told = _of_scenes(options, model) if data is None else _of_captions(options, data)
    prompts, pictures, shares = told
    rows: dict[str, dict] = {}

    def row(title: str, found: dict[str, tuple[float, int]]) -> None:
        if not rows:
            print(f"{len(prompts):,} prompts, {options.split}; percent right (of how many)")
            print(f"{'':<18}" + "".join(f"{name:>18}" for name in found))
        rows[title] = {
            name: {"share": share if of else None, "of": of} for name, (share, of) in found.items()
        }
        cells = [f"{100 * share:.1f} ({of:,})" if of else "-" for share, of in found.values()]
        print(f"{title:<18}" + "".join(f"{cell:>18}" for cell in cells), flush=True)

    # what chance gets right, and what the first stage leaves
    row("another's picture", shares(prompts, np.roll(pictures, len(pictures) // 2, axis=0)))
    if model.autoencoder is not None:
        again = to_numpy(to_uint8(coded(model, ImageData("given", pictures).floats())))
        row("its own, coded", shares(prompts, again))
    scales = options.guidance or (model.diffusion.guidance,)
    for scale in scales:

        def generate(texts, seed, scale=scale):
            return to_numpy(to_uint8(model.generate(texts, seed=seed, steps=options.steps, guidance=scale)))

        row(f"guidance {scale:g}", shares(prompts, faithfulness.drawn(generate, prompts)))
    if out is not None:
        path = out
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(rows, indent=2).encode())
        print(f"wrote {path}")
        if len(scales) > 1:
            drawn = [rows[f"guidance {scale:g}"] for scale in scales]
            always = [name for name in drawn[0] if all(found[name]["of"] for found in drawn)]
            curves = {name: [100 * found[name]["share"] for found in drawn] for name in always}
            plots.lines(scales, curves, path.with_suffix(".png"), "guidance", "% right")
            print(f"wrote {path.with_suffix('.png')}")


if __name__ == "__main__":
    # a run goes on as in every app: with --resume alone
    resumed = any(argument.split("=")[0] == "--resume" for argument in sys.argv[1:])
    main(Options, work, __doc__, default="train" if resumed else "draw", commands=COMMANDS)
