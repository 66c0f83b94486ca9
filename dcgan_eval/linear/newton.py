"""The finite Newton method for many problems at once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcgan_eval.linear.operators import DIRECT, GRAM_BYTES, NARROW, WIDE, Gram, Operator, Precision, Primal, place
from dcgan_eval.linear.preconditioner import Preconditioner
from dcgan_eval.runtime.errors import UncertifiedError
from dcgan_eval.runtime.fast_ops import multiplies_split, numbered
from dcgan_eval.runtime.precision import exact as exact_products
from dcgan_eval.runtime.ranks import ALONE, Ranks

EASY = 2e9  # products of a Gram matrix up to which it is made in float64 from the start
PATIENCE = 25  # Newton steps before a Gram matrix, or products in float32, are taken to be too coarse
SHORT, PATIENCE_SHORT = 0.1, 3  # steps below this length, and how many of them before directions are made more exact
STUCK = 5  # Newton steps that gain nothing before a column is given up
CG_STEPS = 100
LADDER_START, LADDER_STEP, LADDER_TOL = 100.0, 10.0, 0.1  # first 2 C Σ‖x‖², ratio of the next C, relative gap
LARGEST = 1e30  # C times the squared norm of a row; far beyond what can be certified
GAIN = 1e-6  # what is gained over w = 0 counts as at least this share of the objective
# of the Newton residual; less in float64, which small problems have from the start, and those where float32 failed
CG_REDUCTION = {torch.float32: 3e-2, torch.float64: 1e-4}
ROUGH_REDUCTION = 0.1  # of it, far from the optimum, where rows are still to become active or inactive
CONTRACTS = 0.25  # the largest 2 C ‖error of the Gram matrix‖ that is corrected in few rounds


@dataclass(frozen=True)
class Solution:
    """The optimum of m problems on n rows of d features.

    coef: (d, m) float64; intercept: (m,) float64, intercept_scaling included; decision: (n, m) float64, f of every row
    of X, rows of weight 0 included; objective: (m,) float64, P(w), and at_zero: P(0); gap: (m,) float64, the bound on
    P(w) − min P; n_iter: Newton steps, those of the ladder that led to this C included; converged:
    everywhere gap ≤ tol · P(w), and also ≤ tol · (P(0) − P(w)), or 1e-6 tol · P(w) where that is more.
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
        return _relative(self.gap, _gained(self.objective, self.at_zero))


def solve_path(
    X: Tensor,
    Y: Tensor,
    weight: Tensor,
    Cs: Iterable[float],
    *,
    intercept_scaling: float = 1.0,
    tol: float = 1e-6,
    max_iter: int = 100,
    device: torch.device | str | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[Solution]:
    """Solve m problems on the same rows for each C in turn, each started at the solution of the one before.

    X: (n, d) float32 or float64, on any device, memory-mapped or not; copied whole to a GPU with room
    for it, or to float64 where it is below 2²¹ values, and else never. Y: (n, m), +1 or −1. weight: (n, m) ≥ 0,
    multiplies C; 0 leaves a row out of a problem, which is how folds and
    label draws are written. intercept_scaling: the value of the constant feature, 0 for no intercept. device: where
    directions are computed; that of X if not given. ranks: X, Y, weight and a solution's decision values are the rows
    of this one, of which there may be none; gradients and products with the Hessian are summed over all, and the rest
    of a solution is the same everywhere.

    Raises ValueError if shapes disagree, C ≤ 0, a weight is negative, or C ‖x‖² is beyond 1e30 or not a number, and
    UncertifiedError for a solution that is not finite. One that is finite but not certified to `tol` says so by
    `converged`; max_iter are the Newton steps at each C of the ladder, of every form that is tried; at
    most 25 with products in float32, and on the ladder of a Gram matrix; then a more precise form is tried.
    """
    n = len(X)
    if Y.shape != weight.shape or len(Y) != n:
        raise ValueError(f"Y is {tuple(Y.shape)} and weight {tuple(weight.shape)} for X of {n} rows; want ({n}, m)")
    if not bool(((weight >= 0) & weight.isfinite()).all()):
        raise ValueError("weight must not be negative, infinite or NaN")
    path = None
    for C in Cs:
        if not (C > 0 and np.isfinite(C)):
            raise ValueError(f"C must be positive and finite, got {C:g}")
        with exact_products():  # and not while the caller looks at a solution
            if path is None:
                path = _Path(X, Y, weight, intercept_scaling, tol, max_iter, device, ranks)
            solution = path.solve(C)
        yield solution


class _Path:
    """The problems of `solve_path`, and where the last C left them."""

    form: Primal | Gram

    def __init__(
        self,
        X: Tensor,
        Y: Tensor,
        weight: Tensor,
        intercept_scaling: float,
        tol: float,
        max_iter: int,
        device: torch.device | str | None,
        ranks: Ranks,
    ) -> None:
        n, d = X.shape
        device = X.device if device is None else numbered(torch.device(device))
        X = place(X, device)
        wide = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
        self.Y, self.weight = Y.to(wide, torch.float64), weight.to(wide, torch.float64)
        self.tol, self.max_iter = tol, max_iter
        everywhere = int(ranks.sum(torch.tensor(n)))
        self.exact = Primal(X, intercept_scaling, device, wide, ranks, everywhere)
        norms = self.exact.square_norms()
        # of several ranks the sum keeps what is not a number, as the maximum may not
        largest = ranks.largest(torch.cat([norms, norms.new_zeros(1)]).max()) + 0 * ranks.sum(norms.sum())
        self.largest = float(largest) * max(1.0, float(ranks.largest(self.weight.new_tensor(_most(self.weight)))))
        trace = float(ranks.sum(norms @ self.weight.amax(1)))
        self.foot = self.reached = LADDER_START / (2 * trace) if trace else np.inf
        # a Gram matrix needs all rows in one place
        self.gram = ranks.world == 1 and n < d and n * n * 8 <= GRAM_BYTES
        small = n * n * d < EASY
        # from fast to precise
        self.precisions: list[Precision] = ["split"] if multiplies_split(device) else []
        self.precisions = ["float64"] if small or X.dtype == torch.float64 else [*self.precisions, "float32", "float64"]
        self.U = torch.zeros(n if self.gram else d + 1, Y.shape[1], dtype=torch.float64, device=wide)
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
                raise UncertifiedError(f"the L2-SVM at C={C:g} has no finite solution: scale the features")
        return solution

    def _attempt(self, form: Primal | Gram, C: float) -> Solution:
        """The solution by this form; a Gram matrix's rounding is removed by defect correction against X itself."""
        narrow = isinstance(form, Gram) and form.precision != self.precisions[-1]
        patience = min(self.max_iter, PATIENCE) if isinstance(form, Gram) else self.max_iter
        limit = patience if narrow else self.max_iter
        dtype, offset = form.rough_dtype, torch.zeros_like(self.Y)
        # far from the optimum Newton's active set wanders where the problem is ill-conditioned; a ladder of loosely
        # solved, smaller C leads to it
        while self.reached < C / LADDER_STEP:
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
            solution = self._certified(C, W, found.alpha)
            relative = float(solution.relative_gap.max())
            if solution.converged or isinstance(form, Primal):
                return solution
            if not (relative < last / 4 and left > 0):  # nor where it is NaN
                return solution
            offset, last = solution.decision - (found.F - offset), relative

    def _newton(
        self,
        form: Primal | Gram,
        C: float,
        offset: Tensor,
        tol: float,
        limit: int,
        dtype: torch.dtype = torch.float64,
    ) -> "_Found":
        found = _newton(form, self.Y, C * self.weight, self.U, offset, tol, limit, dtype)
        self.U = found.U
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
            if 2 * C * float(self.weight.max()) * self.error <= CONTRACTS:
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
        self.U = torch.zeros(self.form.order, self.Y.shape[1], dtype=torch.float64, device=self.Y.device)
        self.reached = self.foot
        return self.form

    def _certified(self, C: float, W: Tensor, alpha: Tensor) -> Solution:
        """The weights W with their objective and gap, from X itself; the latter by the dual point alpha, (n, m) ≥ 0, or
        by 2 c max(0, 1 − y f) where that is better."""
        exact, Y, c = self.exact, self.Y, C * self.weight
        F = exact.forward(W)
        slack = 1 - Y * F
        objective = 0.5 * (W * W).sum(0) + exact.total(c * slack.clamp_min(0) ** 2)
        at_zero = exact.total(c.clone())
        gained = _gained(objective, at_zero)
        gap = 0.5 * (W - exact.adjoint(Y * alpha)).square().sum(0) + _surplus(exact, alpha, c, slack)
        if not bool((exact.ranks.agreed(gap - self.tol * gained) <= 0).all()):
            gap = torch.fmin(gap, 0.5 * (W - exact.adjoint(2 * c * Y * slack.clamp_min(0))).square().sum(0))
        converged = bool((exact.ranks.agreed(_relative(gap, gained)) <= self.tol).all())
        return Solution(float(C), W[:-1], exact.bias * W[-1], F, objective, at_zero, gap, self.steps, converged)


def _surplus(form: Operator, alpha: Tensor, c: Tensor, slack: Tensor) -> Tensor:
    """P(w) − D(α) − ½ ‖w − Xᵀ(y α)‖² of α ≥ 0 and the signed slack 1 − y f(x), as a sum of terms ≥ 0; (m,)."""
    half = torch.where(alpha > 0, alpha / (2 * c), 0)
    return form.total(torch.where(slack > 0, c * (slack - half) ** 2, c * half**2 - alpha * slack))


def _relative(gap: Tensor, gained: Tensor) -> Tensor:
    """The gap in units of what is gained; 0 where both are, as of a problem whose rows all have weight 0."""
    return torch.where(gap == 0, 0, gap / gained)


def _gained(objective: Tensor, at_zero: Tensor) -> Tensor:
    """P(0) − P(w), which is far below P where C is small, and then says better what w is worth."""
    return torch.minimum(torch.maximum(at_zero - objective, GAIN * objective), objective)


def _most(weight: Tensor) -> float:
    return float(weight.max()) if weight.numel() else 0.0


class _Found(NamedTuple):
    """U: iterates in the coordinates of a form, always finite. F: their decision values, form.forward(U) + offset.
    alpha: (n, m) ≥ 0, the dual points that prove most of them. steps: Newton's. met: whether every column's gap is as
    small as was asked for."""

    U: Tensor
    F: Tensor
    alpha: Tensor
    steps: int
    met: bool


def _newton(
    form: Operator,
    Y: Tensor,
    c: Tensor,
    U: Tensor,
    offset: Tensor,
    tol: float,
    max_iter: int,
    dtype: torch.dtype = torch.float64,
) -> _Found:
    """Newton's iterates from U on, to where every column's gap is at most tol of what is gained, or where no direction
    brings it lower. Products with X are computed in `dtype`; less than float64 is for a tol that its rounding allows.
    """
    agreed, m, rough = form.ranks.agreed, Y.shape[1], dtype != torch.float64
    device = form.device if dtype == form.dtype else form.wide

    def computed(product: Callable[[Tensor], Tensor], A: Tensor) -> Tensor:
        return product(A.to(device, dtype)).to(A)

    U, F = U.clone(), computed(form.forward, U) + offset
    met = torch.zeros(m, dtype=torch.bool, device=Y.device)
    live = torch.arange(m, device=Y.device)
    effort = torch.full_like(live, form.least)  # how directions are computed
    stuck, short = torch.zeros_like(live), torch.zeros_like(live)
    least, smallest = torch.full((2, m), torch.inf, dtype=torch.float64, device=Y.device)
    alpha = torch.zeros_like(Y)
    step = 0
    for step in range(max_iter + 1):
        u, f, y, k, o = (a[:, live] for a in (U, F, Y, c, offset))
        slack = (1 - y * f).clamp_min_(0)
        G = u - computed(form.adjoint, 2 * k * y * slack)
        objective = 0.5 * form.dot(u, u, f - o) + form.total(k * slack**2)
        allowed = tol * _gained(objective, form.total(k.clone()))
        gap = 0.5 * form.dot(G, G, form.image(G))
        alpha[:, live] = 2 * k * slack
        if isinstance(form, Gram):
            gap = _by_coefficients(form, u, f, y, k, gap, allowed, alpha, live)
        unfinished = agreed((~(gap <= allowed)).int()) > 0  # NaN is not finished
        met[live] = ~unfinished
        # what lowers neither the objective nor the gap has met its rounding
        gains = (objective < least[live] * (1 - 64 * torch.finfo(dtype).eps)) | (gap < 0.9 * smallest[live])
        gains = agreed(gains.int()) > 0
        stuck[live] = torch.where(gains, 0, stuck[live] + 1)
        least[live], smallest[live] = torch.fmin(least[live], objective), torch.fmin(smallest[live], gap)
        # more exact directions would meet the rounding of rough products again
        more = (stuck[live] >= STUCK) & (effort[live] < form.most) & (not rough)
        effort[live] += more.long()
        stuck[live] = torch.where(more, 0, stuck[live])
        unfinished &= agreed(stuck[live]) < STUCK
        if step == max_iter or not bool(unfinished.any()):
            break
        live, u, f, y, k, slack, G, o = live[unfinished], *(a[:, unfinished] for a in (u, f, y, k, slack, G, o))
        D, FD, tried = _directions(form, computed, u, f, y, slack, 2 * k * (slack > 0), G, effort[live], rough)
        effort[live] = tried
        t = _line_search(form, form.dot(u, D, FD), form.dot(D, D, FD), y * f, y * FD, k)
        short[live] += (t < SHORT).long()
        if form.most == DIRECT and not rough:
            effort[live] = torch.where(short[live] > PATIENCE_SHORT, DIRECT, effort[live])
        u, f = u + t * D, f + t * FD
        finite = _finite(form, u, f)
        U[:, live], F[:, live] = torch.where(finite, u, U[:, live]), torch.where(finite, f, F[:, live])
    return _Found(U, F, alpha, step, bool(met.all()))


def _by_coefficients(
    form: Gram,
    u: Tensor,
    f: Tensor,
    y: Tensor,
    c: Tensor,
    gap: Tensor,
    allowed: Tensor,
    alpha: Tensor,
    live: Tensor,
) -> Tensor:
    """The smaller of `gap` and that of the coefficients themselves as the dual point; where that is so, and decides,
    they replace the columns `live` of alpha.

    2 c max(0, 1 − y f) has f's rounding in it, 2 C times as large, and with it the gap where C ‖x‖² is large.
    """
    coefficients = torch.where(c > 0, (y * u).clamp_min_(0), 0)  # of rows left out a dual point has none
    found = _surplus(form, coefficients, c, 1 - y * f)
    near = torch.nonzero((found <= allowed) & ~(gap <= allowed))[:, 0]
    if not len(near):
        return gap
    wrong = u[:, near] - y[:, near] * coefficients[:, near]  # of the other sign, and no part of a dual point
    found = found[near] + 0.5 * form.dot(wrong, wrong, form.forward(wrong))
    better = found < gap[near]
    near = near[better]
    alpha[:, live[near]] = coefficients[:, near]
    return gap.index_copy(0, near, found[better])


def _directions(
    form: Operator,
    computed: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor],
    u: Tensor,
    f: Tensor,
    y: Tensor,
    slack: Tensor,
    curvature: Tensor,
    G: Tensor,
    effort: Tensor,
    rough: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Directions of descent D, F D as `computed`, and the effort that each column is to be given next: more where this
    failed. rough: directions that point about to the optimum will do.

    Where even the most gives no descent, D is steepest descent: there nothing is left but rounding.
    """
    D, FD, effort = torch.zeros_like(u), torch.zeros_like(f), effort.clone()
    todo = torch.ones_like(effort, dtype=torch.bool)
    while bool(todo.any()):
        for level in (NARROW, WIDE, DIRECT):
            now = todo & (effort == level)
            if not bool(now.any()):
                continue
            if level == DIRECT:
                D[:, now] = form.solve(*(a[:, now] for a in (u, f, y, slack, curvature)))
                solved = now[now]
            else:
                dtype = form.dtype if level == NARROW else torch.float64
                reduction = ROUGH_REDUCTION if rough else CG_REDUCTION[dtype]
                D[:, now], solved = _conjugate_gradients(form, G[:, now], curvature[:, now], dtype, reduction)
            D[:, now] = form.ranks.agreed(D[:, now])
            FD[:, now] = computed(form.forward, D[:, now])
            descends = form.dot(G[:, now], D[:, now], FD[:, now]) < 0
            descends &= _finite(form, D[:, now], FD[:, now])
            descends, solved = (form.ranks.agreed(flags.int()) > 0 for flags in (descends, solved))
            last = level == form.most
            # directions cut short still descend, so that more is worth it only where it ends in a factorisation
            effort[now] += (~solved).long() if level < form.most == DIRECT else 0
            if last and not bool(descends.all()):
                none = torch.nonzero(now)[:, 0][~descends]
                D[:, none] = form.ranks.agreed(-G[:, none])
                FD[:, none] = computed(form.forward, D[:, none])
                descends = torch.ones_like(descends)
            todo[now] = ~descends
            effort[todo & now] = level + 1
    return D, FD, effort


def _finite(form: Operator, u: Tensor, f: Tensor) -> Tensor:
    """Which columns are finite, in the rows of all ranks."""
    return form.ranks.largest((~(u.isfinite().all(0) & f.isfinite().all(0))).int()) == 0


def _conjugate_gradients(
    form: Operator, G: Tensor, curvature: Tensor, dtype: torch.dtype, reduction: float
) -> tuple[Tensor, Tensor]:
    """Directions D with (I + Xᵀ diag(curvature) X) D ≈ −G, and of which of them the residual was reduced so far.

    A column whose products lose positive definiteness, or are not finite, keeps what it had before.
    """
    device = form.device if dtype == form.dtype else form.wide
    r, curvature = -G.to(device, dtype), curvature.to(device, dtype)
    D, p, Fp = torch.zeros_like(r), torch.zeros_like(r), torch.zeros_like(curvature)
    preconditioned = Preconditioner(form, curvature)
    sound = torch.ones(r.shape[1], dtype=torch.bool, device=device)
    solved = torch.zeros_like(sound)
    before = stop = torch.zeros_like(r[0])
    for step in range(CG_STEPS):
        z, Fz, rz = preconditioned(r)
        rz = form.ranks.agreed(rz)
        if step == 0:
            before, stop = rz, reduction**2 * rz
        solved |= sound & (rz >= 0) & (rz <= stop)
        sound &= (rz > 0) & rz.isfinite()
        active = sound & ~solved
        if not bool(active.any()):
            break
        p, Fp = torch.where(active, z + rz / before * p, 0), torch.where(active, Fz + rz / before * Fp, 0)
        bent = curvature * Fp
        bend = form.ranks.agreed(form.dot(p, p, Fp) + form.total(Fp * bent))
        sound &= ~active | ((bend > 0) & bend.isfinite())
        alpha = torch.where(active & sound, rz / bend, 0)
        D = torch.where(alpha > 0, D + alpha * p, D)
        r = torch.where(alpha > 0, r - alpha * (p + form.adjoint(bent)), r)
        before = torch.where(active, rz, before)
    return D.to(G), solved.to(G.device)


def _line_search(form: Operator, ud: Tensor, dd: Tensor, yf: Tensor, yd: Tensor, c: Tensor) -> Tensor:
    """The t > 0 that minimises the convex, piecewise quadratic P(u + t D) of every column: safeguarded Newton on P′."""
    t, low, high = torch.ones_like(ud), torch.zeros_like(ud), torch.full_like(ud, torch.inf)
    enough = 1e-3 * form.ranks.agreed(ud - 2 * form.total(c * yd * (1 - yf).clamp_min_(0))).abs()
    for _ in range(50):
        slack = (1 - yf - t * yd).clamp_min_(0)
        slope = form.ranks.agreed(ud + t * dd - 2 * form.total(c * yd * slack))
        if bool((slope.abs() <= enough).all()):
            break
        high, low = torch.where(slope > 0, t, high), torch.where(slope < 0, t, low)
        t = t - slope / (dd + 2 * form.total(c * yd**2 * (slack > 0)))
        middle = torch.where(high.isinf(), 2 * low + 1, (low + high) / 2)
        t = torch.where((t > low) & (t < high), t, middle)
    return form.ranks.agreed(t)


def one_vs_rest(labels: Tensor, n_classes: int) -> Tensor:
    """(n, n_classes) float64 of +1 and −1 for labels int64 (n,) in [0, n_classes); one column for two classes."""
    if n_classes == 2:
        return torch.where(labels[:, None] == 1, 1.0, -1.0).double()
    return torch.where(labels[:, None] == torch.arange(n_classes, device=labels.device), 1.0, -1.0).double()


def decision_values(X: Tensor, coef: Tensor, intercept: Tensor) -> Tensor:
    """X @ coef + intercept, float64 (n, m), from X (n, d) float32 or float64 by blocks of rows, coef float64 (d, m)."""
    device = coef.device
    return Primal(X, 1.0, device, device, ALONE, len(X)).forward(torch.cat([coef, intercept[None]]))
