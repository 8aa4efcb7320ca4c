"""The statistics against torch-fidelity's arithmetic on the same features. `tox -e fidelity` has it."""

import importlib.util
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest

from keras_gen import metrics

if importlib.util.find_spec("torch_fidelity") is None:
    pytest.skip("torch-fidelity is not installed: tox -e fidelity", allow_module_level=True)
# it imports torchvision for data and networks, neither of them wanted, and a torchvision that does not
# match the installed torch fails to import
for name in ("", ".datasets", ".transforms", ".transforms.functional"):
    sys.modules.setdefault(f"torchvision{name}", MagicMock(CIFAR10=object, CIFAR100=object, STL10=object))
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric


@pytest.fixture(scope="module", params=[64, 512])
def sets(request):
    """Features as a network with ReLU gives them: sparse, positive, dependent."""
    d = request.param
    rng = np.random.default_rng(d)
    mix = rng.normal(size=(40, d)) / 6
    real, made = (
        np.maximum(rng.normal(size=(1500, 40)) @ mix + 0.1 * rng.normal(size=(1500, d)) + shift, 0)
        for shift in (0.0, 0.05)
    )
    return real.astype("float32"), made.astype("float32")


def test_frechet(sets):
    statistics = [fid_features_to_statistics(torch.tensor(x.astype("float64"))) for x in sets]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert metrics.frechet_distance(*sets) == pytest.approx(theirs, rel=1e-4)


def test_kernel(sets):
    """One subset of everything: their estimator without its subsampling."""
    theirs = kid_features_to_metric(
        *(torch.tensor(x.astype("float64")) for x in sets), kid_subsets=1, kid_subset_size=1500, verbose=False
    )["kernel_inception_distance_mean"]
    assert metrics.kernel_distance(*sets).value == pytest.approx(theirs, rel=1e-4)


def test_kernel_in_subsets(sets):
    """Their usual average over subsets lies within our error."""
    theirs = kid_features_to_metric(
        *(torch.tensor(x) for x in sets), kid_subsets=100, kid_subset_size=1000, verbose=False
    )["kernel_inception_distance_mean"]
    ours = metrics.kernel_distance(*sets)
    assert abs(ours.value - theirs) < 2 * ours.error


def test_inception_score(sets):
    logits = 3 * sets[0][:, :10].astype("float64")
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    theirs = isc_features_to_metric(torch.tensor(logits), splits=10, shuffle=False)
    ours = metrics.class_score(p, 10)
    assert ours.value == pytest.approx(theirs["inception_score_mean"], rel=1e-4)
    assert ours.error == pytest.approx(theirs["inception_score_std"], rel=1e-4)


@pytest.mark.parametrize("k", [3, 5])
def test_precision_and_recall(sets, k):
    real, made = sets
    theirs = prc_features_to_metric(
        torch.tensor(made),
        torch.tensor(real),
        prc_neighborhood=k,
        prc_batch_size=500,
        save_cpu_ram=True,
        verbose=False,
    )
    ours = metrics.precision_recall_density_coverage(real, made, k)
    assert ours.precision == pytest.approx(theirs["precision"], abs=1e-4)
    assert ours.recall == pytest.approx(theirs["recall"], abs=1e-4)
