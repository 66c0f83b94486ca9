"""L2-regularised squared-hinge linear SVM, many problems at once, solved to a certified optimum.

The problem is liblinear's L2R_L2LOSS_SVC (Fan et al. 2008, eq. 1, with the squared hinge), one column j for every
class, fold and label draw:

    minimise over w    P(w) = ½‖w‖² + Σᵢ cᵢⱼ max(0, 1 − yᵢⱼ f(xᵢ))²,      f(x) = w·[x, intercept_scaling]

so the intercept is a penalised weight, as in scikit-learn's LinearSVC. All columns share each pass over X.

Method: the finite Newton method of Mangasarian (2002) and Keerthi and DeCoste (2005) with an exact line search. Where
n < d the iterates are w = Xᵀβ and a pass is a product with the Gram matrix XXᵀ, formed once; otherwise passes run
over blocks of rows of X. Newton systems are solved by conjugate gradients, preconditioned with the leading
eigenvectors that a randomised subspace iteration finds (Halko, Martinsson and Tropp 2011), or directly where min(n, d)
is small or conjugate gradients fail.

Certificate: P is 1-strongly convex, so P(w) − min P ≤ ½‖∇P(w)‖²; equally, that is the duality gap of w and the dual
point αᵢ = 2 cᵢ max(0, 1 − yᵢ f(xᵢ)). The solver stops when this bound is at most tol·P(w) in every column.

Precision: what is returned (weights, decision values, objective, gap) are float64 sums over the given X. The Gram
matrix and Newton's directions may be float32, with the reduced-precision products (TF32, bfloat16) that the hardware
offers: they change how many steps are taken, not what is certified.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

BLOCK = 2**21  # values of X converted to float64 at a time: 16 MiB, which stays in cache
STREAM = 2**24  # values of X multiplied at a time where nothing is converted
DIRECT = 512  # Newton systems up to this order are solved directly from the start
DIRECT_LIMIT = 4096  # ... and up to this order where conjugate gradients fail
PATIENCE = 25  # Newton steps before conjugate gradients are taken to fail
GRAM_BYTES = 3 * 2**29  # the largest Gram matrix, in float64: 1.5 GiB
RANK = 64, 8  # eigenvectors in the preconditioner: at least, and for each of the problems that share them
CG_STEPS = 100
LADDER_START, LADDER_STEP, LADDER_TOL = 100.0, 10.0, 1.0  # first 2 C Σ‖x‖², ratio of the next C, relative gap
LARGEST = 1e30  # C times the squared norm of a row; far beyond what can be certified
CG_REDUCTION = 0.01  # of the Newton residual: below this, Newton's own convergence is the limit


@dataclass(frozen=True)
class Solution:
    """The optimum of m problems on n rows of d features.

    coef: (d, m) float64; intercept: (m,) float64, intercept_scaling included; decision: (n, m) float64, f of every row
    of X, rows of weight 0 included; objective: (m,) float64, P(w); gap: (m,) float64, the bound on P(w) − min P;
    n_iter: Newton steps, those of the ladder that led to this C included; converged: gap ≤ tol · objective everywhere.
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
) -> Iterator[Solution]:
    """Solve m problems on the same rows for each C in turn, each started at the solution of the one before.

    X: (n, d) float32 or float64, on any device, memory-mapped or not; never copied whole except to a GPU with room for
    it. Y: (n, m), +1 or −1. weight: (n, m) ≥ 0, multiplies C; 0 leaves a row out of a problem, which is how folds and
    label draws are written. intercept_scaling: the value of the constant feature, 0 for no intercept. device: where
    directions are computed; that of X if not given.

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
    X = _place(X, device)
    wide = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    Y, weight = Y.to(wide, torch.float64), weight.to(wide, torch.float64)

    exact = _Primal(X, intercept_scaling, device, wide)
    gram = n < d and n * n * 8 <= GRAM_BYTES
    form: _Primal | _Gram = _Gram(exact, double=n * n * d < 2e9) if gram else exact
    U = torch.zeros(form.order, Y.shape[1], dtype=torch.float64, device=wide)
    none = torch.zeros_like(Y)
    norms = exact.square_norms()
    largest = float(norms.max())
    trace = float(norms @ weight.amax(1))
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
        if isinstance(form, _Gram):
            form, U, solution = _solve_gram(exact, form, Y, weight, C, U, tol, max_iter)
        else:
            U, _, steps = _newton(form, Y, C * weight, U, none, tol, max_iter)
            solution = _certified(exact, Y, weight, C, U, steps, tol)
        solution = replace(solution, n_iter=solution.n_iter + before)
        if not solution.converged:
            relative = float((solution.gap / solution.objective).max())
            warnings.warn(
                f"L2SVC at C={C:g} stopped after {solution.n_iter} Newton steps with a relative gap of {relative:.1e}, "
                f"more than tol={tol:g}: scale the features, or raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        yield solution


def _certified(exact: "_Primal", Y: Tensor, weight: Tensor, C: float, W: Tensor, n_iter: int, tol: float) -> Solution:
    """The weights W with their objective and gap, from X itself."""
    F = exact.forward(W)
    c = C * weight
    slack = (1 - Y * F).clamp_min_(0)
    gradient = W - exact.adjoint(2 * c * Y * slack)
    objective = 0.5 * (W * W).sum(0) + (c * slack**2).sum(0)
    gap = 0.5 * (gradient * gradient).sum(0)
    converged = bool((gap <= tol * objective).all())
    return Solution(float(C), W[:-1], exact.bias * W[-1], F, objective, gap, n_iter, converged)


def _solve_gram(
    exact: "_Primal",
    form: "_Gram",
    Y: Tensor,
    weight: Tensor,
    C: float,
    U: Tensor,
    tol: float,
    max_iter: int,
) -> tuple["_Gram", Tensor, Solution]:
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
            form, offset, last = _Gram(exact, double=True), torch.zeros_like(Y), np.inf


def _newton(
    form: "_Primal | _Gram", Y: Tensor, c: Tensor, U: Tensor, offset: Tensor, tol: float, max_iter: int
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
        objective = 0.5 * form.dot(u, u, f - offset[:, live]) + (k * slack**2).sum(0)
        unfinished = 0.5 * form.dot(G, G, FG) > tol * objective
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
        FD = form.forward(D)
        t = _line_search(form.dot(u, D, FD), form.dot(D, D, FD), y * f, y * FD, k)
        U[:, live] = u + t * D
        F[:, live] = f + t * FD
    return U, F, step


def _conjugate_gradients(form: "_Primal | _Gram", G: Tensor, curvature: Tensor) -> tuple[Tensor, bool]:
    """Directions D with (I + Xᵀ diag(curvature) X) D ≈ −G, column by column, and whether all reached CG_REDUCTION."""
    r = -G.to(form.device, form.dtype)
    curvature = curvature.to(form.device, form.dtype)
    D, p, Fp = torch.zeros_like(r), torch.zeros_like(r), torch.zeros_like(curvature)
    scale = curvature.mean(0)
    before: Tensor | None = None
    stop = torch.zeros_like(scale)
    with _reduced_precision():
        for _ in range(CG_STEPS):
            z, Fz, rz = form.precondition(r, scale)
            if before is None:
                before, stop = rz, CG_REDUCTION**2 * rz
            active = rz > stop
            if not bool(active.any()):
                return D.to(G.device).double(), True
            ratio = torch.where(active, rz / before, 0)
            p, Fp = z + ratio * p, Fz + ratio * Fp
            bent = curvature * Fp
            alpha = torch.where(active, rz / (form.dot(p, p, Fp) + (Fp * bent).sum(0)), 0)
            D += alpha * p
            r -= alpha * (p + form.adjoint(bent))
            before = torch.where(active, rz, before)
    return D.to(G.device).double(), False


def _line_search(ud: Tensor, dd: Tensor, yf: Tensor, yd: Tensor, c: Tensor) -> Tensor:
    """The t > 0 that minimises the convex, piecewise quadratic P(u + t D) of every column: safeguarded Newton on P′."""
    t, low, high = torch.ones_like(ud), torch.zeros_like(ud), torch.full_like(ud, torch.inf)
    enough = 1e-3 * (ud - 2 * (c * yd * (1 - yf).clamp_min_(0)).sum(0)).abs()
    for _ in range(50):
        slack = (1 - yf - t * yd).clamp_min_(0)
        slope = ud + t * dd - 2 * (c * yd * slack).sum(0)
        if bool((slope.abs() <= enough).all()):
            break
        high, low = torch.where(slope > 0, t, high), torch.where(slope < 0, t, low)
        t = t - slope / (dd + 2 * (c * yd**2 * (slack > 0)).sum(0))
        middle = torch.where(high.isinf(), 2 * low + 1, (low + high) / 2)
        t = torch.where((t > low) & (t < high), t, middle)
    return t


class L2SVC(ClassifierMixin, BaseEstimator):
    """Linear classification by the L2-regularised squared hinge, one-vs-rest: LinearSVC's problem, solved to `tol`.

    Parameters: C > 0; tol, the certified bound on (objective − optimum) / objective; fit_intercept and
    intercept_scaling, the penalised constant feature; class_weight, None, 'balanced' or a dict, which as in liblinear
    weighs the positive class of each one-vs-rest problem (both classes if there are two); max_iter Newton steps;
    device, None for that of X.

    Learned: classes_; coef_ float64 (n_classes or 1, d); intercept_ float64 (n_classes or 1,); objective_ and gap_
    float64, P and the certified bound on its distance from the optimum, for each row of coef_; n_iter_ Newton steps.

    X is (n, d), a NumPy array, memory map or torch tensor; float32 and float64 are not copied. Raises ValueError for
    NaN, C ≤ 0, or a single class.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        tol: float = 1e-6,
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        class_weight: dict[Any, float] | str | None = None,
        max_iter: int = 100,
        device: torch.device | str | None = None,
    ) -> None:
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.device = device

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """X: (n, d); y: (n,) labels of two or more classes; sample_weight: (n,) ≥ 0, multiplies C."""
        if isinstance(X, Tensor):
            rows, y = X, np.asarray(y)
            self.n_features_in_ = _check_tensor(rows)
        else:
            array, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
            rows = _tensor(array)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"L2SVC needs at least two classes, but y holds 1 class: {self.classes_[0]}")
        if len(index) != len(rows):
            raise ValueError(f"X has {len(rows)} rows but y has {len(index)} labels")
        weight = _check_sample_weight(sample_weight, np.empty((len(rows), 0)), dtype=np.float64)
        if np.any(weight < 0):
            raise ValueError("sample_weight must not be negative")
        balance = compute_class_weight(self.class_weight, classes=self.classes_, y=y, sample_weight=weight)
        Y, c = one_vs_rest(torch.from_numpy(index), len(self.classes_)), torch.from_numpy(weight)[:, None]
        if Y.shape[1] == 1:
            c = c * torch.from_numpy(balance)[index][:, None]
        else:
            c = c * torch.where(Y > 0, torch.from_numpy(balance), 1)
        solution = next(
            solve_path(
                rows,
                Y,
                c,
                [self.C],
                intercept_scaling=self.intercept_scaling if self.fit_intercept else 0.0,
                tol=self.tol,
                max_iter=self.max_iter,
                device=self.device,
            )
        )
        self.coef_ = solution.coef.T.cpu().numpy()
        self.intercept_ = solution.intercept.cpu().numpy()
        self.objective_ = solution.objective.cpu().numpy()
        self.gap_ = solution.gap.cpu().numpy()
        self.n_iter_ = solution.n_iter
        return self

    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float64]:
        """f(x): (n, n_classes), or (n,) for two classes, positive for classes_[1]."""
        check_is_fitted(self)
        if not isinstance(X, Tensor):
            X = _tensor(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))
        elif _check_tensor(X) != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} features, but L2SVC was fitted on {self.n_features_in_}")
        F = decision_values(X, torch.from_numpy(self.coef_.T), torch.from_numpy(self.intercept_)).cpu().numpy()
        return F[:, 0] if len(self.classes_) == 2 else F

    def predict(self, X: ArrayLike | Tensor) -> NDArray[Any]:
        """The class with the largest decision value, (n,)."""
        F = self.decision_function(X)
        return self.classes_[(F > 0).astype(int) if F.ndim == 1 else F.argmax(1)]


def one_vs_rest(labels: Tensor, n_classes: int) -> Tensor:
    """(n, n_classes) float64 of +1 and −1 for labels int64 (n,) in [0, n_classes); one column for two classes."""
    if n_classes == 2:
        return torch.where(labels[:, None] == 1, 1.0, -1.0).double()
    return torch.where(labels[:, None] == torch.arange(n_classes, device=labels.device), 1.0, -1.0).double()


def decision_values(X: Tensor, coef: Tensor, intercept: Tensor) -> Tensor:
    """X @ coef + intercept, float64 (n, m), from X (n, d) float32 or float64 by blocks of rows, coef float64 (d, m)."""
    device = coef.device
    return _Primal(X, 1.0, device, device).forward(torch.cat([coef, intercept[None]]))


def _check_tensor(X: Tensor) -> int:
    if X.ndim != 2 or X.dtype not in (torch.float32, torch.float64) or not X.numel():
        raise ValueError(f"X must be float32 or float64 (n, d) and not empty, got {X.dtype} {tuple(X.shape)}")
    for block in torch.split(X, max(1, BLOCK // X.shape[1])):
        if not bool(block.isfinite().all()):
            raise ValueError("X holds NaN or infinite values")
    return X.shape[1]


def _tensor(X: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is never written to
        # torch knows no negative strides
        return torch.from_numpy(X if min(X.strides) >= 0 else np.ascontiguousarray(X))


class _Primal:
    """Iterates are the weights themselves, (d + 1, m), the last row that of the constant feature."""

    def __init__(self, X: Tensor, bias: float, device: torch.device, wide: torch.device) -> None:
        self.X, self.bias, self.device, self.wide = X, bias, device, wide
        self.order = X.shape[1] + 1
        self.dtype = torch.float64 if X.dtype == torch.float64 and device == wide else torch.float32
        if X.numel() < BLOCK and device == wide:
            self.dtype = torch.float64
        self.basis: tuple[Tensor, Tensor] | None = None

    def blocks(self, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """X by blocks of rows, converted in one reused buffer where the dtype differs."""
        as_is = self.X.dtype == dtype and self.X.device == device
        n = max(1, (STREAM if as_is else BLOCK) // self.X.shape[1])
        buffer = torch.empty(0 if as_is else n * self.X.shape[1], dtype=dtype, device=device)
        for start in range(0, len(self.X), n):
            rows = slice(start, start + n)
            x = self.X[rows]
            yield rows, x if as_is else buffer[: x.numel()].view(x.shape).copy_(x)

    def square_norms(self) -> Tensor:
        """Of every row, the constant feature included; float64 (n,)."""
        norms = [(x * x).sum(1) for _, x in self.blocks(self.wide, torch.float64)]
        return torch.cat(norms) + self.bias**2

    def forward(self, W: Tensor) -> Tensor:
        F = torch.empty(len(self.X), W.shape[1], dtype=W.dtype, device=W.device)
        for rows, x in self.blocks(W.device, W.dtype):
            torch.mm(x, W[:-1], out=F[rows])
        return F.add_(self.bias * W[-1])

    def adjoint(self, A: Tensor) -> Tensor:
        W = torch.zeros(A.shape[1], self.order, dtype=A.dtype, device=A.device)
        for rows, x in self.blocks(A.device, A.dtype):
            W[:, :-1].addmm_(A[rows].T, x)  # this way round is twice as fast as its transpose
        W[:, -1] = self.bias * A.sum(0)
        return W.T

    def image(self, G: Tensor) -> Tensor:
        """Decision values of a gradient, which the primal form has no use for."""
        return G[:1]

    def dot(self, u: Tensor, v: Tensor, Fv: Tensor) -> Tensor:
        return (u * v).sum(0)

    def precondition(self, r: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.basis is None:
            self.basis = _leading_eigenvectors(lambda Q: self.adjoint(self.forward(Q)), self.order, r)
        V, values = self.basis
        z = r + V @ (_damping(values, scale) * (V.T @ r))
        return z, self.forward(z), (r * z).sum(0)

    def solve(self, G: Tensor, FG: Tensor, curvature: Tensor) -> Tensor:
        D = torch.empty_like(G)
        for j in range(G.shape[1]):
            H = torch.eye(self.order, dtype=torch.float64, device=self.wide)
            for rows, x in self.blocks(self.wide, torch.float64):
                xb = torch.cat([x, x.new_full((len(x), 1), self.bias)], 1)
                H.addmm_(xb.T, curvature[rows, j, None] * xb)
            D[:, j] = -_solve_definite(H, G[:, j])
        return D


class _Gram:
    """Iterates are coefficients β of w = Xᵀβ, (n, m); inner products are those of w."""

    def __init__(self, exact: _Primal, *, double: bool) -> None:
        self.device, self.wide = exact.device, exact.wide
        self.double = double or exact.X.dtype == torch.float64
        self.dtype = torch.float64 if self.double and exact.device == exact.wide else torch.float32
        self.K = _gram_matrix(exact.X, exact.bias, self.wide if self.double else self.device, self.double)
        self.order = len(self.K)
        self.basis: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, U: Tensor) -> Tensor:
        F = torch.empty_like(U)
        rows = max(1, BLOCK // self.order)
        buffer = torch.empty(rows * self.order, dtype=torch.float64, device=self.wide)
        for start in range(0, self.order, rows):
            k = self.K[start : start + rows]
            torch.mm(buffer[: k.numel()].view(k.shape).copy_(k), U, out=F[start : start + rows])
        return F

    def adjoint(self, A: Tensor) -> Tensor:
        return A

    def image(self, G: Tensor) -> Tensor:
        return self.forward(G)

    def dot(self, u: Tensor, v: Tensor, Fv: Tensor) -> Tensor:
        return (u * Fv).sum(0)

    def precondition(self, r: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        K = self.K.to(self.device, self.dtype)
        if self.basis is None:
            Q, values = _leading_eigenvectors(lambda Q: K @ Q, self.order, r)
            V = Q / values.sqrt()
            self.basis = V, K @ V, values
        V, KV, values = self.basis
        Fr = K @ r
        low = _damping(values, scale) * (V.T @ Fr)
        z, Fz = r + V @ low, Fr + KV @ low
        return z, Fz, (r * Fz).sum(0)

    def solve(self, G: Tensor, FG: Tensor, curvature: Tensor) -> Tensor:
        """(I + S K S) v = S K G with S² the curvature; the direction is then S v − G."""
        D = torch.empty_like(G)
        K = self.K.to(self.wide, torch.float64)
        for j in range(G.shape[1]):
            S = curvature[:, j].sqrt()
            M = S[:, None] * K * S
            M.diagonal().add_(1)
            D[:, j] = S * _solve_definite(M, S * FG[:, j]) - G[:, j]
        return D


def _solve_definite(M: Tensor, b: Tensor) -> Tensor:
    """M⁻¹ b for M = I + a positive semidefinite matrix, whose rounding may leave it slightly indefinite."""
    shift = torch.finfo(M.dtype).eps * M.diagonal().max()
    while True:
        factor, info = torch.linalg.cholesky_ex(M)
        if int(info) == 0:
            return torch.cholesky_solve(b[:, None], factor)[:, 0]
        # the direction changes a little; the line search and the certificate do not
        M.diagonal().add_(shift)
        shift = 10 * shift


def _leading_eigenvectors(apply: Any, order: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(order, rank) orthonormal Ritz vectors and their values, of a positive semidefinite operator."""
    rank = min(max(RANK[0], RANK[1] * like.shape[1]), order)
    Q = torch.randn(order, rank, generator=torch.Generator().manual_seed(0)).to(like)

    def orthonormal(Q: Tensor) -> Tensor:  # MPS has neither qr nor eigh
        return torch.linalg.qr(Q.cpu() if Q.device.type == "mps" else Q).Q.to(like)

    for _ in range(2):
        Q = apply(orthonormal(Q))
    Q = orthonormal(Q)
    M = Q.T @ apply(Q)
    values, R = torch.linalg.eigh((M + M.T).cpu() / 2)
    keep = values > values[-1] * 1e-6
    return Q @ R[:, keep].to(like), values[keep].to(like)


def _damping(values: Tensor, scale: Tensor) -> Tensor:
    """(rank, m): what the preconditioner adds to the identity along each eigenvector, for curvature `scale` per row."""
    return (1 + values[0] * scale) / (1 + values[:, None] * scale) - 1


def _gram_matrix(X: Tensor, bias: float, device: torch.device, double: bool) -> Tensor:
    n = len(X)
    dtype = torch.float64 if double else torch.float32
    K = torch.empty(n, n, dtype=dtype, device=device)
    tile = 512
    with _reduced_precision():
        for i in range(0, n, tile):
            a = X[i : i + tile].to(device, dtype)
            for j in range(0, i + 1, tile):
                b = X[j : j + tile].to(device, dtype)
                K[i : i + tile, j : j + tile] = a @ b.T
                if j < i:
                    K[j : j + tile, i : i + tile] = K[i : i + tile, j : j + tile].T
    return K.add_(bias * bias)


@contextmanager
def _reduced_precision() -> Iterator[None]:
    """Let float32 products run on the hardware's faster, less precise units; restores what was set."""
    cpu, cuda = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul  # type: ignore[attr-defined]
    before = cpu.fp32_precision, cuda.fp32_precision
    cpu.fp32_precision, cuda.fp32_precision = "bf16", "tf32"
    try:
        yield
    finally:
        cpu.fp32_precision, cuda.fp32_precision = before


def _place(X: Tensor, device: torch.device) -> Tensor:
    """X on the device if it fits there beside the solver's own memory, else as it is, to be streamed by blocks."""
    if X.device == device or device.type != "cuda":
        return X
    free, _ = torch.cuda.mem_get_info(device)
    return X.to(device) if X.numel() * X.element_size() + GRAM_BYTES < free else X
