"""What a source of images is, and what all kinds of it share."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import ALONE, Ranks

Rows = range | Tensor  # which images, in which order: consecutive ones, or int64 (k,)

SPLITS = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}
MAX_CLASSES = 100_000
BLOCK = 128  # images a generator draws at a time


@dataclass(frozen=True, eq=False)
class Images:
    """One split of one source.

    name: what a report prints, such as 'CIFAR-10:test' or 'svhn-mini:train'; never a path.
    split: the name of the split; 'all' where the source has none.
    shape: (C, H, W) of every image.
    labels: int64 (n,), indices into `classes`, -1 where unlabelled; None if nothing is labelled.
    read: the images at given rows, uint8 (len(rows), C, H, W).
    digest: computes `sha256`, once.
    selection: '' for a whole split, else a digest of the rows that `subset` kept.
    survey: of encoded files that are a whole split: survey(progress, ranks) decodes all of them, with a bar on standard
        error if asked and each rank its share, and says which are broken and which have another shape than `shape`,
        which `read` refuses.
    metadata: what else the source records of each image, by name: further arrays of an .npz, further columns of a
        labels.csv. Each is read when it is called: int64 (n,), equal numbers for equal values; -1 where there is none.
        No part of the identity of the images.
    """

    name: str
    split: str
    shape: tuple[int, int, int]
    labels: Tensor | None
    classes: tuple[str, ...]
    n: int
    read: Callable[[Rows], Tensor]
    digest: Callable[[], str]
    selection: str = ""
    survey: "Callable[..., Survey] | None" = None
    metadata: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Identity of the source, wherever it lies: what `sha256sum` prints for a .zip or .npz, all splits alike.

        Of a folder: over the sorted names, sizes and bytes of its images and labels.csv. Of a named set: over the
        pixels and labels of the split (LSUN: over its keys, which are themselves hashes). Computed when first asked.
        """
        return self.digest()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the source, split, selection and n: equal only for the same images in the same order."""
        return sha256_of(f"{self.sha256}:{self.split}:{self.selection}:{self.n}".encode())

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """All images in order, uint8 (batch_size, C, H, W); the last batch may be short."""
        for start in range(0, self.n, batch_size):
            yield self.read(range(start, min(start + batch_size, self.n)))

    def tensor(self) -> Tensor:
        """All images as one uint8 (n, C, H, W) tensor. May share memory with the source: do not write to it."""
        return self.read(range(self.n))

    def subset(self, indices: Sequence[int] | np.ndarray | Tensor) -> "Images":
        """The images at these indices, in this order; the rest is never decoded. IndexError outside [0, n)."""
        picked = np.asarray(indices)
        if picked.ndim != 1 or (picked.size and (picked.dtype.kind not in "iu" or not within(picked, self.n))):
            raise IndexError(f"indices must be a list of integers in [0, {self.n}), got {picked.dtype} {picked.shape}")
        rows = torch.from_numpy(picked.astype(np.int64))
        return replace(
            self,
            labels=None if self.labels is None else self.labels[rows],
            n=len(rows),
            read=lambda some: self.read(take(rows, some)),
            selection=sha256_of(self.selection.encode() + rows.numpy().astype("<i8").tobytes()),
            survey=None,
            metadata={name: _rows_of(values, rows) for name, values in self.metadata.items()},
        )


def _rows_of(values: Callable[[], Tensor], rows: Tensor) -> Callable[[], Tensor]:
    return lambda: values()[rows]


class Survey(NamedTuple):
    """parts: rows, int64 (k,), and images of each shape there is. broken: files that cannot be read, and why."""

    parts: list[tuple[Tensor, Images]]
    broken: list[str]


def most_common_shape(images: Images, progress: bool = False, ranks: Ranks = ALONE) -> Images:
    """Those images that can be read and have the shape that most of them have. InputError where none can be read."""
    if images.survey is None:
        return images
    parts, broken = images.survey(progress, ranks)
    if not parts:
        raise InputError(f"{images.name}: no image can be read: {broken[0]}")
    return max((part for _, part in parts), key=lambda part: part.n)


def from_tensor(
    images: Tensor,
    labels: Tensor | None = None,
    *,
    name: str,
    split: str = "all",
    classes: tuple[str, ...] = (),
    metadata: Mapping[str, Tensor] | None = None,
) -> Images:
    """Images in memory: uint8 (n, C, H, W), labels int64 (n,) or None. `name` is printed as it is.

    metadata: by name, int64 (n,) each, such as the photograph that each image was cut from; -1 where there is none.
    Raises InputError for metadata of another shape or dtype.
    """
    n, c, h, w = images.shape
    for key, values in (metadata or {}).items():
        if values.dtype != torch.int64 or values.shape != (n,):
            got = f"{values.dtype} of shape {tuple(values.shape)}"
            raise InputError(f"{name}: the metadata {key!r} is {got}; want int64 ({n},), one for each image")
    known = {key: partial(lambda values: values, values) for key, values in (metadata or {}).items()}

    @cache
    def digest() -> str:
        content = hashlib.sha256(f"{tuple(images.shape)}".encode())
        content.update(np.ascontiguousarray(images.numpy()).data)
        content.update(b"" if labels is None else labels.numpy().astype("<i8").tobytes())
        return content.hexdigest()

    return Images(name, split, (c, h, w), labels, classes, n, lambda rows: take(images, rows), digest, metadata=known)


def generated(
    sample: Callable[[int, int], Tensor],
    n: int,
    *,
    name: str,
    sha256: str,
    shape: tuple[int, int, int],
    labels: Tensor | None = None,
    classes: int = 0,
) -> Images:
    """n images drawn from a generator, the same ones whatever the batch size and n.

    sample(start, count): images start, ..., start + count - 1 as uint8 (count, C, H, W), a function of its arguments
        alone. It is called on whole blocks only (start a multiple of `BLOCK`, count = `BLOCK`), because the rounding
        of a network, and the values of a random generator, may depend on how many are drawn at once.
    sha256: identity of what decides the images: checkpoint and seed. labels: int64 (n,), below `classes`.
    """

    @lru_cache(maxsize=1)
    def block(index: int) -> Tensor:
        images = sample(index * BLOCK, BLOCK).cpu()
        if images.dtype != torch.uint8 or images.shape != (BLOCK, *shape):
            raise ValueError(f"expected uint8 {(BLOCK, *shape)} of the sampler, got {images.dtype} {images.shape}")
        return images

    def read(rows: Rows) -> Tensor:
        wanted = torch.arange(rows.start, rows.stop) if isinstance(rows, range) else rows
        out = torch.empty(len(wanted), *shape, dtype=torch.uint8)
        for index in torch.unique(wanted // BLOCK).tolist():
            here = wanted // BLOCK == index
            out[here] = block(index)[wanted[here] % BLOCK]
        return out

    return Images(name, "all", shape, labels, class_names(classes, name), n, read, lambda: sha256)


def take(values: Tensor, rows: Rows) -> Tensor:
    return values[rows.start : rows.stop] if isinstance(rows, range) else values[rows]


def within(values: np.ndarray, n: int) -> bool:
    return bool(values.min() >= 0 and values.max() < n)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def split_name(name: str) -> str:
    return SPLITS.get(name.strip().lower(), name.strip().lower())


def split_order(split: str) -> tuple[int, str]:
    known = list(SPLITS.values())
    return known.index(split) if split in known else len(known), split


class UnreadableError(InputError):
    """Bytes that are not what they should be, as opposed to images of a kind that is refused. reason: in few words."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} cannot be read: {reason}; replace it")
        self.reason = reason


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Whatever a reader raises on bad bytes becomes an UnreadableError."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # parsers of hostile bytes raise nearly anything
        raise UnreadableError(where, one_line(error)) from error


def one_line(error: Exception) -> str:
    text = re.sub(r"<_io\.BytesIO[^>]*>", "", str(error))  # an address, which is another one every time
    return " ".join(text.split())[:200] or type(error).__name__


def file_digest(path: Path) -> Callable[[], str]:
    @cache
    def digest() -> str:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return digest


def title_of(path: Path, split: str, splits: Sequence[str]) -> str:
    """What reports call a split of this path: the stem."""
    name = path.resolve().name if path.is_dir() else path.stem
    return name if list(splits) == ["all"] else f"{name}:{split}"


def as_targets(labels: np.ndarray) -> Tensor | None:
    return torch.from_numpy(labels.astype(np.int64)) if labels.max() >= 0 else None


def as_codes(values: Sequence[int | str | bytes]) -> Tensor:
    """Integers or texts as int64 (n,): the place of each among the sorted values; -1 for -1 and empty texts."""
    known: list[Any] = sorted(set(values))
    codes = {value: i for i, value in enumerate(known)} | dict.fromkeys((-1, "", "-1", b"", b"-1"), -1)
    return torch.tensor([codes[value] for value in values], dtype=torch.int64)


def class_names(count: int, where: str) -> tuple[str, ...]:
    if count > MAX_CLASSES:
        raise InputError(f"{where}: a label is {count - 1}; labels are class indices below {MAX_CLASSES:,}")
    return tuple(str(i) for i in range(count))
