"""Precision, recall, density and coverage: how much of each set lies in the manifold of the other.

Improved precision and recall of Kynkäänniemi et al. 2019, eq. 1 and 2; density and coverage of Naeem et al. 2020,
eq. 4 and 6. The manifold of a set is the union of balls around its features that reach to their k-th nearest other:

    precision  share of fakes inside a real ball            recall    share of reals inside a fake ball
    density    mean number of real balls a fake is in, / k  coverage  share of real balls that hold a fake

Conventions are those of the authors' package prdc: a feature is no neighbour of itself, its copies are, and a ball
is open (d < radius). torch-fidelity takes the closed ball (d ≤ radius) and k = 3; where no distances are equal and
k is, both agree.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dcgan_eval.nearest.exact import inside_balls, k_nearest
from dcgan_eval.runtime.ranks import ALONE, Ranks

K = 5


class Manifold(NamedTuple):
    """Shares between 0 and 1, but for the density, which has no upper bound. balls: int64 (m,), in how many real balls
    each fake lies. without: the coverage by all fakes but those of one block, for each block."""

    precision: float
    recall: float
    density: float
    coverage: float
    k: int
    balls: Tensor
    without: tuple[float, ...] = ()


def manifold(
    real: Tensor, fake: Tensor, *, k: int = K, ranks: Ranks = ALONE, blocks: Sequence[Tensor] = ()
) -> Manifold:
    """From float32 features (n, d) and (m, d), on one device, without any n × m matrix; all of them on every rank,
    which share the work.

    blocks: rows of the fakes, int64, each fake in one of them; or none.
    Raises ValueError unless both sets have more than k features of one dimension, and for values that are not finite.
    """
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"features of {real.shape[1]} and of {fake.shape[1]} dimensions cannot be compared")
    smaller = min(len(real), len(fake))
    if not 1 <= k < smaller:
        raise ValueError(f"{k} nearest neighbours in {smaller} features: want 1 to {smaller - 1}")

    def radii(x: Tensor) -> Tensor:
        # the nearest of all is the feature itself, or a copy
        return k_nearest(x, ranks.mine(x), k + 1, ranks=ranks)[0][:, k]

    counts = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    holds = torch.zeros(len(blocks) or 1, len(real), dtype=torch.bool, device=fake.device)
    reach = radii(real)
    for held, rows in zip(holds, blocks or [torch.arange(len(fake), device=fake.device)], strict=True):
        found = inside_balls(fake[rows], ranks.mine(real), ranks.mine(reach), ranks=ranks)
        counts[rows], held[:] = found.counts, found.occupied
    reals = inside_balls(real, ranks.mine(fake), ranks.mine(radii(fake)), ranks=ranks)
    in_blocks = holds.sum(0)
    return Manifold(
        precision=float((counts > 0).double().mean()),
        recall=float((reals.counts > 0).double().mean()),
        density=float(counts.double().mean()) / k,
        coverage=float((in_blocks > 0).double().mean()),
        k=k,
        balls=counts,
        without=tuple(float((in_blocks - held > 0).double().mean()) for held in holds.long()) if len(blocks) else (),
    )
