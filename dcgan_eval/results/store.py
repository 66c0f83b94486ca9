"""Rows in files: one CSV or Parquet file, a line per number."""

import csv
import dataclasses
import importlib.util
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pandas as pd

from dcgan_eval.results.outcomes import Outcomes, beside
from dcgan_eval.results.row import Row
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

COLUMNS = [field.name for field in dataclasses.fields(Row)]
_KINDS = get_type_hints(Row)
OLD_COLUMNS = [  # of version 0.1
    "task", "source", "data", "data_sha256", "model", "model_sha256", "features", "features_sha256",
    "features_protocol", "dtype", "layer", "dimensions", "protocol", "method", "metric", "value", "unit", "spread",
    "spread_kind", "draws", "n", "n_reference", "C", "gap", "seed", "seconds_features", "seconds", "device",
    "instruction_set", "versions", "command", "time",
]  # fmt: skip
# of files before intervals were apart from spreads, and before the hash of pixels
_INTERVALS = {
    "low", "high", "interval", "interval_n", "interval_of", "draws_low", "draws_high", "C_by", "outcomes", "batchnorm",
    "trained_on",
}  # fmt: skip
SPREAD_COLUMNS = [name for name in COLUMNS if name not in _INTERVALS]
PIXEL_COLUMNS = [name for name in SPREAD_COLUMNS if name != "pixels_sha256"]
EARLIER = (SPREAD_COLUMNS, PIXEL_COLUMNS, OLD_COLUMNS)
# what two measurements of one number may differ in
_OUTCOME = {
    "pixels_sha256", "value", "low", "high", "interval", "interval_n", "interval_of", "spread", "draws", "draws_low",
    "draws_high", "gap", "outcomes", "C_by", "batchnorm", "trained_on",
    "seconds_features", "seconds", "device", "instruction_set", "threads",
    "versions", "command", "time",
}  # fmt: skip


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Tidy: one line per number, one column per field of Row."""
    return pd.DataFrame([row.record() for row in rows], columns=COLUMNS)


def to_csv(rows: Iterable[Row], *, header: bool = True) -> str:
    """The text of a CSV file, a line per row. The values of a row's draws are separated by spaces."""
    table = frame(rows)
    table["draws"] = [" ".join(repr(float(value)) for value in draws) for draws in table["draws"]]
    return table.to_csv(index=False, header=header)


def identity(row: Row) -> tuple[object, ...]:
    """What the number is of: equal for two measurements of the same number."""
    return tuple(getattr(row, name) for name in COLUMNS if name not in _OUTCOME)


def latest(rows: Iterable[Row]) -> list[Row]:
    """Of numbers that were measured more than once the last measurement alone, where the first stands."""
    return list({identity(row): row for row in rows}.values())


def append(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to a CSV, or to a Parquet file where the name says so; it is replaced whole, and made if need be.

    Their outcomes go into files in the folder of `outcomes.beside`.

    A reader never sees half of it; several writers take turns. Raises InputError if what is there is no file of
    results, or cannot be written.
    """
    path = path.absolute()
    for row in rows:
        for name in ("value", "low", "high", "spread", "draws_low", "draws_high"):
            number = getattr(row, name)
            if number is not None and not math.isfinite(number):
                raise InputError(f"{path}: {_short(row)}: {name} is {number}, which no result is; not appended")
        if row.gap is not None and not math.isfinite(row.gap):  # NaN would be written as no gap at all: as certified
            raise InputError(f"{path}: {_short(row)} has a gap of {row.gap}: it is not certified at all; not appended")
    try:
        with _locked(path):
            before = read(path)
            write_outcomes(path, rows)
            if path.suffix == ".parquet":
                file = io.BytesIO()
                frame([*before, *rows]).to_parquet(file, index=False)
                write_whole(path, file.getvalue())
                return
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            gap = "" if not text or text.endswith("\n") else "\n"
            write_whole(path, text + gap + to_csv(rows, header=not text))
    except OSError as error:
        raise InputError(f"{path}: cannot append results: {error}; choose another file") from error


def write_outcomes(path: Path, rows: Iterable[Row]) -> None:
    """What is known of the rows' outcomes, beside the file of results that they go into."""
    for row in rows:
        if row.outcomes is not None:
            row.outcomes.write(beside(path))


def load(path: Path) -> list[Row]:
    """All rows of a results file. Raises InputError, naming the line, for what is no result, or stands there twice."""
    if not path.exists():
        raise InputError(f"{path}: does not exist; run a command with --results FILE to make it")
    rows = read(path)
    if not rows:
        raise InputError(f"{path}: contains no results; run a command with --results FILE to add some")
    seen: dict[Row, int] = {}
    for number, row in enumerate(rows, 1):
        if row in seen:
            raise InputError(
                f"{path}: result {number} repeats result {seen[row]} ({_short(row)}): remove one of the two"
            )
        seen[row] = number
    return rows


def read(path: Path) -> list[Row]:
    """The rows of a results file, none where there is none yet; InputError if `append` could not go on with it."""
    try:
        if path.suffix == ".parquet":
            _needs_pyarrow(path)
        if not path.exists():
            return []
        if path.suffix == ".parquet":
            return _parquet(path)
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, strict=True)
            return list(_rows(path, lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as results: {error}; give another file") from error


def _rows(path: Path, lines: Any) -> Iterator[Row]:
    """lines: of a csv.reader, which knows its line numbers."""
    header = next(lines, None)
    if header is None:
        return
    if header != COLUMNS:
        raise InputError(f"{path}: {_other_columns(header)} give another file")
    at = lines.line_num + 1
    for fields in lines:
        if len(fields) != len(COLUMNS):
            raise InputError(
                f"{path}:{at}: has {len(fields)} fields, not {len(COLUMNS)}: cut short or edited; mend or remove it"
            )
        yield parsed(f"{path}:{at}", dict(zip(COLUMNS, fields, strict=True)), beside(path))
        at = lines.line_num + 1


def _other_columns(header: Sequence[str]) -> str:
    if list(header) in EARLIER:
        return "holds results of an earlier version; rewrite its CSV with dcgan-eval migrate OLD.csv --out NEW.csv, or"
    missing = [name for name in COLUMNS if name not in header]
    more = [name for name in header if name not in COLUMNS]
    what = [f"lacks {', '.join(missing)}"] if missing else []
    what += [f"has {', '.join(more)} besides"] if more and len(missing) < len(COLUMNS) else []
    if len(missing) == len(COLUMNS):
        return "is no file of results: its first line names none of their columns;"
    return f"results of another version: {' and '.join(what) or 'the columns are in another order'};"


def parsed(where: str, fields: dict[str, str], outcomes: Path | None = None) -> Row:
    """The row of these texts, one for every field; its outcomes are in the folder `outcomes`.

    Raises InputError, which begins with `where`, for any other.
    """
    values = {name: _value(f"{where}: {name}", text, _KINDS[name]) for name, text in fields.items()}
    sha256 = fields["outcomes"]
    if sha256 and not (len(sha256) == 64 and set(sha256) <= set("0123456789abcdef")):
        raise InputError(f"{where}: outcomes is {sha256!r}, no SHA-256; mend or remove the line")
    values["outcomes"] = Outcomes(sha256, folder=outcomes) if sha256 else None
    for name in ("task", "source", "metric"):
        if not values[name]:
            raise InputError(f"{where}: {name} is empty; mend or remove the line")
    return Row(**values)  # type: ignore[arg-type]


def _value(what: str, text: str, kind: Any) -> object:
    """A field's value from its text. Raises InputError for text that is none of its kind."""
    if kind in (str | None, float | None) and text == "":
        return None
    if get_origin(kind) is tuple:
        return tuple(_number(what, part, float) for part in text.split())
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise InputError(f"{what} is {text!r}, not one of {', '.join(map(repr, get_args(kind)))}; mend the line")
        return text
    return _number(what, text, int if kind is int else float) if kind in (int, float, float | None) else text


def _number(what: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        want = "a whole number" if kind is int else "a number"
        raise InputError(f"{what} is {text!r}, not {want}; mend or remove the line") from None
    if not math.isfinite(value):
        raise InputError(f"{what} is {text}, which no result is; mend or remove the line")
    return value


def _needs_pyarrow(path: Path) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{path}: Parquet needs pyarrow; pip install 'dcgan-eval[parquet]', or use .csv")


def _parquet(path: Path) -> list[Row]:
    import pyarrow

    try:
        found = pd.read_parquet(path)
        if "draws" in found:
            found["draws"] = [" ".join(repr(float(value)) for value in draws) for draws in found["draws"]]
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}; give another file") from error
    if found.columns.tolist() != COLUMNS:
        raise InputError(f"{path}: {_other_columns(found.columns.tolist())} give another file")
    records = found.astype(object).where(found.notna(), "").to_dict("records")
    return [
        parsed(f"{path}, row {number}", {str(name): str(value) for name, value in record.items()}, beside(path))
        for number, record in enumerate(records, 1)
    ]


def _short(row: Row) -> str:
    return f"{row.metric} of {row.model or row.features} on {row.data}, {row.time}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    # on the folder: a lock on the file itself would be lost when it is replaced
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
