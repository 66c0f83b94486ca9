"""The reports of this repository are what results.csv says, and the README quotes them."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from dcgan_eval.report import everything, markdown, pictures
from dcgan_eval.report.table import anchors
from dcgan_eval.results import latest, load
from tests.builders import run

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "reports"


def test_every_table_is_what_the_results_say(tmp_path):
    """`dcgan-eval report reports/results.csv --format md --out reports/tables`, and nothing else lies there."""
    code, _, err = run("report", REPORTS / "results.csv", "--format", "md", "--out", tmp_path)
    assert code == 0, err
    made, kept = (
        {path.name: path.read_text() for path in folder.glob("*.md")} for folder in (tmp_path, REPORTS / "tables")
    )
    assert made == kept
    # of curves only the names: how letters are set depends on the machine
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in (REPORTS / "tables").iterdir()}


def test_the_readme_holds_tables_of_the_reports():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = load(REPORTS / "results.csv")
    by_name = dict(zip(anchors(one.title for one in everything(rows)), everything(rows), strict=True))
    quoted = re.findall(r"<!-- reports/tables/([^\n]*)\.md -->\n(.*?)\n<!-- end -->", readme, re.DOTALL)
    assert len(quoted) >= 2
    for name, text in quoted:
        table = markdown([by_name[name]]).split("\n\n")[1]
        assert text.strip() == table, f"copy the table of reports/tables/{name}.md into the README"


def test_every_picture_is_listed_with_its_command():
    found = pictures(REPORTS / "figures")
    assert {figure.name for figure in found} == {path.stem for path in (REPORTS / "figures").glob("*.png")}
    assert all(figure.command for figure in found)


@pytest.mark.parametrize("row", latest(load(REPORTS / "results.csv")), ids=lambda row: f"{row.task} {row.metric}")
def test_nothing_measured_names_a_place_of_this_machine(row):
    assert row.source == "measured"
    assert row.command.startswith(("dcgan-eval ", "python -m "))
    assert not re.search(r"(?<![\w.$)])/(work|home|root|tmp|Users)\b", row.command)


def series():
    """Each metric by data and damage: its values from no damage to the strongest."""
    rows = [row for row in load(ROOT / "reports" / "results.csv") if row.task == "fid" and row.source == "measured"]
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        data, _, damage = (row.model or "").partition(", ")
        kind = damage.rstrip("0123456789. ")
        if kind:
            plain = next(r.value for r in rows if r.model == data and r.metric == row.metric)
            found.setdefault((row.metric, data, kind), [plain]).append(row.value)
    return found


def test_what_is_said_of_damaged_images_is_what_was_measured():
    said = " ".join((ROOT / "reports" / "README.md").read_text(encoding="utf-8").split())
    all_series = series()
    grows = {"Fréchet distance", "kernel distance"}
    worse = {
        key: [b - a if key[0] in grows else a - b for a, b in pairwise(values)] for key, values in all_series.items()
    }
    against = sorted(key for key, steps in worse.items() if min(steps) < 0)
    assert f"{len(against)} of {len(all_series)} series" in said
    ends = sorted({key[0] for key, steps in worse.items() if sum(steps) <= 0})
    assert ends == ["density", "precision"]
    precision = all_series["precision", "CIFAR-10:test", "blur"]
    assert f"precision of blurred photographs from {precision[0]:.3f} to {precision[-1]:.3f}" in said
    assert {key[0] for key in against} == {
        "Fréchet distance", "classifier score", "density", "kernel distance", "precision",
    }  # fmt: skip
