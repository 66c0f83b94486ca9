"""Accumulators for those who use torchmetrics: a thin layer, which nothing else in this package needs.

They take batches, and are synchronised over processes by torchmetrics. Both stay in float64 whatever module they are
part of.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dcgan_eval.metrics.frechet import Gaussian, Moments
from dcgan_eval.metrics.inception_score import SPLITS, InceptionScore, Splits, Sums


class GaussianMetric(Metric):
    """Fits a `Gaussian` to features that come in batches, on one rank or several: the same whatever the batches."""

    full_state_update = True  # moments merge otherwise than torchmetrics would
    n: Tensor
    mean: Tensor
    scatter: Tensor

    def __init__(self, dimensions: int, **options: Any) -> None:
        super().__init__(**options)
        for name, part in Moments.none(dimensions)._asdict().items():
            self.add_state(name, part, dist_reduce_fx=None)

    def update(self, features: Tensor) -> None:
        """features: (b, d), of any b."""
        self._merge(Moments.of(features.to(self.mean.device)))

    def merge_state(self, incoming_state: Any) -> None:
        """Adds what another `GaussianMetric` was given."""
        self._merge(Moments(incoming_state.n, incoming_state.mean, incoming_state.scatter))

    def _merge(self, more: Moments) -> None:
        self.n, self.mean, self.scatter = Moments(self.n, self.mean, self.scatter).merged(more)

    def compute(self) -> Gaussian:
        """Raises ValueError after fewer than two features, or values that are not finite."""
        parts = (self.n, self.mean, self.scatter)
        if self.n.ndim:  # what torchmetrics gathered from all ranks, one entry each
            return reduce(Moments.merged, (Moments(*part) for part in zip(*parts, strict=True))).gaussian()
        return Moments(*parts).gaussian()

    def set_dtype(self, dst_type: Any) -> "GaussianMetric":
        """Stays in float64."""
        return self


class InceptionScoreMetric(Metric):
    """The Inception score from batches, on one rank or several, without keeping logits.

    n: of all images, which decides their splits.
    """

    full_state_update = False
    seen: Tensor
    counts: Tensor
    probabilities: Tensor
    negentropy: Tensor

    def __init__(self, n: int, classes: int, *, seed: int, splits: int = SPLITS) -> None:
        """Raises ValueError for fewer images than splits."""
        super().__init__()
        self._splits = Splits.drawn(n, seed=seed, splits=splits)
        nothing = self._splits.sums(torch.zeros(0, classes), torch.zeros(0, dtype=torch.int64))
        for name, part in (("seen", torch.zeros(n, dtype=torch.int64)), *nothing._asdict().items()):
            self.add_state(name, part, dist_reduce_fx="sum")

    def update(self, logits: Tensor, rows: Tensor) -> None:
        """logits: (b, classes). rows: int64 (b,), which of the n images each belongs to."""
        for name, part in self._splits.sums(logits, rows)._asdict().items():
            getattr(self, name).add_(part.to(self.counts.device))
        here = rows.to(self.seen.device)
        self.seen.index_add_(0, here, torch.ones_like(here))

    def compute(self) -> InceptionScore:
        """Raises ValueError unless all n images came, once each, and for logits that are not finite."""
        return self._splits.score(Sums(self.counts, self.probabilities, self.negentropy), self.seen)

    def set_dtype(self, dst_type: Any) -> "InceptionScoreMetric":
        """Stays in float64."""
        return self
