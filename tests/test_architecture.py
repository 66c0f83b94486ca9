"""The plan of the house, checked on the source: which module may import which, and what must stand in no file."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dcgan_eval"

# cli may import everything, and only `python -m dcgan_eval` imports it
ARROWS = {
    "runtime": {"runtime"},
    "options": {"runtime"},
    "images": {"images", "options", "runtime"},
    "models": {"images", "models", "options", "runtime"},
    "linear": {"linear", "options", "runtime"},
    "nearest": {"images", "nearest", "options", "runtime"},
    "metrics": {"metrics", "nearest", "options", "runtime"},
    "features": {"features", "images", "metrics", "models", "options", "runtime"},
    "inputs": {"features", "images", "models", "options", "runtime"},
    "figures": {"runtime"},
    "results": {"options", "results", "runtime"},
    "evaluations": {
        "evaluations", "features", "figures", "images", "linear", "metrics", "nearest", "options", "results", "runtime",
    },
    "studies": {
        "evaluations", "features", "figures", "images", "linear", "models", "options", "results", "runtime", "studies",
    },
    "report": {"figures", "options", "report", "results", "runtime"},
    "reproduction": {"images", "models", "options", "report", "reproduction", "results", "runtime"},
}  # fmt: skip
FRONT = {"__init__", "__main__", "cli"}
STARTS_UP = ("cli", "options", "results", "report", "runtime")
SOURCES = sorted(PACKAGE.rglob("*.py"))


def module(path):
    """'probe' of dcgan_eval/probe.py, 'features' of everything in dcgan_eval/features."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def statements(tree, everywhere):
    """Every node of a module, or those that run when it is imported."""
    for node in ast.iter_child_nodes(tree):
        hidden = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if everywhere or not hidden:
            yield node
            yield from statements(node, everywhere)


def imported(path, everywhere=True):
    """Dotted names of all that a file imports, `from a import b` as 'a.b'."""
    names = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), everywhere):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def house(names):
    return {name.split(".")[1] for name in names if name.startswith("dcgan_eval.")}


def test_the_checker_sees_imports_wherever_they_are(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nfrom dcgan_eval import images\n"
        "try:\n    import pandas.io\nexcept ImportError: ...\ndef f():\n    from dcgan_eval.probe import ALL\n"
        "class A:\n    import json\n"
    )
    assert house(imported(path)) == {"images", "probe"}
    assert imported(path, everywhere=False) == {
        "typing.TYPE_CHECKING", "dcgan_eval.images", "pandas.io", "json",
    }  # fmt: skip


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(path):
    name, found = module(path), imported(path)
    foreign = {dotted.split(".")[0] for dotted in found}
    assert not foreign & {"training", "tests", "benchmarks", "pytest"}
    if name in FRONT:
        return
    assert name in ARROWS, f"{name} is new: say in ARROWS what it may import"
    assert house(found) <= ARROWS[name]


def test_the_arrows_have_no_circle():
    left = {name: targets - {name} for name, targets in ARROWS.items()}
    while left:
        done = {name for name, targets in left.items() if not targets & left.keys()}
        assert done, f"a circle among {sorted(left)}"
        left = {name: targets for name, targets in left.items() if name not in done}


def test_the_arrows_are_of_modules_that_exist():
    assert {module(path) for path in SOURCES} - FRONT == set(ARROWS)


def test_nothing_imports_the_command_line():
    for path in [*SOURCES, *(ROOT / "training").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        front = path.name == "__main__.py" or path.parent.name == "cli"
        assert front or "cli" not in house(imported(path)), path


def test_what_starts_up_does_not_wait_for_torch():
    todo, seen = set(STARTS_UP), set[str]()
    while todo:
        name = todo.pop()
        seen.add(name)
        path = PACKAGE / f"{name}.py" if (PACKAGE / f"{name}.py").exists() else PACKAGE / name / "__init__.py"
        found = imported(path, everywhere=False)
        heavy = {dotted.split(".")[0] for dotted in found} & {"torch", "torchvision", "torchmetrics", "sklearn"}
        assert not heavy, name
        todo |= house(found) - seen


def test_importing_them_imports_no_torch():
    code = "import sys\nfor name in sys.argv[1:]: __import__(f'dcgan_eval.{name}')\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *STARTS_UP], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_classification_does_not_wait_for_what_it_does_not_use():
    """torchvision and torchmetrics take longer to import than torch itself, scikit-learn half as long."""
    slow = ["torchvision", "torchmetrics", "matplotlib", "torch._dynamo", "sklearn"]
    code = (
        "import sys, dcgan_eval.evaluations.classify, dcgan_eval.inputs\n"
        f"print([name for name in {slow} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# what must stand in no file


def listed():
    """The files of the checkout, those not yet added included."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


# in pieces, so that this file is not found by its own search
HOSTS = "|".join(map(re.escape, ("py" + "pi.org", "python" + "hosted", "download.py" + "torch.org/whl",
                                 "anaconda" + ".org", "--index" + "-url", "--extra-index" + "-url",
                                 "--find" + "-links", "--trusted" + "-host", "PIP_INDEX" + "_URL")))  # fmt: skip
FOLDERS = r"(?<![\w.$}/-])/(?:home|root|Users|work|mnt|scratch|private|var/folders)/[\w.]"


@pytest.mark.parametrize(
    ("what", "pattern", "example", "innocent"),
    [
        ("a package index", HOSTS, "https://py" + "pi.org/simple", "pip install -c constraints.txt ."),
        (
            "a folder of one machine",
            FOLDERS,
            "open('/ho" + "me/me/data')",
            "../shared/data, https://a.b/wo" + "rk/c, $HOME/x",
        ),
    ],
)
def test_no_file_names(what, pattern, example, innocent):
    assert re.search(pattern, example)
    assert not re.search(pattern, innocent)
    files = listed()
    assert PACKAGE / "cli" / "__init__.py" in files
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if match := re.search(pattern, text):
            line = text.count("\n", 0, match.start()) + 1
            pytest.fail(f"{path.relative_to(ROOT)}:{line} names {what}: {match[0]}")


def test_nothing_is_unpickled():
    """Neither pickle nor numpy's and torch's readers in the modes that run what a file says."""
    for path in SOURCES:
        found = imported(path)
        assert not {name.split(".")[0] for name in found} & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}, path
        for call in (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)):
            name = ast.unparse(call.func)
            options = {k.arg: ast.unparse(k.value) for k in call.keywords}
            if name in ("torch.load", "torch.hub.load_state_dict_from_url"):
                assert options.get("weights_only") == "True", f"{path}:{call.lineno}"
            assert options.get("allow_pickle", "False") == "False", f"{path}:{call.lineno}"


def test_nothing_draws_from_a_global_generator():
    allowed = re.compile(r"np\.random\.(default_rng|Generator|RandomState)")
    for path in SOURCES:
        for call in (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)):
            name = ast.unparse(call.func)
            where = f"{path}:{call.lineno}: {name}"
            if name.startswith(("np.random.", "random.")):
                assert allowed.match(name), where
            if name in ("torch.randn", "torch.rand", "torch.randint", "torch.randperm"):
                assert any(k.arg == "generator" for k in call.keywords), where
