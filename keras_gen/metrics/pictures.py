"""How near a picture is to another one: of single pictures, with NumPy."""

import numpy as np


def psnr(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of one picture in [0, 1]; the estimate is clipped to it."""
    if clean.shape != estimate.shape:
        raise ValueError(f"Expected pictures of one shape. Received: {clean.shape} and {estimate.shape}.")
    error = float(np.mean((clean.astype("float64") - np.clip(estimate, 0, 1)) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) over 7x7 windows; nan for smaller pictures."""
    from skimage.metrics import structural_similarity

    if min(clean.shape[:2]) < 7:
        return float("nan")
    return float(
        structural_similarity(
            clean.astype("float64"),
            np.clip(estimate, 0, 1).astype("float64"),
            data_range=1.0,
            channel_axis=-1,
        )
    )
