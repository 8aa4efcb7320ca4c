"""Real data to batches: `load` reads a name, a folder or a file; `Batches` feeds `fit`."""

from keras_gen.data.batches import Batches, LabelledBatches
from keras_gen.data.examples import Examples
from keras_gen.data.sources import ImageData, LatentData, Splits, load
from keras_gen.data.tables import FeatureData, load_table

__all__ = [
    "Batches",
    "Examples",
    "FeatureData",
    "ImageData",
    "LabelledBatches",
    "LatentData",
    "Splits",
    "load",
    "load_table",
]
