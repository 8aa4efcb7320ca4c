"""Classifiers that learn from few labels and many pictures."""

from keras_gen.semisupervised.classifier import Classifier

__all__ = ["Classifier"]
