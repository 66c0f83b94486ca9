"""Turning (section 6.3.2 of the paper): a direction in z that changes one thing, and how evenly it does.

The paper makes a "turn" vector from four averaged samples of faces looking left and four looking right, adds it to
random z step by step, and sees faces turn. Here the change is measured along the way, and set beside that along a
random direction of the same length.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dcgan_eval import figures
from dcgan_eval.errors import InputError
from dcgan_eval.features import Extractor, extract
from dcgan_eval.images import Images, from_tensor
from dcgan_eval.results import Row
from dcgan_eval.streams import stream
from dcgan_eval.studies.judge import Attribute, attribute_of, certain
from dcgan_eval.studies.model import Model
from dcgan_eval.studies.rows import Z95, row, spread
from dcgan_eval.svm import L2SVC

By = Literal["mean", "svm"]
Score = Callable[[Tensor], Tensor]  # uint8 (n, C, H, W) → float64 (n,): more of it is nearer to the end of the turn

AVERAGED = 4  # samples of each group, as in the paper
SHOWN = 8  # rows of the picture
SVM_C = 1.0  # in z, whose coordinates are of order 1; a direction hardly depends on it


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


def numbered(model: Model, start: Sequence[int], end: Sequence[int], num: int, seed: int, judge: Extractor) -> Groups:
    """Groups of samples by number; between them, their images' features along the line through both means.

    Raises InputError for empty groups, numbers out of range, and numbers in both.
    """
    for name, numbers in (("FROM", start), ("TO", end)):
        if not numbers:
            raise InputError(f"{name}: is empty; want numbers of samples, as in 3,17,40,8")
        for number in numbers:
            if not 0 <= number < num:
                raise InputError(f"{name}: sample {number}: samples are numbered 0 to {num - 1}; --num draws more")
    if both := set(start) & set(end):
        raise InputError(f"samples {', '.join(map(str, sorted(both)))} are in both groups; a direction needs two ends")
    rows = [torch.tensor(numbers) for numbers in (start, end)]
    z = model.z(num, seed)

    def features(images: Tensor) -> Tensor:
        return extract(judge, from_tensor(images, name="samples"), device=model.device).double()

    low, high = (features(model.draw(z[some])).mean(0) for some in rows)
    line = high - low
    deviation = float((features(model.samples(num, seed)) @ line).std())

    def score(images: Tensor) -> Tensor:
        return (features(images) - (low + high) / 2) @ line / deviation

    about = f"place along the line between both groups' means in {judge.name}"
    return Groups(rows[0], rows[1], score, ("the first group", "the second group"), about, judge)


def named(
    model: Model, start: Sequence[str], end: Sequence[str], attributes: Sequence[Attribute], num: int, seed: int, by: By
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
    images = model.samples(num, seed)
    rows = [certain(names, images, attributes, AVERAGED, " & ".join(names)) for names in (start, end)]
    if by == "mean":
        rows = [some[:AVERAGED] for some in rows]
    i, j = (attribute.values.index(name) for name in differ)

    def margin(scores: Tensor) -> Tensor:
        return scores[:, j] - scores[:, i]

    typical = margin(attribute.judge(images))

    def score(some: Tensor) -> Tensor:
        return margin(attribute.judge(some)) / typical.std()

    return Groups(rows[0], rows[1], score, (differ[0], differ[1]), attribute.about, attribute.extractor, attribute.data)


def direction(z: Tensor, groups: Groups, by: By) -> Tensor:
    """From the first group to the second, float32 (d,), as long as their means are apart along it.

    'mean': the difference of both means. 'svm': normal to the plane of a linear SVM between them.
    """
    apart = z[groups.end].mean(0) - z[groups.start].mean(0)
    if by == "mean":
        return apart
    rows = torch.cat([groups.start, groups.end])
    y = torch.cat([torch.zeros(len(groups.start)), torch.ones(len(groups.end))]).int()
    # about their middle, because the intercept is penalised
    normal = torch.from_numpy(L2SVC(SVM_C).fit(z[rows] - z[rows].mean(0), y.numpy()).coef_[0]).float()
    normal /= normal.norm()
    return (apart @ normal) * normal


@dataclass(frozen=True)
class Curve:
    """What changes along a direction: t (steps,), from -1 to 1; score float64 (num, steps) of every z moved by t."""

    t: Tensor
    score: Tensor

    @property
    def line(self) -> tuple[float, float]:
        """Slope of the mean score over t by least squares, and the share of its variance that the line explains."""
        mean = self.score.mean(0)
        t = self.t.double()
        slope = float((t * (mean - mean.mean())).sum() / t.square().sum())
        left = (mean - mean.mean() - slope * t).square().sum()
        total = (mean - mean.mean()).square().sum()
        return slope, float(1 - left / total) if float(total) > 0 else 0.0


@dataclass(frozen=True)
class Turn:
    """images: uint8 (rows, steps, C, H, W) along the direction. curve, random: along it, and along a random one."""

    images: Tensor
    curve: Curve
    random: Curve
    groups: Groups
    rows: list[Row]


def turn(
    model: Model,
    groups: Groups,
    *,
    by: By = "mean",
    num: int = 256,
    starts: int = 8,
    steps: int = 8,
    seed: int = 0,
    command: str = "",
) -> Turn:
    """Moves `starts` z along the direction between two groups, from once its length backwards to once forwards.

    The z are those of samples num, num + 1, …, which are in no group. Rows, of the direction and of a random one of the
    same length: slope, the share of the mean change that a straight line explains, and the share of z that end up
    nearer to the second group at either end. Raises InputError for fewer than 3 steps.
    """
    if steps < 3:
        raise InputError(f"--steps {steps}: whether a change is straight takes at least 3")
    start = time.perf_counter()
    z = model.z(num + starts, seed)
    d = direction(z[:num], groups, by)
    other = torch.randn(len(d), generator=stream(seed, "direction"))
    t = torch.linspace(-1, 1, steps)

    def along(way: Tensor) -> tuple[Tensor, Curve]:
        moved = z[num:, None] + t[:, None] * way
        images = model.draw(moved.flatten(0, 1))
        score = groups.score(images).reshape(starts, steps)
        return images[: SHOWN * steps].reshape(-1, steps, *images.shape[1:]), Curve(t, score)

    images, curve = along(d)
    _, random = along(other * (d.norm() / other.norm()))
    took = time.perf_counter() - start
    rows = []
    ends_of = f"{groups.names[0]} to {groups.names[1]}"
    how = f"{groups.about}, in standard deviations over samples"
    made = f"{len(groups.start)} and {len(groups.end)} samples"
    first = "difference of the means of" if by == "mean" else "linear SVM in z between"
    for way, some in ((f"{first} {made}", curve), ("random direction", random)):
        slope, straight = some.line
        ends = some.score[:, -1] - some.score[:, 0]
        for metric, value, more in (
            ("slope", slope, spread(ends / 2, "z")),
            ("R² of a straight line", straight, {}),
            ("second at t = −1", 100 * float((some.score[:, 0] > 0).double().mean()), {"unit": "%"}),
            ("second at t = 1", 100 * float((some.score[:, -1] > 0).double().mean()), {"unit": "%"}),
        ):
            rows.append(
                row(
                    "turn", metric, value, protocol=f"{ends_of}: {way}", method=how, n=starts, n_reference=num,
                    seed=seed, command=command, seconds=took, data=groups.data, judge=groups.judge,
                    **model.fields, **more,
                )
            )  # fmt: skip
    return Turn(images, curve, random, groups, rows)


def picture(found: Turn, model: Model) -> figures.Picture:
    """Rows of images along the direction, above the mean score along it and along a random one."""
    t = found.curve.t.tolist()
    slope, straight = found.curve.line
    lines: dict[str, figures.Line] = {}
    for name, curve in (("this direction", found.curve), ("a random one of its length", found.random)):
        half = Z95 * curve.score.std(0) / len(curve.score) ** 0.5 if len(curve.score) > 1 else 0 * curve.score[0]
        lines[name] = (t, curve.score.mean(0).tolist(), half.tolist())
    middle = float(found.curve.score.mean())
    lines["a straight line"] = (t, [middle + slope * at for at in t])
    start, end = found.groups.names
    panel = figures.Panel(
        f"Is it straight? R² {straight:.3f}", lines, "t, in lengths of the direction", f"{start} … {end}"
    )
    tiles = figures.Tiles(f"z + t · direction, from {start} to {end}", found.images, columns=[f"{at:+.2f}" for at in t])
    return figures.sheet([tiles], f"Turning {model.name} from {start} to {end}", panel)
