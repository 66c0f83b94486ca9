"""Differentiable augmentation of what D sees (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN
Training", section 3.2), with the ranges of the authors' mit-han-lab/data-efficient-gans."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def augment(images: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
    """Float (n, c, side, side) → the same shape, each image changed in its own way, gradients kept.

    color: brightness ± ½, saturation × 0 to 2, contrast × ½ to 3/2. translation: by up to an eighth of the side, zeros
    behind. cutout: a square of half the side is set to zero. The draws come from `generator`, on the CPU.
    """
    for name in names:
        images = {"color": _color, "translation": _translation, "cutout": _cutout}[name](images, generator)
    return images


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """(n, 1, 1, 1) in [0, 1)."""
    return torch.rand(len(like), 1, 1, 1, generator=generator).to(like)


def _color(x: Tensor, generator: torch.Generator) -> Tensor:
    x = x + (_uniform(x, generator) - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (_uniform(x, generator) * 2) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (_uniform(x, generator) + 0.5) + mean


def _offsets(x: Tensor, low: int, high: int, generator: torch.Generator) -> Tensor:
    """(n, 2) integers in [low, high], for rows and columns."""
    return torch.randint(low, high + 1, (len(x), 2), generator=generator).to(x.device)


def _translation(x: Tensor, generator: torch.Generator) -> Tensor:
    side = x.shape[-1]
    reach = round(side / 8)
    shift = _offsets(x, -reach, reach, generator) + reach
    steps = torch.arange(side, device=x.device)
    padded = functional.pad(x, (reach,) * 4)
    rows = (shift[:, :1] + steps)[:, None, :, None]
    columns = (shift[:, 1:] + steps)[:, None, None, :]
    here = torch.arange(len(x), device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[here, channels, rows, columns]


def _cutout(x: Tensor, generator: torch.Generator) -> Tensor:
    side = x.shape[-1]
    hole = round(side / 2)
    # the centre may lie anywhere, so a hole at the border is smaller
    start = _offsets(x, 0, side - hole % 2, generator) - hole // 2
    steps = torch.arange(side, device=x.device)
    inside = [(steps >= start[:, i : i + 1]) & (steps < start[:, i : i + 1] + hole) for i in (0, 1)]
    return x * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])
