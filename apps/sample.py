"""Draw pictures from a finished run."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from apps._main import main


@dataclass
class Options:
    run: tyro.conf.Positional[str]
    """Folder of the run."""
    n: int = 100
    """How many pictures."""
    seed: int = 0
    """Same seed, same pictures."""
    out: str | None = None
    """A .png file for one sheet, or a folder for a file each; default: RUN/seed-<seed>.png."""


def work(options: Options) -> None:
    import math

    from keras_gen import load_model, plots
    from keras_gen.engine import to_numpy
    from keras_gen.errors import InputError
    from keras_gen.training import Run

    if not 0 <= options.seed < 2**31:
        raise InputError(f"Expected a seed of 0 to {2**31 - 1}. Received: {options.seed}.")
    if options.n < 1:
        raise InputError(f"Expected n of 1 or more. Received: {options.n}.")
    run = Run.open(options.run, reading=True)
    model = load_model(run.model_file())
    if not hasattr(model, "sample"):
        raise InputError(
            f"Expected a run whose model draws pictures from noise, as of apps.generate. "
            f"Received: {run.path}, a {type(model).__name__}."
        )
    images = to_numpy(model.sample(options.n, seed=options.seed))
    out = run.path / f"seed-{options.seed}.png" if options.out is None else Path(options.out).expanduser()
    if out.suffix.lower() == ".png":
        out.parent.mkdir(parents=True, exist_ok=True)
        plots.save(plots.grid(images, math.ceil(math.sqrt(len(images)))), out)
        print(f"wrote {out}")
        return
    out.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        plots.save(plots.picture(image), out / f"{options.seed}-{i:05d}.png")
    print(f"wrote {len(images)} pictures to {out}")


if __name__ == "__main__":
    main(Options, work, __doc__)
