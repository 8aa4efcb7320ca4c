"""What every app does around its work: arguments in, one clear line out when something is wrong."""

import contextlib
import errno
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tyro

from keras_gen.errors import InputError, TrainingError


def main(
    options_type: Any,
    work: Callable[[Any], None],
    description: str,
    default: str | None = None,
    commands: Sequence[str] = (),
) -> None:
    """Parse options, do the work, and turn what a person can mend into one line and exit code 2.

    Args:
        options_type: A dataclass, or a union of those of several commands.
        work: Takes the parsed options.
        description: Of `--help`.
        default: The command that is meant where none is named.
        commands: Their names, where anything else may come first; otherwise only options may.
    """
    say_when_stopped("")
    arguments = sys.argv[1:]
    first = (arguments or ["-"])[0]
    named = first in commands if commands else not first.startswith("-")
    if default and not named and first not in ("-h", "--help"):
        arguments = [default, *arguments]
    options = tyro.cli(options_type, description=description, args=arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)
    # it takes several models, or several of a model's programs, for one that is traced again and again
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        _import_tensorflow_in_silence()
        work(options)
    except (InputError, TrainingError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print(f"\nstopped. {_when_stopped}".rstrip(), file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _fail(f"The disk is full: {error.filename or error}. What was written before is whole.")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            _fail(f"Expected a place that can be written. Received: {error.filename or error}.")
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT):
            _fail(f"Expected another path. Received: {error.filename or error} ({error.strerror}).")
        raise
    except ModuleNotFoundError as error:
        if error.name in ("tensorflow", "jax", "torch"):
            _fail(
                f"Expected a backend of Keras. Received: an environment without {error.name}. "
                'Install one: pip install -e ".[tensorflow]" (or jax, torch), and set '
                "KERAS_BACKEND if it is not TensorFlow."
            )
        raise


_when_stopped = ""


def say_when_stopped(line: str) -> None:
    """What Ctrl-C is answered with from now on: how to go on, once there is something to go on with."""
    global _when_stopped
    _when_stopped = line


def _import_tensorflow_in_silence() -> None:
    """TensorFlow's C++ reports build options and missing GPUs before anybody can ask it not to."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras_gen  # noqa: F401 - chooses a backend

    # on any backend: Keras imports TensorFlow wherever it finds it
    if importlib.util.find_spec("tensorflow") is None:
        return
    with _stderr_discarded():
        import tensorflow as tf

        tf.config.list_logical_devices()


@contextlib.contextmanager
def _stderr_discarded() -> Iterator[None]:
    """Discard what the process, not only Python, writes to stderr. Exceptions pass as ever."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _fail(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)
