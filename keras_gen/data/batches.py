"""Batches for `fit`: endless variety, one fixed history.

What a batch holds depends on (seed, epoch, step) alone, never on how the process got there. A run
that was killed and resumed therefore sees what the uninterrupted run would have seen.
"""

import keras
import numpy as np

from keras_gen.data.arrays import IN_MEMORY_BYTES
from keras_gen.data.examples import Examples
from keras_gen.data.sources import ImageData
from keras_gen.errors import InputError

BINARIZE = ("none", "dynamic", "threshold")


class Batches(keras.utils.PyDataset):
    """Batches `{"image": float32 in [-1, 1], "label": int32}` of pictures; `"features"` of tables.

    Itself a `keras.utils.PyDataset` made with NumPy, which needs no TensorFlow; `stream()` gives
    the same pictures in the same order as a `tf.data.Dataset` on the TensorFlow backend.

    Args:
        data: The pictures, or rows of features.
        batch_size: Pictures a batch; all of them if there are fewer.
        training: Shuffle anew every epoch and leave out the last, incomplete batch (every picture
            is as likely to be left out). Otherwise the given order, every picture once.
        seed: Of order and binarisation.
        binarize: `"none"`; `"dynamic"`: a pixel is 1 with the probability of its grey value, drawn
            anew at every visit in training (Salakhutdinov & Murray 2008), once and for all
            otherwise; `"threshold"`: 1 from mid grey upwards.

    As a `PyDataset` it yields the batches of `epoch`, which whoever trains sets before each epoch;
    `keras_gen.training.train` does.
    """

    def __init__(
        self,
        data: Examples,
        batch_size: int,
        *,
        training: bool,
        seed: int = 0,
        binarize: str = "none",
    ):
        super().__init__()
        if batch_size < 1:
            raise InputError(f"Expected a batch size of 1 or more. Received: {batch_size}.")
        if binarize not in BINARIZE:
            raise InputError(f"Expected binarize of {BINARIZE}. Received: {binarize!r}.")
        if binarize != "none" and data.key != "image":
            raise InputError(f"Expected pictures, to binarize. Received: {data.noun} of {data.name}.")
        self.data = data
        self.batch_size = min(batch_size, len(data))
        self.training = training
        self.seed = seed
        self.binarize = binarize
        self.epoch = 0

    def __len__(self) -> int:
        if self.training:
            return len(self.data) // self.batch_size
        return -(-len(self.data) // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch, those of the last incomplete batch in training left out."""
        if not self.training:
            return np.arange(len(self.data))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.data))
        return order[: len(self) * self.batch_size]

    # --- NumPy ---------------------------------------------------------------------------------

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        if not 0 <= step < len(self):
            raise IndexError(f"Expected a step within 0 to {len(self) - 1}. Received: {step}.")
        indices = self._cached_order()[step * self.batch_size : (step + 1) * self.batch_size]
        image = self.data.floats(indices)
        if self.binarize == "threshold":
            image = np.where(image >= 0, np.float32(1), np.float32(-1))
        elif self.binarize == "dynamic":
            rng = np.random.default_rng([self.seed, self.epoch if self.training else 0, step])
            uniform = rng.random(image.shape, dtype="float32")
            image = np.where(2 * uniform - 1 < image, np.float32(1), np.float32(-1))
        batch = {self.data.key: image}
        if self.data.labels is not None:
            batch["label"] = self.data.labels[indices]
        return batch

    def _cached_order(self) -> np.ndarray:
        if getattr(self, "_order_of", None) != self.epoch:
            self._order, self._order_of = self.order(self.epoch), self.epoch
        return self._order

    # --- tf.data -------------------------------------------------------------------------------

    def stream(self, first_epoch: int = 0):
        """What to hand to `fit` (with `len(self)` steps per epoch) and to `evaluate`.

        On TensorFlow a `tf.data.Dataset`: endless and beginning with `first_epoch` for training,
        since an iterator anew for every epoch would cost more than an epoch of small data; finite
        otherwise. This object elsewhere.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        def one_epoch(epoch, order):
            batches = tf.data.Dataset.from_tensor_slices(order)
            batches = batches.batch(self.batch_size, drop_remainder=self.training)
            return batches.enumerate().map(lambda step, chosen: (epoch, step, chosen))

        def shuffled(epoch):
            order = tf.numpy_function(self.order, [epoch], tf.int64)
            return one_epoch(epoch, tf.ensure_shape(order, [None]))

        if self.training:
            stream = tf.data.Dataset.counter(first_epoch).flat_map(shuffled)
        else:
            stream = one_epoch(tf.constant(0, tf.int64), self.order(0))
        stream = stream.map(self._tf_batch(tf), num_parallel_calls=tf.data.AUTOTUNE)
        return stream.prefetch(tf.data.AUTOTUNE)

    def _tf_batch(self, tf):
        data, shape = self.data, self.data.shape
        labels = None if data.labels is None else tf.constant(data.labels)
        factor, offset = data.affine
        if data.values.nbytes <= IN_MEMORY_BYTES:
            with tf.device("CPU"):
                values = tf.constant(data.values)

            def gather(indices):
                return tf.gather(values, indices)
        else:  # a memory map: only what a batch needs is read

            def gather(indices):
                picked = tf.numpy_function(data.values.__getitem__, [indices], data.values.dtype)
                return tf.ensure_shape(picked, (indices.shape[0], *shape))

        def batch(epoch, step, indices):
            image = tf.cast(gather(indices), tf.float32) * factor + offset
            if self.binarize == "threshold":
                image = tf.where(image >= 0, 1.0, -1.0)
            elif self.binarize == "dynamic":
                seeds = tf.stack([epoch + (self.seed << 20), step])
                uniform = tf.random.stateless_uniform(tf.shape(image), seeds)
                image = tf.where(2 * uniform - 1 < image, 1.0, -1.0)
            made = {data.key: image}
            if labels is not None:
                made["label"] = tf.gather(labels, indices)
            return made

        return batch


class LabelledBatches(keras.utils.PyDataset):
    """Batches of few labelled pictures, each with a share of many unlabelled ones.

    `{"image", "label"}` and, with `unlabelled`, `{"unlabelled"}`: float32 in [-1, 1]. Labelled pictures
    are drawn afresh for every batch, so that an epoch is `steps` batches however few they are; what a
    batch holds depends on (seed, step) alone, but for what `augment` draws.

    Args:
        labelled: Pictures with labels.
        unlabelled: Pictures whose labels are not looked at, or None.
        batch_size: Labelled pictures a batch.
        ratio: Unlabelled pictures for each labelled one.
        steps: Batches.
        augment: See `keras_gen.data.augmentation`.
    """

    def __init__(
        self,
        labelled: ImageData,
        unlabelled: ImageData | None,
        batch_size: int,
        steps: int,
        ratio: int = 7,
        seed: int = 0,
        augment=None,
    ):
        super().__init__()
        if labelled.labels is None:
            raise InputError(f"Expected labelled pictures. Received: {labelled.name}, without labels.")
        self.labelled = labelled
        self.unlabelled = unlabelled
        self.batch_size = batch_size
        self.steps = steps
        self.ratio = ratio
        self.seed = seed
        self.augment = augment

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, step])
        few = len(self.labelled) < self.batch_size
        chosen = rng.choice(len(self.labelled), self.batch_size, replace=few)
        images, labels = self.labelled.floats(chosen), self.labelled.labels[chosen]  # type: ignore[index]
        if self.augment is not None:
            images, labels = self.augment(images, labels)
        batch = {"image": images, "label": labels}
        if self.unlabelled is not None:
            chosen = rng.integers(len(self.unlabelled), size=self.batch_size * self.ratio)
            batch["unlabelled"] = self.unlabelled.floats(chosen)
        return batch
