"""What users of GANs need to be told while they train."""

import logging
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_gen.engine import gradient_norms
from keras_gen.metrics import SampleQuality
from keras_gen.training.run import read_rows, write_rows

logger = logging.getLogger(__name__)

COLLAPSED = 0.2
"""Of the best coverage so far, or of the real pictures' mean distance."""
VANISHED = 1e-3
"""Of the largest gradient so far."""
DIVERGED = 1e3
"""A mean score beyond this, or a gradient so many times the median of those before."""


class Watch(keras.callbacks.Callback):
    """Every epoch a row of `watch.csv`, and a warning of one line when training goes wrong.

    A row holds the losses and mean scores of the epoch, the norm of either network's gradient on one
    batch, and, where `quality` measured, its numbers.

    Args:
        batch: One batch, always the same.
        folder: Where to write.
        quality: The callback that measures samples, before this one in the list, or None.
    """

    def __init__(self, batch: dict, folder: Path, quality: SampleQuality | None = None):
        super().__init__()
        self.batch = batch
        self.folder = folder
        self.quality = quality
        self.rows: list[dict[str, float]] = []
        self._warned: set[str] = set()

    def on_train_begin(self, logs=None):
        self._warned = set()
        self.rows = read_rows(self.folder / "watch.csv")

    def on_epoch_begin(self, epoch, logs=None):
        self.rows = [row for row in self.rows if row["epoch"] <= epoch]

    def on_epoch_end(self, epoch, logs=None):
        logs = {k: float(v) for k, v in (logs or {}).items() if not k.startswith("val_")}
        norms = gradient_norms(self.model, self.batch)
        row = {"epoch": epoch + 1, **logs, **{f"{name}_gradient": norm for name, norm in norms.items()}}
        measured = self.quality.rows[-1:] if self.quality is not None else []
        if measured and measured[0]["epoch"] == epoch + 1:
            row |= {k: v for k, v in measured[0].items() if k not in ("n", "seconds")}
        self.rows.append(row)
        write_rows(self.folder / "watch.csv", self.rows)
        found = alarms(self.rows)
        for kind in found.keys() - self._warned:
            kept = ""
            if self.quality is not None and self.quality.best is not None:
                kept = f" The best model so far, of epoch {self.quality.best['epoch']:.0f}, is in best.keras."
            logger.warning("epoch %d: %s%s", epoch + 1, found[kind], kept)
        self._warned = set(found)


def alarms(rows: Sequence[dict[str, float]]) -> dict[str, str]:
    """What is wrong at the last of the rows of a training so far: kind -> one sentence or two."""
    found: dict[str, str] = {}
    last = rows[-1]
    coverage = [row["coverage"] for row in rows if "coverage" in row]
    if "coverage" in last and max(coverage) > 0.1 and last["coverage"] < COLLAPSED * max(coverage):
        found["collapse"] = (
            f"collapse: the samples cover {last['coverage']:.3f} of the real pictures, after "
            f"{max(coverage):.3f} before."
        )
    elif last.get("diversity", 1.0) < COLLAPSED:
        found["collapse"] = (
            f"collapse: two samples differ {last['diversity']:.2f} times as much as two real pictures."
        )
    if "collapse" in found:
        found["collapse"] += " Try a penalty, label noise or a lower learning rate."
    scores = [abs(last.get(name, 0.0)) for name in ("real_score", "made_score")]
    for name, other in (("discriminator", "generator"), ("generator", "discriminator")):
        norms = np.array([row[f"{name}_gradient"] for row in rows if f"{name}_gradient" in row])
        if len(norms) == 0:
            continue
        if len(norms) > 1 and norms[-1] < VANISHED * norms.max():
            found[f"{name} dead"] = (
                f"the {name}'s gradient has vanished ({norms[-1]:.2g}, at most {norms.max():.2g} before): "
                f"the {other} has won. Try a penalty, label or instance noise, or other learning rates."
            )
        if len(norms) > 2 and norms[-1] > DIVERGED * np.median(norms[:-1]):
            found["divergence"] = (
                f"divergence: the {name}'s gradient is {norms[-1]:.2g}, usually {np.median(norms[:-1]):.2g}. "
                "Try a lower learning rate or a penalty."
            )
    if max(scores) > DIVERGED:
        found["divergence"] = (
            f"divergence: mean scores of {last['real_score']:.3g} for real and {last['made_score']:.3g} for "
            "made pictures. Try a lower learning rate or a penalty."
        )
    return found
