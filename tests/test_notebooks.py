"""The notebook runs from top to bottom, and what it shows displays itself."""

import base64
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_kept(path):
    kept = nbformat.read(path, as_version=4)
    run = NotebookClient(nbformat.read(path, as_version=4), timeout=300, kernel_name="python3").execute()
    kinds = [[sorted(out.data) for out in cell.get("outputs", [])] for cell in run.cells]
    assert kinds == [[sorted(out.data) for out in cell.get("outputs", [])] for cell in kept.cells]
    shown = [out.data for cell in run.cells for out in cell.get("outputs", [])]
    assert sum("text/html" in data for data in shown) == 3
    columns = [re.findall(r"<th[^>]*>([^<]*)</th>", str(cells)) for cells in (run.cells, kept.cells)]
    assert columns[0] == columns[1]  # what is kept was shown by this code
    (picture,) = (data["image/png"] for data in shown if "image/png" in data)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    html = "".join(data.get("text/html", "") for data in shown)
    for said in ("disc:digits", "per-class:20", "Δ vs best", "balanced draws", "sha256"):
        assert said in html


def test_there_is_one():
    assert NOTEBOOKS
