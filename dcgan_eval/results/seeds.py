"""Numbers of random weights that were drawn with several seeds, as one number."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, replace

import numpy as np

from dcgan_eval.results import Row, Spread
from dcgan_eval.results.intervals import of_mean


def by_seeds(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of random weights that differ by their seed alone together, by seed; each other row by itself."""

    def alike(row: Row) -> Hashable:
        if row.trained_on != "nothing":
            return row
        given = row.C if row.C_by == "given" else None
        return (
            row.features, row.dtype, row.dimensions, row.batchnorm, row.labels, row.classifier, row.method, row.C_by,
            given, len(row.draws), row.n_reference,
        )  # fmt: skip

    together: dict[Hashable, list[Row]] = {}
    for row in rows:
        together.setdefault(alike(row), []).append(row)
    found: list[list[Row]] = []
    for same in together.values():
        by_seed = sorted(same, key=lambda row: row.seed)
        # pixels have no weights either, but are the same with every seed
        drawn = len({row.features_sha256 for row in same}) == len({row.seed for row in same}) == len(same)
        found += [by_seed] if drawn else [[row] for row in same]
    return found


def mean_over_seeds(rows: Sequence[Row]) -> Row:
    """The row itself, of several the mean, with the interval of the mean over other seeds."""
    if len(rows) == 1:
        return rows[0]
    values = [row.value for row in rows]
    gaps = [row.gap for row in rows if row.gap is not None]
    without_draws = {**asdict(Spread()), "draws": (), "draws_low": None, "draws_high": None, "outcomes": None}
    interval = asdict(of_mean(values, "seeds"))
    return replace(rows[0], value=float(np.mean(values)), gap=max(gaps, default=None), **without_draws, **interval)
