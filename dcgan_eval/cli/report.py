"""The command `dcgan-eval report`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import check_file, note
from dcgan_eval.options import Equation, ReportFormat
from dcgan_eval.runtime.errors import InputError

if TYPE_CHECKING:
    from dcgan_eval.report import Table
    from dcgan_eval.results import Row


FILES = {"md": (".md", "svg"), "latex": (".tex", "pdf")}  # of a table, and of a curve


@command
def report(
    results: Annotated[
        Path, typer.Argument(help="Results file (CSV or Parquet), as --results of the other commands writes it.")
    ] = Path("reproduction/results.csv"),
    format: Annotated[
        ReportFormat,
        typer.Option(help="Output format: latex needs booktabs; html is one page; csv and json are the rows."),
    ] = "table",
    pivot: Annotated[
        str | None, typer.Option(help="Custom table: two columns of the results, as in features,labels.")
    ] = None,
    where: Annotated[
        tuple[Equation, ...] | None, typer.Option(help="Results to include in --pivot, as in metric=accuracy.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder of pictures to include in html, with a figures.csv that lists them.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; with md and latex an existing folder gets a file per table and curve."),
    ] = None,
) -> None:
    """Make tables, charts or a page from results.

    The paper's three tables with its numbers beside the measured ones, and a table for everything else.
    """
    from dcgan_eval.figures import Picture
    from dcgan_eval.report import charts, everything, latex, markdown, page, text
    from dcgan_eval.report import pictures as listed
    from dcgan_eval.report.pictures import curves
    from dcgan_eval.report.table import anchors
    from dcgan_eval.results import load
    from dcgan_eval.results.paper import QUOTES
    from dcgan_eval.runtime.files import write_whole

    folder = out is not None and out.is_dir()
    if folder and format not in FILES:
        raise InputError(f"--out {out}: is a folder; {format} is one file")
    if out is not None and not folder:
        check_file(out, "--out")
        if out.exists() and results.exists() and out.samefile(results):
            raise InputError(f"--out {out}: holds the results; choose another file")
    if figures is not None and format != "html":
        raise InputError(f"--figures {figures}: applies only to --format html")
    if where and pivot is None:
        raise InputError("--where: applies only to --pivot")
    rows = load(results)
    tables = everything(rows) if pivot is None else [_pivot(rows, pivot, where or ())]
    if format == "html":
        shown = [*(listed(figures) if figures is not None else []), *(curves(rows) if pivot is None else [])]
        written = page("What the networks learnt", tables, shown)
    elif format in ("csv", "json"):
        used = (
            [*rows, *(quote.row for quote in QUOTES if quote.row not in rows)]
            if pivot is None
            else [r for line in tables[0].lines for c in line for r in c.rows]
        )
        written = _rows(used, format)
    else:
        write = {"table": text, "md": markdown, "latex": latex}[format]
        if folder:
            assert out is not None
            ending, kind = FILES[format]
            for table, name in zip(tables, anchors(one.title for one in tables), strict=True):
                write_whole(out / f"{name}{ending}", write([table]))
            made: list[tuple[str, Picture]] = charts(rows) if pivot is None else []
            for (_, chart), name in zip(made, anchors(title for title, _ in made), strict=True):
                chart.save(out / f"{name}.{kind}")
            note(f"{out}: {len(tables)} tables, {len(made)} curves")
            return
        written = write(tables)
    if out is None:
        typer.echo(written.rstrip("\n"))
    else:
        write_whole(out, written if written.endswith("\n") else written + "\n")
        note(f"{out}: {len(tables)} tables of {len(rows)} results")


def _pivot(rows: "list[Row]", axes: str, where: Sequence[str]) -> "Table":
    from dcgan_eval.report import pivot

    lines, comma, columns = axes.partition(",")
    if not comma:
        raise InputError(f"--pivot {axes}: want two columns of the results, as in features,labels")
    chosen = {}
    for each in where:
        name, equals, value = each.partition("=")
        if not equals:
            raise InputError(f"--where {each}: want a column and its value, as in metric=accuracy")
        chosen[name] = value
    return pivot(rows, lines.strip(), columns.strip(), chosen)


def _rows(rows: "list[Row]", format: ReportFormat) -> str:
    from dcgan_eval.results import to_csv

    if format == "csv":
        return to_csv(rows)
    return json.dumps([row.record() for row in rows], indent=2, ensure_ascii=False, allow_nan=False)
