"""Text-conditioned latent diffusion: a first stage, a tokenizer, and the pipeline that joins them."""

from keras_gen.latent.autoencoder import LatentAutoencoder, feature_distance
from keras_gen.latent.clip import ClipVectors, load_clip
from keras_gen.latent.pieces import PieceTokenizer
from keras_gen.latent.pipeline import TextToImage
from keras_gen.latent.text_mean import TextMean
from keras_gen.latent.tokenizer import WordTokenizer, words_of

__all__ = [
    "ClipVectors",
    "LatentAutoencoder",
    "PieceTokenizer",
    "TextMean",
    "TextToImage",
    "WordTokenizer",
    "feature_distance",
    "load_clip",
    "words_of",
]
