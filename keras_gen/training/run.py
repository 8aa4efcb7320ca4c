"""The run folder: everything a training run leaves behind, and what it needs to go on.

config.json      what was asked for, with which versions
metrics.csv      one row per epoch
checkpoints/     the state after the last epochs
*.png, model.keras, savedmodel/   what the run is for
"""

import csv
import io
import json
import os
import platform
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import keras

import keras_gen
from keras_gen.errors import InputError

FORMAT = 1
"""Of config.json and the checkpoints. A run of another format is refused, not guessed at."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a crash or a full disk leaves the old one."""
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_rows(path: Path) -> list[dict[str, float]]:
    """A table of numbers, one dict per row without its empty cells; empty if there is no file."""
    try:
        with open(path, newline="") as file:
            return [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


def write_rows(path: Path, rows: Sequence[dict]) -> None:
    """A table of numbers with a column for every name; what a row lacks stays empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.8g}" for k, v in row.items()} for row in rows)
    write_atomically(path, text.getvalue().encode())


class Run:
    """A run folder, held by one process that writes or by any number that read.

    Use `Run.create` for a new one and `Run.open` to go on with one, or to read it.

    Attributes:
        path: The folder.
        config: The content of config.json.
    """

    def __init__(self, path: Path, config: dict, reading: bool = False):
        self.path = path
        self.config = config
        self._lock = _locked(path, reading)

    @classmethod
    def create(cls, task: str, options: dict, out: str | None = None) -> "Run":
        """A new folder: `out`, or `runs/<task>/<time>`.

        Raises:
            InputError: `out` holds something already, or cannot be written.
        """
        if out is not None:
            path = Path(out).expanduser()
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise InputError(
                    f"Expected a new or empty folder to write to. Received: {path}. Name another, "
                    f"or go on with the run there: --resume {path}."
                )
        else:
            stamp = Path("runs") / task / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            path, again = stamp, 1
            while path.exists():
                again += 1
                path = stamp.with_name(f"{stamp.name}_{again}")
        try:
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, {})
        except OSError as error:
            raise InputError(
                f"Expected a folder that can be written. Received: {path} ({error.strerror}). "
                "Choose another with --out."
            ) from None
        run.config = {
            "format": FORMAT,
            "task": task,
            "created": datetime.now().astimezone().isoformat(timespec="seconds"),
            "keras_gen": keras_gen.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
            "backend": keras.backend.backend(),
            "options": options,
        }
        run.save_config()
        return run

    @classmethod
    def open(cls, path: str, task: str | None = None, reading: bool = False) -> "Run":
        """The run in `path`, of a certain task; `reading` beside others that read.

        Raises:
            InputError: No such run, a run of another task or format, or one in use.
        """
        folder = Path(path).expanduser()
        try:
            config = json.loads((folder / "config.json").read_text())
            found = config["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"Expected the folder of a run, with a readable config.json. Received: {folder} "
                f"({type(error).__name__}). Check the path."
            ) from None
        if found != FORMAT:
            raise InputError(
                f"Expected a run folder of format {FORMAT}. Received: {folder}, format {found}, "
                f"written by keras_gen {config.get('keras_gen')}. Use that version, or train anew."
            )
        if task is not None and config["task"] != task:
            raise InputError(
                f"Expected a run of apps.{task}. Received: {folder}, a run of "
                f"apps.{config['task']}. Resume it with that app."
            )
        return cls(folder, config, reading)

    def part(self, name: str) -> "Run":
        """A folder within, for one of several models of a run: its own metrics and checkpoints."""
        path = self.path / name
        path.mkdir(exist_ok=True)
        return Run(path, self.config)

    def model_file(self) -> Path:
        """The trained model's file.

        Raises:
            InputError: The run is not finished.
        """
        path = self.path / "model.keras"
        if not path.exists():
            raise InputError(
                f"Expected a finished run, with a model.keras. Received: {self.path}. "
                f"Finish it: python -m apps.{self.config['task']} --resume {shlex.quote(str(self.path))}."
            )
        return path

    def save_config(self) -> None:
        write_atomically(self.path / "config.json", json.dumps(self.config, indent=2).encode())

    def rows(self) -> list[dict]:
        """metrics.csv, one dict per epoch; empty if there is none."""
        return read_rows(self.path / "metrics.csv")

    def write_rows(self, rows: Sequence[dict]) -> None:
        write_rows(self.path / "metrics.csv", rows)


def _locked(path: Path, shared: bool):
    """A lock that dies with the process, so that a killed run never blocks its resumption."""
    try:
        import fcntl
    except ImportError:  # Windows: no second run is noticed
        return None
    try:
        file = open(path / ".lock", "r" if shared else "w")  # noqa: SIM115 - open as long as the run
    except OSError:
        if shared:  # a copy without the lock, or one that may only be read: nobody writes there
            return None
        raise
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise InputError(
            f"Expected a run that nobody works on. Received: {path}, in use by another process. "
            "Wait for it, or stop it."
        ) from None
    return file
