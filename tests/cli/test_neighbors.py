"""`dcgan-eval neighbors`: what it prints and writes, and every input that it refuses."""

import csv
import io
import json
import os
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from dcgan_eval import results
from dcgan_eval.results import COLUMNS
from tests.builders import run
from tests.cli.builders import (
    PIXELS,
    RANDOM,
    Judge,
    body,
    corrupt_files,
    discriminator_alone,
    foreign_results,
    refuses,
    stats_file,
    typed,
    write_folder,
)
from tests.rows import called, of_json

COPIES = ("TMP/copies.npz", "TMP/train.npz", "--test", "TMP/test.npz")


def write_copies(t):
    """Digits to train on, others, and fifty of the first over and over, the last hundred as in a mirror."""
    x = (load_digits().images * 15).astype(np.uint8)[np.random.default_rng(0).permutation(1797)]
    copies = x[np.arange(300) % 50]
    copies[200:] = copies[200:, :, ::-1]
    for name, images in {"train": x[:900], "test": x[900:1300], "real": x[1300:1700], "copies": copies}.items():
        np.savez(t / f"{name}.npz", x=images)
    return t


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    return write_copies(tmp_path_factory.mktemp("copies"))


def in_folder(t, argv):
    return [str(word).replace("TMP", str(t)) for word in argv]


def judged(*argv):
    """Values by features, whether with mirror images, and metric; and the rows."""
    code, out, err = run("neighbors", "--format", "json", *argv)
    assert (code, err) == (0, "")
    found = json.loads(out)
    values = {(row["features"], row["condition"].startswith("with "), called(row)): row["value"] for row in found}
    assert len(values) == len(found)
    return values, found


def probabilities(values):
    return {key: value for key, value in values.items() if key[2].endswith(", p")}


@pytest.fixture(scope="module")
def judged_by_default(tmp_path_factory):
    out = tmp_path_factory.mktemp("judged") / "results.csv"
    return judged("--results", out), out


def test_neighbors_by_default_judges_samples_of_the_embedded_generator(judged_by_default):
    (values, found), _ = judged_by_default
    [covered] = [row for row in found if row["metric"].startswith("held-out to")]
    assert (covered["metric"], covered["n"], covered["n_reference"]) == ("held-out to 899 samples", 899, 899)
    assert (covered["features"], covered["condition"].partition(";")[0]) == ("pixels", "without mirror images")
    found = [row for row in found if row is not covered]
    assert len(found) == 2 * (16 + 9)
    assert {features for features, _, _ in values} == {"pixels", "disc:digits@1x1"}
    for row in found:
        assert row.keys() == set(COLUMNS)
        assert (row["task"], row["data"], row["model"]) == ("neighbors", "digits:train digits:test", "gen:digits")
        assert (row["n"], row["n_reference"], row["seed"]) == (899, 898, 0)
        assert len(row["data_sha256"].split()) == 2
    # it generalises, and so do held-out images
    assert len(probabilities(values)) == 2 * (5 + 3)
    assert min(probabilities(values).values()) > 0.01
    assert values["pixels", False, "nearest distance"] > values["pixels", True, "nearest distance"] > 2
    assert "pooled to 1x1" in found[-1]["features_protocol"]


def test_help_of_neighbors_says_what_is_judged_by_default(judged_by_default):
    (_, [row, *_]), _ = judged_by_default
    text = " ".join(run("neighbors", "--help")[1].split())
    assert f"{row['n']} samples of the digits generator" in text
    for option in ("--test", "--features", "--num-samples", "--picture", "--nearest", "--seed", "--cache", "--results"):
        assert option in text


def test_neighbors_append_to_out(judged_by_default, copies):
    (_, found), path = judged_by_default
    assert results.load(path) == of_json(found)
    before = path.read_bytes()
    code, out, err = run("neighbors", *in_folder(copies, COPIES), "--format", "csv", "--results", path)
    assert (code, err) == (0, "")
    assert list(pd.read_csv(io.StringIO(out))) == COLUMNS
    assert path.read_bytes().startswith(before)
    assert path.read_text().endswith(out.partition("\n")[2])


def test_num_is_heeded_by_default_of_neighbors():
    _, found = judged("--num-samples", "120", "--features", "pixels")
    assert {row["n"] for row in found if not row["metric"].startswith("held-out to")} == {120}


def test_a_generator_that_copies_is_called_so(copies):
    argv = (*in_folder(copies, COPIES), *PIXELS, *RANDOM)
    values, _ = judged(*argv)
    assert len(probabilities(values)) == 2 * (5 + 3)
    assert max(probabilities(values).values()) < 0.01
    counts = [
        values[features, flips, "suspected copies"] for features in ("pixels", "random:digits@1x1") for flips in (0, 1)
    ]
    assert counts == pytest.approx([200, 300, 200, 300], abs=9)  # of 300, a third of them mirrored
    code, out, err = run("neighbors", *argv)
    assert (code, err) == (0, "")
    assert out.startswith("Does copies copy train?\n\n")
    lines = [line for line in body(out) if "held-out to 300 samples" not in line]
    assert lines[0].split() == ["features", "metric", "value", "held-out", "p", "p,", "adjusted", "verdict"]
    assert len(lines) == 1 + 2 * (6 + 3)
    verdicts = [line.split()[-1] for line in lines[1:] if "Fréchet" not in line]  # which has no p of its own
    assert set(verdicts) == {"nearer"}
    distance, held_out = (values["pixels", False, f"nearest distance{of}"] for of in ("", ", held-out"))
    assert re.search(rf"nearest distance +{distance:.5g} +{held_out:.5g} ", lines[1])
    for part in ("pixels: pixels as x / 127.5 - 1", "300 samples of copies, sha256 ", "; 900 training images",
                 "training and held-out images: train test, sha256 ", "verdict: where it is below 0.01",
                 "C_T: data-copying test (Meehan et al. 2020), 3 of 3 cells, seed 0"):  # fmt: skip
        assert part in out


def test_real_images_are_not_called_copies(copies):
    argv = in_folder(copies, ("TMP/real.npz", *COPIES[1:]))
    assert min(probabilities(judged(*argv, *PIXELS, *RANDOM)[0]).values()) > 0.01
    lines = body(run("neighbors", *argv)[1])
    assert len(lines) == 1 + 6 + 3 + 1  # and how near held-out images are to samples
    assert not any(line.endswith("copies") for line in lines)


def test_without_test_images_there_is_no_verdict(copies):
    argv = in_folder(copies, COPIES[:2])
    values, found = judged(*argv)
    assert probabilities(values) == {}
    assert {row["data"] for row in found} == {"train"}
    header, *lines = body(run("neighbors", *argv)[1])
    assert header.split() == ["features", "metric", "value"]
    assert len(lines) == 4


def test_samples_to_judge_depend_on_num_and_seed(copies):
    argv = ("gen:digits", *in_folder(copies, COPIES[1:]))
    (values, found), (same, _), (other, _) = (
        judged(*argv, "--num-samples", "150", "--seed", seed) for seed in (0, 0, 1)
    )
    judging = [row for row in found if not row["metric"].startswith("held-out to")]
    assert {(row["model"], row["n"], row["seed"]) for row in judging} == {("gen:digits", 150, 0)}
    assert values == same
    assert values["pixels", False, "nearest distance"] != other["pixels", False, "nearest distance"]
    held_out = "nearest distance, held-out"
    assert values["pixels", False, held_out] == other["pixels", False, held_out]


def test_nearest_lists_every_sample_by_every_features(copies, tmp_path):
    path = tmp_path / "nearest.csv"
    judged(*in_folder(copies, COPIES), *PIXELS, *RANDOM, "--nearest", path)
    found = pd.read_csv(path)
    assert list(found) == ["features", "mirrored", "sample", "nearest", "distance", "p"]
    assert set(found.p) == {float(f"{1 / 401:.4g}")}  # no held-out image is as near as a copy
    assert found.features.tolist() == ["pixels"] * 300 + ["random:digits@1x1"] * 300
    assert found["sample"].tolist() == [*range(300), *range(300)]
    train, fake = (np.load(copies / f"{name}.npz")["x"] for name in ("train", "copies"))
    assert (found.distance == 0).all()
    for row in found.itertuples():
        image = train[row.nearest][:, ::-1] if row.mirrored else train[row.nearest]
        np.testing.assert_array_equal(image, fake[row.sample])
    pixels = found[:300]
    assert pixels.mirrored.tolist() == [0] * 200 + [1] * 100
    assert pixels.nearest.tolist() == [i % 50 for i in range(300)]
    assert os.listdir(tmp_path) == ["nearest.csv"]


def test_distances_in_nearest_are_the_numbers(copies, tmp_path):
    path = tmp_path / "nearest.csv"
    values, _ = judged(*in_folder(copies, ("TMP/real.npz", *COPIES[1:])), "--nearest", path)
    found = pd.read_csv(path)
    assert found.distance.mean() == pytest.approx(values["pixels", True, "nearest distance"], rel=1e-8)
    assert values["pixels", False, "nearest distance"] > values["pixels", True, "nearest distance"] > 0


def test_nearest_of_features_with_a_comma(copies, tmp_path):
    torch.jit.save(torch.jit.script(Judge()), tmp_path / "a,b.pt")
    judged(*in_folder(copies, COPIES), "--features", f"module:{tmp_path / 'a,b.pt'}", "--nearest", tmp_path / "n.csv")
    lines = list(csv.reader((tmp_path / "n.csv").read_text().splitlines()))
    assert {line[0] for line in lines} == {"features", "module:a,b"}


def test_the_picture_opens(copies, tmp_path):
    argv = in_folder(copies, COPIES)
    judged(*argv, *PIXELS, *RANDOM, "--picture", tmp_path / "p.png")
    judged(*argv, *RANDOM, *PIXELS, "--picture", tmp_path / "q.png")
    for name in "pq":
        with Image.open(tmp_path / f"{name}.png") as image:
            image.load()
            assert image.format == "PNG"
            assert image.size == pytest.approx((1050, 1680), abs=2)
    # the first features decide
    assert (tmp_path / "p.png").read_bytes() != (tmp_path / "q.png").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["p.png", "q.png"]


def test_samples_of_another_size_are_fitted_to_training_images(copies, tmp_path):
    large = np.load(copies / "real.npz")["x"].repeat(2, 1).repeat(3, 2)
    np.savez(tmp_path / "large.npz", x=np.stack([large] * 3, 3))
    _, found = judged(tmp_path / "large.npz", *in_folder(copies, COPIES[1:]), "--picture", tmp_path / "p.png")
    said = "; large: RGB made grey by its luma; 16x24 resized to 8x8, bilinear, antialiased"
    assert all(row["features_protocol"].endswith(said) for row in found)
    assert (tmp_path / "p.png").exists()


def test_the_cache_and_batches_change_no_verdict(copies, tmp_path):
    argv = (*in_folder(copies, COPIES), *RANDOM)
    expected, _ = judged(*argv)
    for options in (("--cache", tmp_path), ("--cache", tmp_path), ("--batch-size", "37")):
        assert judged(*argv, *options)[0] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert len(list(tmp_path.glob("*.npy"))) == 5


def test_the_command_of_neighbors_is_kept(copies, monkeypatch):
    monkeypatch.setenv("DATA", str(copies))
    _, found = judged(*in_folder(copies, COPIES))
    expected = "dcgan-eval neighbors --format json $DATA/copies.npz $DATA/train.npz --test $DATA/test.npz"
    assert {row["command"] for row in found} == {expected}
    assert str(copies) not in json.dumps(found)


def test_mifid_needs_inception(copies, weights, tmp_path):
    for name, stop in (("train", 8), ("copies", 4)):
        np.savez(tmp_path / f"{name}.npz", x=np.load(copies / f"{name}.npz")["x"][:stop])
    argv = in_folder(tmp_path, COPIES[:2])
    values, [row, *_] = judged(*argv, "--features", "inception", "--weights", weights)
    # weights of one's own make no MiFID
    assert row["features"] == "inception-like"
    assert "grey replicated to RGB" in row["features_protocol"]
    metrics = {metric for _, _, metric in values}
    assert metrics == {"nearest distance", "cosine distance", "memorisation-informed Fréchet distance"}
    assert values["inception-like", False, "nearest distance"] == pytest.approx(0, abs=1e-4)


def few(t):
    np.savez(write_copies(t) / "few.npz", x=np.zeros((5, 8, 8), np.uint8))
    return [t / "copies.npz", t / "few.npz"]


def one_sample(t):
    np.savez(write_copies(t) / "one.npz", x=np.zeros((1, 8, 8), np.uint8))
    return [t / "one.npz", t / "train.npz"]


def neighbors(*argv):
    return lambda t: in_folder(write_copies(t), argv)


def stats_instead(where):
    def make(t):
        argv = in_folder(write_copies(t), COPIES)
        argv[where] = stats_file(t)
        return argv

    return make


def corrupt_training_images(t):
    return ["gen:digits", corrupt_files(t)[1], "--num-samples", "60"]


def several_sizes(t):
    folder = write_folder(t / "f")
    Image.new("L", (12, 12)).save(folder / "train" / "dog" / "1.png")
    return ["gen:digits", f"{folder}:train", "--num-samples", "60"]


BAD_NEIGHBORS = {
    "no training images": (neighbors("TMP/copies.npz"), "TRAIN is missing: name the images that the"),
    "no training images for a generator": (typed("gen:digits", "--test", "digits:test"), "TRAIN is missing"),
    "as many training images as neighbours": (few, "few: 5 images; the 5 nearest need more"),
    "a third set": (neighbors(*COPIES[:2], "TMP/test.npz"), "unexpected extra argument"),
    "statistics of samples": (stats_instead(0), r"s\.npz: holds statistics only; neighbours are sought among images"),
    "statistics of training images": (stats_instead(1), r"s\.npz: holds statistics only; neighbours are sought among"),
    "statistics of test images": (stats_instead(3), r"s\.npz: holds statistics only; neighbours are sought among im"),
    "absent samples": (typed("TMP/absent.npz", "digits:train"), r"absent\.npz': no such file or folder"),
    "absent training images": (typed("gen:digits", "TMP/absent"), "absent': no such file or folder"),
    "absent test images": (neighbors(*COPIES[:2], "--test", "TMP/absent.zip"), r"absent\.zip': no such file or folder"),
    "an absent checkpoint": (typed("gen:TMP/absent", "digits:train"), "absent: no such checkpoint"),
    "a discriminator for samples": (
        lambda t: [discriminator_alone(t)[1], "digits:train"], r"d\.safetensors: holds a discriminator only; samples",
    ),
    "several splits": (typed("gen:digits", "digits"), "digits: has the splits train, test; say which"),
    "too few test images": (
        lambda t: ["gen:digits", one_sample(t)[1], "--test", t / "one.npz"], "1 images are too few; want at least 20",
    ),
    "corrupt training images": (corrupt_training_images, r"'test/cat/0\.png'.* cannot be read"),
    "training images of several sizes": (several_sizes, r"1\.png"),
    "a picture in a missing folder": (
        neighbors(*COPIES, "--picture", "TMP/absent/p.png"), "--picture .*p.png: the folder .*absent does not exist",
    ),
    "nearest in a missing folder": (
        neighbors(*COPIES, "--nearest", "TMP/absent/n.csv"), "--nearest .*n.csv: the folder .*absent does not exist",
    ),
    "results in a missing folder": (
        neighbors(*COPIES, "--results", "TMP/absent/r.csv"), "--results .*r.csv: the folder .*absent does not exist",
    ),
    "results in another table": (
        lambda t: [*in_folder(write_copies(t), COPIES), *foreign_results(t)[-2:]], r"r\.csv: is no file of results",
    ),
    "features of another kind": (neighbors(*COPIES, "--features", "pixles"), "did you mean 'pixels'"),
    "one right and one wrong": (neighbors(*COPIES, *PIXELS, "--features", "kmeans:0"), "'kmeans:0': the number of"),
    "no weights": (
        neighbors(*COPIES, "--features", "inception", "--weights", "TMP/w.pth"), r"no weights; download https://\S+\.pth",
    ),
    "one sample drawn": (typed("--num-samples", "1"), "'--num-samples'.* greater than or equal to 2"),
    "an unknown device": (neighbors(*COPIES, "--device", "gpuda"), "unknown device 'gpuda'"),
    "an option of fid": (neighbors(*COPIES, "--prdc-k", "3"), "No such option: --prdc-k"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_NEIGHBORS)
def test_bad_input_of_neighbors_is_one_clear_line_and_exit_2(case, tmp_path, monkeypatch):
    refuses("neighbors", *BAD_NEIGHBORS[case], tmp_path, monkeypatch)


def test_one_sample_to_judge(tmp_path, monkeypatch):
    refuses("neighbors", one_sample, "one: ", tmp_path, monkeypatch)


@pytest.mark.parametrize("option", ["--picture", "--nearest"])
def test_a_folder_to_write_to(option, tmp_path, monkeypatch):
    refuses("neighbors", neighbors(*COPIES, option, "TMP"), option, tmp_path, monkeypatch)


def test_training_images_held_out(tmp_path, monkeypatch):
    refuses("neighbors", neighbors(*COPIES[:3], "TMP/train.npz"), "same images", tmp_path, monkeypatch)


def test_fewer_training_images_than_cells(tmp_path, monkeypatch):
    def make(t):
        np.savez(t / "six.npz", x=np.arange(384, dtype=np.uint8).reshape(6, 8, 8))
        return ["gen:digits", t / "six.npz", "--num-samples", "899", "--test", "digits:test"]

    argv = [str(word) for word in make(tmp_path)]
    values, _ = judged(*argv)
    assert ("pixels", False, "C_T") in values


def test_weights_are_for_inception(tmp_path, monkeypatch):
    make = neighbors(*COPIES, *PIXELS, "--weights", "TMP/w.pth")
    refuses("neighbors", make, "--weights .*: applies only to inception, timm:NAME;", tmp_path, monkeypatch)
