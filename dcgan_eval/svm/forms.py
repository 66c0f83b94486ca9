"""The SVM's problem on the weights themselves, and on the Gram matrix of the rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dcgan_eval.ranks import Ranks

BLOCK = 2**21  # values of X converted to float64 at a time: 16 MiB, which stays in cache
STREAM = 2**24  # values of X multiplied at a time where nothing is converted
GRAM_BYTES = 3 * 2**29  # the largest Gram matrix, in float64: 1.5 GiB
RANK = 64, 8, 8  # eigenvectors in the preconditioner: at least; for each problem that shares them; one in so many


class Primal:
    """Iterates are the weights themselves, (d + 1, m), the last row that of the constant feature.

    Of several ranks each holds some rows of X and the whole of the weights; what is summed over rows is summed over
    ranks. n: rows of all.
    """

    def __init__(self, X: Tensor, bias: float, device: torch.device, wide: torch.device, ranks: Ranks, n: int) -> None:
        self.X, self.bias, self.device, self.wide, self.ranks, self.n = X, bias, device, wide, ranks, n
        self.order = X.shape[1] + 1
        self.dtype = torch.float64 if X.dtype == torch.float64 and device == wide else torch.float32
        if n * X.shape[1] < BLOCK and device == wide:
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
        norms = torch.empty(len(self.X), dtype=torch.float64, device=self.wide)
        for rows, x in self.blocks(self.wide, torch.float64):
            norms[rows] = (x * x).sum(1)
        return norms + self.bias**2

    def total(self, values: Tensor) -> Tensor:
        """The sum over rows, (m,), of values (n, m)."""
        return self.ranks.sum(values.sum(0))

    def forward(self, W: Tensor) -> Tensor:
        F, weights = torch.empty(len(self.X), W.shape[1], dtype=W.dtype, device=W.device), W[:-1].T.contiguous()
        for rows, x in self.blocks(W.device, W.dtype):
            F[rows] = _times(weights, x.T).T
        return F.add_(self.bias * W[-1])

    def adjoint(self, A: Tensor) -> Tensor:
        W = torch.zeros(A.shape[1], self.order, dtype=A.dtype, device=A.device)
        for rows, x in self.blocks(A.device, A.dtype):
            _times(A[rows].T.contiguous(), x, add_to=W[:, :-1])
        W[:, -1] = self.bias * A.sum(0)
        return self.ranks.sum(W).T

    def image(self, G: Tensor) -> Tensor:
        """Decision values of a gradient, which the primal form has no use for."""
        return G[:1]

    def dot(self, u: Tensor, v: Tensor, Fv: Tensor) -> Tensor:
        return (u * v).sum(0)

    def precondition(self, r: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.basis is None:
            self.basis = _leading_eigenvectors(lambda Q: self.adjoint(self.forward(Q)), self.order, r, self.ranks)
        V, values = self.basis
        z = r + V @ (_damping(values, scale) * _times(r.T.contiguous(), V).T)
        return z, self.forward(z), (r * z).sum(0)

    def solve(self, G: Tensor, FG: Tensor, curvature: Tensor) -> Tensor:
        D = torch.empty_like(G)
        for j in range(G.shape[1]):
            H = torch.zeros(self.order, self.order, dtype=torch.float64, device=self.wide)
            for rows, x in self.blocks(self.wide, torch.float64):
                xb = torch.cat([x, x.new_full((len(x), 1), self.bias)], 1)
                H.addmm_(xb.T, curvature[rows, j, None] * xb)
            H = self.ranks.sum(H)
            H.diagonal().add_(1)
            D[:, j] = -_solve_definite(H, G[:, j])
        return D


class Gram:
    """Iterates are coefficients β of w = Xᵀβ, (n, m); inner products are those of w."""

    def __init__(self, exact: Primal, *, double: bool) -> None:
        self.device, self.wide, self.ranks, self.n = exact.device, exact.wide, exact.ranks, exact.n
        self.double = double or exact.X.dtype == torch.float64
        self.dtype = torch.float64 if self.double and exact.device == exact.wide else torch.float32
        self.K = _gram_matrix(exact.X, exact.bias, self.wide if self.double else self.device, self.double)
        self.order = len(self.K)
        self.basis: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, U: Tensor) -> Tensor:
        F, U = torch.empty_like(U, memory_format=torch.contiguous_format), U.T.contiguous()
        rows = max(1, BLOCK // self.order)
        buffer = torch.empty(rows * self.order, dtype=torch.float64, device=self.wide)
        for start in range(0, self.order, rows):
            k = self.K[start : start + rows]
            F[start : start + rows] = _times(U, buffer[: k.numel()].view(k.shape).copy_(k).T).T
        return F

    def adjoint(self, A: Tensor) -> Tensor:
        return A

    def image(self, G: Tensor) -> Tensor:
        return self.forward(G)

    def total(self, values: Tensor) -> Tensor:
        return values.sum(0)

    def dot(self, u: Tensor, v: Tensor, Fv: Tensor) -> Tensor:
        return (u * Fv).sum(0)

    def precondition(self, r: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        K = self.K.to(self.device, self.dtype)
        if self.basis is None:
            Q, values = _leading_eigenvectors(lambda Q: K @ Q, self.order, r, self.ranks)
            V = Q / values.sqrt()
            self.basis = V, K @ V, values
        V, KV, values = self.basis
        Fr = _times(r.T.contiguous(), K).T
        low = _damping(values, scale) * _times(Fr.T.contiguous(), V).T
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


def _times(few: Tensor, X: Tensor, add_to: Tensor | None = None) -> Tensor:
    """few @ X for a contiguous (m, k) of few rows and a large X (k, n).

    In float32 on CPUs by oneDNN, which takes a half to two thirds of the time that MKL does of an X that no cache
    holds; but not where they have products of lower precision, which `reduced_precision` asks of `torch.mm`.
    """
    dense = X.is_contiguous() or X.T.is_contiguous()  # of other strides oneDNN has no fast product, or none
    if few.dtype == torch.float32 and few.device.type == "cpu" and X.numel() > BLOCK and dense and _onednn():
        product: Tensor = torch.ops.mkldnn._linear_pointwise(few, X.T, None, "none", [], "")
        return product if add_to is None else add_to.add_(product)
    return few @ X if add_to is None else add_to.addmm_(few, X)


@cache
def _onednn() -> bool:
    can = torch.cpu.get_capabilities()
    lower = any(can.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last on ARM
    return torch.backends.mkldnn.is_available() and not lower  # type: ignore[no-untyped-call]


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


def _leading_eigenvectors(apply: Any, order: int, like: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """(order, rank) orthonormal Ritz vectors and their values, of a positive semidefinite operator."""
    least, each, share = RANK
    rank = min(max(least, min(each * like.shape[1], order // share)), order)
    Q = torch.randn(order, rank, generator=torch.Generator().manual_seed(0)).to(like)

    def orthonormal(Q: Tensor) -> Tensor:  # MPS has neither qr nor eigh
        return torch.linalg.qr(Q.cpu() if Q.device.type == "mps" else Q).Q.to(like)

    for _ in range(2):
        Q = apply(orthonormal(Q))
    Q = ranks.agreed(orthonormal(Q))
    M = Q.T @ apply(Q)
    values, R = (ranks.agreed(found.to(like)) for found in torch.linalg.eigh((M + M.T).cpu() / 2))
    keep = values > values[-1] * 1e-6
    return Q @ R[:, keep], values[keep]


def _damping(values: Tensor, scale: Tensor) -> Tensor:
    """(rank, m): what the preconditioner adds to the identity along each eigenvector, for curvature `scale` per row."""
    return (1 + values[0] * scale) / (1 + values[:, None] * scale) - 1


def _gram_matrix(X: Tensor, bias: float, device: torch.device, double: bool) -> Tensor:
    n = len(X)
    dtype = torch.float64 if double else torch.float32
    K = torch.empty(n, n, dtype=dtype, device=device)
    tile = 512
    with reduced_precision():
        for i in range(0, n, tile):
            a = X[i : i + tile].to(device, dtype)
            for j in range(0, i + 1, tile):
                b = X[j : j + tile].to(device, dtype)
                K[i : i + tile, j : j + tile] = a @ b.T
                if j < i:
                    K[j : j + tile, i : i + tile] = K[i : i + tile, j : j + tile].T
    return K.add_(bias * bias)


@contextmanager
def reduced_precision() -> Iterator[None]:
    """Let float32 products run on the hardware's faster, less precise units; restores what was set."""
    cpu, cuda = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul  # type: ignore[attr-defined]
    before = cpu.fp32_precision, cuda.fp32_precision
    cpu.fp32_precision, cuda.fp32_precision = "bf16", "tf32"
    try:
        yield
    finally:
        cpu.fp32_precision, cuda.fp32_precision = before


def place(X: Tensor, device: torch.device) -> Tensor:
    """X on the device if it fits there beside the solver's own memory, else as it is, to be streamed by blocks."""
    if X.device == device or device.type != "cuda":
        return X
    free, _ = torch.cuda.mem_get_info(device)
    return X.to(device) if X.numel() * X.element_size() + GRAM_BYTES < free else X
