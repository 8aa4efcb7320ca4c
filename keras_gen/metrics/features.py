"""From pictures to vectors: what a distance between sets of pictures is measured in.

A function takes uint8 pictures (n, height, width, 1 | 3) and says how it resized them. A distance bears the
name of its features: a "Frechet distance in classifier_mnist" is not an FID, and never called one.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_gen.data import ImageData
from keras_gen.data.arrays import adapted, resizing
from keras_gen.errors import InputError
from keras_gen.shipped import shipped, shipped_names

PART = 500


class Extracted(NamedTuple):
    vectors: np.ndarray
    """(n, d) float32."""
    probabilities: np.ndarray | None
    """(n, classes) float32 of a classifier, or None."""

    def select(self, indices) -> "Extracted":
        probabilities = self.probabilities
        return Extracted(self.vectors[indices], None if probabilities is None else probabilities[indices])


class Features:
    """Base of feature functions.

    Attributes:
        name: What a number in these features is named after, with a digest of the weights.
        frechet: What the Frechet distance in them is called.
        score: What the class score in them is called.
        classes: Names of the classes, or None.
    """

    name: str
    frechet = "Frechet distance"
    score = "classifier score"
    classes: tuple[str, ...] | None = None

    def resize(self, shape: tuple[int, ...]) -> str:
        """What is done to pictures of `shape`, in words."""
        raise NotImplementedError

    def __call__(self, pictures: np.ndarray) -> Extracted:
        raise NotImplementedError


class Pixels(Features):
    """The pixels themselves, 0 to 1: for pictures that no classifier knows. Blind to what they show."""

    name = "pixels"

    def resize(self, shape):
        return "none"

    def __call__(self, pictures: np.ndarray) -> Extracted:
        check_pictures(pictures)
        return Extracted(pictures.reshape(len(pictures), -1).astype("float32") / 255, None)


class ClassifierFeatures(Features):
    """What a `Classifier` of this suite tells its classes by.

    Args:
        model: The classifier.
        name: What to call it.
        classes: The classes' names.
    """

    def __init__(self, model, name: str, classes: tuple[str, ...] | None = None):
        self.model = model
        self.classes = classes
        self.name = f"{name}@{digest(model)}"

    @classmethod
    def load(cls, path: str | Path) -> "ClassifierFeatures":
        """From a run of apps.classify or apps.pretrain, a folder of savedmodels/, or a .keras file."""
        import json

        from keras_gen import load_model
        from keras_gen.semisupervised import Classifier

        path = Path(path).expanduser()
        file = path if path.suffix == ".keras" else path / "model.keras"
        if not file.is_file():
            raise InputError(
                "Expected a finished classifier: a run of apps.classify, or a .keras file. "
                f"Received: {path}, where there is no {file.name}. Check the path."
            )
        model = load_model(file)
        if not isinstance(model, Classifier) or model.data_key != "image":
            raise InputError(
                f"Expected a classifier of pictures. Received: {file}, a {type(model).__name__}. Train one: "
                "python -m apps.classify --data DATA."
            )
        card = file.parent / "card.json"
        classes = json.loads(card.read_text()).get("classes") if card.exists() else None
        name = file.stem if path.suffix == ".keras" and path.name != "model.keras" else file.parent.name
        return cls(model, name, tuple(classes) if classes else None)

    def resize(self, shape):
        return resizing(shape, self.model.data_shape)

    def __call__(self, pictures: np.ndarray) -> Extracted:
        check_pictures(pictures)
        vectors, probabilities = [], []
        for start in range(0, len(pictures), 10 * PART):
            part = adapted(pictures[start : start + 10 * PART], self.model.data_shape)
            made = self.model.predict_in_parts(ImageData("measured", part).floats())
            vectors.append(made[0])
            probabilities.append(made[1])
        return Extracted(np.concatenate(vectors), np.concatenate(probabilities))


class InceptionFeatures(Features):
    """The 2,048 pooled features of keras.applications' InceptionV3, trained on ImageNet.

    Distances in them are FID and KID in all but the network's origin: Keras' weights are not those of the
    original TensorFlow graph, nor is the resizing, and numbers differ from those of pytorch-fid or
    torch-fidelity on the same pictures.

    Args:
        weights: "imagenet", a file, or None for random ones (tests).

    Raises:
        InputError: The weights are not there and cannot be fetched.
    """

    frechet = "FID"
    score = "inception score"
    side = 299

    def __init__(self, weights: str | None = "imagenet"):
        import keras

        try:
            whole = keras.applications.InceptionV3(weights=weights)
        except Exception as error:  # what a failed download raises depends on the way it fails
            raise InputError(
                "Expected the weights of InceptionV3, fetched once by keras.applications. Received: "
                f"{type(error).__name__}: {str(error).splitlines()[0][:150]}. Go online, put the file into "
                "~/.keras/models, or choose other --features."
            ) from None
        self.model = keras.Model(whole.input, [whole.get_layer("avg_pool").output, whole.output])
        self.name = f"inception_v3_keras@{digest(self.model)}"

    def resize(self, shape):
        return f"bilinear to {self.side}x{self.side}"

    def __call__(self, pictures: np.ndarray) -> Extracted:
        from keras import ops

        from keras_gen.engine import to_numpy

        check_pictures(pictures)
        vectors, probabilities = [], []
        for start in range(0, len(pictures), 50):
            part = pictures[start : start + 50].astype("float32")
            n = len(part)
            part = np.concatenate([part, np.zeros((50 - n, *part.shape[1:]), "float32")])
            large = ops.image.resize(
                part, (self.side, self.side), interpolation="bilinear", data_format="channels_last"
            )
            if part.shape[-1] == 1:
                large = ops.repeat(large, 3, axis=-1)
            # as keras.applications.inception_v3.preprocess_input, which writes in place
            made = self.model.predict_on_batch(large / 127.5 - 1.0)
            vectors.append(to_numpy(made[0])[:n])
            probabilities.append(to_numpy(made[1])[:n])
        return Extracted(np.concatenate(vectors), np.concatenate(probabilities))


def digest(model) -> str:
    """Eight characters that change with any weight."""
    found = hashlib.blake2b(digest_size=4)
    for value in model.get_weights():
        found.update(np.ascontiguousarray(value).data)
    return found.hexdigest()


def check_pictures(pictures: np.ndarray) -> None:
    if pictures.ndim != 4 or pictures.shape[-1] not in (1, 3) or pictures.dtype != np.uint8:
        raise InputError(
            "Expected uint8 pictures (n, height, width, 1 | 3). "
            f"Received: {pictures.dtype} of shape {pictures.shape}."
        )


def load_features(name: str, data: str = "") -> Features:
    """By name.

    Args:
        name: `pixels`, `inception`, data for which a classifier comes along (`mnist`), the path of a
            classifier, or `auto`: the classifier of `data` if one comes along, otherwise the pixels.
        data: Name of the data at hand, for `auto`.

    Raises:
        InputError: Nothing of that name.
    """
    ours = [name.removeprefix("classifier_") for name in shipped_names("classifier_")]
    if name == "auto":
        name = data if data in ours else "pixels"
    if name == "pixels":
        return Pixels()
    if name == "inception":
        return InceptionFeatures()
    if (file := shipped(f"classifier_{name}")) and not Path(name).exists():
        return ClassifierFeatures.load(file.parent)
    if not Path(name).expanduser().exists():
        raise InputError(
            f"Expected features: auto, pixels, inception, {', '.join(ours)}, or the path of a "
            f"classifier. Received: {name}. Check the path, or train one: "
            "python -m apps.classify --data DATA."
        )
    return ClassifierFeatures.load(name)
