"""Claim: precision, recall, density and coverage of 50,000 features against 50,000 take at most 1 GiB beyond the
features, and are those of the authors' package prdc, which needs their distances all at once (20 GB a matrix).

    python -m benchmarks.manifold [--n 50000] [--d 2048] [--beside 10000]

Features are correlated and not negative, as Inception's. `--beside` of them are also given to prdc in the same run.
Peak memory is that of this process before and after, so the large run comes first.
"""

import argparse
import contextlib
import io
import resource
import time
from collections.abc import Iterator
from functools import partial

import torch
from prdc import compute_prdc
from torch import Tensor

from benchmarks.measure import Case
from dcgan_eval import results
from dcgan_eval.metrics.manifold import manifold

RANK = 64


def features(seed: int, n: int, d: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(RANK, d, generator=torch.Generator().manual_seed(0)) / RANK**0.5
    out = torch.empty(n, d)
    for part in torch.split(out, 4096):
        part.copy_((torch.randn(len(part), RANK, generator=generator) * (1 + seed / 20)) @ mix).relu_()
    return out


def by_prdc(real: Tensor, fake: Tensor) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        return dict(compute_prdc(real.numpy(), fake.numpy(), 5))


def cases(d: int = 2048) -> Iterator[Case]:
    """By the number of features on each side."""
    real, fake = features(0, 10_000, d), features(1, 10_000, d)
    for n in (625, 2500, 10_000):
        yield Case(n, partial(manifold, real[:n], fake[:n]), {"prdc": partial(by_prdc, real[:n], fake[:n])})


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50000)
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--beside", type=int, default=10000)
    a = parser.parse_args()
    real, fake = features(0, a.n, a.d), features(1, a.n, a.d)
    before = peak()
    start = time.perf_counter()
    print(f"{torch.get_num_threads()} threads; {results.versions()}; {results.now()}\n")
    print(f"{a.n} against {a.n} features of {a.d}: {manifold(real, fake)[:5]}")
    print(f"{time.perf_counter() - start:.1f} s, {peak() - before:.2f} GiB beyond the features\n")
    x, y = real[: a.beside], fake[: a.beside]
    start = time.perf_counter()
    print(f"{a.beside} against {a.beside}: {manifold(x, y)[:5]}")
    ours = time.perf_counter() - start
    start = time.perf_counter()
    found = by_prdc(x, y)
    theirs = time.perf_counter() - start
    print(f"prdc:            {', '.join(f'{name}={value}' for name, value in found.items())}")
    print(f"{ours:.1f} s, prdc {theirs:.1f} s: {theirs / ours:.1f} times")


if __name__ == "__main__":
    main()
