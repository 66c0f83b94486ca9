"""Sources of images: named data sets, folders, .zip and .npz files, samples of a generator.

Whatever the source, images are uint8 (n, C, H, W) tensors on the CPU with C = 1 (grey) or 3 (RGB) and one size,
in a fixed order. Nothing is resized or unpickled, and no archive that is given is extracted to disk.
"""

import csv
import hashlib
import io
import math
import os
import pickletools
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image
from torch import Tensor

from dcgan_eval.errors import InputError, nearest

Rows = range | Tensor  # which images, in which order: consecutive ones, or int64 (k,)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SPLITS = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}
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
PUBLISHED = {  # files that have a name of their own, by size and SHA-256: the size saves hashing all others
    (62345551, "a47f5a21bd22692d648f6b3bd6f002e0046ad94dbb4bf31946b039f2b4406564"): "CIFAR-10-JPEG",
}
MAX_BYTES = 256 << 20  # of one image file or labels.csv
MAX_PIXELS = 1 << 24  # of one image
MAX_MEMBERS = 5_000_000  # of one .zip
MAX_RATIO, RATIO_FROM = 200, 256 << 20  # a member larger than this may not expand further than that
MAX_CLASSES = 100_000
BLOCK = 128  # images a generator draws at a time
THREADS = min(4, os.cpu_count() or 1)  # decoding holds the interpreter half of the time


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
        return _sha256(f"{self.sha256}:{self.split}:{self.selection}:{self.n}".encode())

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
        if picked.ndim != 1 or (picked.size and (picked.dtype.kind not in "iu" or not _within(picked, self.n))):
            raise IndexError(f"indices must be a list of integers in [0, {self.n}), got {picked.dtype} {picked.shape}")
        rows = torch.from_numpy(picked.astype(np.int64))
        return replace(
            self,
            labels=None if self.labels is None else self.labels[rows],
            n=len(rows),
            read=lambda some: self.read(_take(rows, some)),
            selection=_sha256(self.selection.encode() + rows.numpy().astype("<i8").tobytes()),
        )


def open_images(spec: str, *, root: Path = Path("data"), download: bool = False) -> dict[str, Images]:
    """Every split of a source, or the one that `spec` names: {'train': ..., 'test': ...}, {'all': ...}.

    spec: NAME[:split] of a named set (`SETS`, whatever the case and hyphens), or PATH[:split] of a folder, .zip or
        .npz. A name wins over a path: write ./digits for a folder called digits.
        Folders and .zip: [SPLIT/]CLASS/FILE, [SPLIT/]FILE, or a labels.csv (columns file, label, optional split; it
        sets the order, otherwise names are sorted), all perhaps inside one folder. Grey images in an RGB source (one
        whose first image is RGB) are replicated to three channels.
        .npz: x_train, y_train, x_test, y_test; or x, y; or images, labels; or arr_0. Images uint8 NHWC, NCHW or NHW.
    root: the folder of the named sets, in torchvision's layout; `download` fetches what is missing into it.
        'digits' comes with scikit-learn; 'extra', 'unlabeled' and 'all' of the others open only when asked for.
    Raises InputError for everything that is wrong with the input; a broken image may only be found when it is read.
    """
    named, path, split = _resolve(spec)
    if named:
        return {s: _open_named(named, s, root, download) for s in _named_splits(named, split, root)}
    if path.suffix.lower() == ".npz":
        found = _open_npz(path)
    elif path.suffix.lower() == ".zip":
        found = _open_files(_zip_files(path), path)
    elif path.is_dir():
        found = _open_files(_folder_files(path), path)
    else:
        raise InputError(f"{path}: not a folder, .zip or .npz; give one of these")
    if split and split not in found:
        raise InputError(f"{path}: no split {split!r}{nearest(split, list(found))}")
    return {split: found[split]} if split else dict(sorted(found.items(), key=lambda item: _split_order(item[0])))


def open_split(spec: str, *, root: Path = Path("data"), download: bool = False) -> Images:
    """The one split that `spec` names, or the only one there is; as `open_images`. InputError where it is open."""
    found = open_images(spec, root=root, download=download)
    if len(found) > 1:
        raise InputError(f"{spec}: has the splits {', '.join(found)}; say which, e.g. {spec}:{next(iter(found))}")
    return next(iter(found.values()))


def from_tensor(
    images: Tensor, labels: Tensor | None = None, *, name: str, split: str = "all", classes: tuple[str, ...] = ()
) -> Images:
    """Images in memory: uint8 (n, C, H, W), labels int64 (n,) or None. `name` is printed as it is."""
    _, c, h, w = images.shape

    @cache
    def digest() -> str:
        content = hashlib.sha256(f"{tuple(images.shape)}".encode())
        content.update(np.ascontiguousarray(images.numpy()).data)
        content.update(b"" if labels is None else labels.numpy().astype("<i8").tobytes())
        return content.hexdigest()

    return Images(name, split, (c, h, w), labels, classes, len(images), lambda rows: _take(images, rows), digest)


def generated(
    sample: Callable[[int, int], Tensor], n: int, *, name: str, sha256: str, shape: tuple[int, int, int]
) -> Images:
    """n images drawn from a generator, the same ones whatever the batch size and n.

    sample(start, count): images start, ..., start + count - 1 as uint8 (count, C, H, W), a function of its arguments
        alone. It is called on whole blocks only (start a multiple of `BLOCK`, count = `BLOCK`), because the rounding
        of a network, and the values of a random generator, may depend on how many are drawn at once.
    sha256: identity of what decides the images: checkpoint and seed.
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

    return Images(name, "all", shape, None, (), n, read, lambda: sha256)


def _take(values: Tensor, rows: Rows) -> Tensor:
    return values[rows.start : rows.stop] if isinstance(rows, range) else values[rows]


def _within(values: np.ndarray, n: int) -> bool:
    return bool(values.min() >= 0 and values.max() < n)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _plain(name: str) -> str:
    return re.sub("[-_]", "", name.lower())


def _split_name(name: str) -> str:
    return SPLITS.get(name.strip().lower(), name.strip().lower())


def _split_order(split: str) -> tuple[int, str]:
    known = list(SPLITS.values())
    return known.index(split) if split in known else len(known), split


def _resolve(spec: str) -> tuple[str, Path, str]:
    """(named set or '', path, split or '')."""
    if spec.startswith("gen:") or not spec:
        raise InputError(f"{spec!r} is not a data set; give the name of one, a folder, a .zip or a .npz")
    head, _, split = spec.rpartition(":") if ":" in spec else (spec, "", "")
    named = next((name for name in SETS if _plain(name) == _plain(head)), "")
    if named:
        return named, Path(), _split_name(split)
    with _reading(repr(spec[:100])):  # a path may be too long, or hold a NUL
        if Path(spec).exists():
            return "", Path(spec), ""
        if split and Path(head).exists():
            return "", Path(head), _split_name(split)
    raise InputError(
        f"{spec!r}: no such file or folder, nor a data set{nearest(head.lower(), [n.lower() for n in SETS])}"
    )


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Whatever a reader raises on bad bytes becomes an InputError."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # parsers of hostile bytes raise nearly anything
        raise InputError(f"{where} cannot be read: {_line(error)}; replace it") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _file_digest(path: Path) -> Callable[[], str]:
    @cache
    def digest() -> str:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return digest


def _title(path: Path, digest: Callable[[], str], split: str, splits: Sequence[str]) -> str:
    """What reports call a split of this path: the stem, or the published name of the content."""
    if path.is_dir():
        name = path.resolve().name
    else:
        size = path.stat().st_size
        name = next((name for (s, sha), name in PUBLISHED.items() if s == size and sha == digest()), path.stem)
    return name if list(splits) == ["all"] else f"{name}:{split}"


# Folders and .zip: encoded images


@dataclass(frozen=True)
class _Files:
    where: str  # for messages
    names: list[str]  # of the images, relative, with '/', sorted
    folders: list[str]
    tables: list[str]  # every labels.csv
    load: Callable[[str], bytes]  # one file; not called by two threads at once
    digest: Callable[[], str]


def _files(
    where: str,
    names: Sequence[str],
    folders: Sequence[str],
    load: Callable[[str], bytes],
    digest: Callable[[], str] | None = None,
) -> _Files:
    """Keep what counts of all names, in order; a digest over it is made where none is given."""

    def bounded(name: str) -> bytes:
        with _reading(f"{where}: {name!r}"):
            data = load(name)
        if len(data) > MAX_BYTES:
            raise InputError(f"{where}: {name!r} is larger than {MAX_BYTES >> 20} MiB; remove it")
        return data

    @cache
    def over_files() -> str:
        content = hashlib.sha256()
        for name in images + tables:
            data = bounded(name)
            content.update(f"{name}\0{len(data)}\0".encode(errors="surrogateescape") + data)
        return content.hexdigest()

    seen = [n for n in sorted(names, key=lambda n: n.split("/")) if not _is_hidden(n)]
    images = [n for n in seen if n.lower().endswith(SUFFIXES)]
    tables = [n for n in seen if n.split("/")[-1] == "labels.csv"]
    return _Files(where, images, [f for f in folders if not _is_hidden(f)], tables, bounded, digest or over_files)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _folder_files(folder: Path) -> _Files:
    def fail(error: OSError) -> None:
        raise error

    def load(name: str) -> bytes:
        with open(folder / name, "rb") as file:
            return file.read(MAX_BYTES + 1)

    names: list[str] = []
    folders: list[str] = []
    with _reading(str(folder)):
        for here, inside, found in os.walk(folder, onerror=fail, followlinks=True):
            at = Path(here).relative_to(folder).as_posix() + "/"
            at = "" if at == "./" else at
            if at.count("/") > 6:  # deeper than any layout; links may also run in circles
                raise InputError(f"{folder}: folders nested too deeply at {at!r}; use [SPLIT/]CLASS/FILE")
            folders += [at + f for f in inside]
            names += [at + f for f in found if os.path.isfile(os.path.join(here, f))]
            inside[:] = [f for f in inside if not _is_hidden(f)]
    return _files(str(folder), names, folders, load)


def _zip_files(path: Path) -> _Files:
    with _reading(str(path)):
        archive = zipfile.ZipFile(path)
    if len(archive.infolist()) > MAX_MEMBERS:
        raise InputError(f"{path}: holds more than {MAX_MEMBERS:,} members; split it up")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.orig_filename
        if re.search(r"^/|\\|\0|^[A-Za-z]:|(^|/)\.\.(/|$)", name):
            raise InputError(f"{path}: hostile member name {name!r}; use relative names with '/' and without '..'")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(f"{path}: {name!r} is a symbolic link; store the file itself")
        if name in members:
            raise InputError(f"{path}: holds {name!r} twice; remove one")
        members[name] = info

    def load(name: str) -> bytes:
        with _member(archive, members[name], f"{path}: {name!r}") as file:
            return file.read(MAX_BYTES + 1)

    names = [name for name, info in members.items() if not info.is_dir()]
    folders = [name.rstrip("/") for name, info in members.items() if info.is_dir()]
    return _files(str(path), names, folders, load, _file_digest(path))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> IO[bytes]:
    if info.file_size > max(RATIO_FROM, MAX_RATIO * info.compress_size):
        raise InputError(f"{where} claims {info.file_size:,} bytes out of {info.compress_size:,}: refused as a bomb")
    return archive.open(info)


def _open_files(files: _Files, path: Path) -> dict[str, Images]:
    if not files.names:
        raise InputError(f"{path}: holds no images ({', '.join(SUFFIXES)}); give a folder or .zip that does")
    top = {name.split("/")[0] if "/" in name else "" for name in files.names}
    # a lone folder around everything tells neither splits nor classes
    prefix = f"{top.pop()}/" if len(top) == 1 and not {t.lower() for t in top} & {"", *SPLITS} else ""
    table = next((name for name in files.tables if name in ("labels.csv", f"{prefix}labels.csv")), "")
    entries, classes = _from_table(files, table) if table else _from_folders(files, prefix)
    splits: dict[str, list[tuple[str, int]]] = {}
    for split, name, label in entries:
        splits.setdefault(split, []).append((name, label))
    like = splits[min(splits, key=_split_order)][0][0]

    def images(split: str) -> Images:
        names, labels = [name for name, _ in splits[split]], np.array([label for _, label in splits[split]])
        shape, read = _decoder(files, names, like)
        title = _title(path, files.digest, split, list(splits))
        return Images(title, split, shape, _targets(labels), classes, len(names), read, files.digest)

    return {split: images(split) for split in splits}


def _targets(labels: np.ndarray) -> Tensor | None:
    return torch.from_numpy(labels.astype(np.int64)) if labels.max() >= 0 else None


def _from_folders(files: _Files, prefix: str) -> tuple[list[tuple[str, str, int]], tuple[str, ...]]:
    """((split, name, label) of every image, classes) as the folders tell."""
    full = {name[:i] for name in files.names for i, char in enumerate(name) if char == "/"}
    if empty := sorted(set(files.folders) - full):
        raise InputError(f"{files.where}: the folder {empty[0]!r} holds no image; fill it or remove it")
    parts = [name[len(prefix) :].split("/") for name in files.names]
    has_splits = all(len(p) > 1 and p[0].lower() in SPLITS for p in parts)
    depths = [len(p) - has_splits for p in parts]
    if min(depths) != max(depths) or max(depths) > 2:
        odd = {files.names[depths.index(min(depths))], files.names[depths.index(max(depths))]}
        raise InputError(
            f"{files.where}: no layout fits {' and '.join(map(repr, sorted(odd)))}; use [SPLIT/]CLASS/FILE or "
            f"[SPLIT/]FILE throughout, with SPLIT one of {', '.join(SPLITS)}"
        )
    classes = tuple(sorted({p[-2] for p in parts})) if max(depths) == 2 else ()
    index = {name: i for i, name in enumerate(classes)}
    splits = [_split_name(p[0]) if has_splits else "all" for p in parts]
    labels = [index[p[-2]] if classes else -1 for p in parts]
    return list(zip(splits, files.names, labels, strict=True)), classes


def _from_table(files: _Files, table: str) -> tuple[list[tuple[str, str, int]], tuple[str, ...]]:
    """The same as a labels.csv tells: integer labels keep their values, others are indices into the sorted names."""
    where = f"{files.where}: {table}"
    text = files.load(table)
    with _reading(where):
        rows = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig")), strict=True))
    if not rows or not {"file", "label"} <= rows[0].keys():
        raise InputError(f"{where}: needs the columns file and label, and a row for every image")
    prefix, known = table.removesuffix("labels.csv"), set(files.names)
    seen: set[str] = set()
    for line, row in enumerate(rows, 2):
        name = prefix + row["file"]
        if name not in known or name in seen or row["label"] is None:
            what = "is listed twice" if name in seen else "has no label column" if name in known else "is no image here"
            raise InputError(f"{where}, row {line}: {name!r} {what}; correct the row")
        seen.add(name)
    if rest := known - seen:
        raise InputError(f"{where}: {len(rest)} images are not listed, such as {min(rest)!r}; add or remove them")
    values = [row["label"].strip() for row in rows]
    named = sorted(set(values) - {""})
    if all(re.fullmatch(r"-1|[0-9]{1,9}", value) for value in named):
        labels = [int(value or -1) for value in values]
        classes = _class_names(max(labels) + 1, where)
        pairs = {(i, Path(row["file"]).parent.name) for i, row in zip(labels, rows, strict=True) if i >= 0}
        if len(pairs) == len(classes) == len({i for i, _ in pairs}) == len({folder for _, folder in pairs} - {""}):
            classes = tuple(folder for _, folder in sorted(pairs))  # one folder per label names it
    else:
        classes = tuple(named)
        index = {"": -1} | {name: i for i, name in enumerate(classes)}
        labels = [index[value] for value in values]
    splits = [_split_name(row.get("split") or "all") for row in rows]
    return list(zip(splits, [prefix + row["file"] for row in rows], labels, strict=True)), classes


def _class_names(count: int, where: str) -> tuple[str, ...]:
    if count > MAX_CLASSES:
        raise InputError(f"{where}: a label is {count - 1}; labels are class indices below {MAX_CLASSES:,}")
    return tuple(str(i) for i in range(count))


def _decoder(
    files: _Files, names: list[str], like: str, crop: int = 0
) -> tuple[tuple[int, int, int], Callable[[Rows], Tensor]]:
    """((C, H, W) of the file `like`, a function that reads rows of `names`, all of which must have that shape)."""

    def decode(name: str, data: bytes) -> np.ndarray:
        with _reading(f"{files.where}: {name!r}"):
            return _decode(data, f"{files.where}: {name!r}", crop)

    first = decode(like, files.load(like))
    (h, w), c = first.shape[:2], 3 if first.ndim == 3 else 1

    def fill(out: np.ndarray, batch: list[tuple[str, bytes]]) -> None:
        for to, (name, data) in zip(out, batch, strict=True):
            image = decode(name, data)
            if image.shape[:2] != (h, w):
                got = f"{image.shape[0]}x{image.shape[1]}"
                raise InputError(f"{files.where}: {name!r} is {got}, but {like!r} is {h}x{w}; resize all to one size")
            if image.ndim == 3 and c == 1:
                raise InputError(f"{files.where}: {name!r} is RGB, but {like!r} is grey; convert all to one of them")
            to[:] = image.transpose(2, 0, 1) if image.ndim == 3 else image

    def read(rows: Rows) -> Tensor:
        picked = names[rows.start : rows.stop] if isinstance(rows, range) else [names[i] for i in rows.tolist()]
        out = np.empty((len(picked), c, h, w), np.uint8)
        # reading is a tenth of the work: one thread reads, all decode; waves bound the bytes in flight
        with ThreadPoolExecutor(THREADS) as pool:
            for wave in range(0, len(picked), 2048):
                starts = range(wave, min(wave + 2048, len(picked)), 64)
                chunks = ((a, [(name, files.load(name)) for name in picked[a : a + 64]]) for a in starts)
                for job in [pool.submit(fill, out[a : a + 64], chunk) for a, chunk in chunks]:
                    job.result()
        return torch.from_numpy(out)

    return (c, h, w), read


def _decode(data: bytes, where: str, crop: int) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3), without loss; the centre of `crop` by `crop` pixels where that is not 0."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        w, h = image.size
        if w * h > MAX_PIXELS:
            raise InputError(f"{where} is {h}x{w}, more than {MAX_PIXELS:,} pixels; shrink it")
        # Pillow opens 16-bit colour as RGB and drops half of the bits without a word
        if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") or any(";16" in str(t[3]) for t in image.tile):
            raise InputError(f"{where} has mode {image.mode} or 16 bits; convert it to 8-bit grey or RGB")
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise InputError(f"{where} holds {frames} frames; store them as single images")
        if min(w, h) < crop:
            raise InputError(f"{where} is {h}x{w}, smaller than {crop}x{crop}; remove it")
        target = "L" if image.mode in ("1", "L", "LA") else "RGB"
        plain: Image.Image = image
        if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
            plain = image.convert("RGBA")
            if np.asarray(plain)[..., 3].min() < 255:
                raise InputError(f"{where} has transparent pixels; flatten it onto a background")
            plain = plain.convert("RGB")
        pixels = np.asarray(plain if plain.mode == target else plain.convert(target))
    top, left = ((h - crop) // 2, (w - crop) // 2) if crop else (0, 0)
    return pixels[top : top + (crop or h), left : left + (crop or w)]


# .npz


def _open_npz(path: Path) -> dict[str, Images]:
    with _reading(str(path)):
        archive = zipfile.ZipFile(path)
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    keys: dict[str, tuple[str, str]] = {}
    for x in members:
        if match := re.fullmatch(r"(?:(x|images)(?:_(\w+))?)|arr_0", x):
            split = _split_name(match[2] or "all")
            if split in keys:
                raise InputError(f"{path}: {keys[split][0]!r} and {x!r} are both the split {split!r}; keep one")
            keys[split] = x, {"x": "y", "images": "labels", None: ""}[match[1]] + x.removeprefix(match[1] or "arr_0")
    if not keys:
        raise InputError(f"{path}: no x_train, x_test, x, images or arr_0 in it, but {', '.join(members) or 'nothing'}")
    arrays = {split: _npz_images(path, archive, members[x], x) for split, (x, _) in keys.items()}
    targets = {
        split: _npz_labels(path, archive, members[y], y, arrays[split][0][0]) if y in members else None
        for split, (_, y) in keys.items()
    }
    highest = max((int(labels.max()) for labels in targets.values() if labels is not None), default=-1)
    classes, digest = _class_names(highest + 1, str(path)), _file_digest(path)

    def images(split: str) -> Images:
        (n, c, h, w), load = arrays[split]
        title = _title(path, digest, split, list(keys))
        return Images(title, split, (c, h, w), targets[split], classes, n, lambda rows: _take(load(), rows), digest)

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


def _npz_labels(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str, n: int) -> Tensor | None:
    where = f"{path}: {key}"
    dtype, shape = _npy_header(archive, info, where)
    if dtype.kind not in "iu" or shape not in ((n,), (n, 1)):
        raise InputError(f"{where} is {dtype} of shape {shape}; save integers of shape ({n},), one for each image")
    labels = _npy_array(archive, info, where).reshape(-1)
    if labels.min() < -1:
        raise InputError(f"{where}: a label is {labels.min()}; labels are class indices from 0, or -1 for none")
    _class_names(int(labels.max()) + 1, where)
    return _targets(labels)


def _npy_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """(dtype, shape), after checking that the member has that size: nothing is allocated on a header's word alone."""
    with _reading(where), _member(archive, info, where) as file:
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
    with _reading(where), _member(archive, info, where) as file:
        return npy.read_array(file, allow_pickle=False)


# Named sets


def _named_splits(named: str, split: str, root: Path) -> list[str]:
    if named == "LSUN":
        have = sorted(p.name.removesuffix("_lmdb") for p in root.glob("*_lmdb"))
        if split not in have:
            why = f"{root} holds {', '.join(have) or 'none'} (NAME_lmdb); download LSUN from its site"
            raise InputError(f"LSUN: no category {split!r}, as in LSUN:bedroom_train; {why}")
        return [split]
    if split and split not in SETS[named]:
        raise InputError(f"{named}: no split {split!r}{nearest(split, SETS[named])}")
    return [split] if split else [s for s in SETS[named] if s not in ON_REQUEST]


def _open_named(named: str, split: str, root: Path, download: bool) -> Images:
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
            raise InputError(f"{named}: could not be downloaded into {root}: {_line(error)}") from error
        advice = "name the right folder with --data-root, or fetch it with --download"
        raise InputError(f"{named}: not in {root}, or not whole; {advice} ({_line(error)})") from error


def _named_images(named: str, split: str, images: Any, labels: Any, classes: Sequence[str]) -> Images:
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    targets = np.asarray(labels, np.int64)
    if pixels.dtype != torch.uint8 or len(targets) != len(pixels) or not _within(targets + 1, len(classes) + 1):
        raise ValueError(f"{pixels.dtype} images {tuple(pixels.shape)}, labels {targets.shape} of {classes}")
    return from_tensor(pixels, _targets(targets), name=f"{named}:{split}", split=split, classes=tuple(classes))


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
        files = _folder_files(root / "celeba" / "img_align_celeba")
        if missing := set(names) - set(files.names):
            raise FileNotFoundError(f"{len(missing)} images are missing, such as {min(missing)}")
        shape, read = _decoder(files, names, names[0])
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

    files = _files(str(folder), [], [], load, cache(lambda: _sha256("\n".join(names).encode())))
    shape, read = _decoder(files, names, names[0], crop=256)
    return Images(f"LSUN:{split}", split, shape, None, (), len(names), read, files.digest)
