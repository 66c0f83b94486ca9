"""Images → features: what an extractor is, and `extract`, which runs one over a source and remembers the result.

An extractor takes uint8 (n, C, H, W) and gives float32 (n, d). How images are scaled and resized, and what network is
behind it, is its own affair; nobody downstream knows.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dcgan_eval.features import store
from dcgan_eval.features.content import PixelHash
from dcgan_eval.images import Images
from dcgan_eval.options import Precision
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.ranks import Ranks
from dcgan_eval.runtime.run import HERE, Run

Function = Callable[[Tensor], Tensor]  # uint8 (n, C, H, W) → float32 (n, d), both on one device

CACHE_VERSION = 1  # of what the numbers in a file mean; raise it when any extractor changes what it computes
IN_MEMORY = 2 << 30  # bytes of features; more of them stay in the cache's file, mapped
CPU_CHUNK = 32  # images that a network sees at once on a CPU: their maps stay in its cache (3 times faster than 128)
SHARDS, SHARD_ROWS = 256, 1024  # files that ranks share the features of one set in, about; and their largest size


@dataclass(frozen=True, eq=False)
class Extractor:
    """A function from images to features, and what must be known to print a number that comes from it.

    name: what a table prints, such as 'pixels' or 'random:imagenet32'.
    protocol: one line with every setting that changes the features, and a short hash of the weights.
    fingerprint: SHA-256 over weights and settings, but not over batch size or device.
    input_shape: (C, H, W) of the images it takes; None where any size will do.
    slices: columns by layer, in order; {'all': ...} where there are no layers. Where columns are not all of the
        features, such as logits or layers that come along, these are those of 'all' or 'pool'.
    on: the function on that device. Work that needs to be done once per device is done at the first call.
    group: 1 where the features of an image depend on that image alone; otherwise on those it shares its group of so
        many consecutive images with, and batches must hold whole groups (only the last one may be short).
    dtype: that the network multiplies in; features are float32 all the same.
    batchnorm: where the statistics of BatchNorm layers are from, '' where there are none.
    trained_on: the images that the weights have seen, with labels or without; 'nothing', or 'unknown'.
    """

    name: str
    protocol: str
    fingerprint: str
    input_shape: tuple[int | None, int | None, int | None]
    slices: Mapping[str, slice]
    on: Callable[[torch.device], Function]
    group: int = 1
    dtype: Precision = "float32"
    batchnorm: str = ""
    trained_on: str = "unknown"

    @property
    def dimensions(self) -> int:
        """d, the number of features of one image."""
        return max(columns.stop for columns in self.slices.values())

    @property
    def features(self) -> slice:
        """The columns that are the features of an image when no layer is asked for."""
        return self.slices.get("all", self.slices.get("pool", slice(0, self.dimensions)))

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
        with exact(), torch.inference_mode():
            return self.on(images.device)(images)


def extract(
    extractor: Extractor,
    images: Images,
    run: Run = HERE,
    pixels: PixelHash | None = None,
) -> Tensor:
    """The features of all images in order, float32 (n, d) on the CPU; the same, to rounding, for any batch size.

    run.cache: holds one .npy for each pair of extractor and images. An interrupted extraction goes on where it stopped;
        of several processes that want the same features one computes and the others wait. Features larger than
        `IN_MEMORY` are then not loaded, but mapped from their file (writes to them stay private). Without POSIX file
        locks (Windows) nothing is cached.
    run.ranks: each gets the rows `share` says, and computes no others. In a cache they are files of about `SHARD_ROWS`
        or fewer, so that an interrupted extraction goes on with any number of ranks; one process joins the whole ones.
    pixels: is given what images these features were computed from, as far as that is known.
    Raises InputError if the images do not fit, a feature is not finite, or the cache cannot be used.
    """
    work = _Extraction(extractor, images, _whole_groups(extractor, images, run.batch_size), torch.device(run.device))
    rows = share(extractor, images, run.ranks)
    _check_same(extractor, images, run.ranks)
    with work.bar(len(rows), run.progress) as bar:
        if run.cache is None or not store.LOCKS:
            return _filled(len(rows), extractor.dimensions, work.blocks(rows, bar, pixels))
        try:
            return _cached(work, run.cache, rows, run.ranks, bar, pixels or PixelHash())
        except OSError as error:
            raise InputError(f"{run.cache}: the cache of features cannot be used: {error.strerror or error}") from error


def feature_blocks(
    extractor: Extractor,
    images: Images,
    run: Run = HERE,
    pixels: PixelHash | None = None,
) -> Iterator[Tensor]:
    """The same a batch after the other, float32 (b, d) on the CPU, so that no more than one need be in memory; with a
    cache and several ranks, those of this rank."""
    size = _whole_groups(extractor, images, run.batch_size)
    if run.cache is not None:
        yield from torch.split(extract(extractor, images, run, pixels), size)
        return
    _check_same(extractor, images, run.ranks)
    rows, work = share(extractor, images, run.ranks), _Extraction(extractor, images, size, torch.device(run.device))
    with work.bar(len(rows), run.progress) as bar:
        yield from work.blocks(rows, bar, pixels)


def share(extractor: Extractor, images: Images, ranks: Ranks) -> range:
    """The images whose features `extract` and `feature_blocks` give this rank: whole groups, and whole shards."""
    return ranks.share(images.n, _shard(extractor, images))


def _check_same(extractor: Extractor, images: Images, ranks: Ranks) -> None:
    if ranks.world > 1:
        ranks.check_same(extractor.name, extractor.fingerprint)
        ranks.check_same(images.name, images.fingerprint)


def _shard(extractor: Extractor, images: Images) -> int:
    """Rows of one file, whatever the number of ranks."""
    least = extractor.group if extractor.group > 1 else CPU_CHUNK
    return -(-min(SHARD_ROWS, -(-images.n // SHARDS)) // least) * least or least


def _whole_groups(extractor: Extractor, images: Images, batch_size: int) -> int:
    """So that features which depend on their group do not depend on the batch size."""
    extractor.check(images.shape)
    return -(-batch_size // extractor.group) * extractor.group


def fingerprint(settings: Mapping[str, Any], arrays: Mapping[str, Tensor] | None = None) -> str:
    """SHA-256 over settings (JSON values) and named arrays."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, array in (arrays or {}).items():
        digest.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        digest.update(array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Extraction:
    """One extraction."""

    extractor: Extractor
    images: Images
    batch_size: int
    device: torch.device

    def bar(self, n: int, progress: bool) -> Any:
        return tqdm(total=n, desc=self.extractor.name, unit="image", leave=False, disable=not progress)

    def blocks(self, rows: range, bar: Any, pixels: PixelHash | None = None) -> Iterator[Tensor]:
        """Features of these images, float32 (batch_size, d) at a time, on the CPU."""
        if not rows:
            return

        def read(start: int) -> Tensor:
            batch = self.images.read(range(start, min(start + self.batch_size, rows.stop)))
            if pixels is not None:
                pixels.add(batch, start)
            return batch

        reads = map(read, range(rows.start, rows.stop, self.batch_size))
        # on a CPU, decoding ahead would only take the cores from the network
        for batch in reads if self.device.type == "cpu" else _ahead(reads):
            block = self.extractor(batch.to(self.device)).cpu()
            if not bool(torch.isfinite(block).all()):
                what = f"features of {self.images.name} are not finite; its weights have diverged"
                raise InputError(f"{self.extractor.name}: {what}")
            yield block
            bar.update(len(block))

    def file(self, folder: Path, *rows: int) -> Path:
        """Of all features, or of rows [start, stop)."""
        key = json.dumps([CACHE_VERSION, self.extractor.fingerprint, self.images.fingerprint, *rows])
        return folder / f"{hashlib.sha256(key.encode()).hexdigest()}.npy"


def _ahead(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same batches, the next one read while the last one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _filled(n: int, dimensions: int, blocks: Iterator[Tensor]) -> Tensor:
    features, at = torch.empty(n, dimensions), 0
    for block in blocks:
        features[at : at + len(block)] = block
        at += len(block)
    return features


def _cached(work: _Extraction, folder: Path, rows: range, ranks: Ranks, bar: Any, pixels: PixelHash) -> Tensor:
    n, d, group = work.images.n, work.extractor.dimensions, work.extractor.group
    size = _shard(work.extractor, work.images)
    shards = [range(start, min(start + size, n)) for start in range(0, n, size)]
    path = work.file(folder)

    def found(shard: range) -> bool:
        return store.is_whole(work.file(folder, shard.start, shard.stop), (len(shard), d))

    if ranks.world == 1 or store.is_whole(path, (n, d)):
        own = PixelHash()

        def rest(done: int) -> Iterator[Tensor]:
            """Rows from `done` on, from the shards that ranks have left or else computed."""
            bar.initial = done  # no part of its rate
            bar.update(done)
            at = done
            for shard in filter(found, shards):
                if shard.start >= at:
                    yield from work.blocks(range(at, shard.start), bar, own)
                    part = work.file(folder, shard.start, shard.stop)
                    own.merge(PixelHash.kept(part))
                    yield _load(part, mapped=True)
                    at = shard.stop
                    bar.update(len(shard))
            yield from work.blocks(range(at, n), bar, own)

        if not store.is_whole(path, (n, d)):
            path.with_suffix(".pixels").unlink(missing_ok=True)  # of features that were damaged
            store.complete(path, (n, d), group, rest)
            if own.count == n:
                own.keep(path)
            for shard in shards:
                part = work.file(folder, shard.start, shard.stop)
                for file in (part, part.with_suffix(".partial"), part.with_suffix(".pixels")):
                    file.unlink(missing_ok=True)
        if ranks.first:
            pixels.merge(PixelHash.kept(path))
        return _load(path, mapped=ranks.world > 1 or n * d * 4 > IN_MEMORY)[rows.start : rows.stop]

    def mine() -> Iterator[Tensor]:
        for shard in (some for some in shards if some.start in rows):
            part = work.file(folder, shard.start, shard.stop)

            own = PixelHash()

            def missing(done: int, shard: range = shard, own: PixelHash = own) -> Iterator[Tensor]:
                bar.update(done)
                yield from work.blocks(shard[done:], bar, own)

            if not found(shard):
                part.with_suffix(".pixels").unlink(missing_ok=True)
            store.complete(part, (len(shard), d), group, missing)
            if own.count == len(shard):
                own.keep(part)
            pixels.merge(PixelHash.kept(part))
            yield _load(part)

    return _filled(len(rows), d, mine())


def _load(path: Path, mapped: bool = False) -> Tensor:
    return torch.from_numpy(np.load(path, mmap_mode="c" if mapped else None, allow_pickle=False))
