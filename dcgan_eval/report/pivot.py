"""A table of the reader's own: two columns of the results across, and one number in each cell."""

from collections.abc import Mapping, Sequence

from dcgan_eval.report import words
from dcgan_eval.report.table import EMPTY, Cell, Table, number, table
from dcgan_eval.results import COLUMNS, MEASURED, Row, latest
from dcgan_eval.runtime.errors import InputError, nearest

# what says which number it is, and so must be one in a column, and of one number in a cell …
SAME = (
    "task", "source", "data", "data_sha256", "model", "model_sha256", "features", "features_sha256",
    "features_protocol", "dtype", "layer", "question", "condition", "classifier", "labels", "method", "metric", "role",
    "unit", "interval", "interval_n", "interval_of", "spread_kind", "spread_n", "spread_of", "C_by", "batchnorm",
    "trained_on", "n", "n_reference",
)  # fmt: skip
# … but for what an axis itself changes
SPREAD = {"interval", "interval_n", "interval_of", "spread_kind", "spread_n", "spread_of"}
FITTED = {"batchnorm", "trained_on", "C_by"}
COUNTS = {"n", "n_reference"}
ALONG = {
    "data": {"data", "data_sha256", "features_sha256", "features_protocol", "trained_on"} | COUNTS | SPREAD,
    "model": {"model", "model_sha256", "features_protocol"},
    "features": {"features", "features_sha256", "features_protocol", "dtype"} | FITTED,
    "dtype": {"dtype", "features_sha256", "features_protocol"},
    "layer": {"layer"},
    "question": {"question"} | COUNTS | SPREAD,
    "condition": {"condition"} | COUNTS | SPREAD,
    "classifier": {"classifier", "method", "C_by"},
    "method": {"method"},
    "labels": {"labels"} | COUNTS | SPREAD,
    "metric": {"metric", "method", "unit"} | COUNTS | SPREAD,
    "role": {"role", "unit"} | COUNTS | SPREAD,
    "n": {"n"} | SPREAD,
    "n_reference": {"n_reference", "labels"} | SPREAD,
    "task": {"task", "method", "metric", "unit", "question", "condition", "classifier", "labels"} | COUNTS | SPREAD,
}


def pivot(rows: Sequence[Row], lines: str, columns: str, where: Mapping[str, str] | None = None) -> Table:
    """Measured numbers by two columns of the results, such as features and labels; the last where measured again.

    where: what other columns must be, as text; the role is 'value' where neither it nor an axis says otherwise.
    Raises InputError for what is no column, where nothing is left, where two numbers would share a cell, or where a
    column would hold numbers of unequal protocol.
    """
    where = dict(where or {})
    for name in (lines, columns):
        if name not in ALONG:
            raise InputError(f"`pivot` {name}: cannot be an axis{nearest(name, list(ALONG))}")
    if lines == columns:
        raise InputError(f"`pivot` {lines},{columns}: the two axes are the same")
    for name in where:
        if name not in COLUMNS:
            raise InputError(f"`where` {name}: is no column of the results{nearest(name, COLUMNS)}")
    if "role" not in (lines, columns):
        where.setdefault("role", "value")
    some = latest(
        row
        for row in rows
        if row.source == MEASURED and all(_text(row, name) == value for name, value in where.items())
    )
    if not some:
        what = ", ".join(f"{name}={value}" for name, value in where.items())
        raise InputError(f"`pivot`: no measured result is {what}")
    cells: dict[tuple[str, str], Row] = {}
    firsts: dict[str, Row] = {}
    for row in some:
        line, column = _text(row, lines), _text(row, columns)
        first = firsts.setdefault(column, row)
        for name in SAME:
            if name not in ALONG[lines] and _text(first, name) != _text(row, name):
                raise InputError(
                    f"`pivot`: {columns} {column!r} would mix {name} {_text(first, name)!r} and {_text(row, name)!r}: "
                    f"numbers of unequal protocol are not set in one column; choose with `where` {name}=…"
                )
        other = cells.setdefault((line, column), row)
        if other is not row:
            name = next((n for n in (*SAME, "C", "seed") if _text(other, n) != _text(row, n)), "seed")
            raise InputError(
                f"`pivot`: two numbers for {lines} {line!r} and {columns} {column!r}, of {name} "
                f"{_text(other, name)!r} and {_text(row, name)!r}; choose with `where` {name}=…"
            )
    made = [
        {
            lines: Cell(line),
            **{column: number(cells[line, column]) if (line, column) in cells else EMPTY for column in firsts},
        }
        for line in dict.fromkeys(line for line, _ in cells)
    ]  # fmt: skip
    notes = [
        f"{name}: {', '.join(dict.fromkeys(_text(row, name) for row in some))}"
        for name in SAME
        if name not in (lines, columns) and name not in SPREAD
    ]
    notes += [note for row in some for note in words.uncertainty(row)]
    return table(f"{lines} by {columns}", made, [note for note in notes if not note.endswith((": ", ": 0"))])


def _text(row: Row, name: str) -> str:
    value = getattr(row, name)
    return "" if value is None else str(value)
