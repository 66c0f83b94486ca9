"""Results files of earlier versions rewritten with the columns of today: in those of 0.1 sentences held data."""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dcgan_eval.results.intervals import of_mean, simultaneous, spread, wilson
from dcgan_eval.results.row import MEASURED, Row
from dcgan_eval.results.store import COLUMNS, EARLIER, OLD_COLUMNS, parsed
from dcgan_eval.runtime.errors import InputError

_SPREADS = (
    (r"half the width of the 95 % Wilson interval over (\d+) (test images)", "95 % Wilson interval"),
    (r"half of Wilson's 95 % interval of (\d+)()", "95 % Wilson interval"),
    (r"1\.96 standard deviations over (\d+) (seeds of the samples)", "1.96 standard deviations"),
    (r"1\.96 standard deviations over (\d+) (draws)", "1.96 standard deviations"),
    (r"1\.96 standard errors of the mean of (\d+) (.+)", "1.96 standard errors"),
    (r"1\.96 standard errors over (\d+) (test images)", "1.96 standard errors"),
    (r"standard deviation over (\d+) (subsets|splits)", "standard deviation"),
)
_NOUNS = {"draws": "label draws", "seeds of the samples": "sample sets"}
_COUNTED = {"arithmetic": "results", "forget": "samples", "turn": "z"}  # of tasks whose intervals did not say it
_CLASSIFIED = re.compile(r"(L2-SVM|\d+-NN) on (?:all labels|[\w:-]+)(?:, (\d+ balanced draws))?, (.*)")
_CHOSEN = re.compile(r"(C \S+ (?:given|of \S+ to \S+ by .*)), (features unscaled)")
_CELLS = re.compile(r"(data-copying test \(Meehan et al\. 2020\)), (\d+ of \d+ cells, seed \d+)")


def migrated(path: Path) -> list[Row]:
    """The measured rows of a CSV file of an earlier version; those quoted from the paper are in every report anyway.

    Raises InputError if the file is of no earlier version, or a line holds what that version did not write.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, strict=True)
            columns = next(lines, None)
            if columns is None or columns not in EARLIER:
                raise InputError(f"{path}: is not a CSV file of results of an earlier version; give another file")
            return list(_rows(path, lines, columns))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as results: {error}; give another file") from error


def _rows(path: Path, lines: Iterator[list[str]], columns: list[str]) -> Iterator[Row]:
    for number, fields in enumerate(lines, 1):
        where = f"{path}, result {number}"
        if len(fields) != len(columns):
            raise InputError(f"{where}: has {len(fields)} fields, not {len(columns)}; mend or remove it")
        old = dict(zip(columns, fields, strict=True))
        if old["features"].startswith(("disc:", "random:")) and "@" not in old["features"]:
            old["features"] += pooled(old["features_protocol"])
        if old["source"] == MEASURED:
            new = _row(where, old) if columns == OLD_COLUMNS else old
            try:
                new = new | _apart(new) | _features(new)
            except ValueError as error:
                raise InputError(f"{where}: {error}; mend or remove it") from error
            yield parsed(where, dict.fromkeys(COLUMNS, "") | new)


def _row(where: str, old: dict[str, str]) -> dict[str, str]:
    """One result. What version 0.1 said in `protocol`, in the metric's suffix and in `spread_kind` gets its fields."""
    new = {name: value for name, value in old.items() if name != "protocol"}
    new |= {"role": "value", "threads": "0", "spread_n": "0", **_spread(where, old["spread_kind"], old["task"])}
    task, protocol = old["task"], old["protocol"]
    if task == "classify":
        found = _CLASSIFIED.fullmatch(old["method"])
        if found is None:
            raise InputError(
                f"{where}: method is {old['method']!r}, which version 0.1 did not write; mend or remove it"
            )
        classifier, drawn, rest = found.groups()
        chosen = _CHOSEN.fullmatch(rest)
        how, method = chosen.groups() if chosen else ("", rest)
        remark = ", ".join(part for part in (drawn, how) if part)
        new |= {"labels": protocol, "classifier": classifier, "method": method, "remark": remark}
        metric, _, role = old["metric"].partition(" on ")
        new |= {"metric": metric, "role": role or "value"}
    elif task == "neighbors":
        metric, _, suffix = old["metric"].partition(", ")
        new |= {"metric": metric, "role": {"": "value", "p": "p-value"}.get(suffix, suffix), "condition": protocol}
        cells = _CELLS.fullmatch(old["method"])
        if cells is not None:
            new |= {"method": cells[1], "remark": cells[2]}
    elif task not in ("fid", "dedup", "table3"):  # whose protocol repeats other columns
        new["question"], _, new["condition"] = protocol.rpartition(": ")
    return new


def _apart(old: Mapping[str, str]) -> dict[str, str]:
    """Intervals and spreads, of which files before had one: half the width of the one, or 1.96 of the other."""
    kind, n, of = old["spread_kind"], int(old["spread_n"]), old.get("spread_of", "")
    found: dict[str, object] = {"interval_n": 0}
    draws = [float(text) for text in old["draws"].split()]
    if kind in ("95 % Wilson interval", "1.96 standard errors", "1.96 standard deviations"):
        found |= {"spread": "", "spread_kind": "", "spread_n": 0, "spread_of": ""}
    if kind == "95 % Wilson interval" or (kind == "1.96 standard errors" and of == "test images"):
        found |= vars(wilson(float(old["value"]) / 100, n or int(old["n"]), of or "test images"))
    elif kind == "1.96 standard errors" and n > 1:
        half = float(old["spread"]) / 1.96 * simultaneous(2, n - 1)
        ends = {"low": float(old["value"]) - half, "high": float(old["value"]) + half}
        found |= {**ends, "interval": "Student's t", "interval_n": n, "interval_of": of}
    elif kind == "1.96 standard deviations" and draws:
        mean = of_mean(draws, of)
        found |= {**vars(spread(draws, of)), "draws_low": mean.low, "draws_high": mean.high}
    elif kind == "1.96 standard deviations" and n > 1:  # over label draws they divided by their number
        deviation = float(old["spread"]) / 1.96 * (n / (n - 1) if of == "label draws" else 1) ** 0.5
        half = simultaneous(2, n - 1) * deviation / n**0.5
        ends = {"draws_low": float(old["value"]) - half, "draws_high": float(old["value"]) + half}
        found |= {**ends, "spread": deviation, "spread_kind": "standard deviation", "spread_n": n, "spread_of": of}
    return {name: "" if value is None else str(value) for name, value in found.items()}


def _features(old: Mapping[str, str]) -> dict[str, str]:
    """What files before said in sentences, or not at all."""
    kind, remark = old["features"].partition(":")[0], old.get("remark", "")
    mode = re.search(r"BatchNorm (stored|reestimated|of each)", old["features_protocol"])
    by = next((how for how in ("folds", "validation", "given") if old["C"] and remark.endswith(how)), "")
    if old.get("labels", "all") not in ("", "all"):  # before each draw chose its own
        by = {"folds": "folds of all draws", "validation": "validation of all draws"}.get(by, by)
    return {
        "batchnorm": {"of each": "batch"}.get(mode[1], mode[1]) if mode and kind in ("disc", "random") else "",
        "C_by": by,
        "trained_on": "nothing" if kind in ("pixels", "random") else "unknown" if kind else "",
    }


def pooled(features_protocol: str) -> str:
    """How features that are pooled to another grid than the paper's are told from those, in their name: '@1x1'."""
    grid = re.search(r"max-pooled to (\d+)x\1,", features_protocol)
    return f"@{grid[1]}x{grid[1]}" if grid and grid[1] != "4" else ""


def _spread(where: str, sentence: str, task: str) -> dict[str, str]:
    if not sentence:
        return {"spread_kind": ""}
    for pattern, kind in _SPREADS:
        found = re.fullmatch(pattern, sentence)
        if found is not None:
            of = _NOUNS.get(found[2], found[2]) or _COUNTED.get(task, "")
            return {"spread_kind": kind, "spread_n": found[1], "spread_of": of}
    raise InputError(f"{where}: spread_kind is {sentence!r}, which version 0.1 did not write; mend or remove it")
