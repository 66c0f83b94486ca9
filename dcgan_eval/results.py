"""Numbers with the protocol that made them: one record per number, one CSV or Parquet file for all of them."""

import csv
import dataclasses
import importlib.util
import io
import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd

from dcgan_eval.errors import InputError
from dcgan_eval.files import write_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MEASURED = "measured"
CERTIFIED = 1e-6  # the largest gap of a certified number: the tolerance of dcgan_eval.probe


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number.

    source: `MEASURED`, or what it is quoted from, such as 'paper, Table 1'.
    value, spread: in `unit` ('%' for accuracies and errors, 'images' for counts of them, else ''). spread_kind: what
    the spread is, such as '1.96 standard deviations over 10 draws'. draws: the value of each draw, in order, by spaces;
    '' where there is one. n: how many images it judges: test images, or generated ones. n_reference: those it judges
    by: training images, or real ones. data, features: names with the SHA-256 of the content, never a path;
    of images that are part of a split with a digest of which, after a '/'. model: what
    is judged by the data, None where the features are; of quoted numbers the paper's name. dtype: that the features
    were computed in. protocol: which of the images count; method: how the number follows from their features;
    features_protocol: everything that decides those. layer: 'all', or the one layer used. C, gap: of an SVM, and its
    certified relative distance from the optimum. instruction_set: that the processor computed with, as
    `dcgan_eval.runtime.fast_ops.instruction_set` names it; '' where that is unknown.
    seconds_features, seconds: taken by the features of all images, fitting included, and by what was done with them.
    """

    task: str
    source: str = MEASURED
    data: str
    data_sha256: str
    model: str | None
    model_sha256: str | None
    features: str
    features_sha256: str
    features_protocol: str
    dtype: str
    layer: str
    dimensions: int
    protocol: str
    method: str
    metric: str
    value: float
    unit: str
    spread: float | None
    spread_kind: str
    draws: str = ""
    n: int
    n_reference: int
    C: float | None
    gap: float | None
    seed: int
    seconds_features: float
    seconds: float
    device: str
    instruction_set: str
    versions: str
    command: str
    time: str

    @property
    def certified(self) -> bool:
        """Whether an SVM behind it is known to be as near to its optimum as a result must be; of other numbers True."""
        return self.gap is None or self.gap <= CERTIFIED


COLUMNS = [field.name for field in dataclasses.fields(Row)]
_KINDS = get_type_hints(Row)
# what two measurements of one number may differ in
_OUTCOME = {
    "value", "spread", "draws", "gap", "seconds_features", "seconds", "device", "instruction_set", "versions",
    "command", "time",
}  # fmt: skip


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Tidy: one line per number, one column per field of Row."""
    return pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=COLUMNS)


def identity(row: Row) -> tuple[object, ...]:
    """What the number is of: equal for two measurements of the same number."""
    return tuple(getattr(row, name) for name in COLUMNS if name not in _OUTCOME)


def latest(rows: Iterable[Row]) -> list[Row]:
    """Of numbers that were measured more than once the last measurement alone, where the first stands."""
    return list({identity(row): row for row in rows}.values())


def append(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to a CSV, or to a Parquet file where the name says so; it is replaced whole, and made if need be.

    A reader never sees half of it; several writers take turns. Raises InputError if what is there is no file of
    results, or cannot be written.
    """
    path = path.absolute()
    for row in rows:
        if not math.isfinite(row.value) or (row.spread is not None and not math.isfinite(row.spread)):
            raise InputError(f"{path}: {_short(row)} is {row.value} ± {row.spread}, which no result is; not appended")
        if row.gap is not None and not math.isfinite(row.gap):  # NaN would be written as no gap at all: as certified
            raise InputError(f"{path}: {_short(row)} has a gap of {row.gap}: it is not certified at all; not appended")
    try:
        with _locked(path):
            before = read(path)
            if path.suffix == ".parquet":
                file = io.BytesIO()
                frame([*before, *rows]).to_parquet(file, index=False)
                write_whole(path, file.getvalue())
                return
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            gap = "" if not text or text.endswith("\n") else "\n"
            write_whole(path, text + gap + frame(rows).to_csv(index=False, header=not text))
    except OSError as error:
        raise InputError(f"{path}: cannot append results: {error}; give another --out") from error


def load(path: Path) -> list[Row]:
    """All rows of a results file. Raises InputError, naming the line, for what is no result, or stands there twice."""
    if not path.exists():
        raise InputError(f"{path}: does not exist; results are written by --out of every command")
    rows = read(path)
    if not rows:
        raise InputError(f"{path}: holds no results; they are written by --out of every command")
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
        raise InputError(f"{path}: {_other_columns(header)}; give another file")
    at = lines.line_num + 1
    for fields in lines:
        if len(fields) != len(COLUMNS):
            raise InputError(
                f"{path}:{at}: has {len(fields)} fields, not {len(COLUMNS)}: cut short or edited; mend or remove it"
            )
        yield _row(f"{path}:{at}", dict(zip(COLUMNS, fields, strict=True)))
        at = lines.line_num + 1


def _other_columns(header: Sequence[str]) -> str:
    missing = [name for name in COLUMNS if name not in header]
    more = [name for name in header if name not in COLUMNS]
    what = [f"lacks {', '.join(missing)}"] if missing else []
    what += [f"has {', '.join(more)} besides"] if more and len(missing) < len(COLUMNS) else []
    if len(missing) == len(COLUMNS):
        return "is no file of results: its first line names none of their columns"
    return f"results of another version: {' and '.join(what) or 'the columns are in another order'}"


def _row(where: str, fields: dict[str, str]) -> Row:
    values: dict[str, object] = {}
    for name, text in fields.items():
        kind = _KINDS[name]
        if kind in (str | None, float | None) and text == "":
            values[name] = None
            continue
        try:
            value = int(text) if kind is int else float(text) if kind in (float, float | None) else text
        except ValueError:
            want = "a whole number" if kind is int else "a number"
            raise InputError(f"{where}: {name} is {text!r}, not {want}; mend or remove the line") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}: {name} is {text}, which no result is; mend or remove the line")
        values[name] = value
    for name in ("task", "source", "metric"):
        if not values[name]:
            raise InputError(f"{where}: {name} is empty; mend or remove the line")
    return Row(**values)  # type: ignore[arg-type]


def _needs_pyarrow(path: Path) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{path}: Parquet needs pyarrow; pip install 'dcgan-eval[parquet]', or use .csv")


def _parquet(path: Path) -> list[Row]:
    import pyarrow

    try:
        found = pd.read_parquet(path)
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}; give another file") from error
    if found.columns.tolist() != COLUMNS:
        raise InputError(f"{path}: {_other_columns(found.columns.tolist())}; give another file")
    records = found.astype(object).where(found.notna(), "").to_dict("records")
    return [
        _row(f"{path}, row {number}", {str(name): str(value) for name, value in record.items()})
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


def draws(values: Sequence[float]) -> str:
    """As `Row.draws` keeps them."""
    return " ".join(f"{value:.10g}" for value in values) if len(values) > 1 else ""


def versions() -> str:
    """What the numbers were computed with."""
    names = ("dcgan-eval", "torch", "torchvision", "torch-fidelity", "scikit-learn", "numpy")
    return f"python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def command(argv: Sequence[str] | None = None) -> str:
    """The command line as typed, but for the folder in the environment variable DATA, which reads `$DATA` again."""
    folder = os.environ.get("DATA", "").rstrip("/")
    # whole folder names only (/data is not the start of /data2), and outside of quotes, where a shell expands it
    this = re.compile(rf"(?<![^=:,]){re.escape(folder)}(?=[/:]|$)" if folder else "(?!)")
    words = [this.split(word) for word in ["dcgan-eval", *(sys.argv[1:] if argv is None else argv)]]
    return " ".join("$DATA".join(part and shlex.quote(part) for part in word) or "''" for word in words)
