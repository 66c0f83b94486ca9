import csv
import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dcgan_eval import results
from dcgan_eval.evaluations.linear_probe import TOL
from dcgan_eval.results import COLUMNS, append, command, frame
from dcgan_eval.results.outcomes import Outcomes
from dcgan_eval.runtime.errors import InputError
from tests.builders import KNN_RESULT, RESULT


def test_certified_is_what_the_probe_solves_to():
    assert results.CERTIFIED == TOL


@pytest.mark.parametrize(
    ("gap", "certified"), [(None, True), (0.0, True), (1e-6, True), (1.01e-6, False), (float("nan"), False)]
)
def test_a_number_is_certified_within_the_tolerance(gap, certified):
    assert replace(RESULT, gap=gap).certified == certified


@pytest.mark.parametrize("gap", [float("nan"), float("inf")])
def test_a_gap_that_is_not_finite_is_not_written_as_none(gap, tmp_path):
    with pytest.raises(InputError, match=f"has a gap of {gap}: it is not certified at all; not appended"):
        append(tmp_path / "r.csv", [replace(RESULT, gap=gap)])
    assert os.listdir(tmp_path) == []


def test_the_instruction_set_stands_after_the_device_and_is_no_part_of_the_identity():
    assert COLUMNS[COLUMNS.index("device") + 1] == "instruction_set"
    again = replace(RESULT, instruction_set="AVX512 avx512_vnni")
    assert results.latest([RESULT, again]) == [again]


def test_the_results_of_the_repository_have_the_column():
    """Empty in those that were measured before it."""
    rows = results.load(Path(__file__).parents[2] / "reports" / "results.csv")
    before = [row for row in rows if row.time < "2026-11-25T23:00:00Z"]
    assert before
    assert {row.instruction_set for row in before} == {""}


# the CSV


def test_rows_come_back_from_the_csv_as_they_were(tmp_path):
    rows = [RESULT, KNN_RESULT, replace(RESULT, command='a,b "c"\n d', value=1e-300, draws=(1 / 3, 1e-300))]
    append(tmp_path / "r.csv", rows)
    assert results.read(tmp_path / "r.csv") == rows
    assert list(pd.read_csv(tmp_path / "r.csv")) == COLUMNS == list(RESULT.record())


def test_appending_adds_lines_below_those_there(tmp_path):
    path = tmp_path / "r.csv"
    append(path, [RESULT])
    before = path.read_bytes()
    append(path, [KNN_RESULT, RESULT])
    assert path.read_bytes().startswith(before)
    assert results.read(path) == [RESULT, KNN_RESULT, RESULT]
    assert os.listdir(tmp_path) == ["r.csv"]


def test_a_relative_path_is_one_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    append(Path("r.csv"), [RESULT])
    assert results.read(Path("r.csv")) == [RESULT]


def test_an_edited_file_is_gone_on_with(tmp_path):
    path = tmp_path / "r.csv"
    append(path, [RESULT])
    for edited in (path.read_text().rstrip("\n"), path.read_text().replace("\n", "\r\n"), ""):
        path.write_text(edited, newline="")
        append(path, [KNN_RESULT])
        assert results.read(path) == ([RESULT, KNN_RESULT] if edited else [KNN_RESULT])


@pytest.mark.parametrize(
    "content",
    [b"a,b,c\n1,2,3\n", ",".join(COLUMNS[:-1]).encode(), ",".join([*COLUMNS, "x"]).encode(), b"\xff\xfe\x00", b"\n",
     ",".join(reversed(COLUMNS)).encode()],
)  # fmt: skip
def test_another_file_is_left_alone(tmp_path, content):
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"r\.csv: .*give another file"):
        append(path, [RESULT])
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["r.csv"]


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot append results"):
        append(tmp_path / "absent" / "r.csv", [RESULT])
    with pytest.raises(InputError, match=r"cannot be read as results: .*directory"):
        append(tmp_path, [RESULT])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failure_on_the_way_leaves_the_old_file(tmp_path, monkeypatch, error, step):
    path = tmp_path / "r.csv"
    append(path, [RESULT])
    before = path.read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        append(path, [KNN_RESULT] * 100)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.csv"]
    append(path, [KNN_RESULT])  # and the lock is free again
    assert len(results.read(path)) == 2


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.csv"
    append(path, [RESULT])
    before = path.read_bytes()
    code = (
        "import os, signal, sys, pathlib\nfrom dcgan_eval import results\n"
        "from tests.builders import KNN_RESULT as KNN\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "results.append(pathlib.Path(sys.argv[1]), [KNN])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    append(path, [KNN_RESULT])
    assert len(results.read(path)) == 2


def write(path, seed):
    for value in range(5):
        append(
            path, [replace(RESULT, seed=seed, value=float(value)), replace(KNN_RESULT, seed=seed, value=float(value))]
        )


@pytest.mark.skipif(sys.platform == "win32", reason="writers do not take turns without POSIX locks")
def test_writers_take_turns(tmp_path):
    path = tmp_path / "r.csv"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write, args=(path, seed)) for seed in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    found = results.read(path)
    assert len(found) == 4 * 5 * 2
    for seed in range(4):
        # each in its own order, each pair together
        assert [row.value for row in found if row.seed == seed] == [v for value in range(5) for v in (value, value)]
    assert os.listdir(tmp_path) == ["r.csv"]


def test_new_files_are_readable_as_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        append(tmp_path / "r.csv", [RESULT])
        assert (tmp_path / "r.csv").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


# reading, and what is refused


def spoilt(tmp_path, change):
    """A file of three results, changed by `change`, which gets its lines without the header."""
    path = tmp_path / "r.csv"
    path.unlink(missing_ok=True)
    append(path, [RESULT, KNN_RESULT, replace(RESULT, seed=1)])
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, *change(lines)]) + "\n", encoding="utf-8")
    return path


def edited(name, text):
    """A change that puts `text` into the second line's field."""

    def change(lines):
        fields = next(csv.reader([lines[1]]))
        fields[COLUMNS.index(name)] = text
        file = StringIO()
        csv.writer(file).writerow(fields)
        return [lines[0], file.getvalue().rstrip("\r\n"), lines[2]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0], lines[1][:60], lines[2]], r"r\.csv:3: has \d+ fields, not 52: cut short or edited"),
        (lambda lines: [lines[0], lines[1] + ",", lines[2]], r"r\.csv:3: has 53 fields"),
        (lambda lines: [*lines[:2], ""], r"r\.csv:4: has 0 fields"),
        (edited("value", "74,28"), r"r\.csv:3: value is '74,28', not a number"),
        (edited("value", "nan"), r"r\.csv:3: value is nan, which no result is"),
        (edited("spread", "inf"), r"r\.csv:3: spread is inf"),
        (edited("value", ""), r"r\.csv:3: value is '', not a number"),
        (edited("n", "486.0"), r"r\.csv:3: n is '486\.0', not a whole number"),
        (
            edited("role", "held out"),
            r"r\.csv:3: role is 'held out', not one of 'value', 'held-out', 'p-value', 'folds'",
        ),
        (edited("spread_kind", "wide"), r"r\.csv:3: spread_kind is 'wide', not one of '', 'standard deviation'"),
        (edited("draws", "1 x"), r"r\.csv:3: draws is 'x', not a number"),
        (edited("metric", ""), r"r\.csv:3: metric is empty"),
        (lambda lines: [*lines, lines[0]], r"result 4 repeats result 1 \(accuracy of disc:svhn32 on CIFAR-10, 2025"),
        (lambda _: [], "contains no results"),
    ],
)
def test_bad_lines_are_named(tmp_path, change, message):
    path = spoilt(tmp_path, change)
    before = path.read_bytes()
    with pytest.raises(InputError, match=message):
        results.load(path)
    if "repeats" not in message and "no results" not in message:
        with pytest.raises(InputError, match=message):
            append(path, [RESULT])
    assert path.read_bytes() == before


def test_lines_are_counted_as_an_editor_does(tmp_path):
    path = tmp_path / "r.csv"
    append(path, [replace(RESULT, command="two\nlines"), RESULT])
    path.write_text(path.read_text() + "1,2\n")
    with pytest.raises(InputError, match=r"r\.csv:5: has 2 fields"):
        results.load(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (COLUMNS[:-1], "results of another version: lacks time; give another file"),
        ([name for name in COLUMNS if name != "instruction_set"], "of another version: lacks instruction_set; give"),
        ([*COLUMNS, "x"], "results of another version: has x besides"),
        (COLUMNS[::-1], "the columns are in another order"),
        (["a", "b"], "is no file of results: its first line names none of their columns"),
    ],
)
def test_another_version_says_what_differs(tmp_path, header, message):
    (tmp_path / "r.csv").write_text(",".join(header) + "\n")
    with pytest.raises(InputError, match=message):
        results.load(tmp_path / "r.csv")


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        results.load(tmp_path / "r.csv")
    assert results.read(tmp_path / "r.csv") == []


def test_parquet_holds_the_same_rows(tmp_path):
    path = tmp_path / "r.parquet"
    rows = [RESULT, KNN_RESULT, replace(RESULT, value=1e-300, command="é\n", draws=(1 / 3, 2.0))]
    append(path, rows[:1])
    append(path, rows[1:])
    assert results.load(path) == rows
    assert list(pd.read_parquet(path)) == COLUMNS
    assert os.listdir(tmp_path) == ["r.parquet"]


def test_parquet_that_is_none_is_left_alone(tmp_path):
    path = tmp_path / "r.parquet"
    for make, message in (
        (lambda: path.write_bytes(b"PAR1 and no more"), "cannot be read as Parquet"),
        (lambda: pd.DataFrame({"a": [1]}).to_parquet(path), "is no file of results"),
    ):
        make()
        before = path.read_bytes()
        with pytest.raises(InputError, match=message):
            append(path, [RESULT])
        assert path.read_bytes() == before


def test_the_last_measurement_of_a_number_counts():
    again = replace(RESULT, value=75.0, time="2026-01-01T00:00:00Z")
    assert results.latest([RESULT, KNN_RESULT, again]) == [again, KNN_RESULT]
    assert results.latest([RESULT, replace(RESULT, seed=1)]) == [RESULT, replace(RESULT, seed=1)]


# the frame, provenance


def test_the_frame_is_tidy():
    found = frame([RESULT, KNN_RESULT])
    assert list(found) == COLUMNS
    assert found.metric.tolist() == ["accuracy", "accuracy"]
    assert list(frame([])) == COLUMNS
    records = json.loads(found.to_json(orient="records"))
    assert records[0]["value"] == pytest.approx(74.28)
    assert records[1]["C"] is None
    assert len(pd.read_csv(StringIO(found.to_csv(index=False)))) == 2


def test_versions_and_time():
    said = results.versions()
    for name in ("python 3.", "dcgan-eval ", "torch ", "torchvision ", "scikit-learn ", "numpy "):
        assert name in said
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(results.now())).total_seconds()) < 5


@pytest.mark.parametrize(
    ("folder", "argv", "expected"),
    [
        ("/sets", ["classify", "--data", "/sets/a.npz"], "classify --data $DATA/a.npz"),
        ("/sets/", ["--data", "/sets/a.npz:test"], "--data $DATA/a.npz:test"),
        ("/sets", ["--features", "disc:/sets/authors-svhn/200"], "--features disc:$DATA/authors-svhn/200"),
        ("/sets", ["--data=/sets", "--cache", "/sets"], "--data=$DATA --cache $DATA"),
        ("../sets", ["--data", "../sets/a.zip"], "--data $DATA/a.zip"),
        ("/sets", ["--data", "/sets2/a.npz"], "--data /sets2/a.npz"),
        ("/sets", ["--data", "/my/sets/a.npz"], "--data /my/sets/a.npz"),
        ("/sets", ["--data", "/sets/a b.npz"], "--data $DATA'/a b.npz'"),
        ("/se.s", ["--data", "/sets/a"], "--data /sets/a"),
        ("", ["--data", "/sets/a b", ""], "--data '/sets/a b' ''"),
        (None, ["--data", "/sets"], "--data /sets"),
        ("/", ["--data", "/sets"], "--data /sets"),
    ],
)
def test_the_command_names_the_data_folder_by_its_variable(folder, argv, expected, monkeypatch):
    monkeypatch.delenv("DATA", raising=False)
    if folder is not None:
        monkeypatch.setenv("DATA", folder)
    assert command(argv) == f"dcgan-eval {expected}"
    if folder not in ("", None):
        # what a shell makes of it is what was typed
        words = shlex.split(command(argv).replace("$DATA", folder.rstrip("/")))
        assert words == ["dcgan-eval", *argv]
    monkeypatch.setattr(sys, "argv", ["/bin/dcgan-eval", *argv])
    assert command() == command(argv)


# outcomes


def test_outcomes_lie_beside_the_results_and_go_with_them(tmp_path):
    right = np.random.default_rng(0).random((3, 486)) < 0.7
    row = replace(RESULT, outcomes=Outcomes.of(right))
    for first, second in (("a.csv", "b.parquet"), ("b.parquet", "c.csv")):
        if not (tmp_path / first).exists():
            append(tmp_path / first, [row])
        append(tmp_path / second, results.load(tmp_path / first))
        (found,) = results.load(tmp_path / second)
        assert found == row
        assert found.outcomes is not None
        np.testing.assert_array_equal(found.outcomes.right(486), right)
    (file,) = (tmp_path / "c.outcomes").iterdir()
    assert np.load(file).shape == (3, 61)  # eight images a byte


def test_damaged_outcomes_are_refused_and_absent_ones_are_unknown(tmp_path):
    append(tmp_path / "r.csv", [replace(RESULT, outcomes=Outcomes.of(np.ones((1, 9), bool)))])
    (file,) = (tmp_path / "r.outcomes").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 128]))
    (row,) = results.load(tmp_path / "r.csv")
    assert row.outcomes is not None
    with pytest.raises(InputError, match=r"\.npy: damaged: its content is not what its name says"):
        row.outcomes.right(9)
    file.unlink()
    assert row.outcomes.right(9) is None
    (tmp_path / "r.csv").write_text((tmp_path / "r.csv").read_text().replace(row.outcomes.sha256, "../x"))
    with pytest.raises(InputError, match=r"outcomes is '\.\./x', no SHA-256"):
        results.load(tmp_path / "r.csv")
