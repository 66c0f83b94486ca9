"""Images of another shape than an extractor takes, made to fit it: for comparing sets, where resizing is usual."""

import hashlib
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from dcgan_eval.features.extract import Extractor, Function

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's mode L


def fitted(extractor: Extractor, shape: tuple[int, int, int]) -> tuple[Extractor, str]:
    """The extractor for images of this (C, H, W), and what is done to them: '' where nothing is.

    Grey becomes RGB by replication and RGB grey by its luma; then the whole image is resized, bilinear and antialiased,
    and rounded to uint8.
    """
    channels, *sides = (got if want is None else want for want, got in zip(extractor.input_shape, shape, strict=True))
    steps, resizes = [], tuple(sides) != shape[1:]
    if channels != shape[0]:
        steps.append("grey replicated to RGB" if channels == 3 else "RGB made grey by its luma")
    if resizes:
        steps.append(f"{shape[1]}x{shape[2]} resized to {sides[0]}x{sides[1]}, bilinear, antialiased")
    if not steps:
        return extractor, ""
    what = "; ".join(steps)

    @cache
    def on(device: torch.device) -> Function:
        features = extractor.on(device)

        def function(images: Tensor) -> Tensor:
            if channels != images.shape[1]:
                images = images.expand(-1, 3, -1, -1) if channels == 3 else _luma(images)
            return features(transforms.resize(images, sides, antialias=True) if resizes else images)

        return function

    digest = hashlib.sha256(f"{extractor.fingerprint} {shape} {what}".encode()).hexdigest()
    return replace(extractor, fingerprint=digest, input_shape=shape, on=on), what


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, device=images.device)
    return (images.float() * weights[:, None, None]).sum(1, keepdim=True).round().to(torch.uint8)
