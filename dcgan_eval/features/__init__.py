"""Everything that turns images into features: extractors, and `extract`, which runs them and remembers the result."""

from dcgan_eval.features.content import PixelHash
from dcgan_eval.features.discriminator import GRID, discriminator_features, random_features
from dcgan_eval.features.extract import Extractor, extract, feature_blocks, share
from dcgan_eval.features.inception import inception_features
from dcgan_eval.features.kmeans import kmeans_features
from dcgan_eval.features.module import module_features
from dcgan_eval.features.network import each, extractor
from dcgan_eval.features.pixels import pixel_features
from dcgan_eval.features.timm import timm_features
from dcgan_eval.features.torchvision import torchvision_features

__all__ = [
    "GRID",
    "Extractor",
    "PixelHash",
    "discriminator_features",
    "each",
    "extract",
    "extractor",
    "feature_blocks",
    "inception_features",
    "kmeans_features",
    "module_features",
    "pixel_features",
    "random_features",
    "share",
    "timm_features",
    "torchvision_features",
]
