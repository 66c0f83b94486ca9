import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dcgan_eval import results
from dcgan_eval.errors import InputError
from dcgan_eval.paper import QUOTES, quoted
from dcgan_eval.results import COLUMNS, Row, append, command, frame, table

ROW = Row(
    task="classify",
    data="CIFAR-10",
    data_sha256="ab" * 32,
    model=None,
    model_sha256=None,
    features="disc:svhn32",
    features_sha256="cd" * 32,
    features_protocol='conv1, "as is"; float32',
    layer="all",
    dimensions=28672,
    protocol="all",
    method="L2-SVM on all labels, C 0.001 given",
    metric="accuracy",
    value=74.28 + 1e-13,
    unit="%",
    spread=1.0 / 3,
    spread_kind="half the width of the 95 % Wilson interval over 486 test images",
    n=486,
    n_reference=554,
    C=1e-4,
    gap=3e-7,
    seed=0,
    seconds_features=1.5,
    seconds=0.25,
    device="cpu",
    versions="python 3",
    command="dcgan-eval classify --data 'é ü.zip'",
    time="2025-01-01T00:00:00Z",
)
KNN = replace(ROW, method="5-NN on all labels", C=None, spread=None)


def read(path):
    return pd.read_csv(path, engine="python", keep_default_na=False, na_values=[""])  # which reads floats exactly


def as_rows(found):
    """Of a frame read from CSV, in which None is NaN."""
    records: list[dict[str, Any]] = found.astype(object).where(found.notna(), None).to_dict("records")
    return [Row(**record) for record in records]


# the CSV


def test_rows_come_back_from_the_csv_as_they_were(tmp_path):
    rows = [ROW, KNN, replace(ROW, command='a,b "c"\n d', value=1e-300)]
    append(tmp_path / "r.csv", rows)
    assert as_rows(read(tmp_path / "r.csv")) == rows
    assert list(read(tmp_path / "r.csv")) == COLUMNS == list(asdict(ROW))


def test_appending_adds_lines_below_those_there(tmp_path):
    path = tmp_path / "r.csv"
    append(path, [ROW])
    before = path.read_bytes()
    append(path, [KNN, ROW])
    assert path.read_bytes().startswith(before)
    assert as_rows(read(path)) == [ROW, KNN, ROW]
    assert os.listdir(tmp_path) == ["r.csv"]


def test_a_relative_path_is_one_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    append(Path("r.csv"), [ROW])
    assert as_rows(read("r.csv")) == [ROW]


def test_an_edited_file_is_gone_on_with(tmp_path):
    path = tmp_path / "r.csv"
    append(path, [ROW])
    for edited in (path.read_text().rstrip("\n"), path.read_text().replace("\n", "\r\n"), ""):
        path.write_text(edited, newline="")
        append(path, [KNN])
        assert as_rows(read(path)) == ([ROW, KNN] if edited else [KNN])


@pytest.mark.parametrize(
    "content",
    [b"a,b,c\n1,2,3\n", ",".join(COLUMNS[:-1]).encode(), ",".join([*COLUMNS, "x"]).encode(), b"\xff\xfe\x00", b"\n",
     ",".join(reversed(COLUMNS)).encode()],
)  # fmt: skip
def test_another_file_is_left_alone(tmp_path, content):
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"r\.csv: .*give another --out"):
        append(path, [ROW])
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["r.csv"]


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot append results"):
        append(tmp_path / "absent" / "r.csv", [ROW])
    with pytest.raises(InputError, match="cannot append results"):
        append(tmp_path, [ROW])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failure_on_the_way_leaves_the_old_file(tmp_path, monkeypatch, error, step):
    path = tmp_path / "r.csv"
    append(path, [ROW])
    before = path.read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        append(path, [KNN] * 100)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.csv"]
    append(path, [KNN])  # and the lock is free again
    assert len(read(path)) == 2


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.csv"
    append(path, [ROW])
    before = path.read_bytes()
    code = (
        "import os, signal, sys, pathlib\nfrom dcgan_eval import results\nfrom tests.test_results import KNN\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "results.append(pathlib.Path(sys.argv[1]), [KNN])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    append(path, [KNN])
    assert len(read(path)) == 2


def write(path, seed):
    for value in range(5):
        append(path, [replace(ROW, seed=seed, value=float(value)), replace(KNN, seed=seed, value=float(value))])


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
    found = read(path)
    assert len(found) == 4 * 5 * 2
    for seed in range(4):
        # each in its own order, each pair together
        assert found[found.seed == seed].value.tolist() == [v for value in range(5) for v in (value, value)]
    assert os.listdir(tmp_path) == ["r.csv"]


def test_new_files_are_readable_as_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        append(tmp_path / "r.csv", [ROW])
        assert (tmp_path / "r.csv").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


# the frame, provenance


def test_the_frame_is_tidy():
    found = frame([ROW, KNN])
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


# the paper's numbers


@pytest.mark.parametrize(
    ("features", "data", "protocol", "probe", "value"),
    [
        ("disc:netD", "CIFAR-10", "all", "svm", 82.8),
        ("disc:netD", "CIFAR-10-JPEG", "all", "svm", 82.8),
        ("disc:netD", "CIFAR-10-JPEG", "per-class:400", "svm", 73.8),
        ("disc:authors-200", "SVHN", "labels:1000", "svm", 22.48),
        ("kmeans:1600", "CIFAR-10", "all", "svm", 80.6),
        ("kmeans:1600", "CIFAR-10", "per-class:400", "svm", 63.7),
        ("pixels", "SVHN", "labels:1000", "knn", 77.93),
        ("disc:authors-200", "svhn-mini", "labels:1000", "svm", None),
        ("disc:authors-200", "svhn-mini", "all", "svm", None),
        ("disc:authors-200", "SVHN", "all", "svm", None),
        ("disc:authors-200", "SVHN", "labels:500", "svm", None),
        ("disc:netD", "CIFAR-10", "per-class:40", "svm", None),
        ("disc:netD", "CIFAR-100", "all", "svm", None),
        ("disc:netD", "CIFAR-10 + other", "all", "svm", None),
        ("disc:netD", "CIFAR-10", "all", "knn", None),
        ("random:imagenet32", "CIFAR-10", "all", "svm", None),
        ("pixels", "CIFAR-10", "all", "svm", None),
        ("pixels", "SVHN", "labels:1000", "svm", None),
        ("view-invariant:1600", "CIFAR-10", "all", "svm", None),
    ],
)
def test_a_number_is_quoted_only_where_the_protocol_matches(features, data, protocol, probe, value):
    dimensions = 3072 if features == "pixels" else 28672 if data.startswith("CIFAR") else 7168
    quote = quoted(features, dimensions, data, protocol, probe)
    assert (quote.value if quote else None) == value
    if features.startswith("disc:"):
        assert quoted(features, dimensions + 1, data, protocol, probe) is None


def test_the_quotes_are_those_of_the_paper():
    """arXiv 1511.06434v2, Tables 1 and 2, as far as they are kept."""
    table1 = {(q.model, q.protocol): (q.value, q.spread) for q in QUOTES if q.table == 1}
    assert table1 == {
        ("1 Layer K-means", "all"): (80.6, None),
        ("1 Layer K-means", "per-class:400"): (63.7, 0.7),
        ("3 Layer K-means Learned RF", "all"): (82.0, None),
        ("3 Layer K-means Learned RF", "per-class:400"): (70.7, 0.7),
        ("View Invariant K-means", "all"): (81.9, None),
        ("View Invariant K-means", "per-class:400"): (72.6, 0.7),
        ("Exemplar CNN", "all"): (84.3, None),
        ("Exemplar CNN", "per-class:400"): (77.4, 0.2),
        ("DCGAN + L2-SVM", "all"): (82.8, None),
        ("DCGAN + L2-SVM", "per-class:400"): (73.8, 0.4),
    }
    table2 = {q.model: (q.value, q.metric, q.data, q.protocol) for q in QUOTES if q.table == 2}
    assert table2 == {
        "DCGAN + L2-SVM": (22.48, "error", "SVHN", "labels:1000"),
        "KNN": (77.93, "error", "SVHN", "labels:1000"),
    }
    assert {(q.data, q.metric) for q in QUOTES if q.table == 1} == {("CIFAR-10", "accuracy")}


# the table


def lines(rows):
    return table(rows).split("\n")


def test_the_table_has_a_line_per_accuracy_and_says_what_it_rests_on():
    error = replace(ROW, metric="error", value=25.72)
    knn = replace(KNN, spread=2.0)
    said = lines([ROW, error, knn])
    quote = "82.8 accuracy on CIFAR-10 (paper, Table 1, DCGAN + L2-SVM)"
    first = f"disc:svhn32 28672 554 486 L2-SVM 0.0001 74.28 ± 0.33 25.72 1.5 + 0.2 {quote}"
    second = "disc:svhn32 28672 554 486 5-NN 74.28 ± 2.00 25.72 1.5 + 0.2"
    assert [line.split() for line in said[1:3]] == [first.split(), second.split()]
    assert said[3] == ""
    text = "\n".join(said[4:])
    for part in (ROW.features_protocol, ROW.method, knn.method, ROW.spread_kind, ROW.data_sha256, "seed 0", "on cpu"):
        assert text.count(part) >= 1, part
    assert text.count(ROW.features_protocol) == 1
    assert "layer" not in said[0]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"data": "CIFAR-10-JPEG"}, True),
        ({"data": "CIFAR-10-JPEG", "protocol": "per-class:400"}, True),
        ({"data": "svhn-mini"}, False),
        ({"protocol": "per-class:100"}, False),
        ({"features": "random:imagenet32"}, False),
        ({"layer": "conv1"}, False),
        ({"C": None, "method": "5-NN on all labels"}, False),
    ],
)
def test_the_table_quotes_the_paper_where_it_may(changes, shown):
    said = lines([replace(ROW, **changes)])
    assert ("quoted" in said[0]) == ("paper, Table 1" in said[1]) == shown


def test_the_quote_says_which_data_it_is_of():
    assert "82.8 accuracy on CIFAR-10 (paper" in table([replace(ROW, data="CIFAR-10-JPEG")])
    svhn = replace(ROW, data="SVHN", protocol="labels:1000", dimensions=7168)
    assert "22.48 error on SVHN (paper, Table 2, DCGAN + L2-SVM)" in table([svhn])


def test_layers_have_a_column_where_there_are_some():
    said = lines([ROW, replace(ROW, layer="conv1", dimensions=64)])
    assert said[0].split()[:3] == ["features", "layer", "d"]
    assert [line.split()[1] for line in said[1:3]] == ["all", "conv1"]
