"""Pictures a second of training the U-Net of a diffusion model: keras_gen beside diffusers' in PyTorch.

The work: pictures of 32x32x3 in batches of 32, the same network of 6,472,195 parameters in both (width 64,
multipliers 1, 2, 2, two blocks a scale, attention at 16), noise predicted on the linear schedule, Adam. Data
in memory, drawn at random. Without a moving average of weights on either side.

    python -m benchmarks.unet_step [--steps 6] [--rounds 3] [--bfloat16] [--batch-size 32]

With --bfloat16 ours runs under the policy mixed_bfloat16, theirs under autocast. Needs
`pip install diffusers torch==2.13.0`.
"""

import argparse
import os
import time

from benchmarks._contest import contest
from benchmarks._diffusers import contestants, unet

SIDE, CHANNELS, RATE = 32, 3, 2e-4
WARM = 2


def pictures(n: int):
    import numpy as np

    return np.random.default_rng(0).uniform(-1, 1, (n, SIDE, SIDE, CHANNELS)).astype("float32")


def timed(step, options: argparse.Namespace) -> list[float]:
    """Pictures a second of each of the `step(images)`, after a warm-up."""
    images = pictures(options.batch_size)
    for _ in range(WARM):
        step(images)
    found = []
    for _ in range(options.steps):
        started = time.perf_counter()
        step(images)
        found.append(options.batch_size / (time.perf_counter() - started))
    return found


def ours(options: argparse.Namespace) -> list[float]:
    from keras_gen.diffusion import Diffusion  # before Keras: it switches TensorFlow's oneDNN on
    from keras_gen.networks import time_unet

    import keras  # isort: skip

    if options.bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    network = time_unet((SIDE, SIDE, CHANNELS), width=64, multipliers=(1, 2, 2), blocks=2, attention=(16,))
    assert network.count_params() == 6_472_195
    model = Diffusion(network, ema=0)
    model.compile(keras.optimizers.Adam(RATE))
    return timed(lambda images: model.train_on_batch({"image": images}), options)


def theirs(options: argparse.Namespace) -> list[float]:
    import torch
    from diffusers import DDPMScheduler

    network = unet(SIDE, CHANNELS, 64, 16, 16)
    assert sum(p.numel() for p in network.parameters()) == 6_472_195
    scheduler = DDPMScheduler(1000)
    optimizer = torch.optim.Adam(network.parameters(), RATE)

    def step(images):
        data = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        noise = torch.randn_like(data)
        times = torch.randint(0, 1000, (len(data),))
        noisy = scheduler.add_noise(data, noise, times)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            output = network(noisy, times).sample
        loss = torch.nn.functional.mse_loss(output.float(), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return timed(step, options)


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="timed steps a round")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--bfloat16", action="store_true")
    runners = contestants(ours, theirs)
    contest("benchmarks.unet_step", runners, parser, "pictures/s", ["diffusers on PyTorch"], higher=True)


if __name__ == "__main__":
    main()
