"""Keras metrics, which see batch after batch on the device and hold no pictures."""

import keras
from keras import ops

from keras_gen.errors import InputError
from keras_gen.metrics.frechet import Moments


class FrechetDistance(keras.metrics.Metric):
    """The Frechet distance of the features seen to those of a reference.

    `update_state(vectors)` takes features (n, d). Sums are held in float32 about the reference's mean:
    three to four digits; `frechet_distance` has more.

    Args:
        reference: Moments of the real pictures' features.
    """

    def __init__(self, reference: Moments, name: str = "frechet_distance", **kwargs):
        super().__init__(name=name, **{"dtype": "float32", **kwargs})
        d = len(reference.mean)
        self.mean = ops.convert_to_tensor(reference.mean, "float32")
        self.covariance = ops.convert_to_tensor(reference.covariance, "float32")
        self.root = _root(self.covariance)
        self.count = self.add_variable((), "zeros", name="count")
        self.total = self.add_variable((d,), "zeros", name="total")
        self.products = self.add_variable((d, d), "zeros", name="products")

    def update_state(self, vectors, sample_weight=None):
        _refuse_weights(sample_weight)
        centred = ops.cast(vectors, "float32") - self.mean
        self.count.assign(self.count + ops.cast(ops.shape(centred)[0], "float32"))
        self.total.assign(self.total + ops.sum(centred, axis=0))
        self.products.assign(self.products + ops.matmul(ops.transpose(centred), centred))

    def result(self):
        """The distance; it takes two vectors or more."""
        n = self.count.value
        shift = self.total / n
        covariance = (self.products - n * ops.outer(shift, shift)) / (n - 1)
        product = ops.matmul(ops.matmul(self.root, covariance), self.root)
        values = ops.linalg.eigh((product + ops.transpose(product)) / 2)[0]
        trace_of_root = ops.sum(ops.sqrt(ops.maximum(values, 0.0)))
        traces = ops.trace(self.covariance) + ops.trace(covariance)
        return ops.maximum(ops.sum(shift * shift) + traces - 2 * trace_of_root, 0.0)


class KernelDistance(keras.metrics.Metric):
    """The mean over batches of the unbiased squared MMD with the cubic kernel.

    `update_state(real, made)` takes features of two batches, each (n, d) with n of 2 or more.
    """

    def __init__(self, name: str = "kernel_distance", **kwargs):
        super().__init__(name=name, **{"dtype": "float32", **kwargs})
        self.mean = keras.metrics.Mean(dtype="float32")

    def update_state(self, real, made, sample_weight=None):
        _refuse_weights(sample_weight)
        real, made = (ops.cast(vectors, "float32") for vectors in (real, made))
        within = _mean_of_others(real) + _mean_of_others(made)
        self.mean.update_state(within - 2 * ops.mean(_cubic(real, made)))

    def result(self):
        return self.mean.result()

    def reset_state(self):
        self.mean.reset_state()


class PSNR(keras.metrics.Metric):
    """Mean over pictures of the peak signal-to-noise ratio in dB.

    `update_state(clean, estimate)` takes pictures (n, height, width, c), black at `low` and white at
    `high`; the estimate is clipped to these.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, name: str = "psnr", **kwargs):
        super().__init__(name=name, **{"dtype": "float32", **kwargs})
        self.low, self.high = low, high
        self.mean = keras.metrics.Mean(dtype="float32")

    def update_state(self, clean, estimate, sample_weight=None):
        clean, estimate = _unit(clean, self.low, self.high), _unit(estimate, self.low, self.high)
        error = ops.mean(ops.square(clean - estimate), axis=(1, 2, 3))
        # identical pictures: the least error float32 can tell, not infinity, which no mean survives
        values = -10 * ops.log(ops.maximum(error, 1e-12)) / ops.log(10.0)
        self.mean.update_state(values, sample_weight)

    def result(self):
        return self.mean.result()

    def reset_state(self):
        self.mean.reset_state()

    def get_config(self):
        return {**super().get_config(), "low": self.low, "high": self.high}


class SSIM(PSNR):
    """Mean over pictures of the structural similarity over 7x7 windows (Wang et al. 2004).

    As scikit-image's with a uniform window and sample covariances; pictures of 7 pixels a side or more.
    """

    WINDOW = 7

    def __init__(self, low: float = -1.0, high: float = 1.0, name: str = "ssim", **kwargs):
        super().__init__(low, high, name, **kwargs)

    def update_state(self, clean, estimate, sample_weight=None):
        x, y = _unit(clean, self.low, self.high), _unit(estimate, self.low, self.high)
        if min(x.shape[1:3]) < self.WINDOW:
            raise InputError(f"Expected pictures of 7 pixels a side or more. Received: {x.shape[1:3]}.")

        def smooth(values):
            return ops.average_pool(values, self.WINDOW, 1, "valid", data_format="channels_last")

        n = self.WINDOW**2
        mean_x, mean_y = smooth(x), smooth(y)
        var_x, var_y, cov = (
            n / (n - 1) * (smooth(a * b) - mean_a * mean_b)
            for a, b, mean_a, mean_b in (
                (x, x, mean_x, mean_x),
                (y, y, mean_y, mean_y),
                (x, y, mean_x, mean_y),
            )
        )
        c1, c2 = 0.01**2, 0.03**2
        top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
        bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
        self.mean.update_state(ops.mean(top / bottom, axis=(1, 2, 3)), sample_weight)


def _unit(images, low: float, high: float):
    return ops.clip((ops.cast(images, "float32") - low) / (high - low), 0.0, 1.0)


def _cubic(x, y):
    return (ops.matmul(x, ops.transpose(y)) / x.shape[1] + 1.0) ** 3


def _mean_of_others(vectors):
    values = _cubic(vectors, vectors)
    n = ops.cast(ops.shape(values)[0], "float32")
    return (ops.sum(values) - ops.trace(values)) / (n * (n - 1))


def _root(covariance):
    values, vectors = ops.linalg.eigh(covariance)
    return ops.matmul(vectors * ops.sqrt(ops.maximum(values, 0.0)), ops.transpose(vectors))


def _refuse_weights(sample_weight) -> None:
    if sample_weight is not None:
        raise InputError("Expected no sample weights: a distance of sets has none. Received: some.")
