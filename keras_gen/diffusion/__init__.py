"""Diffusion: schedules, predictions, weightings and samplers as small parts, and the model that they make."""

from keras_gen.diffusion.likelihood import log_density, variational_bound
from keras_gen.diffusion.model import NOBODY, Diffusion
from keras_gen.diffusion.predictions import Clean, Epsilon, Preconditioned, Prediction, V, Velocity
from keras_gen.diffusion.samplers import DDIM, Ancestral, DPMSolverPP, Heun, Sampler, UniPC
from keras_gen.diffusion.schedules import EDM, Cosine, Discrete, Flow, Linear, ScaledLinear, Schedule, Sigmoid
from keras_gen.diffusion.weightings import P2, ClippedSNR, MinSNR, Simple, Weighting

__all__ = [
    "DDIM",
    "EDM",
    "NOBODY",
    "P2",
    "Ancestral",
    "Clean",
    "ClippedSNR",
    "Cosine",
    "DPMSolverPP",
    "Diffusion",
    "Discrete",
    "Epsilon",
    "Flow",
    "Heun",
    "Linear",
    "MinSNR",
    "Preconditioned",
    "Prediction",
    "Sampler",
    "ScaledLinear",
    "Schedule",
    "Sigmoid",
    "Simple",
    "UniPC",
    "V",
    "Velocity",
    "Weighting",
    "log_density",
    "variational_bound",
]
