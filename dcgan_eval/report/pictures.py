"""Pictures that a report shows: those that lie in a folder, by its list, and curves made of the results."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from dcgan_eval.report.charts import charts
from dcgan_eval.report.table import Figure
from dcgan_eval.results import Row
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole

LIST = "figures.csv"
COLUMNS = ["file", "title", "command"]


def curves(rows: Sequence[Row]) -> list[Figure]:
    """The charts of the results as SVG."""
    return [Figure(title.lower().replace(" ", "-"), title, chart.render("svg")) for title, chart in charts(rows)]


def write_list(folder: Path, entries: Iterable[tuple[str, str, str]]) -> None:
    """The list that `pictures` reads, of (file, title, command)."""
    listed = io.StringIO()
    lines = csv.writer(listed, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(entries)
    write_whole(folder / LIST, listed.getvalue())


def pictures(folder: Path) -> list[Figure]:
    """The PNG and SVG files that the folder's figures.csv names (file, title, command), in its order.

    Raises InputError, naming the line, for a list that cannot be read and for a picture that is not there.
    """
    path = folder / LIST
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}; it lists the pictures as {', '.join(COLUMNS)}") from error
    if not lines or lines[0] != COLUMNS:
        raise InputError(f"{path}:1: want the columns {', '.join(COLUMNS)}")
    found = []
    for number, fields in enumerate(lines[1:], 2):
        if len(fields) != len(COLUMNS) or not all(fields[:2]):
            raise InputError(f"{path}:{number}: want {', '.join(COLUMNS)}; got {len(fields)} fields")
        name, title, command = fields
        file = folder / name
        if file.suffix not in (".png", ".svg") or file.parent != folder:
            raise InputError(f"{path}:{number}: {name} is not the name of a .png or .svg in that folder")
        try:
            content = file.read_bytes()
        except OSError as error:
            again = f"make it again by: {command}" if command else "or remove the line"
            raise InputError(f"{path}:{number}: {name} is missing ({error.strerror}); {again}") from error
        if not content.startswith(b"\x89PNG" if file.suffix == ".png" else (b"<?xml", b"<svg")):
            raise InputError(f"{file}: is no {file.suffix[1:].upper()}")
        found.append(Figure(file.stem, title, content, command))
    return found
