"""The denoiser: corrupted pictures in, clean ones out, of any size."""

from functools import partial

import keras
import numpy as np
from keras import ops

from keras_gen.autoencoders.autoencoder import EVALUATION_SEED
from keras_gen.corruptions import Corruption
from keras_gen.engine import GenerativeModel, Update, compiled, to_numpy
from keras_gen.errors import InputError
from keras_gen.images import edge_padded, from_uint8, to_uint8, to_unit


@keras.saving.register_keras_serializable("keras_gen.autoencoders")
class Denoiser(GenerativeModel):
    """A fully convolutional network that learns to subtract what a corruption added.

    Unlike an `Autoencoder` it has no code: nothing forces the picture through a bottleneck. The
    loss is the mean squared error per value in units in which black to white is 1.

    Args:
        network: Images (None, None, c) to images of that shape: the estimate of what was added.
        corruption: What training pictures suffer; a range of strengths makes the denoiser blind.
        stride: What the sides of the network's images must be multiples of; others are continued
            at their edges and cut back.
        reach: Half the network's receptive field, in pixels: the overlap of tiles.
        grey_share: Of colour pictures shown as grey ones in training, all channels with the same
            noise, so that grey pictures can be denoised as colour ones.
        saturation: In training, the colours of a picture are moved from grey by a factor between
            1 / saturation and saturation, drawn for each picture (log-uniform), and clipped: the
            colours of a small training set are no measure of what comes. 1: as they are.
        seed: Of corruption and choice.
    """

    def __init__(
        self,
        network: keras.Model,
        corruption: Corruption,
        stride: int,
        reach: int,
        grey_share: float = 0.2,
        saturation: float = 2.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if tuple(network.input_shape) != tuple(network.output_shape):
            raise InputError(
                "Expected a network from images to images of the same shape. "
                f"Received: {network.input_shape} to {network.output_shape}."
            )
        if not 0 <= grey_share <= 1:
            raise InputError(f"Expected a grey share within 0 to 1. Received: {grey_share}.")
        if not saturation >= 1:
            raise InputError(f"Expected a saturation of 1 or more. Received: {saturation}.")
        self.network = network
        self.corruption = corruption
        self.stride = stride
        self.reach = reach
        self.grey_share = grey_share
        self.saturation = saturation
        self.seed = seed
        self.channels = network.input_shape[-1]
        self.noise = keras.random.SeedGenerator(seed)
        self.built = True

    # --- the mathematics -----------------------------------------------------------------------

    def updates(self) -> list[Update]:
        return [Update("denoising", self._loss, self.trainable_variables)]

    def _loss(self, batch, training: bool):
        clean = batch["image"]
        if not training:
            return self.loss_from_corrupted(clean, self.corruption.at(clean, EVALUATION_SEED, self.noise)), {}
        if self.channels == 1:
            return self.loss_from_corrupted(clean, self.corruption(clean, self.noise)), {}
        draw = partial(keras.random.uniform, (ops.shape(clean)[0], 1, 1, 1), dtype="float32", seed=self.noise)
        coloured = ops.cast(draw() >= self.grey_share, "float32")
        factor = coloured * ops.power(self.saturation, draw(minval=-1.0, maxval=1.0))
        mean = ops.mean(clean, axis=-1, keepdims=True)
        clean = ops.clip(mean + factor * (clean - mean), -1.0, 1.0)
        corrupted = self.corruption(clean, self.noise)
        corrupted = coloured * corrupted + (1.0 - coloured) * corrupted[..., :1]
        return self.loss_from_corrupted(clean, corrupted), {}

    def loss_from_corrupted(self, clean, corrupted):
        difference = ops.cast(clean, "float32") - self(corrupted)
        return 0.25 * ops.mean(difference * difference)

    # --- use -----------------------------------------------------------------------------------

    def call(self, inputs, training: bool = False):
        """Denoise images in [-1, 1] of any size, (n, height, width, c). The result is not clipped."""
        images = inputs["image"] if isinstance(inputs, dict) else inputs
        images = ops.cast(images, "float32")
        height, width = ops.shape(images)[1:3]
        padded = edge_padded(images, -height % self.stride, -width % self.stride)
        noise = ops.cast(self.network(padded), "float32")
        return images - noise[:, :height, :width]

    def denoise(self, picture: np.ndarray, tile: int = 256) -> np.ndarray:
        """One picture (height, width, 1 | 3) of any size in [0, 1] to the denoised one, clipped to it.

        A picture of more than `tile` pixels a side is done in tiles that overlap by `reach` on
        every side and of which only the middle is kept: nothing shows where they meet.
        Grey pictures pass a colour network as grey ones, colour pictures a grey network channel
        by channel.
        """
        if picture.shape[-1] < self.channels:
            colour = self.denoise(np.repeat(picture, self.channels, axis=-1), tile)
            return colour.mean(axis=-1, keepdims=True)
        if picture.shape[-1] > self.channels:
            planes = [self.denoise(picture[..., i : i + 1], tile) for i in range(picture.shape[-1])]
            return np.concatenate(planes, axis=-1)
        if tile < 1:
            raise InputError(f"Expected a tile of 1 pixel or more. Received: {tile}.")
        tile += -tile % self.stride
        margin = self.reach + -self.reach % self.stride
        images = 2.0 * picture.astype("float32") - 1.0
        height, width = picture.shape[:2]
        result = np.empty_like(images)
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                # tiles begin at multiples of the stride, where the whole picture's network halves
                y, x = max(0, top - margin), max(0, left - margin)
                part = images[None, y : top + tile + margin, x : left + tile + margin]
                done = to_numpy(self._denoised(part))[0, top - y :, left - x :]
                target = result[top : top + tile, left : left + tile]
                target[:] = done[: target.shape[0], : target.shape[1]]
        return np.clip((result + 1.0) / 2.0, 0.0, 1.0)

    @compiled
    def _denoised(self, images):
        return self(images)

    # --- deployment and configuration ----------------------------------------------------------

    def signatures(self) -> dict:
        """What an export serves; see `VAE.signatures`. Height and width are free too."""
        shape = (None, None, None, self.channels)
        image = (shape, "uint8", "images, 0 to 255")
        unit = (shape, "float32", "images, 0 to 1")
        return {
            "denoise": (lambda image: to_uint8(self(from_uint8(image))), {"image": image}, image),
            "denoise_unit": (
                lambda image: ops.clip(to_unit(self(2.0 * image - 1.0)), 0.0, 1.0),
                {"image": unit},
                unit,
            ),
        }

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "network": serialize(self.network),
            "corruption": serialize(self.corruption),
            "stride": self.stride,
            "reach": self.reach,
            "grey_share": self.grey_share,
            "saturation": self.saturation,
            "seed": self.seed,
        }
