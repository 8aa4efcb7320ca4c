"""Seconds of drawing pictures by 50 steps of DDIM: keras_gen beside diffusers' `DDIMPipeline` in PyTorch.

The networks are the same in both: `wide` has 6,472,195 parameters at 32x32x3 (as benchmarks.unet_step),
`small` a width of 32 at 28x28x1, attention at 7. Weights as they are initialised: speed does not
depend on them.

    python -m benchmarks.ddim_sampling [--network wide] [--batch-size 1] [--rounds 3] [--draws 3]

Needs `pip install diffusers torch==2.13.0`.
"""

import argparse
import os

from benchmarks._contest import contest, timed
from benchmarks._diffusers import contestants, unet

STEPS = 50
SIZES = {"wide": (32, 3, 64, 16, 16), "small": (28, 1, 32, 7, 8)}
"""Side, channels, width, side of attention, groups of the norms (those that ours takes)."""


def ours(options: argparse.Namespace) -> list[float]:
    from keras_gen.diffusion import Diffusion
    from keras_gen.engine import to_numpy
    from keras_gen.images import to_uint8
    from keras_gen.networks import time_unet

    side, channels, width, attention, _ = SIZES[options.network]
    network = time_unet((side, side, channels), None, width, (1, 2, 2), 2, (attention,))
    model = Diffusion(network, sampler="ddim", steps=STEPS, ema=0)
    return timed(lambda seed: to_numpy(to_uint8(model.sample(options.batch_size, seed=seed))), options.draws)


def theirs(options: argparse.Namespace) -> list[float]:
    import torch
    from diffusers import DDIMPipeline, DDIMScheduler

    side, channels, width, attention, groups = SIZES[options.network]
    network = unet(side, channels, width, attention, groups)
    pipeline = DDIMPipeline(network, DDIMScheduler(1000))
    pipeline.set_progress_bar_config(disable=True)

    def draw(seed: int):
        generator = torch.Generator().manual_seed(seed)
        return pipeline(options.batch_size, generator, num_inference_steps=STEPS, output_type="np").images

    return timed(draw, options.draws)


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--network", choices=list(SIZES), default="wide")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--draws", type=int, default=3, help="timed draws a round")
    runners = contestants(ours, theirs)
    contest("benchmarks.ddim_sampling", runners, parser, "s", ["diffusers on PyTorch"], higher=False)


if __name__ == "__main__":
    main()
