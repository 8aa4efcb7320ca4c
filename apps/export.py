"""Write the SavedModel of a finished run, trained on any backend."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from apps._main import main


@dataclass
class Options:
    run: tyro.conf.Positional[str]
    """Folder of the run."""
    out: str | None = None
    """Folder to write; default: RUN/savedmodel."""
    keras: bool = False
    """Write model.keras there too, without what only training needs: for Keras on any backend."""


def work(options: Options) -> None:
    import json

    from keras_gen import load_model
    from keras_gen.errors import InputError
    from keras_gen.export import export_file, save_for_use
    from keras_gen.training import Run

    run = Run.open(options.run, reading=options.out is not None)
    model_file = run.model_file()
    if not (run.path / "card.json").exists():
        raise InputError(
            f"Expected a finished run, with a card.json. Received: {run.path}. Finish it with --resume."
        )
    card = json.loads((run.path / "card.json").read_text())
    out = Path(options.out).expanduser() if options.out else run.path / "savedmodel"
    if out.exists() and not (out / "saved_model.pb").exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"Expected a new folder or an earlier export. Received: {out}, which holds other things."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    export_file(model_file, out, card)
    if options.keras:
        save_for_use(load_model(model_file), out / "model.keras")
    print(f"wrote {out}; its README.md shows how to call it")


if __name__ == "__main__":
    main(Options, work, __doc__)
