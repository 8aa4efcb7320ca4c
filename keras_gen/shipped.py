"""Models that come along: savedmodels/ of the checkout, which a wheel holds as keras_gen/savedmodels."""

from pathlib import Path

_PLACES = (Path(__file__).parent / "savedmodels", Path(__file__).parents[1] / "savedmodels")


def shipped(name: str) -> Path | None:
    """The `.keras` file of a model that comes along, or None."""
    return next((f for p in _PLACES if (f := p / name / "model.keras").exists()), None)


def shipped_names(prefix: str = "") -> list[str]:
    """Names of the models that come along and begin so."""
    return sorted({f.parent.name for p in _PLACES for f in p.glob(f"{prefix}*/model.keras")})
