"""benchmarks.choices: which choices apply, and the tables that docs/table1.md includes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import choices
from dcgan_eval import report, results
from dcgan_eval.images import open_images
from dcgan_eval.results.outcomes import Outcomes
from dcgan_eval.runtime.run import Run
from tests.builders import RESULT

ROOT = Path(__file__).parents[1]
BY_TITLE = {choices.named(choice): choice for choice in choices.CHOICES}


def test_the_page_includes_the_tables_of_the_rows():
    folder = ROOT / "reports" / "benchmarks"
    found = report.markdown(choices.tables(results.load(folder / "choices.csv")))
    assert found == (folder / "choices.md").read_text(encoding="utf-8")


def row(choice, right, **changes):
    return replace(
        RESULT, condition=choices.named(choice), features="disc:x", n=4, value=100 * float(np.mean(right)),
        outcomes=Outcomes.of(np.array([right], dtype=bool)), **changes,
    )  # fmt: skip


def test_choices_are_compared_with_the_default_by_image():
    scaled, valid = BY_TITLE["scaling: standardised"], BY_TITLE["C: by 10,000 validation images"]
    (table,) = choices.tables([
        row(choices.DEFAULT, [1, 1, 1, 0]),
        row(scaled, [1, 1, 0, 0], method="features standardised"),
        row(valid, [1, 1, 1, 1], data_sha256="other images", n_reference=3),
        replace(row(scaled, [1, 1, 1, 1]), condition="something else"),
    ])  # fmt: skip
    assert [line[1].text for line in table.lines] == [c.title for c in (choices.DEFAULT, valid, scaled)]
    differences = [line[table.columns.index("Δ, all labels")].text for line in table.lines]
    assert differences[0] == ""
    assert differences[1].startswith("≈ +25.00 [")
    assert differences[2].startswith("≈ −25.00 [")


@pytest.mark.parametrize(
    ("spec", "stored", "without"),
    [
        ("disc:a", False, {"BatchNorm: re-estimated from 12,800"}),
        ("disc:a", True, set()),
        ("random:a", False, {"BatchNorm: re-estimated from 12,800", "BatchNorm: of each batch of 128"}),
    ],
)
def test_what_is_no_choice_is_left_out(spec, stored, without):
    assert {title for title, choice in BY_TITLE.items() if not choices.applies(choice, spec, stored)} == without


@pytest.mark.parametrize("title", list(BY_TITLE))
def test_every_choice_is_measured_as_it_says(title):
    data = {split: part.subset(range(300)) for split, part in open_images("digits").items()}
    choice = BY_TITLE[title]
    choice = replace(choice, valid=100 if choice.valid else 0)
    rows = list(choices.measured(choice, "disc:digits", data, "per-class:5", Run()))
    value = next(row for row in rows if (row.metric, row.role) == ("accuracy", "value"))
    assert value.condition == title
    assert value.features == f"disc:digits{choice.pooled}"
    assert value.C_by == ("validation" if choice.valid else "given" if choice.options.get("C") else "folds")
    assert value.method != "features unscaled" if "scaling" in choice.options else value.method == "features unscaled"
    assert value.batchnorm == ("stored" if choice.batchnorm == "auto" else choice.batchnorm)
