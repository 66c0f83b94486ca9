"""Claim: 95 % of the intervals that the package prints hold the true value, but for fractions next to 0 or 100 %.

    python -m benchmarks.coverage [--rounds 20000] [--out reports/benchmarks]

Each case draws data of which the truth is known, over and over, and counts how often the interval holds it. Writes
OUT/coverage.csv, and OUT/coverage.md as a table. Exit 1 where a share is outside what the case allows by more than
chance (3.3 standard errors of the simulation).
"""

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from dcgan_eval.evaluations.fid import BLOCKS, of_shares, of_splits
from dcgan_eval.metrics.frechet import Moments, fit, frechet_distance, without_each
from dcgan_eval.metrics.inception_score import inception_score
from dcgan_eval.metrics.kernel import kernel_distance
from dcgan_eval.metrics.manifold import manifold
from dcgan_eval.results import Interval, Row
from dcgan_eval.results.differences import difference, newcombe, of_pairs
from dcgan_eval.results.intervals import (
    LEVEL,
    Z95,
    ends,
    holm,
    jackknife,
    of_clusters,
    of_error,
    of_images,
    of_mean,
    simultaneous,
    wilson,
)
from dcgan_eval.runtime.files import write_whole

Draw = Callable[[Generator], bool]  # new data: whether the interval holds the truth
NOISE = 3.3  # standard errors of the simulation
# a count is one of few, so that no interval of a fraction holds exactly 95 %
LEAST, MOST = 0.93, 0.985


@dataclass(frozen=True)
class Case:
    """interval: its name in docs/statistics.md. of: what it is found over. truth: in words. least, most: the shares
    between which its coverage is to be. draw: one round. slow: of how many rounds one is enough."""

    interval: str
    of: str
    truth: str
    draw: Draw
    least: float = LEAST
    most: float = MOST
    slow: int = 1

    def __str__(self) -> str:
        return f"{self.interval}: {self.of}, {self.truth}"

    def covered(self, rounds: int, seed: int) -> float:
        """The share of rounds whose interval holds the truth."""
        rng = np.random.default_rng(seed)
        return sum(self.draw(rng) for _ in range(rounds)) / rounds


def noise(rounds: int) -> float:
    return NOISE * (LEVEL * (1 - LEVEL) / rounds) ** 0.5


def holds(low: float | None, high: float | None, truth: float) -> bool:
    return low is not None and high is not None and low <= truth <= high


# one number


def fraction(rng: Generator, *, n: int, p: float) -> bool:
    found = wilson(rng.binomial(n, p) / n, n, "")
    return holds(found.low, found.high, 100 * p)


def accuracy_of_draws(rng: Generator, *, n: int, draws: int, p: float, alike: float) -> bool:
    """Images differ in how often a draw of labels gets them right, by a Beta distribution; alike, from 0 to 1: the
    correlation of two draws on an image."""
    each = rng.beta(p * (1 - alike) / alike, (1 - p) * (1 - alike) / alike, n)
    found = of_images(rng.random((draws, n)) < each)
    return holds(found.low, found.high, 100 * p)


def clusters(rng: Generator, *, n: int, each: int, p: float, alike: float) -> bool:
    """Clusters differ in their fraction by a Beta distribution; alike, from 0 to 1: the correlation of two trials of a
    cluster."""
    truths = rng.beta(p * (1 - alike) / alike, (1 - p) * (1 - alike) / alike, n)
    found = of_clusters((rng.binomial(each, truths) / each).tolist(), each, "")
    return holds(found.low, found.high, 100 * p)


def mean(rng: Generator, *, n: int, skewed: bool) -> bool:
    values = rng.gamma(4, 1, n) if skewed else rng.normal(4, 1, n)
    found = of_mean(values, "")
    return holds(found.low, found.high, 4)


# a difference of two


def outcomes(rng: Generator, *, n: int, shares: tuple[float, float, float], draws: int = 1) -> NDArray[np.float64]:
    """Of n images the mean over draws of one model's outcome less another's. shares: that both, only the first and only
    the second get right; draws agree in half of the images."""
    probabilities = [*shares, 1 - sum(shares)]
    kinds = rng.choice(4, (draws, n), p=probabilities)
    kinds[:, : n // 2] = kinds[0, : n // 2]
    values: NDArray[np.float64] = np.array([0.0, 1.0, -1.0, 0.0])[kinds].mean(0)
    return values


def paired(rng: Generator, *, n: int, shares: tuple[float, float, float], draws: int = 1) -> bool:
    low, high = of_pairs(outcomes(rng, n=n, shares=shares, draws=draws), Z95)
    return low <= shares[1] - shares[2] <= high


def unpaired(rng: Generator, *, n: int, p: float, q: float) -> bool:
    low, high = newcombe((rng.binomial(n, p) / n, n), (rng.binomial(n, q) / n, n), Z95)
    return low <= 100 * (p - q) <= high


def by_draw(rng: Generator, *, draws: int, shared: float) -> bool:
    """shared: the deviation that both owe to the same draw, in units of each one's own."""
    common = shared * rng.normal(size=draws)
    each = (common + rng.normal(0.3, 1, draws)) - (common + rng.normal(0, 1, draws))
    half = simultaneous(2, draws - 1) * each.std(ddof=1) / draws**0.5
    return bool(abs(each.mean() - 0.3) <= half)


# distances between sets of images, by their features


def features(rng: Generator, n: int, d: int, shift: float, *, skewed: bool) -> Tensor:
    """float32 (n, d). skewed: of a Gamma distribution, as features after a ReLU are."""
    x = rng.gamma(0.5, 1, (n, d)) if skewed else rng.normal(size=(n, d))
    mixed = np.random.default_rng(0).normal(size=(d, d)) / d**0.5
    return torch.from_numpy((x + shift) @ mixed).float()


@cache
def reals(n: int, d: int, skewed: bool) -> Tensor:
    return features(np.random.default_rng(1), n, d, 0, skewed=skewed)


def _frechet(rng: Generator, n: int, d: int, shift: float, skewed: bool) -> tuple[float, Interval]:
    real, fake = fit(reals(10 * d, d, skewed)), features(rng, n, d, shift, skewed=skewed)
    without = without_each([Moments.of(part) for part in torch.tensor_split(fake, BLOCKS)])
    value = frechet_distance(real, fit(fake))
    return value, jackknife(value, [frechet_distance(real, some) for some in without], "")[0]


def _score(rng: Generator, n: int, d: int, shift: float, skewed: bool) -> tuple[float, Interval]:
    found = inception_score(3 * features(rng, n, d, shift, skewed=skewed), seed=0)
    return found.mean, of_splits(found)


def _kernel(rng: Generator, n: int, d: int, shift: float, skewed: bool) -> tuple[float, Interval]:
    real, fake = reals(n, d, skewed), features(rng, n, d, shift, skewed=skewed)
    size = min(n, 100)
    found = kernel_distance(fake, real, seed=0, subsets=1 if size == n else 20, subset_size=size)
    return found.mean, of_error(found.mean, found.error, n, "")


def _manifold(metric: str) -> "Estimate":
    def estimate(rng: Generator, n: int, d: int, shift: float, skewed: bool) -> tuple[float, Interval]:
        real, fake = reals(200, d, skewed), features(rng, n, d, shift, skewed=skewed)
        if metric == "recall":  # it is the real images that are drawn
            real, fake = features(rng, n, d, 0, skewed=skewed), reals(200, d, skewed) + shift
        found = manifold(real, fake, blocks=torch.arange(len(fake)).tensor_split(BLOCKS))
        return getattr(found, metric), of_shares(found, len(real), len(fake))[metric]

    return estimate


SHARES = ("precision", "recall", "density", "coverage")
Estimate = Callable[[Generator, int, int, float, bool], tuple[float, Interval]]
ESTIMATES: dict[str, Estimate] = {
    "jackknife, Fréchet distance": _frechet,
    "U-statistic, kernel distance": _kernel,
    "Student's t, Inception score": _score,
    "Wilson, precision": _manifold("precision"),
    "Wilson, recall": _manifold("recall"),
    "Student's t, density": _manifold("density"),
    "jackknife, coverage": _manifold("coverage"),
}


@cache
def expected(name: str, *arguments: Any) -> float:
    """The mean over 1,000 sets of this size, bias included."""
    rng = np.random.default_rng(2)
    return float(np.mean([ESTIMATES[name](rng, *arguments)[0] for _ in range(1000)]))


def distance(rng: Generator, *, name: str, n: int, d: int, shift: float, skewed: bool) -> bool:
    found = ESTIMATES[name](rng, n, d, shift, skewed)[1]
    return holds(found.low, found.high, expected(name, n, d, shift, skewed))


# many at once


def table(rng: Generator, *, models: int, n: int, alone: bool, hard: float = 0.6) -> bool:
    """Whether a table of equal models marks no difference to the best. alone: with intervals that hold one by one.
    hard: how hard images are, whose accuracies are of a Beta distribution (2, hard)."""
    each = rng.beta(2, hard, n)
    right = rng.random((models, n)) < each
    best = right[right.sum(1).argmax()]
    z = Z95 if alone else simultaneous(models)
    ends = (of_pairs(row.astype(np.float64) - best, z) for row in right if row is not best)
    return all(low <= 0 <= high for low, high in ends)


def table_of_draws(rng: Generator, *, models: int, draws: int) -> bool:
    values = rng.normal(size=draws) + rng.normal(size=(models, draws))
    best = values[values.mean(1).argmax()]
    z = simultaneous(models, draws - 1)
    return all(abs(d.mean()) <= z * d.std(ddof=1) / draws**0.5 for d in values - best if d.any())


def table_of_distances(rng: Generator, *, models: int) -> bool:
    """Of equal generators, whose distance has a normal distribution; a set's blocks have ten times its variance."""
    rows = []
    for _ in range(models):
        blocks = rng.normal(100, 10**0.5, BLOCKS)
        interval = jackknife(blocks.mean(), [np.delete(blocks, i).mean() for i in range(BLOCKS)], "")[0]
        rows.append(Row(task="fid", metric="FID", n=100, value=float(blocks.mean()), **vars(interval)))
    best = min(rows, key=lambda row: row.value)
    return all(difference(row, best, models).within for row in rows if row is not best)


def family(rng: Generator, *, tests: int, adjusted: bool) -> bool:
    p = rng.random(tests)
    return min(holm(p.tolist()) if adjusted else p) > 1 - LEVEL


def _cases() -> Iterator[Case]:
    for n in (64, 486, 899, 10_000):
        for p in (0.5, 0.8, 0.97):
            yield Case("Wilson", f"{n:,} images", f"accuracy {p:.0%}", partial(fraction, n=n, p=p))
    for n in (16, 64, 486):
        # just beyond the interval of a single error, so that only no error at all holds it
        p = ends((n - 1) / n, n, Z95)[1] + 1e-9
        yield Case(
            "Wilson, at its worst", f"{n:,} images", f"accuracy {p:.3%}", partial(fraction, n=n, p=p), least=0.83
        )
    for n, p, alike in ((486, 0.6, 0.5), (899, 0.9, 0.8), (2000, 0.97, 0.5), (2000, 0.7, 0.2)):
        yield Case(
            "Wilson, several draws",
            f"{n:,} images, 10 draws",
            f"accuracy {p:.0%}, correlation of draws {alike:g}",
            partial(accuracy_of_draws, n=n, draws=10, p=p, alike=alike),
        )
    for p in (0.2, 0.6, 0.95):
        for alike in (0.02, 0.2):
            yield Case(
                "Wilson, clustered",
                "10 clusters of 20",
                f"fraction {p:.0%}, correlation in a cluster {alike:g}",
                partial(clusters, n=10, each=20, p=p, alike=alike),
                # a rare cluster that is much worse is in few of all tens
                least=0.87 if (p, alike) == (0.95, 0.2) else LEAST,
            )
    for n in (3, 4, 10, 16):
        yield Case("Student's t", f"{n} draws or seeds", "normal", partial(mean, n=n, skewed=False), 0.95, 0.95)
    for n in (16, 64):
        yield Case("Student's t", f"{n} values", "skewed (Gamma 4)", partial(mean, n=n, skewed=True), 0.92, 0.96)
    for n, shares in (
        (64, (0.7, 0.1, 0.1)),
        (486, (0.6, 0.12, 0.05)),
        (899, (0.9, 0.03, 0.005)),
        (10_000, (0.6, 0.1, 0.08)),
    ):
        first, second = shares[1:]
        yield Case(
            "paired by image",
            f"{n:,} images",
            f"one model alone right on {first:.1%}, the other on {second:.1%}",
            partial(paired, n=n, shares=shares),
        )
    yield Case(
        "paired by image",
        "486 images, 10 draws",
        "one model alone right on 12.0%, the other on 5.0%",
        partial(paired, n=486, shares=(0.6, 0.12, 0.05), draws=10),
    )
    for n, p, q in ((64, 0.9, 0.8), (486, 0.6, 0.55), (899, 0.97, 0.95), (10_000, 0.788, 0.828)):
        yield Case(
            "not paired (Newcombe)", f"{n:,} images each", f"{p:.1%} and {q:.1%}", partial(unpaired, n=n, p=p, q=q)
        )
    for draws in (3, 10):
        yield Case(
            "paired by draw",
            f"{draws} draws",
            "draws shared by both",
            partial(by_draw, draws=draws, shared=5),
            0.95,
            0.95,
        )
    for name in ESTIMATES:
        small = (200, 300, 200) if name.endswith(SHARES) else (500, 300, 500)
        for n, shift, skewed in zip(small, (0.3, 0.3, 0.0), (False, True, True), strict=True):
            d = 8
            truth = f"{'skewed' if skewed else 'normal'} features, {'apart' if shift else 'of one distribution'}"
            draw = partial(distance, name=name, n=n, d=d, shift=shift, skewed=skewed)
            yield Case(name, f"{n:,} images, {d} features", truth, draw, 0.92, 1, slow=20)
    yield Case(
        "jackknife, Fréchet distance", "100 images, 24 features", "normal features, of one distribution",
        partial(distance, name="jackknife, Fréchet distance", n=100, d=24, shift=0.0, skewed=False), 0.94, 1, slow=20,
    )  # fmt: skip
    for models in (2, 6, 11):
        draw = partial(table_of_distances, models=models)
        yield Case("all differences to the best", f"{models} generated sets, jackknife", "equal generators", draw,
                   0.94, 1, slow=20)  # fmt: skip
    for models in (4, 6, 11):
        of = f"{models} models, 2,000 images"
        yield Case(
            "all differences to the best",
            of,
            "equal models",
            partial(table, models=models, n=2000, alone=False),
            0.95,
            1,
        )
    for models, n, hard in ((6, 64, 0.6), (6, 486, 1.5), (11, 899, 0.06)):
        accuracy = f"equal models of {2 / (2 + hard):.0%}"
        draw = partial(table, models=models, n=n, alone=False, hard=hard)
        yield Case("all differences to the best", f"{models} models, {n:,} images", accuracy, draw, 0.94, 1)
    for models in (4, 11):
        of = f"{models} models, 10 draws"
        yield Case(
            "all differences to the best", of, "equal models", partial(table_of_draws, models=models, draws=10), 0.95, 1
        )
    for tests in (5, 20):
        yield Case(
            "p-values of a table (Holm)",
            f"{tests} tests",
            "nothing to find",
            partial(family, tests=tests, adjusted=True),
            0.94,
            0.97,
        )


CASES = tuple(_cases())
# what was printed before, or elsewhere still is: for comparison, and no claim
BEFORE = (
        *(
            Case("1.96 standard errors, one by one", f"{models} models, 2,000 images", "equal models",
                 partial(table, models=models, n=2000, alone=True), 0, 1)
            for models in (4, 6, 11)
        ),
        Case("p-values, one by one", "20 tests", "nothing to find", partial(family, tests=20, adjusted=False), 0, 1),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    a = parser.parse_args()
    titles = ["interval", "found over", "truth", "holds, %"]
    lines, wrong = [], 0
    for case in (*CASES, *BEFORE):
        rounds = max(1, a.rounds // case.slow)
        found = case.covered(rounds, seed=0)
        outside = not case.least - noise(rounds) <= found <= case.most + noise(rounds)
        wrong += outside
        lines.append([case.interval, case.of, case.truth, f"{100 * found:.1f}"])
        print("  ".join(lines[-1]) + ("  OUTSIDE" if outside else ""), flush=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([titles, *lines])
    a.out.mkdir(parents=True, exist_ok=True)
    write_whole(a.out / "coverage.csv", text.getvalue())
    rows = [titles, ["---", "---", "---", "---:"], *lines]
    write_whole(a.out / "coverage.md", "".join(f"| {' | '.join(row)} |\n" for row in rows))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
