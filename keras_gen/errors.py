"""The one exception a person can do something about."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line: what was expected, what was received, what to do. Apps print it to
    stderr and exit with code 2; library callers may catch it as a `ValueError`.
    """


class TrainingError(RuntimeError):
    """Training cannot go on (a loss that is not finite). Message as for `InputError`."""
