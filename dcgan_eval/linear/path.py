"""Solutions of many problems for one C after the other."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dcgan_eval.linear.newton import Found, Loss, gained, newton, summed
from dcgan_eval.linear.operators import GRAM_BYTES, Gram, Precision, Primal, place
from dcgan_eval.runtime.errors import UncertifiedError
from dcgan_eval.runtime.fast_ops import multiplies_split, numbered
from dcgan_eval.runtime.precision import exact as exact_products
from dcgan_eval.runtime.ranks import ALONE, Ranks

EASY = 2e9  # products of a Gram matrix up to which it is made in float64 from the start
PATIENCE = 25  # Newton steps before a Gram matrix, or products in float32, are taken to be too coarse
LADDER_START, LADDER_STEP, LADDER_TOL = 100.0, 10.0, 0.1  # first 2 C Σ‖x‖², ratio of the next C, relative gap
LARGEST = 1e30  # C times the squared norm of a row; far beyond what can be certified
CONTRACTS = 0.25  # the largest curvature times ‖error of the Gram matrix‖ that is corrected in few rounds


@dataclass(frozen=True)
class Solution:
    """The optimum of m problems, of `width` columns each, on n rows of d features.

    coef: (d, m · width) float64; intercept: (m · width,) float64, intercept_scaling included; decision: (n, m · width)
    float64, f of every row of X, rows of weight 0 included; objective: (m,) float64, P(w), and at_zero: P(0); gap:
    (m,) float64, the bound on P(w) − min P; n_iter: Newton steps, those of the ladder that led to this C included;
    converged: everywhere gap ≤ tol · P(w), and also ≤ tol · (P(0) − P(w)), or 1e-6 tol · P(w) where that is more.
    """

    C: float
    coef: Tensor
    intercept: Tensor
    decision: Tensor
    objective: Tensor
    at_zero: Tensor
    gap: Tensor
    n_iter: int
    converged: bool

    @property
    def relative_gap(self) -> Tensor:
        """(m,) float64: the gap in units of what `converged` compares it with; at most tol where that is certified."""
        return _relative(self.gap, gained(self.objective, self.at_zero))


def solve_path(
    X: Tensor,
    loss: Loss,
    Cs: Iterable[float],
    *,
    tol: float = 1e-6,
    max_iter: int = 100,
    device: torch.device | str | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[Solution]:
    """Solve m problems on the same rows for each C in turn, each started at the solution of the one before.

    X: (n, d) float32 or float64, on any device, memory-mapped or not; copied whole to a GPU with room
    for it, or to float64 where it is below 2²¹ values, and else never. loss: `SquaredHinge` or `Softmax`, with the
    labels and weights of the rows. device: where directions are computed; that of X if not given. ranks: X, the loss
    and a solution's decision values are the rows of this one, of which there may be none; gradients and products with
    the Hessian are summed over all, and the rest of a solution is the same everywhere.

    Raises ValueError if shapes disagree, C ≤ 0, a weight is negative, or C ‖x‖² is beyond 1e30 or not a number, and
    UncertifiedError for a solution that is not finite. One that is finite but not certified to `tol` says so by
    `converged`; max_iter are the Newton steps at each C of the ladder, of every form that is tried; at
    most 25 with products in float32, and on the ladder of a Gram matrix; then a more precise form is tried.
    """
    loss.check(len(X), ranks)
    path = None
    for C in Cs:
        if not (C > 0 and np.isfinite(C)):
            raise ValueError(f"C must be positive and finite, got {C:g}")
        with exact_products():  # and not while the caller looks at a solution
            if path is None:
                path = _Path(X, loss, tol, max_iter, device, ranks)
            solution = path.solve(C)
        yield solution


class _Path:
    """The problems of `solve_path`, and where the last C left them."""

    form: Primal | Gram
    U: Tensor
    b: Tensor

    def __init__(
        self,
        X: Tensor,
        loss: Loss,
        tol: float,
        max_iter: int,
        device: torch.device | str | None,
        ranks: Ranks,
    ) -> None:
        n, d = X.shape
        device = X.device if device is None else numbered(torch.device(device))
        X = place(X, device)
        wide = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
        self.loss = loss.to(wide)
        self.tol, self.max_iter = tol, max_iter
        everywhere = int(ranks.sum(torch.tensor(n)))
        self.exact = Primal(X, loss.intercept_scaling, device, wide, ranks, everywhere)
        self.mean: Tensor | None = None
        if loss.centred:
            self.mean = self.exact.adjoint(torch.ones(n, 1, dtype=torch.float64, device=wide))[:-1, 0] / everywhere
            self.exact = Primal(X, loss.intercept_scaling, device, wide, ranks, everywhere, self.mean)
        norms = self.exact.square_norms()
        # of several ranks the sum keeps what is not a number, as the maximum may not
        largest = ranks.largest(torch.cat([norms, norms.new_zeros(1)]).max()) + 0 * ranks.sum(norms.sum())
        weight = self.loss.weight
        self.heaviest = float(ranks.largest(weight.new_tensor(float(weight.max()) if weight.numel() else 0.0)))
        self.largest = float(largest) * max(1.0, self.heaviest)
        trace = float(ranks.sum(norms @ weight.amax(1)))
        self.foot = self.reached = LADDER_START / (2 * trace) if trace else np.inf
        # a Gram matrix needs all rows in one place
        self.gram = ranks.world == 1 and n < d and n * n * 8 <= GRAM_BYTES
        small = n * n * d < EASY
        # from fast to precise
        self.precisions: list[Precision] = ["split"] if multiplies_split(device) else []
        self.precisions = ["float64"] if small or X.dtype == torch.float64 else [*self.precisions, "float32", "float64"]
        self.columns = weight.shape[1] * loss.width
        self._restart(n if self.gram else d + 1)
        self.error: float | None = None  # of the Gram matrix there is, where it is known

    def solve(self, C: float) -> Solution:
        if not C * self.largest <= LARGEST:
            raise ValueError(
                f"C={C:g} times the squared norm of a row, {self.largest:.0e}, overflows: scale the features"
            )
        self.steps = 0
        form = self._form(C)
        solution = self._attempt(form, C)
        while not solution.converged and (isinstance(form, Gram) or form.rough_dtype != torch.float64):
            form = self._more_precise(form)
            other = self._attempt(form, C)
            before, after = (float(some.relative_gap.max()) for some in (solution, other))
            if after <= before or not np.isfinite(before):
                solution = other
        # the same on all ranks; decision values that are not finite leave their trace in the objective
        for what in (solution.coef, solution.objective, solution.gap):
            if not bool(what.isfinite().all()):
                raise UncertifiedError(f"the {self.loss.name} at C={C:g} has no finite solution: scale the features")
        return solution

    def _attempt(self, form: Primal | Gram, C: float) -> Solution:
        """The solution by this form; a Gram matrix's rounding is removed by defect correction against X itself."""
        narrow = isinstance(form, Gram) and form.precision != self.precisions[-1]
        patience = min(self.max_iter, PATIENCE) if isinstance(form, Gram) else self.max_iter
        limit = patience if narrow else self.max_iter
        dtype, offset = form.rough_dtype, self.U.new_zeros(len(self.exact.X), self.columns)
        # far from the optimum Newton's active set wanders where the problem is ill-conditioned; a ladder of loosely
        # solved, smaller C leads to it
        while self.loss.ladder and self.reached < C / LADDER_STEP:
            self.reached = min(self.reached * LADDER_STEP, C / LADDER_STEP)
            if dtype != torch.float64 and not self._newton(form, self.reached, offset, LADDER_TOL, PATIENCE, dtype).met:
                dtype = torch.float64  # from here on, this rung included
            if dtype != torch.float64:
                continue
            found = self._newton(form, self.reached, offset, LADDER_TOL, patience)
            if isinstance(form, Gram) and found.steps == patience:
                limit = 0  # there is another form, and this one will do no better at a larger C
                break
        self.reached = C
        left, last = limit, np.inf
        if dtype != torch.float64:
            left -= self._newton(form, C, offset, LADDER_TOL, min(left // 2, PATIENCE), dtype).steps
        while True:
            found = self._newton(form, C, offset, self.tol / 4 if isinstance(form, Gram) else self.tol, left)
            left -= found.steps
            W = self.exact.adjoint(self.U) if isinstance(form, Gram) else self.U
            solution, F = self._certified(C, W, found.dual)
            relative = float(solution.relative_gap.max())
            if solution.converged or isinstance(form, Primal):
                return solution
            if not (relative < last / 4 and left > 0):  # nor where it is NaN
                return solution
            offset, last = F - (found.F - offset), relative

    def _newton(
        self,
        form: Primal | Gram,
        C: float,
        offset: Tensor,
        tol: float,
        limit: int,
        dtype: torch.dtype = torch.float64,
    ) -> Found:
        found = newton(form, self.loss.scaled(C), self.U, self.b, offset, tol, limit, dtype)
        self.U, self.b = found.U, found.b
        self.steps += found.steps
        return found

    def _form(self, C: float) -> Primal | Gram:
        """The problem's form, its Gram matrix precise enough for this C."""
        if not self.gram:
            return self.exact
        if not hasattr(self, "form"):
            self.form = Gram(self.exact, self.precisions[0])
        while isinstance(self.form, Gram) and self.form.precision == "split":
            if self.error is None:
                self.error = self.form.error(self.exact)
            if self.loss.steepest * C * self.heaviest * self.error <= CONTRACTS:
                break
            self._more_precise(self.form)
        return self.form

    def _more_precise(self, form: Primal | Gram) -> Primal | Gram:
        """The next form: a Gram matrix of higher precision or, after the last, the weights themselves, at last with
        products in float64 throughout."""
        if isinstance(form, Primal):
            self.form = self.exact
            self.exact.rough_dtype = torch.float64
        else:
            del form.K  # before its successor is made: there is room for one
            at = self.precisions.index(form.precision) + 1
            self.form = self.exact if at == len(self.precisions) else Gram(self.exact, self.precisions[at])
        # rounding may have led the iterates far away: again from the foot of the ladder
        self._restart(self.form.order)
        return self.form

    def _restart(self, order: int) -> None:
        self.U = torch.zeros(order, self.columns, dtype=torch.float64, device=self.exact.wide)
        self.b = torch.zeros_like(self.U[0])
        self.reached = self.foot

    def _certified(self, C: float, W: Tensor, dual: Tensor) -> tuple[Solution, Tensor]:
        """The weights W with their objective and gap, from X itself; the latter by the dual point that Newton found, or
        by another where that is better. Also decision values without free intercepts."""
        exact, loss, agreed = self.exact, self.loss.scaled(C), self.exact.ranks.agreed
        F = exact.forward(W)
        point = loss.at(exact, F, self.b)
        objective = 0.5 * summed((W * W).sum(0), loss.width) + point.value
        at_zero = loss.at_zero(exact)
        most = gained(objective, at_zero)
        gap = torch.full_like(objective, torch.inf)
        for proof, rest in loss.proofs(exact, point, dual):
            gap = torch.fmin(gap, 0.5 * summed((W - exact.adjoint(proof)).square().sum(0), loss.width) + rest)
            if bool((agreed(gap - self.tol * most) <= 0).all()):
                break
        converged = bool((agreed(_relative(gap, most)) <= self.tol).all())
        b = exact.bias * W[-1] + point.b
        if self.mean is not None:
            b = b - self.mean @ W[:-1]
        objective, at_zero, gap = (loss.unit * value for value in (objective, at_zero, gap))
        return Solution(float(C), W[:-1], b, F + point.b, objective, at_zero, gap, self.steps, converged), F


def _relative(gap: Tensor, gained: Tensor) -> Tensor:
    """The gap in units of what is gained; 0 where both are, as of a problem whose rows all have weight 0."""
    return torch.where(gap == 0, 0, gap / gained)


def decision_values(X: Tensor, coef: Tensor, intercept: Tensor) -> Tensor:
    """X @ coef + intercept, float64 (n, m), from X (n, d) float32 or float64 by blocks of rows, coef float64 (d, m)."""
    device = coef.device
    return Primal(X, 1.0, device, device, ALONE, len(X)).forward(torch.cat([coef, intercept[None]]))
