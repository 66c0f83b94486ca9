"""Table 3: the errors of scikit-learn's classifier, real and generated images apart, the paper's beside them."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest
from sklearn.neighbors import KNeighborsClassifier

from dcgan_eval.evaluations import table3
from dcgan_eval.evaluations.table3 import picture
from dcgan_eval.evaluations.table3 import table3 as rows_of
from dcgan_eval.models.sampling import samples
from dcgan_eval.report import tables, text
from dcgan_eval.results.paper import QUOTES
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.run import Run
from tests.builders import conditional, digit_images, drawn_digits, fails, resized, run


def generated(n):
    return replace(samples(conditional(), n, seed=0, name="", sha256="abc"), name="gen:x")


def error(test, source, size):
    x, pool = (part.tensor().flatten(1).numpy() for part in (test, source))
    found = KNeighborsClassifier(1, algorithm="brute").fit(pool[:size], source.labels[:size].numpy()).predict(x)
    return 100 * np.mean(found != test.labels.numpy())


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(table3, "SIZES", (10, 100, 1000))
    monkeypatch.setattr(table3, "REAL", (10, 50))


@pytest.mark.usefixtures("few")
def test_errors_are_scikit_learns():
    test, train, fake = resized(60), resized(80, start=60), generated(250)
    rows = list(rows_of(test, train, fake, run=Run(command="x"), seed=7))
    errors = {(row.model, row.n_reference): row.value for row in rows if row.metric == "error"}
    assert list(errors) == [(None, 10), (None, 50), (None, 80), ("gen:x", 10), ("gen:x", 100), ("gen:x", 250)]
    for (model, size), value in errors.items():
        assert value == pytest.approx(error(test, fake if model else train, size))
    assert {row.seed for row in rows} == {7}
    assert {len(set(row.pixels_sha256.split())) for row in rows} == {2}
    assert {(row.n, row.task, row.features) for row in rows} == {(60, "table3", "pixels")}
    assert {(row.model, row.model_sha256) for row in rows} == {(None, None), ("gen:x", "abc")}
    share = rows[0].value / 100
    ends = binomtest(round(60 * share), 60).proportion_ci(method="wilson")
    assert (rows[0].low, rows[0].high) == pytest.approx((100 * ends.low, 100 * ends.high))
    distances = [row.value for row in rows if row.metric == "nearest distance" and row.model]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.usefixtures("few")
def test_the_table_and_the_picture_show_every_row():
    rows = list(rows_of(resized(20), resized(30, start=20), generated(120)))
    said = text(tables(rows))
    for row in rows:
        shown = f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" if row.metric == "error" else f"{row.value:.1f}"
        line = next(
            line for line in said.splitlines() if line.split()[:2] == [row.model or "real", str(row.n_reference)]
        )
        assert shown in line
    assert Image.open(io.BytesIO(picture(rows).render("png"))).format == "PNG"


def searched(data, n, model):
    rows = list(rows_of(resized(20), resized(30, start=20), generated(20)))
    return [replace(r, data=data, model=model, n_reference=n, dimensions=784) for r in rows[:2]]


@pytest.mark.parametrize(
    ("data", "n", "model", "quoted"),
    [
        ("MNIST:test MNIST:train", 50_000, None, "3.1"),
        ("mnist:test mnist:train", 50_000, "gen:x", "2.98"),
        ("mnist:test mnist:train", 10_000_000, "gen:x", "1.48"),
        ("mnist:test mnist:train", 60_000, None, None),
        ("mnist:test mnist:train", 60_000, "gen:x", None),
        ("digits:test digits:train", 50_000, None, None),
    ],
)
def test_the_papers_numbers_stand_beside_their_own_protocol_only(data, n, model, quoted):
    rows = searched(data, n, model)
    (found,) = tables([replace(row, n=10_000) for row in rows])
    first = dict(zip(found.columns, (cell.text for cell in found.lines[0]), strict=True))
    assert first.get("paper %") == quoted
    # of how a generator was trained a row says nothing
    assert ("difference" in first) == (quoted is not None and model is None)
    (few,) = tables(rows)
    assert ("differs in" in few.columns) == (quoted is not None)  # of 20 test images


def test_the_papers_table():
    table = {(q.row.model, q.row.n_reference): q.row.value for q in QUOTES if q.table == 3}
    assert table == {
        ("AlignMNIST", 10_000_000): 1.4,
        ("InfiMNIST", 10_000_000): 2.6,
        ("Real data", 50_000): 3.1,
        ("GAN", 50_000): 6.28,
        ("GAN", 10_000_000): 5.65,
        ("DCGAN", 50_000): 2.98,
        ("DCGAN", 10_000_000): 1.48,
    }


def test_images_without_labels_are_refused_before_anything_is_searched():
    for sets in ((resized(9, False), resized(9), generated(9)), (resized(9), resized(9, False), generated(9))):
        with pytest.raises(InputError, match="unlabelled: has no labels"):
            next(rows_of(*sets))
    with pytest.raises(InputError, match="gen:digits: has no labels; Table 3 needs them, and a conditional generator"):
        next(rows_of(digit_images(range(9)), digit_images(range(9, 30)), drawn_digits(20)))


# the command


def command(table3_files, *argv, data="x.npz", generator="netG.safetensors"):
    given = "digits" if generator == "digits" else table3_files / generator
    return run("table3", "--generator", given, "--data", table3_files / data, *argv)


def test_the_command_writes_rows_picture_and_state(table3_files, tmp_path):
    paths = {name: tmp_path / name for name in ("rows.csv", "x.png", "x.npz")}
    argv = [
        "--num-samples",
        150,
        "--seed",
        2,
        "--results",
        paths["rows.csv"],
        "--picture",
        paths["x.png"],
        "--resume-from",
        paths["x.npz"],
    ]
    code, out, _ = command(table3_files, *argv, "--format", "json")
    assert code == 0
    records = json.loads(out)
    assert [(r["model"] is None, r["n_reference"]) for r in records[::2]] == [(True, 60), (False, 150)]
    assert {r["seed"] for r in records} == {2}
    assert len(paths["rows.csv"].read_text().splitlines()) == 1 + len(records)
    assert Image.open(paths["x.png"]).format == "PNG"
    again = json.loads(
        command(table3_files, "--num-samples", 150, "--seed", 2, "--resume-from", paths["x.npz"], "--format", "json")[1]
    )
    assert [r["value"] for r in again] == [r["value"] for r in records]
    # another seed draws other samples, whose search is another one
    fails(
        command(table3_files, "--num-samples", 150, "--seed", 3, "--resume-from", paths["x.npz"]),
        "is the state of another search",
    )


@pytest.mark.parametrize(
    ("changed", "argv", "message"),
    [
        ({"generator": "none.safetensors"}, [], "none.safetensors"),
        ({"generator": "digits"}, [], "gen:digits: has no labels; Table 3 needs them"),
        ({"data": "none.npz"}, [], "no such file"),
        ({}, ["--picture", "nowhere/x.png"], "--picture nowhere/x.png: the folder .*nowhere does not exist"),
        ({}, ["--resume-from", "."], r"--resume-from \.: is a folder; want the name of a file"),
        ({}, ["--num-samples", "0"], "num"),
        ({}, ["--results", "nowhere/rows.csv"], "--results nowhere/rows.csv: the folder"),
    ],
)
def test_what_the_command_refuses(changed, argv, message, table3_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails(command(table3_files, *argv, **changed), message)
    assert list(tmp_path.iterdir()) == []


def test_digits_of_another_shape_are_refused(table3_files):
    code, _, err = run("table3", "--generator", table3_files / "netG.safetensors", "--data", "digits")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "must have one shape" in err


def test_a_table_that_there_is_not():
    code, out, err = run("reproduce", "table9")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "table9" in err
