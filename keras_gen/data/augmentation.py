"""Augmentation of labelled batches by Keras' own layers, or keras-cv's, in the data pipeline.

In the pipeline and not in the training step, because some of these layers cannot be compiled (XLA
has no projective transform) and some take longer to compile than to train.
"""

import importlib.util
from collections.abc import Callable

import numpy as np

from keras_gen.errors import InputError

Augment = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
NAMES = ("none", "randaugment", "mixup", "cutmix")


def augmentation(name: str, classes: int, seed: int = 0) -> Augment | None:
    """A function of images in [-1, 1] and int labels to distorted images and class probabilities.

    Args:
        name: `none`, `randaugment` (Cubuk et al. 2019, arXiv:1909.13719), `mixup` (Zhang et al. 2017,
            arXiv:1710.09412), `cutmix` (Yun et al. 2019, arXiv:1905.04899), or `keras-cv:LAYER` for a
            layer of keras-cv, such as `keras-cv:GridMask`.
        classes: Of the labels.
        seed: Of the distortions.

    Raises:
        InputError: An unknown name, or keras-cv is not installed.
    """
    import keras

    if name == "none":
        return None
    if name == "randaugment":
        layer = keras.layers.RandAugment(value_range=(0, 255), num_ops=2, factor=0.5, seed=seed)
    elif name == "mixup":
        layer = keras.layers.MixUp(alpha=0.2, seed=seed)
    elif name == "cutmix":
        layer = keras.layers.CutMix(seed=seed)
    elif name.startswith("keras-cv:"):
        layer = _keras_cv_layer(name.split(":", 1)[1], seed)
    else:
        raise InputError(
            f"Expected an augmentation of {', '.join(NAMES)} or keras-cv:LAYER. Received: {name!r}."
        )
    mixes_labels = name in ("mixup", "cutmix")

    def augment(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        levels = (images + 1.0) * 127.5
        # these layers know colour only
        colour = np.repeat(levels, 3, axis=-1) if levels.shape[-1] == 1 else levels
        hot = np.eye(classes, dtype="float32")[labels]
        if mixes_labels:
            made = layer({"images": colour, "labels": hot}, training=True)
            colour, hot = made["images"], np.asarray(keras.ops.convert_to_numpy(made["labels"]))
        else:
            colour = layer(colour, training=True)
        levels = np.asarray(keras.ops.convert_to_numpy(colour))[..., : images.shape[-1]]
        return np.clip(levels / 127.5 - 1.0, -1.0, 1.0).astype("float32"), hot.astype("float32")

    return augment


def _keras_cv_layer(name: str, seed: int):
    import keras

    if importlib.util.find_spec("keras_cv") is None or keras.backend.backend() != "tensorflow":
        raise InputError(
            f"Expected keras-cv and the TensorFlow backend for its layer {name}. Received: "
            f"{keras.backend.backend()}, keras-cv "
            f"{'installed' if importlib.util.find_spec('keras_cv') else 'not installed'}. "
            'Install it: pip install -e ".[keras-cv]", or use randaugment, mixup or cutmix.'
        )
    import keras_cv

    made = getattr(keras_cv.layers, name, None)
    if made is None:
        raise InputError(f"Expected a layer of keras_cv.layers. Received: {name!r}.")
    try:
        return made(value_range=(0, 255), seed=seed)
    except (TypeError, ValueError):
        try:
            return made(seed=seed)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"Expected an augmentation of keras-cv that needs no arguments. Received: {name} ({error})."
            ) from None
