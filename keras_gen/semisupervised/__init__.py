"""Classifiers that learn from few labels and many pictures."""

from keras_gen.semisupervised.classifier import Classifier
from keras_gen.semisupervised.probe import linear_probe

__all__ = ["Classifier", "linear_probe"]
