"""benchmarks/table1.sh, at a size that takes seconds."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dcgan_eval import results
from dcgan_eval.models.checkpoint import load

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--generator-channels", "8,8,8,8,8,8", "--discriminator-channels", "4,4,4,4,4,4", "--z-dim", "8",
         "--batch-size", "8", "--epochs", "1", "--device", "cpu")  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_from_images_to_the_table_and_on_from_where_it_stopped(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 3
    pixels = (rng.integers(0, 120, (24, 32, 32, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "few.npz", x_train=pixels, y_train=labels, x_test=pixels[::-1], y_test=labels[::-1])
    out = tmp_path / "out"

    def run():
        subprocess.run(
            ["bash", str(ROOT / "benchmarks/table1.sh"), tmp_path / "few.npz", tmp_path / "few.npz", out, *SMALL],
            env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PER_CLASS": "4", "REPEATS": "2"},
            cwd=tmp_path, check=True, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    run()
    rounded, exact = (load(out / f"imagenet32-{name}.safetensors") for name in ("bfloat16", "float32"))
    assert rounded.generator is None
    assert rounded.discriminator is not None
    assert exact.discriminator is not None
    for a, b in zip(rounded.discriminator.parameters(), exact.discriminator.parameters(), strict=True):
        assert (a - b).abs().max() <= b.abs().max() / 256
    with (out / "results.csv").open(newline="") as file:
        rows = [
            (row["features"], row["labels"])
            for row in csv.DictReader(file)
            if (row["metric"], row["role"]) == ("accuracy", "value")
        ]
    ours = "disc:imagenet32-"
    assert rows == [
        (f"{ours}float32", "all"), (f"{ours}float32", "per-class:4"), (f"{ours}bfloat16", "all"),
        ("random:imagenet32", "all"), ("random:imagenet32", "per-class:4"),
    ]  # fmt: skip
    before = results.read(out / "results.csv")
    (out / "few-random.txt").unlink()
    run()  # only what is missing
    after = results.read(out / "results.csv")
    assert after[: len(before)] == before
    assert {(row.features, row.labels) for row in after[len(before) :]} == {("random:imagenet32", "per-class:4")}
