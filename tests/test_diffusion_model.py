"""The diffusion model: its loss, its conditions, its samples, its life from training to SavedModel."""

import functools

import keras
import numpy as np
import pytest
from harness import check_model, serve
from keras import ops

from keras_gen import diffusion
from keras_gen.corruptions import parse
from keras_gen.diffusion import Diffusion
from keras_gen.engine import to_numpy
from keras_gen.errors import InputError
from keras_gen.export import can_export
from keras_gen.images import to_uint8
from keras_gen.networks import time_unet

SHAPE = (8, 8, 1)


def network(channels: int = 1, outputs: int = 1, classes: int | None = None, attention=()):
    return time_unet((8, 8, channels), outputs, 16, (1,), 1, attention, classes=classes)


@functools.cache
def trained(kind: str = "ddpm") -> Diffusion:
    """A model of digits that has seen a little, with weights that are no longer zero anywhere."""
    from keras_gen.data import load

    digits = load("digits").train
    keras.utils.set_random_seed(0)
    model = {
        "ddpm": lambda: Diffusion(network(classes=11), "cosine", classes=10),
        "flow": lambda: Diffusion(network(), "flow", "velocity", sampler="heun"),
    }[kind]()
    model.compile(keras.optimizers.Adam(2e-3))
    batch = {"image": digits.floats(slice(0, 512)), "label": digits.labels[:512]}
    model.fit(batch, batch_size=64, epochs=4, verbose=0)
    return model


# --- its life -----------------------------------------------------------------------------------

KINDS = {
    "ddpm": (lambda: Diffusion(network()), {"steps": 3}),
    "conditional": (
        lambda: Diffusion(
            network(2, 2, 11, (8,)),
            "linear",
            classes=10,
            self_condition=True,
            learned_variance=True,
            rescaled=0.5,
            interval=(0.1, 10.0),
        ),
        {"steps": 3, "guidance": 2.0, "label": [3]},
    ),
    "flow": (lambda: Diffusion(network(), "flow", "velocity", sampler="heun"), {"steps": 3}),
    "edm": (lambda: Diffusion(network(), "edm", "edm", "min-snr", sampler="unipc", ema=0), {"steps": 3}),
    "translating": (lambda: Diffusion(network(2), source=parse("downsampling:2"), steps=3), {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_life(kind, digits, tmp_path):
    make, draws = KINDS[kind]
    batch = {"image": digits.train.floats(slice(0, 16)), "label": digits.train.labels[:16]}
    given = {"source": batch["image"][:3]} if kind == "translating" else {}
    check_model(make, batch, tmp_path, steps=5, draws=draws, given=given)
