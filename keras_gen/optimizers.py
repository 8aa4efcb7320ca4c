"""Several optimizers in one training step."""

import keras

from keras_gen.errors import InputError


class OptimizerGroup(keras.optimizers.Optimizer):
    """Holds the optimizers of a step of several updates, so that trainers and checkpoints see all.

    The engine applies its members one by one; `apply` on the group itself is an error.
    `keras.optimizers.MultiOptimizer` is not used because there a variable belongs to exactly one
    optimizer, while updates may share variables (a stage of pretraining and the fine-tuning).
    """

    def __init__(self, optimizers: dict[str, keras.optimizers.Optimizer]):
        super().__init__(learning_rate=0.0, name="optimizer_group")
        self.optimizers = optimizers
        self._moved: dict[str, list[keras.Variable]] = {}

    def build_members(self, variables: dict[str, list[keras.Variable]]) -> None:
        """Build each member for the variables that it moves, by name."""
        self._moved = variables
        for name, moved in variables.items():
            self.optimizers[name].build(moved)
        super().build([])

    @property
    def variables(self) -> list[keras.Variable]:
        return self._variables[:] + [v for o in self.optimizers.values() for v in o.variables]

    @property
    def learning_rate(self):
        raise AttributeError(
            "A step of several updates has a learning rate each: "
            f"model.optimizer.optimizers[name].learning_rate, name one of {list(self.optimizers)}."
        )

    def apply(self, grads, trainable_variables=None):
        raise NotImplementedError("Apply a member: group.optimizers[name].apply(grads, variables).")

    def finalize_variable_values(self, trainable_variables) -> None:
        for name, variables in self._moved.items():
            self.optimizers[name].finalize_variable_values(variables)


def optimizers_for(
    optimizer: "str | keras.optimizers.Optimizer | dict", names: list[str]
) -> dict[str, keras.optimizers.Optimizer]:
    """One optimizer for each name: from a dict with just these names, or copies of a single one."""
    if isinstance(optimizer, dict) and "class_name" not in optimizer:
        if set(optimizer) != set(names):
            raise InputError(
                f"Expected an optimizer for each of the updates {names}. Received: {sorted(optimizer)}."
            )
        return {name: keras.optimizers.get(optimizer[name]) for name in names}
    first = keras.optimizers.get(optimizer)
    copies = [first] + [type(first).from_config(first.get_config()) for _ in names[1:]]
    return dict(zip(names, copies, strict=True))
