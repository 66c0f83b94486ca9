"""Classification by the nearest training images."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dcgan_eval.evaluations.labels import (
    ALL,
    Protocol,
    Split,
    check_splits,
    draw_labels,
    part_of,
    remarks,
)
from dcgan_eval.evaluations.probe import Probe, of_outcomes
from dcgan_eval.features.scaling import SCALED, feature_scaling
from dcgan_eval.nearest.exact import Metric, k_nearest
from dcgan_eval.options import Scaling
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import ALONE, Ranks

TEMPERATURE = 0.07  # of the weights of neighbours, as DINO's


def knn_probe(
    train: Split,
    test: Split,
    *,
    ks: Sequence[int] = (5,),
    weighted: bool = False,
    protocol: Protocol = ALL,
    draws: int = 10,
    scaling: Scaling = "none",
    seed: int = 0,
    device: torch.device | str | None = None,
    ranks: Ranks = ALONE,
) -> list[Probe]:
    """Accuracy by a vote of the k nearest training images, for each k, of one search.

    weighted: by cosine, each vote with the weight exp(cos / 0.07), as DINO's eval_knn.py (Caron et al. 2021, appendix
    F.1; Wu et al. 2018, eq. 8); else by Euclidean distance, votes alike. Tied votes go to the nearest of them.
    protocol, draws, scaling, seed, ranks: as `linear_probe`, and the same draws. Raises InputError for k beyond a
    draw's size, and for features without a direction.
    """
    start = time.perf_counter()
    classes = check_splits(train, test, None, ranks)
    scale = feature_scaling(scaling, train.X, ranks)
    labels, truth, queries = (ranks.gathered(part) for part in (train.y, test.y, scale(test.X)))
    subsets = draw_labels(labels.numpy(), protocol, draws, np.random.default_rng(seed))
    ks = tuple(dict.fromkeys(ks))
    for k in ks:
        if not 1 <= k <= len(subsets[0]):
            raise InputError(f"k-NN with k={k} wants a k from 1 to {len(subsets[0])}, the number of labels; set `k`")
    metric: Metric = "cosine" if weighted else "euclidean"
    pointless = (~queries.any(1)).any()  # without a direction
    right: dict[int, list[Tensor]] = {k: [] for k in ks}
    for draw in subsets:
        _, part = part_of(train, draw, protocol, ranks)
        rows = scale(part.X)
        if weighted and bool(ranks.largest((pointless | (~rows.any(1)).any()).int()[None])):
            raise InputError("features of some image are all 0, which have no angle to others; take `probe` knn")
        distances, index = k_nearest(queries.to(device), rows.to(device), max(ks), metric=metric, ranks=ranks)
        near, distances = torch.searchsorted(classes, labels[draw][index.cpu()]), distances.cpu()
        # of the nearest 1, so that none underflows
        weight = ((distances[:, :1] - distances) / TEMPERATURE).exp() if weighted else torch.ones_like(distances)
        for k in ks:
            right[k].append(classes[_voted(near[:, :k], weight[:, :k].double(), len(classes))] == truth)
    how = f"cosine, weights exp(cos / {TEMPERATURE})" if weighted else "Euclidean"
    return [
        of_outcomes(
            torch.stack(right[k]).numpy(),
            f"weighted {k}-NN" if weighted else f"{k}-NN",
            None,
            "",
            (),
            f"{how}, {SCALED[scaling]}",
            ", ".join(remarks(protocol, subsets)),
            len(subsets[0]),
            None,
            start,
        )
        for k in ks
    ]


def _voted(near: Tensor, weight: Tensor, n_classes: int) -> Tensor:
    """The class with most votes of neighbours, (q,), of classes and weights (q, k), the nearest first."""
    votes = torch.zeros(len(near), n_classes, dtype=weight.dtype).scatter_add_(1, near, weight)
    winning = votes.gather(1, near) == votes.amax(1, keepdim=True)
    return near.gather(1, winning.int().argmax(1, keepdim=True))[:, 0]
