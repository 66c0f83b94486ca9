"""How the command starts, and what --help says."""

import contextlib
import io
import subprocess
import sys

import pytest

from dcgan_eval import cli
from dcgan_eval.runtime import devices
from tests.builders import fails, run
from tests.cli.builders import FAST, MAIN, shell


@pytest.mark.parametrize(
    "argv", [[], ["--help"], *([name, "--help"] for name in ("classify", "fid", "neighbors", "dedup", "convert"))]
)
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
