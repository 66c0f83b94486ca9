"""What a classifier of frozen features achieves."""

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dcgan_eval.results import Interval, Spread
from dcgan_eval.results.intervals import of_images, of_mean, spread
from dcgan_eval.results.outcomes import Outcomes
from dcgan_eval.results.row import CBy


@dataclass(frozen=True)
class Probe:
    """An accuracy and how it came about.

    accuracy: %, the mean over draws. right: bool (draws, n), which test images each draw classified correctly.
    classifier: such as 'L2-SVM' or '5-NN'. C: the one chosen, of several the most frequent, and C_by how; None and ''
    for k-NN. curve: (C, accuracy on folds or validation in %) for every C tried. method: how features are classified;
    remark: how many draws of labels there were, and where C is from. n_train: training images of one fit.
    gap: the largest certified distance from the optimum
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


def of_outcomes(
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
    """What came of test images classified right, bool (draws, n), by a probe begun at `start`."""
    # of whole numbers, so that one draw's accuracy is correctly rounded
    accuracy = 100 * int(right.sum()) / right.size
    return Probe(accuracy, right, classifier, C, C_by, curve, method, remark, n_train, gap, time.perf_counter() - start)
