"""The Inception score (Salimans et al. 2016, section 4): exp E KL(p(y|x) ‖ p(y)), if the classifier is Inception.

As the authors' code and torch-fidelity: the mean over splits of consecutive images, each with its own p(y), after a
seeded shuffle as torch-fidelity's; the spread is the standard deviation over splits, which divides by their number
(torchmetrics divides by one less). Probabilities are float64.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

SPLITS = 10


class InceptionScore(NamedTuple):
    """mean and std over splits; the mean lies between 1 and the number of classes."""

    mean: float
    std: float
    splits: int


def inception_score(logits: Tensor, *, seed: int, splits: int = SPLITS) -> InceptionScore:
    """From class logits (n, classes). A seed shuffles as torch-fidelity's `rng_seed` does.

    Raises ValueError for fewer images than splits, and for logits that are not finite.
    """
    n = len(logits)
    if not 1 <= splits <= n:
        raise ValueError(f"{splits} splits of {n} images: want 1 to {n}")
    if not bool(logits.isfinite().all()):
        raise ValueError("logits hold NaN or infinite values")
    order = _shuffled(n, seed).to(logits.device)
    scores = []
    for i in range(splits):
        log_p = logits[order[i * n // splits : (i + 1) * n // splits]].double().log_softmax(1)
        log_marginal = log_p.logsumexp(0) - math.log(len(log_p))
        scores.append(float((log_p.exp() * (log_p - log_marginal)).sum(1).mean().exp()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits)


def _shuffled(n: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).permutation(n))


class ProbabilityAccumulator(Metric):
    """The same from batches, on one rank or several, without keeping logits: Σp and Σ p log p of every split.

    n: of all images, which decides their splits. E KL(p ‖ p̄) = Σ p log p / m − Σ p̄ log p̄ for a split of m images.
    """

    full_state_update = False
    seen: Tensor
    counts: Tensor
    sums: Tensor
    negentropy: Tensor

    def __init__(self, n: int, classes: int, *, seed: int, splits: int = SPLITS) -> None:
        """Raises ValueError for fewer images than splits."""
        super().__init__()
        if not 1 <= splits <= n:
            raise ValueError(f"{splits} splits of {n} images: want 1 to {n}")
        self.n, self.splits = n, splits
        self.split, order = torch.empty(n, dtype=torch.int64), _shuffled(n, seed)
        for i in range(splits):
            self.split[order[i * n // splits : (i + 1) * n // splits]] = i
        self.add_state("seen", torch.zeros(n, dtype=torch.int64), dist_reduce_fx="sum")
        for name, shape in (("counts", (splits,)), ("sums", (splits, classes)), ("negentropy", (splits,))):
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, rows: Tensor) -> None:
        """logits: (b, classes); rows: int64 (b,), which of the n images each belongs to."""
        here = rows.to(self.seen.device)
        self.seen.index_add_(0, here, torch.ones_like(here))
        log_p = logits.to(self.counts.device, torch.float64).log_softmax(1)
        # a logit of -inf alone leaves no trace in the sums
        log_p = torch.where(logits.to(log_p.device).isfinite(), log_p, torch.nan)
        p = log_p.exp()
        split = self.split[rows.cpu()].to(p.device)
        self.counts.index_add_(0, split, torch.ones_like(p[:, 0]))
        self.sums.index_add_(0, split, p)
        # a probability that underflows to 0 has the limit 0
        self.negentropy.index_add_(0, split, torch.where(p > 0, p * log_p, 0.0).sum(1))

    def compute(self) -> InceptionScore:
        """Raises ValueError unless all n images came, once each, and for logits that are not finite."""
        if not bool((self.seen == 1).all()):
            times = f"{int((self.seen == 0).sum())} never and {int((self.seen > 1).sum())} more than once"
            raise ValueError(f"of {self.n} images that were announced, {times} came")
        if not bool(self.sums.isfinite().all()):
            raise ValueError("logits hold NaN or infinite values")
        marginal = self.sums / self.counts[:, None]
        divergence = self.negentropy / self.counts - torch.special.xlogy(marginal, marginal).sum(1)
        scores = divergence.exp().cpu().numpy()
        return InceptionScore(float(np.mean(scores)), float(np.std(scores)), self.splits)

    def set_dtype(self, dst_type: Any) -> "ProbabilityAccumulator":
        """Stays in float64."""
        return self
