"""The training step, `grad` and compiled functions: the only file that differentiates and compiles.

A model states *what* a training step does as a short list of `Update`s and writes its losses with
`keras.ops`. `GenerativeModel` carries the list out on TensorFlow, JAX and PyTorch, inside the
ordinary `fit` and `evaluate`, so that callbacks, `steps_per_execution`, validation data,
distribution and every optimizer option (accumulation, clipping, moving averages) keep working.

How each backend differentiates "this scalar with respect to just these variables":

- TensorFlow: a tape that watches only them;
- PyTorch: `torch.autograd.grad`, which touches nobody else's `.grad`;
- JAX: the step is a pure function. One outer `StatelessScope` holds all state and lets the program
  below pretend to be stateful; every differentiated closure opens an inner scope that reads through
  to the outer one and hands what it wrote (BatchNorm statistics, seeds) back outward.
"""

import contextlib
import copy
import functools
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gen.errors import InputError
from keras_gen.optimizers import OptimizerGroup, optimizers_for

BACKEND: str = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch
else:
    raise ImportError(
        f"keras_gen runs on the backends tensorflow, jax and torch. Received: {BACKEND!r}. "
        "Set the environment variable KERAS_BACKEND to one of them."
    )

Tensor = Any
Batch = dict[str, Tensor]
Loss = Callable[[Batch, bool], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Update:
    """One entry of a training step: a loss, and the variables that it moves.

    Attributes:
        name: Names the update's optimizer and, in a step of several updates, its logged loss
            (`<name>_loss`; the loss of a single update is logged as `loss`).
        loss: `loss(batch, training) -> (scalar, terms)`. `scalar` is minimised; `terms` maps each
            name of `logs` to a scalar that is only reported. Regularisers and `add_loss` terms of
            the layers are added by the engine.
        variables: What the optimizer may move. Nothing else changes, save for statistics that the
            layers assign themselves (BatchNorm, seeds).
        repeats: How often the update is carried out in one step (a critic's n_critic).
        split: Whether each repetition takes its own part of the batch, of 1 / repeats of its
            examples, or all of it.
        logs: The names of the reported terms.
    """

    name: str
    loss: Loss
    variables: Sequence[keras.Variable]
    repeats: int = 1
    split: bool = False
    logs: tuple[str, ...] = ()


class GenerativeModel(keras.Model):
    """Base of every model: a `keras.Model` whose training step is a list of updates.

    A subclass implements `updates()` and a meaningful `call` (reconstruct, denoise, discriminate),
    builds its networks in its constructor, and lists its constructor arguments in `get_config`.

    Data: `fit` takes batches that are dicts (`image` float32 in [-1, 1] of shape (batch, height,
    width, channels), `features` (batch, d), `label` int32 (batch,)), as a `tf.data.Dataset`, a
    `keras.utils.PyDataset` or a dict of arrays. A bare array stands for `data_key`.
    """

    data_key = "image"

    def updates(self) -> list[Update]:
        """The training step: done in order, each seeing what the one before it changed."""
        raise NotImplementedError

    def after_updates(self, batch: Batch) -> None:
        """What follows the last update of a step: averages of weights, counts. It may assign to what is not
        trained."""

    def for_use(self) -> "GenerativeModel":
        """The model, or a copy that does the same without what only training needs."""
        return self

    @classmethod
    def from_config(cls, config):
        config = copy.deepcopy(config)  # Keras empties what it deserialises
        for name, value in config.items():
            if isinstance(value, dict) and "class_name" in value:
                config[name] = keras.saving.deserialize_keras_object(value)
        return cls(**config)

    # --- compile -------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: "str | keras.optimizers.Optimizer | dict" = "adam",
        *,
        jit_compile: "bool | str" = "auto",
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
    ) -> None:
        """Prepare training.

        Args:
            optimizer: A name or an optimizer for all updates (each gets a copy of its own), or a
                dict with one for every update's name.
            jit_compile: `"auto"` compiles on JAX and on any GPU; on a TensorFlow CPU, dense
                networks only (XLA doubles their speed there and slows convolutions down).
            run_eagerly: Run the step without compiling anything, for debugging.
            steps_per_execution: Steps between two visits of the callbacks. PyTorch runs eagerly,
                where this has no meaning: there it is always 1.

        Raises:
            InputError: The optimizers do not fit the updates, or the policy is float16.
        """
        if not self.built:
            raise InputError(
                f"{type(self).__name__}.compile expected a built model. "
                "Received: an unbuilt one. Call it on one batch first."
            )
        if self.dtype_policy.compute_dtype == "float16":
            raise InputError(
                "Expected a float32 or bfloat16 policy. Received: float16, whose range loses small "
                "gradients of these models. Use keras.mixed_precision.set_global_policy"
                "('mixed_bfloat16')."
            )
        updates = self.updates()
        self._optimizers = optimizers_for(optimizer, [u.name for u in updates])
        if len(updates) == 1:
            container = self._optimizers[updates[0].name]
            container.build(list(updates[0].variables))
        else:
            container = OptimizerGroup(self._optimizers)
            container.build_members({u.name: list(u.variables) for u in updates})
        self._requested = {"jit_compile": jit_compile, "steps_per_execution": steps_per_execution}
        if BACKEND == "torch":
            steps_per_execution = 1
        if jit_compile == "auto":
            jit_compile = not run_eagerly and self._resolve_auto_jit_compile()
        super().compile(
            optimizer=container,
            jit_compile=bool(jit_compile),
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
        )
        self._loss_tracker = None  # the trackers below take its place
        self._trackers = {}
        for update in updates:
            for name in (_loss_name(update, updates), *update.logs):
                self._trackers[name] = keras.metrics.Mean(name=name)

    def _resolve_auto_jit_compile(self) -> bool:
        auto = super()._resolve_auto_jit_compile()
        if BACKEND != "tensorflow" or auto:
            return auto
        gpu_or_distributed = tf.config.list_physical_devices("GPU") or tf.distribute.has_strategy()
        return not gpu_or_distributed and _is_dense(self)

    def get_compile_config(self) -> dict | None:
        # Keras would write the class path of the backend's own optimizer, which then cannot be
        # found where that backend is not installed. The public name can, everywhere.
        if not self.compiled:
            return None
        optimizers = {
            name: {"class_name": type(optimizer).__name__, "config": optimizer.get_config()}
            for name, optimizer in self._optimizers.items()
        }
        return {"optimizer": optimizers, **self._requested}

    def compile_from_config(self, config: dict) -> None:
        optimizers = {n: keras.optimizers.get(o) for n, o in config["optimizer"].items()}
        self.compile(**{**config, "optimizer": optimizers})

    # --- the step ------------------------------------------------------------------------------

    def _as_batch(self, data: Any) -> Batch:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        batch = dict(x) if isinstance(x, dict) else {self.data_key: x}
        if y is not None:
            batch["label"] = y
        if self.data_key not in batch:
            raise InputError(
                f"{type(self).__name__} expected batches with {self.data_key!r}. "
                f"Received: batches with {sorted(batch)}. Name the array so, or choose a model for "
                "such data."
            )
        return batch

    def _total_loss(self, update: Update, batch: Batch, training: bool):
        self._clear_losses()
        loss, terms = update.loss(batch, training)
        if set(terms) != set(update.logs):
            raise ValueError(f"Update {update.name!r} declares logs {update.logs}. Received: {tuple(terms)}.")
        for extra in self.losses:
            loss = loss + ops.cast(extra, loss.dtype)
        return loss, terms

    def _log(self, updates: list[Update], update: Update, loss, terms, batch: Batch) -> None:
        # Weighted by the batch's size: the mean over an epoch is the mean over its examples, the
        # last, smaller batch included.
        size = ops.shape(batch[self.data_key])[0]
        self._trackers[_loss_name(update, updates)].update_state(loss, sample_weight=size)
        for name, value in terms.items():
            self._trackers[name].update_state(value, sample_weight=size)

    def _train_program(self, data: Any) -> dict[str, Tensor]:
        batch = self._as_batch(data)
        updates = self.updates()
        for update in updates:
            variables = list(update.variables)
            optimizer = self._optimizers[update.name]
            for i in range(update.repeats):
                part = _part(batch, i, update.repeats) if update.split else batch
                (loss, terms), gradients = _value_and_gradients(
                    functools.partial(self._total_loss, update, part, True), variables
                )
                _apply(optimizer, gradients, variables)
                self._log(updates, update, loss, terms, part)
        self.after_updates(batch)
        return self.get_metrics_result()

    def _test_program(self, data: Any) -> dict[str, Tensor]:
        batch = self._as_batch(data)
        updates = self.updates()
        for update in updates:
            loss, terms = self._total_loss(update, batch, False)
            self._log(updates, update, loss, terms, batch)
        return self.get_metrics_result()

    if BACKEND == "jax":

        def make_train_function(self, force: bool = False) -> None:
            # At the end of a fit with a moving average of weights Keras makes the weight and its
            # average one buffer, which the next fit would donate twice.
            seen = set()
            for variable in [*self.variables, *self.optimizer.variables]:
                if id(variable.value) in seen:
                    variable.assign(ops.copy(variable.value))
                seen.add(id(variable.value))
            super().make_train_function(force)

        def train_step(self, state, data):
            groups = (
                self.trainable_variables,
                self.non_trainable_variables,
                self.optimizer.variables,
                self.metrics_variables,
            )
            return _stateful(groups, state, lambda: self._train_program(data))

        def test_step(self, state, data):
            groups = (
                self.trainable_variables,
                self.non_trainable_variables,
                self.metrics_variables,
            )
            return _stateful(groups, state, lambda: self._test_program(data))

    else:

        def train_step(self, data):  # type: ignore[misc]
            return self._train_program(data)

        def test_step(self, data):  # type: ignore[misc]
            return self._test_program(data)


def _part(batch: Batch, i: int, parts: int) -> Batch:
    """The i-th of equal parts of a batch; what does not divide is left out."""
    if parts == 1:
        return batch
    size = ops.shape(next(iter(batch.values())))[0] // parts
    return {name: value[i * size : (i + 1) * size] for name, value in batch.items()}


def _loss_name(update: Update, updates: Sequence[Update]) -> str:
    return "loss" if len(updates) == 1 else f"{update.name}_loss"


def _is_dense(model: keras.Model) -> bool:
    """Whether the model's matrices are those of dense layers alone (no convolution)."""
    kernels = [v for v in model.trainable_variables if len(v.shape) > 2]
    return not kernels


# --- one backend a time ------------------------------------------------------------------------


class _Scope(keras.StatelessScope):
    """A `StatelessScope` that reads through to the scope around it and remembers what was written.

    Keras' own nested scopes do not see the enclosing one: a variable that is not mapped in the
    inner scope would be read from before the step.
    """

    def __init__(self, mapping=()):
        super().__init__(state_mapping=mapping, collect_losses=True)
        self.original_scope: keras.StatelessScope | None = None  # set by Keras on entry
        self.written: dict[int, keras.Variable] = {}

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value

    def add_update(self, update):
        super().add_update(update)
        self.written[id(update[0])] = update[0]


def _stateful(groups, state, program: Callable[[], Any]):
    """Run `program`, which assigns to variables, as a pure function of their values (JAX)."""
    pairs = [(v, s) for vs, ss in zip(groups, state, strict=True) for v, s in zip(vs, ss, strict=True)]
    with _Scope(pairs) as scope:
        logs = program()
    return logs, tuple([scope.get_current_value(v) for v in group] for group in groups)


def _contained(function: Callable[[], Any], mapping=()):
    """Run `function` in an inner scope (JAX). Returns its result, what it wrote, and where to."""
    with _Scope(mapping) as scope:
        result = function()
    mapped = {id(v) for v, _ in mapping}
    written = [v for key, v in scope.written.items() if key not in mapped]
    return result, [scope.get_current_value(v) for v in written], written


def _value_and_gradients(function: Callable[[], tuple], variables: list[keras.Variable]):
    """`(value, aux)` of `function` and the gradient of `value` for each variable, never None."""
    if BACKEND == "tensorflow":
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v.value for v in variables])
            value, aux = function()
            # Keras sums gradients over the replicas of a tf.distribute strategy.
            scaled = value / tf.distribute.get_strategy().num_replicas_in_sync
        gradients = tape.gradient(scaled, [v.value for v in variables], unconnected_gradients="zero")
        return (value, aux), gradients
    if BACKEND == "torch":
        value, aux = function()
        gradients = torch.autograd.grad(value, [v.value for v in variables], allow_unused=True)
        gradients = [
            torch.zeros_like(v.value) if g is None else g for v, g in zip(variables, gradients, strict=True)
        ]
        detach = functools.partial(keras.tree.map_structure, lambda t: t.detach())
        return (value.detach(), detach(aux)), gradients

    targets: list[keras.Variable] = []

    def pure(values):
        (value, aux), updates, written = _contained(function, list(zip(variables, values, strict=True)))
        targets[:] = written
        return value, (aux, updates)

    (value, (aux, updates)), gradients = jax.value_and_grad(pure, has_aux=True)([v.value for v in variables])
    for variable, update in zip(targets, updates, strict=True):
        variable.assign(update)
    return (value, aux), gradients


def _apply(optimizer, gradients, variables) -> None:
    if BACKEND == "torch":
        with torch.no_grad():
            optimizer.apply(gradients, variables)
    else:
        optimizer.apply(gradients, variables)


def average_of(model: keras.Model) -> keras.Model:
    """A copy of the model for its moving average: the same weights, none of them trainable."""

    def copied(layer):
        # what is not trained is its own average: pretrained parts are large
        return layer.__class__.from_config(layer.get_config()) if layer.trainable else layer

    average = keras.models.clone_model(model, clone_function=copied)
    average.set_weights(model.get_weights())
    average.trainable = False
    return average


def move_average(average: keras.Model, model: keras.Model, decay) -> None:
    """Each of the average's weights to `decay` of itself and 1 - decay of the model's."""
    pairs = [(a, w) for a, w in zip(average.weights, model.weights, strict=True) if a is not w]
    if BACKEND == "torch":  # all at once: a call for each weight takes longer than the arithmetic
        with torch.no_grad():
            averages = [a.value for a, _ in pairs]
            steps = torch._foreach_sub([w.value.detach() for _, w in pairs], averages)
            torch._foreach_mul_(steps, ops.convert_to_tensor(1.0 - decay))
            torch._foreach_add_(averages, steps)
        return
    for mean, weight in pairs:
        mean.assign(decay * mean + (1.0 - decay) * ops.cast(weight.value, mean.dtype))


def grad(f: Callable, argnums: int = 0) -> Callable:
    """The gradient of `f` with respect to one argument, on any backend.

    Shaped like the `keras.ops.grad` under way in Keras (issue #22442), so that this can go. It may
    stand inside a loss that is itself differentiated (gradient penalties, score matching), and `f`
    may call layers that assign state.

    Args:
        f: A function of tensors. An output that is not a scalar is summed, which for a function
            that treats the examples of a batch apart gives each example's own gradient.
        argnums: Which positional argument.

    Returns:
        A function of the same arguments that returns a tensor of the shape of that argument.
    """

    def of(args, x):
        return ops.sum(f(*args[:argnums], x, *args[argnums + 1 :]))

    def gradient_tensorflow(*args):
        x = ops.convert_to_tensor(args[argnums])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            y = of(args, x)
        return tape.gradient(y, x, unconnected_gradients="zero")

    def gradient_torch(*args):
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            x = ops.convert_to_tensor(args[argnums])
            if not (x.requires_grad and create_graph):
                x = x.detach().requires_grad_()
            y = of(args, x)
            if not y.requires_grad:
                return torch.zeros_like(x)
            (gradient,) = torch.autograd.grad(y, x, create_graph=create_graph, allow_unused=True)
        return torch.zeros_like(x) if gradient is None else gradient

    def gradient_jax(*args):
        targets: list[keras.Variable] = []

        def pure(x):
            value, updates, written = _contained(lambda: of(args, x))
            targets[:] = written
            return value, updates

        gradient, updates = jax.grad(pure, has_aux=True)(ops.convert_to_tensor(args[argnums]))
        for variable, update in zip(targets, updates, strict=True):
            variable.assign(update)
        return gradient

    return {"tensorflow": gradient_tensorflow, "torch": gradient_torch, "jax": gradient_jax}[BACKEND]


def fused(function: Callable) -> Callable:
    """Decorator for elementwise arithmetic inside a training step: one pass through memory.

    On TensorFlow it is compiled by XLA, which is slow at convolutions and reductions on processors but
    joins everything elementwise; on JAX it is part of a compiled program anyway.
    """
    return tf.function(function, jit_compile=True, autograph=False) if BACKEND == "tensorflow" else function


def own_group_norm(x, groups: int, gamma, beta, epsilon: float, silu: bool):
    """Group normalisation by the backend's own kernel where that is faster than our formula; else None."""
    if BACKEND != "torch":
        return None
    functional = torch.nn.functional
    made = functional.group_norm(x.permute(0, 3, 1, 2).float(), groups, gamma, beta, epsilon)
    return (functional.silu(made) if silu else made).permute(0, 2, 3, 1).to(x.dtype)


def compiled(method: Callable) -> Callable:
    """Decorator: run a model's method for inference as one program, compiled where that pays.

    Positional arguments are tensors; keyword arguments are static. The method reads the model's
    current weights at every call and must not change them; what it assigns is dropped on JAX.
    """
    programs: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    @functools.wraps(method)
    def call(self, *arguments, **static):
        tensors = [ops.convert_to_tensor(a) for a in arguments]
        if BACKEND == "torch":
            with torch.no_grad():
                return method(self, *tensors, **static)
        key = tuple(sorted(static.items()))
        cache = programs.setdefault(self, {})
        if key not in cache:
            cache[key] = _program(method, weakref.proxy(self), static)
        return cache[key](*tensors)

    def _program(method, model, static):
        if BACKEND == "tensorflow":
            return tf.function(
                lambda *tensors: method(model, *tensors, **static),
                reduce_retracing=True,
                jit_compile=model._resolve_auto_jit_compile(),
                autograph=False,
            )

        @jax.jit
        def pure(values, *tensors):
            with _Scope(list(zip(model.variables, values, strict=True))):
                return method(model, *tensors, **static)

        return lambda *tensors: pure([v.value for v in model.variables], *tensors)

    return call


def gradient_norms(model: GenerativeModel, batch: Batch) -> dict[str, float]:
    """The Euclidean norm of each update's gradient on a batch; nothing is moved, or drawn for good."""
    names = tuple(sorted(batch))
    norms = to_numpy(_gradient_norms(model, *(batch[name] for name in names), names=names))
    return {update.name: float(norm) for update, norm in zip(model.updates(), norms, strict=True)}


@compiled
def _gradient_norms(model: GenerativeModel, *tensors, names):
    batch = dict(zip(names, tensors, strict=True))
    allowed = torch.enable_grad() if BACKEND == "torch" else contextlib.nullcontext()
    norms = []
    with _Scope(), allowed:  # layers assign statistics and seeds: forgotten with the scope
        for update in model.updates():
            part = _part(batch, 0, update.repeats) if update.split else batch
            loss = functools.partial(model._total_loss, update, part, True)
            _, gradients = _value_and_gradients(loss, list(update.variables))
            squares = [ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients]
            norms.append(ops.sqrt(ops.sum(ops.stack(squares))))
    return ops.stack(norms)


def without_gradient(method: Callable) -> Callable:
    """Decorator: the method's result is never differentiated. PyTorch must be told, others not."""
    if BACKEND != "torch":
        return method

    @functools.wraps(method)
    def call(*args, **kwargs):
        with torch.no_grad():
            return method(*args, **kwargs)

    return call


@contextlib.contextmanager
def seeded(generator: keras.random.SeedGenerator, seed: "int | Tensor") -> Iterator[None]:
    """Within it `generator` draws what depends on `seed` alone; afterwards it is as it was.

    `keras.random` takes a seed as a Python int or a `SeedGenerator`, not as a tensor; an exported
    sampler and a `tf.data` pipeline need the tensor.
    """
    state = ops.stack([ops.cast(seed, generator.state.dtype), ops.zeros((), generator.state.dtype)])
    with _Scope([(generator.state, state)]):
        yield


def normal(shape: Sequence, seed: "int | Tensor", generator: keras.random.SeedGenerator) -> Tensor:
    """Standard normal noise that depends on `seed` alone."""
    with seeded(generator, seed):
        return keras.random.normal(tuple(shape), dtype="float32", seed=generator)


def parameters(model: keras.Model) -> int:
    """How many numbers training moves: without averages of weights, which are theirs again."""
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """`tensor` as an array in host memory, out of any gradient."""
    if BACKEND == "torch" and isinstance(tensor, torch.Tensor):
        tensor = tensor.detach()
    return ops.convert_to_numpy(tensor)
