"""Inputs, right and wrong, that tests of several commands write, and what they do with what is printed."""

import json
import os
import subprocess
import sys

import numpy as np
import torch
from PIL import Image

from dcgan_eval.models.checkpoint import save
from tests.builders import fails, networks, run

FAST = ("--features", "pixels", "--C", "1e-3")  # of digits: no folds, no network


def shell(code, *argv, **variables):
    """Python code in a process of its own, which sees nothing of this one."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)],
        capture_output=True, text=True, check=False, env={**os.environ, **variables},
    )  # fmt: skip


MAIN = "from dcgan_eval.cli import main; main()"


def rows(*argv):
    code, out, err = run("classify", "--format", "json", *argv)
    assert code == 0, err
    found = json.loads(out)
    assert isinstance(found, list)
    return found


def body(out):
    """The lines of the first table that was printed, its header the first."""
    return out.split("\n\n")[1].splitlines()


def write_npz(path, n=20, shape=(8, 8), **changes):
    """Two classes of noise, both splits."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "test"):
        arrays[f"x_{split}"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(n) % 2
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


def write_folder(path, mode="L", size=(8, 8)):
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (path / split / label).mkdir(parents=True)
            for i in range(3):
                Image.new(mode, size).save(path / split / label / f"{i}.png")
    return path


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def pixels(path):
    return ["--data", path, *FAST]


def foreign_results(t):
    (t / "r.csv").write_text("a,b\n1,2\n")
    return [*FAST, "--results", t / "r.csv"]


def typed(*argv):
    return lambda t: [str(word).replace("TMP", str(t)) for word in argv]


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


PIXELS = ("--features", "pixels")


RANDOM = ("--features", "random:digits@1x1")


class Judge(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10].float() / 20


def corrupt_files(t):
    folder = write_folder(t / "f")
    for name in ("cat/0", "cat/2", "dog/0", "dog/1"):
        (folder / "test" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    return ["digits:train", f"{folder}:test", *PIXELS]


def discriminator_alone(t):
    save(t / "d.safetensors", discriminator=networks()[1])
    return ["digits:train", f"gen:{t / 'd.safetensors'}", *PIXELS]


def stats_file(t, d=64, **changes):
    arrays = {"mu": np.zeros(d), "sigma": np.eye(d)} | changes
    np.savez(t / "s.npz", **arrays)
    return t / "s.npz"


def refuses(command, make, message, tmp_path, monkeypatch):
    """Bad input ends in one line and exit 2, and nothing in the folder changes. make: arguments, from the folder."""
    monkeypatch.chdir(tmp_path)
    argv = [str(word) for word in make(tmp_path)]
    if "--results" not in argv:
        argv += ["--results", str(tmp_path / "out.csv")]
    before = contents(tmp_path)
    fails(run(command, *argv), message)
    assert contents(tmp_path) == before
