"""`dcgan-eval dedup`: what it prints and writes, and every input that it refuses."""

import csv
import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dcgan_eval.evaluations import dedup
from dcgan_eval.nearest import hashing
from dcgan_eval.results import COLUMNS
from dcgan_eval.runtime.errors import InputError
from tests.builders import fails, photograph_pieces, run
from tests.cli.builders import body, contents, foreign_results, typed, write_folder


@pytest.fixture
def little(monkeypatch):
    """Weights that are hardly fitted: equal pixels are found by any."""
    monkeypatch.setattr(hashing, "STEPS", 1)


def write_repeated(t):
    """30 photographs, of which 3 come twice and 2 are held out; 2 other ones."""
    x = photograph_pieces(32).permute(0, 2, 3, 1).numpy()
    y = np.arange(33) % 2
    np.savez(t / "repeated.npz", x=x[[*range(30), 3, 4, 5]], y=y)
    np.savez(t / "held.npz", x=x[[30, 7, 8, 31]], y=y[:4])
    return t / "repeated.npz"


FILES = ["groups.csv", "groups.png", "keep.json"]


KEPT = [i for i in range(30) if i not in (7, 8)]


def deduplicated(*argv):
    """Value by features and metric, and the rows."""
    code, out, err = run("dedup", "--format", "json", *argv)
    assert code == 0, err
    found = json.loads(out)
    return {(row["features"], row["metric"]): row["value"] for row in found}, found


def test_dedup_by_default_writes_what_to_keep_and_why(little, tmp_path, monkeypatch):
    path = write_repeated(tmp_path)
    monkeypatch.chdir(tmp_path)
    values, found = deduplicated(path)
    assert list(values) == [("autoencoder", "duplicates"), ("exact", "duplicates")]
    assert values["exact", "duplicates"] == 3 <= values["autoencoder", "duplicates"]
    for row in found:
        assert row.keys() == set(COLUMNS)
        assert (row["task"], row["data"], row["n"], row["n_reference"], row["seed"]) == ("dedup", "repeated", 33, 0, 0)
        assert row["data_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sorted(os.listdir(tmp_path / "duplicates")) == FILES
    record = json.loads((tmp_path / "duplicates" / "keep.json").read_text())
    assert (record["n"], record["against"]) == (33, None)
    assert len(record["keep"]) == 33 - values["autoencoder", "duplicates"]
    assert not {30, 31, 32} & set(record["keep"])
    assert sorted(os.listdir(tmp_path)) == ["duplicates", "held.npz", "repeated.npz"]


def test_dedup_against_held_out_images(little, tmp_path):
    path, folder = write_repeated(tmp_path), tmp_path / "a"
    argv = (path, "--against", tmp_path / "held.npz", "--method", "exact", "--out", folder)
    values, found = deduplicated(*argv, "--results", tmp_path / "r.csv")
    assert values == {("exact", "duplicates"): 3, ("exact", "duplicates of held-out images"): 2}
    assert {(row["data"], row["n"], row["n_reference"]) for row in found} == {("repeated held", 33, 4)}
    record = json.loads((folder / "keep.json").read_text())
    assert (record["keep"], record["against"]) == (KEPT, "held")
    lines = list(csv.reader((folder / "groups.csv").read_text().splitlines()))
    assert lines[0] == ["group", "images", "row", "class", "kept", "bits", "nearest is"]
    assert lines[1:3] == [
        ["0", "held", "1", "1", "", "0", "as it is"],
        ["0", "repeated", "7", "1", "no", "0", "as it is"],
    ]
    assert len(lines) == 1 + 2 * 5
    with Image.open(folder / "groups.png") as image:
        image.load()
        assert image.format == "PNG"
    written = pd.read_csv(tmp_path / "r.csv")
    assert list(written) == COLUMNS
    assert written.value.tolist() == [3, 2]
    assert sorted(os.listdir(folder)) == FILES


def test_files_of_dedup_are_by_the_first_method_and_replaced(little, tmp_path):
    path = write_repeated(tmp_path)
    argv = (path, "--out", tmp_path / "d", "--method")
    for first, said in (("phash", "perceptual hash of imagehash; "), ("exact", "equal pixels")):
        code, out, err = run("dedup", *argv, first, "--method", "paper", "--method", first)
        assert code == 0
        assert err == f"{tmp_path / 'd'}: keep.json, groups.csv and groups.png, by {first}\n"
        assert json.loads((tmp_path / "d" / "keep.json").read_text())["protocol"].startswith(said)
        assert out.startswith("Duplicates in repeated\n\n")
        lines = body(out)
        assert lines[0].split() == ["found", "by", "images", "of"]
        assert [line.split()[0] for line in lines[1:3]] == [first, "paper"]
        assert "training images: repeated, sha256 " in out
    assert lines[1].split()[1:] == ["duplicates", "3", "33"]


def test_of_several_splits_dedup_takes_train(little, tmp_path):
    argv = ("--method", "exact", "--out", tmp_path / "d")
    (row,), (same,) = (deduplicated(data, *argv)[1] for data in ("digits", "digits:train"))
    assert (row["data"], row["data_sha256"], row["value"]) == (same["data"], same["data_sha256"], same["value"])
    (row,) = deduplicated("digits", "--against", "digits:test", *argv)[1][:1]
    assert (row["data"], row["n"], row["n_reference"]) == ("digits:train digits:test", 898, 899)
    assert json.loads((tmp_path / "d" / "keep.json").read_text())["split"] == "train"
    (row,) = deduplicated("digits:test", *argv)[1]
    assert row["data"] == "digits:test"


def test_the_radius_and_the_seed_reach_the_codes(tmp_path, monkeypatch):
    asked = []

    def find(train, against, **options):
        asked.append(
            (train.name, against, options["method"], options["radius"], options["seed"], options["batch_size"])
        )
        raise InputError("enough")

    monkeypatch.setattr(dedup, "find", find)
    path = write_repeated(tmp_path)
    for argv in (("--seed", "7"), ("--radius", "2", "--method", "phash"),
                 ("--radius", "2", "--method", "paper", "--method", "phash", "--batch-size", "5")):  # fmt: skip
        fails(run("dedup", path, "--out", tmp_path / "d", *argv), "enough")
    assert asked == [
        ("repeated", None, "autoencoder", None, 7, 1024),
        ("repeated", None, "phash", 2, 0, 1024),
        ("repeated", None, "paper", None, 0, 5),
    ]
    assert not (tmp_path / "d").exists()


def test_batches_and_equal_seeds_change_nothing_of_dedup(little, tmp_path):
    path = write_repeated(tmp_path)
    written = []
    for batch in ("1024", "5", "1"):
        deduplicated(path, "--batch-size", batch, "--out", tmp_path / batch)
        written.append([(tmp_path / batch / name).read_bytes() for name in FILES])
    assert written[0] == written[1] == written[2]


def test_the_command_of_dedup_is_kept(tmp_path, monkeypatch):
    path = write_repeated(tmp_path)
    monkeypatch.setenv("DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    _, (row,) = deduplicated(path, "--method", "exact")
    assert row["command"] == "dcgan-eval dedup --format json $DATA/repeated.npz --method exact"
    assert str(tmp_path) not in json.dumps(row)
    assert str(tmp_path) not in (tmp_path / "duplicates" / "keep.json").read_text()


def test_help_of_dedup_says_what_it_does_by_default():
    text = " ".join(run("dedup", "--help")[1].split())
    for part in ("--against", "--method", "--radius", "--out", "--seed", "--batch-size", "--format", "--results",
                 "[default: autoencoder, exact]", "--keep-list duplicates/keep.json"):  # fmt: skip
        assert part in text


def repeated(*argv):
    return lambda t: [str(word).replace("TMP", str(t)) for word in (write_repeated(t), *argv)]


def broken_photographs(t):
    folder = write_folder(t / "f")
    (folder / "train" / "cat" / "0.png").write_bytes(b"no image")
    return [f"{folder}:train"]


def a_file_for_a_folder(t):
    (t / "file").write_text("there already")
    return [write_repeated(t), "--out", t / "file"]


def a_file_above_the_folder(t):
    (t / "file").write_text("there already")
    return [write_repeated(t), "--out", t / "file" / "d"]


BAD_DEDUP = {
    "nothing": (lambda t: [], "Missing argument 'DATA'"),
    "absent images": (typed("TMP/absent.npz"), r"absent\.npz': no such file or folder"),
    "a generator": (typed("gen:digits"), "'gen:digits' is not a data set"),
    "a missing split": (repeated("--against", "TMP/repeated.npz:test"), "no split 'test'"),
    "absent held-out images": (repeated("--against", "TMP/absent"), "absent': no such file or folder"),
    "held-out images of several splits": (repeated("--against", "digits"), "digits: has the splits train, test; say"),
    "the same images": (repeated("--against", "TMP/repeated.npz"), "--against .*: are the same images as .*repeated"),
    "the same split": (typed("digits", "--against", "digits:train"), "are the same images as digits"),
    "an unknown method": (repeated("--method", "dhash"), "--method 'dhash': unknown; did you mean 'phash'"),
    "a radius of equal codes": (repeated("--method", "exact", "--radius", "2"), "--radius 2: applies only to autoenc"),
    "a radius of the paper's": (repeated("--method", "paper", "--radius", "0"), "paper asks for equal codes"),
    "a negative radius": (repeated("--radius", "-1"), "'--radius'.* greater than or equal to 0"),
    "a radius beyond": (repeated("--radius", "100"), "radius 100: want from 0 to"),
    "a folder that is a file": (a_file_for_a_folder, "--out .*file: is a file; want a folder"),
    "results in a missing folder": (repeated("--results", "TMP/absent/r.csv"), "--results .*r.csv: the folder .* does"),
    "results in another table": (
        lambda t: [write_repeated(t), *foreign_results(t)[-2:]], r"r\.csv: is no file of results",
    ),
    "files that cannot be read": (broken_photographs, r"1 of 6 files cannot be read: 'train/cat/0\.png'"),
    "batches of none": (repeated("--batch-size", "0"), "'--batch-size'.* greater than or equal to 1"),
    "an unknown device": (repeated("--device", "gpuda"), "unknown device 'gpuda'"),
    "an option of fid": (repeated("--prdc-k", "3"), "No such option: --prdc-k"),
    "a radius beyond the second method's": (
        repeated("--method", "autoencoder", "--method", "phash", "--radius", "12"), "radius 12: want from 0 to",
    ),
    "a file above the folder": (a_file_above_the_folder, "--out .*d: the folder .*file does not exist"),
    "a folder in a missing one": (repeated("--out", "TMP/a/b"), "--out .*b: the folder .*a does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_DEDUP)
def test_bad_input_of_dedup_is_one_clear_line_and_exit_2(case, little, tmp_path, monkeypatch):
    make, message = BAD_DEDUP[case]
    monkeypatch.chdir(tmp_path)
    argv = [str(word) for word in make(tmp_path)]
    before = contents(tmp_path)
    fails(run("dedup", *argv, *(() if "--out" in argv else ("--out", tmp_path / "d"))), message)
    assert contents(tmp_path) == before


def test_perceptual_hashes_without_their_package(little, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    path = write_repeated(tmp_path)
    fails(run("dedup", path, "--method", "phash", "--out", tmp_path / "d"), r"pip install 'dcgan-eval\[dedup\]'")
    assert not (tmp_path / "d").exists()


def test_a_package_that_the_second_method_misses_is_said_before_the_first(little, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    argv = (write_repeated(tmp_path), "--method", "exact", "--method", "phash", "--out", tmp_path / "d")
    fails(run("dedup", *argv), "imagehash")
    assert not (tmp_path / "d").exists()


def test_a_folder_of_dedup_that_cannot_be_made(little, tmp_path):
    if not Path("/proc/self/task").is_dir():
        pytest.skip("no folder here that refuses files from everybody")
    result = run("dedup", write_repeated(tmp_path), "--method", "exact", "--out", "/proc/self/task/d")
    fails(result, "--out")
    assert result[0] == 2
