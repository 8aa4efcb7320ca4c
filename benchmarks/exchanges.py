"""What an exchange in the caption costs a text-to-image denoiser of `shapes`: whether it reads order.

Over 256 test scenes of two things in two colours and a stated relation: the rise of the mean squared error
of the clean latents that it tells from noise, when the two colours change places in the words, or the
relation becomes its opposite, at several times. A denoiser that knows only which words are there is at 0.

    python -m benchmarks.exchanges [MODEL.keras|RUN] [--epoch N, of a run whose checkpoint is still there]
"""

import argparse
from pathlib import Path

COUNT, FIRST = 256, 5000
OPPOSITE = {"left": "right", "above": "below", "under": "over"}
OPPOSITE |= {there: here for here, there in OPPOSITE.items()}


def colours_exchanged(caption: str, colours) -> str | None:
    """The caption with its two colours in each other's place; None where it has not two."""
    words = caption.split()
    at = [i for i, word in enumerate(words) if word.strip(",") in colours]
    if len(at) != 2 or len({words[i].strip(",") for i in at}) == 1:
        return None
    one, other = (words[i].strip(",") for i in at)
    words[at[0]] = words[at[0]].replace(one, other)
    words[at[1]] = words[at[1]].replace(other, one)
    return " ".join(words)


def relation_turned(caption: str) -> str | None:
    turned = " ".join(OPPOSITE.get(word, word) for word in caption.split())
    return None if turned == caption else turned


def scenes() -> tuple[list, dict[str, list[str]]]:
    """Pictures, and the captions that they have and that they might be taken to have."""
    from keras_gen.shapes.captions import parse
    from keras_gen.shapes.dataset import example
    from keras_gen.shapes.scene import COLOURS

    pictures: list = []
    captions: dict[str, list[str]] = {"own": [], "colours": [], "relation": []}
    index = FIRST
    while len(pictures) < COUNT:
        scene = example(0, "test", index, captions=1)
        index += 1
        (own,) = scene.captions
        others = colours_exchanged(own, COLOURS), relation_turned(own)
        if len(parse(own).things) != 2 or None in others:
            continue
        pictures.append(scene.picture)
        for said, text in zip(captions.values(), (own, *others), strict=True):
            said.append(str(text))
    return pictures, captions


def loaded(path: str | None, epoch: int | None):
    from keras_gen import load_model
    from keras_gen.shipped import shipped
    from keras_gen.training.checkpoint import read_checkpoint

    if path is None:
        return load_model(shipped("text_to_image_shapes"))
    if not Path(path).is_dir():
        return load_model(path)
    model = load_model(Path(path) / "model.keras")
    if epoch is not None:
        file = Path(path) / "checkpoints" / f"epoch-{epoch:05d}.npz"
        if not file.exists():
            there = ", ".join(p.name for p in sorted(file.parent.glob("epoch-*.npz")))
            raise SystemExit(
                f"error: Expected a checkpoint of epoch {epoch}. Received: {path}, with {there}."
            )
        _, values = read_checkpoint(file)
        variables = [*model.diffusion.trainable_variables, *model.diffusion.non_trainable_variables]
        for variable, value in zip(variables, values, strict=False):  # the rest is the optimizer's
            variable.assign(value)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="default: the model that comes along")
    parser.add_argument("--epoch", type=int)
    parser.add_argument("--times", type=int, nargs="+", default=[950, 700, 500])
    options = parser.parse_args()

    import numpy as np
    from keras import ops

    from keras_gen.engine import to_numpy

    model = loaded(options.model, options.epoch)
    pictures, captions = scenes()
    clean = to_numpy(model.encode(np.stack(pictures).astype("float32") / 127.5 - 1))
    noise = np.random.default_rng(0).normal(size=clean.shape).astype("float32")
    labels = {name: model.tokenizer(texts) for name, texts in captions.items()}
    for time in options.times:
        point = model.diffusion.schedule.at(ops.convert_to_tensor(time))
        noisy = float(point.alpha) * clean + float(point.sigma) * noise
        errors = {}
        for name, tokens in labels.items():
            estimate = model.diffusion._estimator(ops.convert_to_tensor(tokens), None, clip=False)
            found = estimate(ops.convert_to_tensor(noisy), ops.convert_to_tensor(time), ops.zeros_like(noisy))
            errors[name] = float(((to_numpy(found.clean) - clean) ** 2).mean())
        rises = ", ".join(f"{n} +{errors[n] - errors['own']:.4f}" for n in ("colours", "relation"))
        print(f"time {time}: own caption {errors['own']:.4f}, {rises}", flush=True)


if __name__ == "__main__":
    main()
