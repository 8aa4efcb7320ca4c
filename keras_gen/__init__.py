"""Deep generative models on Keras 3: one source of mathematics, three backends."""

import importlib.util
import os

__version__ = "0.1.0"


def _choose_backend() -> None:
    """Let Keras start on a machine that has no TensorFlow, unless the user has chosen a backend."""
    home = os.environ.get("KERAS_HOME", os.path.join(os.path.expanduser("~"), ".keras"))
    if "KERAS_BACKEND" in os.environ or os.path.exists(os.path.join(home, "keras.json")):
        return
    for name in ("tensorflow", "jax", "torch"):
        if importlib.util.find_spec(name) is not None:
            os.environ["KERAS_BACKEND"] = name
            return


_choose_backend()
# TensorFlow leaves oneDNN off on processors without AVX-512, where a DCGAN trains half as fast again with it.
# It asks when it is imported: whoever imports Keras before keras_gen sets this himself.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def load_model(path):
    """Load a `.keras` file of any model of the suite, written on any backend.

    Like `keras.models.load_model(path, compile=False)`, with every class of the suite known to Keras, and
    in float32 also if training computed in bfloat16: what is made is the same on every machine.

    Raises:
        InputError: The file is not there, is damaged, is no model of Keras, or has a part of a package that
            is not installed.
    """
    import json
    import zipfile

    import keras

    import keras_gen.adversarial
    import keras_gen.anomaly
    import keras_gen.autoencoders
    import keras_gen.diffusion
    import keras_gen.hashing
    import keras_gen.latent
    import keras_gen.semisupervised
    import keras_gen.variational  # noqa: F401 - registers their classes
    from keras_gen.errors import InputError

    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        whole = os.path.isfile(path) and zipfile.is_zipfile(path)
        if whole and (missing := _missing_packages(path)):
            raise InputError(
                f"Expected {missing[0]}, which a part of {path} is from. Received: an installation without. "
                f"Install it: pip install {missing[0]}."
            ) from error
        raise InputError(
            f"Expected a model in a .keras file. Received: {path}, "
            + (
                f"which cannot be loaded ({type(error).__name__}: {str(error).strip().splitlines()[0]})."
                if whole
                else f"which is {'damaged' if os.path.exists(path) else 'not there'}."
            )
        ) from (error if whole else None)
    config = json.dumps(keras.saving.serialize_keras_object(model))
    if '"mixed_bfloat16"' not in config:
        return model
    plain = json.loads(config.replace('"mixed_bfloat16"', '"float32"'))
    copy = keras.saving.deserialize_keras_object(plain)
    for variable, trained in zip(copy.variables, model.variables, strict=True):
        variable.assign(trained)
    return copy


def _missing_packages(path) -> list[str]:
    """Packages that classes of a `.keras` file are from, and that are not installed."""
    import re
    import zipfile

    with zipfile.ZipFile(path) as file:
        config = file.read("config.json").decode() if "config.json" in file.namelist() else ""
    packages = sorted(set(re.findall(r'"module": "(\w+)', config)))
    return [name.replace("_", "-") for name in packages if importlib.util.find_spec(name) is None]
