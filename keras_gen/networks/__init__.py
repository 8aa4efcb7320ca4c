"""Whole networks. They know shapes, not objectives: an encoder maps images to vectors of `units`
numbers, a decoder maps vectors to images of `channels` numbers a pixel."""

from keras_gen.networks.conv import conv_decoder, conv_encoder, pooled_encoder
from keras_gen.networks.dcgan import dcgan_discriminator, dcgan_generator
from keras_gen.networks.latent import latent_decoder, latent_encoder
from keras_gen.networks.mlp import mlp_decoder, mlp_encoder
from keras_gen.networks.recurrent import recurrent_decoder, recurrent_encoder
from keras_gen.networks.residual import residual_discriminator, residual_generator
from keras_gen.networks.text import layout_head, text_encoder
from keras_gen.networks.tied import TiedDecoder
from keras_gen.networks.time_unet import time_unet
from keras_gen.networks.translation import patch_discriminator, translation_unet
from keras_gen.networks.unet import bias_free_unet

__all__ = [
    "TiedDecoder",
    "bias_free_unet",
    "conv_decoder",
    "conv_encoder",
    "dcgan_discriminator",
    "dcgan_generator",
    "latent_decoder",
    "latent_encoder",
    "layout_head",
    "mlp_decoder",
    "mlp_encoder",
    "patch_discriminator",
    "pooled_encoder",
    "recurrent_decoder",
    "recurrent_encoder",
    "residual_discriminator",
    "residual_generator",
    "text_encoder",
    "time_unet",
    "translation_unet",
]
