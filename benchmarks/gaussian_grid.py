"""Twenty-five Gaussians on a grid: how many modes GANs find, and how well.

    python -m benchmarks.gaussian_grid [--steps 20000] [--seeds 5] [--out FOLDER]

The protocol of VEEGAN (Srivastava et al. 2017): centres {-4, -2, 0, 2, 4}^2, standard deviation .05, 2,500
samples, a sample is good within three standard deviations of a centre, a mode is hit by one good sample.
Codes of 2 dimensions, networks of three hidden layers of 128 with ReLU, batches of 256, Adam at 1e-3
(.5, .9), falling as a cosine. Prints a row for each variant, and draws the first seed's samples.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import layers

from keras_gen.adversarial import GAN, R1, GradientPenalty
from keras_gen.engine import to_numpy
from keras_gen.metrics.modes import grid_centres, grid_of_gaussians, modes

SIGMA = 0.05
SAMPLES = 2500
BATCH = 256
RATE = 1e-3

VARIANTS = {
    "plain": {"loss": "non-saturating"},
    "non-saturating, R1": {"loss": "non-saturating", "penalty": R1(0.1), "ema": 0.999},
    "WGAN-GP": {"loss": "wasserstein", "penalty": GradientPenalty(0.1), "critic_steps": 5, "ema": 0.999},
}


def network(inputs: int, outputs: int, name: str, bias: bool = True) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            *(layers.Dense(128, "relu") for _ in range(3)),
            layers.Dense(outputs, use_bias=bias),
        ],
        name=name,
    )


def trained(variant: str, steps: int, seed: int) -> np.ndarray:
    """2,500 samples of a GAN after so many steps."""
    settings = VARIANTS[variant]
    keras.utils.set_random_seed(seed)
    bias = settings["loss"] != "wasserstein"
    model = GAN(
        network(2, 2, "generator"),
        network(2, 1, "discriminator", bias),
        data_key="features",
        seed=seed,
        **settings,
    )
    each = BATCH * model.critic_steps
    optimizers = {}
    for name, repeats in (("discriminator", model.critic_steps), ("generator", 1)):
        schedule = keras.optimizers.schedules.CosineDecay(RATE, steps * repeats)
        optimizers[name] = keras.optimizers.Adam(schedule, 0.5, 0.9)
    model.compile(optimizers, steps_per_execution=50)
    per_epoch = 500
    for epoch in range(steps // per_epoch):
        data = grid_of_gaussians(per_epoch * each, 1000 * seed + epoch)
        model.fit({"features": data}, batch_size=each, epochs=1, verbose=0, shuffle=False)
    return to_numpy(model.sample(SAMPLES, seed=seed))


def draw(samples: dict[str, np.ndarray], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    samples = {"data": grid_of_gaussians(SAMPLES, 0), **samples}
    figure, axes = plt.subplots(1, len(samples), figsize=(3 * len(samples), 3.2))
    for ax, (name, points) in zip(axes, samples.items(), strict=True):
        ax.scatter(points[:, 0], points[:, 1], s=2, lw=0)
        ax.set(title=name, xlim=(-5, 5), ylim=(-5, 5), xticks=[], yticks=[], aspect="equal")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("runs/gaussian_grid"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    first = {}
    print(f"{options.steps} steps, {options.seeds} seeds, {keras.backend.backend()}")
    print(f"{'variant':20}{'modes of 25':>14}{'good, %':>16}{'seconds':>9}")
    for variant in options.variants:
        found, started = [], time.perf_counter()
        for seed in range(options.seeds):
            samples = trained(variant, options.steps, seed)
            first.setdefault(variant, samples)
            found.append(modes(samples, grid_centres(), SIGMA))
            print(f"  {variant} {seed}: {found[-1]}", flush=True)
        hit, quality = (np.array([getattr(f, name) for f in found]) for name in ("hit", "quality"))
        spread = [v.std(ddof=1) if len(v) > 1 else 0.0 for v in (hit, quality)]
        seconds = (time.perf_counter() - started) / options.seeds
        print(
            f"{variant:20}{hit.mean():8.1f} +- {spread[0]:.1f}"
            f"{100 * quality.mean():10.1f} +- {100 * spread[1]:.1f}{seconds:9.0f}"
        )
    draw(first, options.out / "gaussian_grid.png")
    print(f"wrote {options.out / 'gaussian_grid.png'}")


if __name__ == "__main__":
    main()
