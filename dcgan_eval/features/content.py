"""A hash of the pixels that an extractor is given, after decoding and resizing: of these images in this order.

Two machines whose decoders differ read other pixels from the same files; results say so by this hash. It is found while
features are extracted, at no cost; where they come from a cache it is kept beside them, or else images are read again.
"""

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from dcgan_eval.images import Images
from dcgan_eval.runtime.files import write_whole
from dcgan_eval.runtime.run import Run

BATCH = 256  # images that are read at a time
_MODULUS = 1 << 256

_seen: dict[tuple[str, int], tuple[int, int]] = {}  # by images and first row: the row after the last, and their sum


def hashed(batch: Tensor, start: int) -> int:
    """The sum of the SHA-256 of every image, uint8 (b, C, H, W), each with its place from `start` on."""
    total = 0
    for place, image in enumerate(batch.cpu().contiguous(), start):
        digest = hashlib.sha256(place.to_bytes(8, "little"))
        digest.update(image.numpy().data)
        total += int.from_bytes(digest.digest(), "little")
    return total % _MODULUS


def remember(images: Images, rows: range, total: int) -> None:
    """That the images of these rows have this sum."""
    _seen[images.fingerprint, rows.start] = (rows.stop, total)


def pixel_hash(images: Images, rows: range, run: Run) -> str:
    """SHA-256 of all images' pixels, 64 hexadecimal digits; the same for any batch size and number of ranks.

    images: as an extractor takes them. rows: those of this rank. run: its cache keeps the hash, its ranks share the
    work, and all of them must call this together.
    """
    kept = None if run.cache is None else _file(run.cache, images, rows)
    total = _remembered(images, rows)
    if total is None and kept is not None and kept.is_file():
        total = int(kept.read_text(encoding="ascii"), 16)
    if total is None:
        total = 0
        for first in range(rows.start, rows.stop, BATCH):
            total += hashed(images.read(range(first, min(first + BATCH, rows.stop))), first)
        remember(images, rows, total % _MODULUS)
    if kept is not None and kept.parent.is_dir() and not kept.is_file():
        write_whole(kept, f"{total % _MODULUS:064x}")
    own = torch.tensor(list((total % _MODULUS).to_bytes(32, "little")), dtype=torch.uint8)
    parts = run.ranks.gathered(own[None])
    whole = sum(int.from_bytes(bytes(part.tolist()), "little") for part in parts) % _MODULUS
    shape = json.dumps([images.n, *images.shape]).encode()
    return hashlib.sha256(shape + whole.to_bytes(32, "little")).hexdigest()


def _remembered(images: Images, rows: range) -> int | None:
    """Of the rows, where what was seen of these images covers them without a gap."""
    total, at = 0, rows.start
    while at < rows.stop:
        if (images.fingerprint, at) not in _seen:
            return None
        at, part = _seen[images.fingerprint, at]
        total += part
    return total if at == rows.stop else None


def _file(folder: Path, images: Images, rows: range) -> Path:
    key = json.dumps(["pixels", images.fingerprint, rows.start, rows.stop])
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()}.pixels"
