"""Float64 arithmetic that gives the same bits on every processor, for values that are compared with one another.

Two distances that are equal in exact arithmetic must compare as equal however each was computed. torch's square root
comes from vector libraries that are off by a unit in the last place for some arguments, and its sums are grouped by the
width of the processor's registers. Single additions, subtractions, multiplications, divisions and square roots of IEEE
754 are rounded correctly, and so alike, everywhere.
"""

import torch
from torch import Tensor


def root(x: Tensor) -> Tensor:
    """The correctly rounded square root of x, float64 of one or more dimensions, x ≥ 0; NaN of negative values."""
    if x.device.type != "cpu":  # CUDA's is correctly rounded
        return x.sqrt()
    import numpy as np  # whose root is the processor's own

    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.sqrt(x.numpy()))


def sum_rows(x: Tensor) -> Tensor:
    """The sum of each row of x, float64 (n, d) → (n,), d ≥ 1; overwrites x. Halves are added until a column is left."""
    width = x.shape[1]
    while width > 1:
        half = (width + 1) // 2
        x[:, : width - half] += x[:, half:width]
        width = half
    return x[:, 0]
