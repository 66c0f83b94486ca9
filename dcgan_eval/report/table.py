"""What a table is before it is Markdown, LaTeX or a page: cells that know which results they rest on."""

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from dcgan_eval.results import CERTIFIED, Row


@dataclass(frozen=True)
class Cell:
    """text: as shown. value: what it sorts by, None where it is words alone. rows: the results that it rests on; () of
    labels. quoted: whether the number is the paper's and was not measured here."""

    text: str
    value: float | None = None
    rows: tuple[Row, ...] = ()
    quoted: bool = False


EMPTY = Cell("")
MARK = "‡"  # of numbers that are not certified


def number(row: Row) -> Cell:
    """Its value, and the spread of repeated ones, or else its interval; per cent to two places."""
    value, spread = ("{:.2f}", " ± {:.2f}") if row.unit == "%" else ("{:.6g}", " ± {:.4g}")
    shown = value.format(row.value)
    if row.spread is not None:
        shown += spread.format(row.spread)
    elif row.low is not None and row.high is not None:
        shown += f" {between(row.low, row.high, row.unit)}"
    return Cell(shown, row.value, (row,))


def between(low: float, high: float, unit: str, sign: str = "") -> str:
    """The ends of an interval, as '[77.98, 79.58]'. sign: '+' shows it of positive numbers, too."""
    ends = (f"{end:{sign}.2f}" if unit == "%" else f"{end:{sign}.4g}" for end in (low, high))
    return f"[{', '.join(ends)}]".replace("-", "−")


@dataclass(frozen=True, repr=False)
class Table:
    """columns, and lines of as many cells. notes: what all numbers rest on, a sentence each."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line) != len(self.columns):
                raise ValueError(f"{self.title}: a line of {len(line)} cells under {len(self.columns)} columns")

    def frame(self) -> pd.DataFrame:
        """The text of every cell, which a notebook shows; the numbers themselves are those of `results.frame`."""
        return pd.DataFrame([[cell.text for cell in line] for line in self.lines], columns=list(self.columns))

    def __repr__(self) -> str:  # its cells hold whole results
        return f"<Table {self.title!r}: {len(self.lines)} lines, {len(self.columns)} columns>"

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return f"<b>{html.escape(self.title)}</b>{self.frame().to_html(index=False, border=0)}<ul>{notes}</ul>"

    def is_number(self, column: int) -> bool:
        """Whether it holds numbers, to be set to the right."""
        return any(line[column].value is not None for line in self.lines)


@dataclass(frozen=True)
class Figure:
    """A picture of a report. content: a PNG or SVG. command: what made it, '' where the report itself did."""

    name: str
    title: str
    content: bytes
    command: str = ""


def table(title: str, lines: Sequence[dict[str, Cell]], notes: Sequence[str] = ()) -> Table:
    """From lines that name their columns; where one lacks a column its cell is empty; empty columns are left out.

    Cells that rest on a number that is not certified are marked, and a note says how far it may be from its optimum.
    """
    open_gaps = [
        row.gap
        for line in lines
        for cell in line.values()
        for row in cell.rows
        if row.gap is not None and not row.certified
    ]
    if open_gaps:
        lines = [{name: _marked(cell) for name, cell in line.items()} for line in lines]
        notes = [
            *notes,
            f"{MARK} not certified: the SVM is within {_largest(open_gaps)} of its optimum, not within {CERTIFIED:g}",
        ]
    columns = [
        c
        for c in dict.fromkeys(key for line in lines for key in line)
        if any(line.get(c, EMPTY).text for line in lines)
    ]
    cells = tuple(tuple(line.get(column, EMPTY) for column in columns) for line in lines)
    return Table(title, tuple(columns), cells, tuple(dict.fromkeys(notes)))


def _marked(cell: Cell) -> Cell:
    return cell if all(row.certified for row in cell.rows) else replace(cell, text=f"{cell.text} {MARK}")


def _largest(gaps: Sequence[float]) -> str:
    """The largest of gaps that are not certified, to as many digits as tell it from the tolerance."""
    if not all(map(math.isfinite, gaps)):  # NaN bounds nothing
        return "no known distance"
    shown = (f"{max(gaps):.{digits}e}" for digits in range(17))
    return next(text for text in shown if float(text) > CERTIFIED)


def anchors(titles: Iterable[str]) -> list[str]:
    """For files, labels and links: each title's words in small letters, by hyphens; no two the same."""
    found: list[str] = []
    for title in titles:
        anchor = first = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "part"
        number = 1
        while anchor in found:
            number += 1
            anchor = f"{first}-{number}"
        found.append(anchor)
    return found
