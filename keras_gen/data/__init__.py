"""Real data to batches: `load` reads a name, a folder or a file; `Batches` feeds `fit`."""

from keras_gen.data.batches import Batches, LabelledBatches
from keras_gen.data.sources import ImageData, Splits, load

__all__ = ["Batches", "ImageData", "LabelledBatches", "Splits", "load"]
