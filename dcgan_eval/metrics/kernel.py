"""The kernel distance: KID, if the features are Inception's (Bińkowski et al. 2018, "Demystifying MMD GANs").

The unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, eq. 3) with the kernel
k(x, y) = (x·y / d + 1)³:

    MMD² = Σ_{i≠j} k(xᵢ, xⱼ) / m(m−1) + Σ_{i≠j} k(yᵢ, yⱼ) / m(m−1) − 2 Σᵢⱼ k(xᵢ, yⱼ) / m²

As in the authors' code, torch-fidelity and torchmetrics, it is averaged over random subsets of m features drawn without
replacement, and its spread is their standard deviation, which divides by the number of subsets. With one seed the
subsets are those of torch-fidelity. Products and sums are float64; the peers' are float32.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SUBSETS, SUBSET_SIZE = 100, 1000


class KernelDistance(NamedTuple):
    """mean and std over subsets; as an unbiased estimate, the mean may be negative."""

    mean: float
    std: float
    subsets: int
    subset_size: int


def kernel_distance(
    first: Tensor, second: Tensor, *, seed: int, subsets: int = SUBSETS, subset_size: int = SUBSET_SIZE
) -> KernelDistance:
    """From features (n₁, d) and (n₂, d). A seed draws the subsets that torch-fidelity's `rng_seed` draws, whose
    first features are the fakes'.

    Raises ValueError where a subset is larger than a set or smaller than 2, for dimensions that differ, and for values
    that are not finite.
    """
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features of {first.shape[1]} and of {second.shape[1]} dimensions cannot be compared")
    largest = min(len(first), len(second))
    if not 2 <= subset_size <= largest or subsets < 1:
        raise ValueError(f"{subsets} subsets of {subset_size} of {largest} features: want 1 or more, of 2 to {largest}")
    draws = np.random.RandomState(seed)
    if not bool(first.isfinite().all() and second.isfinite().all()):
        raise ValueError("features hold NaN or infinite values")
    values = []
    for _ in range(subsets):
        x, y = (
            f[torch.from_numpy(draws.choice(len(f), subset_size, replace=False)).to(f.device)].double()
            for f in (first, second)
        )
        values.append(mmd2(x, y))
    if not np.isfinite(values).all():
        raise ValueError("features hold NaN or infinite values, or too large ones")
    return KernelDistance(float(np.mean(values)), float(np.std(values)), subsets, subset_size)


def mmd2(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate from float64 (m, d) and (n, d), m and n at least 2."""
    m, n = len(x), len(y)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = (xx.sum() - xx.trace()) / (m * (m - 1)) + (yy.sum() - yy.trace()) / (n * (n - 1))
    return float(within - 2 * xy.mean())


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    base = (a @ b.T).div_(a.shape[1]).add_(1)
    return base.square().mul_(base)  # four times faster than a power
