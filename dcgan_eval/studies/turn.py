"""Turning (section 6.3.2 of the paper): a direction in z that changes one thing, and how evenly it does.

The paper makes a "turn" vector from four averaged samples of faces looking left and four looking right, adds it to
random z step by step, and sees faces turn. Here the change is measured along the way, and set beside that along
many random directions of the same length, each of which moves the same z.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dcgan_eval import figures
from dcgan_eval.features import Extractor, extract
from dcgan_eval.images import Images, from_tensor
from dcgan_eval.options import DirectionMethod, TurnOptions
from dcgan_eval.results import Row
from dcgan_eval.results.intervals import Z95, by_rank
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.run import Run
from dcgan_eval.studies.judge import Attribute, attribute_of, certain, certified_svm, chosen_scores
from dcgan_eval.studies.model import Model
from dcgan_eval.studies.rows import mean, repeated, row, share

Score = Callable[[Tensor], Tensor]  # uint8 (n, C, H, W) → float64 (n,): more of it is nearer to the end of the turn

AVERAGED = 4  # samples of each group, as in the paper
SHOWN = 8  # rows of the picture
DIRECTIONS = 199  # random ones: no p-value is below 1 / (1 + DIRECTIONS)
RANDOM = "random directions"
STRAIGHT = 16  # of them, those that are followed step by step, the others to both ends alone
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
        return extract(judge, from_tensor(images, name="samples"), Run(model.device))[:, judge.features].double()

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
    """What changes along a direction, or along several.

    t: (steps,), from -1 to 1, as far on either side. score: float64 (..., steps), of every z moved by t.
    """

    t: Tensor
    score: Tensor

    @property
    def slopes(self) -> Tensor:
        """Half of the change of each z's score from one end to the other, float64 (...): for one length."""
        return (self.score[..., -1] - self.score[..., 0]) / 2

    @property
    def straight(self) -> Tensor:
        """R²: the share of the variance of each z's score that the line of least squares explains, float64 (...); 0
        where nothing varies."""
        t = self.t.double()
        centred = self.score - self.score.mean(-1, keepdim=True)
        slopes = (centred * t).sum(-1, keepdim=True) / t.square().sum()
        left = (centred - slopes * t).square().sum(-1)
        total = centred.square().sum(-1)
        return torch.where(total > 0, 1 - left / total.clamp_min(1e-300), 0.0)


@dataclass(frozen=True)
class Turn:
    """images: uint8 (rows, steps, C, H, W) along the direction. curve: along it, score (num, steps). random: from end
    to end along random directions, score (`DIRECTIONS`, num, 2), and between: along the first `STRAIGHT` of them, step
    by step, each turned to where its mean slope is positive."""

    images: Tensor
    curve: Curve
    random: Curve
    between: Curve
    groups: Groups
    rows: list[Row]


@exact()
def turn(
    model: Model,
    groups: Groups,
    options: TurnOptions = TurnOptions(),
) -> Turn:
    """Moves `starts` z along the direction between two groups, from once its length backwards to once forwards.

    The z are those of the samples after the first `num_samples`, which are in no group. Rows: the mean slope of the
    score, half of its change from one end to the other; how straight the score of one z is; and the share of z on the
    second group's side at either end. The same of `DIRECTIONS` random directions of the same length, each of which
    moves all these z, and is turned to where its mean slope is positive, since a random direction has no sign: the mean
    over directions and their standard deviation; how straight of the first `STRAIGHT` of them. And a p-value: how often
    the mean slope of a random direction is at least as steep.
    """
    num, starts, steps, seed = options.num_samples, options.starts, options.steps, options.seed
    start = time.perf_counter()
    z = model.z(num + starts, seed)
    d = direction(z[:num], groups, options.method)
    ways = torch.randn(DIRECTIONS, len(d), generator=stream(seed, "directions"))
    ways *= d.norm() / ways.norm(dim=1, keepdim=True)
    t = torch.linspace(-1, 1, steps)

    def along(way: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Images of the first `SHOWN` z, and the score of every z, (starts, steps), at each t."""
        moved = z[num:, None] + t[:, None] * way
        images = model.draw(moved.flatten(0, 1))
        score = groups.score(images).reshape(starts, len(t))
        return images[: SHOWN * len(t)].reshape(-1, len(t), *images.shape[1:]), score

    images, score = along(d, t)
    curve = Curve(t, score)
    scores = []  # of a random direction at all t, or at both ends
    bar = tqdm(ways, desc="random directions", unit="direction", leave=False, disable=not model.run.progress)
    for i, way in enumerate(bar):
        scores.append(_turned(along(way, t if i < STRAIGHT else t[[0, -1]])[1]))
    others = Curve(t[[0, -1]], torch.stack([score[:, [0, -1]] for score in scores]))
    between = Curve(t, torch.stack(scores[:STRAIGHT]))
    took = time.perf_counter() - start
    each = others.slopes.mean(1)
    above = 100 * (others.score > 0).double().mean(1)  # (directions, 2)
    second = "share of z with a score above 0"
    # how a metric is found, its fields for the direction, and those for random ones
    numbers: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "slope": (
            "half of the change of the score from t = −1 to t = 1, mean over z; random directions are turned to where "
            f"it is positive; score: {groups.about}, in standard deviations over samples",
            mean(curve.slopes, "z"),
            repeated(each.tolist(), RANDOM),
        ),
        "R²": (
            f"of a straight line through each z's score, mean over z; of {len(between.score)} random directions",
            {"value": float(curve.straight.mean())},
            repeated(between.straight.mean(1).tolist(), RANDOM),
        ),
        "second at t = −1": (
            second,
            share(int((curve.score[:, 0] > 0).sum()), starts, "z"),
            {"unit": "%", **repeated(above[:, 0].tolist(), RANDOM)},
        ),
        "second at t = 1": (
            second,
            share(int((curve.score[:, -1] > 0).sum()), starts, "z"),
            {"unit": "%", **repeated(above[:, 1].tolist(), RANDOM)},
        ),
    }
    made = f"{len(groups.start)} and {len(groups.end)} samples"
    way = f"{'difference of the means of' if options.method == 'mean' else 'linear SVM in z between'} {made}"
    common: dict[str, Any] = {
        "question": f"{groups.names[0]} to {groups.names[1]}",
        "n": starts,
        "n_reference": num,
        "seed": seed,
        "seconds": took,
        "data": groups.data,
        "judge": groups.judge,
        **model.fields,
    }
    rows = [
        row("turn", metric, condition=way, method=about, **common, **own) for metric, (about, own, _) in numbers.items()
    ]
    rows += [
        row("turn", metric, condition=RANDOM, method=about, **common, **theirs)
        for metric, (about, _, theirs) in numbers.items()
    ]
    p = by_rank(abs(float(curve.slopes.mean())), each, high=True)
    about = (
        f"share of the direction and {len(each)} random ones that are at least as steep as the direction, up or down"
    )
    rows.append(row("turn", "slope", p, role="p-value", condition=way, method=about, **common))
    return Turn(images, curve, others, between, groups, rows)


def _turned(score: Tensor) -> Tensor:
    """The score (num, steps) along a direction, or along its opposite: where the mean slope is positive."""
    return score if float((score[:, -1] - score[:, 0]).mean()) >= 0 else score.flip(1)


def picture(found: Turn, model: Model) -> figures.Picture:
    """Rows of images along the direction, above the mean score along it, and the mean along random ones with their
    standard deviation over directions."""
    t, n = found.curve.t.tolist(), len(found.curve.score)
    own, others = found.curve.score, found.between.score.mean(1)  # (num, steps), (directions, steps)
    lines: dict[str, figures.Line] = {
        "this direction": (t, own.mean(0).tolist(), (Z95 * _deviation(own) / n**0.5).tolist()),
        f"{len(others)} random ones of its length": (t, others.mean(0).tolist(), _deviation(others).tolist()),
    }
    middle, slope = float(own.mean()), float(found.curve.slopes.mean())
    lines["a straight line"] = (t, [middle + slope * at for at in t])
    start, end = found.groups.names
    panel = figures.Panel(
        f"Is it straight? R² of one z {float(found.curve.straight.mean()):.3f}, mean of {n}",
        lines,
        "t, in lengths of the direction",
        f"{start} … {end}",
    )
    columns = figures.fitting(len(t))
    names = [f"{t[i]:+.2f}" for i in columns]
    tiles = figures.Tiles(f"z + t · direction, from {start} to {end}", found.images[:, columns], columns=names)
    return figures.sheet([tiles], f"Turning {model.name} from {start} to {end}", panel)


def _deviation(values: Tensor) -> Tensor:
    """The standard deviation over the first dimension; 0 of one value."""
    return values.std(0) if len(values) > 1 else 0 * values[0]
