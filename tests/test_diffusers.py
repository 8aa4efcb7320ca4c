"""The samplers against diffusers' schedulers, step for step. `tox -e diffusers` has them."""

import importlib.util

import numpy as np
import pytest
from keras import ops

from keras_gen import diffusion
from keras_gen.diffusion import predictions, samplers
from keras_gen.diffusion.samplers import Estimate
from keras_gen.engine import to_numpy

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("diffusers is not installed: tox -e diffusers", allow_module_level=True)
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

SCHEDULES = {
    "linear": (diffusion.Linear, {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    "cosine": (diffusion.Cosine, {"beta_schedule": "squaredcos_cap_v2"}),
    "scaled-linear": (
        diffusion.ScaledLinear,
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    ),
}
PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
SAMPLERS = {
    "ddim": (diffusion.DDIM(), DDIMScheduler, {"clip_sample": False}),
    "dpm-solver++": (diffusion.DPMSolverPP(), DPMSolverMultistepScheduler, {}),
    "unipc": (diffusion.UniPC(), UniPCMultistepScheduler, {}),
}


def network(x, t):
    """Something smooth that depends on all of its arguments; NumPy in, NumPy out."""
    return (0.9 * x + 0.1 * np.sin(3 * x + t / 300)).astype("float32")


def steps_of_ours(sampler, schedule, prediction, x, n, noises=None):
    def estimate(x, t, last):
        point = schedule.at(t)
        output = ops.convert_to_tensor(network(to_numpy(x), float(to_numpy(t))))
        return Estimate(prediction.clean(output, x, point.alpha, point.sigma))

    state, found = samplers.begun(sampler, ops.convert_to_tensor(x)), []
    noise = (
        (lambda i: ops.convert_to_tensor(noises[i])) if noises is not None else (lambda i: ops.zeros_like(x))
    )
    for i in range(n):
        state = sampler.step(estimate, state, i, 0, lambda i: schedule.grid(i, n), noise)
        found.append(to_numpy(state[0]))
    return found


def agrees(ours, theirs, tolerance=1e-5):
    for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        scale = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(mine, other, atol=tolerance * scale, err_msg=f"step {i}")


@pytest.mark.parametrize("n", [10, 25])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_deterministic(schedule, prediction, sampler, n):
    kind, betas = SCHEDULES[schedule]
    ours, scheduler, options = SAMPLERS[sampler]
    theirs = scheduler(
        num_train_timesteps=1000,
        prediction_type=PREDICTIONS[prediction],
        timestep_spacing="trailing",
        **betas,
        **options,
    )
    theirs.set_timesteps(n)
    times = [int(kind().grid(i, n).t) for i in range(n)]
    assert times == theirs.timesteps.tolist()
    start = np.random.default_rng(0).normal(size=(2, 5, 5, 1)).astype("float32")
    x, expected = torch.from_numpy(start), []
    for t in theirs.timesteps:
        x = theirs.step(torch.from_numpy(network(x.numpy(), float(t))), t, x).prev_sample
        expected.append(x.numpy())
    # at the cosine schedule's end a noise is divided by alpha = 0.00005, and theirs is a product in float32
    tolerance = 2e-5 if (schedule, prediction) == ("cosine", "epsilon") else 1e-5
    agrees(steps_of_ours(ours, kind(), predictions.get(prediction), start, n), expected, tolerance)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral(variance, monkeypatch):
    """On the full grid, with their noise."""
    theirs = DDPMScheduler(num_train_timesteps=50, variance_type=f"fixed_{variance}", clip_sample=False,
                           beta_start=20e-4, beta_end=0.4)  # fmt: skip
    theirs.set_timesteps(50)
    noises = np.random.default_rng(1).normal(size=(50, 2, 5, 5, 1)).astype("float32")
    start = np.random.default_rng(0).normal(size=(2, 5, 5, 1)).astype("float32")
    x, expected = torch.from_numpy(start), []
    for i, t in enumerate(theirs.timesteps):
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor",
            lambda *a, i=i, **k: torch.from_numpy(noises[i]),
        )
        x = theirs.step(torch.from_numpy(network(x.numpy(), float(t))), t, x).prev_sample
        expected.append(x.numpy())
    schedule = diffusion.Linear(steps=50)
    agrees(
        steps_of_ours(diffusion.Ancestral(variance), schedule, diffusion.Epsilon(), start, 50, noises),
        expected,
    )
