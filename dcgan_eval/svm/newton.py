"""The finite Newton method for many problems at once."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dcgan_eval.ranks import ALONE, Ranks
from dcgan_eval.svm.forms import GRAM_BYTES, Gram, Primal, place, reduced_precision

DIRECT = 64  # Newton systems up to this order are solved directly from the start
DIRECT_LIMIT = 4096  # ... and up to this order where conjugate gradients fail
PATIENCE = 25  # Newton steps before conjugate gradients are taken to fail
CG_STEPS = 100
LADDER_START, LADDER_STEP, LADDER_TOL = 100.0, 10.0, 1.0  # first 2 C Σ‖x‖², ratio of the next C, relative gap
LARGEST = 1e30  # C times the squared norm of a row; far beyond what can be certified
GAIN = 1e-6  # what is gained over w = 0 counts as at least this share of the objective
CG_REDUCTION = 0.01  # of the Newton residual: below this, Newton's own convergence is the limit


@dataclass(frozen=True)
class Solution:
    """The optimum of m problems on n rows of d features.

    coef: (d, m) float64; intercept: (m,) float64, intercept_scaling included; decision: (n, m) float64, f of every row
    of X, rows of weight 0 included; objective: (m,) float64, P(w); gap: (m,) float64, the bound on P(w) − min P;
    n_iter: Newton steps, those of the ladder that led to this C included; converged: everywhere gap ≤ tol · P(w), and
    also ≤ tol · (P(0) − P(w)), or 1e-6 tol · P(w) where that is more.
    """

    C: float
    coef: Tensor
    intercept: Tensor
    decision: Tensor
    objective: Tensor
    gap: Tensor
    n_iter: int
    converged: bool


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

    X: (n, d) float32 or float64, on any device, memory-mapped or not; never copied whole except to a GPU with room for
    it. Y: (n, m), +1 or −1. weight: (n, m) ≥ 0, multiplies C; 0 leaves a row out of a problem, which is how folds and
    label draws are written. intercept_scaling: the value of the constant feature, 0 for no intercept. device: where
    directions are computed; that of X if not given. ranks: X, Y, weight and a solution's decision values are the rows
    of this one, of which there may be none; gradients and products with the Hessian are summed over all, and the rest
    of a solution is the same everywhere.

    Raises ValueError if shapes disagree, C ≤ 0, a weight is negative, or C ‖x‖² is beyond 1e30 or not a number.
    Warns (ConvergenceWarning) where the certificate was not reached within max_iter Newton steps at that C; each C of
    the ladder has as many of its own.
    """
    n, d = X.shape
    if Y.shape != weight.shape or len(Y) != n:
        raise ValueError(f"Y is {tuple(Y.shape)} and weight {tuple(weight.shape)} for X of {n} rows; want ({n}, m)")
    if not bool((weight >= 0).all()):
        raise ValueError("weight must not be negative")
    device = X.device if device is None else torch.device(device)
    X = place(X, device)
    wide = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    Y, weight = Y.to(wide, torch.float64), weight.to(wide, torch.float64)

    everywhere = int(ranks.sum(torch.tensor(n)))
    exact = Primal(X, intercept_scaling, device, wide, ranks, everywhere)
    # a Gram matrix needs all rows in one place
    gram = ranks.world == 1 and n < d and n * n * 8 <= GRAM_BYTES
    form: Primal | Gram = Gram(exact, double=n * n * d < 2e9) if gram else exact
    U = torch.zeros(form.order, Y.shape[1], dtype=torch.float64, device=wide)
    none = torch.zeros_like(Y)
    norms = exact.square_norms()
    # of several ranks the sum keeps what is not a number, as the maximum may not
    largest = float(ranks.largest(torch.cat([norms, norms.new_zeros(1)]).max()) + 0 * ranks.sum(norms.sum()))
    trace = float(ranks.sum(norms @ weight.amax(1)))
    reached = LADDER_START / (2 * trace) if trace else np.inf
    for C in Cs:
        if not (C > 0 and np.isfinite(C)):
            raise ValueError(f"C must be positive and finite, got {C:g}")
        if not C * largest <= LARGEST:
            raise ValueError(f"C={C:g} times the squared norm of a row, {largest:.0e}, overflows: scale the features")
        # far from the optimum Newton's active set wanders where the problem is ill-conditioned; a ladder of loosely
        # solved, smaller C leads to it
        before = 0
        while reached < C / LADDER_STEP:
            reached = min(reached * LADDER_STEP, C / LADDER_STEP)
            U, _, steps = _newton(form, Y, reached * weight, U, none, LADDER_TOL, max_iter)
            before += steps
        reached = C
        if isinstance(form, Gram):
            form, U, solution = _solve_gram(exact, form, Y, weight, C, U, tol, max_iter)
        else:
            U, _, steps = _newton(form, Y, C * weight, U, none, tol, max_iter)
            solution = _certified(exact, Y, weight, C, U, steps, tol)
        solution = replace(solution, n_iter=solution.n_iter + before)
        if not solution.converged and ranks.first:
            from sklearn.exceptions import ConvergenceWarning  # slow to import, seldom needed

            relative = float((solution.gap / solution.objective).max())
            warnings.warn(
                f"L2SVC at C={C:g} stopped after {solution.n_iter} Newton steps with a relative gap of {relative:.1e}, "
                f"more than tol={tol:g}: scale the features, or raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        yield solution


def _certified(exact: "Primal", Y: Tensor, weight: Tensor, C: float, W: Tensor, n_iter: int, tol: float) -> Solution:
    """The weights W with their objective and gap, from X itself."""
    F = exact.forward(W)
    c = C * weight
    slack = (1 - Y * F).clamp_min_(0)
    gradient = W - exact.adjoint(2 * c * Y * slack)
    objective = 0.5 * (W * W).sum(0) + exact.total(c * slack**2)
    gap = 0.5 * (gradient * gradient).sum(0)
    converged = bool((exact.ranks.agreed(gap - tol * _gained(objective, exact.total(c))) <= 0).all())
    return Solution(float(C), W[:-1], exact.bias * W[-1], F, objective, gap, n_iter, converged)


def _gained(objective: Tensor, at_zero: Tensor) -> Tensor:
    """P(0) − P(w), which is far below P where C is small, and then says better what w is worth."""
    return torch.minimum(torch.maximum(at_zero - objective, GAIN * objective), objective)


def _solve_gram(
    exact: "Primal",
    form: "Gram",
    Y: Tensor,
    weight: Tensor,
    C: float,
    U: Tensor,
    tol: float,
    max_iter: int,
) -> tuple["Gram", Tensor, Solution]:
    """Newton on the Gram matrix; its rounding errors are then removed by defect correction against X itself.

    Where that does not contract, or the rounding hides the optimum, the matrix is formed anew in float64.
    """
    offset = torch.zeros_like(Y)
    steps, last = 0, np.inf
    while True:
        budget = max(1, (max_iter if form.double else min(max_iter, PATIENCE)) - steps)
        U, F, taken = _newton(form, Y, C * weight, U, offset, tol / 4, budget)
        steps += taken
        solution = _certified(exact, Y, weight, C, exact.adjoint(U), steps, tol)
        relative = float((solution.gap / solution.objective).max())
        contracts = relative < last / 4 and taken < budget
        if solution.converged or steps >= max_iter or (form.double and not contracts):
            return form, U, solution
        if contracts:
            offset, last = solution.decision - (F - offset), relative
        else:
            del form.K  # before its successor is made: there is room for one
            form, offset, last = Gram(exact, double=True), torch.zeros_like(Y), np.inf


def _newton(
    form: "Primal | Gram", Y: Tensor, c: Tensor, U: Tensor, offset: Tensor, tol: float, max_iter: int
) -> tuple[Tensor, Tensor, int]:
    """Iterates U (in the coordinates of `form`) and their decision values F = form.forward(U) + offset."""
    U, F = U.clone(), form.forward(U) + offset
    live = torch.arange(Y.shape[1], device=Y.device)
    direct = form.order <= DIRECT
    step = 0
    for step in range(max_iter + 1):
        u, f, y, k = U[:, live], F[:, live], Y[:, live], c[:, live]
        slack = (1 - y * f).clamp_min_(0)
        G = u - form.adjoint(2 * k * y * slack)
        FG = form.image(G)
        objective = 0.5 * form.dot(u, u, f - offset[:, live]) + form.total(k * slack**2)
        gained = _gained(objective, form.total(k))
        unfinished = form.ranks.agreed(0.5 * form.dot(G, G, FG) - tol * gained) > 0
        if step == max_iter or not bool(unfinished.any()):
            break
        live, u, f, y, k, slack, G, FG = live[unfinished], *(a[:, unfinished] for a in (u, f, y, k, slack, G, FG))
        curvature = 2 * k * (slack > 0)
        if direct:
            D = form.solve(G, FG, curvature)
        else:
            # a direction cut short still descends
            D, solved = _conjugate_gradients(form, G, curvature)
            direct = (not solved or step >= PATIENCE // 2) and form.order <= DIRECT_LIMIT
        D = form.ranks.agreed(D)
        FD = form.forward(D)
        t = _line_search(form, form.dot(u, D, FD), form.dot(D, D, FD), y * f, y * FD, k)
        U[:, live] = u + t * D
        F[:, live] = f + t * FD
    return U, F, step


def _conjugate_gradients(form: "Primal | Gram", G: Tensor, curvature: Tensor) -> tuple[Tensor, bool]:
    """Directions D with (I + Xᵀ diag(curvature) X) D ≈ −G, column by column, and whether all reached CG_REDUCTION."""
    r = -G.to(form.device, form.dtype)
    curvature = curvature.to(form.device, form.dtype)
    D, p, Fp = torch.zeros_like(r), torch.zeros_like(r), torch.zeros_like(curvature)
    scale = form.total(curvature) / form.n
    before: Tensor | None = None
    stop = torch.zeros_like(scale)
    with reduced_precision():
        for _ in range(CG_STEPS):
            z, Fz, rz = form.precondition(r, scale)
            rz = form.ranks.agreed(rz)
            if before is None:
                before, stop = rz, CG_REDUCTION**2 * rz
            active = rz > stop
            if not bool(active.any()):
                return D.to(G.device).double(), True
            ratio = torch.where(active, rz / before, 0)
            p, Fp = z + ratio * p, Fz + ratio * Fp
            bent = curvature * Fp
            alpha = torch.where(active, rz / (form.dot(p, p, Fp) + form.total(Fp * bent)), 0)
            D += alpha * p
            r -= alpha * (p + form.adjoint(bent))
            before = torch.where(active, rz, before)
    return D.to(G.device).double(), False


def _line_search(form: "Primal | Gram", ud: Tensor, dd: Tensor, yf: Tensor, yd: Tensor, c: Tensor) -> Tensor:
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
