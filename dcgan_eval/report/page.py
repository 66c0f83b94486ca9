"""The report as one HTML page: tables that sort and filter, and behind each number the results that it rests on."""

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import fields
from html import escape
from importlib.resources import files
from typing import Any

from dcgan_eval.report.table import Cell, Figure, Table, anchors
from dcgan_eval.results import Row

LONG = 24  # characters of a cell above which it may be broken into lines
FOLDED = 600  # characters of notes above which they are folded away
# in the text besides the italics: it survives copying, and is found by the filter
LEGEND = '<span class="quoted">Italics with †</span>: quoted, not measured here.'
WORDS = {
    "n": "n, images judged",
    "n_reference": "n, images judged by",
    "C": "C of the SVM",
    "gap": "gap to the optimum",
    "low": "interval, from",
    "high": "interval, to",
    "interval": "what the interval is",
    "interval_n": "the interval is over, number",
    "interval_of": "the interval is over",
    "draws_low": "mean over draws, from",
    "draws_high": "mean over draws, to",
    "outcomes": "outcomes by image, SHA-256",
    "C_by": "C chosen by",
    "batchnorm": "BatchNorm",
    "spread_kind": "what the spread is",
    "spread_n": "the spread is over, number",
    "spread_of": "the spread is over",
    "threads": "threads, in each process",
    "seconds_features": "seconds, features",
    "seconds": "seconds, the rest",
}  # of fields whose names say too little; any other name is its own

UNKNOWN_IF_0 = ("threads", "spread_n", "interval_n")


def page(title: str, tables: Sequence[Table], figures: Sequence[Figure] = ()) -> str:
    """A whole HTML document that needs no other file and no network; without JavaScript it shows the same tables.

    Raises ValueError where a figure is neither PNG nor SVG.
    """
    rows: dict[str, int] = {}
    ids = anchors([*(table.title for table in tables), *(figure.name for figure in figures)])
    of_tables, of_figures = ids[: len(tables)], ids[len(tables) :]
    parts = {
        "title": _text(title),
        "contents": _contents("Tables", [table.title for table in tables], of_tables)
        + _contents("Figures", [figure.title for figure in figures], of_figures),
        "tables": "\n".join(_table(table, anchor, rows) for table, anchor in zip(tables, of_tables, strict=True)),
        "figures": "\n".join(_figure(figure, anchor) for figure, anchor in zip(figures, of_figures, strict=True)),
    }
    names = json.dumps({field.name: _words(field.name) for field in fields(Row)})
    # `</script>` or `<!--` inside would end it early
    parts["rows"] = f'{{"fields": {names}, "rows": [{",".join(rows)}]}}'.replace("<", "\\u003c")
    template = files("dcgan_eval.report").joinpath("page.html").read_text(encoding="utf-8")
    # in one pass, so that what is inserted is not searched again
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _text(text: str) -> str:
    """For an element or an attribute in double quotes; bytes of a command line that are no UTF-8 are spelt out."""
    return escape(text.encode(errors="backslashreplace").decode())


def _row(row: Row) -> str:
    """Its values as a JSON list, in the order of its fields."""
    known = {name: None if value == 0 and name in UNKNOWN_IF_0 else value for name, value in row.record().items()}
    return json.dumps([_plain(value) for value in known.values()], allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    """The same where JavaScript reads it back exactly, its text where JSON or a double could not hold it."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, int) and abs(value) > 2**53 else value


def _words(field: str) -> str:
    return WORDS.get(field, field.replace("_", " ").replace("sha256", "SHA-256"))


def _contents(heading: str, titles: Sequence[str], anchors: Sequence[str]) -> str:
    if not titles:
        return ""
    links = [f'<li><a href="#{a}">{_text(title)}</a></li>' for a, title in zip(anchors, titles, strict=True)]
    return "\n".join([f"<h2>{heading}</h2>", "<ul>", *links, "</ul>", ""])


def _table(table: Table, anchor: str, rows: dict[str, int]) -> str:
    """A section. The results behind its cells that are not yet in `rows` are added, each with its number."""
    kinds = [' class="number"' if table.is_number(column) else "" for column in range(len(table.columns))]
    head = "".join(f'<th scope="col"{kind}>{_text(name)}</th>' for kind, name in zip(kinds, table.columns, strict=True))
    lines = [
        "".join(_cell(cell, bool(kinds[column]), not column, rows) for column, cell in enumerate(line))
        for line in table.lines
    ]
    quoted = any(cell.quoted for line in table.lines for cell in line)
    return "\n".join(
        [
            f'<section class="table" id="{anchor}">',
            f'<h2 id="{anchor}_title">{_text(table.title)}</h2>',
            f'<div class="scroll"><table aria-labelledby="{anchor}_title">',
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *(f"<tr>{line}</tr>" for line in lines),
            "</tbody>",
            "</table></div>",
            *([f'<p class="small">{LEGEND}</p>'] if quoted else []),
            *_notes(table.notes),
            "</section>",
        ]
    )


def _cell(cell: Cell, number: bool, first: bool, rows: dict[str, int]) -> str:
    """first: whether it names its line."""
    classes = " ".join(["number"] * number + ["quoted"] * cell.quoted + ["long"] * (len(cell.text) > LONG))
    attributes = f' class="{classes}"' if classes else ""
    if cell.value is not None and not math.isnan(cell.value):
        attributes += f' data-value="{_number(cell.value)}"'
    if cell.rows:
        indices = [rows.setdefault(_row(row), len(rows)) for row in cell.rows]
        attributes += f' data-rows="{" ".join(map(str, indices))}"'
    text = _text(cell.text) + '<span class="mark">†</span>' * cell.quoted
    return f'<th scope="row"{attributes}>{text}</th>' if first and not number else f"<td{attributes}>{text}</td>"


def _number(value: float) -> str:
    """As JavaScript's Number() reads it."""
    return repr(float(value)).replace("inf", "Infinity")


def _notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    items = ['<ul class="small">', *(f"<li>{_text(note)}</li>" for note in notes), "</ul>"]
    if sum(map(len, notes)) <= FOLDED:
        return items
    return ["<details>", f'<summary class="small">Notes ({len(notes)})</summary>', *items, "</details>"]


def _figure(figure: Figure, anchor: str) -> str:
    if figure.content.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif re.match(rb"(\xef\xbb\xbf)?\s*<(\?xml|!--|!DOCTYPE svg|svg)", figure.content):
        kind = "svg+xml"
    else:
        raise ValueError(f"figure {figure.name}: neither PNG nor SVG")
    source = f"data:image/{kind};base64,{base64.b64encode(figure.content).decode()}"
    command = f'<p class="command"><code>{_text(figure.command)}</code></p>' if figure.command else ""
    return "\n".join(
        [
            f'<section id="{anchor}">',
            f"<h2>{_text(figure.title)}</h2>",
            # an img runs no script of an SVG, and loads nothing that it names
            f'<figure><img src="{source}" alt="{_text(figure.title)}">{command}</figure>',
            "</section>",
        ]
    )
