"""Two numbers compared: how far apart they are, and where that difference would be if more had been measured."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dcgan_eval.results import Row
from dcgan_eval.results.intervals import REAL_IMAGES, Z95, ends, simultaneous
from dcgan_eval.runtime.errors import InputError

# what two numbers must share to be set one above the other; what is compared (features, model) is not among them
PROTOCOL = (
    "task", "data", "data_sha256", "question", "condition", "classifier", "labels", "metric", "role", "unit", "method",
    "n", "n_reference",
)  # fmt: skip

Over = Literal["paired by image", "paired by draw", "not paired", "independent sets", ""]

POWER = 0.8416212335729143  # the normal quantile of 80 %


@dataclass(frozen=True)
class Difference:
    """value: first minus second. low, high: the ends of its 95 % interval, None where nothing is known of it. over:
    what is the same for both, and so no part of the interval."""

    value: float
    low: float | None = None
    high: float | None = None
    over: Over = ""

    @property
    def within(self) -> bool:
        """Whether the interval holds 0: a difference that may be chance."""
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high


def unequal(a: Row, b: Row) -> str | None:
    """The first part of the protocol in which two numbers differ, as 'n_reference 4000 and 50000'; None if in none."""
    for name in PROTOCOL:
        left, right = getattr(a, name), getattr(b, name)
        if left != right:
            return f"{name} {left!r} and {right!r}"
    return None


def difference(a: Row, b: Row, models: int = 2) -> Difference:
    """a - b over other test images, in the unit of both.

    Where both say which test images they classified correctly, image by image; else as two independent samples, which
    generated sets are, and for which the interval of two models on the same test images is too wide. With several draws
    of labels it speaks of these draws.

    models: of so many the intervals of all differences hold at once (`simultaneous`).
    Raises InputError where the two are of unequal protocol, or outcomes are damaged.
    """
    what = unequal(a, b)
    if what is not None:
        raise InputError(
            f"{a.features} and {b.features} are of unequal protocol and cannot be compared: {what}; measure both alike"
        )
    sign = -1 if a.metric == "error" else 1
    known = [None if row.outcomes is None else row.outcomes.right(row.n) for row in (a, b)]
    if known[0] is not None and known[1] is not None:
        low, high = of_pairs(known[0].mean(0) - known[1].mean(0), simultaneous(models))
        low, high = sorted((100 * sign * low, 100 * sign * high))
        return Difference(a.value - b.value, low, high, "paired by image")
    return _independent(a, b, simultaneous(models))


def of_pairs(each: NDArray[np.float64], z: float) -> tuple[float, float]:
    """The interval of the mean of differences (n,) from -1 to 1: Wald's on two more, half of each outcome, as Agresti
    and Min 2005 for pairs of yes and no; its own centre, a little nearer to 0."""
    n = len(each) + 2
    centre = float(each.sum()) / n
    variance = (float((each**2).sum()) + 1) / n - centre**2
    half = z * (variance / n) ** 0.5
    return max(-1.0, centre - half), min(1.0, centre + half)


def over_draws(a: Row, b: Row, models: int = 2) -> Difference | None:
    """a - b over other draws of the labels, draw by draw, by Student's t; None where they do not share their draws.

    What both owe to the same draw cancels. It speaks of these test images. models: as `difference`.
    """
    left, right = np.array(a.draws), np.array(b.draws)
    if unequal(a, b) is not None or a.seed != b.seed or not len(left) == len(right) > 1:
        return None
    each = left - right
    half = simultaneous(models, len(each) - 1) * float(each.std(ddof=1)) / len(each) ** 0.5
    middle = float(each.mean())
    return Difference(middle, middle - half, middle + half, "paired by draw")


def newcombe(first: tuple[float, float], second: tuple[float, float], z: float) -> tuple[float, float]:
    """The interval, in %, of the difference of two independent fractions, each (share from 0 to 1, trials), by the ends
    of Wilson's for both (Newcombe 1998, method 10)."""
    (p, n), (q, m) = first, second
    (low, high), (low_q, high_q) = (ends(share, trials, z) for share, trials in ((p, n), (q, m)))
    return (
        100 * (p - q - float(np.hypot(p - low, high_q - q))),
        100 * (p - q + float(np.hypot(high - p, q - low_q))),
    )


def _independent(a: Row, b: Row, z: float) -> Difference:
    """Of single numbers that have an interval; of others, and of means over draws, without one."""
    value = a.value - b.value
    if a.draws or b.draws:
        return Difference(value)
    if a.interval == b.interval == "Wilson" and a.unit == b.unit == "%":
        low, high = newcombe((a.value / 100, a.interval_n), (b.value / 100, b.interval_n), z)
        return Difference(value, low, high, "not paired")
    if not (a.interval and b.interval) or REAL_IMAGES in (a.interval_of, b.interval_of):
        return Difference(value)
    low, high = by_squares(a, b, z / Z95)
    return Difference(value, low, high, "independent sets")


def by_squares(a: Row, b: Row, wider: float = 1.0) -> tuple[float, float]:
    """The interval of a - b of independent numbers, from the ends of both intervals (Zou and Donner 2008; Newcombe's is
    the same of fractions). wider: how much longer than for one difference alone."""
    (below_a, above_a), (below_b, above_b) = (_halves(row) for row in (a, b))
    value = a.value - b.value
    return value - wider * math.hypot(below_a, above_b), value + wider * math.hypot(above_a, below_b)


def _halves(row: Row) -> tuple[float, float]:
    """How far the ends of its interval are from its value; of a symmetric one also where an end is cut off."""
    assert row.low is not None
    assert row.high is not None
    below, above = row.value - row.low, row.high - row.value
    return (max(below, above),) * 2 if row.interval in _BY_T else (below, above)


_BY_T = ("Student's t", "jackknife")


def _quantile(row: Row) -> float:
    """That its interval was made with."""
    return simultaneous(2, row.interval_n - 1) if row.interval in _BY_T else Z95


def standard_error(row: Row) -> float | None:
    """Of one generated set: the spread over several sets, else what the interval was made from; None without either."""
    if row.draws:
        return row.spread
    if not row.interval or row.interval_of == REAL_IMAGES:
        return None
    return sum(_halves(row)) / 2 / _quantile(row)


def resolving(row: Row, difference: float) -> int:
    """Images of each of two generated sets, with which 80 % of the 95 % intervals of a difference of this size exclude
    0: the standard error of a set falls with the root of its number of images.

    row: of a set of `row.n` images. Raises ValueError where its standard error is not known.
    """
    error = standard_error(row)
    if error is None:
        raise ValueError(f"{row.metric} of {row.model}: has no standard error")
    quantile = Z95 if row.draws else _quantile(row)
    return max(2, math.ceil(2 * row.n * ((quantile + POWER) * error / difference) ** 2))


def apart(a: Row, quote: Row) -> Difference:
    """a - a quoted number of the same protocol, which knows no images of ours: of fractions of single fits with the
    interval of two independent samples, else without one."""
    counted = quote.source != a.source and quote.spread is None and quote.n > 0 and not a.draws
    if a.interval != "Wilson" or not counted:
        return Difference(a.value - quote.value)
    trials = replace(quote, interval="Wilson", interval_n=quote.n, interval_of=a.interval_of)
    return _independent(a, trials, simultaneous(2))
