"""Every interval and every spread of a result, each of a named kind, and what makes several of them hold together.

An interval says where a value would be if more had been measured: 95 % of such intervals hold it, which
benchmarks/coverage.py checks by simulation. A spread says how far apart repeated values were, and no more.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dcgan_eval.results.row import Interval, Spread

LEVEL = 0.95
REAL_IMAGES = "real images, for this generated set"  # that recall's interval is over
Z95 = 1.959963984540054  # the normal quantile


def wilson(share: float, n: float, of: str) -> Interval:
    """Of a fraction, in % (Wilson 1927, with its own centre).

    share: the fraction found, 0 to 1.
    n: independent trials.
    of: what the trials are, in the plural.
    """
    low, high = ends(share, n, Z95)
    return Interval(100 * low, 100 * high, "Wilson", round(n), of)


def of_fraction(share: float, n: int, of: str) -> Interval:
    """As `wilson`, of a number that is printed as a fraction from 0 to 1."""
    return Interval(*ends(share, n, Z95), "Wilson", n, of)


def ends(share: float, n: float, z: float) -> tuple[float, float]:
    """Of Wilson's interval, from 0 to 1. z: the normal quantile, such as `Z95`, or more where several are to hold."""
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    # at 0 and 1 one end is the fraction itself, but for rounding
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)


def of_images(right: NDArray[np.bool_], of: str = "test images") -> Interval:
    """Of an accuracy over other images, in %: Wilson's, of as many independent trials as have the variance found.

    right: (draws, n), whether each draw of the labels classified each image correctly; with one draw the trials are
        the images themselves.
    """
    draws, n = right.shape
    per_image = right.mean(0)
    share = float(per_image.mean())
    variance = float(per_image.var())
    # images that several draws judge alike count once, those that they judge unlike at most as often as there are draws
    trials = n * share * (1 - share) / variance if variance else draws * n if 0 < share < 1 else n
    return replace(wilson(share, min(max(trials, n), draws * n), of), interval_n=n)


def of_clusters(shares: Sequence[float], each: int, of: str) -> Interval:
    """Of the mean of fractions, each found in one cluster of trials that may depend on each other, in %: Wilson's, of
    as many independent trials as have the variance found between clusters, fewer for the few clusters that it is
    found from.

    shares: the fraction found in each cluster, 0 to 1; at least two.
    each: trials in a cluster.
    of: what the clusters are, in the plural.

    References: Korn and Graubard 1998 (the effective number of trials); Franco, Little, Louis and Slud 2019 (in
    Wilson's interval).
    """
    n, total = len(shares), each * len(shares)
    share = float(np.mean(shares))
    # a variance of n values is itself uncertain
    fewer = (Z95 / simultaneous(2, n - 1)) ** 2
    # 0 where all clusters agree, which rounding would hide
    variance = float(np.var(shares, ddof=1)) / n if max(shares) > min(shares) else 0.0
    trials = min(share * (1 - share) / variance, total) if variance else total
    return replace(wilson(share, max(trials * fewer, n), of), interval="Wilson, clustered", interval_n=n)


def of_mean(values: ArrayLike, of: str) -> Interval:
    """Of the mean of independent values, Student's t; of a single value none.

    values: (n,), numbers.
    of: what they are, in the plural.
    """
    x = np.asarray(values, dtype=np.float64)
    return students_t(float(x.mean()), float(x.std(ddof=1)), len(x), of) if len(x) > 1 else Interval()


def students_t(mean: float, deviation: float, n: int, of: str, least: float = -np.inf) -> Interval:
    """`of_mean` of n values, n at least 2, from their mean and their standard deviation, which divides by n − 1; none
    where nothing varies. least: what no value is below."""
    half = simultaneous(2, n - 1) * deviation / n**0.5
    return Interval(max(least, mean - half), mean + half, "Student's t", n, of) if half else Interval()


def jackknife(value: float, without: Sequence[float], of: str, most: float = np.inf) -> tuple[Interval, float]:
    """Of a smooth statistic that is not below 0, and its bias, by leaving out one block after another (Quenouille 1956,
    Tukey 1958).

    The interval is of its mean over other samples of this size, bias included: Student's t, with one degree of freedom
    less than there are blocks; none where no block changes anything. The bias is how far that mean is from the
    statistic of infinitely many.

    value: of all.
    without: of all but one block, for each; the blocks are random and of one size.
    of: what the blocks are of, in the plural.
    most: what the statistic cannot exceed.
    """
    x, blocks = np.asarray(without, dtype=np.float64), len(without)
    half = simultaneous(2, blocks - 1) * (blocks - 1) ** 0.5 * float(x.std())
    bias = (blocks - 1) * (float(x.mean()) - value)
    ends_of = (max(0.0, value - half), min(most, value + half))
    return Interval(*ends_of, "jackknife", blocks, f"blocks of {of}") if half else Interval(), bias


def of_error(value: float, error: float, n: int, of: str) -> Interval:
    """Of an unbiased estimate with a known standard error, by the normal quantile; none where that is not
    known, or 0.

    n, of: what it was estimated from, such as 10000 'generated images'.
    """
    if not (np.isfinite(error) and error):
        return Interval()
    return Interval(value - Z95 * error, value + Z95 * error, "U-statistic", n, of)


def spread(values: Sequence[float], of: str) -> Spread:
    """The standard deviation of repeated values, which divides by one less than their number; of one value none.

    of: what was drawn anew for each, in the plural.
    """
    if len(values) < 2:
        return Spread()
    return Spread(float(np.std(values, ddof=1)), "standard deviation", len(values), of)


@cache
def simultaneous(models: int, freedom: float = np.inf) -> float:
    """The quantile, in place of 1.96 or Student's t, with which all differences between so many models hold at once.

    Whichever model turns out the best, 95 % of tables then mark no difference between equal ones. Of many images it is
    Tukey's, the studentised range's over the root of 2: conservative for independent means (Hayter 1984), and by
    simulation for those of models on the same images. Of few draws each difference has a standard error
    of its own, with which Tukey's holds too seldom: there it is Student's t for as many pairs (Bonferroni).

    models: at least 2.
    freedom: degrees of freedom of the standard errors.
    """
    from scipy.stats import studentized_range, t  # half a second

    if models == 2 or np.isfinite(freedom):
        return float(t.ppf(1 - (1 - LEVEL) / (models * (models - 1)), freedom))
    return float(studentized_range.ppf(LEVEL, models, np.inf)) / 2**0.5


def by_rank(value: float, others: ArrayLike, *, high: bool) -> float:
    """The p-value of a value among others that were drawn at random: how often one is at least as extreme, ties
    included, the value itself counted as one of them.

    others: (n,), numbers.
    high: whether high values are extreme, or low ones.
    """
    x = np.asarray(others, dtype=np.float64)
    return (1 + int((x >= value if high else x <= value).sum())) / (1 + len(x))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of one family, adjusted so that all that are below a level hold at once (Holm 1979), in their order."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values)[order] * (len(p_values) - np.arange(len(p_values)))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(p) for p in adjusted]
