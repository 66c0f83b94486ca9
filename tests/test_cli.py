import contextlib
import csv
import hashlib
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from PIL import Image
from sklearn.datasets import load_digits

from dcgan_eval import cli, results
from dcgan_eval.cli.app import app
from dcgan_eval.evaluations import dedup
from dcgan_eval.linear import newton, operators
from dcgan_eval.models.architecture import PRESETS
from dcgan_eval.models.checkpoint import load, save
from dcgan_eval.nearest import hashing
from dcgan_eval.results import COLUMNS
from dcgan_eval.runtime import devices, fast_ops
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import ALONE
from dcgan_eval.runtime.run import Run
from tests.rows import called, of_json
from tests.test_checkpoint import networks, trained, write_authors
from tests.test_hashing import photographs as pieces

FAST = ("--features", "pixels", "--C", "1e-3")  # of digits: no folds, no network


def run(*argv):
    """Exit code, standard output, standard error of the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        cli.main([str(word) for word in argv])
    return caught.value.code, out.getvalue(), err.getvalue()


def shell(code, *argv, **variables):
    """Python code in a process of its own, which sees nothing of this one."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)],
        capture_output=True, text=True, check=False, env={**os.environ, **variables},
    )  # fmt: skip


MAIN = "from dcgan_eval.cli import main; main()"


def rows(*argv):
    code, out, err = run("classify", "--format", "json", *argv)
    assert code == 0, err
    found = json.loads(out)
    assert isinstance(found, list)
    return found


def measured(found):
    """What must not depend on how the work was cut up."""
    return [(row["features"], row["layer"], row["classifier"], called(row), row["value"], row["C"]) for row in found]


def body(out):
    """The lines of the first table that was printed, its header the first."""
    return out.split("\n\n")[1].splitlines()


def fails(result, message, notes=()):
    """Exit 2 and one line, below the notes about what was under way."""
    code, out, err = result
    lines = err.splitlines()
    assert code == 2, err
    assert out == ""
    assert [line for line in lines[:-1] if line not in notes] == []
    assert lines[-1].startswith("dcgan-eval: ")
    assert re.search(message, lines[-1]), lines[-1]
    assert "Traceback" not in err


# the main job


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
    assert first == of_json(json.loads(out))
    before = path.read_bytes()
    assert run("classify", *FAST, "--results", path)[0] == 0
    assert path.read_bytes().startswith(before)
    assert len(pd.read_csv(path)) == len(first) + 2
    assert os.listdir(path.parent) == ["results.csv"]


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
    assert body(out)[1].split()[:3] == ["pixels", "64", "0.001"]
    assert "898 training and 899 test images" in out
    assert f"{accuracy:.2f} ± " in out
    assert "sha256 " in out
    assert err == "pixels on digits:train\n"


def test_the_command_is_kept_with_the_data_folder_by_its_variable(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz")
    monkeypatch.setenv("DATA", str(tmp_path))
    (row, _) = rows(*FAST, "--data", tmp_path / "a.npz")
    assert row["command"] == ("dcgan-eval classify --format json --features pixels --C 1e-3 --data $DATA/a.npz")
    assert row["data"] == "a"
    assert row["data_sha256"] == hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    assert str(tmp_path) not in json.dumps(row)


def test_options_reach_the_probe(tmp_path):
    X, y = load_digits(return_X_y=True)
    images = (X[:300].reshape(-1, 8, 8) * 15).astype(np.uint8)
    np.savez(tmp_path / "valid.npz", x=images, y=y[:300])
    found = rows("--features", "pixels", "--protocol", "per-class:20", "--draws", "3", "--folds", "2", "--knn", "3",
                 "--seed", "5")  # fmt: skip
    assert {row["labels"] for row in found} == {"per-class:20"}
    found = [row for row in found if row["role"] == "value"]
    assert [row["metric"] for row in found] == ["accuracy", "error"] * 2
    assert found[0]["value"] == pytest.approx(np.mean(found[0]["draws"]))
    assert found[0]["remark"].startswith("3 balanced draws, ")
    assert "2 stratified folds" in found[0]["remark"]
    assert (found[0]["spread_n"], found[0]["spread_of"]) == (3, "label draws")
    assert (found[0]["n_reference"], found[0]["seed"], found[2]["C"]) == (200, 5, None)
    assert "by validation" in rows("--features", "pixels", "--valid", tmp_path / "valid.npz")[0]["remark"]


def test_equal_seeds_give_equal_numbers_and_others_do_not():
    argv = ("--features", "random:digits", "--C", "1e-3", "--protocol", "per-class:10", "--draws", "2")
    a, b, c = (measured(rows(*argv, "--seed", seed)) for seed in (0, 0, 1))
    assert a == b != c


def test_batch_size_and_cache_change_nothing(tmp_path):
    argv = ("--features", "random:digits", "--features", "kmeans:12", "--features", "pixels", "--C", "1e-3",
            "--per-layer", "--knn", "3")  # fmt: skip
    expected = measured(rows(*argv))
    assert len(expected) == 4 * (3 + 1 + 1)
    for options in (("--batch-size", "37"), ("--batch-size", "1000", "--cache", tmp_path), ("--cache", tmp_path)):
        assert measured(rows(*argv, *options)) == expected
    assert len(list(tmp_path.glob("*.npy"))) == 6


def test_options_reach_the_extraction(monkeypatch, tmp_path):
    asked = []

    def extract(extractor, images, run):
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


# help and start


@pytest.mark.parametrize("argv", [["--help"], ["classify", "--help"], ["fid", "--help"], ["convert", "--help"], []])
def test_help_does_not_wait_for_torch(argv):
    code = (
        "import sys\nfrom dcgan_eval.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print({'torch', 'pandas', 'sklearn', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    done = shell(code, *argv)
    assert done.returncode == 0
    assert "Usage: " in done.stdout
    assert done.stderr == "set()\n"
    if argv[:1] == ["classify"]:
        for option in ("--features", "--data", "--protocol", "--C", "--draws", "--device", "--seed", "--batch-size",
                       "--format", "--results"):  # fmt: skip
            assert option in done.stdout


def test_as_a_program(tmp_path):
    done = shell(MAIN, "classify", *FAST, "--format", "csv", "--results", tmp_path / "r.csv")
    assert (done.returncode, done.stderr) == (0, "pixels on digits:train\n")
    assert done.stdout == (tmp_path / "r.csv").read_text()
    done = subprocess.run([sys.executable, "-m", "dcgan_eval", "clasify"], capture_output=True, text=True, check=False)
    fails((done.returncode, done.stdout, done.stderr), "No such command 'clasify'. Did you mean 'classify'")


@pytest.mark.parametrize(
    "argv", [("--debug", "classify"), ("classify", "--debug"), ("classify", "--C", "1", "--debug")]
)
def test_debug_shows_the_traceback(argv):
    code, _, err = run(*argv, "--data", "absent.npz", "--features", "pixels")
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("dcgan-eval: 'absent.npz'")


def test_our_own_faults_are_not_blamed_on_the_input(monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(devices, "choose", fail)
    with pytest.raises(RuntimeError, match="a bug"), contextlib.redirect_stderr(io.StringIO()):
        cli.main(["classify"])  # which Python turns into a traceback and exit 1

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(devices, "choose", interrupt)
    assert run("classify") == (130, "", "dcgan-eval: interrupted\n")  # as shells have it: 128 + SIGINT


# checkpoints


@pytest.fixture
def checkpoint(tmp_path):
    """Both networks of the digits preset, with statistics."""
    g, d = trained()
    save(tmp_path / "c.safetensors", generator=g, discriminator=d, metadata={"images": 128})
    return tmp_path / "c.safetensors"


def test_info(checkpoint):
    code, out, err = run("info", checkpoint)
    assert (code, err) == (0, "")
    sha256 = load(checkpoint).sha256
    for part in ("format        dcgan-eval", f"sha256        {sha256}", "architecture  digits", "convs.1",
                 "BatchNorm stored", "features      1,536 = 512 + 1024, pooled to 4x4",
                 "images        128"):  # fmt: skip
        assert part in out
    code, out, _ = run("info", checkpoint, "--format", "json")
    described = json.loads(out)
    assert (described["sha256"], described["presets"]) == (sha256, ["digits"])


def test_info_says_what_this_machine_computes_with(checkpoint):
    code, out, _ = run("info", checkpoint)
    assert code == 0
    assert f"computed with {fast_ops.instruction_set()}, float32" in out
    found = json.loads(run("info", checkpoint, "--format", "json")[1])
    assert found["computed_with"] == {"instruction_set": fast_ops.instruction_set(), "precision": "float32"}


def test_a_number_without_a_certificate_is_not_printed(monkeypatch, tmp_path):
    """One line, exit 1, and no row; a solution that is finite but not certified is marked in table and row."""
    few_times = fast_ops.few_times
    monkeypatch.setattr(operators, "few_times", lambda *factors, **more: few_times(*factors, **more) * float("nan"))
    code, out, err = run("classify", "--features", "pixels", "--C", "1e-3", "--results", tmp_path / "rows.csv")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "dcgan-eval: the L2-SVM at C=0.001 has no finite solution: scale the features"
    assert not (tmp_path / "rows.csv").exists()
    monkeypatch.undo()
    monkeypatch.setattr(newton, "STUCK", 0)  # which ends Newton at once
    code, out, _ = run("classify", "--features", "pixels", "--C", "1e-3", "--results", tmp_path / "rows.csv")
    assert code == 0
    assert re.search(r"\d \u2021 .*\n", out)
    (row,) = (row for row in results.read(tmp_path / "rows.csv") if row.metric == "accuracy")
    assert row.instruction_set == fast_ops.instruction_set()
    assert not row.certified
    assert f"‡ not certified: the SVM is within {row.gap:.0e} of its optimum" in out


def test_info_of_one_network(tmp_path):
    g, d = networks()
    save(tmp_path / "g.safetensors", generator=g)
    save(tmp_path / "d.safetensors", discriminator=d)
    assert re.search(r"discriminator +absent", run("info", tmp_path / "g.safetensors")[1])
    assert re.search(r"generator +absent", run("info", tmp_path / "d.safetensors")[1])


def test_convert(tmp_path):
    g, d = networks()
    prefix = write_authors(tmp_path, g, d)
    code, out, err = run("convert", prefix, tmp_path / "ours.safetensors")
    assert (code, err) == (0, "")
    ours = load(tmp_path / "ours.safetensors")
    assert out == f"{tmp_path / 'ours.safetensors'}: sha256 {ours.sha256}\n"
    assert ours.sha256 == load(prefix).sha256
    code, out, err = run(
        "convert", prefix, tmp_path / "d.safetensors", "--only", "discriminator", "--precision", "float16"
    )
    assert (code, err) == (0, "")
    rounded = load(tmp_path / "d.safetensors")
    assert (rounded.generator, out) == (None, f"{tmp_path / 'd.safetensors'}: sha256 {rounded.sha256}\n")
    argv = ("--C", "1e-3", "--features")
    theirs = rows(*argv, f"disc:{prefix}")
    converted = rows(*argv, f"disc:{tmp_path / 'ours.safetensors'}")
    assert [row["value"] for row in theirs] == [row["value"] for row in converted]
    assert [row["features"] for row in theirs] == ["disc:authors-7"] * 2
    assert "BatchNorm reestimated" in converted[0]["features_protocol"]


# bad input: every case makes files in a folder and says what to type; all are about the digits if not said otherwise


def write_npz(path, n=20, shape=(8, 8), **changes):
    """Two classes of noise, both splits."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "test"):
        arrays[f"x_{split}"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(n) % 2
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


def write_folder(path, mode="L", size=(8, 8)):
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (path / split / label).mkdir(parents=True)
            for i in range(3):
                Image.new(mode, size).save(path / split / label / f"{i}.png")
    return path


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


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def disc(path):
    return ["--features", f"disc:{path}", "--C", "1e-3"]


def pixels(path):
    return ["--data", path, *FAST]


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


def foreign_results(t):
    (t / "r.csv").write_text("a,b\n1,2\n")
    return [*FAST, "--results", t / "r.csv"]


def truncated_npz(t):
    path = write_npz(t / "a.npz")
    path.write_bytes(path.read_bytes()[:-50])
    return pixels(path)


def npz(**changes):
    return lambda t: pixels(write_npz(t / "a.npz", **changes))


def zipped(name):
    return lambda t: pixels(write_zip(t / "a.zip", name))


def typed(*argv):
    return lambda t: [str(word).replace("TMP", str(t)) for word in argv]


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
        lambda t: pixels(Path(__file__).with_name("conftest.py")), r"conftest\.py: not a folder, \.zip or \.npz",
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
    "no neighbours": (typed("--knn", "0", *FAST), "'--knn'"),
    "too many neighbours": (typed("--knn", "899", *FAST), "k=899 wants a k from 1 to 898"),
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
    "other data without features": (lambda t: ["--data", write_npz(t / "a.npz")], "--features is needed with --data"),
    "no test split": (typed("--data", "digits:train", *FAST), "has no test split besides train; name one with --test"),
    "a fine one and a bad one": (typed(*FAST, "--features", "disc:TMP/absent"), "no such checkpoint"),
    # where results go
    "--results in a missing folder": (typed(*FAST, "--results", "TMP/absent/r.csv"), "the folder .*absent does not"),
    "--results a folder": (typed(*FAST, "--results", "TMP"), "cannot be read as results: .*directory"),
    "--results another table": (foreign_results, r"r\.csv: is no file of results: its first line"),
    "a file for the cache": (
        lambda t: [*FAST, "--cache", write_npz(t / "a.npz")], "the cache of features cannot be used",
    ),
}  # fmt: skip


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


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


@pytest.mark.parametrize("early", ["C of zero", "--results a folder", "--results another table", "a mistyped preset"])
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


# the authors' network on real photographs


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
        assert row["data_sha256"] == hashlib.sha256(npz_path.read_bytes()).hexdigest()
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


# comparing sets


PIXELS = ("--features", "pixels")
RANDOM = ("--features", "random:digits@1x1")
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
    assert out.startswith("digits:train in the features pixels: 60 images judged\n\n")
    header, line = body(out)
    assert re.split("  +", header) == ["judged", "Fréchet distance", "kernel distance"]
    shown = [f"{printed.value[0]:.6g}", f"{printed.value[1]:.6g} ± {printed.spread[1]:.4g}"]
    assert re.split("  +", line) == ["gen:digits", *shown]
    for part in ("pixels: pixels as x / 127.5 - 1", "60 images each, by 898 of digits:train, sha256 ",
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
    assert several["spread"] == pytest.approx(1.96 * np.std(singles, ddof=1), rel=1e-9)
    assert (several["spread_n"], several["spread_of"]) == (3, "sample sets")
    assert several["model_sha256"] == row["model_sha256"] == load("digits").sha256
    assert distance("digits:train", "gen:digits", "--num-samples", "61", *PIXELS) != row["value"]


def test_options_reach_the_metrics(tmp_path):
    torch.jit.save(torch.jit.script(Judge()), tmp_path / "judge.pt")
    found = compared(
        *DIGITS, *PIXELS, "--metrics", "kid,prdc,fid-infinity,is", "--kid-subsets", "3", "--kid-subset-size", "50",
        "--prdc-k", "4",
        "--is-splits", "2", "--seed", "5", "--classifier", tmp_path / "judge.pt", "--cache", tmp_path / "cache",
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


class Judge(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10].float() / 20


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


# statistics


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
    both = compared(alone, *DIGITS[1:], *PIXELS, "--metrics", "fid,fid-infinity")
    assert set(both) == {"Fréchet distance", "Fréchet distance∞"}


# Inception


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


# what is wrong: real and fake first


def against(*argv):
    """Digits beside something."""
    return typed("digits:train", *argv)


def one_image(t):
    np.savez(t / "a.npz", x=np.zeros((1, 8, 8), np.uint8))
    return ["digits:train", t / "a.npz", *PIXELS]


def corrupt_files(t):
    folder = write_folder(t / "f")
    for name in ("cat/0", "cat/2", "dog/0", "dog/1"):
        (folder / "test" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    return ["digits:train", f"{folder}:test", *PIXELS]


def discriminator_alone(t):
    save(t / "d.safetensors", discriminator=networks()[1])
    return ["digits:train", f"gen:{t / 'd.safetensors'}", *PIXELS]


def generator_for_features(t):
    save(t / "g.safetensors", generator=networks()[0])
    return [*DIGITS, "--features", f"disc:{t / 'g.safetensors'}"]


def stats_file(t, d=64, **changes):
    arrays = {"mu": np.zeros(d), "sigma": np.eye(d)} | changes
    np.savez(t / "s.npz", **arrays)
    return t / "s.npz"


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
    "weights with pixels": (typed(*DIGITS, *PIXELS, "--weights", "w.pth"), "--weights .*: applies only to inception;"),
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
        lambda t: [stats_of(t, *PIXELS), *DIGITS[1:], "--features", "random:digits@1x1"], "statistics of 64 dimens",
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


def check_bad_fid(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = [str(word) for word in make(tmp_path)]
    if "--results" not in argv:
        argv += ["--results", str(tmp_path / "out.csv")]
    before = contents(tmp_path)
    fails(run("fid", *argv), message)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("case", BAD_FID)
def test_bad_input_of_fid_is_one_clear_line_and_exit_2(case, tmp_path, monkeypatch):
    check_bad_fid(*BAD_FID[case], tmp_path, monkeypatch)


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


# samples of the authors' network, by the authors' network


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


# copies of training images


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
    assert len(found) == 2 * (17 + 9)
    assert {features for features, _, _ in values} == {"pixels", "disc:digits@1x1"}
    for row in found:
        assert row.keys() == set(COLUMNS)
        assert (row["task"], row["data"], row["model"]) == ("neighbors", "digits:train digits:test", "gen:digits")
        assert (row["n"], row["n_reference"], row["seed"]) == (899, 898, 0)
        assert len(row["data_sha256"].split()) == 2
    # it generalises, and so do held-out images
    assert len(probabilities(values)) == 2 * (6 + 3)
    assert min(probabilities(values).values()) > 0.01
    assert values["pixels", False, "nearest distance"] > values["pixels", True, "nearest distance"] > 2
    assert "pooled to 1x1" in found[-1]["features_protocol"]


def test_help_of_neighbors_says_what_is_judged_by_default(judged_by_default):
    (_, [row, *_]), _ = judged_by_default
    text = " ".join(run("neighbors", "--help")[1].split())
    assert f"{row['n']} samples of the digits generator" in text
    for option in ("--test", "--features", "--num-samples", "--picture", "--nearest", "--seed", "--cache", "--results"):
        assert option in text


def test_help_of_neighbors_does_not_wait_for_torch():
    test_help_does_not_wait_for_torch(["neighbors", "--help"])


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
    assert len(probabilities(values)) == 2 * (6 + 3)
    assert max(probabilities(values).values()) < 0.01
    shares = [
        values[features, flips, "nearer than any"] for features in ("pixels", "random:digits@1x1") for flips in (0, 1)
    ]
    assert shares == pytest.approx([200 / 3, 100, 200 / 3, 100], abs=3)
    code, out, err = run("neighbors", *argv)
    assert (code, err) == (0, "")
    assert out.startswith("Does copies copy train?\n\n")
    lines = [line for line in body(out) if "held-out to 300 samples" not in line]
    assert lines[0].split() == ["features", "metric", "value", "held-out", "p", "verdict"]
    assert len(lines) == 1 + 2 * (6 + 3)
    verdicts = [line.split()[-1] for line in lines[1:]]
    assert verdicts == ["copies" if "nearer than any" in line else "nearer" for line in lines[1:]]
    distance, held_out = (values["pixels", False, f"nearest distance{of}"] for of in ("", ", held-out"))
    assert re.search(rf"nearest distance +{distance:.5g} +{held_out:.5g} ", lines[1])
    for part in ("pixels: pixels as x / 127.5 - 1", "300 samples of copies, sha256 ", "; 900 training images",
                 "training and held-out images: train test, sha256 ", "verdict: where p < 0.01",
                 "C_T: data-copying test (Meehan et al. 2020), 3 of 3 cells, seed 0"):  # fmt: skip
        assert part in out


def test_real_images_are_not_called_copies(copies):
    argv = in_folder(copies, ("TMP/real.npz", *COPIES[1:]))
    assert min(probabilities(judged(*argv, *PIXELS, *RANDOM)[0]).values()) > 0.01
    lines = body(run("neighbors", *argv)[1])
    assert len(lines) == 1 + 6 + 3 + 1  # and how near held-out images are to samples
    assert not any("copies" in line for line in lines)


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
    assert list(found) == ["features", "mirrored", "sample", "nearest", "distance"]
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


# what is wrong with samples or training images


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


def check_bad_neighbors(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = [str(word) for word in make(tmp_path)]
    if "--results" not in argv:
        argv += ["--results", str(tmp_path / "out.csv")]
    before = contents(tmp_path)
    fails(run("neighbors", *argv), message)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("case", BAD_NEIGHBORS)
def test_bad_input_of_neighbors_is_one_clear_line_and_exit_2(case, tmp_path, monkeypatch):
    check_bad_neighbors(*BAD_NEIGHBORS[case], tmp_path, monkeypatch)


def test_one_sample_to_judge(tmp_path, monkeypatch):
    check_bad_neighbors(one_sample, "one: ", tmp_path, monkeypatch)


@pytest.mark.parametrize("option", ["--picture", "--nearest"])
def test_a_folder_to_write_to(option, tmp_path, monkeypatch):
    check_bad_neighbors(neighbors(*COPIES, option, "TMP"), option, tmp_path, monkeypatch)


def test_training_images_held_out(tmp_path, monkeypatch):
    check_bad_neighbors(neighbors(*COPIES[:3], "TMP/train.npz"), "same images", tmp_path, monkeypatch)


def test_fewer_training_images_than_cells(tmp_path, monkeypatch):
    def make(t):
        np.savez(t / "six.npz", x=np.arange(384, dtype=np.uint8).reshape(6, 8, 8))
        return ["gen:digits", t / "six.npz", "--num-samples", "899", "--test", "digits:test"]

    argv = [str(word) for word in make(tmp_path)]
    values, _ = judged(*argv)
    assert ("pixels", False, "C_T") in values


def test_weights_are_for_inception(tmp_path, monkeypatch):
    make = neighbors(*COPIES, *PIXELS, "--weights", "TMP/w.pth")
    check_bad_neighbors(make, "--weights .*: applies only to inception;", tmp_path, monkeypatch)


# dedup


@pytest.fixture
def little(monkeypatch):
    """Weights that are hardly fitted: equal pixels are found by any."""
    monkeypatch.setattr(hashing, "STEPS", 1)


def write_repeated(t):
    """30 photographs, of which 3 come twice and 2 are held out; 2 other ones."""
    x = pieces(32).permute(0, 2, 3, 1).numpy()
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
    test_help_does_not_wait_for_torch(["dedup", "--help"])


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
    "nothing": (lambda t: [], "Missing argument 'data'"),
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
