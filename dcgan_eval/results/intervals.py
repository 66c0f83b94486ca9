"""Every ± of a result, each of a named kind."""

from collections.abc import Sequence

import numpy as np

from dcgan_eval.results.row import Spread

Z95 = 1.96


def wilson(share: float, n: int, of: str) -> Spread:
    """Half the width of the 95 % interval of a fraction (Wilson 1927), in %. share: the fraction found, 0 to 1, of n
    independent trials. of: what the trials are, in the plural."""
    half = Z95 / (1 + Z95**2 / n) * (share * (1 - share) / n + Z95**2 / (4 * n**2)) ** 0.5
    return Spread(100 * float(half), "95 % Wilson interval", n, of)


def over_draws(values: Sequence[float], of: str, *, ddof: int) -> Spread:
    """1.96 standard deviations of values over repeated draws. ddof: 0 divides by their number, as the paper's authors
    do; 1 by one less."""
    return Spread(Z95 * float(np.std(values, ddof=ddof)), "1.96 standard deviations", len(values), of)


def of_mean(values: Sequence[float], of: str) -> Spread:
    """Half the width of the normal 95 % interval of the mean of independent values; of a single value none."""
    if len(values) < 2:
        return Spread()
    half = Z95 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Spread(half, "1.96 standard errors", len(values), of)


def normal_of_share(share: float, n: int, of: str) -> Spread:
    """Half the width of the normal 95 % interval of a fraction, in %. share, n, of: as `wilson`."""
    return Spread(100 * Z95 * (share * (1 - share) / n) ** 0.5, "1.96 standard errors", n, of)
