"""Numbers with the protocol that made them: one record per number, one CSV for all of them."""

import csv
import dataclasses
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

import pandas as pd

from dcgan_eval.errors import InputError
from dcgan_eval.files import write_whole
from dcgan_eval.paper import QUOTES, quoted, quoted_in_table3

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Row:
    """One measured number.

    value, spread: in `unit` ('%' for accuracies and errors, 'images' for counts of them, else ''). spread_kind: what
    the spread is, such as '1.96 standard deviations over 10 draws'. n: how many images it judges: test images, or
    generated ones. n_reference: those it judges by: training images, or real ones. data, features: names with the
    SHA-256 of the content, never a path. model: what is judged by the data, None where the features are. protocol:
    which of the images count; method: how the number follows from their features; features_protocol: everything that
    decides those. layer: 'all', or the one layer used. C, gap: of an SVM, and its certified relative distance from the
    optimum.
    seconds_features, seconds: taken by the features of all images, fitting included, and by what was done with them.
    """

    task: str
    data: str
    data_sha256: str
    model: str | None
    model_sha256: str | None
    features: str
    features_sha256: str
    features_protocol: str
    layer: str
    dimensions: int
    protocol: str
    method: str
    metric: str
    value: float
    unit: str
    spread: float | None
    spread_kind: str
    n: int
    n_reference: int
    C: float | None
    gap: float | None
    seed: int
    seconds_features: float
    seconds: float
    device: str
    versions: str
    command: str
    time: str


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Tidy: one line per number, one column per field of Row."""
    return pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=COLUMNS)


FLAGGED = 0.01  # p-values below it are called out
COLUMNS = [field.name for field in dataclasses.fields(Row)]


def append(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to a CSV, making it if need be; it is replaced whole, so a reader never sees half of it.

    Several writers take turns. Raises InputError if the file there has other columns, or cannot be written.
    """
    path = path.absolute()
    try:
        with _locked(path):
            before = read(path)
            text = frame(rows).to_csv(index=False, header=not before)
            gap = "" if not before or before.endswith("\n") else "\n"
            write_whole(path, before + gap + text)
    except OSError as error:
        raise InputError(f"{path}: cannot append results: {error}; give another --out") from error


def read(path: Path) -> str:
    """The text of a CSV of results, '' where there is none yet; InputError if `append` could not go on with it."""
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot append results: {error}; give another --out") from error
    if before and next(csv.reader(before.splitlines()), None) != COLUMNS:
        raise InputError(f"{path}: not a results file of this version: its columns differ; give another --out")
    return before


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


def table(rows: Sequence[Row]) -> str:
    """For people: a line per number, then what they rest on."""
    return {"fid": _comparisons, "neighbors": _copying, "dedup": _duplicates, "table3": _table3}.get(
        rows[0].task, _accuracies
    )(rows)


def _comparisons(rows: Sequence[Row]) -> str:
    lines: list[dict[str, object]] = []
    methods: dict[str, str] = {}
    for row in rows:
        spread = f" ± {row.spread:.4g}" if row.spread is not None else ""
        n = f"{row.n_reference}" if row.n_reference else "unstated"
        lines.append({"metric": row.metric, "value": f"{row.value:.6g}{spread}", "n fake": row.n, "n real": n})
        how = row.method + (f"; ± is {row.spread_kind}" if row.spread is not None else "")
        methods[how] = f"{methods[how]}, {row.metric}" if how in methods else row.metric
    first = rows[0]
    notes = [f"{metrics}: {how}" for how, metrics in methods.items()]
    notes += [f"{row.features}: {row.features_protocol}" for row in rows]
    notes += [
        f"real: {first.data}, sha256 {first.data_sha256}",
        f"fake: {first.model}, sha256 {first.model_sha256}",
        f"seed {first.seed}; {first.seconds_features:.1f} s of features, on {first.device}; {first.versions}",
    ]
    return "\n".join([pd.DataFrame(lines).to_string(index=False, justify="left"), "", *dict.fromkeys(notes)])


def _copying(rows: Sequence[Row]) -> str:
    """A line per number, the held-out images' and the p-value beside it."""
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        metric, _, suffix = row.metric.partition(", ")
        line = lines.setdefault((row.features, row.protocol, metric), {"features": row.features, "": row.protocol})
        if suffix == "p":
            line["p"] = f"{row.value:.2g}"
            verdict = "copies" if metric == "nearer than any" else "nearer"
            line["verdict"] = verdict if row.value < FLAGGED else ""
        else:
            line |= {"metric": metric} if not suffix else {}
            line["held-out" if suffix else "value"] = f"{row.value:.5g}{' ' * bool(row.unit) + row.unit}"
    first = rows[0]
    notes = [f"{row.metric}: {row.method}" for row in rows if ", " not in row.metric]
    notes += [f"{row.features}: {row.features_protocol}" for row in rows]
    if any(row.metric.endswith(", p") for row in rows):
        notes.append(
            f"verdict: where p < {FLAGGED}: held-out images would seldom be as near. Blurred samples, or of little "
            "contrast, are nearer to all images without copying any: only 'nearer than any' speaks of copies"
        )
    notes += [
        f"{first.n} samples of {first.model}, sha256 {first.model_sha256}; {first.n_reference} training images",
        f"training and held-out images: {first.data}, sha256 {first.data_sha256}",
        f"seed {first.seed}, on {first.device}; {first.versions}",
    ]
    return "\n".join(
        [
            pd.DataFrame(list(lines.values())).fillna("").to_string(index=False, justify="left"),
            "",
            *dict.fromkeys(notes),
        ]
    )


def _table3(rows: Sequence[Row]) -> str:
    """A line per source and number of images, the paper's beside it."""
    lines: dict[tuple[str | None, int], dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(
            (row.model, row.n_reference), {"images searched": f"{row.n_reference:,} {row.model or 'real'}"}
        )
        if row.metric == "error":
            quote = quoted_in_table3(row.model is not None, row.data, row.protocol)
            line |= {"error %": f"{row.value:.2f} ± {row.spread:.2f}", "paper": f"{quote.value:g}" if quote else ""}
        else:
            line["mean distance"] = f"{row.value:.1f}"
    first = rows[0]
    others = [f"{q.model} {q.value:g} ({q.protocol})" for q in QUOTES if q.table == 3 and q.features in ("", "gen")]
    notes = [
        f"{first.method}; {first.features_protocol}; ± is {first.spread_kind}",
        *(f"{row.model}: sha256 {row.model_sha256}" for row in rows if row.model is not None),
        f"data: {first.data}, sha256 {first.data_sha256}",
        f"the paper's Table 3, on MNIST, quoted: {', '.join(others)}",
        f"{max(row.seconds for row in rows):.0f} s on {first.device}; {first.versions}",
    ]
    table = pd.DataFrame(list(lines.values())).fillna("")
    return "\n".join([table.to_string(index=False, justify="left"), "", *dict.fromkeys(notes)])


def _duplicates(rows: Sequence[Row]) -> str:
    """A line per count."""
    lines = [
        {"found by": row.features, "": row.metric, "images": f"{row.value:,.0f}", "of": f"{row.n:,}"}
        | ({"held out": f"{row.n_reference:,}"} if row.n_reference else {})
        for row in rows
    ]
    first = rows[0]
    notes = [f"{row.features}: {row.features_protocol}; {row.seconds:.1f} s" for row in rows]
    notes += [
        first.method,
        f"training{' and held-out' if first.n_reference else ''} images: {first.data}, sha256 {first.data_sha256}",
        f"seed {first.seed}, on {first.device}; {first.versions}",
    ]
    return "\n".join([pd.DataFrame(lines).to_string(index=False, justify="left"), "", *dict.fromkeys(notes)])


def _accuracies(rows: Sequence[Row]) -> str:
    """A line per accuracy, the paper's beside it where the protocol matches."""
    accuracies = [row for row in rows if row.metric == "accuracy"]
    lines, notes = [], []
    for row in accuracies:
        svm = row.C is not None
        where = (row.features, row.dimensions, row.data, row.protocol)
        quote = quoted(*where, "svm" if svm else "knn") if row.layer == "all" else None
        lines.append(
            {
                "features": row.features,
                **({"layer": row.layer} if any(r.layer != "all" for r in accuracies) else {}),
                "d": row.dimensions,
                "n train": row.n_reference,
                "n test": row.n,
                "probe": "L2-SVM" if svm else row.method.split()[0],
                "C": f"{row.C:g}" if svm else "",
                "accuracy %": f"{row.value:.2f} ± {row.spread:.2f}",
                "error %": f"{100 - row.value:.2f}",
                "seconds": f"{row.seconds_features:.1f} + {row.seconds:.1f}",
                "quoted": str(quote or ""),
            }
        )
        which = row.features if row.layer == "all" else f"{row.features} {row.layer}"
        notes += [
            f"{row.features}: {row.features_protocol}",
            f"{which}: {row.method}, seed {row.seed}"
            + (f"; within {row.gap:.0e} of the optimum" if row.gap is not None else ""),
            f"± is {row.spread_kind}",
        ]
    shown = pd.DataFrame(lines)
    if not shown["quoted"].any():
        shown = shown.drop(columns="quoted")
    first = accuracies[0]
    notes += [
        f"data: {first.data}, sha256 {first.data_sha256}",
        f"seconds are features + probe, on {first.device}; {first.versions}",
    ]
    return "\n".join([shown.to_string(index=False, justify="left"), "", *dict.fromkeys(notes)])
