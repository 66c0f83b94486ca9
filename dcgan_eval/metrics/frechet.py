"""The Fréchet distance between Gaussians fitted to two sets of features: FID, if the features are Inception's.

Heusel et al. 2017 ("GANs Trained by a Two Time-Scale Update Rule"), eq. 6:

    d² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½)

Covariances divide by n − 1, as the authors' code, pytorch-fid, torch-fidelity and torchmetrics do (stylegan3 divides
by n). tr (Σ₁Σ₂)^½ is the sum of the singular values of A₁ᵀA₂ for any factors Σ = AAᵀ, whose squares are the eigenvalues
of A₁ᵀΣ₂A₁. So it is computed here, in float64, of symmetric matrices: real by construction, whereas SciPy's sqrtm of a
product that is not symmetric turns complex or not-a-number where a covariance is singular.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

from dcgan_eval.runtime.ranks import Ranks

Array = NDArray[np.float64]

COLUMNS = 1024  # of features that are float64 at a time
ROUNDING = 1e-10  # what is not positive semidefinite beyond this share of the trace is not rounding


class Gaussian(NamedTuple):
    """n: features it was fitted to, at least 2. mean: float64 (d,). covariance: float64 (d, d), over n − 1."""

    n: int
    mean: Tensor
    covariance: Tensor


def fit(features: Tensor) -> Gaussian:
    """The Gaussian of features (n, d), n ≥ 2. Raises ValueError for fewer, or values that are not finite."""
    return reduce(Moments.merged, map(Moments.of, torch.split(features, 4096))).gaussian()


def without_each(parts: Sequence["Moments"]) -> list[Gaussian]:
    """The Gaussians of all features but those of one part, for each of at least two parts."""
    before = [Moments.none(len(parts[0].mean), parts[0].mean.device), *accumulate(parts[:-1], Moments.merged)]
    after = [*reversed([*accumulate(reversed(parts[1:]), Moments.merged)]), before[0]]
    return [head.merged(tail).gaussian() for head, tail in zip(before, after, strict=True)]


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """d², at least 0: what rounding leaves below is 0. Computed on the CPU, wherever the Gaussians are.

    Raises ValueError for dimensions that differ, or a matrix that is no covariance.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"features of {len(first.mean)} and of {len(second.mean)} dimensions cannot be compared")
    mean1, mean2, cov1, cov2 = (x.cpu() for x in (first.mean, second.mean, first.covariance, second.covariance))
    if not all(bool(x.isfinite().all()) for x in (mean1, mean2, cov1, cov2)):
        raise ValueError("a mean or covariance holds NaN or infinite values")
    # the singular values of A₁ᵀA₂ are the square roots of the eigenvalues of A₁ᵀ Σ₂ A₁
    M = _congruent(cov1.numpy(), cov2.numpy())
    _finite(M)
    scale = float(cov1.trace() * cov2.trace())
    if not np.isfinite(scale):
        raise ValueError(f"covariances of traces {float(cov1.trace()):g} and {float(cov2.trace()):g} are too large")
    root = np.sqrt(_not_negative(linalg.eigvalsh(M, check_finite=False), scale)).sum() if M.size else 0.0
    return _distance(float((mean1 - mean2).square().sum()), float(cov1.trace() + cov2.trace()), float(root))


def frechet_distance_of_features(first: Tensor, second: Tensor) -> float:
    """The same from features (n₁, d) and (n₂, d) themselves; where both have fewer rows than columns, without any
    d × d matrix: the centred features are factors of their covariances."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features of {first.shape[1]} and of {second.shape[1]} dimensions cannot be compared")
    if max(len(first), len(second)) >= first.shape[1]:
        return frechet_distance(fit(first), fit(second))
    for features in (first, second):
        _check(features)
    product = torch.zeros(len(first), len(second), dtype=torch.float64, device=first.device)
    apart, traces = 0.0, 0.0
    for columns in (slice(start, start + COLUMNS) for start in range(0, first.shape[1], COLUMNS)):
        x, y = first[:, columns].double(), second[:, columns].double()
        A, B = ((f - f.mean(0)) / (len(f) - 1) ** 0.5 for f in (x, y))
        product.addmm_(A, B.T)
        apart += float((x.mean(0) - y.mean(0)).square().sum())
        traces += float(A.square().sum() + B.square().sum())
    return _distance(apart, traces, float(torch.linalg.svdvals(product).sum()))


def _distance(apart: float, traces: float, root: float) -> float:
    """apart: ‖μ₁ − μ₂‖². root: tr (Σ₁Σ₂)^½."""
    found = apart + traces - 2 * root
    if not np.isfinite(found):
        raise ValueError("features hold NaN or infinite values, or too large ones")
    return max(0.0, found)


def _congruent(covariance: Array, other: Array) -> Array:
    """AᵀΣ₂A for AAᵀ = Σ (d, d), of the rank of Σ: A is Cholesky's, found with pivots where Σ is singular.

    SciPy's BLAS alone: NumPy brings another, and the threads of both would wait for each other.
    """
    _finite(covariance)
    _finite(other)
    blas = linalg.blas
    try:
        A = linalg.cholesky(covariance, lower=True, check_finite=False)
        half = blas.dtrmm(1.0, A, other.T, lower=1, trans_a=1)
        return np.asarray(blas.dtrmm(1.0, A, half, side=1, lower=1, overwrite_b=1))
    except linalg.LinAlgError:
        factored, pivots, rank, _ = linalg.lapack.dpstrf(covariance, lower=1)
        A = np.empty((len(covariance), rank), order="F")
        A[pivots - 1] = np.tril(factored)[:, :rank]
        rest = np.abs(covariance - blas.dgemm(1.0, A, A, trans_b=1)).max()
        if rest > ROUNDING * max(np.trace(covariance), 0.0):
            raise ValueError(f"not a covariance: no square, to {rest:g}") from None
        return np.asarray(blas.dgemm(1.0, A, blas.dgemm(1.0, other, A), trans_a=1))


def _not_negative(values: Array, scale: float) -> Array:
    """Eigenvalues of a positive semidefinite matrix: what is negative must be rounding of `scale`, and counts as 0."""
    if values[0] < -ROUNDING * max(scale, 0.0):
        raise ValueError(f"not a covariance: its eigenvalues run from {values[0]:g} to {values[-1]:g}")
    return values.clip(min=0)


def _finite(matrix: Array) -> None:
    if not np.isfinite(matrix).all():
        raise ValueError("not a covariance: it holds NaN or infinite values, or is too large")


def _check(features: Tensor) -> None:
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"a covariance needs at least two features, not {tuple(features.shape)}")
    if not bool(features.isfinite().all()):
        raise ValueError("features hold NaN or infinite values")


class Moments(NamedTuple):
    """Of features, so that they can be merged, in float64: features far from 0 lose no digits.

    n: how many, (). mean: (d,). scatter: the sum of squared deviations from the mean, (d, d).
    """

    n: Tensor
    mean: Tensor
    scatter: Tensor

    @classmethod
    def none(cls, dimensions: int, device: torch.device | str = "cpu") -> "Moments":
        """Of no features."""
        return cls.of(torch.zeros(0, dimensions, device=device))

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """Of features (b, d), of any b."""
        x = features.double()
        mean = x.mean(0) if len(x) else x.new_zeros(x.shape[1])
        x = x - mean
        return cls(torch.tensor(float(len(x))).to(x), mean, x.T @ x)

    def merged(self, other: "Moments") -> "Moments":
        """Of the features of both; Chan, Golub and LeVeque 1983, eq. 1.5."""
        total = self.n + other.n
        if not total:
            return self
        shift = other.mean - self.mean
        scatter = torch.addr(self.scatter + other.scatter, shift * (self.n * other.n / total), shift)
        return Moments(total, self.mean + shift * (other.n / total), scatter)

    def over(self, ranks: Ranks) -> "Moments":
        """Of the features of all ranks, which must call this together; on the CPU."""
        own = Moments(*(part.cpu() for part in self))
        if ranks.world == 1:
            return own
        n = ranks.sum(own.n.clone())
        mean = ranks.sum(own.n * own.mean) / n.clamp(min=1)
        shift = own.mean - mean
        return Moments(n, mean, ranks.sum(torch.addr(own.scatter, own.n * shift, shift)))

    def gaussian(self) -> Gaussian:
        """Raises ValueError of fewer than two features, or values that are not finite."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least two features, not {int(self.n)}")
        if not bool(self.scatter.isfinite().all()):
            raise ValueError("features hold NaN or infinite values")
        return Gaussian(int(self.n), self.mean.clone(), self.scatter / (self.n - 1))
