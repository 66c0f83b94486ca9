"""Two numbers compared: how far apart they are, and whether that is more than chance."""

from dataclasses import dataclass

import numpy as np

from dcgan_eval.results import Row
from dcgan_eval.runtime.errors import InputError

# what two numbers must share to be set one above the other; what is compared (features, model) is not among them
PROTOCOL = (
    "task", "data", "data_sha256", "question", "condition", "classifier", "labels", "metric", "role", "unit", "method",
    "n", "n_reference",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """value: first minus second. half: half the width of its interval, None where nothing is known of it. kind: one
    line that says what interval that is."""

    value: float
    half: float | None
    kind: str

    @property
    def within(self) -> bool:
        """Whether the interval holds 0: a difference that may be chance."""
        return self.half is not None and abs(self.value) <= self.half


def unequal(a: Row, b: Row) -> str | None:
    """The first part of the protocol in which two numbers differ, as 'n_reference 4000 and 50000'; None if in none."""
    for name in PROTOCOL:
        left, right = getattr(a, name), getattr(b, name)
        if left != right:
            return f"{name} {left!r} and {right!r}"
    return None


def difference(a: Row, b: Row) -> Difference:
    """a - b, with an interval of 95 %.

    Of equal draws the interval is that of the mean of their differences, by Student's t: what both owe to the same
    draw cancels. It speaks of other draws of labels, not of other test images. Otherwise both spreads are taken for
    independent: the root of the sum of their squares.
    Raises InputError where the two are of unequal protocol.
    """
    what = unequal(a, b)
    if what is not None:
        raise InputError(
            f"{a.features} and {b.features} are of unequal protocol and cannot be compared: {what}; measure both alike"
        )
    left, right = np.array(a.draws), np.array(b.draws)
    if a.seed == b.seed and len(left) == len(right) > 1:
        from scipy.stats import t

        each = left - right
        half = float(t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5)
        return Difference(
            float(each.mean()), half, f"95 % interval of the mean difference over {len(each)} equal draws"
        )
    return apart(a, b)


def apart(a: Row, b: Row) -> Difference:
    """a - b of numbers that share no draws, nor perhaps the data, such as the paper's."""
    spreads = [row.spread for row in (a, b) if row.spread is not None]
    half = float(np.hypot.reduce(spreads)) if spreads else None
    return Difference(a.value - b.value, half, "root of the sum of squares of both ±" if spreads else "")
