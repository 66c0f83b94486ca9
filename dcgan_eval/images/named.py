"""Sets that have a name."""

import pickletools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcgan_eval.images.encoded import bounded_files, decoder, folder_files
from dcgan_eval.images.source import Images, as_targets, from_tensor, one_line, sha256_of, within
from dcgan_eval.runtime.errors import InputError, nearest

SETS = {  # name in reports: splits, those opened when none is named first
    "digits": ("train", "test"),
    "MNIST": ("train", "test"),
    "FashionMNIST": ("train", "test"),
    "CIFAR-10": ("train", "test"),
    "CIFAR-100": ("train", "test"),
    "SVHN": ("train", "test", "extra"),
    "STL-10": ("train", "test", "unlabeled"),
    "CelebA": ("train", "valid", "test", "all"),
    "LSUN": (),  # one per category, e.g. bedroom_train
}
ON_REQUEST = ("extra", "unlabeled", "all")


def named_splits(named: str, split: str, root: Path) -> list[str]:
    if named == "LSUN":
        have = sorted(p.name.removesuffix("_lmdb") for p in root.glob("*_lmdb"))
        if split not in have:
            why = f"{root} holds {', '.join(have) or 'none'} (NAME_lmdb); download LSUN from its site"
            raise InputError(f"LSUN: no category {split!r}, as in LSUN:bedroom_train; {why}")
        return [split]
    if split and split not in SETS[named]:
        raise InputError(f"{named}: no split {split!r}{nearest(split, SETS[named])}")
    return [split] if split else [s for s in SETS[named] if s not in ON_REQUEST]


def open_named(named: str, split: str, root: Path, download: bool) -> Images:
    try:
        if named == "digits":
            return _digits(split)
        if named == "LSUN":
            return _lsun(split, root)
        return _torchvision(named, split, root, download)
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{named}: needs the package {error.name}; run pip install {error.name}") from error
    except Exception as error:  # torchvision and the readers of its files raise nearly anything
        if download:
            raise InputError(f"{named}: could not be downloaded into {root}: {one_line(error)}") from error
        advice = "name the right folder with `data_root`, or fetch it with `download`"
        raise InputError(f"{named}: not in {root}, or not whole; {advice} ({one_line(error)})") from error


def _named_images(named: str, split: str, images: Any, labels: Any, classes: Sequence[str]) -> Images:
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    targets = np.asarray(labels, np.int64)
    if pixels.dtype != torch.uint8 or len(targets) != len(pixels) or not within(targets + 1, len(classes) + 1):
        raise ValueError(f"{pixels.dtype} images {tuple(pixels.shape)}, labels {targets.shape} of {classes}")
    return from_tensor(pixels, as_targets(targets), name=f"{named}:{split}", split=split, classes=tuple(classes))


def _digits(split: str) -> Images:
    from sklearn.datasets import load_digits

    found = load_digits()
    # 1,797 images without an official split (all are the test part of UCI's optdigits): the halves of scikit-learn's
    # own example, plot_digits_classification, so that its published result can be compared
    half = slice(0, 898) if split == "train" else slice(898, None)
    images = np.round(found.images[half, None] * (255 / 16)).astype(np.uint8)
    return _named_images("digits", split, images, found.target[half], "0123456789")


def _torchvision(named: str, split: str, root: Path, download: bool) -> Images:
    from torchvision import datasets

    if named.startswith("CIFAR"):
        return _cifar(named, split, root, download)
    if named == "CelebA":
        names = list(datasets.CelebA(root, split=split, target_type=[], download=download).filename)
        files = folder_files(root / "celeba" / "img_align_celeba")
        if missing := set(names) - set(files.names):
            raise FileNotFoundError(f"{len(missing)} images are missing, such as {min(missing)}")
        shape, read = decoder(files, names, names[0])
        return Images(f"{named}:{split}", split, shape, None, (), len(names), read, files.digest)
    if named == "SVHN":
        found = datasets.SVHN(root, split=split, download=download)
        return _named_images(named, split, found.data, found.labels, "0123456789")
    if named == "STL-10":
        found = datasets.STL10(root, split=split, download=download)
        return _named_images(named, split, found.data, found.labels, found.classes)
    kind = datasets.MNIST if named == "MNIST" else datasets.FashionMNIST
    found = kind(root, train=split == "train", download=download)
    return _named_images(
        named, split, found.data[:, None], found.targets, "0123456789" if named == "MNIST" else found.classes
    )


def _cifar(named: str, split: str, root: Path, download: bool) -> Images:
    from torchvision.datasets import CIFAR10, CIFAR100, utils

    kind = CIFAR10 if named == "CIFAR-10" else CIFAR100
    batches = kind.train_list if split == "train" else kind.test_list
    wanted = [*batches, (kind.meta["filename"], kind.meta["md5"])]
    folder = root / kind.base_folder
    if download and not all(utils.check_integrity(folder / file, md5) for file, md5 in wanted):
        utils.download_and_extract_archive(kind.url, root, filename=kind.filename, md5=kind.tgz_md5)
    for file, md5 in wanted:
        if not utils.check_integrity(folder / file, md5):
            raise FileNotFoundError(f"{kind.base_folder}/{file} is missing or not the published file")
    fields = [_cifar_fields(folder / file) for file, _ in batches]
    images = [np.frombuffer(f["data"][-1].encode("latin-1"), np.uint8) for f in fields]
    labels = [label for f in fields for label in f["labels" if named == "CIFAR-10" else "fine_labels"]]
    classes = _cifar_fields(folder / kind.meta["filename"])[kind.meta["key"]]
    return _named_images(named, split, np.concatenate(images).reshape(-1, 3, 32, 32), labels, classes)


def _cifar_fields(path: Path) -> dict[str, list[Any]]:
    """The integers and strings that follow each key of a CIFAR file; those of 'data' end with the pixels.

    The files are pickles of a dict of lists and one uint8 array in C order. Their opcodes are listed here, and none
    is run, so that nothing is unpickled.
    """
    keys = ("data", "labels", "fine_labels", "coarse_labels", "filenames", "batch_label", "label_names",
            "fine_label_names", "coarse_label_names", "num_cases_per_batch", "num_vis")  # fmt: skip
    fields: dict[str, list[Any]] = {}
    values: list[Any] = []
    with open(path, "rb") as file:
        for opcode, value, _ in pickletools.genops(file):
            if value in keys and "STRING" in opcode.name:
                values = fields.setdefault(str(value), [])
            elif "STRING" in opcode.name or opcode.name.startswith("BININT"):
                values.append(value)
    return fields


def _lsun(split: str, root: Path) -> Images:
    """The database of one category. Its images have short sides of 256 pixels; the centre 256 by 256 is taken."""
    import lmdb

    folder = root / f"{split}_lmdb"
    database = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
    with database.begin() as view:
        names = [key.decode("latin-1") for key in view.cursor().iternext(keys=True, values=False)]

    def load(name: str) -> bytes:
        with database.begin() as view:
            return bytes(view.get(name.encode("latin-1")))

    files = bounded_files(str(folder), [], [], load, cache(lambda: sha256_of("\n".join(names).encode())))
    shape, read = decoder(files, names, names[0], crop=256)
    return Images(f"LSUN:{split}", split, shape, None, (), len(names), read, files.digest)
