"""What a code costs beside its reconstruction: sparsity and contraction.

A penalty is called with the encoding function, its input, the codes it gave (float32, (n, d)) and a
seed generator, and returns one number: a mean over the batch of a sum over the code, times `weight`.
"""

import keras
from keras import layers, ops

from keras_gen.engine import grad
from keras_gen.errors import InputError
from keras_gen.parts import Part


class Penalty(Part):
    """Base."""

    weight: float

    def __call__(self, encode, data, codes, generator):
        raise NotImplementedError

    def check(self, encoder: keras.Model) -> None:
        """Raise an `InputError` if `encoder` is none that this penalty can be used with."""


def _checked_weight(weight: float) -> float:
    if not weight >= 0:
        raise InputError(f"Expected a penalty's weight of 0 or more. Received: {weight}.")
    return weight


@keras.saving.register_keras_serializable("keras_gen.penalties")
class L1(Penalty):
    """`weight` times the mean over examples of sum_j |h_j|."""

    def __init__(self, weight: float):
        self.weight = _checked_weight(weight)

    def __call__(self, encode, data, codes, generator):
        return self.weight * ops.mean(ops.sum(ops.abs(codes), axis=-1))


@keras.saving.register_keras_serializable("keras_gen.penalties")
class L2(Penalty):
    """`weight` times the mean over examples of sum_j h_j**2."""

    def __init__(self, weight: float):
        self.weight = _checked_weight(weight)

    def __call__(self, encode, data, codes, generator):
        return self.weight * ops.mean(ops.sum(codes * codes, axis=-1))


def bernoulli_kl(p, q):
    """KL(Bernoulli(p) || Bernoulli(q)) in nats, elementwise; q is kept 1e-7 off 0 and 1."""
    q = ops.clip(ops.convert_to_tensor(q), 1e-7, 1.0 - 1e-7)
    p = ops.cast(p, q.dtype)
    return p * (ops.log(p) - ops.log(q)) + (1.0 - p) * (ops.log(1.0 - p) - ops.log(1.0 - q))


@keras.saving.register_keras_serializable("keras_gen.penalties")
class KLSparsity(Penalty):
    """`weight` times sum_j KL(target || mean activity of unit j), the mean taken over the batch.

    For codes within 0 and 1 (Ng 2011, CS294A lecture notes, section 3). Unlike L1 it asks for units
    that are used now and then, not for units that are never used.
    """

    def __init__(self, target: float = 0.1, weight: float = 5e-3):
        if not 0 < target < 1:
            raise InputError(f"Expected a target activity between 0 and 1. Received: {target}.")
        self.target = target
        self.weight = _checked_weight(weight)

    def check(self, encoder):
        check_ends_in_sigmoid(encoder, "a target activity")

    def __call__(self, encode, data, codes, generator):
        return self.weight * ops.sum(bernoulli_kl(self.target, ops.mean(codes, axis=0)))


def check_ends_in_sigmoid(encoder: keras.Model, what: str) -> None:
    """Raise an `InputError` unless codes lie within 0 and 1, as `what` needs them."""
    last = encoder.layers[-1]
    activation = getattr(last, "activation", None)
    if getattr(activation, "__name__", None) not in ("sigmoid", "hard_sigmoid"):
        raise InputError(
            f"Expected codes within 0 and 1 for {what}. Received: an encoder that ends in "
            f"{getattr(activation, '__name__', type(last).__name__)}. Use a sigmoid code activation."
        )


@keras.saving.register_keras_serializable("keras_gen.penalties")
class Contractive(Penalty):
    """`weight` times the mean of ||dh/dx||_F**2 (Rifai et al. 2011, ICML, eq. 2).

    Args:
        weight: The paper's lambda.
        method: `"closed"`: sum_j (h_j (1 - h_j))**2 sum_i W_ij**2, for one sigmoid layer (eq. 4);
            `"exact"`: one backward pass a code dimension, any encoder; `"stochastic"`: unbiased,
            ||J^T v||**2 for normal v (Hutchinson 1989), one backward pass a probe. `"auto"`: closed
            where it holds, else stochastic.
        probes: Of the stochastic method.
    """

    METHODS = ("auto", "closed", "exact", "stochastic")

    def __init__(self, weight: float, method: str = "auto", probes: int = 1):
        if method not in self.METHODS:
            raise InputError(f"Expected a method of {', '.join(self.METHODS)}. Received: {method!r}.")
        if probes < 1:
            raise InputError(f"Expected 1 probe or more. Received: {probes}.")
        self.weight = _checked_weight(weight)
        self.method = method
        self.probes = probes
        self._layer: layers.Dense | None = None

    def check(self, encoder):
        self._layer = _single_sigmoid_layer(encoder)
        if self.method == "closed" and self._layer is None:
            raise InputError(
                "Expected an encoder of one dense sigmoid layer for the closed form. Received: another. "
                "Use the method exact or stochastic."
            )

    def __call__(self, encode, data, codes, generator):
        if self._layer is not None and self.method in ("auto", "closed"):
            norm = squared_norm_closed(self._layer.kernel, codes)
        elif self.method == "exact":
            norm = squared_norm_exact(encode, data, codes.shape[-1])
        else:
            norm = squared_norm_stochastic(encode, data, codes, generator, self.probes)
        return self.weight * ops.mean(norm)


def _single_sigmoid_layer(encoder) -> layers.Dense | None:
    weighted = [layer for layer in encoder.layers if layer.weights]
    one = len(weighted) == 1 and isinstance(weighted[0], layers.Dense)
    if not one or weighted[0] is not encoder.layers[-1]:
        return None
    return weighted[0] if weighted[0].activation is keras.activations.sigmoid else None


def squared_norm_closed(kernel, codes):
    """||dh/dx||_F**2 of h = sigmoid(x W + b), (n,)."""
    slope = codes * (1.0 - codes)
    return ops.matmul(slope * slope, ops.sum(ops.square(ops.cast(kernel, codes.dtype)), axis=0))


def squared_norm_exact(encode, data, units: int):
    """||dh/dx||_F**2 for each example, (n,), by one backward pass a code dimension."""
    total = 0.0
    for j in range(units):
        row = grad(lambda x, j=j: encode(x)[:, j])(data)
        total = total + ops.sum(ops.reshape(row * row, (ops.shape(row)[0], -1)), axis=-1)
    return total


def squared_norm_stochastic(encode, data, codes, generator, probes: int = 1):
    """An unbiased estimate of ||dh/dx||_F**2 for each example, (n,)."""
    total = 0.0
    for _ in range(probes):
        v = keras.random.normal(ops.shape(codes), dtype="float32", seed=generator)
        row = grad(lambda x, v=v: ops.sum(encode(x) * v, axis=-1))(data)
        total = total + ops.sum(ops.reshape(row * row, (ops.shape(row)[0], -1)), axis=-1)
    return total / probes


# --- by name -----------------------------------------------------------------------------------

NAMES = {"l1": L1, "l2": L2, "kl": KLSparsity, "contractive": Contractive}


def parse(text: str) -> Penalty:
    """`l1:WEIGHT`, `l2:WEIGHT`, `kl:TARGET:WEIGHT` or `contractive:WEIGHT`.

    Raises:
        InputError: An unknown name, or numbers that do not fit it.
    """
    name, *numbers = text.split(":")
    try:
        return NAMES[name](*map(float, numbers))
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "Expected a penalty: l1:WEIGHT, l2:WEIGHT, kl:TARGET:WEIGHT or contractive:WEIGHT. "
            f"Received: {text!r}."
        ) from None
