"""Folders and .zip files of encoded images."""

import csv
import hashlib
import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dcgan_eval.images.source import (
    SPLITS,
    Images,
    Rows,
    Survey,
    UnreadableError,
    as_codes,
    as_targets,
    class_names,
    file_digest,
    reading,
    split_name,
    split_order,
    title_of,
)
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import ALONE, Ranks

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MAX_BYTES = 256 << 20  # of one image file or labels.csv
MAX_PIXELS = 1 << 24  # of one image
MAX_MEMBERS = 5_000_000  # of one .zip
MAX_RATIO, RATIO_FROM = 200, 256 << 20  # a member larger than this may not expand further than that
THREADS = min(4, os.cpu_count() or 1)  # decoding holds the interpreter half of the time


@dataclass(frozen=True)
class Files:
    where: str  # for messages
    names: list[str]  # of the images, relative, with '/', sorted
    folders: list[str]
    tables: list[str]  # every labels.csv
    load: Callable[[str], bytes]  # one file; not called by two threads at once
    digest: Callable[[], str]


def bounded_files(
    where: str,
    names: Sequence[str],
    folders: Sequence[str],
    load: Callable[[str], bytes],
    digest: Callable[[], str] | None = None,
) -> Files:
    """Keep what counts of all names, in order; a digest over it is made where none is given."""

    def bounded(name: str) -> bytes:
        with reading(f"{where}: {name!r}"):
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
    return Files(where, images, [f for f in folders if not _is_hidden(f)], tables, bounded, digest or over_files)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def folder_files(folder: Path) -> Files:
    def fail(error: OSError) -> None:
        raise error

    def load(name: str) -> bytes:
        with open(folder / name, "rb") as file:
            return file.read(MAX_BYTES + 1)

    names: list[str] = []
    folders: list[str] = []
    with reading(str(folder)):
        for here, inside, found in os.walk(folder, onerror=fail, followlinks=True):
            at = Path(here).relative_to(folder).as_posix() + "/"
            at = "" if at == "./" else at
            if at.count("/") > 6:  # deeper than any layout; links may also run in circles
                raise InputError(f"{folder}: folders nested too deeply at {at!r}; use [SPLIT/]CLASS/FILE")
            folders += [at + f for f in inside]
            names += [at + f for f in found if os.path.isfile(os.path.join(here, f))]
            inside[:] = [f for f in inside if not _is_hidden(f)]
    return bounded_files(str(folder), names, folders, load)


def zip_files(path: Path) -> Files:
    with reading(str(path)):
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
        with open_member(archive, members[name], f"{path}: {name!r}") as file:
            return file.read(MAX_BYTES + 1)

    names = [name for name, info in members.items() if not info.is_dir()]
    folders = [name.rstrip("/") for name, info in members.items() if info.is_dir()]
    return bounded_files(str(path), names, folders, load, file_digest(path))


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> IO[bytes]:
    if info.file_size > max(RATIO_FROM, MAX_RATIO * info.compress_size):
        raise InputError(f"{where} claims {info.file_size:,} bytes out of {info.compress_size:,}: refused as a bomb")
    return archive.open(info)


def open_files(files: Files, path: Path) -> dict[str, Images]:
    if not files.names:
        raise InputError(f"{path}: holds no images ({', '.join(SUFFIXES)}); give a folder or .zip that does")
    top = {name.split("/")[0] if "/" in name else "" for name in files.names}
    # a lone folder around everything tells neither splits nor classes
    prefix = f"{top.pop()}/" if len(top) == 1 and not {t.lower() for t in top} & {"", *SPLITS} else ""
    table = next((name for name in files.tables if name in ("labels.csv", f"{prefix}labels.csv")), "")
    entries, classes, columns = _from_table(files, table) if table else (*_from_folders(files, prefix), {})
    splits: dict[str, list[int]] = {}  # places in the list of entries
    for i, (split, _, _) in enumerate(entries):
        splits.setdefault(split, []).append(i)
    like = _first_readable(files, [entries[i][1] for i in splits[min(splits, key=split_order)]])

    def images(split: str) -> Images:
        names, labels = [entries[i][1] for i in splits[split]], np.array([entries[i][2] for i in splits[split]])
        shape, read = decoder(files, names, like)
        title = title_of(path, split, list(splits))
        metadata = {name: cache(partial(_coded, texts, splits[split])) for name, texts in columns.items()}
        found = Images(
            title, split, shape, as_targets(labels), classes, len(names), read, files.digest, metadata=metadata
        )
        surveys: list[Survey] = []

        def survey(progress: bool, ranks: Ranks = ALONE) -> Survey:
            if not surveys:
                surveys.append(_survey(found, files, names, progress, ranks))
            return surveys[0]

        return replace(found, survey=survey)

    return {split: images(split) for split in splits}


def _coded(texts: list[str], rows: list[int]) -> Tensor:
    return as_codes([texts[i] for i in rows])


def _first_readable(files: Files, names: list[str]) -> str:
    """The first image that can be read, which tells the shape of all; what is wrong with the first one if none can."""
    for name in names:
        try:
            decoder(files, names, name)
        except UnreadableError:
            continue
        return name
    return names[0]


def _survey(images: Images, files: Files, names: list[str], progress: bool, ranks: Ranks) -> Survey:
    def load(name: str) -> bytes | UnreadableError:
        try:
            return files.load(name)
        except UnreadableError as error:
            return error

    def shape(name: str, data: bytes | UnreadableError) -> tuple[int, int, int] | str:
        try:
            if isinstance(data, UnreadableError):
                raise data
            return _shape(_decoded(files, name, data))
        except UnreadableError as error:
            return f"{name!r} ({error.reason})"

    mine, seen = ranks.share(len(names)), io.BytesIO()  # a line of JSON for every file, as ranks exchange tensors only
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(mine), desc=f"checking {images.name}", unit="file", leave=False, disable=not progress) as bar,
    ):
        for start in range(mine.start, mine.stop, 256):  # one thread reads, all decode; waves bound the bytes in flight
            wave = [(name, load(name)) for name in names[start : min(start + 256, mine.stop)]]
            for found in pool.map(lambda pair: shape(*pair), wave):
                seen.write(json.dumps(found).encode() + b"\n")
            bar.update(len(wave))
    lines = ranks.gathered(torch.from_numpy(np.frombuffer(seen.getvalue(), np.uint8).copy())).numpy().tobytes()
    rows: dict[tuple[int, int, int] | str, list[int]] = {}
    for i, line in enumerate(lines.splitlines()):
        told = json.loads(line)
        rows.setdefault(told if isinstance(told, str) else tuple(told), []).append(i)
    parts, broken = [], []
    for found, where in rows.items():
        if isinstance(found, str):
            broken.append(found)
        elif len(where) == images.n and found == images.shape:
            parts.append((torch.arange(images.n), images))
        else:
            some = [names[i] for i in where]
            kept, read = images.subset(where), decoder(files, some, some[0])[1]
            parts.append((torch.tensor(where), replace(kept, shape=found, read=read)))
    return Survey(parts, broken)


def _from_folders(files: Files, prefix: str) -> tuple[list[tuple[str, str, int]], tuple[str, ...]]:
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
    splits = [split_name(p[0]) if has_splits else "all" for p in parts]
    labels = [index[p[-2]] if classes else -1 for p in parts]
    return list(zip(splits, files.names, labels, strict=True)), classes


def _from_table(files: Files, table: str) -> tuple[list[tuple[str, str, int]], tuple[str, ...], dict[str, list[str]]]:
    """The same as a labels.csv tells, and its further columns by name, in the order of the images.

    Integer labels keep their values, others are indices into the sorted names.
    """
    where = f"{files.where}: {table}"
    text = files.load(table)
    with reading(where):
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
        classes = class_names(max(labels) + 1, where)
        pairs = {(i, Path(row["file"]).parent.name) for i, row in zip(labels, rows, strict=True) if i >= 0}
        if len(pairs) == len(classes) == len({i for i, _ in pairs}) == len({folder for _, folder in pairs} - {""}):
            classes = tuple(folder for _, folder in sorted(pairs))  # one folder per label names it
    else:
        classes = tuple(named)
        index = {"": -1} | {name: i for i, name in enumerate(classes)}
        labels = [index[value] for value in values]
    splits = [split_name(row.get("split") or "all") for row in rows]
    further = [name for name in rows[0] if name and name not in ("file", "label", "split")]
    columns = {name: [(row[name] or "").strip() for row in rows] for name in further}
    return list(zip(splits, [prefix + row["file"] for row in rows], labels, strict=True)), classes, columns


def decoder(
    files: Files, names: list[str], like: str, crop: int = 0
) -> tuple[tuple[int, int, int], Callable[[Rows], Tensor]]:
    """((C, H, W) of the file `like`, a function that reads rows of `names`, all of which must have that shape)."""

    c, h, w = _shape(_decoded(files, like, files.load(like), crop))

    def fill(out: np.ndarray, batch: list[tuple[str, bytes]]) -> None:
        for to, (name, data) in zip(out, batch, strict=True):
            image = _decoded(files, name, data, crop)
            if image.shape[:2] != (h, w):
                got = f"{image.shape[0]}x{image.shape[1]}"
                raise InputError(f"{files.where}: {name!r} is {got}, but {like!r} is {h}x{w}; resize all to one size")
            if image.ndim == 3 and c == 1:
                raise InputError(f"{files.where}: {name!r} is RGB, but {like!r} is grey; convert all to one of them")
            to[:] = image.transpose(2, 0, 1) if image.ndim == 3 else image

    def read(rows: Rows) -> Tensor:
        picked = names[rows.start : rows.stop] if isinstance(rows, range) else [names[i] for i in rows.tolist()]
        out = np.empty((len(picked), c, h, w), np.uint8)
        each = min(64, max(8, -(-len(picked) // THREADS)))  # a minibatch keeps every thread busy
        # reading is a tenth of the work: one thread reads, all decode; waves bound the bytes in flight
        with ThreadPoolExecutor(THREADS) as pool:
            for wave in range(0, len(picked), 2048):
                starts = range(wave, min(wave + 2048, len(picked)), each)
                chunks = ((a, [(name, files.load(name)) for name in picked[a : a + each]]) for a in starts)
                for job in [pool.submit(fill, out[a : a + each], chunk) for a, chunk in chunks]:
                    job.result()
        return torch.from_numpy(out)

    return (c, h, w), read


def _shape(image: np.ndarray) -> tuple[int, int, int]:
    return (3 if image.ndim == 3 else 1, image.shape[0], image.shape[1])


def _decoded(files: Files, name: str, data: bytes, crop: int = 0) -> np.ndarray:
    with reading(f"{files.where}: {name!r}"):
        return _decode(data, f"{files.where}: {name!r}", crop)


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
