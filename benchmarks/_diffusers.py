"""What the benchmarks of diffusion set beside each other: contestants, and diffusers' U-Net of our sizes."""

from benchmarks._contest import Contestant


def unet(side: int, channels: int, width: int, attention: int, groups: int):
    """Their network of our `time_unet(..., multipliers=(1, 2, 2), blocks=2)`: the same parameters.

    Args:
        attention: Side of the feature maps that attend to themselves.
        groups: Of the norms, those that ours takes.
    """
    from diffusers import UNet2DModel

    attends = [side // 2**i == attention for i in range(3)]
    return UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=(width, 2 * width, 2 * width),
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]),
        norm_num_groups=groups,
        attention_head_dim=None,
    )


def contestants(ours, theirs) -> dict[str, Contestant]:
    """Ours on each backend, and theirs."""
    return {
        "keras_gen on tensorflow": Contestant(ours, "tensorflow"),
        "keras_gen on jax": Contestant(ours, "jax"),
        "keras_gen on torch": Contestant(ours, "torch"),
        "diffusers on PyTorch": Contestant(theirs, "torch"),
    }
