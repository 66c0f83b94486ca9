"""Arrays of images in .npz files."""

import math
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from dcgan_eval.images.encoded import open_member
from dcgan_eval.images.source import (
    Images,
    as_codes,
    as_targets,
    class_names,
    file_digest,
    reading,
    split_name,
    take,
    title_of,
)
from dcgan_eval.runtime.errors import InputError


def open_npz(path: Path) -> dict[str, Images]:
    with reading(str(path)):
        archive = zipfile.ZipFile(path)
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    keys: dict[str, tuple[str, str, str]] = {}  # split: its images, its labels, how the names of its arrays end
    for x in members:
        if match := re.fullmatch(r"(?:(x|images)(?:_(\w+))?)|arr_0", x):
            split = split_name(match[2] or "all")
            if split in keys:
                raise InputError(f"{path}: {keys[split][0]!r} and {x!r} are both the split {split!r}; keep one")
            ending = x.removeprefix(match[1] or "arr_0")
            keys[split] = x, {"x": "y", "images": "labels", None: ""}[match[1]] + ending, ending
    if not keys:
        raise InputError(f"{path}: no x_train, x_test, x, images or arr_0 in it, but {', '.join(members) or 'nothing'}")
    arrays = {split: _npz_images(path, archive, members[x], x) for split, (x, _, _) in keys.items()}
    targets = {
        split: _npz_labels(path, archive, members[y], y, arrays[split][0][0]) if y in members else None
        for split, (_, y, _) in keys.items()
    }
    highest = max((int(labels.max()) for labels in targets.values() if labels is not None), default=-1)
    classes, digest = class_names(highest + 1, str(path)), file_digest(path)

    def images(split: str) -> Images:
        (n, c, h, w), load = arrays[split]
        title = title_of(path, split, list(keys))
        metadata = {
            name: cache(partial(_npz_metadata, path, archive, members[key], key, n))
            for name, key in _further(members, keys, split).items()
        }
        return Images(
            title, split, (c, h, w), targets[split], classes, n, lambda rows: take(load(), rows), digest,
            metadata=metadata,
        )  # fmt: skip

    return {split: images(split) for split in keys}


def _npz_images(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str
) -> tuple[tuple[int, int, int, int], Callable[[], Tensor]]:
    """((n, C, H, W), a function that loads all images when first called)."""
    where = f"{path}: {key}"
    dtype, shape = _npy_header(archive, info, where)
    if dtype != np.uint8:
        values = _npy_array(archive, info, where) if dtype.kind in "biuf" and 0 not in shape else np.zeros(1)
        low, high = values.min(), values.max()
        how = "x" if low < -1 or high > 1 else "x * 255" if low >= 0 else "(x + 1) * 127.5"
        raise InputError(f"{where} is {dtype} in [{low:g}, {high:g}]; save np.uint8(np.round({how})), within 0 to 255")
    grey, last, second = (
        len(shape) == 3,
        len(shape) == 4 and shape[-1] in (1, 3),
        len(shape) == 4 and shape[1] in (1, 3),
    )
    if 0 in shape or grey + last + second != 1:
        what = "could be NHWC or NCHW; give a .zip of images" if last and second else "is not NHWC, NCHW or NHW"
        raise InputError(f"{where} of shape {shape} {what} with 1 or 3 channels and n > 0")
    order = (0, 3, 1, 2) if last else (0, 1, 2, 3)
    n, c, h, w = (shape[0], 1, *shape[1:]) if grey else (shape[i] for i in order)

    @cache
    def load() -> Tensor:
        images = torch.from_numpy(_npy_array(archive, info, where))
        return (images[:, None] if grey else images.permute(order)).contiguous()

    return (n, c, h, w), load


def _further(members: Mapping[str, Any], keys: Mapping[str, tuple[str, str, str]], split: str) -> dict[str, str]:
    """Arrays of a split that are neither images nor labels, by the name that they have without the split's: src is
    src_train beside x_train, and src beside x."""
    taken = {name for x, y, _ in keys.values() for name in (x, y)}
    endings = [ending for *_, ending in keys.values()]
    here = keys[split][2]
    return {
        key.removesuffix(here): key
        for key in members
        if key not in taken and max((e for e in endings if key.endswith(e)), key=len, default=None) == here
    }


def _npz_metadata(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str, n: int) -> Tensor:
    return as_codes(_npz_column(path, archive, info, key, n, "biuSU", "integers or texts").tolist())


def _npz_column(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str, n: int, kinds: str, want: str
) -> np.ndarray:
    """An array (n,), after checking that it is one. kinds: those of its dtype; want: what they are called."""
    where = f"{path}: {key}"
    dtype, shape = _npy_header(archive, info, where)
    if dtype.kind not in kinds or shape not in ((n,), (n, 1)):
        raise InputError(f"{where} is {dtype} of shape {shape}; save {want} of shape ({n},), one for each image")
    return _npy_array(archive, info, where).reshape(-1)


def _npz_labels(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str, n: int) -> Tensor | None:
    where = f"{path}: {key}"
    labels = _npz_column(path, archive, info, key, n, "iu", "integers")
    if labels.min() < -1:
        raise InputError(f"{where}: a label is {labels.min()}; labels are class indices from 0, or -1 for none")
    class_names(int(labels.max()) + 1, where)
    return as_targets(labels)


def _npy_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """(dtype, shape), after checking that the member has that size: nothing is allocated on a header's word alone."""
    with reading(where), open_member(archive, info, where) as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(file)
        size = info.file_size - file.tell()
    if dtype.hasobject:
        raise InputError(f"{where} holds Python objects, which are never unpickled; save a plain array")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size:
        raise InputError(f"{where} claims {dtype} {shape}, but holds {size:,} bytes; save it anew")
    return dtype, shape


def _npy_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> np.ndarray:
    with reading(where), open_member(archive, info, where) as file:
        return npy.read_array(file, allow_pickle=False)
