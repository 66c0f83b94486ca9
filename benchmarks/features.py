"""Claim: a discriminator's features come faster than from its plain forward pass in PyTorch, at the same precision.

The peer is the network as it is trained: float images in the default memory format, a batch at a time, convolution,
BatchNorm and LeakyReLU one after the other, every map max-pooled and flattened. Ours starts from uint8 images.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measure import Case
from dcgan_eval.features import Extractor, discriminator_features
from dcgan_eval.models.architecture import preset
from dcgan_eval.models.networks import Discriminator, initialise, reestimate_batchnorm, scale_images

BATCH = 256


def network(name: str, images: Tensor) -> Discriminator:
    """Of random weights, with the BatchNorm statistics of these images."""
    found = Discriminator(preset(name))
    initialise(found, torch.Generator().manual_seed(0))
    reestimate_batchnorm(found, torch.split(scale_images(images, found.architecture), 128))
    return found.eval()


def plain(discriminator: Discriminator, images: Tensor) -> Tensor:
    """The peer: float32 (n, d)."""
    with torch.inference_mode():
        parts = []
        for batch in torch.split(images, BATCH):
            maps = discriminator.conv_features(scale_images(batch, discriminator.architecture))
            parts.append(torch.cat([functional.adaptive_max_pool2d(h, 4).flatten(1) for h in maps], 1))
        return torch.cat(parts)


def ours(extractor: Extractor, images: Tensor) -> Tensor:
    return torch.cat([extractor(batch) for batch in torch.split(images, BATCH)])


def cases(name: str, device: torch.device | str) -> Iterator[Case]:
    """By the number of images; the images are noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8, generator=generator)
    discriminator = network(name, images[:512])
    extractor = discriminator_features(discriminator, name=f"disc:{name}")
    discriminator.to(device)
    for n in (128, 512, 2048):
        some = images[:n].to(device)
        yield Case(n, partial(ours, extractor, some), {"plain PyTorch": partial(plain, discriminator, some)})
