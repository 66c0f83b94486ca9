"""What rows of results are called in tests."""

from collections.abc import Iterable, Mapping
from typing import Any

from dcgan_eval.results import Row

SUFFIXES = {
    "value": "",
    "held-out": ", held-out",
    "p-value": ", p",
    "folds": " on folds",
    "validation": " on validation",
}


def of_json(found: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows that `--format json` printed."""
    return [Row(**{**row, "draws": tuple(row["draws"]), "outcomes": None}) for row in found]


def called(row: Row | Mapping[str, Any]) -> str:
    """The metric, and the role where it is not the value: 'AuthPct, p', 'accuracy on folds'."""
    metric, role = (row.metric, row.role) if isinstance(row, Row) else (row["metric"], row["role"])
    return f"{metric}{SUFFIXES[role]}"
