"""Which images of a set repeat others, which to keep, and a sheet to judge by.

The paper removed near-duplicates from LSUN before training, so that the generator could not memorise them (Radford et
al. 2015, section 3.1).
"""

import csv
import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dcgan_eval import figures, results
from dcgan_eval.images import Images, fitted, from_tensor, min_resized
from dcgan_eval.nearest import hashing
from dcgan_eval.options import DedupOptions, DuplicateMethod
from dcgan_eval.results import Measurement, Row
from dcgan_eval.runtime.devices import with_float64
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.run import HERE, Run

RADIUS = {"autoencoder": 4, "paper": 0, "exact": 0, "phash": 4}  # bits
SAMPLE = 50_000  # images that the autoencoder is fitted to
BYTES = 2**27  # of images that are held at a time
FORMAT = "dcgan-eval keep list 1"


class Link(NamedTuple):
    """bits: how far a member's code is from the nearest of its group. variant: how one of these two images was changed
    to be so near: 'as it is', 'mirrored' or 'moved'."""

    bits: int
    variant: str


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Groups of images that are one, over the rows of `against`, if any, and then those of `train`.

    groups: int64 (n,), the first row of each image's group. links: of every image in a group of several. bits: of a
    code. protocol: how they were found. seconds: that took.
    """

    train: Images
    against: Images | None
    groups: NDArray[np.int64]
    links: dict[int, Link]
    method: str
    bits: int
    protocol: str
    seconds: float

    @property
    def held_out(self) -> int:
        """How many rows come before those of `train`."""
        return 0 if self.against is None else self.against.n

    @property
    def kept(self) -> NDArray[np.int64]:
        """Rows of `train` that are the first of their group, so that none of them is like another, or held out."""
        rows = np.arange(self.held_out, len(self.groups))
        return np.flatnonzero(self.groups[rows] == rows)


def dedup(
    train: Images, against: Images | None = None, options: DedupOptions = DedupOptions(), run: Run = HERE
) -> list[Duplicates]:
    """Duplicates among training images, and between them and held-out images, by each method.

    train, against: real training images, and held-out ones.
    options: the methods, in order. A radius is that of autoencoder and phash; the others ask for equal codes.
    Raises InputError for files that cannot be read, a radius without meaning, a package that is missing, and where
    both sets are the same. What can be known before images are read is raised first.
    """
    if run.ranks.world > 1:
        raise InputError("dedup: runs in one process")
    radii = check_options(options)
    if against is not None and against.fingerprint == train.fingerprint:
        raise InputError(f"`against` {against.name}: are the same images as {train.name}")
    return [
        find(
            train,
            against,
            method=method,
            radius=radius,
            seed=options.seed,
            batch_size=run.batch_size,
            device=run.device,
            progress=run.progress,
        )
        for method, radius in radii.items()
    ]


def find(
    train: Images,
    against: Images | None = None,
    *,
    method: DuplicateMethod = "autoencoder",
    radius: int | None = None,
    seed: int = 0,
    batch_size: int = 1024,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Duplicates:
    """Images of `train` that repeat one another, or one of `against`: whose codes differ in at most `radius` bits.

    paper: 128 bits of an autoencoder of 32 x 32 centre crops, which must all be equal. autoencoder: the same of images
    standardised one by one, also compared with their mirror images and moved by a pixel. phash: imagehash's perceptual
    hash, 64 bits. exact: pixels. Equal pixels are duplicates by every method, and so are images that a chain of
    duplicates joins. Images of one colour are duplicates by autoencoder. seed: of the autoencoder.
    Raises InputError for files that cannot be read, and a radius without meaning.
    """
    start = time.perf_counter()
    check(method, radius)
    bits, radius = _bits(method), RADIUS[method] if radius is None else radius
    sets = [images for images in (against, train) if images is not None]
    autoencoder = None
    if method in ("autoencoder", "paper"):
        autoencoder = hashing.fit_autoencoder(
            _sample(train, seed, progress),
            each=method == "autoencoder",
            seed=seed,
            device=with_float64(device),
            progress=progress,
        )
    exact, codes, others = _codes(sets, method, autoencoder, batch_size, progress)
    n = len(exact)
    same = hashing.distinct(exact)[1]
    edges = [_first_of_each(same)]
    links: dict[int, Link] = {}
    _link(links, edges[0], np.zeros(n, np.int64), "as it is")
    distinct, which = hashing.distinct(codes)
    edges.append(_first_of_each(which))
    _link(links, edges[-1], np.zeros(n, np.int64), "as it is")
    representative = np.zeros(len(distinct), np.int64)
    representative[which[::-1]] = np.arange(n)[::-1]  # the first image of each code
    for variant, queries in [("as it is", distinct), *others]:
        i, j, apart = hashing.near(queries, distinct, radius)
        rows = representative[i] if queries is distinct else i
        edges.append(np.stack([rows, representative[j]]))
        _link(links, edges[-1], apart, variant)
    return Duplicates(
        train,
        against,
        _components(np.concatenate(edges, 1), n),
        links,
        method,
        bits,
        _protocol(method, radius, bits, seed),
        time.perf_counter() - start,
    )


def check_options(options: DedupOptions) -> dict[DuplicateMethod, int | None]:
    """The radius of each method in order, None for the method's own. Raises what can be known before images are read,
    as `dedup`."""
    methods = list(dict.fromkeys(options.method))
    if options.radius is not None and not {"autoencoder", "phash"} & set(methods):
        raise InputError(
            f"`radius` {options.radius}: applies only to autoencoder and phash; {methods[0]} asks for equal codes"
        )
    radii = {method: options.radius if method in ("autoencoder", "phash") else None for method in methods}
    for method, radius in radii.items():
        check(method, radius)
    return radii


def check(method: str, radius: int | None) -> None:
    """Raises InputError for a radius without meaning, or a package that is missing."""
    bits = _bits(method)
    if radius is not None and not 0 <= radius < bits // 8:  # pieces of fewer than 8 bits tell nothing apart
        raise InputError(f"radius {radius}: want from 0 to {bits // 8 - 1} of the {bits} bits of {method}")
    if method == "phash":
        hashing.perceptual_codes(torch.empty(0, 1, 8, 8, dtype=torch.uint8))


def _bits(method: str) -> int:
    return {"phash": 64, "exact": 256}.get(method, hashing.BITS)


def _protocol(method: str, radius: int, bits: int, seed: int) -> str:
    if method == "exact":
        return "equal pixels"
    near = f"equal codes of {bits} bits" if radius == 0 else f"codes of {bits} bits, at most {radius} differ"
    if method == "phash":
        return f"perceptual hash of imagehash; {near}"
    crops = "min-resized centre crops to 32x32"
    how = "standardised one by one" if method == "autoencoder" else "standardised by all"
    moved = "; also mirrored, and moved by a pixel" if method == "autoencoder" else ""
    return f"autoencoder 3072-128-3072, {crops}, {how}, seed {seed}; {near}{moved}"


def _codes(
    sets: Sequence[Images], method: str, autoencoder: hashing.Autoencoder | None, batch_size: int, progress: bool
) -> tuple[hashing.Codes, hashing.Codes, list[tuple[str, hashing.Codes]]]:
    """Codes of the pixels, codes by the method, and those of variants, of all images in order."""
    n = sum(images.n for images in sets)
    exact = np.zeros((n, 4), np.uint64)
    columns: dict[int, tuple[str, hashing.Codes]] = {}
    start = 0
    with tqdm(total=n, desc="codes", unit="image", leave=False, disable=not progress) as bar:
        for images in sets:
            for rows, part in _parts(images, progress):
                c, h, w = part.shape
                for some in torch.split(torch.arange(part.n), max(1, min(batch_size, BYTES // (c * h * w)))):
                    here = start + rows[some].numpy()
                    batch = _rgb(from_tensor(part.read(some), name=images.name))
                    exact[here] = hashing.exact_codes(batch.tensor())
                    for k, (name, code) in enumerate(_coded(batch, method, autoencoder)):
                        columns.setdefault(k, (name, np.zeros((n, code.shape[1]), np.uint64)))[1][here] = code
                    bar.update(len(some))
            start += images.n
    found = list(columns.values()) or [("as it is", exact)]
    return exact, found[0][1], found[1:]


def _coded(batch: Images, method: str, autoencoder: hashing.Autoencoder | None) -> Iterator[tuple[str, hashing.Codes]]:
    if method == "phash":
        yield "as it is", hashing.perceptual_codes(batch.tensor())
    if autoencoder is not None:
        for name, changed in hashing.variants(_crops(batch).tensor()):
            yield name, hashing.encode(autoencoder, changed)
            if method == "paper":
                return


def _rgb(images: Images) -> Images:
    """Grey ones too, so that a photograph is the same however its file holds it."""
    return fitted(images, (3, None, None))[0]


def _crops(images: Images) -> Images:
    return min_resized(_rgb(images), hashing.SIDE)


def _crop(images: Images, row: int) -> Tensor:
    for rows, part in _parts(images, False):
        at = torch.nonzero(rows == row)[:, 0]
        if len(at):
            return _crops(part).read(at)[0]
    raise IndexError(row)


def _sample(images: Images, seed: int, progress: bool) -> Tensor:
    """At most `SAMPLE` images to fit the autoencoder to, in an order of their own."""
    parts = _parts(images, progress)
    n = sum(part.n for _, part in parts)
    chosen = torch.randperm(n, generator=stream(seed, "dedup"))[:SAMPLE].sort().values
    found, start = [], 0
    for _, part in parts:
        here = chosen[(chosen >= start) & (chosen < start + part.n)] - start
        found.append(_crops(part).read(here))
        start += part.n
    return torch.cat(found)


def _parts(images: Images, progress: bool) -> list[tuple[Tensor, Images]]:
    """Rows and images of every size there is."""
    if images.survey is None:
        return [(torch.arange(images.n), images)]
    parts, broken = images.survey(progress)
    if broken:
        some = ", ".join(broken[:3]) + (", …" if len(broken) > 3 else "")
        raise InputError(f"{images.name}: {len(broken)} of {images.n} files cannot be read: {some}; remove them first")
    return parts


def _first_of_each(which: NDArray[np.int64]) -> NDArray[np.int64]:
    """Edges (2, n) from every row to the first of its kind."""
    _, first, inverse = np.unique(which, return_index=True, return_inverse=True)
    return np.stack([np.arange(len(which)), first[inverse]])


def _link(links: dict[int, Link], edges: NDArray[np.int64], bits: NDArray[np.int64], variant: str) -> None:
    apart = edges[0] != edges[1]
    for i, j, distance in zip(*edges[:, apart].tolist(), bits[apart].tolist(), strict=True):
        for row in (i, j):
            if row not in links or distance < links[row].bits:
                links[row] = Link(distance, variant)


def _components(edges: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """The first row of each row's connected component, int64 (n,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(edges.shape[1], np.int8), (edges[0], edges[1])), shape=(n, n))
    return _first_of_each(connected_components(graph, directed=False)[1].astype(np.int64))[1]


def counts(found: Duplicates) -> dict[str, int]:
    """Of the training images: how many are left out since they repeat another one, and a held-out one."""
    rows = np.arange(found.held_out, len(found.groups))
    groups = found.groups[rows]
    out = {"duplicates": int(((groups != rows) & (groups >= found.held_out)).sum())}
    if found.against is not None:
        out["duplicates of held-out images"] = int((groups < found.held_out).sum())
    return out


def save_keep_list(path: Path, found: Duplicates) -> None:
    """JSON: which rows of which images are kept, and why."""
    images = found.train
    record = {
        "format": FORMAT,
        "data": images.name,
        "data_sha256": images.sha256,
        "split": images.split,
        "n": images.n,
        "protocol": found.protocol,
        "against": None if found.against is None else found.against.name,
        "keep": found.kept.tolist(),
    }
    write_whole(path, json.dumps(record, ensure_ascii=False) + "\n")


def kept(images: Images, path: Path) -> Images:
    """Of these images those that a keep list names. InputError where it is none, or one of other images."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as a keep list: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path}: is not a keep list of dcgan-eval dedup")
    this = {"data_sha256": images.sha256, "split": images.split, "n": images.n}
    if any(record.get(key) != value for key, value in this.items()):
        raise InputError(f"{path}: is of other images ({record.get('data')}), not of {images.name}")
    rows = record.get("keep")
    if not isinstance(rows, list) or not all(type(row) is int for row in rows) or not rows:
        raise InputError(f"{path}: keeps no images, or its rows are not integers; run dcgan-eval dedup again")
    if rows != sorted(set(rows)) or not 0 <= rows[0] <= rows[-1] < images.n:
        raise InputError(f"{path}: its rows do not ascend from 0 to {images.n - 1}; run dcgan-eval dedup again")
    return images.subset(rows)


def groups_csv(found: Duplicates) -> str:
    """A line per image that has a duplicate: group, split, row in it, class, whether it is kept, and its `Link`."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["group", "images", "row", "class", "kept", "bits", "nearest is"])
    for number, members in enumerate(_groups(found)):
        for row in members:
            images, at = _place(found, row)
            label = -1 if images.labels is None else int(images.labels[at])
            name = images.classes[label] if label >= 0 else ""
            is_kept = "" if images is not found.train else "yes" if found.groups[row] == row else "no"
            lines.writerow([number, images.name, at, name, is_kept, *found.links[row]])
    return text.getvalue()


def picture(found: Duplicates, count: int = 60, members: int = 8) -> figures.Picture:
    """A PNG of groups, those with the most doubtful member first: the first image of each, and what repeats it."""
    groups = sorted(_groups(found), key=lambda members: -max(found.links[row].bits for row in members))
    tiles, titles = [], []
    for group in groups[:count]:
        places = [_place(found, row) for row in group[:members]]
        tiles.append(torch.stack([_crop(images, at) for images, at in places]))
        titles.append([f"{images.split} {at}" for images, at in places])
    return figures.groups(tiles, titles, f"{found.train.name}: {found.protocol.partition(';')[0]}")


def _groups(found: Duplicates) -> list[list[int]]:
    """Rows of every group of several, ascending, that a training image is in."""
    order = np.argsort(found.groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(found.groups[order])) + 1)
    return [part.tolist() for part in parts if len(part) > 1 and part[-1] >= found.held_out]


def _place(found: Duplicates, row: int) -> tuple[Images, int]:
    if found.against is not None and row < found.held_out:
        return found.against, row
    return found.train, row - found.held_out


def rows(found: Duplicates, run: Run = HERE, *, seed: int) -> list[Row]:
    """The counts as results."""
    sets = [images for images in (found.train, found.against) if images is not None]
    source = results.provenance(
        run,
        data=" ".join(images.name for images in sets),
        data_sha256=" ".join(images.sha256 for images in sets),
        features=found.method,
        features_protocol=found.protocol,
        dtype="float32" if found.method in ("autoencoder", "paper") else "uint8",
        dimensions=found.bits,
        seed=seed,
        seconds=found.seconds,
    )
    return [
        results.stamp(
            Measurement(
                task="dedup",
                metric=metric,
                value=float(value),
                unit="images",
                n=found.train.n,
                n_reference=found.held_out,
                method="training images like an earlier one, chains included; those like a held-out one count there "
                "alone",
            ),
            source,
        )
        for metric, value in counts(found).items()
    ]
