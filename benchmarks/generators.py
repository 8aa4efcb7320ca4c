"""Trained side by side and measured alike: generators of every family, or kinds of label noise.

    python -m benchmarks.generators family --data mnist
    python -m benchmarks.generators label-noise --data mnist --seeds 3

Every run is one of `python -m apps.generate`, into a folder of its own under --out, and goes on where it was
when the study is started again. Its best state (by the Frechet distance of 1,000 drawn pictures, every epoch)
is measured by `python -m apps.evaluate`: 10,000 drawn pictures against as many held-out ones, in the features
of the classifier that comes along; the 1,000 real ones that choose the epoch are among them. Prints a row for
each variant, mean and standard deviation over seeds, beside the floor of real pictures against real ones, and
draws the distance over the epochs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from keras_gen.training.run import read_rows

DCGAN = ["--model", "gan", "--filters", "32"]
FAMILY = {
    "DCGAN, non-saturating": [*DCGAN, "--epochs", "15"],
    "WGAN-GP": ["--model", "wgan-gp", "--filters", "32", "--epochs", "40"],
    "VAE": [
        "--model",
        "vae",
        "--latent-dim",
        "32",
        "--network",
        "conv",
        "--importance-samples",
        "0",
        "--epochs",
        "15",
    ],
    "DDPM, told the class": [
        *["--model", "ddpm", "--classes", "--unlabelled", "0.2", "--epochs", "8", "--schedule", "cosine"],
        *["--width", "16", "--multipliers", "1", "2", "4"],
    ],
}
NOISE = {
    "none": [],
    "one-sided smoothing, .1": ["--label-smoothing", "0.1"],
    "random one-sided smoothing, 0 to .3": ["--label-smoothing", "0.3", "--random-smoothing"],
    "flips, 5 %": ["--label-flips", "0.05"],
    "instance noise, .2, fading": ["--instance-noise", "0.2"],
}
LABEL_NOISE = {
    name: ["--model", "gan", "--filters", "16", "--epochs", "8", *flags] for name, flags in NOISE.items()
}
STUDIES = {"family": FAMILY, "label-noise": LABEL_NOISE}
MEASURES = ("frechet", "precision", "recall", "coverage")


def called(*arguments) -> None:
    """`python -m ARGUMENTS`, its output shown."""
    done = subprocess.run([sys.executable, "-m", *map(str, arguments)])
    if done.returncode != 0:
        raise SystemExit(done.returncode)


def trained(folder: Path, flags: list[str], data: str, seed: int) -> None:
    if (folder / "model.keras").exists():
        return
    if (folder / "config.json").exists():
        called("apps.generate", "--resume", folder)
        return
    common = ["--batch-size", "64", "--quality-every", "1", "--no-export"]
    called("apps.generate", *flags, *common, "--data", data, "--seed", seed, "--out", folder)


def measured(folder: Path, n: int) -> dict[str, dict]:
    """The rows of evaluation.json, by name."""
    path = folder / "evaluation.json"
    if not path.exists():
        called("apps.evaluate", folder / "best.keras", "--n", n, "--likelihood-n", 0, "--out", path)
    return {row["key"]: row for row in json.loads(path.read_text())["rows"]}


def draw(curves: dict[str, list], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4))
    for name, seeds in curves.items():
        epochs = [row["epoch"] for row in seeds[0]]
        values = np.array([[row["frechet"] for row in rows] for rows in seeds])
        (line,) = ax.plot(epochs, values.mean(axis=0), label=name)
        if len(values) > 1:
            ax.fill_between(
                epochs, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.15
            )
    ax.set(xlabel="epoch", ylabel="Frechet distance, 1,000 pictures", yscale="log")
    ax.grid(alpha=0.3, which="both")
    ax.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--variants", nargs="+", help="some of them")
    parser.add_argument("--epochs", type=int, help="other than the study's, to try it")
    parser.add_argument("--bfloat16", action="store_true", help="diffusion: train in bfloat16")
    parser.add_argument("--out", type=Path, help="default: runs/STUDY-DATA")
    options = parser.parse_args()
    out = options.out or Path("runs") / f"{options.study}-{options.data}"
    variants = STUDIES[options.study]
    if options.variants:
        variants = {name: variants[name] for name in options.variants}
    lines, curves = [], {}
    for name, flags in variants.items():
        found, curves[name], seconds = [], [], []
        if options.epochs:
            flags = [*flags, "--epochs", str(options.epochs)]
        if options.bfloat16 and "ddpm" in flags:
            flags = [*flags, "--precision", "bfloat16"]
        for seed in range(options.seeds):
            folder = out / f"{''.join(c if c.isalnum() else '-' for c in name)}-{seed}"
            trained(folder, flags, options.data, seed)
            found.append(measured(folder, options.n))
            curves[name].append(read_rows(folder / "quality.csv"))
            seconds.append(sum(row["seconds"] for row in read_rows(folder / "metrics.csv")))
        cells = []
        for measure in MEASURES:
            values = np.array([rows[measure]["value"] for rows in found])
            spread = f" +- {values.std(ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3f}{spread} ({found[0][measure]['real']:.3f})")
        best = ", ".join(f"{min(rows, key=lambda row: row['frechet'])['epoch']:.0f}" for rows in curves[name])
        lines.append(f"| {name} | {' | '.join(cells)} | {best} | {np.mean(seconds) / 60:.0f} |")
    print(f"\n{options.data}, {options.seeds} seeds; real against real in brackets")
    print(f"| | {' | '.join(MEASURES)} | best epoch | minutes |\n|{'---|' * (len(MEASURES) + 3)}")
    print("\n".join(lines))
    draw(curves, out / "frechet.png")
    print(f"wrote {out / 'frechet.png'}")


if __name__ == "__main__":
    main()
