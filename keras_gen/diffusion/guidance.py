"""Guidance: how far predictions are pushed from what they are without a condition."""

from keras import ops


def guide(conditional, unconditional, scale):
    """Classifier-free guidance, u + w (c - u): w of 0 is unconditional, of 1 conditional.

    Ho & Salimans 2022 (arXiv:2207.12598, eq. 6) call w - 1 the strength.
    """
    return unconditional + scale * (conditional - unconditional)


def rescale(guided, conditional, share):
    """The guided prediction with, to a share in [0, 1], the standard deviation of the conditional one.

    Each example's own, over all its values (Lin et al. 2023, arXiv:2305.08891, eqs. 15 and 16).
    """
    axes = tuple(range(1, len(guided.shape)))
    wanted, found = (ops.std(x, axis=axes, keepdims=True) for x in (conditional, guided))
    return guided * (share * (wanted / ops.maximum(found, 1e-8)) + (1.0 - share))
