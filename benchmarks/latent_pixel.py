"""What latents save: pictures a second of one denoiser on latents of 8x8x8 and on pictures of 32x32x3.

The denoiser of the shipped text-to-image model with its text encoder (width 64 at two scales), on captions
of `shapes`; on latents it attends at both scales, as that model does, on pictures at the smaller alone.
Training: steps on batches of 64, latents cached as the app does. Sampling: 16 pictures by 20 steps with
guidance, decoded.

    python -m benchmarks.latent_pixel [--what train|sample] [--steps 6] [--rounds 3] [--bfloat16]
"""

import argparse
import os
import time

from benchmarks._contest import Contestant, contest

SIDE, BATCH, DRAWN = 32, 64, 16
GUIDANCE, SAMPLING_STEPS = 3.0, 20


def timed(space: str, options: argparse.Namespace) -> list[float]:
    import numpy as np

    from apps._text import Train, _diffusion, _text_encoder
    from apps._training import compile_model
    from keras_gen import networks
    from keras_gen.engine import to_numpy
    from keras_gen.latent import LatentAutoencoder, TextToImage, WordTokenizer
    from keras_gen.shapes import faithfulness

    prompts = faithfulness.prompts(BATCH)
    tokenizer = WordTokenizer.learned(prompts)
    shape, stage = (SIDE, SIDE, 3), None
    if space == "latent":
        stage = LatentAutoencoder(networks.latent_encoder(shape, 8), networks.latent_decoder(shape, 8))
        shape = stage.latent_shape
    flags = Train(
        width=64,
        multipliers=(1, 1),
        attention=(8, 4) if space == "latent" else (SIDE // 2,),
        space=space,  # type: ignore[arg-type]
        precision="bfloat16" if options.bfloat16 else "float32",
    )
    text = _text_encoder(flags, shape, tokenizer)
    model = TextToImage(_diffusion(flags, shape, text), tokenizer, stage)
    if options.what == "train":
        compile_model(model.diffusion, flags, 1, options.steps)
        images = np.random.default_rng(0).normal(size=(BATCH, *shape)).astype("float32")
        batch, count = {"image": images, "label": tokenizer(prompts)}, BATCH

        def step(seed: int):
            model.diffusion.train_on_batch(batch)
    else:
        count = DRAWN

        def step(seed: int):
            to_numpy(model.generate(prompts[:DRAWN], seed=seed, steps=SAMPLING_STEPS, guidance=GUIDANCE))

    found = []
    for seed in range(options.steps + 1):
        started = time.perf_counter()
        step(seed)
        found.append(count / (time.perf_counter() - started))
    return found[1:]


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--what", choices=["train", "sample"], default="train")
    parser.add_argument("--steps", type=int, default=6, help="timed steps, or drawings, a round")
    parser.add_argument("--bfloat16", action="store_true")
    contestants = {
        "on latents": Contestant(lambda options: timed("latent", options), backend),
        "on pixels": Contestant(lambda options: timed("pixel", options), backend),
    }
    contest("benchmarks.latent_pixel", contestants, parser, "pictures/s", ["on pixels"], higher=True)


if __name__ == "__main__":
    main()
