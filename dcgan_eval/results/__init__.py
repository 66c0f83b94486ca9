"""Numbers with what they were measured from: one row per number, one file for all of them.

>>> from dcgan_eval import results
>>> rows = results.load(Path("results.csv"))
>>> results.frame(rows).query("metric == 'accuracy'")
"""

from dcgan_eval.results.row import (
    CERTIFIED,
    MEASURED,
    Interval,
    Measurement,
    Provenance,
    Role,
    Row,
    Spread,
    command,
    now,
    provenance,
    stamp,
    versions,
)
from dcgan_eval.results.store import COLUMNS, append, frame, identity, latest, load, read, to_csv

__all__ = [
    "CERTIFIED", "COLUMNS", "MEASURED", "Interval", "Measurement", "Provenance", "Role", "Row", "Spread", "append",
    "command", "frame", "identity", "latest", "load", "now", "provenance", "read", "stamp", "to_csv", "versions",
]  # fmt: skip
