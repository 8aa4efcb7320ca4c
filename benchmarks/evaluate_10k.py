"""Seconds and memory of measuring 10,000 made pictures of 28x28 against 10,000 real ones.

    python -m benchmarks.evaluate_10k

Runs apps.evaluate as people do, in a process of its own, from its start to evaluation.json: two sets of
noise and strokes, the classifier of MNIST, every measure with its floor, and the search for copies among
60,000 training pictures. Prints the time on the wall and the most memory the process held; then, where
torch-fidelity is installed, the time of its statistics beside ours on the same features.
"""

import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def strokes(n: int, seed: int) -> np.ndarray:
    """Pictures (n, 28, 28) uint8 of three short lines each."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, 28, 28), "float32")
    t = np.linspace(0, 1, 24)[:, None]
    for _ in range(3):
        start, end = rng.uniform(4, 23, (2, n, 2))
        points = np.round(start + t[..., None] * (end - start)).astype(int)
        for row, column in points.transpose(0, 2, 1):
            images[np.arange(n), row, column] = 1
    return np.round(255 * np.clip(images + 0.1 * rng.random(images.shape), 0, 1)).astype("uint8")


def whole_app(folder: Path) -> None:
    np.savez(folder / "real.npz", x_train=strokes(60_000, 0), x_test=strokes(10_000, 1))
    np.savez(folder / "made.npz", strokes(10_000, 2))
    command = ["apps.evaluate", folder / "made.npz", "--against", folder / "real.npz", "--features", "mnist"]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *map(str, command), "--out", str(folder / "out.json")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - started
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"apps.evaluate, 10,000 against 10,000 of 28x28: {seconds:.1f} s, {gigabytes:.2f} GB at most")


def statistics_beside_torch_fidelity() -> None:
    from unittest.mock import MagicMock

    from keras_gen import metrics

    # see tests/test_fidelity.py
    for name in ("", ".datasets", ".transforms", ".transforms.functional"):
        sys.modules.setdefault(f"torchvision{name}", MagicMock(CIFAR10=object, CIFAR100=object, STL10=object))
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    rng = np.random.default_rng(0)
    real, made = (np.maximum(rng.normal(size=(10_000, 128)), 0).astype("float32") for _ in range(2))
    first, second = torch.tensor(made), torch.tensor(real)

    def ours():
        metrics.frechet_distance(real, made)
        metrics.kernel_distance(real, made)
        metrics.precision_recall_density_coverage(real, made, 3)

    def theirs():
        fid_statistics_to_metric(
            fid_features_to_statistics(first.double()), fid_features_to_statistics(second.double()), False
        )
        kid_features_to_metric(first, second, kid_subsets=100, kid_subset_size=1000, verbose=False)
        prc_features_to_metric(
            first, second, prc_neighborhood=3, prc_batch_size=10_000, save_cpu_ram=True, verbose=False
        )

    seconds = {}
    for name, function in (("ours", ours), ("torch-fidelity", theirs)) * 2:
        started = time.perf_counter()
        function()
        seconds[name] = time.perf_counter() - started
    print(
        f"Frechet, kernel, precision and recall of 10,000 x 128 features: {seconds['ours']:.1f} s, "
        f"torch-fidelity {seconds['torch-fidelity']:.1f} s, "
        f"ratio {seconds['torch-fidelity'] / seconds['ours']:.2f}"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        whole_app(Path(folder))
    if importlib.util.find_spec("torch_fidelity") is not None:
        statistics_beside_torch_fidelity()
