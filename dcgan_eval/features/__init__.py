"""Everything that turns images into features: extractors, and `extract`, which runs them and remembers the result."""

from dcgan_eval.features.discriminator import discriminator_features, random_features
from dcgan_eval.features.extract import Extractor, Precision, extract
from dcgan_eval.features.kmeans import kmeans_features
from dcgan_eval.features.pixels import pixel_features
from dcgan_eval.features.torchvision import torchvision_features

__all__ = [
    "Extractor",
    "Precision",
    "discriminator_features",
    "extract",
    "kmeans_features",
    "pixel_features",
    "random_features",
    "torchvision_features",
]
