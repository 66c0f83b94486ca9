"""Pictures."""

import io

import torch
from PIL import Image
from torch import Tensor

SHORTEST = 64  # pixels: smaller images are enlarged, each pixel to a square, until a person can see them


def grid(images: Tensor, columns: int, margin: int = 2) -> bytes:
    """A PNG of uint8 (n, 1 or 3, H, W) images in rows of `columns`, `margin` white pixels apart."""
    n, c, h, w = images.shape
    zoom = -(-SHORTEST // min(h, w))
    tiles = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    h, w, rows = h * zoom, w * zoom, -(-n // columns)
    sheet = torch.full((c, rows * (h + margin) - margin, columns * (w + margin) - margin), 255, dtype=torch.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (h + margin), i % columns * (w + margin)
        sheet[:, top : top + h, left : left + w] = tile
    picture = Image.fromarray(sheet.permute(1, 2, 0).numpy() if c == 3 else sheet[0].numpy())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
