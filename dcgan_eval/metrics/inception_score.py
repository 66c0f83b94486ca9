"""The Inception score (Salimans et al. 2016, section 4): exp E KL(p(y|x) ‖ p(y)), if the classifier is Inception.

As the authors' code and torch-fidelity: the mean over splits of consecutive images, each with its own p(y), after a
seeded shuffle as torch-fidelity's; the spread is the standard deviation over splits, which divides by their number
(torchmetrics divides by one less). Probabilities are float64.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcgan_eval.runtime.ranks import Ranks

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


class Sums(NamedTuple):
    """Of the probabilities of images, by split, so that they can be added: no logits are kept.

    counts: images, float64 (splits,). probabilities: Σp, float64 (splits, classes). negentropy: Σ p log p, float64
    (splits,).
    """

    counts: Tensor
    probabilities: Tensor
    negentropy: Tensor

    def plus(self, other: "Sums") -> "Sums":
        """Of the images of both."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))

    def over(self, ranks: Ranks) -> "Sums":
        """Of the images of all ranks, which must call this together; on the CPU."""
        return Sums(*(ranks.sum(part.cpu().clone()) for part in self))


@dataclass(frozen=True, eq=False)
class Splits:
    """Which split each of n images belongs to, for a score from batches. split: int64 (n,), in [0, splits)."""

    split: Tensor
    splits: int

    @classmethod
    def drawn(cls, n: int, *, seed: int, splits: int = SPLITS) -> "Splits":
        """Those of `inception_score`. Raises ValueError for fewer images than splits."""
        if not 1 <= splits <= n:
            raise ValueError(f"{splits} splits of {n} images: want 1 to {n}")
        split, order = torch.empty(n, dtype=torch.int64), _shuffled(n, seed)
        for i in range(splits):
            split[order[i * n // splits : (i + 1) * n // splits]] = i
        return cls(split, splits)

    def sums(self, logits: Tensor, rows: Tensor) -> Sums:
        """Of a batch. logits: (b, classes). rows: int64 (b,), which of the n images each belongs to."""
        log_p = logits.double().log_softmax(1)
        # a logit of -inf alone leaves no trace in the sums
        log_p = torch.where(logits.isfinite(), log_p, torch.nan)
        p = log_p.exp()
        split = self.split[rows.cpu()].to(p.device)
        return Sums(
            p.new_zeros(self.splits).index_add_(0, split, torch.ones_like(p[:, 0])),
            p.new_zeros(self.splits, p.shape[1]).index_add_(0, split, p),
            # a probability that underflows to 0 has the limit 0
            p.new_zeros(self.splits).index_add_(0, split, torch.where(p > 0, p * log_p, 0.0).sum(1)),
        )

    def score(self, sums: Sums, seen: Tensor) -> InceptionScore:
        """E KL(p ‖ p̄) = Σ p log p / m − Σ p̄ log p̄ for a split of m images.

        seen: how often each image came, int64 (n,).
        Raises ValueError unless all n images came, once each, and for logits that are not finite.
        """
        if not bool((seen == 1).all()):
            times = f"{int((seen == 0).sum())} never and {int((seen > 1).sum())} more than once"
            raise ValueError(f"of {len(self.split)} images that were announced, {times} came")
        if not bool(sums.probabilities.isfinite().all()):
            raise ValueError("logits hold NaN or infinite values")
        marginal = sums.probabilities / sums.counts[:, None]
        divergence = sums.negentropy / sums.counts - torch.special.xlogy(marginal, marginal).sum(1)
        scores = divergence.exp().cpu().numpy()
        return InceptionScore(float(np.mean(scores)), float(np.std(scores)), self.splits)
