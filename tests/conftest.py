import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as keras_gen has it; Keras is imported before it here

import keras
import pytest
from calls import run_here

import keras_gen  # noqa: F401 - chooses a backend that is there
from keras_gen.data import load
from keras_gen.export import can_export

LONGEST = [
    "text_apps",
    "diffusion_model",
    "latent",
    "diffusion_apps",
    "gan_apps",
    "retrieve",
    "autoencoders",
    "evaluate",
    "adversarial",
    "detect",
    "training",
    "semisupervised",
    "apps",
    "engine",
]
"""Files that begin first where there are several workers, so that none is alone at the end."""


def pytest_collection_modifyitems(items):
    """Tests marked `once` run on TensorFlow; on another backend only where there is no TensorFlow."""
    rank = {f"test_{name}": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
    if keras.backend.backend() == "tensorflow" or not can_export():
        return
    for item in items:
        if item.get_closest_marker("once"):
            item.add_marker(pytest.mark.skip(reason="runs on TensorFlow: see `once` in pyproject.toml"))


@pytest.fixture(scope="module", autouse=True)
def what_was_stays():
    """Modules stay, and on TensorFlow what was traced; `run_here` need not look through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def here():
    """`here("apps.task", *arguments)`: a call in this process, with its exit code and output."""
    return run_here


@pytest.fixture(autouse=True)
def fresh_seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def digits():
    return load("digits")


@pytest.fixture(scope="session")
def backend():
    return keras.backend.backend()
