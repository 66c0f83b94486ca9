"""`dcgan-eval info` and `convert`."""

import json
import re

import pytest

from dcgan_eval import results
from dcgan_eval.linear import newton, operators
from dcgan_eval.models.checkpoint import load, save
from dcgan_eval.runtime import fast_ops
from tests.builders import networks, run, trained, write_authors
from tests.cli.builders import rows


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
