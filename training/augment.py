"""Differentiable augmentation of what D sees (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN
Training", section 3.2), with the ranges of the authors' mit-han-lab/data-efficient-gans."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Draws:
    """Random numbers for a minibatch of n images, of which `share` are at hand: each rank draws those of all."""

    generator: torch.Generator
    n: int
    share: slice

    def uniform(self, like: Tensor) -> Tensor:
        """(share, 1, 1, 1) in [0, 1)."""
        return torch.rand(self.n, 1, 1, 1, generator=self.generator)[self.share].to(like)

    def offsets(self, low: int, high: int, device: torch.device) -> Tensor:
        """(share, 2) integers in [low, high], for rows and columns."""
        return torch.randint(low, high + 1, (self.n, 2), generator=self.generator)[self.share].to(device)


def augment(images: Tensor, names: Sequence[str], draws: Draws) -> Tensor:
    """Float (share, c, side, side) → the same shape, each image changed in its own way, gradients kept.

    color: brightness ± ½, saturation × 0 to 2, contrast × ½ to 3/2. translation: by up to an eighth of the side, zeros
    behind. cutout: a square of half the side is set to zero.
    """
    for name in names:
        images = {"color": _color, "translation": _translation, "cutout": _cutout}[name](images, draws)
    return images


def _color(x: Tensor, draws: Draws) -> Tensor:
    x = x + (draws.uniform(x) - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (draws.uniform(x) * 2) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (draws.uniform(x) + 0.5) + mean


def _translation(x: Tensor, draws: Draws) -> Tensor:
    side = x.shape[-1]
    reach = int(side / 8 + 0.5)
    shift = draws.offsets(-reach, reach, x.device) + reach
    steps = torch.arange(side, device=x.device)
    padded = functional.pad(x, (reach,) * 4)
    rows = (shift[:, :1] + steps)[:, None, :, None]
    columns = (shift[:, 1:] + steps)[:, None, None, :]
    here = torch.arange(len(x), device=x.device)[:, None, None, None]
    channels = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[here, channels, rows, columns]


def _cutout(x: Tensor, draws: Draws) -> Tensor:
    side = x.shape[-1]
    hole = int(side / 2 + 0.5)
    # the centre may lie anywhere, so a hole at the border is smaller
    start = draws.offsets(0, side - hole % 2, x.device) - hole // 2
    steps = torch.arange(side, device=x.device)
    inside = [(steps >= start[:, i : i + 1]) & (steps < start[:, i : i + 1] + hole) for i in (0, 1)]
    return x * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])
