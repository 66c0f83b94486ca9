"""Real images and the nearest of more and more samples: Table 3 of the paper, and the distances that the authors log.

Table 3 classifies MNIST's test digits by their nearest neighbour among generated, labelled digits (Radford et al. 2015,
appendix). Samples are drawn in blocks and forgotten; only the best distance and its label are kept of every test image,
so that ten million take no more memory than ten thousand, their labels aside.
"""

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dcgan_eval.images import Images
from dcgan_eval.nearest.exact import k_nearest
from dcgan_eval.runtime.devices import with_float64
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole

BLOCK = 16384  # samples that are held
SAVE_SECONDS = 60.0


class Point(NamedTuple):
    """samples: how many of the source were searched, from the first on. distance: the mean Euclidean distance to the
    nearest, pixels in [0, 255]. error: of the 1-nearest-neighbour classifier, in %; None without labels."""

    samples: int
    distance: float
    error: float | None


def sizes_up_to(n: int, sizes: Sequence[int]) -> list[int]:
    """Those of the sizes below n, and n."""
    return [*(size for size in sizes if size < n), n]


def by_samples(
    queries: Images,
    source: Images,
    sizes: Sequence[int],
    *,
    state: Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Iterator[Point]:
    """At each of the ascending sizes: how far the queries are from the nearest of so many images of the source.

    Exact, and ties go to the earlier image, as `k_nearest`; free of the block. Where both sides are labelled, the
    nearest image's label is the prediction; queries without one do not count. state: a file that keeps what was found,
    every minute, so that the same search goes on from there, or on to more images.
    Raises InputError for images of another shape, a source that is too small or lacks labels, or sizes that do not
    ascend.
    """
    if queries.shape != source.shape:
        shapes = (f"{images.name} of {'x'.join(map(str, images.shape))}" for images in (queries, source))
        raise InputError(f"{' and '.join(shapes)} have no distances; both must have one shape")
    if not sizes or list(sizes) != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= source.n:
        raise InputError(f"sizes {', '.join(map(str, sizes))}: want ascending ones from 1 to the {source.n} there are")
    labels = None if queries.labels is None or source.labels is None else queries.labels
    answers = source.labels if source.labels is not None else torch.empty(0)
    if labels is not None and (queries.classes != source.classes or bool((answers < 0).any())):
        raise InputError(f"{source.name}: needs a label on every image, of the classes of {queries.name}")
    x = _flat(queries.tensor(), device)
    # of the source without its size: more samples of a generator begin with the fewer
    what = "distances" if labels is None else "labels"
    identity = f"{what} {queries.fingerprint} {source.sha256} {source.split} {source.selection}"
    search = _Search.load(state, identity, len(x), sizes) or _Search.new(len(x))
    saved = time.monotonic()
    with tqdm(total=sizes[-1], initial=search.searched, desc=source.name, leave=False, disable=not progress) as bar:
        for size in sizes:
            while search.searched < size:
                start, stop = search.searched, min(search.searched + BLOCK, size)
                distances, rows = (
                    found[:, 0].cpu() for found in k_nearest(x, _flat(source.read(range(start, stop)), device), 1)
                )
                nearer = distances < search.best
                search.best = torch.where(nearer, distances, search.best)
                if labels is not None:
                    search.label = torch.where(nearer, answers[start + rows], search.label)
                search.searched = stop
                bar.update(stop - start)
                if state is not None and time.monotonic() - saved > SAVE_SECONDS:
                    search.save(state, identity)
                    saved = time.monotonic()
            if size not in search.points:
                error = float("nan")
                if labels is not None:
                    known = labels >= 0
                    error = 100 * float((search.label[known] != labels[known]).double().mean())
                search.points[size] = (float(search.best.mean()), error)
                if state is not None:
                    search.save(state, identity)
            distance, error = search.points[size]
            yield Point(size, distance, None if labels is None else error)


@dataclass(eq=False)
class _Search:
    """best: float64 (n,) and label: int64 (n,), of the nearest of the first `searched` images. points: (distance,
    error) by size, as they were found."""

    best: Tensor
    label: Tensor
    searched: int
    points: dict[int, tuple[float, float]]

    @classmethod
    def new(cls, n: int) -> "_Search":
        return cls(torch.full((n,), torch.inf, dtype=torch.float64), torch.full((n,), -1), 0, {})

    @classmethod
    def load(cls, path: Path | None, identity: str, n: int, sizes: Sequence[int]) -> "_Search | None":
        """None where there is none yet. InputError for a file that is not of this search, or has gone beyond a size."""
        if path is None or not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                same = str(arrays["identity"]) == identity
                best, label = (torch.from_numpy(arrays[name]) for name in ("best", "label"))
                searched = int(arrays["searched"])
                points = {int(size): (distance, error) for size, distance, error in arrays["points"].tolist()}
            types = (best.dtype, label.dtype) == (torch.float64, torch.int64)
            if same and not (types and best.shape == label.shape == (n,) and searched >= 0):
                raise ValueError
        except Exception as error:  # parsers of hostile bytes raise nearly anything
            raise InputError(f"{path}: is not the state of a search; remove it, or name another file") from error
        if not same:
            raise InputError(f"{path}: is the state of another search; remove it, or name another file")
        for size in sizes:
            if size <= searched and size not in points:
                raise InputError(f"{path}: the search has gone beyond {size:,} images; remove it to start again")
        return cls(best, label, searched, points)

    def save(self, path: Path, identity: str) -> None:
        file = io.BytesIO()
        points = np.array([(size, *point) for size, point in self.points.items()], np.float64).reshape(-1, 3)
        np.savez(
            file,
            identity=identity,
            best=self.best.numpy(),
            label=self.label.numpy(),
            searched=self.searched,
            points=points,
        )
        write_whole(path, file.getvalue())


def _flat(images: Tensor, device: torch.device | str) -> Tensor:
    return images.flatten(1).float().to(with_float64(device))
