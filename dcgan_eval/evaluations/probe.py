"""The paper's protocols: a linear SVM on fixed features, with C chosen without the test set.

Radford et al. 2015, sections 5.1 and 5.2, and the authors' svhn/svhn_semisup_analysis.py, whose values of C, unscaled
features and penalised intercept are taken over; where C is not stated (Table 1) it is chosen by stratified folds of
the training labels. Accuracies are per cent.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcgan_eval.features.scaling import SCALED, feature_scaling
from dcgan_eval.linear import Solution, SquaredHinge, decision_values, one_vs_rest, place, solve_path
from dcgan_eval.nearest.exact import k_nearest
from dcgan_eval.options import CS, ChoiceOfC, Scaling
from dcgan_eval.results import Interval, Spread
from dcgan_eval.results.intervals import of_images, of_mean, spread
from dcgan_eval.results.outcomes import Outcomes
from dcgan_eval.results.row import CBy
from dcgan_eval.runtime.errors import InputError, nearest
from dcgan_eval.runtime.ranks import ALONE, Ranks

TOL = 1e-6  # largest relative gap of a certified solution
LOWEST, HIGHEST = 1e-8, 1e4  # how far the search for C goes
OTHERS = 10  # draws that C is chosen by where none of them is tested, as the authors'


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


@dataclass(frozen=True)
class Probe:
    """An accuracy and how it came about.

    accuracy: %, the mean over draws. right: bool (draws, n), which test images each draw classified correctly.
    classifier: 'L2-SVM', or such as '5-NN'. C: the one chosen, of several the most frequent, and C_by how; None and ''
    for k-NN. curve: (C, accuracy on folds or validation in %) for every C tried. method: how features are classified;
    remark: how many draws of labels there were, and where C is from. n_train: training images of one fit.
    gap: the largest certified distance from the SVM's optimum
    over all fits, relative as `Solution.relative_gap`: certified where it is at most the tolerance. None for k-NN.
    """

    accuracy: float
    right: NDArray[np.bool_] = field(compare=False, repr=False)
    classifier: str
    C: float | None
    C_by: CBy
    curve: tuple[tuple[float, float], ...]
    method: str
    remark: str
    n_train: int
    gap: float | None
    seconds: float

    @property
    def accuracies(self) -> tuple[float, ...]:
        """%, one per draw."""
        return tuple(100 * float(right.mean()) for right in self.right)

    @property
    def interval(self) -> Interval:
        """Of the accuracy over other test images."""
        return of_images(self.right)

    @property
    def spread(self) -> Spread:
        """Of the accuracy over draws of the labels, where there are several."""
        return spread(self.accuracies, "label draws")

    @property
    def of_draws(self) -> Interval:
        """Of the mean over other draws, where there are several."""
        return of_mean(self.accuracies, "label draws")

    @property
    def outcomes(self) -> Outcomes:
        return Outcomes.of(self.right)


def linear_probe(
    train: Split,
    test: Split,
    *,
    protocol: Protocol = ALL,
    valid: Split | None = None,
    Cs: Sequence[float] | None = None,
    folds: int = 5,
    groups: Groups | None = None,
    draws: int = 10,
    C_from: ChoiceOfC = "each-draw",
    scaling: Scaling = "none",
    seed: int = 0,
    tol: float = TOL,
    device: torch.device | str | None = None,
    ranks: Ranks = ALONE,
) -> Probe:
    """Accuracy of the L2-SVM on `test`, its C chosen on `valid` if given, else by stratified folds of the labels used.

    Cs: tried in ascending order, such as the authors' `CS`; None for steps of 1, 2, 5 from where theirs begin, up and
    down until two larger C and a smaller one are known to be no better on the first draw. Of equally good ones the
    smallest is taken. folds: fewer where a class has fewer labels.
    groups: of the training images, which folds keep whole, those of each draw too; None for folds of single images.
    draws: label draws, each balanced, without replacement; not used by protocol 'all'. C_from: 'each-draw' chooses its
    own C, by no more labels than it has; for 'all-draws' one C serves all of them, of the highest mean score; for
    'other-draws' it is that of 10 more draws, which are not tested.
    scaling: of the features; see `feature_scaling`.
    ranks: see `Split`; each gets the whole answer.
    Raises InputError for C ≤ 0, one class only, classes too small for a draw, or groups that cannot be folds
    (`check_groups`).
    """
    start = time.perf_counter()
    n_classes = _check(train, test, valid, ranks)
    scale = feature_scaling(scaling, train.X, ranks)
    test = Split(scale(test.X), test.y)
    valid = None if valid is None else Split(scale(valid.X), valid.y)
    grid = _grid(Cs)
    rng = np.random.default_rng(seed)
    labels = ranks.gathered(train.y)
    subsets = _draws(labels.numpy(), protocol, draws, rng)
    choosing = Cs is None or len(grid) > 1
    drawn = protocol.kind != "all"
    others = choosing and drawn and C_from == "other-draws"
    choosers = _draws(labels.numpy(), protocol, OTHERS, rng) if others else subsets
    judged = None if valid is None else ranks.gathered(valid.y)
    members = None if groups is None else ranks.gathered(groups.of)
    # each C of each draw is judged by them: to a GPU they are copied once, where the training rows fit beside them
    test = _placed(test, device, train)
    valid = None if valid is None else _placed(valid, device, train)
    scores: dict[float, list[float]] = {}
    right: dict[float, list[NDArray[np.bool_]]] = {}
    gap, n_folds = 0.0, 0
    for number, draw in enumerate(choosers):
        mine, part = _part(train, draw, protocol, ranks)
        part = Split(scale(part.X), part.y)
        fold = np.zeros(0, np.int64)
        if choosing and valid is None:
            some = None if groups is None or members is None else Groups(groups.name, members[draw])
            fold = _folds(labels[draw].numpy(), folds, rng, some, ranks)
        n_folds = int(fold.max()) + 1 if len(fold) else 0
        todo = list(grid)
        # each draw by itself: its own small Gram matrix costs less than columns over all training images would
        for solution, score in _fit(
            part, valid, fold[mine] if n_folds else fold, n_folds, n_classes, todo, tol, device, ranks
        ):
            scores.setdefault(solution.C, []).append(score)
            if not others:
                right.setdefault(solution.C, []).append(_right(_outer(solution, n_classes), test, ranks))
            gap = max(gap, float(solution.relative_gap.max()))  # finite, as all of a solution is
            if Cs is None and number == 0 and len(scores) == len(grid):
                more = _beyond(grid, scores, labels[draw] if judged is None else judged)
                todo += more  # which the solver takes up where it is
                grid = sorted([*grid, *more])
    together = drawn and C_from != "each-draw"
    chosen = [_best(scores if together else _of_draw(scores, i)) for i in range(len(subsets))]
    for draw in subsets if others else ():
        _, part = _part(train, draw, protocol, ranks)
        part = Split(scale(part.X), part.y)
        for solution, _ in _fit(part, None, np.zeros(0, np.int64), 0, n_classes, chosen[:1], tol, device, ranks):
            right.setdefault(solution.C, []).append(_right(_outer(solution, n_classes), test, ranks))
            gap = max(gap, float(solution.relative_gap.max()))
    curve = tuple((C, float(np.mean(scores[C]))) for C in grid) if choosing else ()
    values = " to ".join(f"{C:g}" for C in dict.fromkeys((min(chosen), max(chosen))))
    how = f"of {grid[0]:g} to {grid[-1]:g} by {f'{n_folds} stratified folds' if n_folds else 'validation'}"
    if drawn:
        how += " of " + C_from.replace("-", " ").replace("other draws", f"{OTHERS} other draws")
    if n_folds and groups is not None:
        how += f" grouped by {groups.name}"
    by: dict[tuple[bool, str], CBy] = {
        (True, "each-draw"): "folds", (True, "all-draws"): "folds of all draws",
        (True, "other-draws"): "folds of other draws", (False, "each-draw"): "validation",
        (False, "all-draws"): "validation of all draws", (False, "other-draws"): "validation of other draws",
    }  # fmt: skip
    return _probe(
        np.stack([right[C][i] for i, C in enumerate(chosen)]),
        "L2-SVM",
        min(set(chosen), key=lambda C: (-chosen.count(C), C)),
        by[bool(n_folds), C_from if drawn else "each-draw"] if choosing else "given",
        curve,
        SCALED[scaling],
        ", ".join([*_drawn(protocol, subsets), f"C {values} {how if choosing else 'given'}"]),
        len(subsets[0]),
        gap,
        start,
    )


def knn_probe(
    train: Split,
    test: Split,
    *,
    k: int = 5,
    protocol: Protocol = ALL,
    draws: int = 10,
    scaling: Scaling = "none",
    seed: int = 0,
    device: torch.device | str | None = None,
    ranks: Ranks = ALONE,
) -> Probe:
    """Accuracy of a majority vote of the k nearest training images, Euclidean; tied votes go to the nearest of them.

    protocol, draws, scaling, seed, ranks: as `linear_probe`, and the same draws. Raises InputError for k beyond a
    draw's size.
    """
    start = time.perf_counter()
    n_classes = _check(train, test, None, ranks)
    scale = feature_scaling(scaling, train.X, ranks)
    labels, truth, queries = (ranks.gathered(part) for part in (train.y, test.y, scale(test.X)))
    subsets = _draws(labels.numpy(), protocol, draws, np.random.default_rng(seed))
    if not 1 <= k <= len(subsets[0]):
        raise InputError(f"k-NN with k={k} wants a k from 1 to {len(subsets[0])}, the number of labels")
    right = []
    for draw in subsets:
        _, part = _part(train, draw, protocol, ranks)
        _, index = k_nearest(queries.to(device), scale(part.X).to(device), k, ranks=ranks)
        near = labels[draw][index.cpu()]
        votes = torch.zeros(len(truth), n_classes, dtype=torch.int64).scatter_add_(1, near, torch.ones_like(near))
        winning = votes.gather(1, near) == votes.amax(1, keepdim=True)
        nearest_winner = near.gather(1, winning.int().argmax(1, keepdim=True))[:, 0]
        right.append((nearest_winner == truth).numpy())
    return _probe(
        np.stack(right),
        f"{k}-NN",
        None,
        "",
        (),
        f"Euclidean, {SCALED[scaling]}",
        ", ".join(_drawn(protocol, subsets)),
        len(subsets[0]),
        None,
        start,
    )


def _probe(
    right: NDArray[np.bool_],
    classifier: str,
    C: float | None,
    C_by: CBy,
    curve: tuple[tuple[float, float], ...],
    method: str,
    remark: str,
    n_train: int,
    gap: float | None,
    start: float,
) -> Probe:
    # of whole numbers, so that one draw's accuracy is correctly rounded
    accuracy = 100 * int(right.sum()) / right.size
    return Probe(accuracy, right, classifier, C, C_by, curve, method, remark, n_train, gap, time.perf_counter() - start)


def _part(train: Split, draw: Tensor, protocol: Protocol, ranks: Ranks) -> tuple[NDArray[np.bool_] | slice, Split]:
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


def _count(split: Split, ranks: Ranks) -> int:
    """Of all ranks."""
    return int(ranks.sum(torch.tensor(len(split))))


def _drawn(protocol: Protocol, subsets: Sequence[Tensor]) -> list[str]:
    return [] if protocol.kind == "all" else [f"{len(subsets)} balanced draws"]


def _best(scores: dict[float, list[float]]) -> float:
    """The C of the highest mean score, the smallest of equals."""
    return max(scores, key=lambda C: (np.mean(scores[C]), -C))


def _of_draw(scores: dict[float, list[float]], draw: int) -> dict[float, list[float]]:
    return {C: [values[draw]] for C, values in scores.items()}


def _grid(Cs: Sequence[float] | None) -> list[float]:
    if Cs is not None and not (len(Cs) and all(np.isfinite(C) and C > 0 for C in Cs)):
        raise InputError(f"C must be positive and finite, got {', '.join(f'{C:g}' for C in Cs) or 'none'}")
    return sorted(set(CS[:3] if Cs is None else Cs))


def _beyond(Cs: Sequence[float], scores: dict[float, list[float]], judged: Tensor) -> list[float]:
    """What to try next, judged by so labelled images of one draw: until two C above the best and one below it are
    known, or the ends."""
    best = _best(scores)
    share = float(torch.bincount(judged).max()) / len(judged)
    chance = 100 * (share + 1.96 * np.sqrt(share * (1 - share) / len(judged)))
    # C too small to learn anything names the largest class, whatever C is: the best is then on the other side
    blind = best == Cs[0] and len({scores[C][0] for C in Cs[:3]}) == 1 and scores[best][0] <= chance
    if (blind or best >= Cs[-2]) and Cs[-1] < HIGHEST:
        return [_decade(Cs[-1], 1)]
    if best == Cs[0] > LOWEST and not blind:
        return [_decade(best, -1)]
    return []


def _decade(C: float, steps: int) -> float:
    """1, 2, 5, 10, 20, …: the value so many steps from C."""
    exponent = round(np.floor(np.log10(C) + 1e-9))
    position = min(range(3), key=lambda i: abs((1, 2, 5)[i] - C / 10.0**exponent)) + steps
    return float(f"{(1, 2, 5)[position % 3]}e{exponent + position // 3}")


def _fit(
    part: Split,
    valid: Split | None,
    fold: NDArray[np.int64],
    n_folds: int,
    n_classes: int,
    Cs: Sequence[float],
    tol: float,
    device: torch.device | str | None,
    ranks: Ranks,
) -> Iterator[tuple[Solution, float]]:
    """The solution for each C, its first columns fitted on all of `part`, and the accuracy (%) by which C is judged."""
    Y = one_vs_rest(part.y, n_classes)
    m = Y.shape[1]
    held_out = [torch.from_numpy(fold == k) for k in range(n_folds)]
    weight = torch.cat([torch.ones_like(Y), *((~h).double()[:, None].expand_as(Y) for h in held_out)], 1)
    loss = SquaredHinge(Y.repeat(1, 1 + n_folds), weight)
    for solution in solve_path(part.X, loss, Cs, tol=tol, device=device, ranks=ranks):
        if valid is not None:
            score = 100 * float(_right(_outer(solution, n_classes), valid, ranks).mean())
        else:
            decisions = torch.split(solution.decision.cpu(), m, 1)[1:]
            of_fold = ((_predict(F[h]) == part.y[h]).sum() for F, h in zip(decisions, held_out, strict=True))
            right = ranks.sum(sum(of_fold, torch.tensor(0)))  # none where C is given
            score = 100 * float(right) / _count(part, ranks)
        yield solution, score


def _outer(solution: Solution, n_classes: int) -> tuple[Tensor, Tensor]:
    m = 1 if n_classes == 2 else n_classes
    return solution.coef[:, :m], solution.intercept[:m]


def _predict(decision: Tensor) -> Tensor:
    return (decision[:, 0] > 0).long() if decision.shape[1] == 1 else decision.argmax(1)


def _placed(split: Split, device: torch.device | str | None, beside: Split) -> Split:
    return split if device is None else Split(place(split.X, torch.device(device), beside.X.nbytes), split.y)


def _right(model: tuple[Tensor, Tensor], split: Split, ranks: Ranks) -> NDArray[np.bool_]:
    """Which images are classified correctly, those of all ranks."""
    right: NDArray[np.bool_] = ranks.gathered(_predict(decision_values(split.X, *model).cpu()) == split.y).numpy()
    return right


def _check(train: Split, test: Split, valid: Split | None, ranks: Ranks) -> int:
    """The number of classes."""
    labels = torch.unique(ranks.gathered(train.y))
    n_classes, present = int(labels.max()) + 1 if len(labels) else 0, len(labels)
    if present < 2:
        raise InputError(f"classification needs at least two classes, but the training labels hold {present}")
    for name, split in (("training", train), ("test", test), ("validation", valid)):
        if split is None:
            continue
        if not _count(split, ranks) or split.X.shape != (len(split), train.X.shape[1]):
            raise InputError(f"{name} features are {tuple(split.X.shape)} for {len(split)} labels")
        if not all(bool(block.isfinite().all()) for block in torch.split(split.X, 1024)):
            raise InputError(f"{name} features hold NaN or infinite values; the network or the images are damaged")
        if len(split) and (int(split.y.min()) < 0 or int(split.y.max()) >= n_classes):
            raise InputError(
                f"{name} labels run from {int(split.y.min())} to {int(split.y.max())}, "
                f"but those of the training images from 0 to {n_classes - 1}"
            )
    return n_classes


def _draws(y: NDArray[np.int64], protocol: Protocol, draws: int, rng: np.random.Generator) -> list[Tensor]:
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
    in one of them: the fold that has it would leave no image of the class to fit an SVM to."""
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


def _folds(
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
