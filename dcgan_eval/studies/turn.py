"""Turning (section 6.3.2 of the paper): a direction in z that changes one thing, and how evenly it does.

The paper makes a "turn" vector from four averaged samples of faces looking left and four looking right, adds it to
random z step by step, and sees faces turn. Here the change is measured along the way, and set beside that along
random directions of the same length.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dcgan_eval import figures
from dcgan_eval.features import Extractor, extract
from dcgan_eval.images import Images, from_tensor
from dcgan_eval.options import DirectionMethod, TurnOptions
from dcgan_eval.results import Row
from dcgan_eval.results.intervals import Z95
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.run import Run
from dcgan_eval.studies.judge import Attribute, attribute_of, certain, certified_svm, chosen_scores
from dcgan_eval.studies.model import Model
from dcgan_eval.studies.rows import mean, row, share

Score = Callable[[Tensor], Tensor]  # uint8 (n, C, H, W) → float64 (n,): more of it is nearer to the end of the turn

AVERAGED = 4  # samples of each group, as in the paper
SHOWN = 8  # rows of the picture
SVM_C = 1.0  # in z, whose coordinates are of order 1


@dataclass(frozen=True, eq=False)
class Groups:
    """The two ends of a turn: rows of the first samples, int64, and how what lies between is measured.

    score: above 0 nearer to the second; in standard deviations over samples. names: of the ends. about: how the score
    is found. judge, data: what it is found by, where that was learnt.
    """

    start: Tensor
    end: Tensor
    score: Score
    names: tuple[str, str]
    about: str
    judge: Extractor | None = None
    data: Images | None = None


@exact()
def numbered(model: Model, start: Sequence[int], end: Sequence[int], judge: Extractor, options: TurnOptions) -> Groups:
    """Groups of samples by number; between them, their images' features along the line through both means.

    Raises InputError for empty groups, numbers out of range, and numbers in both.
    """
    num, seed = options.num_samples, options.seed
    for name, numbers in (("FROM", start), ("TO", end)):
        if not numbers:
            raise InputError(f"{name}: is empty; want numbers of samples, as in 3,17,40,8")
        if len(set(numbers)) < len(numbers):
            raise InputError(f"{name}: {', '.join(map(str, numbers))}: names a sample twice")
        for number in numbers:
            if not 0 <= number < num:
                raise InputError(
                    f"{name}: sample {number}: samples are numbered 0 to {num - 1}; `num_samples` draws more"
                )
    if both := set(start) & set(end):
        raise InputError(f"samples {', '.join(map(str, sorted(both)))} are in both groups; a direction needs two ends")
    rows = [torch.tensor(numbers) for numbers in (start, end)]
    z = model.z(num, seed)

    def features(images: Tensor) -> Tensor:
        return extract(judge, from_tensor(images, name="samples"), Run(model.device)).double()

    low, high = (features(model.draw(z[some])).mean(0) for some in rows)
    line = high - low
    deviation = float((features(model.samples(num, seed)) @ line).std())

    def score(images: Tensor) -> Tensor:
        return (features(images) - (low + high) / 2) @ line / deviation

    about = f"place along the line between both groups' means in {judge.name}"
    return Groups(rows[0], rows[1], score, ("the first group", "the second group"), about, judge)


@exact()
def named(
    model: Model,
    start: Sequence[str],
    end: Sequence[str],
    attributes: Sequence[Attribute],
    options: TurnOptions,
) -> Groups:
    """Groups of samples that the choosers are sure of: the `AVERAGED` surest, or for a linear SVM the surer half.

    The values of both must differ in one attribute alone, whose judge measures what lies between.
    Raises InputError where they do not, for unknown values, and for too few samples.
    """
    differ = [name for name in (*start, *end) if (name in start) != (name in end)]
    owners = {attribute_of(name, attributes).name for name in differ}
    if len(differ) != 2 or len(owners) != 1:
        raise InputError(
            f"{' & '.join(start)} to {' & '.join(end)}: want two values of one thing, as in dark and bright, "
            "and everything else equal"
        )
    attribute = attribute_of(differ[0], attributes)
    images = model.samples(options.num_samples, options.seed)
    scores = chosen_scores([*start, *end], images, attributes)
    rows = [certain(names, scores, attributes, AVERAGED) for names in (start, end)]
    if options.method == "mean":
        rows = [some[:AVERAGED] for some in rows]
    i, j = (attribute.values.index(name) for name in differ)

    def margin(scores: Tensor) -> Tensor:
        return scores[:, j] - scores[:, i]

    typical = margin(attribute.judge(images))

    def score(some: Tensor) -> Tensor:
        return margin(attribute.judge(some)) / typical.std()

    return Groups(rows[0], rows[1], score, (differ[0], differ[1]), attribute.about, attribute.extractor, attribute.data)


def direction(z: Tensor, groups: Groups, by: DirectionMethod) -> Tensor:
    """From the first group to the second, float32 (d,), as long as their means are apart along it.

    'mean': the difference of both means. 'svm': normal to the plane of a linear SVM between them; UncertifiedError if
    that is not certified.
    """
    apart = z[groups.end].mean(0) - z[groups.start].mean(0)
    if by == "mean":
        return apart
    rows = torch.cat([groups.start, groups.end])
    y = torch.cat([torch.zeros(len(groups.start)), torch.ones(len(groups.end))]).long()
    # about their middle, because the intercept is penalised
    normal = torch.from_numpy(certified_svm(z[rows] - z[rows].mean(0), y, SVM_C).coef_[0]).float()
    normal /= normal.norm()
    return (apart @ normal) * normal


@dataclass(frozen=True)
class Curve:
    """What changes along a way: t (steps,), from -1 to 1; score float64 (num, steps) of every z moved by t."""

    t: Tensor
    score: Tensor

    @property
    def slopes(self) -> Tensor:
        """Of each z's score over t, by least squares, float64 (num,)."""
        t = self.t.double()
        return (self.score * t).sum(1) / t.square().sum()

    @property
    def straight(self) -> Tensor:
        """R²: the share of the variance of each z's score that a straight line explains, float64 (num,); 0 of none."""
        centred = self.score - self.score.mean(1, keepdim=True)
        left = (centred - self.slopes[:, None] * self.t.double()).square().sum(1)
        total = centred.square().sum(1)
        return torch.where(total > 0, 1 - left / total.clamp_min(1e-300), 0.0)


@dataclass(frozen=True)
class Turn:
    """images: uint8 (rows, steps, C, H, W) along the direction. curve, random: along it, and along random ones."""

    images: Tensor
    curve: Curve
    random: Curve
    groups: Groups
    rows: list[Row]


@exact()
def turn(
    model: Model,
    groups: Groups,
    options: TurnOptions = TurnOptions(),
) -> Turn:
    """Moves `starts` z along the direction between two groups, from once its length backwards to once forwards.

    The z are those of the samples after the first `num_samples`, which are in no group. Rows, of the direction, and of
    random ones of the same length, another for each z: the mean slope of the score, the root mean square of slopes, how
    straight the score of one z is, and the share of z on the second group's side at either end.
    """
    num, starts, steps, seed = options.num_samples, options.starts, options.steps, options.seed
    start = time.perf_counter()
    z = model.z(num + starts, seed)
    d = direction(z[:num], groups, options.method)
    others = torch.randn(starts, len(d), generator=stream(seed, "directions"))
    others *= d.norm() / others.norm(dim=1, keepdim=True)
    t = torch.linspace(-1, 1, steps)

    def along(ways: Tensor) -> tuple[Tensor, Curve]:
        moved = z[num:, None] + t[:, None] * ways[:, None]
        images = model.draw(moved.flatten(0, 1))
        score = groups.score(images).reshape(starts, steps)
        return images[: SHOWN * steps].reshape(-1, steps, *images.shape[1:]), Curve(t, score)

    images, curve = along(d.expand(starts, -1))
    _, random = along(others)
    took = time.perf_counter() - start
    rows = []
    ends_of = f"{groups.names[0]} to {groups.names[1]}"
    how = f"{groups.about}, in standard deviations over samples"
    made = f"{len(groups.start)} and {len(groups.end)} samples"
    first = "difference of the means of" if options.method == "mean" else "linear SVM in z between"
    for way, some in ((f"{first} {made}", curve), ("random directions", random)):
        for metric, value, about, more in (
            ("slope", None, f"of the score over t, mean; score: {how}", mean(some.slopes, "z")),
            ("slope, r.m.s.", float(some.slopes.square().mean().sqrt()), "root mean square over z", {}),
            ("R²", float(some.straight.mean()), "of a straight line through each z's score, mean", {}),
            ("second at t = −1", None, "share of z with a score above 0", share(_above(some, 0), starts, "z")),
            ("second at t = 1", None, "share of z with a score above 0", share(_above(some, -1), starts, "z")),
        ):
            fields: dict[str, Any] = more if value is None else {"value": value, **more}
            rows.append(
                row(
                    "turn",
                    metric,
                    question=ends_of,
                    condition=way,
                    method=about,
                    n=starts,
                    n_reference=num,
                    seed=seed,
                    seconds=took,
                    data=groups.data,
                    judge=groups.judge,
                    **model.fields,
                    **fields,
                )
            )
    return Turn(images, curve, random, groups, rows)


def _above(curve: Curve, step: int) -> int:
    return int((curve.score[:, step] > 0).sum())


def picture(found: Turn, model: Model) -> figures.Picture:
    """Rows of images along the direction, above the mean score along it and along random ones."""
    t = found.curve.t.tolist()
    lines: dict[str, figures.Line] = {}
    for name, curve in (("this direction", found.curve), ("random ones of its length", found.random)):
        half = Z95 * curve.score.std(0) / len(curve.score) ** 0.5 if len(curve.score) > 1 else 0 * curve.score[0]
        lines[name] = (t, curve.score.mean(0).tolist(), half.tolist())
    middle, slope = float(found.curve.score.mean()), float(found.curve.slopes.mean())
    lines["a straight line"] = (t, [middle + slope * at for at in t])
    start, end = found.groups.names
    panel = figures.Panel(
        f"Is it straight? R² of one z {float(found.curve.straight.mean()):.3f}, mean of {len(found.curve.score)}",
        lines,
        "t, in lengths of the direction",
        f"{start} … {end}",
    )
    columns = figures.fitting(len(t))
    names = [f"{t[i]:+.2f}" for i in columns]
    tiles = figures.Tiles(f"z + t · direction, from {start} to {end}", found.images[:, columns], columns=names)
    return figures.sheet([tiles], f"Turning {model.name} from {start} to {end}", panel)
