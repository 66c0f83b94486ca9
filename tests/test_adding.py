"""A stranger adds an extractor in three files, as CONTRIBUTING says, and every command knows it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dcgan_eval.inputs import MAKERS
from dcgan_eval.options import KINDS

ROOT = Path(__file__).resolve().parents[1]

EXTRACTOR = '''"""Mean brightness of each quarter of an image, as often as is wanted."""

from dcgan_eval.features.extract import Extractor, fingerprint


def quarter_features(shape, times):
    def on(device):
        def function(images):
            return images.float().mean(1).unfold(1, 4, 4).unfold(2, 4, 4).mean((3, 4)).flatten(1).repeat(1, times)

        return function

    made = fingerprint({"extractor": "quarters", "shape": list(shape), "times": times})
    return Extractor(f"quarters:{times}", "means of quarters", made, shape, {"all": slice(0, 4 * times)}, on)
'''


def replaced(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    package = folder / "dcgan_eval"
    shutil.copytree(ROOT / "dcgan_eval", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "features" / "quarters.py").write_text(EXTRACTOR, encoding="utf-8")
    replaced(
        package / "options.py",
        '"the pixels themselves",\n',
        '"the pixels themselves",\n    "quarters:TIMES": "means",\n',
    )
    replaced(
        package / "inputs.py",
        '    "pixels": _pixels,\n',
        '    "pixels": _pixels,\n'
        '    "quarters": lambda times, *_: lambda train: quarter_features(train.shape, int(times)),\n',
    )
    replaced(
        package / "inputs.py",
        "from dcgan_eval.features import Extractor\n",
        "from dcgan_eval.features import Extractor\nfrom dcgan_eval.features.quarters import quarter_features\n",
    )
    return folder


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("classify", "--C", "1e-3"), "quarters:2"),
        (("fid", "digits:train", "digits:test"), "quarters:2"),
        (("neighbors", "gen:digits", "digits:train", "--num-samples", "100"), "quarters:2"),
    ],
    ids=lambda value: value[0],
)
def test_a_new_extractor_is_known_to_every_command(house, argv, said):
    words = [sys.executable, "-m", "dcgan_eval", *argv, "--features", "quarters:2", "--format", "csv"]
    done = subprocess.run(words, cwd=house, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    shown = subprocess.run([*words[:4], "--help"], cwd=house, capture_output=True, text=True, check=True).stdout
    assert "quarters:TIMES" in shown.replace("\n", " ").replace("  ", "")


def test_every_kind_has_a_maker():
    assert list(MAKERS) == [kind.partition(":")[0] for kind in KINDS]
