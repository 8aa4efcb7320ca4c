"""The whole state of a training run, in files that are complete or absent."""

import io
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.training.run import FORMAT, write_atomically

logger = logging.getLogger(__name__)


def _variables(model: keras.Model) -> list[keras.Variable]:
    """Weights, statistics, seeds and the optimizers' state, in an order that is the same anywhere."""
    return [
        *model.trainable_variables,
        *model.non_trainable_variables,
        *model.optimizer.variables,
    ]


def read_checkpoint(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What it says of itself, and the state: trainable variables first, then others, then the optimizer's."""
    with np.load(path, allow_pickle=False) as content:
        meta = json.loads(str(content["meta"]))
        return meta, [content[str(i)] for i in range(len(meta["paths"]))]


class Checkpoints:
    """Checkpoints of one run: `epoch-00012.npz` holds the state after 12 epochs.

    Plain .npz, so that a checkpoint of one backend loads on any other; its checksums tell a damaged
    file from a good one.

    Args:
        folder: Where they lie.
        keep: How many of the newest are kept; at least 2, or a damaged one has none before it.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("epoch-*.npz"))

    def epochs(self) -> int:
        """Behind the newest, 0 if there is none."""
        return max((int(path.stem.removeprefix("epoch-")) for path in self.paths()), default=0)

    def save(self, model: keras.Model, epoch: int) -> None:
        """Write the state of a compiled model after `epoch` epochs."""
        variables = _variables(model)
        arrays: dict[str, Any] = {}
        for i, variable in enumerate(variables):
            value = to_numpy(variable.value)
            # NumPy's format knows no bfloat16; float32 holds it exactly
            arrays[str(i)] = value.astype("float32") if value.dtype.kind == "V" else value
        meta = {"format": FORMAT, "epoch": epoch, "paths": [v.path for v in variables]}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays, meta=np.array(json.dumps(meta)))
        self.folder.mkdir(exist_ok=True)
        write_atomically(self.folder / f"epoch-{epoch:05d}.npz", buffer.getvalue())
        for old in self.paths()[: -self.keep]:
            old.unlink()

    def restore(self, model: keras.Model) -> int:
        """Load the newest readable checkpoint into a compiled model.

        Returns:
            The number of epochs behind it.

        Raises:
            InputError: None can be read, or one of another format or model.
        """
        for path in reversed(self.paths()):
            try:
                meta, values = read_checkpoint(path)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                logger.warning("damaged, falling back to the one before: %s (%s)", path, type(error).__name__)
                continue
            if meta["format"] != FORMAT:
                raise InputError(
                    f"Expected a checkpoint of format {FORMAT}. Received: {path}, format "
                    f"{meta['format']}. Use the version that wrote it, or train anew."
                )
            self._assign(model, values, path)
            return meta["epoch"]
        raise InputError(
            f"Expected a readable checkpoint. Received: {self.folder}, which has none. Train anew."
        )

    @staticmethod
    def _assign(model: keras.Model, values: list[np.ndarray], path: Path) -> None:
        variables = _variables(model)
        shapes = [tuple(v.shape) for v in variables]
        if shapes != [v.shape for v in values]:
            raise InputError(
                f"Expected a checkpoint of this model, {len(shapes)} arrays. Received: {path}, "
                f"{len(values)} arrays of other shapes. It was written by another model."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value.astype(variable.dtype) if variable.dtype != "bfloat16" else value)
