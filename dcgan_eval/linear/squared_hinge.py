"""The squared hinge, one-vs-rest: liblinear's L2R_L2LOSS_SVC (Fan et al. 2008, eq. 1), which LinearSVC solves.

The intercept is the weight of a constant feature, penalised as the others are, as in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dcgan_eval.linear.operators import Gram, Operator
from dcgan_eval.runtime.ranks import Ranks


@dataclass(frozen=True)
class SquaredHinge:
    """Σᵢ cᵢⱼ max(0, 1 − yᵢⱼ f(xᵢ))² for problems j, cᵢⱼ = C · weight.

    Y: (n, m), +1 or −1. weight: (n, m) ≥ 0; 0 leaves a row out of a problem, which is how folds and label draws are
    written. intercept_scaling: the value of the constant feature, 0 for no intercept.
    """

    Y: Tensor
    weight: Tensor
    intercept_scaling: float = 1.0

    name = "L2-SVM"
    width, centred, unit, steepest, ladder = 1, False, 1.0, 2.0, True

    def check(self, n: int, ranks: Ranks) -> None:
        if self.Y.shape != self.weight.shape or len(self.Y) != n:
            raise ValueError(
                f"Y is {tuple(self.Y.shape)} and weight {tuple(self.weight.shape)} for X of {n} rows; want ({n}, m)"
            )
        check_weight(self.weight)

    def to(self, device: torch.device) -> "SquaredHinge":
        return replace(self, Y=self.Y.to(device, torch.float64), weight=self.weight.to(device, torch.float64))

    def scaled(self, C: float) -> "SquaredHinge":
        return replace(self, weight=C * self.weight)

    def of(self, problems: Tensor) -> "SquaredHinge":
        return replace(self, Y=self.Y[:, problems], weight=self.weight[:, problems])

    def at_zero(self, form: Operator) -> Tensor:
        return form.total(self.weight)

    def at(self, form: Operator, F: Tensor, b: Tensor) -> "_Point":
        return _Point(form, self.Y, self.weight, F, b)

    def by_coefficients(
        self, form: Gram, u: Tensor, point: "_Point", gap: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `Loss`: where C ‖x‖² is large, f's rounding, 2 C times as large in 2 c max(0, 1 − y f), is most of the
        gap. The coefficients have none."""
        y, c, proof = self.Y, self.weight, point.pull
        coefficients = torch.where(c > 0, (y * u).clamp_min(0), 0)  # of rows left out a dual point has none
        found = _surplus(form, coefficients, c, point.signed)
        near = torch.nonzero((found <= allowed) & ~(gap <= allowed))[:, 0]
        if not len(near):
            return gap, proof
        wrong = u[:, near] - y[:, near] * coefficients[:, near]  # of the other sign, and no part of a dual point
        found = found[near] + 0.5 * form.dot(wrong, wrong, form.forward(wrong))
        better = found < gap[near]
        near = near[better]
        proof = proof.index_copy(1, near, (y * coefficients)[:, near])
        return gap.index_copy(0, near, found[better]), proof

    def proofs(self, form: Operator, point: "_Point", found: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield found, _surplus(form, self.Y * found, self.weight, point.signed)
        yield point.pull, torch.zeros_like(point.value)

    def solve(self, form: Operator, point: "_Point", u: Tensor) -> Tensor:
        return form.solve(u, point.F, point.Y, point.signed.clamp_min(0), point.curvature.diagonal)


class _Point:
    """See `Point` of newton.py. signed: 1 − y f, (n, m)."""

    def __init__(self, form: Operator, Y: Tensor, c: Tensor, F: Tensor, b: Tensor) -> None:
        self.form, self.Y, self.c, self.F, self.b = form, Y, c, F, b
        self.signed = 1 - Y * F
        slack = self.signed.clamp_min(0)
        self.value, self.pull = form.total(c * slack**2), 2 * c * Y * slack
        self.curvature = _Curvature(2 * c * (slack > 0))

    def of(self, problems: Tensor) -> "_Point":
        Y, c, F = (a[:, problems] for a in (self.Y, self.c, self.F))
        return _Point(self.form, Y, c, F, self.b[problems])

    def slope(self, t: Tensor, FD: Tensor) -> tuple[Tensor, Tensor]:
        along = self.Y * FD
        slack = (self.signed - t * along).clamp_min_(0)
        return -2 * self.form.total(self.c * along * slack), 2 * self.form.total(self.c * along**2 * (slack > 0))


@dataclass(frozen=True)
class _Curvature:
    diagonal: Tensor

    def of(self, problems: Tensor) -> "_Curvature":
        return _Curvature(self.diagonal[:, problems])

    def to(self, device: torch.device, dtype: torch.dtype) -> "_Curvature":
        return _Curvature(self.diagonal.to(device, dtype))

    def moved(self, FD: Tensor) -> tuple[Tensor, Tensor]:
        return FD, FD.new_zeros(FD.shape[1])

    def __call__(self, FD: Tensor) -> Tensor:
        return self.diagonal * FD


def _surplus(form: Operator, alpha: Tensor, c: Tensor, signed: Tensor) -> Tensor:
    """P(w) − D(α) − ½ ‖w − Xᵀ(y α)‖² of α ≥ 0 and the signed slack 1 − y f(x), as a sum of terms ≥ 0; (m,)."""
    half = torch.where(alpha > 0, alpha / (2 * c), 0)
    return form.total(torch.where(signed > 0, c * (signed - half) ** 2, c * half**2 - alpha * signed))


def check_weight(weight: Tensor) -> None:
    """Raises ValueError for a weight that is negative, infinite or NaN."""
    if not bool(((weight >= 0) & weight.isfinite()).all()):
        raise ValueError("weight must not be negative, infinite or NaN")


def one_vs_rest(labels: Tensor, n_classes: int) -> Tensor:
    """(n, n_classes) float64 of +1 and −1 for labels int64 (n,) in [0, n_classes); one column for two classes."""
    if n_classes == 2:
        return torch.where(labels[:, None] == 1, 1.0, -1.0).double()
    return torch.where(labels[:, None] == torch.arange(n_classes, device=labels.device), 1.0, -1.0).double()
