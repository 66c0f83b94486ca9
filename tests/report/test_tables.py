"""Tables and curves as queries over results; what they are written as; what is refused."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.lines import Line2D
from PIL import Image
from scipy.stats import t

from dcgan_eval.report import charts, everything, latex, markdown, page, paper_tables, pictures, pivot, tables, text
from dcgan_eval.report.pictures import curves
from dcgan_eval.report.table import EMPTY, Cell, Table, table
from dcgan_eval.results import append, load
from dcgan_eval.runtime.errors import InputError
from tests.builders import KNN_RESULT, RESULT, fails, run
from tests.programs import needed

REPORTS = Path(__file__).parents[2] / "reports"
TEX = "texlive-latex-base texlive-latex-recommended"

DRAWN = replace(
    RESULT,
    labels="per-class:400",
    spread=0.4,
    spread_kind="standard deviation",
    spread_n=3,
    spread_of="label draws",
    draws_low=73.29,
    draws_high=75.27,
)
VALUE = "74.28 [70.20, 77.95]"


def accuracies(**by_features):
    """A row for each, of three draws."""
    return [
        replace(DRAWN, features=name.replace("_", ":"), features_sha256=name, value=sum(draws) / 3,
                draws=draws)
        for name, draws in by_features.items()
    ]  # fmt: skip


def column(found, name):
    return [line[found.columns.index(name)].text for line in found.lines]


# tables of what was measured


def test_a_table_for_each_protocol_and_kind_of_classifier():
    other = replace(RESULT, data_sha256="ef" * 32)
    found = tables([RESULT, KNN_RESULT, DRAWN, other, replace(RESULT, features="pixels", features_sha256="0")])
    assert [len(one.lines) for one in found] == [2, 2, 1, 1, 1]  # the first holds both classifiers
    assert [one.title for one in found] == [
        "CIFAR-10, all labels: accuracy by classifier", "CIFAR-10, all labels: L2-SVM", "CIFAR-10, all labels: 5-NN",
        "CIFAR-10, 400 labels per class: L2-SVM", "CIFAR-10, all labels: L2-SVM",
    ]  # fmt: skip


def test_several_classifiers_have_a_table_in_common():
    rows = accuracies(disc_x=(70.0, 71.0, 72.0), pixels=(60.0, 61.0, 62.0))
    logistic = [replace(row, classifier="logistic regression", value=row.value + 1) for row in rows]
    weighted = replace(rows[1], classifier="weighted 20-NN", method="cosine, features unscaled", value=50.0)
    found = tables([*rows, *logistic, weighted])
    assert found[0].title == "CIFAR-10, 400 labels per class: accuracy by classifier"
    kinds = ("L2-SVM", "logistic regression", "weighted 20-NN, cosine, features unscaled")
    assert found[0].columns == ("features", *kinds)
    assert [[cell.text[:5] for cell in line] for line in found[0].lines] == [
        ["disc:", "71.00", "72.00", ""], ["pixel", "61.00", "62.00", "50.00"],
    ]  # fmt: skip
    assert len(found) == 4
    # other labels, data and layers have no part in it
    apart = [replace(row, labels="all") for row in logistic]
    assert not any("by classifier" in other.title for other in tables([*rows, *apart]))


def test_accuracies_say_what_they_rest_on():
    said = text(tables([RESULT, replace(RESULT, metric="error", value=25.72)]))
    assert f"{VALUE}  " in said
    assert "25.72" in said
    assert "82.8 accuracy on CIFAR-10 (paper, Table 1, DCGAN + L2-SVM)" in said
    for part in (RESULT.features_protocol, "L2-SVM on all labels, features unscaled, C 0.001 given, seed 0",
                 "brackets: the 95 % interval over 486 test images (Wilson)", RESULT.data_sha256,
                 "on cpu", "554 training and 486 test images"):  # fmt: skip
        assert said.count(part) == 1, part
    assert "layer" not in tables([RESULT])[0].columns
    assert column(tables([RESULT, replace(RESULT, layer="conv1")])[0], "layer") == ["all", "conv1"]


def test_a_difference_within_its_interval_is_marked():
    a, b, c = (70.0, 71.0, 72.0), (69.5, 70.6, 71.4), (70.2, 70.7, 71.9)
    (found,) = tables(accuracies(disc_x=a, pixels=b, random_y=c))
    assert column(found, "Δ vs best") == ["best", "−0.50", "−0.07"]  # without outcomes nothing is known over images
    best, apart, near = column(found, "Δ vs best, over draws")
    assert best == ""
    # Student's quantile for three pairs and 2 degrees of freedom
    half = t.ppf(1 - 0.05 / 2 / 3, 2) * np.std([0.5, 0.4, 0.6], ddof=1) / 3**0.5
    assert apart == f"−0.50 [−{0.5 + half:.2f}, −{0.5 - half:.2f}]"
    assert near.startswith("≈ −0.07 [−")
    assert any(
        "paired draw by draw, which holds for all differences between the 3 models" in note for note in found.notes
    )
    assert column(found, "mean over label draws") == ["[73.29, 75.27]"] * 3
    assert column(found, "over test images") == ["[70.20, 77.95]"] * 3


def test_what_was_measured_again_counts_once():
    again = replace(RESULT, value=75.0)
    (found,) = tables([RESULT, again])
    assert column(found, "accuracy %") == ["75.00 [70.20, 77.95]"]


def test_another_seed_is_another_line():
    other = replace(RESULT, seed=1, value=75.0)
    both = [VALUE, "75.00 [70.20, 77.95]"]
    assert column(tables([RESULT, other])[0], "accuracy %") == both
    assert column(tables([RESULT, other])[0], "seed") == ["0", "1"]
    assert column(paper_tables([RESULT, other])[0], "accuracy %, all labels")[:2] == both
    distance = replace(RESULT, task="fid", metric="Fréchet distance", model="gen:x", model_sha256="1", unit="", C=None)
    assert len(tables([distance, replace(distance, seed=1, value=3.0)])[0].lines) == 2


def test_features_of_one_name_but_other_settings_are_other_lines():
    near = replace(RESULT, task="neighbors", metric="AuthPct", model="gen:x", model_sha256="1", C=None, method="a")
    (found,) = tables([near, replace(near, features_sha256="other", value=3.0)])
    assert column(found, "value") == ["74.28 %", "3 %"]


def test_no_number_is_set_over_another():
    more = replace(DRAWN, draws=(1.0, 2.0, 3.0, 4.0, 5.0), spread_n=5, remark="of more")
    assert [len(found.lines) for found in tables([DRAWN, more])] == [1, 1]
    assert column(paper_tables([DRAWN, more])[0], "accuracy %, 400 labels per class")[:2] == ["74.28 ± 0.40"] * 2
    near = replace(RESULT, task="neighbors", metric="AuthPct", model="gen:x", model_sha256="1", C=None, method="a")
    (found,) = tables([near, replace(near, n=9, value=3.0)])
    assert column(found, "value") == ["74.28 %", "3 %"]


# the paper's tables


STUDY = replace(
    KNN_RESULT, task="forget", question="dark", classifier="", labels="", method="a share", model="gen:x", n=96,
)  # fmt: skip


def test_p_values_of_a_study_stand_on_the_line_of_what_they_test_adjusted():
    own, random = "its maps dropped, 5 of 9", "random maps dropped, 4 of 9 on average"
    spread: dict[str, Any] = {"spread_kind": "standard deviation", "spread_n": 199, "spread_of": "random sets"}
    rows = [
        replace(STUDY, metric="still there", condition=own, value=20.0),
        replace(STUDY, metric="change", condition=own, value=50.0),
        replace(STUDY, metric="still there", condition=random, value=70.0, spread=9.0, **spread),
        replace(STUDY, metric="change", condition=random, value=51.0, spread=0.5, **spread),
        *(
            replace(STUDY, metric=metric, role="p-value", condition=own, value=p, unit="", method="a rank")
            for metric, p in (("still there", 0.005), ("rest as before", 0.04))
        ),
    ]
    (found,) = tables(rows)
    p = [f"p, {name}" for name in ("object still present", "other samples unchanged")]
    adjusted = [f"{name}, adjusted" for name in p]
    assert found.columns == ("", "object still present %", "change %", *adjusted)
    assert column(found, "") == [own, random]
    assert column(found, adjusted[0]) == ["0.01", ""]
    assert column(found, adjusted[1]) == ["0.04", ""]
    assert column(found, "change %") == ["50.00", "51.00 ± 0.50"]
    assert f"{p[0]}, {p[1]}: a rank" in found.notes
    assert (
        "p-values are adjusted for the 2 of this table (Holm); as computed: object still present 0.005, other samples "
        "unchanged 0.04"
    ) in found.notes
    assert "± is the standard deviation over 199 random sets" in found.notes
    (found,) = tables([row for row in rows if (row.role, row.metric) != ("p-value", "rest as before")])
    assert column(found, p[0]) == ["0.005", ""]  # of one there is nothing to adjust
    assert not any("Holm" in note for note in found.notes)


def test_a_study_shows_a_spread_and_an_interval():
    row = replace(
        STUDY, metric="7", condition="mean of 3", value=80.0, low=70.0, high=88.0, interval="Wilson, clustered",
        interval_n=10, interval_of="seeds of z", spread=9.5, spread_kind="standard deviation", spread_n=10,
        spread_of="seeds of z",
    )  # fmt: skip
    (found,) = tables([row])
    assert column(found, "7 %") == ["80.00 ± 9.50 [70.00, 88.00]"]
    assert "± is the standard deviation over 10 seeds of z" in found.notes
    assert found.notes.count("brackets: the 95 % interval over 10 seeds of z (Wilson, clustered)") == 1


def test_the_papers_tables_hold_all_its_numbers_before_anything_is_measured():
    one, two, three = paper_tables([])
    assert column(one, "paper's model")[-1] == "DCGAN + L2-SVM"
    assert column(one, "paper %, all labels") == ["80.6", "82.0", "81.9", "84.3", "82.8"]
    assert column(one, "paper %, 400 labels per class")[-1] == "73.8 ± 0.4"
    assert column(one, "paper's feature units") == ["4800", "3200", "6400", "1024", "512"]
    assert len(two.lines) == 9
    assert len(three.lines) == 7
    assert all(cell.quoted for one in (one, two) for line in one.lines for cell in line[1:])
    assert all("not measured" in found.notes[-1] for found in (one, two, three))


def of_seeds(labels, *values):
    """Random weights drawn with a seed each."""
    return [
        replace(RESULT, features="random:svhn32", features_sha256=f"{seed:064}", trained_on="nothing", data="CIFAR-10",
                labels=labels, value=value, seed=seed)
        for seed, value in enumerate(values)
    ]  # fmt: skip


def test_random_weights_of_several_seeds_are_one_line_of_table_1():
    rows = [*of_seeds("all", 57.0, 58.0, 60.0), *of_seeds("per-class:400", 47.0), replace(RESULT, data="CIFAR-10")]
    (found, *_) = paper_tables(rows)
    models = column(found, "model")
    assert models[:3] == ["random:svhn32 + L2-SVM, 3 seeds", "random:svhn32 + L2-SVM", "disc:svhn32 + L2-SVM"]
    half = t.ppf(0.975, 2) * np.std([57, 58, 60], ddof=1) / 3**0.5
    assert column(found, "accuracy %, all labels")[0] == f"58.33 [{58.333333 - half:.2f}, {58.333333 + half:.2f}]"
    (note,) = (note for note in found.notes if "of the mean over 3 seeds" in note)
    assert note.startswith("random:svhn32 + L2-SVM, 3 seeds, all labels: brackets: the 95 % interval")
    cell = found.lines[0][found.columns.index("accuracy %, all labels")]
    assert [row.seed for row in cell.rows] == [0, 1, 2]
    assert "seed" not in found.columns
    # elsewhere each has a line of its own
    (alone,) = tables(of_seeds("all", 57.0, 58.0, 60.0))
    assert column(alone, "seed") == ["0", "1", "2"]


def test_differently_scaled_features_are_told_apart():
    rows = [RESULT, replace(RESULT, method="features standardised", value=70.0)]
    both, first, second = tables(rows)
    assert both.columns == ("features", "L2-SVM", "L2-SVM, features standardised")
    assert second.title == f"{first.title}, features standardised"
    rows = [replace(row, data="CIFAR-10") for row in rows]
    models = column(paper_tables(rows)[0], "model")
    assert models[:2] == ["disc:svhn32 + L2-SVM", "disc:svhn32 + L2-SVM, features standardised"]
    few = [replace(row, labels=f"labels:{n}", n_reference=n) for row in rows for n in (100, 200)]
    axes = dict(charts(few))["Accuracy by labels"].figure.axes
    assert ["features standardised" in ax.get_title("left") for ax in axes] == [False, True]


def test_only_what_the_seed_alone_changes_is_one_mean():
    first, second = of_seeds("per-class:400", 47.0, 48.0)
    for changes in (
        {"C_by": "given", "C": 1.0}, {"draws": (1.0, 2.0)}, {"n_reference": 5}, {"dtype": "bfloat16"},
        {"method": "features standardised"}, {"features_sha256": first.features_sha256},
        {"trained_on": "CIFAR-10, without labels"}, {"seed": first.seed},
    ):  # fmt: skip
        models = column(paper_tables([first, replace(second, **changes)])[0], "model")
        assert not any("seeds" in model for model in models), changes
    together = column(paper_tables([second, replace(first, gap=1e-2)])[0], "accuracy %, 400 labels per class")
    assert together[0].startswith("47.50")
    assert together[0].endswith("‡")  # one of them is not certified
    equal = of_seeds("all", 47.0, 47.0)
    assert column(paper_tables(equal)[0], "model")[0] == "random:svhn32 + L2-SVM, 2 seeds"


def test_seeds_of_both_protocols_share_a_line_in_any_order():
    rows = [*of_seeds("all", 57.0, 58.0), *reversed(of_seeds("per-class:400", 47.0, 48.0))]
    (found, *_) = paper_tables(rows)
    assert column(found, "model").count("random:svhn32 + L2-SVM, 2 seeds") == 1


def test_measured_and_quoted_stand_apart_with_their_difference():
    def of(row):
        found = paper_tables([row])[0]
        (line,) = (line for line in found.lines if line[0].text)
        return found, dict(zip(found.columns, line, strict=True))

    same = replace(DRAWN, data="CIFAR-10", value=73.0, spread=0.3, n=10_000, n_reference=4000)
    found, shown = of(replace(same, n=2000))
    assert found.title == "Table 1: CIFAR-10, accuracy"
    assert shown["accuracy %, 400 labels per class"].text == "73.00 ± 0.30"
    assert not shown["accuracy %, 400 labels per class"].quoted
    assert shown["paper %, 400 labels per class"].quoted
    assert shown["differs in, 400 labels per class"].text == "2,000 test images, not 10,000"
    assert "of CIFAR-10" in found.notes[0]
    assert not any(name.startswith("difference") for name in found.columns)
    found, shown = of(same)
    assert shown["difference, 400 labels per class"].text == "−0.80"  # of a mean over draws without an interval
    assert shown["difference, 400 labels per class"].rows[0] == same
    assert "difference, all labels" not in found.columns
    assert not any(name.startswith("differs in") for name in found.columns)
    single = replace(RESULT, n=10_000, n_reference=50_000, value=82.0, interval_n=10_000)
    assert of(single)[1]["difference, all labels"].text == "≈ −0.80 [−1.86, +0.26]"
    assert (
        of(replace(single, trained_on="nothing"))[1]["differs in, all labels"].text
        == "trained on nothing, not ImageNet"
    )


def test_other_protocols_and_sets_stay_out_of_the_papers_tables():
    for other in (
        replace(RESULT, labels="per-class:40"),
        replace(RESULT, data="digits"),
        replace(RESULT, layer="conv1"),
    ):
        found = paper_tables([other])
        assert [len(one.lines) for one in found] == [5, 9, 7]


# formats


def test_markdown_and_text():
    one = table("A_b", [{"x": Cell("a|b"), "y": Cell("1.5", 1.5, (), quoted=True)}, {"x": Cell("c*d")}], ["n", "n"])
    assert text([one]) == "A_b\n\nx      y\na|b  1.5\nc*d\n\nn"
    assert markdown([one]) == (
        "### A\\_b\n\n| x | y |\n| --- | ---: |\n| a\\|b | *1.5* |\n| c\\*d |  |\n\n- n\n"
    )  # fmt: skip


def test_columns_without_any_text_are_left_out():
    assert table("t", [{"a": Cell("1"), "b": EMPTY}]).columns == ("a",)
    with pytest.raises(ValueError, match="a line of 1 cells under 2 columns"):
        Table("t", ("a", "b"), ((EMPTY,),))


def compiled(tex, folder):
    """The log of a real TeX, of which every page must come without an error."""
    pdflatex = shutil.which("pdflatex")
    needed(pdflatex or "pdflatex", packages=TEX)
    source = (
        "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage[T1]{fontenc}\n"
        "\\usepackage{booktabs}\n\\begin{document}\n" + tex + "\n\\end{document}\n"
    )
    (folder / "t.tex").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [str(pdflatex), "-halt-on-error", "-interaction=nonstopmode", "t.tex"],
        cwd=folder, capture_output=True, check=False,
    )  # fmt: skip
    log = (folder / "t.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, [line for line in log.splitlines() if line.startswith("!")]
    assert (folder / "t.pdf").stat().st_size > 1000
    return log


def test_every_table_of_the_repository_compiles(tmp_path):
    rows = load(REPORTS / "results.csv")
    written = latex(everything(rows))
    log = compiled(written, tmp_path)
    assert written.count(r"\toprule") == written.count(r"\begin{table}") == len(everything(rows))
    assert "Missing character" not in log
    assert "multiply defined" not in log


def test_any_character_compiles(tmp_path):
    odd = r"a\b{c}$d&e#f_g%h~i^j ± − ≈ ∞ ² ³ · × → ≤ ‡ < > | ' " + '"…é [x] -- `'
    one = table(odd, [{odd: Cell(odd), "y": Cell("1", 1, (), quoted=True)}, {odd: Cell("[1] b")}], [odd])
    log = compiled(latex([one, one]), tmp_path)
    assert "Missing character" not in log


# pivots


def pivoted():
    rows = accuracies(disc_x=(70.0, 71.0, 72.0), pixels=(60.0, 61.0, 62.0))
    return rows + [replace(row, labels="all", n_reference=50_000, draws=()) for row in rows]


def test_a_pivot_has_a_number_in_each_cell():
    found = pivot(pivoted(), "features", "labels", {"metric": "accuracy"})
    assert found.columns == ("features", "per-class:400", "all")
    assert [[cell.text for cell in line] for line in found.lines] == [
        ["disc:x", "71.00 ± 0.40", "71.00 ± 0.40"], ["pixels", "61.00 ± 0.40", "61.00 ± 0.40"],
    ]  # fmt: skip
    assert "data: CIFAR-10" in found.notes


@pytest.mark.parametrize(
    ("lines", "columns", "where", "message"),
    [
        ("features", "labls", {}, "`pivot` labls: cannot be an axis; did you mean 'labels'?"),
        ("features", "features", {}, "the two axes are the same"),
        (
            "features",
            "labels",
            {"metrik": "a"},
            "metrik: is no column of the results; did you mean 'metric'?",
        ),
        ("features", "labels", {"metric": "FID"}, "no measured result is metric=FID, role=value"),
        ("features", "metric", {}, "would mix labels 'per-class:400' and 'all': numbers of unequal protocol are not"),
        ("labels", "features", {}, "two numbers for labels 'all' and features 'pixels', of seed '0' and '1'"),
    ],
)
def test_a_pivot_refuses(lines, columns, where, message):
    rows = pivoted()
    if columns == "features":
        rows.append(replace(rows[-1], seed=1))
    with pytest.raises(InputError, match=re.escape(message)):
        pivot(rows, lines, columns, where)


def test_a_pivot_refuses_other_data_in_one_column():
    rows = [RESULT, replace(RESULT, features="pixels", data_sha256="00" * 32)]
    with pytest.raises(InputError, match="would mix data_sha256"):
        pivot(rows, "features", "labels")


def test_quotes_are_no_part_of_a_pivot():
    with pytest.raises(InputError, match="no measured result is role=value"):
        pivot([replace(RESULT, source="paper, Table 1")], "features", "labels")


# curves


def test_curves_are_of_two_points_or_more():
    assert charts([RESULT, DRAWN]) == []
    few = [replace(DRAWN, labels=f"per-class:{n}", n_reference=10 * n, value=60.0 + n) for n in (1, 2, 4)]
    ((title, picture),) = charts(few)
    assert title == "Accuracy by labels"
    (ax,) = picture.figure.axes
    line = ax.containers[0].get_children()[0]
    assert isinstance(line, Line2D)
    assert np.asarray(line.get_xdata()).tolist() == [10, 20, 40]
    assert np.asarray(line.get_ydata()).tolist() == [61, 62, 64]


def test_what_is_of_unequal_protocol_is_in_another_panel():
    few = [replace(DRAWN, labels=f"per-class:{n}", n_reference=10 * n) for n in (1, 2)]
    other = [replace(row, data="SVHN", data_sha256="0") for row in few]
    ((_, picture),) = charts(few + other)
    assert len(picture.figure.axes) == 2


def test_layers_stand_above_their_own_names():
    def of(features, *names):
        return [replace(RESULT, features=features, features_sha256=features, layer=name) for name in (*names, "all")]

    found = charts(of("disc:a", "conv1", "conv2", "conv3") + of("disc:b", "c1"))
    ticks = [[t.get_text() for t in picture.figure.axes[0].get_xticklabels()] for _, picture in found]
    assert ticks == [["conv1", "conv2", "conv3", "all"], ["c1", "all"]]


def test_networks_of_one_name_are_not_joined():
    rows = [
        replace(DRAWN, labels=f"per-class:{n}", n_reference=10 * n, features_sha256=sha)
        for n in (1, 2) for sha in ("a" * 64, "b" * 64)
    ]  # fmt: skip
    ((_, picture),) = charts(rows)
    (ax,) = picture.figure.axes
    labels = ax.get_legend_handles_labels()[1]
    assert labels == [f"disc:svhn32, {sha * 8}, seed 0, 1 draws" for sha in "ab"]


def test_every_kind_of_curve_in_every_kind_of_file(tmp_path):
    rows = load(REPORTS / "results.csv")
    found = list(charts(rows))
    assert {"Accuracy by layer", "Error by images searched"} <= {title for title, _ in found}
    for title, picture in found:
        for kind, start in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
            path = tmp_path / f"{title}.{kind}"
            picture.save(path)
            assert path.read_bytes().startswith(start)
        assert picture._repr_png_().startswith(b"\x89PNG")
    assert [figure.title for figure in curves(rows)] == [title for title, _ in found]


# pictures that are listed


def listed(folder, line="a.png,A,dcgan-eval x", header="file,title,command"):
    folder.mkdir(exist_ok=True)
    Image.new("L", (2, 2)).save(folder / "a.png")
    (folder / "figures.csv").write_text(f"{header}\n{line}\n")
    return folder


def test_listed_pictures_are_figures(tmp_path):
    (found,) = pictures(listed(tmp_path))
    assert (found.name, found.title, found.command) == ("a", "A", "dcgan-eval x")
    assert found.content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("line", "header", "message"),
    [
        ("b.png,B,c", "file,title,command", r"figures\.csv:2: b\.png is missing .*; make it again by: c"),
        ("a.png,A", "file,title,command", r"figures\.csv:2: want file, title, command; got 2 fields"),
        ("../a.png,A,c", "file,title,command", r"figures\.csv:2: .*\.\./a\.png"),
        ("a.png,A,c", "file,name,command", r"figures\.csv:1: want the columns file, title, command"),
    ],
)
def test_a_list_that_is_wrong_is_refused(tmp_path, line, header, message):
    with pytest.raises(InputError, match=message):
        pictures(listed(tmp_path, line, header))


# the command


@pytest.fixture
def measured(tmp_path):
    path = tmp_path / "r.csv"
    append(path, [RESULT, KNN_RESULT, *pivoted()])
    return path


@pytest.mark.parametrize("format", ["table", "md", "latex", "html", "csv", "json"])
def test_every_format_is_printed_and_written_alike(measured, tmp_path, format):
    code, out, err = run("report", measured, "--format", format)
    assert (code, err) == (0, "")
    code, printed, err = run("report", measured, "--format", format, "--out", tmp_path / "report.out")
    assert (code, printed) == (0, "")
    assert (tmp_path / "report.out").read_text() == out
    assert "6 results" in err


def test_csv_and_json_hold_the_measured_and_the_quoted(measured):
    found = json.loads(run("report", measured, "--format", "json")[1])
    assert [row["source"] for row in found].count("measured") == 6
    assert {row["source"] for row in found} == {"measured", *(f"paper, Table {i}" for i in (1, 2, 3))}
    lines = list(csv.DictReader(io.StringIO(run("report", measured, "--format", "csv")[1])))
    assert len(lines) == len(found)


def test_a_folder_gets_a_file_for_each_table_and_curve(measured, tmp_path):
    for format, ending, kind in (("md", ".md", ".svg"), ("latex", ".tex", ".pdf")):
        folder = tmp_path / format
        folder.mkdir()
        code, _, err = run("report", measured, "--format", format, "--out", folder)
        assert code == 0
        names = {path.suffix for path in folder.iterdir()}
        assert names <= {ending, kind}
        assert f"{len(list(folder.glob('*' + ending)))} tables" in err
        assert (folder / f"table-1-cifar-10-accuracy{ending}").exists()


def test_a_pivot_by_the_command(measured):
    code, out, _ = run("report", measured, "--pivot", "features,labels", "--where", "spread=0.4")
    assert code == 0
    assert out.startswith("features by labels\n\nfeatures  per-class:400           all\n")


def test_listed_pictures_are_in_the_page(measured, tmp_path):
    folder = listed(tmp_path / "figures")
    code, out, _ = run("report", measured, "--format", "html", "--figures", folder)
    assert code == 0
    assert "dcgan-eval x" in out
    assert out.rstrip("\n") == page(
        "What the networks learnt", everything(load(measured)), [*pictures(folder), *curves(load(measured))]
    ).rstrip("\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["absent.csv"], r"absent\.csv: does not exist; run a command with --results FILE to make it"),
        (["--pivot", "features"], "--pivot features: want two columns"),
        (["--pivot", "features,labels", "--where", "metric"], "--where metric: want a column and its value"),
        (["--where", "metric=accuracy"], "--where: applies only to --pivot"),
        (["--figures", "."], r"--figures \.: applies only to --format html"),
        (["--out", "."], r"--out \.: is a folder; table is one file"),
        (["--out", "nowhere/x"], "--out nowhere/x: the folder .*nowhere does not exist"),
        (["--format", "html", "--figures", "nowhere"], "nowhere"),
        (["--format", "doc"], "doc"),
    ],
)
def test_what_the_command_refuses(measured, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fails(run("report", *([] if argv[0].endswith(".csv") else [measured]), *argv), message)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_results_are_not_overwritten_by_their_report(measured):
    before = measured.read_bytes()
    fails(run("report", measured, "--format", "csv", "--out", measured), "holds the results; choose another file")
    assert measured.read_bytes() == before


@pytest.mark.parametrize(
    ("write", "mark"),
    [(text, "‡"), (markdown, "‡"), (lambda found: page("A page", found), "‡"), (latex, r"\ddag{}")],
    ids=["text", "markdown", "html", "latex"],
)
def test_numbers_that_are_not_certified_are_marked_in_every_format(write, mark):
    """In the cell, and in a note with the largest gap."""
    rows = [replace(RESULT, gap=3e-7), replace(RESULT, features="disc:other", features_sha256="ef" * 32, gap=2e-3)]
    assert [row.certified for row in [*rows, KNN_RESULT]] == [True, False, True]
    assert mark not in write(tables(rows[:1]))
    (found,) = tables(rows)
    assert column(found, "accuracy %") == [VALUE, f"{VALUE} ‡"]
    assert "‡ not certified: the SVM is within 2e-03 of its optimum, not within 1e-06" in found.notes
    assert write([found]).count(mark) == sum(cell.text.endswith("‡") for line in found.lines for cell in line) + 1


def test_differences_to_a_number_that_is_not_certified_are_marked():
    best = replace(RESULT, features="pixels", features_sha256="0", value=80.0, gap=1e-3)
    (found,) = tables([RESULT, best])
    assert column(found, "Δ vs best") == ["−5.72 [−10.97, −0.44] ‡", "best ‡"]
    assert column(found, "error %") == ["25.72", "20.00 ‡"]
    paper = paper_tables([replace(RESULT, gap=1e-3, n=10_000, n_reference=50_000)])[0]
    assert column(paper, "difference, all labels")[0].endswith(" ‡")
    assert column(paper, "paper %, all labels")[0] == "82.8"
    chosen = pivot([RESULT, best], "features", "labels")
    assert column(chosen, "all") == [VALUE, "80.00 [70.20, 77.95] ‡"]
    assert chosen.notes[-1].startswith("‡ not certified: the SVM is within 1e-03 of its optimum")


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ((1e-3,), "within 1e-03 of"),
        ((1e-3, 2e-2, 3e-7), "within 2e-02 of"),
        ((1.04e-6,), "within 1.04e-06 of"),  # not the tolerance
        ((float("nan"), 1e-3), "within no known distance of"),
        ((1e-3, float("nan")), "within no known distance of"),
    ],
)
def test_the_note_tells_the_largest_gap(gaps, said):
    rows = [replace(RESULT, features_sha256=str(i), gap=gap) for i, gap in enumerate(gaps)]
    (note,) = (note for note in tables(rows)[0].notes if note.startswith("‡"))
    assert said in note


def test_curves_through_a_number_that_is_not_certified_say_so():
    few = [replace(DRAWN, labels=f"per-class:{n}", n_reference=10 * n) for n in (1, 2)]
    for gap, label in ((1e-7, "disc:svhn32"), (1e-3, "disc:svhn32, not certified")):
        ((_, picture),) = charts([few[0], replace(few[1], gap=gap)])
        assert picture.figure.axes[0].get_legend_handles_labels()[1] == [label]


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        ({}, ["training and 486 test", "on cpu (AVX2); python 3"]),
        ({"instruction_set": ""}, ["on cpu; python 3"]),
        ({"task": "fid", "model": "gen:x", "model_sha256": "1"}, ["on cpu (AVX2); python 3"]),
        ({"task": "neighbors", "model": "gen:x", "model_sha256": "1"}, ["on cpu (AVX2); python 3"]),
        ({"task": "dedup"}, ["on cpu (AVX2); python 3"]),
        ({"task": "table3", "metric": "error"}, ["on cpu (AVX2); python 3"]),
        ({"task": "walk", "question": "is it", "condition": "a"}, ["on cpu (AVX2); python 3"]),
    ],
)
def test_notes_say_the_instruction_set_where_it_is_known(changes, notes):
    said = "\n".join(note for found in tables([replace(RESULT, **changes)]) for note in found.notes)
    assert all(note in said for note in notes), said
