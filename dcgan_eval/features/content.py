"""A hash of the pixels that an extractor was given: of these images, as they were decoded, in this order.

Two machines whose decoders differ read other pixels from the same files; results say so by this hash. It is taken of
the very batches that features are computed from, and kept beside them in a cache.
"""

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from dcgan_eval.images import Images
from dcgan_eval.runtime.files import write_whole
from dcgan_eval.runtime.ranks import ALONE, Ranks

UNKNOWN = "-"
_MODULUS = 1 << 256


class PixelHash:
    """The sum of the SHA-256 of images, each with its place: free of batches, ranks, and the order they come in.

    count: images that were added. total: their sum, below 2²⁵⁶.
    """

    def __init__(self, count: int = 0, total: int = 0) -> None:
        self.count, self.total = count, total

    def add(self, batch: Tensor, start: int) -> None:
        """Adds images, uint8 (b, C, H, W) on the CPU, whose places are `start` and on."""
        for place, image in enumerate(batch.contiguous(), start):
            digest = hashlib.sha256(place.to_bytes(8, "little"))
            digest.update(image.numpy().data)
            self.total += int.from_bytes(digest.digest(), "little")
        self.count, self.total = self.count + len(batch), self.total % _MODULUS

    def merge(self, other: "PixelHash") -> None:
        """Adds the images of another."""
        self.count, self.total = self.count + other.count, (self.total + other.total) % _MODULUS

    def keep(self, features: Path) -> None:
        """Writes it beside a file of features. Raises OSError."""
        write_whole(features.with_suffix(".pixels"), f"{self.count} {self.total:064x}\n")

    @classmethod
    def kept(cls, features: Path) -> "PixelHash":
        """What stands beside a file of features; of no images where nothing readable does."""
        try:
            count, total = features.with_suffix(".pixels").read_text(encoding="ascii").split()
            return cls(int(count), int(total, 16))
        except (OSError, ValueError):
            return cls()

    def digest(self, images: Images, ranks: Ranks = ALONE) -> str:
        """SHA-256 of all the images, 64 hexadecimal digits; '-' where some were not added.

        ranks: each has added images of its own; all must call this together.
        """
        own = self.count.to_bytes(8, "little") + self.total.to_bytes(32, "little")
        parts = [bytes(part.tolist()) for part in ranks.gathered(torch.tensor([list(own)], dtype=torch.uint8))]
        if sum(int.from_bytes(part[:8], "little") for part in parts) != images.n:
            return UNKNOWN
        total = sum(int.from_bytes(part[8:], "little") for part in parts) % _MODULUS
        shape = json.dumps([images.n, *images.shape]).encode()
        return hashlib.sha256(shape + total.to_bytes(32, "little")).hexdigest()
