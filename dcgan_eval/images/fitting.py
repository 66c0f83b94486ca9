"""Images of another shape than a network takes, made to fit it: for comparing sets, where resizing is usual."""

from dataclasses import replace

import torch
from torch import Tensor

from dcgan_eval.images.source import Images, Rows

CHUNK = 1024  # images resized at a time
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's mode L


def fitted(images: Images, shape: tuple[int | None, int | None, int | None]) -> tuple[Images, str]:
    """The images in this (C, H, W), where None is whatever they have, and what is done to them: '' where nothing is.

    Grey becomes RGB by replication and RGB grey by its luma; then the whole image is resized, bilinear and antialiased,
    and rounded to uint8.
    """
    c, h, w = (got if want is None else want for want, got in zip(shape, images.shape, strict=True))
    resizes = (h, w) != images.shape[1:]
    steps = []
    if c != images.shape[0]:
        steps.append("grey replicated to RGB" if c == 3 else "RGB made grey by its luma")
    if resizes:
        steps.append(f"{images.shape[1]}x{images.shape[2]} resized to {h}x{w}, bilinear, antialiased")
    if not steps:
        return images, ""

    def read(rows: Rows) -> Tensor:
        from torchvision.transforms.v2 import functional as transforms  # takes longer to import than all the rest

        x = images.read(rows)
        if c != images.shape[0]:
            x = x.expand(-1, 3, -1, -1) if c == 3 else _luma(x)
        return transforms.resize(x, [h, w], antialias=True) if resizes else x

    what = "; ".join(steps)
    return replace(
        images, shape=(c, h, w), read=read, selection=f"{images.selection}, {what} to {c}x{h}x{w}", survey=None
    ), what


def min_resized(images: Images, side: int) -> Images:
    """Short side to `side` pixels, antialiased bilinear, then the centre: the paper's "min-resized center crops"."""
    if images.shape[1:] == (side, side):
        return images

    def read(rows: Rows) -> Tensor:
        from torchvision.transforms.v2 import functional as transforms

        wanted = torch.arange(rows.start, rows.stop) if isinstance(rows, range) else rows
        out = torch.empty(len(wanted), images.shape[0], side, side, dtype=torch.uint8)
        for to, some in zip(torch.split(out, CHUNK), torch.split(wanted, CHUNK), strict=True):
            resized = transforms.resize(images.read(some), [side], antialias=True)
            to.copy_(transforms.center_crop(resized, [side, side]))
        return out

    selection = f"{images.selection}, fitted to {side}"
    return replace(images, shape=(images.shape[0], side, side), read=read, selection=selection, survey=None)


def _luma(images: Tensor) -> Tensor:
    return (images.float() * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True).round().to(torch.uint8)
