"""Options, declared once: what records refuse, commands that are made from them, and names of before."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dcgan_eval import options
from dcgan_eval.cli.app import OPTIONS, RENAMED, check_names, typed
from dcgan_eval.options import ClassifyOptions, DedupOptions, FeatureOptions, FidOptions, Options, declaration
from dcgan_eval.runtime.errors import InputError, as_typed
from tests.builders import fails, run

RECORDS = [record for record in vars(options).values() if isinstance(record, type) and issubclass(record, Options)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_option_has_a_help_text_and_a_default_that_it_allows(record):
    made = record()
    for field in fields(record):
        assert (declaration(record)[field.name].info.help or "").endswith((".", "]"))
        assert getattr(made, field.name) == field.default


@pytest.mark.parametrize(
    ("record", "given", "message"),
    [
        (FidOptions, {"metrics": ("fdi",)}, "`metrics` 'fdi': unknown; did you mean 'fid'"),
        (FidOptions, {"metrics": ()}, "`metrics` '': name each once"),
        (FidOptions, {"metrics": "fid"}, "`metrics` 'fid': want a tuple"),
        (FidOptions, {"prdc_k": 0}, "`prdc_k` 0: want 1 or more"),
        (FidOptions, {"prdc_k": 2.5}, "`prdc_k` 2.5: want a value of type int"),
        (FidOptions, {"seed": 2**32}, "`seed` 4294967296: want 0 or more, 4294967295 or less"),
        (ClassifyOptions, {"C": 0.1}, "`C` 0.1: want a tuple"),
        (ClassifyOptions, {"C": (0.0,)}, "`C` '0': want positive, finite numbers"),
        (ClassifyOptions, {"C": ("a",)}, "`C` 'a': want a value of type float"),
        (ClassifyOptions, {"folds": "5"}, "`folds` '5': want a value of type int"),
        (ClassifyOptions, {"k": (5,)}, "`k` '5': applies to `probe` knn and weighted-knn"),
        (ClassifyOptions, {"probe": ("knn",), "k": ()}, "`k` '': applies"),
        (ClassifyOptions, {"probe": ()}, "`probe` '': want one or more of svm"),
        (ClassifyOptions, {"folds": True}, "`folds` True: want a value of type int"),
        (DedupOptions, {"method": ()}, "`method` is empty: name one of autoencoder"),
        (FeatureOptions, {"batchnorm": "store"}, "`batchnorm` 'store': unknown; did you mean 'stored'"),
    ],
)
def test_what_a_record_refuses(record, given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        record(**given)


def test_what_a_record_takes_for_another_type():
    path: Any = "w.pth"
    assert FeatureOptions(weights=path).weights == Path("w.pth")
    assert ClassifyOptions(C=(1, np.float32(0.5))).C == (1, 0.5)  # type: ignore[arg-type]
    assert ClassifyOptions(folds=np.int64(3)).folds == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [(command, *pair) for command in OPTIONS for pair in {**RENAMED[""], **RENAMED.get(command, {})}.items()],
)
@pytest.mark.parametrize("value", ["{} x", "{}=x"])
def test_a_name_of_before_says_the_new_one(command, old, new, value):
    known = {typed(name) for name in OPTIONS[command]}
    words = [command, *value.format(old).split()]
    if old in known or new not in known:
        check_names(words)
    else:
        with pytest.raises(InputError, match=f"{old}: is called {new} now"):
            check_names(words)


def test_every_name_of_before_has_a_command_with_the_new_one():
    for command, names in RENAMED.items():
        known = {typed(name) for name in OPTIONS.get(command, set().union(*OPTIONS.values()))}
        assert set(names.values()) <= known, command


def test_names_of_before_on_the_command_line(tmp_path):
    fails(run("fid", "--splits", "3"), "--splits: is called --is-splits now")
    fails(run("classify", "--out", tmp_path / "r.csv"), "--out: is called --results now")
    fails(run("info", "digits", "--out", "x"), "No such option: --out")
    fails(run("clasify", "--out", "r.csv"), "No such command 'clasify'")
    fails(run("dedup", "digits", "--out", tmp_path / "r.csv"), "want a folder; results are appended to --results FILE")
    fails(run("reproduce", "--out", tmp_path / "r.csv"), r"want a folder; results\.csv is written there")
    assert not list(tmp_path.iterdir())


def test_a_message_names_the_options_of_its_command_as_they_are_typed():
    said = "`prdc_k` 0 and `C` and `is` and `test`"
    assert as_typed(said, OPTIONS["fid"]) == "--prdc-k 0 and `C` and `is` and `test`"
    assert as_typed(said, OPTIONS["classify"]) == "`prdc_k` 0 and --C and `is` and --test"
    assert as_typed(said, ()) == said


def test_lists_are_repeated_or_separated_by_commas(tmp_path):
    both = ["fid", "digits:train", "digits:test", "--features", "pixels", "--kid-subset-size", "20", "--format", "csv"]
    found = [
        [line.split(",")[3] for line in run(*both, *more)[1].splitlines()]
        for more in (("--metrics", "fid,kid"), ("--metrics", "fid", "--metrics", "kid"), ("--metrics", "fid, kid"))
    ]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("disc:digits@1x2", "want a square grid of at least 1x1, as in digits@1x1"),
        ("random:digits@0x0", "want a square grid of at least 1x1, as in digits@1x1"),
        ("disc:digits@", "no such checkpoint"),
    ],
)
def test_a_grid_that_is_none(spec, message):
    fails(run("fid", "digits:train", "digits:test", "--features", spec), message)
