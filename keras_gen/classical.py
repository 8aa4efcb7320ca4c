"""Denoising without learning, to measure learned denoising by. All are told the noise level.

Each takes a noisy picture (height, width, 1 | 3), black to white 0 to 1 and unclipped, and returns
its estimate. Those with a strength have it tuned, at each noise level, on training pictures.
"""

import importlib.util
from collections.abc import Callable

import numpy as np

from keras_gen.metrics.pictures import psnr

BM3D_LEAST = 12
"""On pictures of 8 pixels a side the package crashes the process."""

Denoise = Callable[[np.ndarray], np.ndarray]


def _gaussian_blur(noisy, sigma, strength):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(noisy, (strength, strength, 0), mode="nearest")


def _median(noisy, sigma, strength):
    from scipy.ndimage import median_filter

    return median_filter(noisy, (strength, strength, 1), mode="nearest")


def _non_local_means(noisy, sigma, strength):
    from skimage.restoration import denoise_nl_means

    made = denoise_nl_means(
        noisy, patch_size=5, patch_distance=6, h=strength * sigma, sigma=sigma, channel_axis=-1
    )
    return made.reshape(noisy.shape)


def _total_variation(noisy, sigma, strength):
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(noisy, weight=strength * sigma, channel_axis=-1)


def _bm3d(noisy, sigma, strength):
    import bm3d

    height, width = noisy.shape[:2]
    missing = [(0, max(0, BM3D_LEAST - side)) for side in (height, width)]
    padded = np.pad(noisy, [*missing, (0, 0)], mode="symmetric")
    if noisy.shape[-1] == 3:
        return bm3d.bm3d_rgb(padded, sigma)[:height, :width]
    return bm3d.bm3d(padded[..., 0], sigma)[:height, :width, None]


METHODS: dict[str, tuple[Callable, tuple]] = {
    "Gaussian blur": (_gaussian_blur, (0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.7)),
    "median": (_median, (3, 5)),
    "non-local means": (_non_local_means, (0.4, 0.6, 0.8, 1.0, 1.2)),
    "total variation": (_total_variation, (0.3, 0.5, 0.8, 1.2, 1.6, 2.2)),
    "BM3D": (_bm3d, (None,)),
}


def available() -> dict[str, str]:
    """The methods that can run here, and why the others cannot: name -> "" or the reason."""
    missing = "" if importlib.util.find_spec("bm3d") else 'pip install -e ".[denoise]"'
    return {name: missing if name == "BM3D" else "" for name in METHODS}


def tuned(name: str, sigma: float, clean: np.ndarray, noisy: np.ndarray) -> tuple[Denoise, object]:
    """The method `name` at noise level `sigma`, with the strength that is best on the given pictures.

    Returns:
        The denoising function, and the strength chosen (None where there is none to choose).
    """
    method, strengths = METHODS[name]

    def with_strength(strength) -> Denoise:
        return lambda picture: method(picture, sigma, strength)

    def quality(strength) -> float:
        denoise = with_strength(strength)
        return float(np.mean([psnr(c, denoise(n)) for c, n in zip(clean, noisy, strict=True)]))

    best = max(strengths, key=quality) if len(strengths) > 1 else strengths[0]
    return with_strength(best), best
