"""Images → features: what an extractor is, and `extract`, which runs one over a source and remembers the result.

An extractor takes uint8 (n, C, H, W) and gives float32 (n, d). How images are scaled and resized, and what network is
behind it, is its own affair; nobody downstream knows.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor
from tqdm import tqdm

from dcgan_eval.errors import InputError
from dcgan_eval.images import Images

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Function = Callable[[Tensor], Tensor]  # uint8 (n, C, H, W) → float32 (n, d), both on one device
Precision = Literal["float32", "bfloat16"]

CACHE_VERSION = 1  # of what the numbers in a file mean; raise it when any extractor changes what it computes
IN_MEMORY = 2 << 30  # bytes of features; more of them stay in the cache's file, mapped
CPU_CHUNK = 32  # images that a network sees at once on a CPU: their maps stay in its cache (3 times faster than 128)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Extractor:
    """A function from images to features, and what must be known to print a number that comes from it.

    name: what a table prints, such as 'pixels' or 'random:imagenet32'.
    protocol: one line with every setting that changes the features, and a short hash of the weights.
    fingerprint: SHA-256 over weights and settings, but not over batch size or device.
    input_shape: (C, H, W) of the images it takes; None where any size will do.
    slices: columns by layer, in order; {'all': ...} where there are no layers.
    on: the function on that device. Work that needs to be done once per device is done at the first call.
    group: 1 where the features of an image depend on that image alone; otherwise on those it shares its group of so
        many consecutive images with, and batches must hold whole groups (only the last one may be short).
    dtype: that the network multiplies in; features are float32 all the same.
    """

    name: str
    protocol: str
    fingerprint: str
    input_shape: tuple[int | None, int | None, int | None]
    slices: Mapping[str, slice]
    on: Callable[[torch.device], Function]
    group: int = 1
    dtype: Precision = "float32"

    @property
    def dimensions(self) -> int:
        """d, the number of features of one image."""
        return max(columns.stop for columns in self.slices.values())

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raises InputError unless images of this (C, H, W) fit."""
        if any(want not in (None, got) for want, got in zip(self.input_shape, shape, strict=True)):
            want = "x".join("any" if side is None else str(side) for side in self.input_shape)
            raise InputError(
                f"{self.name} takes images of {want} (channels x height x width), but these are "
                f"{'x'.join(map(str, shape))}; resize or convert them first, or choose other features"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) → float32 (n, d), on the images' device. Raises InputError for the wrong shape."""
        self.check((images.shape[1], images.shape[2], images.shape[3]))
        # TF32 keeps 10 bits; features that are called float32 keep 23
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), torch.inference_mode():
            return self.on(images.device)(images)


def extract(
    extractor: Extractor,
    images: Images,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    cache: Path | None = None,
    progress: bool = False,
) -> Tensor:
    """The features of all images in order, float32 (n, d) on the CPU; the same, to rounding, for any batch size.

    cache: a folder of features found before, one .npy each, named by extractor and images. An interrupted extraction
        goes on where it stopped; of several processes that want the same features one computes and the others wait.
        Features larger than `IN_MEMORY` are then not loaded, but mapped from their file (writes to them stay private).
        Without POSIX file locks (Windows) nothing is cached.
    progress: a bar on standard error.
    Raises InputError if the images do not fit, a feature is not finite, or the cache cannot be used.
    """
    device = torch.device(device)
    batch_size = _whole_groups(extractor, images, batch_size)
    if cache is None or fcntl is None:
        features = torch.empty(images.n, extractor.dimensions)
        at = 0
        for block in _blocks(extractor, images, 0, batch_size, device, progress):
            features[at : at + len(block)] = block
            at += len(block)
        return features
    key = json.dumps([CACHE_VERSION, extractor.fingerprint, images.fingerprint])
    path = Path(cache) / f"{hashlib.sha256(key.encode()).hexdigest()}.npy"
    shape = (images.n, extractor.dimensions)
    try:
        if not _is_whole(path, shape):
            if path.exists():
                _log.warning("%s: damaged; its features are computed again", path)
            path.parent.mkdir(parents=True, exist_ok=True)
            with _partial(path) as file:
                if _is_whole(path, shape):  # another process has finished it while this one waited
                    os.unlink(file.name)
                else:
                    _append_missing(file, extractor, images, batch_size, device, progress)
                    os.replace(file.name, path)
        large = shape[0] * shape[1] * 4 > IN_MEMORY
        return torch.from_numpy(np.load(path, mmap_mode="c" if large else None, allow_pickle=False))
    except OSError as error:
        raise InputError(f"{path}: the cache of features cannot be used: {error.strerror or error}") from error


def feature_blocks(
    extractor: Extractor,
    images: Images,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    cache: Path | None = None,
    progress: bool = False,
) -> Iterator[Tensor]:
    """The same a batch after the other, float32 (b, d) on the CPU, so that no more than one need be in memory."""
    if cache is not None:
        features = extract(extractor, images, batch_size=batch_size, device=device, cache=cache, progress=progress)
        return iter(torch.split(features, batch_size))
    size = _whole_groups(extractor, images, batch_size)
    return _blocks(extractor, images, 0, size, torch.device(device), progress)


def _whole_groups(extractor: Extractor, images: Images, batch_size: int) -> int:
    """So that features which depend on their group do not depend on the batch size."""
    extractor.check(images.shape)
    if batch_size < 1:
        raise InputError(f"batch size {batch_size}: must be at least 1")
    return -(-batch_size // extractor.group) * extractor.group


def fingerprint(settings: Mapping[str, Any], arrays: Mapping[str, Tensor] | None = None) -> str:
    """SHA-256 over settings (JSON values) and named arrays."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, array in (arrays or {}).items():
        digest.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        digest.update(array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _blocks(
    extractor: Extractor, images: Images, start: int, batch_size: int, device: torch.device, progress: bool
) -> Iterator[Tensor]:
    """Features from image `start` on, float32 (batch_size, d) at a time, on the CPU."""
    if start >= images.n:
        return
    reads = (images.read(range(i, min(i + batch_size, images.n))) for i in range(start, images.n, batch_size))
    name = extractor.name
    with tqdm(total=images.n, initial=start, desc=name, unit="image", leave=False, disable=not progress) as bar:
        # on a CPU, decoding ahead would only take the cores from the network
        for batch in reads if device.type == "cpu" else _ahead(reads):
            block = extractor(batch.to(device)).cpu()
            if not bool(torch.isfinite(block).all()):
                raise InputError(f"{name}: features of {images.name} are not finite; its weights have diverged")
            yield block
            bar.update(len(block))


def _ahead(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same batches, the next one read while the last one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


# the cache: whole features are KEY.npy; KEY.partial is the same file while rows are still being appended to it


def _header(shape: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    """Whether the file holds what it should, to its last byte."""
    header = _header(shape)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return file.read(len(header)) == header and size == len(header) + shape[0] * shape[1] * 4
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[IO[bytes]]:
    """The file that becomes `path`, for this process alone until the block ends; whoever else has it is waited for."""
    partial = path.with_suffix(".partial")
    while True:
        with open(partial, "a+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.warning("%s: another process is computing these features; waiting for it", partial)
                fcntl.flock(file, fcntl.LOCK_EX)
            # whoever had the lock may since have renamed the file that was opened here
            if _is_at(file, partial):
                yield file
                return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _append_missing(
    file: IO[bytes], extractor: Extractor, images: Images, batch_size: int, device: torch.device, progress: bool
) -> None:
    header, row = _header((images.n, extractor.dimensions)), extractor.dimensions * 4
    file.seek(0)
    done = 0
    if file.read(len(header)) == header:
        # the file's length is the only counter: a row that an interruption cut short is written again
        done = min((file.seek(0, os.SEEK_END) - len(header)) // row, images.n)
        done -= done % extractor.group if done < images.n else 0
        file.truncate(len(header) + done * row)
    else:
        file.truncate(0)
        file.write(header)
    file.seek(0, os.SEEK_END)
    for block in _blocks(extractor, images, done, batch_size, device, progress):
        data = block.contiguous().numpy().data.cast("B")
        while len(data):  # unbuffered: a write may be short
            data = data[file.write(data) :]
    os.fsync(file.fileno())
