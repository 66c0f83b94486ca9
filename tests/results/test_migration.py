"""Results of version 0.1 in the columns of today."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from dcgan_eval import results
from dcgan_eval.results.intervals import wilson
from dcgan_eval.results.store import OLD_COLUMNS, PIXEL_COLUMNS, SPREAD_COLUMNS
from tests.builders import RESULT, run

OLD = {
    "task": "classify", "source": "measured", "data": "CIFAR-10", "data_sha256": "ab", "features": "disc:x",
    "features_sha256": "cd", "features_protocol": "p", "dtype": "float32", "layer": "all", "dimensions": "28672",
    "protocol": "all", "method": "L2-SVM on all labels, C 0.001 given, features unscaled", "metric": "accuracy",
    "value": "80.5", "unit": "%", "spread": "0.8",
    "spread_kind": "half the width of the 95 % Wilson interval over 10000 test images", "n": "10000",
    "n_reference": "50000", "C": "0.001", "gap": "1e-07", "seed": "0", "seconds_features": "1.5", "seconds": "2.5",
    "device": "cpu", "versions": "v", "command": "c", "time": "t",
}  # fmt: skip
FEW = "L2-SVM on per-class:400, 10 balanced draws, C 0.0002 of 0.0001 to 0.001 by 5 stratified folds, features unscaled"
STUDY = {"task": "turn", "protocol": "7 to 2: random directions", "method": "m: n, o", "metric": "R²", "unit": ""}
NEAR = {"task": "neighbors", "protocol": "with mirror images", "method": "m", "C": "", "gap": ""}
CELLS = "data-copying test (Meehan et al. 2020), 25 of 100 cells, seed 0"


def written(path: Path, *rows: dict[str, str]) -> Path:
    text = io.StringIO()
    lines = csv.DictWriter(text, OLD_COLUMNS, restval="")
    lines.writeheader()
    lines.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ({}, {"classifier": "L2-SVM", "labels": "all", "method": "features unscaled", "remark": "C 0.001 given",
              "metric": "accuracy", "role": "value", "spread": None, "spread_kind": "", "spread_n": 0, "spread_of": "",
              "interval": "Wilson", "interval_n": 10_000, "interval_of": "test images", "value": 80.5, "C": 1e-3,
              "low": pytest.approx(79.712, abs=1e-3), "high": pytest.approx(81.264, abs=1e-3), "C_by": "given",
              "trained_on": "unknown", "gap": 1e-7, "threads": 0}),
        ({"method": FEW, "protocol": "per-class:400", "draws": "79.5 81.5",
          "spread_kind": "1.96 standard deviations over 10 draws"},
         {"labels": "per-class:400", "draws": (79.5, 81.5), "spread_kind": "standard deviation", "spread_n": 2,
          "spread": pytest.approx(2**0.5), "remark": "10 balanced draws, C 0.0002 of 0.0001 to 0.001 by 5 stratified "
          "folds", "spread_of": "label draws", "draws_low": pytest.approx(67.794, abs=1e-3),
          "C_by": "folds of all draws",
          "draws_high": pytest.approx(93.206, abs=1e-3), "low": None}),
        ({"method": FEW, "protocol": "per-class:400", "spread": "1.96",
          "spread_kind": "1.96 standard deviations over 10 draws"},
         {"spread": pytest.approx((10 / 9) ** 0.5), "spread_n": 10, "spread_of": "label draws",
          "draws_low": pytest.approx(79.746, abs=1e-3), "draws_high": pytest.approx(81.254, abs=1e-3)}),
        ({"metric": "accuracy on folds", "spread": "", "spread_kind": ""},
         {"metric": "accuracy", "role": "folds", "spread": None, "spread_kind": "", "spread_n": 0}),
        ({"method": "5-NN on all labels, Euclidean, features unscaled", "C": "", "gap": ""},
         {"classifier": "5-NN", "method": "Euclidean, features unscaled", "remark": "", "C": None}),
        ({**NEAR, "metric": "AuthPct", "features_protocol": "conv1+conv2 max-pooled to 1x1, not scaled; float32"},
         {"features": "disc:x@1x1"}),
        ({**NEAR, "metric": "AuthPct", "features_protocol": "conv1+conv2 max-pooled to 4x4, not scaled; float32"},
         {"features": "disc:x"}),
        ({**NEAR, "metric": "nearest distance, p"},
         {"metric": "nearest distance", "role": "p-value", "condition": "with mirror images", "classifier": ""}),
        ({**NEAR, "metric": "AuthPct, held-out"}, {"metric": "AuthPct", "role": "held-out"}),
        ({**NEAR, "metric": "C_T", "method": CELLS},
         {"role": "value", "method": "data-copying test (Meehan et al. 2020)", "remark": "25 of 100 cells, seed 0"}),
        ({**STUDY, "spread": "1.96", "spread_kind": "1.96 standard errors of the mean of 16 random sets"},
         {"question": "7 to 2", "condition": "random directions", "method": "m: n, o", "interval_n": 16,
          "interval": "Student's t", "interval_of": "random sets", "low": pytest.approx(80.5 - 2.13145, abs=1e-4)}),
        ({**STUDY, "protocol": "straight", "spread_kind": "half of Wilson's 95 % interval of 64"},
         {"question": "", "condition": "straight", "interval": "Wilson", "interval_n": 64, "interval_of": "z"}),
        ({"task": "fid", "protocol": "3,000 against 10,000 images", "method": "m",
          "spread_kind": "standard deviation over 100 subsets"},
         {"condition": "", "spread_kind": "standard deviation", "spread_n": 100, "spread_of": "subsets"}),
        ({"task": "fid", "method": "m", "spread_kind": "1.96 standard deviations over 3 seeds of the samples"},
         {"spread_kind": "standard deviation", "spread_n": 3, "spread_of": "sample sets",
          "spread": pytest.approx(0.8 / 1.96)}),
        ({"task": "table3", "method": "m", "spread_kind": "1.96 standard errors over 10000 test images"},
         {"interval": "Wilson", "interval_n": 10_000, "interval_of": "test images", "spread": None}),
    ],
)  # fmt: skip
def test_what_sentences_said_stands_in_its_own_column(tmp_path, old, expected):
    path = written(tmp_path / "old.csv", {**OLD, **old})
    assert run("migrate", path, "--out", tmp_path / "new.csv") == (0, "", f"{tmp_path / 'new.csv'}: 1 results\n")
    (row,) = results.load(tmp_path / "new.csv")
    assert {name: getattr(row, name) for name in expected} == expected
    for name in ("data", "features", "features_protocol", "command", "time", "device"):
        assert getattr(row, name) == {**OLD, **old, **expected}[name]


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ({"method": "something else"}, "result 1: method is 'something else', which version 0.1 did not write"),
        ({"spread_kind": "wide"}, "result 1: spread_kind is 'wide', which version 0.1 did not write"),
    ],
)
def test_other_sentences_are_refused(tmp_path, old, message):
    code, out, err = run("migrate", written(tmp_path / "old.csv", {**OLD, **old}), "--out", tmp_path / "new.csv")
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "new.csv").exists()


def test_nothing_is_overwritten(tmp_path):
    path = written(tmp_path / "old.csv", OLD)
    before = path.read_bytes()
    code, _, err = run("migrate", path, "--out", path)
    assert (code, path.read_bytes()) == (2, before)
    assert "exists; choose another file" in err


def test_results_of_version_0_1_name_the_command(tmp_path):
    path = written(tmp_path / "old.csv", OLD)
    code, _, err = run("report", path)
    assert code == 2
    assert "holds results of an earlier version; rewrite its CSV with dcgan-eval migrate OLD.csv --out NEW.csv" in err


def test_quotes_of_the_paper_are_left_to_the_report(tmp_path):
    quote = {**OLD, "source": "paper, Table 1", "method": "", "spread_kind": "not stated by the paper"}
    path = written(tmp_path / "old.csv", OLD, quote)
    assert run("migrate", path, "--out", tmp_path / "new.parquet")[2].endswith(": 1 results\n")
    assert [row.source for row in results.load(tmp_path / "new.parquet")] == ["measured"]


@pytest.mark.parametrize("columns", [SPREAD_COLUMNS, PIXEL_COLUMNS])
def test_a_file_of_between(tmp_path, columns):
    row = replace(
        RESULT, features="disc:x", features_protocol="conv1 max-pooled to 1x1, not scaled; BatchNorm stored",
        trained_on="unknown", **vars(wilson(RESULT.value / 100, 486, "test images")),
    )  # fmt: skip
    old = replace(row, spread=3.9, spread_n=486, spread_of="test images")
    table = results.frame([old])[columns]
    table["draws"], table["spread_kind"] = "", "95 % Wilson interval"
    table.to_csv(tmp_path / "old.csv", index=False)
    assert "holds results of an earlier version" in run("report", tmp_path / "old.csv")[2]
    assert run("migrate", tmp_path / "old.csv", "--out", tmp_path / "new.csv")[0] == 0
    assert results.load(tmp_path / "new.csv") == [replace(row, features="disc:x@1x1")]


def test_a_file_of_today_is_not_migrated(tmp_path):
    (tmp_path / "r.csv").write_text(",".join(results.COLUMNS) + "\n")
    code, _, err = run("migrate", tmp_path / "r.csv", "--out", tmp_path / "new.csv")
    assert (code, "is not a CSV file of results of an earlier version" in err) == (2, True)
