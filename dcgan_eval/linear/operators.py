"""A linear problem on the weights themselves, and on the Gram matrix of the rows."""

from collections.abc import Callable, Iterator
from math import isqrt
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from dcgan_eval.runtime.fast_ops import few_times, product_of_split, split
from dcgan_eval.runtime.ranks import Ranks

Precision = Literal["split", "float32", "float64"]  # of a Gram matrix, from fast to precise; `split` of fast_ops

BLOCK, WIDTH = 2**20, 4096  # values of X, and columns, multiplied in float64 at a time: 8 MiB, which stay in cache
LANES = 4  # float64 products take half the time where as many columns as fill a register are multiplied
EASY = 2**21  # values of X up to which directions, too, are computed in float64
STREAM = 2**24  # values of X multiplied in float32 at a time
ON_GPU = 32  # times as many on a GPU, which has launches to save and no cache that holds a block
GRAM_BYTES = 3 * 2**29  # the largest Gram matrix, in float64: 1.5 GiB
CUTOFF = 1e-6  # of the largest eigenvalue: smaller ones are not in a basis
SMALL = 64  # Newton systems up to this order are factorised from the start,
SMALL_PRIMAL, FEW = 256, 2**19  # and those of the weights up to this one, where X has no more values than so many
LARGEST_FACTOR = 4096  # the largest Newton system that is factorised where conjugate gradients fail
NARROW, WIDE, DIRECT = 0, 1, 2  # efforts: conjugate gradients in the form's dtype, in float64; factorisation
RANK = 3, 8  # vectors of a basis: so many times the root of the order, at most one in so many of it
SAMPLE = 16  # rows that a basis is found from, for each of its vectors, spread evenly over all


class Basis(NamedTuple):
    """About the leading eigenvectors of XᵀX: V, (order, rank), as iterates of a form; F, (n, rank), their decision
    values over the roots of `values`; values, (rank,), about their eigenvalues, largest first."""

    V: Tensor
    F: Tensor
    values: Tensor


class Operator(Protocol):
    """The problem in one of its two forms, as the solver needs it: products with X, in the coordinates of iterates U.

    order: number of coordinates of an iterate. dtype, device: of fast products. wide: the device of float64 ones.
    rough_dtype: of products far from the optimum. least, most: the first and the last effort that a Newton direction is
    computed with (`NARROW`, `WIDE`, `DIRECT`). ranks: the processes that hold rows of X. n: rows
    of all. bases: what `basis` found.
    """

    order: int
    dtype: torch.dtype
    rough_dtype: torch.dtype
    device: torch.device
    wide: torch.device
    least: int
    most: int
    ranks: Ranks
    n: int
    bases: dict[torch.dtype, Basis]

    def forward(self, U: Tensor) -> Tensor:
        """Decision values (n, m) of iterates (order, m)."""
        ...

    def adjoint(self, A: Tensor) -> Tensor:
        """The iterates (order, m) of w = XᵀA, for A (n, m)."""
        ...

    def image(self, G: Tensor) -> Tensor:
        """Decision values of a gradient, as far as `dot` needs them."""
        ...

    def dot(self, u: Tensor, v: Tensor, Fv: Tensor) -> Tensor:
        """Inner products of the weights of two iterates, (m,); Fv: decision values of the second."""
        ...

    def total(self, values: Tensor) -> Tensor:
        """The sum over rows, (m,), of values (n, m)."""
        ...

    def basis(self, whole: bool) -> Basis:
        """About the leading eigenvectors of XᵀX; of a small problem all of them, if `whole`."""
        ...

    def solve(self, u: Tensor, f: Tensor, y: Tensor, slack: Tensor, curvature: Tensor) -> Tensor:
        """Newton directions (order, m), each from a factorisation."""
        ...


class Primal:
    """Iterates are the weights themselves, (d + 1, m), the last row that of the constant feature.

    Of several ranks each holds some rows of X and the whole of the weights; what is summed over rows is summed over
    ranks. n: rows of all. shift: float64 (d,), taken from every row of X, if given.
    """

    def __init__(
        self,
        X: Tensor,
        bias: float,
        device: torch.device,
        wide: torch.device,
        ranks: Ranks,
        n: int,
        shift: Tensor | None = None,
    ) -> None:
        self.bias, self.device, self.wide, self.ranks, self.n = bias, device, wide, ranks, n
        self.order = X.shape[1] + 1
        if n * X.shape[1] < EASY and device == wide:
            X = X.to(device, torch.float64)
            X, shift = (X, None) if shift is None else (X - shift, None)
        self.X, self.shift = X, shift
        self.dtype = torch.float64 if X.dtype == torch.float64 and device == wide else torch.float32
        self.rough_dtype = self.dtype  # of products far from the optimum
        small = self.order <= SMALL or (self.order <= SMALL_PRIMAL and n * self.order <= FEW)
        self.least, self.most = _efforts(self.dtype, self.order, small)
        self.bases: dict[torch.dtype, Basis] = {}

    def blocks(self, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[slice, slice, Tensor]]:
        """X by blocks of rows and, in float64, of columns; where the dtype differs converted in one reused buffer, and
        shifted."""
        as_is, d = self._as_is(device, dtype), self.X.shape[1]
        width = d if dtype == torch.float32 else min(d, WIDTH)
        size = STREAM if as_is and dtype == torch.float32 else BLOCK
        n = max(1, min(len(self.X), _at_a_time(size, device) // width))
        buffer = torch.empty(0 if as_is else n * width, dtype=dtype, device=device)
        for start in range(0, len(self.X), n):
            rows = slice(start, start + n)
            for first in range(0, d, width):
                columns = slice(first, first + width)
                x = self.X[rows, columns]
                if as_is:
                    yield rows, columns, x
                    continue
                x = buffer[: x.numel()].view(x.shape).copy_(x)
                yield rows, columns, x if self.shift is None else x.sub_(self.shift[columns].to(x))

    def _as_is(self, device: torch.device, dtype: torch.dtype) -> bool:
        return self.X.dtype == dtype and self.X.device == device

    def _shift(self, like: Tensor) -> Tensor | None:
        """What products with blocks that are as they are lack, (d,)."""
        return self.shift.to(like) if self.shift is not None and self._as_is(like.device, like.dtype) else None

    def square_norms(self) -> Tensor:
        """Of every row, the constant feature included; float64 (n,)."""
        norms = torch.full((len(self.X),), self.bias**2, dtype=torch.float64, device=self.wide)
        for rows, _, x in self.blocks(self.wide, torch.float64):
            norms[rows] += (x * x).sum(1)
        return norms

    def total(self, values: Tensor) -> Tensor:
        """The sum over rows, (m,), of values (n, m)."""
        return self.ranks.sum(values.sum(0))

    def forward(self, W: Tensor) -> Tensor:
        m, weights = W.shape[1], _filled(W[:-1].T)
        F = torch.zeros(len(self.X), len(weights), dtype=W.dtype, device=W.device)
        for rows, columns, x in self.blocks(W.device, W.dtype):
            F[rows] += few_times(weights[:, columns], x.T).T
        constant = self.bias * W[-1]
        if (shift := self._shift(W)) is not None:
            constant = constant - shift @ W[:-1]
        return F[:, :m] + constant

    def adjoint(self, A: Tensor) -> Tensor:
        m, few = A.shape[1], _filled(A.T)
        W = torch.zeros(len(few), self.order - 1, dtype=A.dtype, device=A.device)
        for rows, columns, x in self.blocks(A.device, A.dtype):
            few_times(few[:, rows].contiguous(), x, add_to=W[:, columns])
        if (shift := self._shift(A)) is not None:
            W -= few.sum(1)[:, None] * shift
        return self.ranks.sum(torch.cat([W[:m], self.bias * A.sum(0)[:, None]], 1)).T

    def image(self, G: Tensor) -> Tensor:
        """Decision values of a gradient, which the primal form has no use for."""
        return G[:1]

    def dot(self, u: Tensor, v: Tensor, Fv: Tensor) -> Tensor:
        return (u * v).sum(0)

    def basis(self, whole: bool) -> Basis:
        """V and its values from some rows where there are many, F from all."""
        step, some = max(1, self.n // (SAMPLE * _rank(self.order, whole))), self
        if step > 1:
            some = Primal(self.X[::step], self.bias, self.device, self.wide, self.ranks, self.n, self.shift)
        V, values = _leading_eigenvectors(lambda Q: some.adjoint(some.forward(Q)), self, whole)
        values = values * step
        return Basis(V, self.forward(V.to(self.device, self.dtype)).to(V).div_(values.sqrt()), values)

    def solve(self, u: Tensor, f: Tensor, y: Tensor, slack: Tensor, curvature: Tensor) -> Tensor:
        """Newton directions −H⁻¹g, each from a factorisation of H = I + Xᵀ diag(curvature) X."""
        G = u - self.adjoint(curvature * y * slack)
        D = torch.empty_like(G)
        for j in range(G.shape[1]):
            H = torch.zeros(self.order, self.order, dtype=torch.float64, device=self.wide)
            for rows, _, x in self.blocks(self.wide, torch.float64):  # at this order of all columns
                active = torch.nonzero(curvature[rows, j])[:, 0]
                xb = torch.cat([x[active], x.new_full((len(active), 1), self.bias)], 1)
                H.addmm_(xb.T, curvature[rows, j][active, None] * xb)
            H = self.ranks.sum(H)
            H.diagonal().add_(1)
            D[:, j] = -_solve_definite(H, G[:, j])
        return D


class Gram:
    """Iterates are coefficients β of w = Xᵀβ, (n, m); inner products are those of w."""

    def __init__(self, exact: Primal, precision: Precision) -> None:
        self.device, self.wide, self.ranks, self.n = exact.device, exact.wide, exact.ranks, exact.n
        self.precision: Precision = precision
        self.dtype = torch.float64 if precision == "float64" and exact.device == exact.wide else torch.float32
        self.rough_dtype = torch.float64  # since products of coefficients cancel
        device = self.wide if precision == "float64" else self.device
        self.K = _gram_matrix(exact.X, exact.bias, device, precision, exact.shift)
        self.order = len(self.K)
        self.least, self.most = _efforts(self.dtype, self.order, self.order <= SMALL)
        self.bases: dict[torch.dtype, Basis] = {}

    def error(self, exact: Primal) -> float:
        """About ‖K − (XXᵀ + bias²)‖₂, from what both do to four vectors."""
        generator = torch.Generator().manual_seed(0)
        V = torch.randn(self.order, 4, generator=generator, dtype=torch.float64).to(self.device, torch.float32)
        V[:, 0] = 1  # errors of one sign
        wanted = exact.forward(exact.adjoint(V))
        # a random symmetric matrix stretches no vector twice as far as it does a random one
        return 2 * float(((self.K.to(V) @ V - wanted).norm(dim=0) / V.norm(dim=0)).max())

    def forward(self, U: Tensor) -> Tensor:
        """K U, in the dtype of U."""
        U = U.T.contiguous()
        if U.dtype == self.K.dtype and U.device == self.K.device:
            return few_times(U, self.K.T).T  # K is symmetric
        F, rows = torch.empty_like(U), max(1, _at_a_time(BLOCK, U.device) // self.order)
        buffer = torch.empty(rows * self.order, dtype=U.dtype, device=U.device)
        for start in range(0, self.order, rows):
            k = self.K[start : start + rows]
            F[:, start : start + rows] = few_times(U, buffer[: k.numel()].view(k.shape).copy_(k).T)
        return F.T

    def adjoint(self, A: Tensor) -> Tensor:
        return A

    def image(self, G: Tensor) -> Tensor:
        return self.forward(G)

    def total(self, values: Tensor) -> Tensor:
        return values.sum(0)

    def dot(self, u: Tensor, v: Tensor, Fv: Tensor) -> Tensor:
        return (u * Fv).sum(0)

    def basis(self, whole: bool) -> Basis:
        """With VᵀKV = I to float64's rounding, however K's leading eigenvectors were found."""
        Q, values = _leading_eigenvectors(self.forward, self, whole)
        V = Q / values.sqrt()
        KV = self.forward(V)
        M = V.T @ KV
        factor, bad = torch.linalg.cholesky_ex((M + M.T) / 2)
        if int(bad):  # of these the first so many are independent
            n = int(bad) - 1
            V, KV, values, factor = V[:, :n], KV[:, :n], values[:n], factor[:n, :n]
        V, KV = (torch.linalg.solve_triangular(factor.T, A, upper=True, left=False) for A in (V, KV))
        return Basis(V, KV / values.sqrt(), values)

    def solve(self, u: Tensor, f: Tensor, y: Tensor, slack: Tensor, curvature: Tensor) -> Tensor:
        """Newton directions: where the slack is positive, β + D solves (K + diag(1 / curvature)) (β + D) = y, less
        what f has besides K β; elsewhere β + D is 0. The residual comes from f, which corrects the last
        factorisation."""
        active = curvature > 0
        D = torch.where(active, 0, -u)
        left = y * slack - torch.where(active, u / curvature, 0)
        if bool((D != 0).any()):
            left = left - self.forward(D)
        for j in range(u.shape[1]):
            rows = torch.nonzero(active[:, j])[:, 0]
            A = self.K[rows][:, rows].to(self.wide, torch.float64)
            A.diagonal().add_(1 / curvature[rows, j])
            D[rows, j] = _solve_definite(A, left[rows, j])
        return D


def factors(M: Tensor, rounding: float) -> Tensor:
    """Cholesky factors of (m, k, k) matrices that are positive definite but for errors of about `rounding` times their
    largest element: where they are not, a multiple of that is added to the diagonal. Not finite where M is not."""
    shift = rounding * M.diagonal(dim1=1, dim2=2).amax(1) if M.shape[1] else M.new_zeros(len(M))
    while True:
        factor, info = torch.linalg.cholesky_ex(M)
        bad = info > 0
        if not bool((bad & shift.isfinite()).any()):
            return torch.where(bad[:, None, None], torch.nan, factor)
        # a direction changes a little; the line search and the certificate do not
        M.diagonal(dim1=1, dim2=2).add_(torch.where(bad, shift, 0)[:, None])
        shift = 10 * shift


def _solve_definite(M: Tensor, b: Tensor) -> Tensor:
    """M⁻¹ b for M = I + a positive semidefinite matrix."""
    return torch.cholesky_solve(b[:, None], factors(M[None], torch.finfo(M.dtype).eps)[0])[:, 0]


def _rank(order: int, whole: bool) -> int:
    """Of a basis: so that a Hessian's projection, from its active rows, costs about as much as two steps of conjugate
    gradients."""
    if whole and order <= SMALL_PRIMAL:
        return order
    times, one_in = RANK
    return min(times * isqrt(order), -(-order // one_in))


def _leading_eigenvectors(apply: Callable[[Tensor], Tensor], form: Operator, whole: bool) -> tuple[Tensor, Tensor]:
    """(order, rank) orthonormal Ritz vectors and their values, largest first, float64, of a positive semidefinite
    operator on the form's iterates."""
    ranks, wide = form.ranks, form.wide
    generator = torch.Generator().manual_seed(0)
    Q = torch.randn(form.order, _rank(form.order, whole), generator=generator, dtype=torch.float64).to(wide)

    def applied(Q: Tensor) -> Tensor:
        return apply(Q.to(form.device, form.dtype)).to(wide, torch.float64)

    for _ in range(2):
        Q = applied(torch.linalg.qr(Q).Q)
    Q = ranks.agreed(torch.linalg.qr(Q).Q)
    M = Q.T @ applied(Q)
    if not bool(ranks.agreed(M.clone()).isfinite().all()):  # the directions themselves will say so, too
        return Q[:, :0], Q[0, :0]
    values, R = (ranks.agreed(found.flip(-1)) for found in torch.linalg.eigh((M + M.T) / 2))
    keep = values > values[0] * CUTOFF
    return Q @ R[:, keep], values[keep]


def _gram_matrix(
    X: Tensor, bias: float, device: torch.device, precision: Precision, shift: Tensor | None = None
) -> Tensor:
    """XXᵀ + bias², (n, n), float64 or float32, symmetric to the bit; X less `shift`, if given."""
    n, tile = len(X), 512

    def rows(start: int) -> Tensor:
        found = X[start : start + tile].to(device, dtype)
        return found if shift is None else found - shift.to(found)

    dtype = torch.float64 if precision == "float64" else torch.float32
    K = torch.empty(n, n, dtype=dtype, device=device)
    for i in range(0, n, tile):
        a = rows(i)
        halves = split(a) if precision == "split" else None
        for j in range(0, i + 1, tile):
            b = rows(j)
            if halves is None:
                K[i : i + tile, j : j + tile] = a @ b.T
            else:
                hi, lo = split(b)
                K[i : i + tile, j : j + tile] = product_of_split(halves, (hi.T, lo.T))
            if j < i:
                K[j : j + tile, i : i + tile] = K[i : i + tile, j : j + tile].T
        square = K[i : i + tile, i : i + tile]
        square.copy_((square + square.T) / 2)
    return K.add_(bias * bias)


def _filled(few: Tensor) -> Tensor:
    """few, (m, k), contiguous; in float64 with rows of zeros up to a multiple of LANES."""
    if few.dtype == torch.float32:
        return few.contiguous()
    wide = few.new_zeros(-(-len(few) // LANES) * LANES, few.shape[1])
    wide[: len(few)] = few
    return wide


def _at_a_time(values: int, device: torch.device) -> int:
    return values * ON_GPU if device.type == "cuda" else values


def _efforts(dtype: torch.dtype, order: int, small: bool) -> tuple[int, int]:
    """The first and the last effort for directions of this order."""
    first = DIRECT if small else WIDE if dtype == torch.float64 else NARROW
    return first, DIRECT if order <= LARGEST_FACTOR else WIDE


def place(X: Tensor, device: torch.device, beside: int = 0) -> Tensor:
    """X on the device if it fits there beside the solver's own memory and so many bytes more, else as it is, to be
    streamed by blocks."""
    if X.device == device or device.type != "cuda":
        return X
    free, _ = torch.cuda.mem_get_info(device)
    return X.to(device) if X.nbytes + beside + GRAM_BYTES < free else X
