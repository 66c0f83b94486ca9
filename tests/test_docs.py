"""The documentation: it builds without a warning, and every command in it runs, at tiny size."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dcgan_eval.images import open_images
from dcgan_eval.models.checkpoint import EMBEDDED
from tests.builders import run

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
ELSEWHERE = {"backbones"}  # what its commands name must be downloaded; tests/features/test_network.py runs the page
# what makes a command large, and how large it is here
TINY = {"--draws": 3, "--starts": 3, "--steps": 3, "--pairs": 2, "--inversion-steps": 3}
FEW = {"arithmetic.SEEDS": 2, "turn.DIRECTIONS": 3, "forget.SETS": 2}  # in place of hundreds

MAKES = ("--picture", "--animation", "--contact-sheet", "--samples")


def commands():
    for page in (page for page in PAGES if page.stem not in ELSEWHERE):
        for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                yield pytest.param(line, id=f"{page.stem}: {line[11:70]}")


def smaller(words):
    found = []
    for before, word in zip(["", *words], words, strict=False):
        most = 256 if before == "--num-samples" and words[1] == "forget" else TINY.get(before)
        found.append(str(min(int(word), most)) if most is not None and word.isdigit() else word)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory, request):
    """A folder where every command finds what it names: the real SVHN networks and digits, and digits for the rest."""
    data = request.getfixturevalue("data")
    folder = tmp_path_factory.mktemp("docs")
    (folder / "data").mkdir()
    for name in ("authors-svhn", "svhn-mini.npz"):
        (folder / "data" / name).symlink_to((data / name).resolve())
    digits = open_images("digits")["train"]
    assert digits.labels is not None
    for name, classes in (("faces64-gray", ("male", "female")), ("rooms64", ("bedroom", "frontal"))):
        with zipfile.ZipFile(folder / "data" / f"{name}.zip", "w") as file:
            for i in range(120):
                image = folder / "image.png"
                Image.fromarray(digits.read(range(i, i + 1))[0, 0].numpy()).save(image)
                file.write(image, f"{classes[int(digits.labels[i]) % 2]}/{i:03d}.png")
    (folder / "runs").mkdir()
    for name in ("faces64", "rooms64"):
        shutil.copy(EMBEDDED["digits"], folder / "runs" / f"{name}.safetensors")
    shutil.copy(DOCS / "side-digits.json", folder)
    return folder


def test_the_pages_have_commands_of_every_study():
    words = {command.values[0].split()[1] for command in commands()}
    assert words == {"walk", "arithmetic", "turn", "filters", "forget"}


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_on_the_pages_runs(line, place, monkeypatch):
    monkeypatch.chdir(place)
    for name, number in FEW.items():
        monkeypatch.setattr(f"dcgan_eval.studies.{name}", number)
    argv = smaller(shlex.split(line.replace("$DATA", "data")))
    assert argv[0] == "dcgan-eval"
    made = [Path(argv[i + 1]) for i, word in enumerate(argv) if word in MAKES]
    assert made
    for path in made:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
    code, out, err = run(*argv[1:])
    assert code == 0, err
    assert all(len(list(path.iterdir())) == 96 if path.is_dir() else path.stat().st_size > 1000 for path in made)
    assert out or {"--contact-sheet", "--samples"} & set(argv)


def test_the_cluster_examples_run_what_there_is():
    """Both parse, and give `classify` options that it has."""
    script = DOCS / "slurm.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    job = yaml.safe_load((DOCS / "pytorchjob.yaml").read_text(encoding="utf-8"))
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert [replicas[kind]["replicas"] for kind in ("Master", "Worker")] == [1, 7]
    (container,) = replicas["Worker"]["template"]["spec"]["containers"]
    volumes = {volume["name"] for volume in replicas["Worker"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert container["command"] == ["torchrun", "-m", "dcgan_eval", "classify"]
    by_script = re.findall(r"^  (--\w+) .*$", script.read_text(encoding="utf-8").partition("-m dcgan_eval")[2], re.M)
    by_job = [word.partition("=")[0] for word in container["args"]]
    assert by_script == by_job
    assert set(by_job) <= set(re.findall(r"--[\w-]+", run("classify", "--help")[1]))


def test_the_boxes_of_the_pages_are_within_their_samples():
    boxes = json.loads((DOCS / "side-digits.json").read_text())
    assert (len(boxes), sum(map(len, boxes.values()))) == (39, 45)
    page = (DOCS / "forget.md").read_text(encoding="utf-8")
    assert "45 boxes around second digits, at the side of 39 samples" in page


def test_pictures_and_tables_of_the_pages_are_those_that_were_measured():
    used = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"\]\((\.\./[^)]+)\)|\{include\} (\S+)", text):
            file = (DOCS / (path[0] or path[1])).resolve()
            assert file.is_file(), f"{page.name}: {file.name}"
            if file.parent.name != "benchmarks":
                used.add(file.name)
    listed = (ROOT / "reports" / "figures" / "figures.csv").read_text(encoding="utf-8")
    for name in used:
        assert name.endswith(".md") or name in listed, name


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_documentation_builds_without_a_warning(built):
    for page in PAGES:
        assert (built / f"{page.stem}.html").is_file()
    reference = (built / "api.html").read_text(encoding="utf-8")
    for name in ("dcgan_eval.linear.L2SVC", "dcgan_eval.studies.walk.smoothness", "dcgan_eval.results.Row"):
        assert f'id="{name}"' in reference


def test_the_page_on_transposed_convolution_computes_what_it_shows(built):
    page = (built / "transposed.html").read_text(encoding="utf-8")
    assert page.count("True") >= 3
    assert "False" not in re.sub(r"<[^>]+>", "", page)
    assert page.count("<img") >= 2
