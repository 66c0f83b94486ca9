"""Which labelled images a classifier is fitted to, and by which of them C is chosen.

Radford et al. 2015, sections 5.1 and 5.2: all labels, or repeated balanced draws of a few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcgan_eval.runtime.errors import InputError, nearest
from dcgan_eval.runtime.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Protocol:
    """'all' labels, or repeated balanced draws: n_labels in all ('labels:1000') or per class ('per-class:400')."""

    kind: Literal["all", "labels", "per-class"]
    n_labels: int = 0

    @classmethod
    def parse(cls, text: str) -> "Protocol":
        """From 'all', 'labels:N' or 'per-class:N'; raises InputError for anything else."""
        kind, _, number = text.partition(":")
        if kind == "all" and not number:
            return cls("all")
        if kind in ("labels", "per-class") and number.isascii() and number.isdigit() and int(number) > 0:
            return cls("labels" if kind == "labels" else "per-class", int(number))
        hint = nearest(kind, ["all", "labels:1000", "per-class:400"])
        raise InputError(f"protocol {text!r} is not all, labels:N or per-class:N with N > 0{hint}")

    def __str__(self) -> str:
        return self.kind if self.kind == "all" else f"{self.kind}:{self.n_labels}"


ALL = Protocol("all")


@dataclass(frozen=True)
class Split:
    """Features float32 (n, d) and labels int64 (n,) in [0, n_classes); with several ranks, the rows of this one."""

    X: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Groups:
    """Groups of training images that no two folds share, such as the crops of one photograph.

    name: what images are grouped by, for remarks and messages. of: the group of each image, int64 (n,); with several
    ranks, of the rows of this one.
    """

    name: str
    of: Tensor


def draw_size(labels: Tensor, protocol: Protocol) -> int:
    """How many labels a draw of these, int64 (n,), has."""
    if protocol.kind == "all":
        return len(labels)
    return protocol.n_labels * (1 if protocol.kind == "labels" else len(torch.unique(labels)))


def part_of(train: Split, draw: Tensor, protocol: Protocol, ranks: Ranks) -> tuple[NDArray[np.bool_] | slice, Split]:
    """Which rows of a draw this rank has, and those rows."""
    if protocol.kind == "all" and ranks.world == 1:
        return slice(None), train
    counts = ranks.gathered(torch.tensor([len(train)]))
    first = int(counts[: ranks.rank].sum())
    mine = (draw >= first) & (draw < first + len(train))
    if protocol.kind == "all":
        return mine.numpy(), train
    rows = draw[mine] - first
    return mine.numpy(), Split(train.X[rows], train.y[rows])


def size_of(split: Split, ranks: Ranks) -> int:
    """Of all ranks."""
    return int(ranks.sum(torch.tensor(len(split))))


def remarks(protocol: Protocol, subsets: Sequence[Tensor]) -> list[str]:
    return [] if protocol.kind == "all" else [f"{len(subsets)} balanced draws"]


def check_splits(train: Split, test: Split, valid: Split | None, ranks: Ranks) -> Tensor:
    """The labels that training images have, int64, ascending.

    Raises InputError for fewer than two, and features that do not fit together or are not finite.
    """
    labels = torch.unique(ranks.gathered(train.y))
    if len(labels) < 2:
        raise InputError(f"classification needs at least two classes, but the training labels hold {len(labels)}")
    for name, split in (("training", train), ("test", test), ("validation", valid)):
        if split is None:
            continue
        if not size_of(split, ranks) or split.X.shape != (len(split), train.X.shape[1]):
            raise InputError(f"{name} features are {tuple(split.X.shape)} for {len(split)} labels")
        if not all(bool(block.isfinite().all()) for block in torch.split(split.X, 1024)):
            raise InputError(f"{name} features hold NaN or infinite values; the network or the images are damaged")
        if len(split) and (int(split.y.min()) < 0 or int(split.y.max()) > int(labels[-1])):
            raise InputError(
                f"{name} labels run from {int(split.y.min())} to {int(split.y.max())}, "
                f"but those of the training images from 0 to {int(labels[-1])}"
            )
    return labels


def draw_labels(y: NDArray[np.int64], protocol: Protocol, draws: int, rng: np.random.Generator) -> list[Tensor]:
    """Rows of each draw, int64, ascending; all of them, once, for protocol 'all'."""
    if protocol.kind == "all":
        return [torch.arange(len(y))]
    if draws < 1:
        raise InputError(f"draws must be at least 1, got {draws}")
    classes, counts = np.unique(y, return_counts=True)
    per_class, rest = protocol.n_labels, 0
    if protocol.kind == "labels":
        per_class, rest = divmod(protocol.n_labels, len(classes))
    if rest or not per_class:
        raise InputError(f"{protocol}: not a multiple of the {len(classes)} classes, so no draw can be balanced")
    if counts.min() < per_class:
        raise InputError(
            f"{protocol}: class {classes[counts.argmin()]} has only {counts.min()} training images, "
            f"but a draw takes {per_class} of each; ask for fewer labels"
        )
    subsets = []
    for _ in range(draws):
        rows = [rng.choice(np.flatnonzero(y == label), per_class, replace=False) for label in classes]
        subsets.append(torch.from_numpy(np.sort(np.concatenate(rows))))
    return subsets


def check_groups(y: NDArray[np.int64], groups: Groups, folds: int) -> None:
    """Raises InputError where the groups of images with labels y (n,) are too few for so many folds, or hold a class
    in one of them: the fold that has it would leave no image of the class to fit to."""
    where = f"`group_by` {groups.name!r}"
    of = groups.of.numpy()
    n_groups = len(np.unique(of))
    for label in np.unique(y):
        if len(np.unique(of[y == label])) == 1:
            raise InputError(
                f"{where}: all {int((y == label).sum())} training images of class {label} that C is chosen by are in "
                "one group, so folds cannot be grouped; want more labels, other groups, or leave `group_by` out"
            )
    if n_groups < folds:
        raise InputError(
            f"{where}: {len(y)} training images are in {n_groups} groups, too few for {folds} folds; "
            f"want `folds` {n_groups} or fewer"
        )


def stratified_folds(
    y: NDArray[np.int64],
    folds: int,
    rng: np.random.Generator,
    groups: Groups | None = None,
    ranks: Ranks = ALONE,
) -> NDArray[np.int64]:
    """The fold of each row: every class spread evenly, in random order; with groups as evenly as they allow."""
    folds = min(folds, int(np.bincount(y)[np.unique(y)].min()))
    if folds < 2:
        raise InputError("a class has a single training image, so C cannot be chosen by folds; give C or validation")
    if groups is not None:
        return _grouped_folds(y, folds, rng, groups, ranks)
    fold = np.empty(len(y), dtype=np.int64)
    offset = 0
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        fold[rows] = (np.arange(len(rows)) + offset) % folds
        offset += len(rows)
    return fold


def _grouped_folds(
    y: NDArray[np.int64], folds: int, rng: np.random.Generator, groups: Groups, ranks: Ranks
) -> NDArray[np.int64]:
    """The fold of each row by scikit-learn's StratifiedGroupKFold, which looks for folds of equal classes greedily."""
    from sklearn.model_selection import StratifiedGroupKFold  # takes half as long to import as torch

    check_groups(y, groups, folds)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=int(rng.integers(2**32)))
    fold = np.empty(len(y), dtype=np.int64)
    for k, (_, held_out) in enumerate(splitter.split(y, y, groups.of.numpy())):
        fold[held_out] = k
    # its sums are rounded differently on other processors, and ties decide
    fold = ranks.agreed(torch.from_numpy(fold)).numpy()
    for k in range(folds):
        lost = np.setdiff1d(y, y[fold != k])
        if len(lost) or not (fold == k).any():
            what = f"all training images of class {lost[0]}" if len(lost) else "no image"
            raise InputError(
                f"`group_by` {groups.name!r}: one of {folds} folds has {what}, since few groups are large; "
                "want fewer `folds`, or another `seed`"
            )
    return fold
