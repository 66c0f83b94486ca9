"""Real images and the nearest of more and more samples: Table 3 of the paper, and the distances that the authors log.

Table 3 classifies MNIST's test digits by their nearest neighbour among generated, labelled digits (Radford et al. 2015,
appendix). Samples are drawn in blocks and forgotten; only the best distance and its label are kept of every test image,
so that ten million take no more memory than ten thousand, their labels aside.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from dcgan_eval.errors import InputError
from dcgan_eval.images import Images
from dcgan_eval.neighbors import k_nearest

BLOCK = 16384  # samples that are held


class Point(NamedTuple):
    """samples: how many of the source were searched, from the first on. distance: the mean Euclidean distance to the
    nearest, pixels in [0, 255]. error: of the 1-nearest-neighbour classifier, in %; None without labels."""

    samples: int
    distance: float
    error: float | None


def by_samples(
    queries: Images,
    source: Images,
    sizes: Sequence[int],
    *,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Iterator[Point]:
    """At each of the ascending sizes: how far the queries are from the nearest of so many images of the source.

    Exact, and ties go to the earlier image, as `k_nearest`; free of the block. Where both sides are labelled, the
    nearest image's label is the prediction; queries without one do not count.
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
    best = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    label = torch.full((len(x),), -1, device=x.device)
    start = 0
    with tqdm(total=sizes[-1], desc=source.name, unit="image", leave=False, disable=not progress) as bar:
        for size in sizes:
            while start < size:
                stop = min(start + BLOCK, size)
                distances, rows = (
                    found[:, 0] for found in k_nearest(x, _flat(source.read(range(start, stop)), device), 1)
                )
                nearer = distances < best
                best = torch.where(nearer, distances, best)
                if labels is not None:
                    label = torch.where(nearer, answers[start + rows.cpu()].to(x.device), label)
                bar.update(stop - start)
                start = stop
            error = None
            if labels is not None:
                known = labels >= 0
                error = 100 * float((label.cpu()[known] != labels[known]).double().mean())
            yield Point(size, float(best.mean()), error)


def _flat(images: Tensor, device: torch.device | str) -> Tensor:
    # Apple's GPUs have no float64, in which distances are kept
    return images.flatten(1).float().to("cpu" if torch.device(device).type == "mps" else device)
