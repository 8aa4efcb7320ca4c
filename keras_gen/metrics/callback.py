"""Watching made pictures while a model trains, and keeping its best state."""

import math
import time
from pathlib import Path

import keras
import numpy as np

from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.images import to_uint8
from keras_gen.metrics.comparison import MEASURES, compare, drawn
from keras_gen.metrics.features import Features
from keras_gen.training.run import read_rows, write_rows


class SampleQuality(keras.callbacks.Callback):
    """Every few epochs: draw pictures, measure them against real ones, keep the best model so far.

    Adds the measures to the epoch's logs and, with a folder, writes `quality.csv` (a row for each time)
    and `best.keras`. A resumed run goes on with both. Numbers of few pictures compare with one another,
    not with those of more: see `frechet_distance`.

    Args:
        features: What pictures are measured in.
        real: uint8 pictures (n, height, width, c); as many are drawn.
        every: Epochs.
        folder: Where to write, or None.
        monitor: Which measure of `MEASURES` decides.
        seed: Of the drawn pictures, always the same.
        k: See `precision_recall_density_coverage`.
    """

    def __init__(
        self,
        features: Features,
        real: np.ndarray,
        every: int = 1,
        folder: Path | None = None,
        monitor: str = "frechet",
        seed: int = 0,
        k: int = 5,
    ):
        super().__init__()
        if every < 1:
            raise InputError(f"Expected 1 epoch or more. Received: every {every}.")
        if monitor not in MEASURES or MEASURES[monitor].better not in ("lower", "higher"):
            raise InputError(f"Expected a measure: {', '.join(MEASURES)}. Received: {monitor!r}.")
        self.features = features
        self.real = features(real)
        self.n = len(real)
        self.every = every
        self.folder = folder
        self.monitor = monitor
        self.seed = seed
        self.k = k
        self.rows: list[dict[str, float]] = []

    def on_train_begin(self, logs=None):
        self.rows = [] if self.folder is None else read_rows(self.folder / "quality.csv")

    def on_epoch_begin(self, epoch, logs=None):
        # epochs after the checkpoint that a run goes on from are done again
        self.rows = [row for row in self.rows if row["epoch"] <= epoch]

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        started = time.perf_counter()
        model = self.model
        pictures = drawn(lambda n, seed: to_numpy(to_uint8(model.sample(n, seed=seed))), self.n, self.seed)
        found = compare(self.real, self.features(pictures), self.k)
        values = {name: estimate.value for name, estimate in found.items()}
        if logs is not None:
            logs.update(values)
        row = {"epoch": epoch + 1, **values, "n": self.n, "seconds": time.perf_counter() - started}
        self.rows.append(row)
        if self.folder is None:
            return
        if self.best is row:
            part = self.folder / "best.part.keras"
            model.save(part)
            part.replace(self.folder / "best.keras")
        write_rows(self.folder / "quality.csv", self.rows)

    @property
    def best(self) -> dict[str, float] | None:
        """The row of the best epoch so far, the first of equals."""
        sign = 1 if MEASURES[self.monitor].better == "lower" else -1
        rows = [row for row in self.rows if not math.isnan(row[self.monitor])]
        return min(rows, key=lambda row: sign * row[self.monitor], default=None)
