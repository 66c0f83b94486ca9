"""The public names: all there, documented, and imported only when they are used."""

import subprocess
import sys

import pytest

import dcgan_eval
from dcgan_eval import _WHERE


def test_every_public_name_is_found():
    assert set(dcgan_eval.__all__) == {*_WHERE, "__version__"}
    assert dir(dcgan_eval) == sorted(dcgan_eval.__all__)
    for name in dcgan_eval.__all__:
        assert getattr(dcgan_eval, name) is not None
        assert name == "__version__" or getattr(dcgan_eval, name).__doc__, name


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'clasify'"):
        dcgan_eval.clasify  # noqa: B018


def test_importing_the_package_imports_no_torch():
    code = "import sys, dcgan_eval; dcgan_eval.__version__; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_what_it_says_of_itself_runs():
    lines = [line[4:] for line in dcgan_eval.__doc__.splitlines() if line.startswith(">>> ")]
    space: dict[str, object] = {}
    exec("\n".join(lines), space)
    assert space["rows"]
