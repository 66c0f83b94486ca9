"""Softmax regression: the cross-entropy of all classes together, as scikit-learn's LogisticRegression minimises it.

The weights are penalised, the intercepts b are not. Decision values F leave them out: at every point b is the best for
F, so that what is minimised is a function of the weights alone, its Hessian the Schur complement of b's block.

For two classes the weights are penalised as those of one decision value, ½‖w₁ − w₀‖², as scikit-learn does: twice the
problem of two classes like any others at half of C.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dcgan_eval.linear.newton import spread
from dcgan_eval.linear.operators import Gram, Operator
from dcgan_eval.linear.squared_hinge import check_weight
from dcgan_eval.runtime.ranks import Ranks

SETTLING = 50  # Newton steps for the intercepts
HALVINGS = 30  # of one
SETTLED = 1e-16  # of the sum of weights: how far from 0 their gradient may be, where rounding does not end it before
ROUNDING = 1e-13  # relative, of a sum over rows
SINGULAR = 1e-12  # eigenvalues below this share of the largest are taken to be 0


@dataclass(frozen=True)
class Softmax:
    """−Σᵢ cᵢⱼ log pᵢ(yᵢ), p the softmax of the decision values of problem j, cᵢⱼ = C · weight.

    y: (n,) int64 in [0, n_classes). weight: (n, m) ≥ 0; 0 leaves a row out of a problem, which is how folds are
    written, but every problem must have some weight in each class.
    """

    y: Tensor
    weight: Tensor
    n_classes: int

    name = "softmax regression"
    intercept_scaling, centred, steepest, ladder, solve = 0.0, True, 0.5, False, None

    @property
    def width(self) -> int:
        return self.n_classes

    @property
    def unit(self) -> float:
        return 2.0 if self.n_classes == 2 else 1.0

    def check(self, n: int, ranks: Ranks) -> None:
        if self.y.shape != (n,) or self.weight.ndim != 2 or len(self.weight) != n:
            raise ValueError(
                f"y is {tuple(self.y.shape)} and weight {tuple(self.weight.shape)} for X of {n} rows; want ({n},) and "
                f"({n}, m)"
            )
        check_weight(self.weight)
        if n and not 0 <= int(self.y.min()) <= int(self.y.max()) < self.n_classes:
            raise ValueError(f"y must be in [0, {self.n_classes}), got {int(self.y.min())} to {int(self.y.max())}")
        empty = (self._by_class(ranks) <= 0).any(0)
        if bool(empty.any()):
            label = int(torch.nonzero(empty)[0])
            raise ValueError(f"in a problem all weights of class {label} are 0, so that its intercept has no optimum")

    def to(self, device: torch.device) -> "Softmax":
        return replace(self, y=self.y.to(device), weight=self.weight.to(device, torch.float64) / self.unit)

    def scaled(self, C: float) -> "Softmax":
        return replace(self, weight=C * self.weight)

    def of(self, problems: Tensor) -> "Softmax":
        return replace(self, weight=self.weight[:, problems])

    def at_zero(self, form: Operator) -> Tensor:
        """Of the classes' shares."""
        totals = self._by_class(form.ranks)
        return -(totals * (totals / totals.sum(1, keepdim=True)).log()).sum(1)

    def _by_class(self, ranks: Ranks) -> Tensor:
        """(m, classes), the weights of each."""
        totals = self.weight.new_zeros(self.n_classes, self.weight.shape[1]).index_add_(0, self.y, self.weight)
        return ranks.sum(totals).T

    def at(self, form: Operator, F: Tensor, b: Tensor) -> "_Point":
        m, wanted = self.weight.shape[1], self._by_class(form.ranks)
        b = b.view(m, self.n_classes).clone()
        point = _Point(form, self, F, b)
        total = wanted.sum(1)
        for _ in range(SETTLING):
            gradient = point.totals - wanted
            if bool((form.ranks.agreed(gradient.abs().sum(1)) <= SETTLED * total).all()):
                break
            step = form.ranks.agreed(-(point.curvature.inverse @ gradient[:, :, None])[:, :, 0])
            t = torch.ones_like(total)
            for _ in range(HALVINGS):
                following = _Point(form, self, F, b + t[:, None] * step)
                worse = form.ranks.agreed(following.value - point.value * (1 + ROUNDING)) > 0
                if not bool(worse.any()):
                    break
                t = torch.where(worse, t / 2, t)
            better = (following.totals - wanted).abs().sum(1) < gradient.abs().sum(1) / 2
            better |= following.value < point.value * (1 - ROUNDING)
            if not bool((form.ranks.agreed(better.int()) > 0).any()):
                break
            b, point = following.b.view_as(b), following
        return point

    def by_coefficients(
        self, form: Gram, u: Tensor, point: "_Point", gap: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        return gap, point.pull

    def proofs(self, form: Operator, point: "_Point", found: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """A dual point is c (y − q) of distributions q (n, m, classes) with Σᵢ cᵢ (yᵢ − qᵢ) = 0, as the intercepts
        want it, and what it leaves is Σ c KL(q ‖ p). For q = p that sum is 0 but for rounding; it is 0 for
        q = (1 − s) p + s r, r one distribution for all rows, s the least with r ≥ 0."""
        wanted, here = self._by_class(form.ranks), point.totals
        total, missing = wanted.sum(1, keepdim=True), wanted - here
        share = (-missing / here.clamp_min(torch.finfo(here.dtype).tiny)).clamp(0, 1).amax(1, keepdim=True)
        other = torch.where(share > 0, (here + missing / share) / total, 0).clamp_min(0)
        p = point.p
        q = (1 - share) * p + share * other
        ratio = share * (other / p.clamp_min(torch.finfo(p.dtype).tiny) - 1)
        divergence = torch.where(q > 0, q * torch.where(p > 1e-300, ratio.log1p(), q.log() - point.log_p), 0).sum(2)
        c = self.weight
        yield _pull(self.y, c, q), form.total(c * divergence).clamp_min(0)


class _Point:
    """See `Point` of newton.py. p, log_p: (n, m, classes), the probabilities; totals: (m, classes), Σ c p."""

    def __init__(self, form: Operator, loss: Softmax, F: Tensor, b: Tensor) -> None:
        m, K = loss.weight.shape[1], loss.n_classes
        self.form, self.loss, self.F, self.b = form, loss, F, b.reshape(-1)
        self.log_p = torch.log_softmax((F + self.b).view(len(F), m, K), 2)
        self.p = self.log_p.exp()
        self.value = -form.total(loss.weight * _own(self.log_p, loss.y))
        self.totals = form.ranks.sum((loss.weight[:, :, None] * self.p).sum(0))

    @cached_property
    def pull(self) -> Tensor:
        return _pull(self.loss.y, self.loss.weight, self.p)

    @cached_property
    def curvature(self) -> "_Curvature":
        weighted = self.loss.weight[:, :, None] * self.p
        inverse = -torch.einsum("nmj,nmk->mjk", weighted, self.p)
        inverse = self.form.ranks.sum(inverse)
        inverse.diagonal(dim1=1, dim2=2).add_(self.totals)
        inverse = torch.linalg.pinv(inverse, rtol=SINGULAR, hermitian=True)
        return _Curvature(self.form, self.p, self.loss.weight, inverse)

    def of(self, problems: Tensor) -> "_Point":
        columns = spread(problems, self.loss.n_classes)
        return _Point(self.form, self.loss.of(problems), self.F[:, columns], self.b[columns])

    def slope(self, t: Tensor, FD: Tensor) -> tuple[Tensor, Tensor]:
        K, c = self.loss.n_classes, self.loss.weight
        p = torch.softmax((self.F + self.b + spread(t, K) * FD).view_as(self.p), 2)
        along = FD.view_as(p)
        mean = (p * along).sum(2)
        varied = (p * (along - mean[:, :, None]) ** 2).sum(2)
        return self.form.total(c * (mean - _own(along, self.loss.y))), self.form.total(c * varied)


class _Curvature:
    """c (diag p − p pᵀ) of each row, and what the intercepts take from it.

    p: (n, m, classes). c: (n, m). inverse: (m, classes, classes), the pseudoinverse of the sum over all rows.
    """

    def __init__(self, form: Operator, p: Tensor, c: Tensor, inverse: Tensor) -> None:
        self.form, self.p, self.c, self.inverse = form, p, c, inverse

    @cached_property
    def diagonal(self) -> Tensor:
        return (self.c[:, :, None] * self.p * (1 - self.p)).flatten(1)

    def of(self, problems: Tensor) -> "_Curvature":
        return _Curvature(self.form, self.p[:, problems], self.c[:, problems], self.inverse[problems])

    def to(self, device: torch.device, dtype: torch.dtype) -> "_Curvature":
        return _Curvature(self.form, *(a.to(device, dtype) for a in (self.p, self.c, self.inverse)))

    def moved(self, FD: Tensor) -> tuple[Tensor, Tensor]:
        left = self.form.ranks.sum(self._times(FD).sum(0)).view(self.inverse.shape[:2])
        b = self.form.ranks.agreed(-(self.inverse @ left[:, :, None]).flatten())
        return FD + b, b

    def __call__(self, FD: Tensor) -> Tensor:
        return self._times(self.moved(FD)[0])

    def _times(self, FD: Tensor) -> Tensor:
        FD = FD.view_as(self.p)
        return (self.c[:, :, None] * self.p * (FD - (self.p * FD).sum(2, keepdim=True))).flatten(1)


def _pull(y: Tensor, c: Tensor, p: Tensor) -> Tensor:
    """c (y − p), (n, m · classes), y as a distribution."""
    pull = -c[:, :, None] * p
    return pull.scatter_add_(2, y[:, None, None].expand(-1, c.shape[1], 1), c[:, :, None]).flatten(1)


def _own(values: Tensor, y: Tensor) -> Tensor:
    """(n, m), of each row the value of its own class, of values (n, m, classes)."""
    return values.gather(2, y[:, None, None].expand(-1, values.shape[1], 1))[:, :, 0]
