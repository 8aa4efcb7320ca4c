"""Anomaly detection: how far from normal data an example lies, and where."""

from keras_gen.anomaly.baselines import BASELINES, baseline_scores
from keras_gen.anomaly.detector import SCORES, Detector, threshold_at

__all__ = ["BASELINES", "SCORES", "Detector", "baseline_scores", "threshold_at"]
