"""Seconds from a prompt to a picture: the shipped text-to-image model beside diffusers' pipeline in PyTorch.

Theirs is a `StableDiffusionPipeline` of networks of the same widths, depths and attention, with weights as
they are initialised (speed does not depend on them), DDIM, the same steps and guidance.

    python -m benchmarks.text_to_image [--cold] [--n 1] [--steps 20] [--draws 3] [--rounds 3]

With --cold: from the start of a new process to the PNG. Without: `n` pictures in a process that has drawn
before. Needs `pip install diffusers transformers torch==2.13.0`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._contest import contest, timed
from benchmarks._diffusers import contestants

PROMPT = "a small red circle left of a large blue square"
GUIDANCE = 3.0
WORDS, LENGTH, TEXT = 37, 25, 128


def ours(options: argparse.Namespace) -> list[float]:
    if options.cold:
        flags = [PROMPT, "--n", str(options.n), "--steps", str(options.steps), "--guidance", str(GUIDANCE)]
        return _cold(options, lambda folder: ["apps.text_to_image", *flags, "--out", f"{folder}/made.png"])
    from keras_gen import load_model
    from keras_gen.engine import to_numpy
    from keras_gen.images import to_uint8
    from keras_gen.shipped import shipped

    file = shipped("text_to_image_shapes")
    if file is None:
        raise SystemExit("Expected the model that comes along. Received: an installation without it.")
    model = load_model(file)

    def draw(seed: int):
        made = model.generate([PROMPT] * options.n, seed=seed, steps=options.steps, guidance=GUIDANCE)
        return to_numpy(to_uint8(made))

    return timed(draw, options.draws)


def theirs(options: argparse.Namespace) -> list[float]:
    if options.cold:
        with tempfile.TemporaryDirectory() as model:
            _pipeline().save_pretrained(model)
            given = ["--pipeline", model, "--n", str(options.n), "--steps", str(options.steps)]
            given = ["benchmarks.text_to_image", *given, "--picture"]
            return _cold(options, lambda folder: [*given, f"{folder}/made.png"])
    pipeline = _pipeline()
    return timed(lambda seed: _draw(pipeline, options, seed), options.draws)


def _cold(options: argparse.Namespace, command) -> list[float]:
    found = []
    for _ in range(options.draws):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            subprocess.run([sys.executable, "-m", *command(folder)], check=True, capture_output=True)
            found.append(time.perf_counter() - started)
            assert (Path(folder) / "made.png").stat().st_size
    return found


def _pipeline():
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=WORDS,
        hidden_size=TEXT,
        intermediate_size=4 * TEXT,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=0,
        eos_token_id=1,
    )
    network = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        layers_per_block=2,
        block_out_channels=(64, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    stage = AutoencoderKL(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=32,
    )
    return StableDiffusionPipeline(
        vae=stage,
        text_encoder=CLIPTextModel(text),
        tokenizer=None,
        unet=network,
        scheduler=DDIMScheduler(1000, prediction_type="v_prediction", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _draw(pipeline, options: argparse.Namespace, seed: int):
    """Pictures as PIL's. The prompt comes as numbers: a tokenizer would only cost them more."""
    import torch

    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        tokens = torch.arange(LENGTH)[None] % WORDS
        told, empty = (pipeline.text_encoder(t)[0].expand(options.n, -1, -1) for t in (tokens, tokens * 0))
    return pipeline(
        prompt_embeds=told,
        negative_prompt_embeds=empty,
        height=32,
        width=32,
        num_inference_steps=options.steps,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(seed),
    ).images


def _picture(options: argparse.Namespace) -> None:
    """Theirs from a cold start: load, draw, write."""
    from diffusers import StableDiffusionPipeline

    absent = dict.fromkeys(("safety_checker", "tokenizer", "feature_extractor", "image_encoder"))
    pipeline = StableDiffusionPipeline.from_pretrained(options.pipeline, **absent)
    _draw(pipeline, options, 0)[0].save(options.picture)


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cold", action="store_true", help="whole processes")
    parser.add_argument("--n", type=int, default=1, help="pictures")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--draws", type=int, default=3, help="timed draws a round")
    parser.add_argument("--pipeline", help=argparse.SUPPRESS)
    parser.add_argument("--picture", help=argparse.SUPPRESS)
    if "--picture" in sys.argv:
        _picture(parser.parse_args())
        return
    runners = contestants(ours, theirs)
    contest("benchmarks.text_to_image", runners, parser, "s", ["diffusers on PyTorch"], higher=False)


if __name__ == "__main__":
    main()
