"""Claim: no command needs memory that grows with the number of images, but for what it must hold of each.

    python -m benchmarks.memory [--out reports/benchmarks/memory.md] [COMMAND ...]

Each command in a process of its own at three sizes, each four times the last; the peak is that of its resident memory,
files that are mapped included. Images are noise, in one .npz of bytes, which is read whole. What an image costs is the
growth between the two larger sizes; what must be held of it stands beside.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import header
from dcgan_eval.models import checkpoint
from dcgan_eval.models.architecture import preset
from dcgan_eval.models.networks import Generator, initialise
from dcgan_eval.runtime.files import write_whole

MIB = 2**20
# what is freed goes back to the system, so that the peak is of what is held and not of glibc's heap
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": str(MIB)}
# a process counts the memory of the one that started it, until it is another program: that must be a small one
RUN = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@dataclass(frozen=True)
class Command:
    """words: of the command line; {n} is the size, {images}, {test} and {fake} are files of so many images, {digits}
    of MNIST's shape. smallest: of three sizes. must: bytes that must be held of each image, and why. side: pixels of
    the images: fewer where what is held beside them is bounded only by more of them."""

    name: str
    words: str
    smallest: int
    must: int
    why: str
    side: int = 32


IMAGE = 3 * 32 * 32
COMMANDS = [
    Command(
        "classify",
        "classify --data {images} --test {test} --features random:svhn32 --C 1e-3 --device cpu",
        1000,
        IMAGE + 4 * 7168,
        "bytes and 7,168 features",
    ),
    Command(
        "fid",
        "fid {images} {fake} --features random:svhn32@1x1 --metrics fid --device cpu",
        500,
        2 * IMAGE,
        "bytes of both sides; of features only sums",
    ),
    Command(
        "fid, kid and prdc",
        "fid {images} {fake} --features random:svhn32@1x1 --metrics kid,prdc --kid-subset-size 100 --device cpu",
        500,
        2 * IMAGE + 2 * 4 * 448,
        "bytes and 448 features of both sides",
    ),
    Command(
        "neighbors",
        "neighbors {fake} {images} --test {test} --device cpu",
        4000,
        2 * 192 + 3 * 4 * 192,
        "bytes of both sides; pixels of both, and of one mirrored or scaled",
        side=8,
    ),
    Command(
        "dedup",
        "dedup {images} --out {out} --device cpu",
        1000,
        2 * IMAGE,
        "bytes, and those that the autoencoder is fitted to (up to 50,000)",
    ),
    Command(
        "table3",
        "table3 --generator {generator} --data {digits} --num-samples {n} --device cpu",
        8000,
        8,
        "the label of a sample; samples are forgotten",
    ),
    Command("sample", "sample digits --num-samples {n} --out {out}.png", 250, 3 * 64, "the pixels of the picture"),
    Command("turn", "turn digits dark bright --num-samples {n} --device cpu", 500, 64 + 40, "pixels and z of a sample"),
    Command(
        "forget",
        "forget digits 3 --data digits --num-samples {n} --device cpu",
        500,
        3 * 64 * 64,
        "1,024 activations, and in float64 for the regression",
    ),
    Command(
        "training",
        "training digits --data {images} --image-channels 3 --image-size 32 --epochs 0.01 --device cpu --out {out}",
        1000,
        IMAGE,
        "bytes",
    ),
]


def noise(path: Path, n: int, shape: tuple[int, ...], seed: int = 0) -> Path:
    """With labels of ten classes, and a split of 200 to test on; written once."""
    if not path.exists():
        draw = np.random.default_rng(seed)
        parts = {}
        for split, count in (("train", n), ("test", 200)):
            parts[f"x_{split}"] = draw.integers(0, 256, (count, *shape), np.uint8)
            parts[f"y_{split}"] = np.arange(count) % 10
        np.savez(path, **parts)  # type: ignore[arg-type]
    return path


def peak(words: list[str]) -> int:
    """Bytes of resident memory at most, of the command in a process of its own."""
    module = ["-m", "training", *words[1:]] if words[0] == "training" else ["-m", "dcgan_eval", *words]
    done = subprocess.run(
        [sys.executable, "-c", RUN, sys.executable, *module], capture_output=True, text=True, env=os.environ | AT_ONCE
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return int(done.stdout) * 1024


def peaks(command: Command, folder: Path) -> list[tuple[int, int]]:
    found, side, shape = [], command.side, (command.side, command.side, 3)
    for n in (command.smallest, 4 * command.smallest, 16 * command.smallest):
        places = {
            "n": str(n),
            "images": f"{noise(folder / f'images{n}-{side}.npz', n, shape)}:train",
            "test": f"{noise(folder / f'images{n}-{side}.npz', n, shape)}:test",
            "fake": f"{noise(folder / f'fake{n}-{side}.npz', n, shape, seed=1)}:train",
            "digits": str(noise(folder / "digits.npz", 1000, (28, 28))),
            "generator": str(folder / "generator.safetensors"),
            "out": str(folder / f"out-{command.name}-{n}"),
        }
        found.append((n, peak([word.format(**places) for word in command.words.split()])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help="[default: all]")
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    lines = [
        "| command | images | peak, MiB | 4 × as many | 16 × as many | bytes an image | must hold | which is |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generator = Generator(preset("mnist28"))
        initialise(generator, torch.Generator().manual_seed(0))
        checkpoint.save(folder / "generator.safetensors", generator=generator)
        for command in COMMANDS:
            if a.commands and command.name not in a.commands:
                continue
            found = peaks(command, folder)
            (n, _), (n2, middle), (n3, large) = found
            each = (large - middle) / (n3 - n2)
            sizes = " | ".join(f"{bytes_ / MIB:,.0f}" for _, bytes_ in found)
            lines.append(f"| {command.name} | {n:,} | {sizes} | {each:,.0f} | {command.must:,} | {command.why} |")
            print(lines[-1], flush=True)
    if a.out is not None:
        write_whole(a.out, "\n".join([*lines, "", f"- {header()}", ""]))


if __name__ == "__main__":
    main()
