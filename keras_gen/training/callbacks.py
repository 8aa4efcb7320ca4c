"""What watches a run: its log, its checkpoints, its progress on the terminal."""

import math
import signal
import threading
import time
from collections.abc import Callable

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from keras_gen.data import Batches
from keras_gen.errors import TrainingError
from keras_gen.training.checkpoint import Checkpoints
from keras_gen.training.run import Run

CHECKPOINT_SECONDS = 2.0
"""Epochs of tiny data last milliseconds; state is written no more often than this."""


class SetEpoch(keras.callbacks.Callback):
    """Tells the batches which epoch it is: their order and noise depend on it."""

    def __init__(self, batches: Batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch


class Interruptible(keras.callbacks.Callback):
    """Ctrl-C ends training after the step under way; a second one at once.

    An exception raised wherever the signal happens to arrive may arrive in a callback of a compiled
    program, where it is lost: seen on JAX once in three tries. A signal that is ignored from outside
    (a background job) stays ignored.
    """

    def __init__(self):
        super().__init__()
        self._requested = False

    def __enter__(self):
        self._before = signal.getsignal(signal.SIGINT)
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._installed = in_main_thread and self._before is signal.default_int_handler
        if self._installed:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception):
        if self._installed:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number, frame):
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True

    def _stop_if_requested(self):
        if self._requested:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        self._stop_if_requested()

    def on_test_batch_end(self, batch, logs=None):
        self._stop_if_requested()

    def on_epoch_end(self, epoch, logs=None):
        self._stop_if_requested()


class LossRows(keras.callbacks.Callback):
    """After each epoch a row of its losses and seconds; a loss that is not finite is refused."""

    def __init__(self, rows: list[dict]):
        super().__init__()
        self.rows = rows
        self._started = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = {k: float(v) for k, v in (logs or {}).items()}
        bad = [name for name, value in logs.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(
                f"Expected finite losses. Received: {bad[0]} = {logs[bad[0]]} in epoch {epoch + 1}. "
                "The last good state is kept. Try a lower --learning-rate, or look at the data."
            )
        seconds = time.perf_counter() - self._started
        self.rows.append({"epoch": epoch + 1, **dict(sorted(logs.items())), "seconds": seconds})


class Keeper(keras.callbacks.Callback):
    """After each epoch: write the rows so far, then the state.

    The checkpoint comes last, after all that others write about the epoch. A run that dies before it
    repeats the epoch, and everybody drops what was written of it; nothing is missing of an epoch that
    has one.
    """

    def __init__(self, run: Run, checkpoints: Checkpoints, rows: list[dict], last_epoch: int):
        super().__init__()
        self.run = run
        self.checkpoints = checkpoints
        self.rows = rows
        self.last_epoch = last_epoch
        self._saved = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        due = time.perf_counter() - self._saved >= CHECKPOINT_SECONDS
        if due or epoch + 1 == self.last_epoch:
            self.run.write_rows(self.rows)
            self.checkpoints.save(self.model, epoch + 1)
            self._saved = time.perf_counter()


class ProgressReport(keras.callbacks.Callback):
    """A bar with the time left on a terminal; elsewhere a line now and then."""

    def __init__(self, epochs: int, initial_epoch: int, steps: int):
        super().__init__()
        self.epochs = epochs
        self.initial_epoch = initial_epoch
        self.steps = steps
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def on_train_begin(self, logs=None):
        self._begin = self._printed = time.perf_counter()
        self._first_epoch_end = None
        if self._console.is_terminal:
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[terms]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._progress.start()
            self._task = self._progress.add_task(
                "compiling", total=(self.epochs - self.initial_epoch) * self.steps, terms=""
            )

    def on_train_batch_end(self, batch, logs=None):
        if self._progress is not None:
            done = (self._epoch - self.initial_epoch) * self.steps + batch + 1
            self._progress.update(self._task, completed=done)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._progress is not None and epoch > self.initial_epoch:
            self._progress.update(self._task, description=f"epoch {epoch + 1}/{self.epochs}")

    def on_epoch_end(self, epoch, logs=None):
        terms = "  ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())
        if self._progress is not None:
            self._progress.update(self._task, terms=terms)
            return
        now = time.perf_counter()
        if self._first_epoch_end is None:
            self._first_epoch_end = now
        if epoch + 1 < self.epochs and now - self._printed < 5 and epoch > self.initial_epoch:
            return
        self._printed = now
        left = ""
        if epoch > self.initial_epoch:  # the first epoch compiles
            per_epoch = (now - self._first_epoch_end) / (epoch - self.initial_epoch)
            left = f"  {_clock(per_epoch * (self.epochs - epoch - 1))} left"
        self._console.print(
            f"epoch {epoch + 1}/{self.epochs}  {terms}{left}", highlight=False, soft_wrap=True
        )

    def stop(self):
        if self._progress is not None:
            self._progress.stop()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


class AtEpochs(keras.callbacks.Callback):
    """Calls `function(epochs_done)` about `times` times, evenly spread, and never twice."""

    def __init__(self, function: Callable[[int], None], epochs: int, times: int = 10):
        super().__init__()
        self.function = function
        self.at = {round(epochs * (i + 1) / times) for i in range(times)}

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 in self.at:
            self.function(epoch + 1)
