"""What every app does around its work: arguments in, one clear line out when something is wrong."""

import errno
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import tyro

from keras_gen.errors import InputError, TrainingError


def main(options_type: Any, work: Callable[[Any], None], description: str) -> None:
    """Parse options, do the work, and turn what a person can mend into one line and exit code 2."""
    options = tyro.cli(options_type, description=description)
    # TensorFlow reports its build and missing GPUs from C++ before anybody can ask it not to
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        work(options)
    except (InputError, TrainingError) as error:
        _fail(str(error))
    except KeyboardInterrupt as stop:
        print(f"\nstopped. {stop}".rstrip(), file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _fail(f"The disk is full: {error.filename or error}. What was written before is whole.")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            _fail(f"Expected a place that can be written. Received: {error.filename or error}.")
        raise
    except ModuleNotFoundError as error:
        if error.name in ("tensorflow", "jax", "torch"):
            _fail(
                f"Expected a backend of Keras. Received: an environment without {error.name}. "
                'Install one: pip install "keras-gen[tensorflow]" (or jax, torch), and set '
                "KERAS_BACKEND if it is not TensorFlow."
            )
        raise


def _fail(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)
