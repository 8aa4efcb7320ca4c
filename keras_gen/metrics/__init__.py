"""Measures of made pictures: a feature function and a statistic, freely paired.

    load_features("mnist")(pictures).vectors # pictures to vectors
    frechet_distance(real, made)             # two sets of vectors to a number

`compare` gives every statistic at once, `SampleQuality` does so while a model trains.
"""

from keras_gen.metrics.callback import SampleQuality
from keras_gen.metrics.classes import class_histogram, class_score, histogram_divergence
from keras_gen.metrics.comparison import MEASURES, compare, copying, drawn, title
from keras_gen.metrics.features import (
    ClassifierFeatures,
    Extracted,
    Features,
    InceptionFeatures,
    Pixels,
    load_features,
)
from keras_gen.metrics.frechet import Moments, frechet_distance, frechet_of_moments
from keras_gen.metrics.kernel import Estimate, cubic_kernel, kernel_distance
from keras_gen.metrics.likelihood import bits_per_dim
from keras_gen.metrics.neighbours import (
    mean_distance,
    memorisation,
    nearest,
    precision_recall_density_coverage,
    retrieved,
)
from keras_gen.metrics.pictures import psnr, ssim
from keras_gen.metrics.streaming import PSNR, SSIM, FrechetDistance, KernelDistance

__all__ = [
    "MEASURES",
    "PSNR",
    "SSIM",
    "ClassifierFeatures",
    "Estimate",
    "Extracted",
    "Features",
    "FrechetDistance",
    "InceptionFeatures",
    "KernelDistance",
    "Moments",
    "Pixels",
    "SampleQuality",
    "bits_per_dim",
    "class_histogram",
    "class_score",
    "compare",
    "copying",
    "cubic_kernel",
    "drawn",
    "frechet_distance",
    "frechet_of_moments",
    "histogram_divergence",
    "kernel_distance",
    "load_features",
    "mean_distance",
    "memorisation",
    "nearest",
    "precision_recall_density_coverage",
    "psnr",
    "retrieved",
    "ssim",
    "title",
]
