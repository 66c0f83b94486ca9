"""Precision, recall, density and coverage: how much of each set lies in the manifold of the other.

Improved precision and recall of Kynkäänniemi et al. 2019, eq. 1 and 2; density and coverage of Naeem et al. 2020,
eq. 4 and 6. The manifold of a set is the union of balls around its features that reach to their k-th nearest other:

    precision  share of fakes inside a real ball            recall    share of reals inside a fake ball
    density    mean number of real balls a fake is in, / k  coverage  share of real balls that hold a fake

Conventions are those of the authors' package prdc: a feature is no neighbour of itself, its copies are, and a ball
is open (d < radius). torch-fidelity takes the closed ball (d ≤ radius) and k = 3; where no distances are equal and
k is, both agree.
"""

from typing import NamedTuple

from torch import Tensor

from dcgan_eval.nearest.exact import Inside, inside_balls, k_nearest
from dcgan_eval.runtime.ranks import ALONE, Ranks

K = 5


class Manifold(NamedTuple):
    """Shares between 0 and 1, but for the density, which has no upper bound."""

    precision: float
    recall: float
    density: float
    coverage: float
    k: int


def manifold(real: Tensor, fake: Tensor, *, k: int = K, ranks: Ranks = ALONE) -> Manifold:
    """From float32 features (n, d) and (m, d), on one device, without any n × m matrix; all of them on every rank,
    which share the work.

    Raises ValueError unless both sets have more than k features of one dimension, and for values that are not finite.
    """
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"features of {real.shape[1]} and of {fake.shape[1]} dimensions cannot be compared")
    smaller = min(len(real), len(fake))
    if not 1 <= k < smaller:
        raise ValueError(f"{k} nearest neighbours in {smaller} features: want 1 to {smaller - 1}")

    def balls(centres: Tensor, points: Tensor) -> Inside:
        mine = ranks.mine(centres)
        # the nearest of all is the feature itself, or a copy
        radii = k_nearest(centres, mine, k + 1, ranks=ranks)[0][:, k]
        return inside_balls(points, mine, ranks.mine(radii), ranks=ranks)

    fakes, reals = balls(real, fake), balls(fake, real)
    return Manifold(
        precision=float((fakes.counts > 0).double().mean()),
        recall=float((reals.counts > 0).double().mean()),
        density=float(fakes.counts.double().mean()) / k,
        coverage=float(fakes.occupied.double().mean()),
        k=k,
    )
