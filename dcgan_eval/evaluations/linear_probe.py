"""Linear classification of frozen features, with C chosen without the test set.

Radford et al. 2015, sections 5.1 and 5.2, and the authors' svhn/svhn_semisup_analysis.py, whose values of C, unscaled
features and penalised intercept are taken over; where C is not stated (Table 1) it is chosen by stratified folds of
the training labels. Softmax regression by the same protocol. Accuracies are per cent.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcgan_eval.evaluations.labels import (
    ALL,
    Groups,
    Protocol,
    Split,
    check_splits,
    draw_labels,
    part_of,
    remarks,
    size_of,
    stratified_folds,
)
from dcgan_eval.evaluations.probe import Probe, of_outcomes
from dcgan_eval.features.scaling import SCALED, feature_scaling
from dcgan_eval.linear import Softmax, Solution, SquaredHinge, decision_values, one_vs_rest, place, solve_path
from dcgan_eval.linear.newton import Loss
from dcgan_eval.options import CS, ChoiceOfC, Classifier, Scaling
from dcgan_eval.results.row import CBy
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import ALONE, Ranks

TOL = 1e-6  # largest relative gap of a certified solution
LOWEST, HIGHEST = 1e-8, 1e4  # how far the search for C goes
LITTLE = 0.02  # of the objective of no weights: what is lowered by less has learnt next to nothing
OTHERS = 10  # draws that C is chosen by where none of them is tested, as the authors'
CLASSIFIERS: dict[Classifier, str] = {"svm": "L2-SVM", "logistic": "logistic regression"}  # as results name them


def linear_probe(
    train: Split,
    test: Split,
    *,
    kind: Classifier = "svm",
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
    """Accuracy of a linear classifier on `test`, its C chosen on `valid` if given, else by stratified folds of the
    labels used.

    kind: 'svm', one-vs-rest with the squared hinge; 'logistic', softmax regression.
    Cs: tried in ascending order, such as the authors' `CS`; None for steps of 1, 2, 5 from where theirs begin, up
    until something is learnt, and up and down until two larger C and a smaller one are known to be no better on the
    first draw. Of equally good ones the smallest is taken. folds: fewer where a class has fewer labels.
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
    classes = check_splits(train, test, valid, ranks)
    scale = feature_scaling(scaling, train.X, ranks)
    test = Split(scale(test.X), test.y)
    valid = None if valid is None else Split(scale(valid.X), valid.y)
    grid, width = _grid(Cs), columns(kind, len(classes))
    rng = np.random.default_rng(seed)
    labels = ranks.gathered(train.y)
    subsets = draw_labels(labels.numpy(), protocol, draws, rng)
    choosing = Cs is None or len(grid) > 1
    drawn = protocol.kind != "all"
    others = choosing and drawn and C_from == "other-draws"
    choosers = draw_labels(labels.numpy(), protocol, OTHERS, rng) if others else subsets
    judged = None if valid is None else ranks.gathered(valid.y)
    members = None if groups is None else ranks.gathered(groups.of)
    # each C of each draw is judged by them: to a GPU they are copied once, where the training rows fit beside them
    test = _placed(test, device, train)
    valid = None if valid is None else _placed(valid, device, train)
    scores: dict[float, list[float]] = {}
    right: dict[float, list[NDArray[np.bool_]]] = {}
    gap, n_folds, learnt = 0.0, 0, 0.0
    for number, draw in enumerate(choosers):
        mine, part = part_of(train, draw, protocol, ranks)
        part = Split(scale(part.X), part.y)
        fold = np.zeros(0, np.int64)
        if choosing and valid is None:
            some = None if groups is None or members is None else Groups(groups.name, members[draw])
            fold = stratified_folds(labels[draw].numpy(), folds, rng, some, ranks)
        n_folds = int(fold.max()) + 1 if len(fold) else 0
        todo = list(grid)
        # each draw by itself: its own small Gram matrix costs less than columns over all training images would
        for solution, score in _fit(
            kind, part, valid, fold[mine] if n_folds else fold, n_folds, classes, todo, tol, device, ranks
        ):
            scores.setdefault(solution.C, []).append(score)
            if not others:
                right.setdefault(solution.C, []).append(_right(solution, classes, width, test, ranks))
            gap = max(gap, float(solution.relative_gap.max()))  # finite, as all of a solution is
            if Cs is None and number == 0 and len(scores) == len(grid):
                if grid[-1] == solution.C:
                    learnt = float((1 - solution.objective / solution.at_zero).max())
                more = _beyond(grid, scores, labels[draw] if judged is None else judged, learnt)
                todo += more  # which the solver takes up where it is
                grid = sorted([*grid, *more])
    together = drawn and C_from != "each-draw"
    chosen = [_best(scores if together else _of_draw(scores, i)) for i in range(len(subsets))]
    for draw in subsets if others else ():
        _, part = part_of(train, draw, protocol, ranks)
        part = Split(scale(part.X), part.y)
        none = np.zeros(0, np.int64)
        for solution, _ in _fit(kind, part, None, none, 0, classes, chosen[:1], tol, device, ranks):
            right.setdefault(solution.C, []).append(_right(solution, classes, width, test, ranks))
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
    return of_outcomes(
        np.stack([right[C][i] for i, C in enumerate(chosen)]),
        CLASSIFIERS[kind],
        min(set(chosen), key=lambda C: (-chosen.count(C), C)),
        by[bool(n_folds), C_from if drawn else "each-draw"] if choosing else "given",
        curve,
        SCALED[scaling],
        ", ".join([*remarks(protocol, subsets), f"C {values} {how if choosing else 'given'}"]),
        len(subsets[0]),
        gap,
        start,
    )


def _best(scores: dict[float, list[float]]) -> float:
    """The C of the highest mean score, the smallest of equals."""
    return max(scores, key=lambda C: (np.mean(scores[C]), -C))


def _of_draw(scores: dict[float, list[float]], draw: int) -> dict[float, list[float]]:
    return {C: [values[draw]] for C, values in scores.items()}


def _grid(Cs: Sequence[float] | None) -> list[float]:
    if Cs is not None and not (len(Cs) and all(np.isfinite(C) and C > 0 for C in Cs)):
        raise InputError(f"C must be positive and finite, got {', '.join(f'{C:g}' for C in Cs) or 'none'}")
    return sorted(set(CS[:3] if Cs is None else Cs))


def _beyond(Cs: Sequence[float], scores: dict[float, list[float]], judged: Tensor, learnt: float) -> list[float]:
    """What to try next, judged by so labelled images of one draw: until two C above the best and one below it are
    known, or the ends. learnt: by how much, at most, the largest C lowers the objective of no weights, relatively."""
    best = _best(scores)
    share = float(torch.unique(judged, return_counts=True)[1].max()) / len(judged)
    chance = 100 * (share + 1.96 * np.sqrt(share * (1 - share) / len(judged)))
    # C too small to learn anything names the largest class, whatever C is: the best is then on the other side
    blind = best == Cs[0] and len({scores[C][0] for C in Cs[:3]}) == 1 and scores[best][0] <= chance
    blind |= (
        learnt < LITTLE
    )  # softmax regression then names the largest class of each fold, and which C is best is chance
    if (blind or best >= Cs[-2]) and Cs[-1] < HIGHEST:
        return [_decade(Cs[-1], 1)]
    return [_decade(best, -1)] if best == Cs[0] > LOWEST and not blind else []


def _decade(C: float, steps: int) -> float:
    """1, 2, 5, 10, 20, …: the value so many steps from C."""
    exponent = round(np.floor(np.log10(C) + 1e-9))
    position = min(range(3), key=lambda i: abs((1, 2, 5)[i] - C / 10.0**exponent)) + steps
    return float(f"{(1, 2, 5)[position % 3]}e{exponent + position // 3}")


def columns(kind: Classifier, n_classes: int) -> int:
    """Decision values of an image."""
    return 1 if kind == "svm" and n_classes == 2 else n_classes


def _fit(
    kind: Classifier,
    part: Split,
    valid: Split | None,
    fold: NDArray[np.int64],
    n_folds: int,
    classes: Tensor,
    Cs: Sequence[float],
    tol: float,
    device: torch.device | str | None,
    ranks: Ranks,
) -> Iterator[tuple[Solution, float]]:
    """The solution for each C, its first columns fitted on all of `part`, and the accuracy (%) by which C is judged."""
    y, n_classes = torch.searchsorted(classes, part.y), len(classes)
    width = columns(kind, n_classes)
    held_out = [torch.from_numpy(fold == k) for k in range(n_folds)]
    weight = torch.stack([torch.ones(len(part), dtype=torch.float64), *((~h).double() for h in held_out)], 1)
    loss: Loss = Softmax(y, weight, n_classes)
    if kind == "svm":
        Y = one_vs_rest(y, n_classes)
        loss = SquaredHinge(Y.repeat(1, 1 + n_folds), weight.repeat_interleave(width, 1))
    for solution in solve_path(part.X, loss, Cs, tol=tol, device=device, ranks=ranks):
        if valid is not None:
            score = 100 * float(_right(solution, classes, width, valid, ranks).mean())
        else:
            decisions = torch.split(solution.decision.cpu(), width, 1)[1:]
            of_fold = ((_predict(F[h]) == y[h]).sum() for F, h in zip(decisions, held_out, strict=True))
            right = ranks.sum(sum(of_fold, torch.tensor(0)))  # none where C is given
            score = 100 * float(right) / size_of(part, ranks)
        yield solution, score


def _predict(decision: Tensor) -> Tensor:
    return (decision[:, 0] > 0).long() if decision.shape[1] == 1 else decision.argmax(1)


def _placed(split: Split, device: torch.device | str | None, beside: Split) -> Split:
    return split if device is None else Split(place(split.X, torch.device(device), beside.X.nbytes), split.y)


def _right(solution: Solution, classes: Tensor, width: int, split: Split, ranks: Ranks) -> NDArray[np.bool_]:
    """Which images the first problem's `width` columns classify correctly, those of all ranks."""
    decision = decision_values(split.X, solution.coef[:, :width], solution.intercept[:width])
    right: NDArray[np.bool_] = ranks.gathered(classes[_predict(decision.cpu())] == split.y).numpy()
    return right
