"""Claim: the Fréchet term at d = 2048 is at least 10 times faster than by scipy.linalg.sqrtm and 2 times faster than by
torch.linalg.eigvals, the way of torchmetrics, and all agree.

    python -m benchmarks.frechet [--rounds R]

Float64, from two given means and covariances of correlated features with a decaying spectrum, 10,000 each. The peers
compute tr (Σ₁Σ₂)^½ as their packages do; rounds alternate, but sqrtm runs once.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from scipy.linalg import sqrtm
from torch import Tensor

from benchmarks.measure import Case, Limits
from dcgan_eval import results
from dcgan_eval.metrics.frechet import Gaussian, fit, frechet_distance

D, N = 2048, 10000


def by_sqrtm(a: Gaussian, b: Gaussian) -> float:
    """As pytorch-fid."""
    root = sqrtm((a.covariance @ b.covariance).numpy())
    return _distance(a, b, float(root.trace().real))


def by_eigvals(a: Gaussian, b: Gaussian) -> float:
    """As torchmetrics."""
    return _distance(a, b, float(torch.linalg.eigvals(a.covariance @ b.covariance).sqrt().real.sum()))


def _distance(a: Gaussian, b: Gaussian, root: float) -> float:
    return float((a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()) - 2 * root


def gaussian(seed: int, d: int = D) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    mix: Tensor = torch.randn(d, d, generator=generator) / (1 + torch.arange(d)) ** 0.5
    return fit((torch.randn(N, d, generator=generator) @ mix).relu())


def cases(limits: Limits) -> Iterator[Case]:
    """By the number of features.

    The limit: a Cholesky factor, two products with triangles and half of the reduction to tridiagonal as arithmetic;
    the other half of that reduction reads what is left of a triangle for every column.
    """
    for d in (D // 16, D // 4, D):
        a, b = gaussian(0, d), gaussian(1, d)
        limit = 3 * d**3 / limits.peaks[torch.float64] + 8 * d**3 / 6 / limits.bandwidth
        peers = {"scipy.linalg.sqrtm": partial(by_sqrtm, a, b), "torch.linalg.eigvals": partial(by_eigvals, a, b)}
        yield Case(d, partial(frechet_distance, a, b), dict(peers), limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"d = {D}, float64, {torch.get_num_threads()} threads; {results.versions()}; {results.now()}\n")
    a, b = gaussian(0), gaussian(1)
    ways: dict[str, Callable[[Gaussian, Gaussian], float]] = {
        "here": frechet_distance,
        "torch.linalg.eigvals": by_eigvals,
        "scipy.linalg.sqrtm": by_sqrtm,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, float] = {}
    for i in range(rounds):
        for name, way in ways.items():
            if name.startswith("scipy") and i:
                continue
            start = time.perf_counter()
            found[name] = way(a, b)
            seconds[name].append(time.perf_counter() - start)
    print(f"{'':22}{'seconds':>9}{'times ours':>12}   distance")
    for name in ways:
        took = statistics.median(seconds[name])
        print(f"{name:22}{took:9.2f}{took / statistics.median(seconds['here']):12.1f}   {found[name]:.9f}")


if __name__ == "__main__":
    main()
