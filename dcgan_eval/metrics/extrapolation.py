"""The Fréchet distance with infinitely many samples: FID∞, if the features are Inception's.

A covariance of few samples is too wide in some directions, so that the distance grows as 1/N of N samples. Chong and
Forsyth 2020 ("Effectively Unbiased FID and Inception Score"), section 3: distances of random subsets of growing size
lie on a line over 1/N; its intercept is the estimate. Sizes run evenly from a tenth of the samples to all of them, in
15 steps, as in the authors' code with its 50,000, but from no fewer than 2.5 samples a feature: below that, distances
bend away from the line, and with 1,000 samples of 448 features the estimate was 18 where 1 is right. Their quasi-random
z is not needed for the estimate. The bias of the real side is not removed, there as here.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcgan_eval.metrics.frechet import Gaussian, fit, frechet_distance

POINTS = 15
SHARE = 10
PER_FEATURE = 2.5  # samples of the smallest subset


class Extrapolation(NamedTuple):
    """intercept: the estimate, which may be below 0 for a distance of almost 0. slope: per 1/N. error: the standard
    error of the intercept by ordinary least squares: of the line alone, as subsets overlap. Several seeds of the
    samples tell more. sizes, distances: the points of the line."""

    intercept: float
    slope: float
    error: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def fewest(d: int) -> int:
    """Samples of d features: the largest subset holds at least twice as many as the smallest."""
    return max(2 * SHARE, 2 * math.ceil(PER_FEATURE * d))


def frechet_distance_at_infinity(real: Gaussian, fake: Tensor, *, seed: int, points: int = POINTS) -> Extrapolation:
    """From the real side's Gaussian and fake features (n, d). Raises ValueError for fewer than `fewest(d)` fakes."""
    n, d = fake.shape
    if n < fewest(d) or points < 3:
        raise ValueError(f"{points} points of {n} samples of {d} features: want at least 3, and {fewest(d)} samples")
    sizes = tuple(int(size) for size in np.linspace(max(n // SHARE, math.ceil(PER_FEATURE * d)), n, points))
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
