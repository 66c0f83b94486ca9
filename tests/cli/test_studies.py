"""The studies as commands: what they print, draw and write, and what they refuse."""

import csv
import json
import re
import shlex

import pytest
import torch
from PIL import Image

from dcgan_eval.models.architecture import preset
from dcgan_eval.models.checkpoint import load, save
from dcgan_eval.models.networks import Discriminator, Generator, initialise
from tests.builders import STUDIES, fails, run, trained


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """In place of hundreds."""
    for name, number in {"arithmetic.SEEDS": 2, "turn.DIRECTIONS": 5, "forget.SETS": 5}.items():
        monkeypatch.setattr(f"dcgan_eval.studies.{name}", number)


@pytest.mark.parametrize("command", STUDIES)
@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_study_draws_and_appends_its_numbers(command, kind, tmp_path):
    picture, out = tmp_path / f"x.{kind}", tmp_path / "rows.csv"
    argv = (*STUDIES[command], "--picture", picture, "--results", out, "--format", "json")
    code, printed, err = run(*argv)
    assert code == 0, err
    rows = json.loads(printed)
    with open(out, newline="") as file:
        assert [float(row["value"]) for row in csv.DictReader(file)] == [row["value"] for row in rows]
    assert {row["task"] for row in rows} == {command}
    for row in rows:
        assert row["command"].startswith(f"dcgan-eval {command} digits")
        assert row["model"] == ("disc:digits" if command == "filters" else "gen:digits")
        assert row["method"]
        assert row["n"] > 0
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind]
    assert picture.read_bytes().startswith(start)
    assert run(*argv)[0] == 0
    assert [row["value"] for row in json.loads(run(*argv)[1])] == [row["value"] for row in rows]


@pytest.mark.parametrize("command", STUDIES)
def test_a_study_prints_a_table_with_its_protocol(command):
    code, printed, err = run(*STUDIES[command])
    assert code == 0, err
    assert printed.startswith(f"{command}: ")
    assert "BatchNorm stored" in printed
    assert "seed 0" in printed


@pytest.mark.parametrize("command", STUDIES)
def test_another_seed_gives_other_numbers(command):
    def values(seed):
        code, printed, _ = run(*STUDIES[command], "--format", "json", "--seed", seed)
        assert code == 0
        return [row["value"] for row in json.loads(printed)]

    assert values(0) != values(1)


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_a_walk_moves(kind, tmp_path):
    path = tmp_path / f"walk.{kind}"
    assert run(*STUDIES["walk"], "--animation", path)[0] == 0
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == 5 + 3


def test_a_generator_alone_is_walked_in_pictures(files, tmp_path):
    code, printed, err = run("walk", files / "g.safetensors", "--picture", tmp_path / "x.png", "--num-points", "3")
    assert (code, printed) == (0, "")
    assert "the pictures alone" in err
    assert (tmp_path / "x.png").exists()


def test_the_discriminator_may_lie_in_another_file(files):
    argv = ("walk", files / "g.safetensors", "--num-points", "3", "--pairs", "3", "--format", "json")
    code, printed, err = run(*argv, "--discriminator", files / "d.safetensors")
    assert code == 0, err
    found = json.loads(printed)
    assert {(row["features"], row["model"]) for row in found} == {("disc:d", "gen:g")}
    assert {row["features_sha256"] for row in found} == {load(files / "d.safetensors").sha256}
    other = json.loads(run(*argv, "--discriminator", "digits")[1])
    assert [row["value"] for row in other] != [row["value"] for row in found]


def test_conditional_networks_are_studied_one_class_at_a_time(files, tmp_path):
    c = files / "c.safetensors"
    for line in (
        ("walk", c, "--num-points", "2", "--steps", "3", "--pairs", "2"),
        ("arithmetic", c, "3,4 - 5,6", "--num-samples", "8"),
        ("turn", c, "3,4", "5,6", "--num-samples", "8", "--features", "pixels", "--starts", "2", "--steps", "3"),
        ("filters", c, "digits:test", "--num-images", "12", "--filters", "1"),
        ("forget", c, "dark", "--num-samples", "16"),
    ):
        values = {}
        for label in ("3", "4"):
            code, printed, err = run(*line, "--label", label, "--format", "json")
            assert code == 0, err
            rows = json.loads(printed)
            values[label] = [row["value"] for row in rows]
            assert all(f"label {label}" in row["features_protocol"] for row in rows)
        assert values["3"] != values["4"]


def test_long_walks_and_turns_are_drawn_in_columns_that_fit(tmp_path):
    for line in (("walk", "digits", "--num-points", "30", "--pairs", "2"), ("turn", "digits", "dark", "bright")):
        assert run(*line, "--steps", "40", "--picture", tmp_path / "x.png")[0] == 0
        with Image.open(tmp_path / "x.png") as image:
            assert image.height < 2500


@pytest.mark.parametrize("command", ["arithmetic", "turn"])
def test_the_contact_sheet_alone(command, tmp_path):
    code, printed, err = run(command, "digits", "--num-samples", "14", "--contact-sheet", tmp_path / "sheet.svg")
    assert (code, printed) == (0, "")
    assert "14 samples by number" in err
    assert ">13</text>" in (tmp_path / "sheet.svg").read_text()


def test_classes_name_what_samples_show(tmp_path):
    argv = ("arithmetic", "digits", "1 - 1 + 7", "--data", "digits", "--num-samples", "400", "--draws", "10")
    code, printed, err = run(*argv)
    assert code == 0, err
    assert "% right on the other" in printed
    code, printed, err = run("forget", "digits", "1", "--data", "digits", "--num-samples", "200", "--layer", "conv1")
    assert code == 0, err
    assert "at conv1" in printed


def test_boxes_from_samples_to_numbers(tmp_path):
    code, _, err = run("forget", "digits", "--num-samples", "6", "--samples", tmp_path / "s")
    assert code == 0, err
    assert len(list((tmp_path / "s").glob("*.png"))) == 6
    drawn = {str(i): [[2, 2, 6, 6]] for i in range(6)}
    (tmp_path / "boxes.json").write_text(json.dumps(drawn))
    argv = ("forget", "digits", "--boxes", tmp_path / "boxes.json", "--num-samples", "6", "--layer", "conv1")
    code, printed, err = run(*argv, "--picture", tmp_path / "x.png")
    assert code == 0, err
    assert "change outside %" in printed


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    generator, discriminator = trained()
    save(folder / "g.safetensors", generator=generator)
    save(folder / "d.safetensors", discriminator=discriminator)
    a = preset("mnist28")
    both = Generator(a), Discriminator(a)
    for network in both:
        initialise(network, torch.Generator().manual_seed(0))
    save(folder / "c.safetensors", generator=both[0], discriminator=both[1])
    (folder / "outside.json").write_text('{"1": [[0, 0, 9, 4]], "2": [[0, 0, 4, 4]]}')
    (folder / "taken").mkdir()
    return folder


REFUSED = [
    ("walk digits --num-points 1", "Invalid value for '--num-points'"),
    ("walk digits --picture x.bmp", "ends in .png, .svg, .pdf"),
    ("walk digits --animation x.mp4", "an animation's name ends in .webp or .gif"),
    ("walk digits --picture no/x.png", "does not exist"),
    ("walk digits --label 3", "--label 3: the generator is unconditional"),
    ("walk {d}", "holds a discriminator only"),
    ("walk {c}", "is conditional; say by --label which of its classes, 0 to 9"),
    ("walk {c} --label 10", "--label 10: its classes are 0 to 9"),
    ("walk nothing", "no such checkpoint"),
    ("walk digits --images digits", "say which"),
    ("arithmetic digits", "EXPRESSION is missing"),
    ("arithmetic digits 3,4", "at least two terms"),
    ("arithmetic digits '3 - 400'", "exemplar 400: samples are numbered 0 to 255"),
    ("arithmetic digits '3,x - 4'", "is no value known"),
    ("arithmetic digits 'dark - brihgt + bright'", "did you mean 'bright'"),
    ("arithmetic digits 'dark - dark'", "want each result once"),
    ("arithmetic digits '1 - 1 + 77' --data digits", "'77' is no value known"),
    ("arithmetic digits '1 - 1 + 7' --data digits --num-samples 5", "draw more by --num-samples"),
    ("arithmetic {g} '1 - 1 + 7' --data digits", "contains no discriminator; name features"),
    ("arithmetic digits '3 - 4' --data nowhere.npz", "no such file or folder"),
    ("arithmetic digits 'dark - dark + bright' --features pixels", "name by --data the images"),
    ("turn digits", "FROM and TO are wanted"),
    ("turn digits 3", "FROM and TO are wanted"),
    ("turn digits 3,4 ''", "TO '': want numbers of samples"),
    ("turn digits 3,4 4,5", "samples 4 are in both groups"),
    ("turn digits 3,4 256", "TO: sample 256: samples are numbered 0 to 255"),
    ("turn digits dark dark", "want two values of one thing"),
    ("turn digits dark bright --method magic", "'magic' is not one of"),
    ("turn {g} 3 4", "contains no discriminator; name features"),
    ("filters digits digits:test --layer conv9", "no layer 'conv9'"),
    ("filters digits digits:test --filters 0,64", "no filter 64; those of conv2 are 0 to 63"),
    ("filters digits digits:test --filters a", "--filters 'a': want whole numbers"),
    ("filters digits digits:test --num-images 5", "5 images"),
    ("filters {g} digits:test", "holds a generator only"),
    ("filters {c} digits:test", "say by --label which class, 0 to 9"),
    ("forget digits", "say what to forget"),
    ("forget digits 1 --boxes {outside}", "say what to forget"),
    ("forget digits dark --layer conv2", "no layer 'conv2' of the generator has maps to drop"),
    ("forget digits 11 --data digits", "'11' is no value known"),
    ("forget digits --boxes {outside}", "sample 1: box 0, 0, 9, 4 (left, top, right, bottom) is not within"),
    ("forget digits --boxes nothing.json", "cannot be read as JSON"),
    ("forget digits --samples {taken}", "exists already"),
    ("forget digits --samples no/s", "does not exist"),
    ("forget digits dark --samples /proc/s", "cannot be made"),
    ("forget digits --samples s", "--picture and --results: are of an ablation"),
    ("turn digits --contact-sheet s.png", "need FROM and TO"),
    ("arithmetic digits --contact-sheet s.png", "need EXPRESSION"),
    ("forget digits 11 --data digits --samples s", "'11' is no value known"),
    ("forget digits 1", "classes come from labelled images, by --data"),
    ("forget digits --boxes {outside} --data digits", "needs none; leave it out"),
    ("arithmetic digits '3 - 400' --contact-sheet s.png", "exemplar 400"),
    ("arithmetic digits --num-samples 2000 --contact-sheet s.png", "a --contact-sheet shows 1024 samples at most"),
    ("turn digits 3,3 4", "FROM: 3, 3: names a sample twice"),
    ("walk {g} --discriminator {c}", "is of another image_size, 28, than gen:g, 8"),
    ("walk {g} --discriminator {g}", "holds a generator only"),
    ("walk {g}", "holds no discriminator to measure with; name one by --discriminator"),
    (
        "filters digits digits:test --filters 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24",
        "25 filters; a picture shows 1 to 24",
    ),
]


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_what_is_refused_is_said_in_one_line_and_nothing_is_written(line, message, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {name: files / f"{name}.safetensors" for name in "gdc"}
    line = line.format(**names, outside=files / "outside.json", taken=files / "taken")
    fails(run(*shlex.split(line), "--results", "rows.csv"), re.escape(message))
    assert not list(tmp_path.iterdir())
