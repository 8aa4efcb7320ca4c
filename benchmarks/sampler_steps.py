"""Frechet distance against steps: the table of DDIM's paper, for a trained run and every sampler.

    python -m benchmarks.sampler_steps savedmodels/generate_mnist/model.keras [--n 2000] [--steps 5 10 20]

Takes a model's file or a run. Pictures of the same seed (for a deterministic sampler, of the same noise)
against as many held-out ones, in the features of the classifier that comes along. Goes on where it was when
started again: pictures are kept beside the table, 500 a file.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from keras_gen import load_model, metrics  # before Keras: it switches TensorFlow's oneDNN on
from keras_gen.data import load
from keras_gen.diffusion import DDIM, Ancestral, DPMSolverPP, Heun, UniPC
from keras_gen.engine import to_numpy
from keras_gen.images import to_uint8
from keras_gen.training import Run

SAMPLERS = {
    "DDIM, eta 0": DDIM(),
    "DDIM, eta 1": DDIM(1.0),
    "DDPM, large variance": Ancestral("large"),
    "DPM-Solver++ (2M)": DPMSolverPP(),
    "UniPC-2": UniPC(),
    "Heun": Heun(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", help="default: the run's, or mnist")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 50, 100])
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--out", type=Path, default=Path("runs/sampler-steps.csv"))
    options = parser.parse_args()
    if options.run.is_file():
        model, name = load_model(options.run), options.data or "mnist"
    else:
        run = Run.open(str(options.run), reading=True)
        best = options.run / "best.keras"
        model = load_model(best if best.exists() else run.model_file())
        name = options.data or run.config["options"]["data"]
    features = metrics.load_features("auto", name)
    real = features(load(name).test.levels()[: options.n])
    done = {}
    if options.out.exists():
        with open(options.out, newline="") as file:
            done = {
                (row["sampler"], int(row["steps"])): float(row["frechet"]) for row in csv.DictReader(file)
            }
    for sampler in options.samplers:
        for steps in options.steps:
            if (sampler, steps) in done:
                continue
            started = time.perf_counter()

            def draw(count, seed, sampler=sampler, steps=steps):
                kept = options.out.with_suffix("") / f"{sampler}-{steps}-{count}-{seed}.npy"
                if kept.exists():
                    return np.load(kept)
                drawn = to_numpy(
                    to_uint8(model.sample(count, seed=seed, steps=steps, sampler=SAMPLERS[sampler]))
                )
                kept.parent.mkdir(parents=True, exist_ok=True)
                np.save(kept, drawn)
                return drawn

            made = features(metrics.drawn(draw, options.n, 0))
            value = metrics.frechet_distance(real.vectors, made.vectors)
            done[sampler, steps] = float(value)
            print(
                f"{sampler}, {steps}: {done[sampler, steps]:.3f} ({time.perf_counter() - started:.0f} s)",
                flush=True,
            )
            options.out.parent.mkdir(parents=True, exist_ok=True)
            with open(options.out, "w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["sampler", "steps", "frechet"])
                writer.writerows([name, count, f"{found:.4f}"] for (name, count), found in done.items())
    print(f"\n{name}, {options.n} pictures\n| | {' | '.join(map(str, options.steps))} |")
    print(f"|{'---|' * (len(options.steps) + 1)}")
    for sampler in options.samplers:
        print(f"| {sampler} | {' | '.join(f'{done[sampler, steps]:.2f}' for steps in options.steps)} |")


if __name__ == "__main__":
    main()
