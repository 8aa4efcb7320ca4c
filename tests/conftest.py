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
    """Longest files first, and tests marked `once` on one backend, if it will have its turn."""
    rank = {f"test_{name}": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
    # tox has an environment for each backend; elsewhere there is what is installed
    there = {"tensorflow": can_export(), "torch": can_export() and "TOX_ENV_NAME" in os.environ}
    for item in items:
        mark = item.get_closest_marker("once")
        where = mark.args[0] if mark and mark.args else "tensorflow"
        if mark and there[where] and keras.backend.backend() != where:
            item.add_marker(pytest.mark.skip(reason=f"runs on {where}: see `once` in pyproject.toml"))


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
