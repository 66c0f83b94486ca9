"""Differentiable augmentation of what D sees (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN
Training", section 3.2), with the ranges of the authors' mit-han-lab/data-efficient-gans."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

COLUMNS = {"flip": 1, "color": 3, "translation": 2, "cutout": 2}  # random numbers that an image takes


def augment(images: Tensor, names: Sequence[str], draws: Iterator[Tensor]) -> Tensor:
    """Float (n, c, side, side) → the same shape, each image changed in its own way, gradients kept.

    flip: left and right exchanged in half of them; theirs does so to real images alone, before. color: brightness
    ± ½, saturation × 0 to 2, contrast × ½ to 3/2. translation: by up to an eighth of the side, zeros behind. cutout: a
    square of half the side is set to zero. draws: `COLUMNS` times (n,) numbers in [0, 1), on the
    images' device.
    """
    for name in names:
        images = _AUGMENTATIONS[name](images, draws)
    return images


def _flip(x: Tensor, draws: Iterator[Tensor]) -> Tensor:
    return torch.where((next(draws) < 0.5)[:, None, None, None], x.flip(3), x)


def _color(x: Tensor, draws: Iterator[Tensor]) -> Tensor:
    brightness, saturation, contrast = (next(draws)[:, None, None, None].to(x.dtype) for _ in range(3))
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (saturation * 2) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def _integers(draws: Iterator[Tensor], below: int) -> Tensor:
    """(n, 2) in [0, below), for rows and columns."""
    return (torch.stack([next(draws), next(draws)], 1) * below).long().clamp_(max=below - 1)


def _translation(x: Tensor, draws: Iterator[Tensor]) -> Tensor:
    side = x.shape[-1]
    reach = int(side / 8 + 0.5)
    shift = _integers(draws, 2 * reach + 1)
    steps = torch.arange(side, device=x.device)
    padded = functional.pad(x, (reach,) * 4)
    rows = (shift[:, :1] + steps)[:, None, :, None]
    columns = (shift[:, 1:] + steps)[:, None, None, :]
    here = torch.arange(len(x), device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[here, channels, rows, columns]


def _cutout(x: Tensor, draws: Iterator[Tensor]) -> Tensor:
    side = x.shape[-1]
    hole = int(side / 2 + 0.5)
    # the centre may lie anywhere, so a hole at the border is smaller
    start = _integers(draws, side - hole % 2 + 1) - hole // 2
    steps = torch.arange(side, device=x.device)
    inside = [(steps >= start[:, i : i + 1]) & (steps < start[:, i : i + 1] + hole) for i in (0, 1)]
    return x * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])


_AUGMENTATIONS = {"flip": _flip, "color": _color, "translation": _translation, "cutout": _cutout}
