"""What makes conjugate gradients for many Newton systems short."""

import torch
from torch import Tensor

from dcgan_eval.linear.operators import Basis, Gram, Operator, factors
from dcgan_eval.runtime.fast_ops import few_times


class Preconditioner:
    """M⁻¹ of m problems: M agrees with each problem's Hessian H = I + Xᵀ diag(curvature) X on the span of the leading
    eigenvectors of XᵀX, and is one number, `rest`, times the identity elsewhere.

    There VᵀHV = values½ (1 / values + Fᵀ diag(curvature) F) values½ for the basis V, F: each problem's own, since with
    the mean curvature in its place conjugate gradients take up to twice as many steps.
    """

    def __init__(self, form: Operator, curvature: Tensor, width: int = 1) -> None:
        """curvature: (n, m), of the dtype and on the device that conjugate gradients are computed with; of several
        classes the diagonal of their common one. width: columns of one problem."""
        if not form.bases:
            form.bases[torch.float64] = form.basis(whole=width > 1)
        if curvature.dtype not in form.bases:
            form.bases[curvature.dtype] = Basis(*(part.to(curvature) for part in form.bases[torch.float64]))
        self.form, self.basis = form, form.bases[curvature.dtype]
        F = self.basis.F
        m = curvature.shape[1] // width
        # of folds, say, each class has about the same Hessian but for its size: one projection serves them all
        alike = curvature if width == 1 else curvature.view(len(curvature), m, width).mean(1)
        projected = curvature.new_empty(alike.shape[1], F.shape[1], F.shape[1])
        for j, column in enumerate(alike.T):
            active = torch.nonzero(column)[:, 0]  # often a third of the rows
            rows = F[active]
            projected[j] = (column[active, None] * rows).T @ rows
        values = self.basis.values.to(form.wide, torch.float64)
        projected = form.ranks.sum(projected).to(form.wide, torch.float64)
        if width > 1:  # intercepts that are not penalised follow the weights
            sums = form.ranks.sum(alike.T @ F).to(projected)
            total, each = (form.total(some).to(projected) for some in (alike, curvature))
            squares = sums[:, :, None] * sums[:, None] / total[:, None, None]
            projected -= torch.where(total[:, None, None] > 0, squares, 0)
            sizes = torch.where(total > 0, each.view(m, width) / total, 0)
            projected = (sizes[:, :, None, None] * projected).flatten(0, 1)
        self.width = width
        projected.diagonal(dim1=1, dim2=2).add_(1 / values)
        self.factor = factors(projected, torch.finfo(curvature.dtype).eps)
        self.roots = values.sqrt()[:, None]
        # what M is elsewhere: the Hessian along the last of the eigenvectors, roughly
        scale = form.total(curvature.to(form.wide, torch.float64)) / form.n
        self.rest = 1 + (values[-1] if len(values) else 0) * scale

    def __call__(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For residuals r, (order, m): z = `rest` times M⁻¹ r, its decision values, and ⟨r, z⟩, (m,)."""
        form, (V, F, _) = self.form, self.basis
        if isinstance(form, Gram):
            Fr = form.forward(r)
            low = self._low(few_times(Fr.T.contiguous(), V).T)
            z, Fz = r + V @ low, Fr + F @ (self.roots.to(low) * low)
        else:
            z = r + V @ self._low(few_times(r.T.contiguous(), V).T)
            Fz = form.forward(z)
        if self.width > 1:  # the weights of a problem sum to 0 over classes, and so do those of its gradient
            z, Fz = (a - _means(a, self.width) for a in (z, Fz))
        return z, Fz, form.dot(r, z, Fz)

    def _low(self, a: Tensor) -> Tensor:
        """rest · (VᵀHV)⁻¹ a − a, (rank, m), held so far above −a that rounding leaves M positive definite."""
        wide = a.to(self.factor) / self.roots
        solved = torch.cholesky_solve(wide.T[:, :, None], self.factor)[:, :, 0].T / self.roots
        return (self.rest * solved).to(a) - (1 - 64 * torch.finfo(a.dtype).eps) * a


def _means(a: Tensor, width: int) -> Tensor:
    """Over the columns of each problem, of a (n, columns), in every one of them."""
    return a.view(len(a), a.shape[1] // width, width).mean(2).repeat_interleave(width, 1)
