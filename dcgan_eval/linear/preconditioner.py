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

    def __init__(self, form: Operator, curvature: Tensor) -> None:
        """curvature: (n, m), of the dtype and on the device that conjugate gradients are computed with."""
        if not form.bases:
            form.bases[torch.float64] = form.basis()
        if curvature.dtype not in form.bases:
            form.bases[curvature.dtype] = Basis(*(part.to(curvature) for part in form.bases[torch.float64]))
        self.form, self.basis = form, form.bases[curvature.dtype]
        F = self.basis.F
        projected = curvature.new_empty(curvature.shape[1], F.shape[1], F.shape[1])
        for j, column in enumerate(curvature.T):
            active = torch.nonzero(column)[:, 0]  # often a third of the rows
            rows = F[active]
            projected[j] = (column[active, None] * rows).T @ rows
        values = self.basis.values.to(form.wide, torch.float64)
        projected = form.ranks.sum(projected).to(form.wide, torch.float64)
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
        return z, Fz, form.dot(r, z, Fz)

    def _low(self, a: Tensor) -> Tensor:
        """rest · (VᵀHV)⁻¹ a − a, (rank, m), held so far above −a that rounding leaves M positive definite."""
        wide = a.to(self.factor) / self.roots
        solved = torch.cholesky_solve(wide.T[:, :, None], self.factor)[:, :, 0].T / self.roots
        return (self.rest * solved).to(a) - (1 - 64 * torch.finfo(a.dtype).eps) * a
