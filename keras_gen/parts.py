"""What models are composed of: small objects that are their constructor's arguments, and round-trip so."""

import inspect
from typing import Any, TypeVar

from keras_gen.errors import InputError


class Part:
    """Base: a configuration read off the constructor's signature, equality and a hash by it."""

    def get_config(self) -> dict:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @classmethod
    def from_config(cls, config: dict):
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(repr(self))

    def __repr__(self):
        values = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({values})"


Kind = TypeVar("Kind")


def named(part: "str | Kind", kinds: dict[str, Any], base: type[Kind], what: str) -> Kind:
    """A part, or the one of that name with its defaults.

    Raises:
        InputError: There is none of that name.
    """
    if isinstance(part, base):
        return part
    if not isinstance(part, str) or part not in kinds:
        raise InputError(f"Expected {what} of {', '.join(kinds)}. Received: {part!r}.")
    return kinds[part]()
