"""Training a model into a run folder that survives whatever stops it."""

from keras_gen.training.checkpoint import Checkpoints
from keras_gen.training.loop import train
from keras_gen.training.run import Run

__all__ = ["Checkpoints", "Run", "train"]
