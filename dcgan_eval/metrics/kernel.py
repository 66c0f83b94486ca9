"""The kernel distance: KID, if the features are Inception's (Bińkowski et al. 2018, "Demystifying MMD GANs").

The unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, eq. 3) with the kernel
k(x, y) = (x·y / d + 1)³:

    MMD² = Σ_{i≠j} k(xᵢ, xⱼ) / m(m−1) + Σ_{i≠j} k(yᵢ, yⱼ) / m(m−1) − 2 Σᵢⱼ k(xᵢ, yⱼ) / m²

As in the authors' code, torch-fidelity and torchmetrics, it is averaged over random subsets of m features drawn without
replacement, and its spread is their standard deviation, which divides by the number of subsets. With one seed the
subsets are those of torch-fidelity. Products and sums are float64; the peers' are float32.

The spread over subsets is of subsets, not of the sets of features, and its size depends on theirs. The standard error
is of the mean over subsets, were the first set drawn again, and the second kept. By Hoeffding's decomposition (1948,
section 5; of MMD², Sutherland 2019, "Unbiased estimators for the variance of MMD estimators") a set of n and one of m
have the variance

    V(n, m) = 4 Var(f)/n + 4 Var(g)/m + 2 σ²_xx / n(n−1) + 2 σ²_yy / m(m−1) + 4 σ²_xy / nm

with f(x) = E k(x, x') − E k(x, y), g(y) likewise, and σ² the variances of what is left of each kernel without its means
by row and column; the terms without y and g are of the first set alone. All are estimated without bias in every subset,
and averaged. Of given sets, subsets of s features have the variance V(s, s) − V(n, m), of which S leave the S-th part.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SUBSETS, SUBSET_SIZE = 100, 1000
FEWEST = 4  # features of a subset that variances can be estimated in


class KernelDistance(NamedTuple):
    """mean and std over subsets; as an unbiased estimate, the mean may be negative. error: the standard error of the
    mean over other first sets; NaN for subsets of fewer than `FEWEST`."""

    mean: float
    std: float
    subsets: int
    subset_size: int
    error: float


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
    values, parts = [], []
    for _ in range(subsets):
        x, y = (
            f[torch.from_numpy(draws.choice(len(f), subset_size, replace=False)).to(f.device)].double()
            for f in (first, second)
        )
        kernels = _kernel(x, x), _kernel(y, y), _kernel(x, y)
        values.append(_mmd2(*kernels))
        parts.append(_variances(*kernels) if subset_size >= FEWEST else _Variances(*[float("nan")] * 5))
    if not np.isfinite(values).all():
        raise ValueError("features hold NaN or infinite values, or too large ones")
    known = _Variances(*np.mean(parts, 0).tolist())
    n, m = len(first), len(second)
    of_subsets = known.of(subset_size, subset_size) - known.of(n, m)
    error = (known.of_the_first(n, m) + max(of_subsets, 0) / subsets) ** 0.5
    return KernelDistance(float(np.mean(values)), float(np.std(values)), subsets, subset_size, error)


def mmd2(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate from float64 (m, d) and (n, d), m and n at least 2."""
    return _mmd2(_kernel(x, x), _kernel(y, y), _kernel(x, y))


def _mmd2(xx: Tensor, yy: Tensor, xy: Tensor) -> float:
    m, n = xy.shape
    within = (xx.sum() - xx.trace()) / (m * (m - 1)) + (yy.sum() - yy.trace()) / (n * (n - 1))
    return float(within - 2 * xy.mean())


class _Variances(NamedTuple):
    """Of f(x) and of g(y), and σ² of the kernels between x and x, y and y, and x and y."""

    f: float
    g: float
    xx: float
    yy: float
    xy: float

    def of(self, n: int, m: int) -> float:
        """V(n, m). A variance of a mean whose unbiased estimate is below 0 counts as 0."""
        return self.of_the_first(n, m) + 4 * max(self.g, 0.0) / m + 2 * self.yy / (m * (m - 1))

    def of_the_first(self, n: int, m: int) -> float:
        """Its terms that are not of the second set alone."""
        return 4 * max(self.f, 0.0) / n + 2 * self.xx / (n * (n - 1)) + 4 * self.xy / (n * m)


def _variances(xx: Tensor, yy: Tensor, xy: Tensor) -> _Variances:
    """Without bias, from kernels float64 (m, m), (n, n) and (m, n), m and n at least `FEWEST`."""
    m, n = xy.shape
    of_x, of_y = ((k.sum(1) - k.diag()) / (len(k) - 2) for k in (xx, yy))
    across, down = xy.mean(1), xy.mean(0)
    left = xy - across[:, None] - down + xy.mean()
    s_xx, s_yy, s_xy = _left(xx), _left(yy), float(left.square().sum()) / ((m - 1) * (n - 1))
    return _Variances(
        float((of_x - across).var()) - s_xx / (m - 2) - s_xy / n,
        float((of_y - down).var()) - s_yy / (n - 2) - s_xy / m,
        s_xx,
        s_yy,
        s_xy,
    )


def _left(kernel: Tensor) -> float:
    """σ² of a kernel (m, m) of a set with itself, by U-centring (Székely and Rizzo 2014, eq. 2.3)."""
    m = len(kernel)
    k = kernel.clone().fill_diagonal_(0)
    rows = k.sum(1)
    k = (k - rows[:, None] / (m - 2) - rows / (m - 2) + rows.sum() / ((m - 1) * (m - 2))).fill_diagonal_(0)
    return float(k.square().sum()) / (m * (m - 3))


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    base = (a @ b.T).div_(a.shape[1]).add_(1)
    return base.square().mul_(base)  # four times faster than a power
