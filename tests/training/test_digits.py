"""The checkpoint inside the package."""

import pytest

from dcgan_eval.models.checkpoint import EMBEDDED, load
from dcgan_eval.runtime.errors import InputError
from training.config import PRESETS


def test_it_was_made_by_the_recipe():
    found = load("digits")
    # it was made before D's weights could be averaged
    assert {"ema_d": 0.0} | found.metadata["config"] == PRESETS["digits"].to_json_dict()
    assert found.metadata["data"] == "digits:train"
    assert found.metadata["images"] == 800 * 7 * 128
    assert found.has_statistics


def test_it_is_small():
    assert EMBEDDED["digits"].stat().st_size < 2 << 20


def test_a_file_of_that_name_goes_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(InputError, match="digits: a folder"):
        load("digits")
