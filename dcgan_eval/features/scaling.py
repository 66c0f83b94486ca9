"""Scaling of features before they are classified."""

from collections.abc import Callable

import torch
from torch import Tensor

from dcgan_eval.options import Scaling
from dcgan_eval.runtime.ranks import Ranks

BLOCK = 2**22  # values scaled at a time
CONSTANT = 1e-12  # of its mean: the largest standard deviation that is rounding alone
# how results say it
SCALED: dict[Scaling, str] = {
    "none": "features unscaled", "standardised": "features standardised", "unit-norm": "features of unit norm",
}  # fmt: skip


def feature_scaling(scaling: Scaling, train: Tensor, ranks: Ranks) -> Callable[[Tensor], Tensor]:
    """What scales features, float32 (n, d), into new memory; by 'none' it gives them as they are.

    'standardised' takes from each feature its mean over all training images, those without a label in a draw included,
    and divides by its standard deviation over them (by n), or by 1 where it is constant: scikit-learn's StandardScaler.
    'unit-norm' divides each image's features by their Euclidean norm, unless that is 0. Both in float64, rounded once.

    train: features of the training images; with several ranks, the rows of this one.
    """
    if scaling == "none":
        return lambda X: X
    rows = max(1, BLOCK // train.shape[1])
    shift, scale = torch.zeros(2, train.shape[1], dtype=torch.float64)
    if scaling == "standardised":
        n = int(ranks.sum(torch.tensor(len(train))))
        for x in torch.split(train, rows):
            shift += x.double().sum(0)
        shift = ranks.sum(shift) / n
        for x in torch.split(train, rows):
            scale += (x.double() - shift).square().sum(0)
        scale = (ranks.sum(scale) / n).sqrt()
        scale[scale <= CONSTANT * shift.abs()] = 1

    def scaled(X: Tensor) -> Tensor:
        found = torch.empty(X.shape, dtype=X.dtype)
        for x, out in zip(torch.split(X, rows), torch.split(found, rows), strict=True):
            wide = x.double()
            if scaling == "standardised":
                out.copy_((wide - shift) / scale)
            else:
                norm = wide.norm(dim=1, keepdim=True)
                out.copy_(wide / torch.where(norm > 0, norm, 1))
        return found

    return scaled
