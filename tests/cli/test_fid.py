"""`dcgan-eval fid`: what it prints and writes, and every input that it refuses."""

import io
import json
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dcgan_eval import results
from dcgan_eval.models.checkpoint import load, save
from dcgan_eval.report.table import between
from dcgan_eval.results import COLUMNS
from tests.builders import fails, networks, run
from tests.cli.builders import (
    PIXELS,
    RANDOM,
    Judge,
    Trap,
    body,
    contents,
    corrupt_files,
    discriminator_alone,
    foreign_results,
    refuses,
    stats_file,
    typed,
    write_folder,
    write_npz,
)
from tests.rows import of_json

DIGITS = ("digits:train", "gen:digits", "--num-samples", "60")


def compared(*argv):
    """Rows by metric."""
    code, out, err = run("fid", "--format", "json", *argv)
    assert (code, err) == (0, "")
    found = {row["metric"]: row for row in json.loads(out)}
    assert len(found) == len(json.loads(out))
    return found


def distance(*argv):
    return compared(*argv)["Fréchet distance"]["value"]


@pytest.fixture(scope="module")
def compared_by_default(tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "results.csv"
    return compared("--results", out), out


def test_fid_by_default_compares_samples_of_the_embedded_generator_with_digits(compared_by_default):
    found, path = compared_by_default
    [row] = found.values()
    assert row.keys() == set(COLUMNS)
    assert (row["metric"], row["task"], row["data"]) == ("Fréchet distance", "fid", "digits:train")
    assert (row["model"], row["features"], row["dimensions"]) == ("gen:digits", "disc:digits@1x1", 96)
    assert (row["n"], row["n_reference"]) == (898, 898)
    assert "pooled to 1x1" in row["features_protocol"]
    assert 0.5 < row["value"] < 3
    assert row["spread"] is None
    noise = np.random.default_rng(0).integers(0, 256, (898, 8, 8), dtype=np.uint8)
    np.savez(path.with_name("noise.npz"), x=noise)
    assert distance("digits:train", path.with_name("noise.npz"), "--features", "disc:digits@1x1") > 10 * row["value"]


def test_help_of_fid_says_what_is_compared_by_default(compared_by_default):
    [row] = compared_by_default[0].values()
    assert f"{row['n']:,} samples" in " ".join(run("fid", "--help")[1].split())


def test_num_is_heeded_by_default():
    assert compared("--num-samples", "100")["Fréchet distance"]["n"] == 100


def test_fid_appends_to_out_and_prints_tables(compared_by_default):
    found, path = compared_by_default
    assert results.load(path) == of_json(found.values())
    before = path.read_bytes()
    metrics = ("--metrics", "fid,kid", "--kid-subset-size", "20", "--kid-subsets", "3")
    code, out, err = run("fid", *DIGITS, *PIXELS, *metrics, "--format", "csv", "--results", path)
    assert (code, err) == (0, "")
    assert path.read_bytes().startswith(before)
    printed = pd.read_csv(io.StringIO(out))
    assert list(printed) == COLUMNS
    assert printed.metric.tolist() == ["Fréchet distance", "kernel distance"]
    assert path.read_text().endswith(out.partition("\n")[2])
    code, out, err = run("fid", *DIGITS, *PIXELS, *metrics)
    assert (code, err) == (0, "")
    assert out.startswith("digits:train in the features pixels: 60 images evaluated\n\n")
    header, line = body(out)
    over = "over generated images, kernel distance"
    assert re.split("  +", header) == ["evaluated", "Fréchet distance", "kernel distance", over]
    ends = [between(low, high, "") for low, high in zip(printed.low, printed.high, strict=True)]
    assert printed.interval.tolist() == ["jackknife", "U-statistic"]
    shown = [f"{printed.value[0]:.6g} {ends[0]}", f"{printed.value[1]:.6g} ± {printed.spread[1]:.4g}", ends[1]]
    assert re.split("  +", line) == ["gen:digits", *shown]
    for part in ("pixels: pixels as x / 127.5 - 1", "60 images each, against 898 of digits:train, sha256 ",
                 "gen:digits: sha256 ",
                 "seed 0", "3 subsets of 20", "± is the standard deviation over 3 subsets"):  # fmt: skip
        assert part in out


def test_samples_depend_on_num_seed_and_repeats():
    row = compared(*DIGITS, *PIXELS)["Fréchet distance"]
    assert (row["n"], row["seed"]) == (60, 0)
    assert compared(*DIGITS, *PIXELS, "--batch-size", "7")["Fréchet distance"]["value"] == pytest.approx(row["value"])
    assert distance(*DIGITS, *PIXELS, "--seed", "0") == row["value"]
    singles = [row["value"], *(distance(*DIGITS, *PIXELS, "--seed", seed) for seed in (1, 2))]
    assert len(set(singles)) == 3
    several = compared(*DIGITS, *PIXELS, "--seeds", "3")["Fréchet distance"]
    assert several["value"] == pytest.approx(np.mean(singles), rel=1e-9)
    assert several["spread"] == pytest.approx(np.std(singles, ddof=1), rel=1e-9)
    assert (several["spread_n"], several["spread_of"]) == (3, "sample sets")
    assert several["model_sha256"] == row["model_sha256"] == load("digits").sha256
    assert distance("digits:train", "gen:digits", "--num-samples", "61", *PIXELS) != row["value"]


def test_options_reach_the_metrics(tmp_path):
    torch.jit.save(torch.jit.script(Judge()), tmp_path / "judge.pt")
    found = compared(
        *DIGITS, *PIXELS, "--metrics", "kid,prdc,fid-infinity,is", "--kid-subsets", "3", "--kid-subset-size", "50",
        "--prdc-k", "4",
        "--is-splits", "2", "--seed", "5", "--classifier", tmp_path / "judge.pt", "--cache", tmp_path / "cache",
        "--num-samples", "320",
    )  # fmt: skip
    assert list(found) == [
        "kernel distance", "precision", "recall", "density", "coverage", "Fréchet distance∞", "classifier score",
    ]  # fmt: skip
    assert "3 subsets of 50, seed 5" in found["kernel distance"]["method"]
    assert "balls to the 4-th nearest" in found["recall"]["method"]
    assert "2 splits, shuffled with seed 5" in found["classifier score"]["method"]
    assert (found["classifier score"]["features"], found["recall"]["features"]) == ("module:judge", "pixels")
    assert 1 < found["classifier score"]["value"] < 10
    assert {row["seed"] for row in found.values()} == {5}
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 3


def test_features_that_are_fitted_to_either_side(tmp_path):
    write_npz(tmp_path / "a.npz", n=30, shape=(9, 10, 3))
    found = compared(f"{tmp_path / 'a.npz'}:train", *DIGITS[1:], "--features", "disc:digits@1x1")["Fréchet distance"]
    assert found["features_protocol"].endswith(
        "; a:train: RGB made grey by its luma; 9x10 resized to 8x8, bilinear, antialiased"
    )
    assert (found["data"], found["n_reference"], found["model"], found["n"]) == ("a:train", 30, "gen:digits", 60)
    for features in ("random:digits@1x1", "kmeans:5", "disc:digits@1x1"):
        row = compared(*DIGITS, "--features", features)["Fréchet distance"]
        assert row["features"] == features


def test_the_command_of_fid_is_kept(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz")
    monkeypatch.setenv("DATA", str(tmp_path))
    row = compared(f"{tmp_path / 'a.npz'}:train", f"{tmp_path / 'a.npz'}:test", *PIXELS)["Fréchet distance"]
    assert row["command"] == "dcgan-eval fid --format json $DATA/a.npz:train $DATA/a.npz:test --features pixels"
    assert str(tmp_path) not in json.dumps(row)


def test_corrupt_files_are_left_out_if_asked(tmp_path):
    folder = write_folder(tmp_path / "f")
    (folder / "test" / "dog" / "1.png").write_bytes(b"")
    row = compared("digits:train", f"{folder}:test", *PIXELS, "--skip-corrupt")["Fréchet distance"]
    assert (row["n"], row["n_reference"]) == (5, 898)
    assert "f:test: 1 of 6 files cannot be read: 'test/dog/1.png' (" in row["features_protocol"]


@pytest.mark.parametrize("features", ["kmeans:3", "random:digits@1x1"])
@pytest.mark.parametrize("case", ["corrupt", "of several sizes"])
def test_so_they_are_where_features_are_fitted_to_the_reals(tmp_path, features, case):
    folder = write_folder(tmp_path / "f", size=(9, 9) if features == "kmeans:3" else (8, 8))
    path = folder / "test" / "dog" / "1.png"
    if case == "corrupt":
        path.write_bytes(b"")
    else:
        Image.new("L", (12, 12)).save(path)
    row = compared(f"{folder}:test", *DIGITS[1:], "--features", features, "--skip-corrupt")["Fréchet distance"]
    assert row["n_reference"] == (5 if case == "corrupt" else 6)


def keep(path, *argv):
    code, out, err = run("fid", *argv, "--save-stats", path)
    assert (code, out) == (0, ""), err
    assert err == f"{path}: statistics of {argv[0]}\n"
    return path


def test_statistics_are_kept_and_used_again(tmp_path):
    expected = compared(*DIGITS, *PIXELS)["Fréchet distance"]
    alone = keep(tmp_path / "alone.npz", "digits:train", *PIXELS)
    code, out, err = run("fid", *DIGITS, *PIXELS, "--format", "json", "--save-stats", tmp_path / "beside.npz")
    assert (code, err) == (0, f"{tmp_path / 'beside.npz'}: statistics of digits:train\n")
    assert json.loads(out)[0]["value"] == expected["value"]
    for path in (alone, tmp_path / "beside.npz"):
        row = compared(path, *DIGITS[1:], *PIXELS)["Fréchet distance"]
        assert row["value"] == pytest.approx(expected["value"], rel=1e-9)
        for column in ("data", "data_sha256", "n_reference", "features", "features_sha256", "method"):
            assert row[column] == expected[column]
    judged = compared("digits:train", keep(tmp_path / "gen.npz", "gen:digits", "--num-samples", "60", *PIXELS), *PIXELS)
    assert judged["Fréchet distance"]["value"] == pytest.approx(expected["value"], rel=1e-9)
    assert (judged["Fréchet distance"]["model"], judged["Fréchet distance"]["n"]) == ("gen:digits", 60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.npz", "beside.npz", "gen.npz"]
    both = compared(alone, *DIGITS[1:], *PIXELS, "--metrics", "fid,fid-infinity", "--num-samples", "320")
    assert set(both) == {"Fréchet distance", "Fréchet distance∞"}


def test_inception_with_weights_of_ones_own(weights, photographs, tmp_path):
    for name, start in (("real", 0), ("fake", 600)):
        np.savez(tmp_path / f"{name}.npz", x=photographs(6, start=start).permute(0, 2, 3, 1).numpy())
    argv = (tmp_path / "real.npz", tmp_path / "fake.npz", "--weights", weights, "--metrics", "is,kid,prdc",
            "--prdc-k", "2",
            "--is-splits", "2", "--kid-subset-size", "4", "--kid-subsets", "2")  # fmt: skip
    plain, clean = compared(*argv), compared(*argv, "--resize", "clean")
    for found, how in ((plain, "bilinear as TensorFlow 1"), (clean, "bicubic, antialiased, not rounded (clean-fid)")):
        assert list(found) == ["classifier score", "kernel distance", "precision", "recall", "density", "coverage"]
        for row in found.values():
            assert (row["features"], row["n"], row["n_reference"]) == ("inception-like", 6, 6)
            assert how in row["features_protocol"]
    assert plain["kernel distance"]["dimensions"] == 2048
    assert plain["kernel distance"]["value"] != clean["kernel distance"]["value"]


def test_the_published_weights_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = "weights-inception-2015-12-05-6726825d.pth"
    for argv in (DIGITS, (*DIGITS, "--features", "inception"), ("digits:train", "--save-stats", tmp_path / "s.npz")):
        result = run("fid", *argv)
        fails(result, rf"inception: no weights; download https://\S+/{file} and put it at {tmp_path}/\S+/{file}$")
    assert contents(tmp_path) == {}


def against(*argv):
    """Digits beside something."""
    return typed("digits:train", *argv)


def one_image(t):
    np.savez(t / "a.npz", x=np.zeros((1, 8, 8), np.uint8))
    return ["digits:train", t / "a.npz", *PIXELS]


def generator_for_features(t):
    save(t / "g.safetensors", generator=networks()[0])
    return [*DIGITS, "--features", f"disc:{t / 'g.safetensors'}"]


def stats_of(t, *argv):
    code, _, err = run("fid", "digits:train", *argv, "--save-stats", t / "s.npz")
    assert code == 0, err
    return t / "s.npz"


def truncated_stats(t):
    path = stats_file(t)
    path.write_bytes(path.read_bytes()[:-40])
    return [path, *DIGITS[1:], *PIXELS]


def damaged_stats(t):
    path = stats_file(t)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2")] = 0
    path.write_bytes(content)
    return [path, *DIGITS[1:], *PIXELS]


def no_program(t):
    (t / "net.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    return [*DIGITS, "--features", f"module:{t / 'net.pt'}"]


def no_weights(t):
    (t / "w.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    return [*DIGITS, "--weights", t / "w.pth"]


def kind_of_file(mode):
    return lambda t: ["digits:train", f"{write_folder(t / 'f', mode=mode)}:test", *PIXELS]


def infinite_stats(t):
    return [stats_file(t, sigma=np.where(np.eye(64) > 0, np.inf, 0)), *DIGITS[1:], *PIXELS]


BAD_FID = {
    # metrics
    "an unknown metric": (typed(*DIGITS, "--metrics", "fdi"), "--metrics 'fdi': unknown; did you mean 'fid'"),
    "capital letters": (typed(*DIGITS, "--metrics", "FID"), "--metrics 'FID': unknown"),
    "a metric that is none": (typed(*DIGITS, "--metrics", "fid, kdi"), "--metrics 'kdi': unknown; did you mean 'kid'"),
    "no metric": (typed(*DIGITS, "--metrics", ""), "--metrics '': unknown"),
    "a metric twice": (typed(*DIGITS, "--metrics", "fid,fid"), "'fid,fid': name each once"),
    "a subset too large": (
        typed(*DIGITS, *PIXELS, "--metrics", "kid", "--kid-subset-size", "61"),
        "gen:digits: 60 images are too few for kid: .* the largest possible --kid-subset-size is 60$",
    ),
    "a subset too large for reals": (
        typed("digits:train", "gen:digits", *PIXELS, "--metrics", "kid"),
        "digits:train: 898 images are too few for kid: .* the largest possible --kid-subset-size is 898$",
    ),
    "too many neighbours": (
        typed(*DIGITS, *PIXELS, "--metrics", "prdc", "--prdc-k", "60"), "the largest possible --prdc-k is 59$",
    ),
    "too few to extrapolate": (
        against("gen:digits", "--num-samples", "19", *PIXELS, "--metrics", "fid-infinity"), "the extrapolation needs",
    ),
    "no class probabilities": (
        typed(*DIGITS, *PIXELS, "--metrics", "fid,is"), "'is' needs class probabilities, which pixels has not",
    ),
    # what is compared
    "no fake": (against(*PIXELS), "FAKE is missing: name images to evaluate, or --save-stats"),
    "three sets": (typed(*DIGITS, "digits:test"), "unexpected extra argument"),
    "a set with several splits": (typed("digits", "gen:digits", *PIXELS), "digits: has the splits train, test; say"),
    "an unknown split": (against("digits:tset", *PIXELS), "no split 'tset'; did you mean 'test'"),
    "a mistyped set": (against("cifar-1O", *PIXELS), "nor a data set; did you mean 'cifar-10'"),
    "no such file": (against("TMP/absent.npz", *PIXELS), r"absent\.npz': no such file or folder"),
    "no such checkpoint": (against("gen:TMP/absent", *PIXELS), "absent: no such checkpoint"),
    "no checkpoint": (against("gen:", *PIXELS), "name a checkpoint"),
    "a discriminator to sample from": (discriminator_alone, r"d\.safetensors: holds a discriminator only; samples"),
    "one image": (one_image, "a: a covariance needs at least two images, not 1"),
    "one sample": (against("gen:digits", "--num-samples", "1", *PIXELS), "'--num-samples'.*than or equal to 2"),
    "corrupt files": (
        corrupt_files,
        r"f:test: 4 of 6 files cannot be read: 'test/cat/0\.png' \(.*\), 'test/cat/2\.png' \(.*\), 'test/dog/0\.png' "
        r"\(.*\), …; replace them, or leave them out with --skip-corrupt$",
    ),
    "too few whole files": (
        lambda t: [*corrupt_files(t), "--skip-corrupt", "--metrics", "fid,prdc"],
        "f:test: 2 images are too few for prdc: the 5-th neighbour needs 6; the largest possible --prdc-k is 1$",
    ),
    "16-bit images": (kind_of_file("I;16"), "16 bits"),
    "transparent images": (kind_of_file("RGBA"), "transparent"),
    "repeats of a set": (
        against("digits:test", *PIXELS, "--seeds", "2"), "--seeds 2: digits:test is one set of images; only a gen:",
    ),
    # features
    "features of another kind": (typed(*DIGITS, "--features", "inceptoin"), "did you mean 'inception'"),
    "inception with an argument": (typed(*DIGITS, "--features", "inception:x"), "'inception:x' is not one of"),
    "a module without one": (typed(*DIGITS, "--features", "module:"), "'module:' is not one of"),
    "an absent module": (typed(*DIGITS, "--features", "module:TMP/net.pt"), r"module:\S+/net\.pt: No such file"),
    "a module that is a pickle": (no_program, r"net\.pt: not TorchScript"),
    "a generator for features": (generator_for_features, "holds a generator only; features come from a discriminator"),
    "resize with disc": (
        typed(*DIGITS, "--features", "disc:digits@1x1", "--resize", "clean"),
        "--resize clean: applies only to inception; the features are disc:",
    ),
    "resize by default": (typed("--resize", "clean"), "--resize clean: applies only to inception;"),
    "weights with pixels": (typed(*DIGITS, *PIXELS, "--weights", "w.pth"), "--weights .*: applies only to inception"),
    "batchnorm with pixels": (typed(*DIGITS, *PIXELS, "--batchnorm", "stored"), "--batchnorm stored: applies only to"),
    "precision with pixels": (
        typed(*DIGITS, *PIXELS, "--precision", "bfloat16"), "--precision bfloat16: applies only to disc:",
    ),
    "a mistyped resize": (typed(*DIGITS, "--resize", "lanczos"), "'--resize'.*'clean'"),
    "absent weights": (
        typed(*DIGITS, "--weights", "TMP/w.pth"), r"no weights; download https://\S+\.pth and put it at /\S+/w\.pth$",
    ),
    "weights that are a pickle": (no_weights, r"w\.pth: damaged"),
    "an absent classifier": (
        typed(*DIGITS, *PIXELS, "--metrics", "is", "--classifier", "TMP/judge.pt"), r"judge\.pt: No such file",
    ),
    # statistics
    "both statistics": (
        lambda t: [stats_file(t), t / "s.npz", *PIXELS], "REAL and FAKE are both statistics: one of them must be",
    ),
    "statistics to keep": (
        lambda t: [stats_file(t), *DIGITS[1:], *PIXELS, "--save-stats", t / "t.npz"], r"s\.npz holds statistics al",
    ),
    "statistics alone": (
        lambda t: [stats_file(t), *PIXELS, "--save-stats", t / "t.npz"], r"s\.npz holds statistics al",
    ),
    "statistics of other features": (
        lambda t: [stats_of(t, *PIXELS), *DIGITS[1:], "--features", "disc:digits@1x1"], "statistics of 64 dimens",
    ),
    "statistics of what is fitted": (
        typed("digits:train", *RANDOM, "--save-stats", "TMP/s.npz"), "--save-stats: random:digits@1x1 is fitted",
    ),
    "statistics of other dimensions": (
        lambda t: [stats_file(t, d=63), *DIGITS[1:], *PIXELS], "s: statistics of 63 dimensions, but pixels has 64",
    ),
    "statistics for kid": (
        lambda t: [stats_file(t), *DIGITS[1:], *PIXELS, "--metrics", "fid,kid,prdc", "--kid-subset-size", "9"],
        "s: holds statistics only, but kid, prdc needs its images",
    ),
    "repeats of statistics": (
        lambda t: ["digits:train", stats_file(t), *PIXELS, "--seeds", "2"], r"s\.npz is one set of images",
    ),
    "truncated statistics": (truncated_stats, r"s\.npz cannot be read"),
    "NaN in statistics": (
        lambda t: [stats_file(t, mu=np.full(64, np.nan)), *DIGITS[1:], *PIXELS], r"s\.npz: .* not finite",
    ),
    "a negative variance": (
        lambda t: [stats_file(t, sigma=-np.eye(64)), *DIGITS[1:], *PIXELS], "fid of gen:digits and s: not a covariance",
    ),
    "pickled statistics": (
        lambda t: [stats_file(t, mu=np.array([Trap()] * 64, object)), *DIGITS[1:], *PIXELS], "Object arrays",
    ),
    # numbers
    "no subset": (typed(*DIGITS, "--kid-subsets", "0"), "'--kid-subsets'.* greater than or equal to 1"),
    "a subset of one": (typed(*DIGITS, "--kid-subset-size", "1"), "'--kid-subset-size'.* greater than or equal to 2"),
    "no split": (typed(*DIGITS, "--is-splits", "0"), "'--is-splits'"),
    "no neighbour": (typed(*DIGITS, "--prdc-k", "0"), "'--prdc-k'"),
    "no repeat": (typed(*DIGITS, "--seeds", "0"), "'--seeds'"),
    "no images at a time": (typed(*DIGITS, "--batch-size", "0"), "'--batch-size'"),
    "a seed below zero": (typed(*DIGITS, "--seed", "-1"), "'--seed'"),
    "a mistyped device": (typed(*DIGITS, "--device", "gpuda"), "unknown device 'gpuda'; did you mean 'cuda'"),
    "a mistyped format": (typed(*DIGITS, "--format", "jsno"), "'--format'.*'json'"),
    "a mistyped option": (typed(*DIGITS, "--metric", "fid"), "No such option: --metric .*--metrics"),
    # where results go
    "--results in a missing folder": (typed(*DIGITS, *PIXELS, "--results", "TMP/absent/r.csv"), "the folder .*absent"),
    "--results another table": (
        lambda t: [*DIGITS, *PIXELS, *foreign_results(t)[-2:]], r"r\.csv: is no file of results: its first line",
    ),
    "--save-stats in a missing folder": (
        typed(*DIGITS, *PIXELS, "--save-stats", "TMP/absent/s.npz"), "--save-stats .*: the folder .*absent does not",
    ),
    "--save-stats a folder": (
        typed("digits:train", *PIXELS, "--save-stats", "TMP"), "want the name of an .npz file",
    ),
    "a file for the cache": (
        lambda t: [*DIGITS, *PIXELS, "--cache", write_npz(t / "a.npz")], "the cache of features cannot be used",
    ),
    "statistics with a damaged directory": (damaged_stats, r"s\.npz"),
    "infinite statistics": (infinite_stats, "not finite"),
    "a file whose name is too long": (
        against("x" * 5000 + ".npz", *PIXELS), "x"),
    "a checkpoint whose name is too long": (
        against("gen:" + "x" * 5000, *PIXELS), "x"),
    "a subset too large for both": (
        typed(*DIGITS, *PIXELS, "--metrics", "kid"), "the largest possible --kid-subset-size is 60$"),
    "repeats of nothing": (
        against(*PIXELS, "--save-stats", "TMP/s.npz", "--seeds", "2"), "--seeds 2: (?!None)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FID)
def test_bad_input_of_fid_is_one_clear_line_and_exit_2(case, tmp_path, monkeypatch):
    refuses("fid", *BAD_FID[case], tmp_path, monkeypatch)


def test_results_of_fid_survive_a_bad_run(tmp_path):
    path = tmp_path / "r.csv"
    compared(*DIGITS, *PIXELS, "--results", path)
    stats = keep(tmp_path / "s.npz", "digits:train", *PIXELS)
    before = contents(tmp_path)
    (tmp_path / "f").mkdir()
    broken = [str(word) for word in corrupt_files(tmp_path / "f")]
    fails(run("fid", broken[1], broken[0], *PIXELS, "--results", path, "--save-stats", stats), "cannot be read")
    assert {name: content for name, content in contents(tmp_path).items() if name in before} == before
    assert not list(tmp_path.glob(".*"))


def test_the_authors_samples_beside_photographs(data):
    prefix = data / "authors-svhn" / "200"
    argv = ("--features", f"disc:{prefix}@1x1")
    drawn = compared(f"{data / 'svhn-mini.npz'}:train", f"gen:{prefix}", "--num-samples", "128", *argv)[
        "Fréchet distance"
    ]
    assert (drawn["model"], drawn["features"], drawn["dimensions"]) == (
        "gen:authors-200 (BatchNorm of each 128)",
        "disc:authors-200@1x1",
        448,
    )
    assert "BatchNorm reestimated on 554 of svhn-mini:train" in drawn["features_protocol"]
    assert str(data) not in drawn["model"] + drawn["features"] + drawn["features_protocol"]
    other = compared(f"{data / 'svhn-mini.npz'}:train", f"{data / 'svhn-mini.npz'}:test", *argv)["Fréchet distance"]
    assert 0 < other["value"] < drawn["value"]


def test_a_plan_says_how_many_images_a_difference_needs():
    code, _, err = run("fid", *DIGITS, *PIXELS, "--plan", "1")
    assert code == 0
    found = re.search(r"Fréchet distance: to see a difference of 1, two generated sets need about ([\d,]+) images", err)
    assert found is not None
    half = re.search(
        r"to see a difference of 0.5, .*? about ([\d,]+) images", run("fid", *DIGITS, *PIXELS, "--plan", "0.5")[2]
    )
    assert half is not None
    few, many = (int(each[1].replace(",", "")) for each in (found, half))
    assert many == pytest.approx(4 * few, abs=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--plan", "0"), "--plan 0: want a difference above 0"),
        (("--plan", "nan"), "--plan nan: want a difference above 0"),
        (("--plan", "1", "--metrics", "fid,prdc"), "names 2; name one"),
        (("--plan", "1", "--metrics", "prdc"), "prdc stands for four"),
        (("--plan", "1", "--metrics", "fid-infinity"), "draw them by --seeds"),
    ],
)
def test_what_cannot_be_planned(options, message):
    code, out, err = run("fid", *DIGITS, *PIXELS, *options)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
