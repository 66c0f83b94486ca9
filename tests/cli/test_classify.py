"""`dcgan-eval classify`: what it prints and writes, and every input that it refuses."""

import hashlib
import io
import json
import os
import pickle
import re
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from PIL import Image
from sklearn.datasets import load_digits

from dcgan_eval import results
from dcgan_eval.cli.app import app
from dcgan_eval.models.architecture import PRESETS
from dcgan_eval.models.checkpoint import save
from dcgan_eval.results import COLUMNS
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import ALONE
from dcgan_eval.runtime.run import Run
from tests.builders import fails, networks, run, trained, write_authors
from tests.cli.builders import FAST, Trap, body, contents, foreign_results, pixels, rows, typed, write_folder, write_npz
from tests.rows import called, of_json


def measured(found):
    """What must not depend on how the work was cut up."""
    return [(row["features"], row["layer"], row["classifier"], called(row), row["value"], row["C"]) for row in found]


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """What `dcgan-eval classify` does when nothing is said but how to print it and where to keep it."""
    out = tmp_path_factory.mktemp("default") / "results.csv"
    return run("classify", "--format", "json", "--results", out), out


def helped():
    """Every option and argument of every command, and its help."""
    commands: Any = typer.main.get_command(app)
    for name, command in commands.commands.items():
        for parameter in command.params:
            if parameter.name != "context":
                yield pytest.param(parameter.help, id=f"{name} {parameter.name}")


@pytest.mark.parametrize("text", helped())
def test_a_help_text_is_a_sentence_about_a_noun(text):
    assert re.match(r"(?!(Of|By|As|That|Where|What|Which|Decides|Times)\b)[A-Zk]", text), text
    assert text.endswith((".", "]")), text


def test_the_default_compares_pixels_random_and_trained_weights_on_digits(default):
    (code, out, err), _ = default
    assert code == 0
    found = json.loads(out)
    of_folds = [row for row in found if row["role"] == "folds"]
    assert {row["features"] for row in of_folds} == {"pixels", "random:digits", "disc:digits"}
    assert all(row["C"] is not None and row["classifier"] == "L2-SVM" for row in of_folds)
    found = [row for row in found if row not in of_folds]
    assert [(row["features"], row["metric"]) for row in found] == [
        (features, metric)
        for features in ("pixels", "random:digits", "disc:digits")
        for metric in ("accuracy", "error")
    ]
    for accuracy in found[::2]:  # the C that was chosen is one of those tried
        (chosen,) = (r for r in of_folds if (r["features"], r["C"]) == (accuracy["features"], accuracy["C"]))
        assert chosen["value"] == max(r["value"] for r in of_folds if r["features"] == accuracy["features"])
    for row in found:
        assert row.keys() == set(COLUMNS)
        counts = (row["unit"], row["n"], row["n_reference"], row["labels"], row["data"])
        assert counts == ("%", 899, 898, "all", "digits")
    assert [row["dimensions"] for row in found] == [64, 64, 1536, 1536, 1536, 1536]
    assert found[0]["value"] + found[1]["value"] == pytest.approx(100)
    assert 91 < found[0]["value"] < 94
    assert 93 < found[2]["value"] < 96 < found[4]["value"] < 99
    assert "5 stratified folds" in found[0]["remark"]
    assert err == "pixels on digits:train\nrandom:digits on digits:train\ndisc:digits on digits:train\n"


def test_out_appends_and_a_second_run_appends_more(default):
    (_, out, _), path = default
    first = results.load(path)
    assert [replace(row, outcomes=None) for row in first] == of_json(json.loads(out))
    assert all((row.outcomes is not None) == (row.role == "value") for row in first)
    before = path.read_bytes()
    assert run("classify", *FAST, "--results", path)[0] == 0
    assert path.read_bytes().startswith(before)
    assert len(pd.read_csv(path)) == len(first) + 2
    assert sorted(os.listdir(path.parent)) == ["results.csv", "results.outcomes"]
    for row in results.load(path):
        if row.outcomes is not None:
            right = row.outcomes.right(row.n)
            assert right is not None
            value = 100 * right.mean()
            assert row.value == pytest.approx(value if row.metric == "accuracy" else 100 - value)


def test_csv_and_table():
    code, out, _ = run("classify", *FAST, "--format", "csv")
    assert code == 0
    found = pd.read_csv(io.StringIO(out))
    assert list(found) == COLUMNS
    assert found.metric.tolist() == ["accuracy", "error"]
    accuracy = found.value[0]
    code, out, err = run("classify", *FAST)
    assert code == 0
    assert out.startswith("digits, all labels: L2-SVM\n\nfeatures")
    assert body(out)[1].split()[:4] == ["pixels", "nothing", "64", "0.001"]
    assert "898 training and 899 test images" in out
    assert f"{accuracy:.2f} [{found.low[0]:.2f}, {found.high[0]:.2f}]" in out
    assert "sha256 " in out
    assert err == "pixels on digits:train\n"


def test_the_command_is_kept_with_the_data_folder_by_its_variable(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz")
    monkeypatch.setenv("DATA", str(tmp_path))
    (row, _) = rows(*FAST, "--data", tmp_path / "a.npz")
    assert row["command"] == ("dcgan-eval classify --format json --features pixels --C 1e-3 --data $DATA/a.npz")
    assert row["data"] == "a"
    sha256 = hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    assert row["data_sha256"] == f"{sha256}:train {sha256}:test"
    assert str(tmp_path) not in json.dumps(row)


def test_options_reach_the_probe(tmp_path):
    X, y = load_digits(return_X_y=True)
    images = (X[:300].reshape(-1, 8, 8) * 15).astype(np.uint8)
    np.savez(tmp_path / "valid.npz", x=images, y=y[:300])
    found = rows("--features", "pixels", "--protocol", "per-class:20", "--draws", "3", "--folds", "2",
                 "--probe", "svm,knn", "--k", "3", "--seed", "5")  # fmt: skip
    assert {row["labels"] for row in found} == {"per-class:20"}
    found = [row for row in found if row["role"] == "value"]
    assert [row["metric"] for row in found] == ["accuracy", "error"] * 2
    assert found[0]["value"] == pytest.approx(np.mean(found[0]["draws"]))
    assert found[0]["remark"].startswith("3 balanced draws, ")
    assert "2 stratified folds" in found[0]["remark"]
    assert (found[0]["spread_n"], found[0]["spread_of"]) == (3, "label draws")
    assert (found[0]["n_reference"], found[0]["seed"], found[2]["C"]) == (200, 5, None)
    assert "by validation" in rows("--features", "pixels", "--valid", tmp_path / "valid.npz")[0]["remark"]


def test_folds_are_grouped_by_an_array_or_a_column(tmp_path):
    path = write_npz(tmp_path / "a.npz", src_train=np.arange(20) // 2)
    found = rows("--data", path, "--features", "pixels", "--group-by", "src", "--folds", "3")
    assert {row["remark"].partition(" by ")[2] for row in found} == {"3 stratified folds grouped by src"}
    assert {row["C_by"] for row in found} == {"folds"}
    code, out, _ = run("classify", "--data", path, "--features", "pixels", "--group-by", "src", "--folds", "3")
    assert code == 0
    assert "by 3 stratified folds grouped by src, seed 0" in out
    folder = write_folder(tmp_path / "f")
    lines = [
        f"{split}/{label}/{i}.png,{label},{split},person {i if split == 'train' else ''}"
        for split in ("train", "test") for label in ("cat", "dog") for i in range(3)
    ]  # fmt: skip
    (folder / "labels.csv").write_text("\n".join(["file,label,split,who", *lines]))
    found = rows("--data", folder, "--features", "pixels", "--group-by", "who")
    assert found[0]["remark"].endswith("by 3 stratified folds grouped by who")
    again = rows("--data", folder, "--features", "pixels")
    assert again[0]["remark"].endswith("by 3 stratified folds")
    assert (again[0]["data_sha256"], again[0]["pixels_sha256"]) == (found[0]["data_sha256"], found[0]["pixels_sha256"])


def test_equal_seeds_give_equal_numbers_and_others_do_not():
    argv = ("--features", "random:digits", "--C", "1e-3", "--protocol", "per-class:10", "--draws", "2")
    a, b, c = (measured(rows(*argv, "--seed", seed)) for seed in (0, 0, 1))
    assert a == b != c


def test_batch_size_and_cache_change_nothing(tmp_path):
    argv = ("--features", "random:digits", "--features", "kmeans:12", "--features", "pixels", "--C", "1e-3",
            "--per-layer", "--probe", "svm,knn", "--k", "3")  # fmt: skip
    expected = measured(rows(*argv))
    assert len(expected) == 4 * (3 + 1 + 1)
    for options in (("--batch-size", "37"), ("--batch-size", "1000", "--cache", tmp_path), ("--cache", tmp_path)):
        assert measured(rows(*argv, *options)) == expected
    assert len(list(tmp_path.glob("*.npy"))) == 6


def test_options_reach_the_extraction(monkeypatch, tmp_path):
    asked = []

    def extract(extractor, images, run, pixels):
        asked.append(run)
        raise InputError("enough")

    monkeypatch.setattr("dcgan_eval.evaluations.classify.extract", extract)
    result = run("classify", *FAST, "--batch-size", "37", "--device", "cpu", "--cache", tmp_path)
    fails(result, "enough", ("pixels on digits:train",))
    command = results.command(["classify", *FAST, "--batch-size", "37", "--device", "cpu", "--cache", str(tmp_path)])
    assert asked == [Run("cpu", ALONE, batch_size=37, cache=tmp_path, command=command)]


def test_precision_and_batchnorm_are_said(tmp_path):
    _, d = trained()
    save(tmp_path / "d.safetensors", discriminator=d)
    for options, said in (
        ((), "BatchNorm stored; float32"),
        (("--batchnorm", "reestimated"), "BatchNorm reestimated on 898 of digits:train by 128; float32"),
        (("--batchnorm", "batch", "--precision", "bfloat16"), "BatchNorm of each 128 images; bfloat16"),
    ):
        (row, _) = rows("--features", f"disc:{tmp_path / 'd.safetensors'}", "--C", "1e-3", *options)
        assert said in row["features_protocol"]
        assert row["features"] == "disc:d"


def write_zip(path, extra=None, content=b"x"):
    image = io.BytesIO()
    Image.new("L", (8, 8)).save(image, "PNG")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for split in ("train", "test"):
            for label in ("cat", "dog"):
                archive.writestr(f"{split}/{label}/0.png", image.getvalue())
        if extra is not None:
            archive.writestr(extra, content)
    return path


def disc(path):
    return ["--features", f"disc:{path}", "--C", "1e-3"]


def missing_array(t):
    prefix = write_authors(t, *networks())
    (t / "7_discrim_params.jl_02.npy").unlink()
    return disc(prefix)


def missing_last_array(t):
    prefix = write_authors(t, *networks())
    last = max(t.glob("7_discrim_params.jl_*.npy"))
    (t / "7_discrim_params.jl").unlink()
    last.unlink()
    return disc(prefix)


def truncated_array(t):
    prefix = write_authors(t, *networks())
    path = t / "7_discrim_params.jl_02.npy"
    path.write_bytes(path.read_bytes()[:-100])
    return disc(prefix)


def other_shapes(t):
    prefix = write_authors(t, *networks())
    np.save(t / "7_discrim_params.jl_01.npy", np.zeros((31, 1, 3, 3), np.float32))
    return disc(prefix)


def nan_weights(t):
    prefix = write_authors(t, *networks())
    path = t / "7_discrim_params.jl_01.npy"
    array = np.load(path)
    array[0, 0, 0, 0] = np.nan
    np.save(path, array)
    return disc(prefix)


def truncated_ours(t):
    save(t / "d.safetensors", discriminator=networks()[1])
    (t / "d.safetensors").write_bytes((t / "d.safetensors").read_bytes()[:-100])
    return disc(t / "d.safetensors")


def pickled_module(t):
    (t / "netD.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    return disc(t / "netD.pth")


def generator_only(t):
    save(t / "g.safetensors", generator=networks()[0])
    return disc(t / "g.safetensors")


def no_statistics(t):
    save(t / "d.safetensors", discriminator=networks()[1])
    return [*disc(t / "d.safetensors"), "--batchnorm", "stored"]


def overflow(t):
    """Every weight is finite, and no feature is."""
    d = trained()[1]
    with torch.no_grad():
        for layer in d.convs:
            layer.linear.weight.mul_(1e37 / layer.linear.weight.abs().max())
    save(t / "d.safetensors", discriminator=d)
    return disc(t / "d.safetensors")


def checkpoint_for_other_images(t):
    save(t / "d.safetensors", discriminator=trained()[1])
    return [*disc(t / "d.safetensors"), "--data", write_npz(t / "a.npz", shape=(9, 9))]


def colour_for_grey(t):
    save(t / "d.safetensors", discriminator=trained()[1])
    return [*disc(t / "d.safetensors"), "--data", write_npz(t / "a.npz", shape=(8, 8, 3))]


def broken_image(t):
    (write_folder(t / "f") / "train" / "dog" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    return pixels(t / "f")


def one_image_larger(t):
    Image.new("L", (9, 8)).save(write_folder(t / "f") / "test" / "dog" / "1.png")
    return pixels(t / "f")


def transparent(t):
    return pixels(write_folder(t / "f", mode="RGBA"))


def sixteen_bits(t):
    return pixels(write_folder(t / "f", mode="I;16"))


def empty_class(t):
    (write_folder(t / "f") / "train" / "eel").mkdir()
    return pixels(t / "f")


def empty_folder(t):
    (t / "f").mkdir()
    return pixels(t / "f")


def labels_csv_for_another_folder(t):
    (write_folder(t / "f") / "labels.csv").write_text("file,label\ntrain/cat/9.png,cat\n")
    return pixels(t / "f")


def other_classes(t):
    folder = write_folder(t / "f")
    other = write_folder(t / "g")
    for split in ("train", "test"):
        (other / split / "dog").rename(other / split / "eel")
    return [*pixels(folder), "--test", f"{other}:test"]


def bomb(t):
    path = write_zip(t / "a.zip", "train/dog/1.png", bytes(10_000))
    data = bytearray(path.read_bytes())
    at = [match.start() for match in re.finditer(b"PK\x01\x02", data)][-1]
    data[at + 24 : at + 28] = struct.pack("<I", 3 << 30)  # what the directory says of its size
    path.write_bytes(data)
    return pixels(path)


def encrypted(t):
    path = write_zip(t / "a.zip")
    data = bytearray(path.read_bytes())
    for match in re.finditer(b"PK\x01\x02", data):
        data[match.start() + 8] |= 1
    for match in re.finditer(b"PK\x03\x04", data):
        data[match.start() + 6] |= 1
    path.write_bytes(data)
    return pixels(path)


def truncated_zip(t):
    path = write_zip(t / "a.zip")
    path.write_bytes(path.read_bytes()[:-30])
    return pixels(path)


def truncated_npz(t):
    path = write_npz(t / "a.npz")
    path.write_bytes(path.read_bytes()[:-50])
    return pixels(path)


def npz(**changes):
    return lambda t: pixels(write_npz(t / "a.npz", **changes))


def grouped(name, **changes):
    arrays = {"src_train": np.arange(20) // 2, **changes}
    return lambda t: ["--data", write_npz(t / "a.npz", **arrays), "--features", "pixels", "--group-by", name]


def zipped(name):
    return lambda t: pixels(write_zip(t / "a.zip", name))


OBJECTS = np.array([Trap()] * 20, dtype=object)


BAD = {
    # weights
    "a missing array": (missing_array, r"7_discrim_params\.jl_02\.npy: absent"),
    "the last array missing": (missing_last_array, r"7_discrim_params\.jl_\d\d\.npy: absent"),
    "a truncated array": (truncated_array, r"7_discrim_params\.jl_02\.npy: truncated"),
    "shapes that fit no preset": (other_shapes, r"_params\.jl: arrays of these shapes fit no preset \(lsun64"),
    "NaN in the weights": (nan_weights, r"7_discrim_params\.jl_01\.npy: holds values that are not finite"),
    "a truncated file of ours": (truncated_ours, r"d\.safetensors: truncated"),
    "a pickled module": (pickled_module, r"netD\.pth: holds a pickled|netD\.pth: truncated"),
    "a generator alone": (generator_only, r"g\.safetensors: holds a generator only"),
    "no BatchNorm statistics": (no_statistics, "holds no BatchNorm statistics; re-estimate"),
    "no checkpoint": (typed("--features", "disc:TMP/absent"), "absent: no such checkpoint"),
    "a folder for a checkpoint": (typed("--features", "disc:TMP"), "a folder; name a checkpoint in it"),
    "infinite features": (overflow, r"disc:d: .*not finite"),
    # images
    "images of the wrong size": (checkpoint_for_other_images, "takes images of 1x8x8 .* but these are 1x9x9"),
    "RGB for grey": (colour_for_grey, "takes images of 1x8x8 .* but these are 3x8x8"),
    "the wrong size for random weights": (
        lambda t: ["--data", write_npz(t / "a.npz", shape=(9, 9)), "--features", "random:digits"],
        "random:digits takes images of 1x8x8 .* but these are 1x9x9",
    ),
    "images too small for patches": (
        lambda t: ["--data", write_npz(t / "a.npz", shape=(6, 6)), "--features", "kmeans:4"],
        "kmeans:4 needs images of 7x7 or more, not 6x6",
    ),
    "grey images for ImageNet's networks": (typed("--features", "torchvision:resnet18"), "resnet18"),
    "a broken image": (broken_image, r"train/dog/1\.png' cannot be read"),
    "one image larger": (one_image_larger, r"test/dog/1\.png' is 8x9, but .* is 8x8"),
    "transparent images": (transparent, "has transparent pixels"),
    "16-bit images": (sixteen_bits, "16 bits"),
    "floats": (npz(x_train=np.zeros((20, 8, 8))), "x_train is float64 in"),
    "five dimensions": (npz(x_train=np.zeros((20, 8, 8, 3, 1), np.uint8)), r"x_train of shape .* is not NHWC"),
    "an empty folder": (empty_folder, r"f: holds no images"),
    "an empty class": (empty_class, r"the folder 'train/eel' holds no image"),
    "an empty array": (npz(x_train=np.zeros((0, 8, 8), np.uint8), y_train=np.zeros(0, int)), "x_train of shape"),
    "no such file": (typed("--data", "TMP/absent.npz", *FAST), r"absent\.npz': no such file or folder"),
    "another kind of file": (
        lambda t: pixels(Path(__file__).with_name("builders.py")), r"builders\.py: not a folder, \.zip or \.npz",
    ),
    # labels
    "too few labels": (npz(y_train=np.arange(19) % 2), r"y_train is int64 of shape \(19,\)"),
    "labels that are no classes": (npz(y_train=np.arange(20) - 5), "y_train: a label is -5"),
    "labels that are no integers": (npz(y_train=np.zeros(20)), "y_train is float64"),
    "a class that training lacks": (npz(y_test=np.arange(20) % 3), "labels run from 0 to 2"),
    "no labels": (npz(y_train=None, y_test=None), "a:train: has no labels"),
    "no test labels": (npz(y_test=None), "a:test: has no labels"),
    "a labels.csv of other files": (
        labels_csv_for_another_folder, r"labels\.csv, row 2: 'train/cat/9\.png' is no image",
    ),
    "other classes in the test set": (other_classes, "g:test has the classes cat, eel, but f:train cat, dog"),
    "one class only": (npz(y_train=np.zeros(20, int), y_test=np.zeros(20, int)), "at least two classes, .* hold 1"),
    # archives
    "a path out of the archive": (zipped("../evil.png"), r"hostile member name '\.\./evil\.png'"),
    "an absolute path": (zipped("/etc/evil.png"), "hostile member name"),
    "a zip bomb": (bomb, "refused as a bomb"),
    "an encrypted zip": (encrypted, r"a\.zip.*cannot be read"),
    "a truncated zip": (truncated_zip, r"a\.zip cannot be read"),
    "a pickle inside .npz": (npz(y_train=OBJECTS), "y_train holds Python objects, which are never unpickled"),
    "pickled images": (npz(x_train=OBJECTS), "x_train holds Python objects, which are never unpickled"),
    "a truncated .npz": (truncated_npz, r"a\.npz cannot be read"),
    # numbers
    "C of zero": (typed("--C", "0", "--features", "pixels"), "--C '0': want positive, finite numbers"),
    "C below zero": (typed("--C", "1e-3,-1", "--features", "pixels"), "--C '0.001,-1': want positive"),
    "C not a number": (typed("--C", "nan", "--features", "pixels"), "--C 'nan': want positive"),
    "C infinite": (typed("--C", "1e999", "--features", "pixels"), "--C 'inf': want positive"),
    "C a word": (typed("--C", "much", "--features", "pixels"), "--C 'much': want numbers"),
    "C empty": (typed("--C", "", "--features", "pixels"), "--C '': want numbers"),
    "a seed below zero": (typed("--seed", "-1", *FAST), "'--seed'.* greater than or equal to 0"),
    "a seed too large": (typed("--seed", 2**64, *FAST), "'--seed'.* less than or equal"),
    "no images at a time": (typed("--batch-size", "0", *FAST), "'--batch-size'.* greater than or equal to 1"),
    "one fold": (typed("--folds", "1", "--features", "pixels"), "'--folds'.* greater than or equal to 2"),
    "no repeats": (typed("--draws", "0", *FAST), "'--draws'"),
    "no neighbours": (typed("--probe", "knn", "--k", "0", *FAST), "--k 0: want 1 or more"),
    "too many neighbours": (typed("--probe", "svm,knn", "--k", "899", *FAST), "--k 899: a draw has 898 labels"),
    "a seed that is a word": (typed("--seed", "x", *FAST), "'--seed'"),
    "more labels than there are": (typed("--protocol", "per-class:400", *FAST), "class . has only 8. training images"),
    "labels that cannot be balanced": (typed("--protocol", "labels:101", *FAST), "not a multiple of the 10 classes"),
    "no centroids": (typed("--features", "kmeans:0"), "must be a positive integer, as in kmeans:1600"),
    "centroids in words": (typed("--features", "kmeans:many"), "must be a positive integer, as in kmeans:1600"),
    # names, with the nearest
    "a mistyped set": (typed("--data", "cifar-1O", *FAST), "nor a data set; did you mean 'cifar-10'"),
    "a mistyped split": (typed("--data", "digits:tset", *FAST), "no split 'tset'; did you mean 'test'"),
    "a mistyped split of a file": (
        lambda t: [*pixels(write_npz(t / "a.npz")), "--test", f"{t / 'a.npz'}:tests"],
        "no split 'tests'; did you mean 'test'",
    ),
    "mistyped features": (typed("--features", "pixel"), "'pixel' is not one of .*; did you mean 'pixels'"),
    "features of another kind": (typed("--features", "kmean:1600"), "did you mean 'kmeans'"),
    "features without an argument": (typed("--features", "disc"), "'disc' is not one of disc:CHECKPOINT"),
    "pixels with one": (typed("--features", "pixels:3"), "'pixels:3' is not one of"),
    "a mistyped preset": (typed("--features", "random:imagenet"), "'imagenet'; did you mean 'imagenet32'"),
    "a conditional preset": (
        lambda t: ["--data", write_npz(t / "a.npz", shape=(28, 28)), "--features", "random:mnist28"],
        "a conditional discriminator asks for the labels",
    ),
    "a mistyped model": (typed("--features", "torchvision:resnet81"), "no classifier 'resnet81'; did you mean 'resnet"),
    "a mistyped protocol": (typed("--protocol", "perclass:40"), "is not all, .*; did you mean 'per-class:400'"),
    "a mistyped device": (typed("--device", "gpuda"), "unknown device 'gpuda'; did you mean 'cuda'"),
    "a device with a wrong number": (typed("--device", "cpu:one"), "unknown device 'cpu:one'"),
    "a number for any device": (typed("--device", "auto:1"), "unknown device 'auto:1'"),
    "a device that is not there": (typed("--device", "cuda:99"), "device cuda:99 is not available on this machine"),
    "a mistyped option": (typed("--feature", "pixels"), "No such option: --feature .*--features"),
    "a mistyped format": (typed("--format", "jsno"), "'--format'.*'json'"),
    "a mistyped precision": (typed("--precision", "float16"), "'--precision'.*'bfloat16'"),
    "a mistyped mode": (typed("--batchnorm", "store"), "'--batchnorm'.*'stored'"),
    # combinations
    "groups of a named set": (
        typed("--features", "pixels", "--group-by", "src"), "--group-by 'src': digits:train has no array or column",
    ),
    "mistyped groups": (grouped("scr"), r"--group-by 'scr': a:train has .*; did you mean 'src'\? \(known: src\)"),
    "groups of too few images": (
        grouped("src", src_train=np.arange(19)), r"a\.npz: src_train is int64 of shape \(19,\); save integers or texts",
    ),
    "too few groups": (
        grouped("src", src_train=np.arange(20) // 7),
        "--group-by 'src': 20 training images are in 3 groups, too few for 5 folds; want --folds 3 or fewer",
    ),
    "a class in one group": (
        grouped("src", src_train=np.arange(20) * (np.arange(20) % 2)),
        "all 10 training images of class 0 .* are in one group, .* or leave --group-by out",
    ),
    "groups without folds": (
        lambda t: [*grouped("src")(t), "--C", "1e-3"], "--group-by 'src': applies only to folds, but C is given",
    ),
    "groups and images held out": (
        lambda t: [*grouped("src")(t), "--valid", "5"], "but C is chosen by 5 validation images of a:train; leave one",
    ),
    "other data without features": (lambda t: ["--data", write_npz(t / "a.npz")], "--features is needed with --data"),
    "no test split": (typed("--data", "digits:train", *FAST), "has only train; want test images, as a split or by"),
    "a fine one and a bad one": (typed(*FAST, "--features", "disc:TMP/absent"), "no such checkpoint"),
    # where results go
    "--results in a missing folder": (typed(*FAST, "--results", "TMP/absent/r.csv"), "the folder .*absent does not"),
    "--results a folder": (typed(*FAST, "--results", "TMP"), "cannot be read as results: .*directory"),
    "--results another table": (foreign_results, r"r\.csv: is no file of results: its first line"),
    "a file for the cache": (
        lambda t: [*FAST, "--cache", write_npz(t / "a.npz")], "the cache of features cannot be used",
    ),
}  # fmt: skip


def test_the_default_k_are_those_that_a_draw_has_labels_for():
    found = rows("--features", "pixels", "--protocol", "per-class:3", "--draws", "2", "--probe", "weighted-knn")
    assert {row["classifier"] for row in found} == {"weighted 10-NN", "weighted 20-NN"}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line_and_exit_2(case, tmp_path, monkeypatch):
    make, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    argv = [str(word) for word in make(tmp_path)]
    if "--results" not in argv:
        argv += ["--results", str(tmp_path / "out.csv")]
    before = contents(tmp_path)
    specs = [argv[i + 1] for i, word in enumerate(argv[:-1]) if word == "--features"]
    result = run("classify", *argv)
    # "what on which images", and nothing else
    notes = [
        line for line in result[2].splitlines() for spec in specs if re.fullmatch(rf"{re.escape(spec)} on \S+", line)
    ]
    fails(result, message, notes)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "early",
    ["C of zero", "--results a folder", "--results another table", "a mistyped preset", "mistyped groups",
     "too few groups"],
)  # fmt: skip
def test_what_can_be_said_at_once_is_said_before_any_work(early, tmp_path):
    make, message = BAD[early]
    result = run("classify", *make(tmp_path))
    assert result[:2] == (2, "")
    fails(result, message, notes=())


def test_results_that_are_there_survive_a_bad_run(tmp_path):
    path = tmp_path / "r.csv"
    assert run("classify", *FAST, "--results", path)[0] == 0
    before = path.read_bytes()
    bad = f"disc:{tmp_path / 'absent'}"
    result = run("classify", *FAST, "--features", bad, "--results", path)
    fails(result, "no such checkpoint", notes=("pixels on digits:train", f"{bad} on digits:train"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["info", "TMP"], "a folder; name a checkpoint in it"),
        (["info", "TMP/absent"], "absent: no such checkpoint"),
        (["info", "TMP/two\nlines"], "two lines: no such checkpoint"),
        (["info", "TMP/absent.safetensors"], r"absent\.safetensors: no such file"),
        (["info", "TMP/a.npz"], r"a\.npz: not a checkpoint"),
        (["info", "TMP/d.safetensors", "--format", "csv"], "info prints a table or json, not csv"),
        (["info"], "(?i)missing argument 'checkpoint'"),
        (["convert", "TMP/absent", "TMP/out.safetensors"], "absent: no such checkpoint"),
        (["convert", "TMP/d.safetensors", "TMP/out.safetensors", "--only", "generator"], "holds no generator"),
        (["convert", "TMP/d.safetensors", "TMP/out.pth"], r"must end in \.safetensors"),
        (["convert", "TMP/d.safetensors", "TMP/absent/out.safetensors"], r"out\.safetensors: cannot be written"),
        (["convert", "TMP/d.safetensors"], "(?i)missing argument 'out'"),
        (["clasify"], "No such command 'clasify'. Did you mean 'classify'"),
        (["classify", "--features"], "'--features' requires an argument"),
        (["--verbose"], "No such option: --verbose"),
    ],
)
def test_bad_input_of_the_other_commands(argv, message, tmp_path):
    save(tmp_path / "d.safetensors", discriminator=networks()[1])
    write_npz(tmp_path / "a.npz")
    before = contents(tmp_path)
    fails(run(*(word.replace("TMP", str(tmp_path)) for word in argv)), message)
    assert contents(tmp_path) == before


def test_the_authors_network_on_house_numbers(data, tmp_path):
    """An independent script: 24.9 % error; the paper, with 1,000 labels of the real SVHN: 22.48 %."""
    prefix, npz_path = data / "authors-svhn" / "200", data / "svhn-mini.npz"
    argv = ("--features", f"disc:{prefix}", "--data", npz_path)
    found = rows(*argv, "--features", "pixels", "--results", tmp_path / "r.csv")
    disc_error, pixel_error = (row for row in found if row["metric"] == "error")
    assert disc_error["features"] == "disc:authors-200"
    assert abs(disc_error["value"] - 25) <= 1.5
    assert 80 < pixel_error["value"] < 86
    for row in found:
        judged = 554 if row["role"] == "folds" else 486
        assert (row["data"], row["n"], row["n_reference"], row["labels"]) == ("svhn-mini", judged, 554, "all")
        sha256 = hashlib.sha256(npz_path.read_bytes()).hexdigest()
        assert row["data_sha256"] == f"{sha256}:train {sha256}:test"
    assert (disc_error["dimensions"], pixel_error["dimensions"]) == (7168, 3072)
    assert len(pd.read_csv(tmp_path / "r.csv")) == len(found)
    # the same, converted into our format, in other batches, at the C that was chosen
    ours = tmp_path / "ours.safetensors"
    assert run("convert", prefix, ours)[0] == 0
    again = rows("--features", f"disc:{ours}", "--data", npz_path, "--batch-size", "101", "--C", disc_error["C"])
    assert again[1]["value"] == disc_error["value"]
    code, out, _ = run("classify", *argv[2:], "--features", "pixels", "--C", "1e-3")
    assert code == 0
    assert "paper" not in out  # svhn-mini is not SVHN


def test_info_on_the_authors_network(data):
    code, out, _ = run("info", data / "authors-svhn" / "200", "--format", "json")
    assert code == 0
    described = json.loads(out)
    assert (described["format"], described["presets"]) == ("authors", ["svhn32"])
    assert described["features"] == {"grid": 4, "per_layer": [1024, 2048, 4096], "total": 7168}
    assert described["discriminator"]["batchnorm"] == "reestimated"
    assert described["generator"]["batchnorm"] == "batch"
    assert PRESETS["svhn32"].to_json_dict() == described["architecture"]


def test_the_papers_table_2_by_one_option(tmp_path):
    """As its options would one by one; of 1,300 grey squares in place of SVHN."""
    rng = np.random.default_rng(0)
    y = np.arange(1300) % 10
    x = (rng.random((1300, 8, 8)) * 120 + 12 * y[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[::3] // 2 + 40, y_test=y[::3])
    common = ("--data", tmp_path / "a.npz", "--features", "disc:digits@1x1", "--valid", "200", "--seed", "3")
    found = rows(*common, "--protocol", "paper-table2")
    apart = rows(
        *common, "--protocol", "labels:1000", "--C", "1e-4,2e-4,5e-4,1e-3,2e-3,5e-3,1e-2", "--draws", "100",
        "--C-from", "other-draws", "--batchnorm", "reestimated", "--batchnorm-images", "0",
    )  # fmt: skip
    assert measured(found) == measured(apart)
    (accuracy,) = (row for row in found if called(row) == "accuracy")
    assert "BatchNorm reestimated on 1100 of a:train by 128" in accuracy["features_protocol"]
    assert len(accuracy["draws"]) == 100
    assert accuracy["C_by"] == "validation of other draws"
    assert (accuracy["labels"], accuracy["n_reference"]) == ("labels:1000", 1000)


@pytest.mark.parametrize(
    "option",
    [
        ("--C", "1e-3"),
        ("--draws", "5"),
        ("--C-from", "all-draws"),
        ("--batchnorm", "stored"),
        ("--scaling", "unit-norm"),
    ],
)
def test_what_table_2_decides_is_not_decided_besides(option):
    found = run("classify", "--features", "disc:digits", "--protocol", "paper-table2", *option)
    fails(found, f"{option[0]}: decided by the protocol paper-table2; leave it out")
