"""The Fréchet distance with infinitely many samples: FID∞, if the features are Inception's.

A covariance of few samples is too wide in some directions, so that the distance grows as 1/N of N samples. Chong and
Forsyth 2020 ("Effectively Unbiased FID and Inception Score"), section 3: distances of random subsets of growing size
lie on a line over 1/N; its intercept is the estimate. Sizes run evenly from a tenth of the samples to all of them, in
15 steps, as in the authors' code with its 50,000; their quasi-random z is not needed for the estimate. The bias of the
real side is not removed, there as here.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcgan_eval.metrics.frechet import Gaussian, fit, frechet_distance

POINTS = 15
SHARE = 10


class Extrapolation(NamedTuple):
    """intercept: the estimate, which may be below 0 for a distance of almost 0. slope: per 1/N. error: the standard
    error of the intercept by ordinary least squares: of the line alone, as subsets overlap. Several seeds of the
    samples tell more. sizes, distances: the points of the line."""

    intercept: float
    slope: float
    error: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_distance_at_infinity(real: Gaussian, fake: Tensor, *, seed: int, points: int = POINTS) -> Extrapolation:
    """From the real side's Gaussian and fake features (n, d). Raises ValueError for fewer than 20 fakes."""
    n = len(fake)
    if n < 2 * SHARE or points < 3:
        raise ValueError(f"{points} points of {n} samples: want at least 3, and {2 * SHARE} samples")
    sizes = tuple(int(size) for size in np.linspace(n // SHARE, n, points))
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for size in sizes:
        some = torch.randperm(n, generator=generator)[:size].to(fake.device)
        distances.append(frechet_distance(real, fit(fake[some])))
    x, y = 1 / np.array(sizes), np.array(distances)
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - (intercept + slope * x)
    scatter = ((x - x.mean()) ** 2).sum()
    variance = residual @ residual / (points - 2) * (1 / points + x.mean() ** 2 / scatter)
    return Extrapolation(float(intercept), float(slope), float(variance**0.5), sizes, tuple(distances))
