"""Claim: numbers do not depend on the processor: the same accuracies to the last printed digit, and the same C, by any
instructions.

    python -m benchmarks.instruction_sets CIFAR-10 AUTHORS SVHN.npz [--data-root ROOT] [--reproduce]

AUTHORS: the prefix of the authors' SVHN networks. Each command runs once for every setting that this processor has,
in a process of its own: libraries read these variables when they start. Exits 1 where two settings differ.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.arguments import add_data_root
from benchmarks.measure import header
from dcgan_eval.images import open_images
from dcgan_eval.runtime import fast_ops

# from few instructions to all; those that oneDNN, torch and MKL are held to
SETTINGS = {
    "SSE4.1": ("SSE41", "default", "SSE4_2"),
    "AVX2": ("AVX2", "avx2", "AVX2"),
    "AVX-512": ("AVX512_CORE", "avx512", "AVX512"),
    "AVX-512 bfloat16": ("AVX512_CORE_BF16", "avx512", "AVX512"),
}


def variables(onednn: str, torch: str, mkl: str) -> dict[str, str]:
    """MKL obeys MKL_CBWR on every processor, MKL_ENABLE_INSTRUCTIONS on Intel's alone."""
    cbwr = {"SSE4_2": "COMPATIBLE", "AVX512": "AVX512"}.get(mkl, mkl)
    more = {"MKL_ENABLE_INSTRUCTIONS": mkl, "MKL_CBWR": cbwr}
    return {"ONEDNN_MAX_CPU_ISA": onednn, "ATEN_CPU_CAPABILITY": torch, **more}


def settings() -> dict[str, dict[str, str]]:
    """Those of this processor, all that it has last."""
    wide = fast_ops.instruction_set().startswith("AVX512")
    found = {
        name: variables(*held)
        for name, held in SETTINGS.items()
        if wide or not name.startswith("AVX-512")
        if "bfloat16" not in name or fast_ops.has("avx512_bf16")
    }
    return {**found, f"all ({fast_ops.instruction_set()})": {}}


def run(words: list[str], held: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dcgan_eval", *words],
        env={**os.environ, **held}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def classified(words: list[str], held: dict[str, str]) -> dict[str, str]:
    """What a reader sees: accuracies and errors with C, two decimals as tables print them."""
    rows = json.loads(run(["classify", *words, "--format", "json"], held))
    found = {}
    for row in rows:
        C = "" if row["C"] is None else f" at C={row['C']:g}"
        curve = row["role"] != "value"  # a number for each C that was tried; of the others C is part of the answer
        key = f"{row['features']}, {row['classifier']}, {row['metric']} ({row['role']}), {row['layer']}"
        found[key + (C if curve else "")] = f"{row['value']:.2f}{'' if curve else C}"
    return found


def reproduced(held: dict[str, str]) -> dict[str, str]:
    """Every number of `reproduce digits` but p-values and seconds, four digits."""
    with tempfile.TemporaryDirectory() as folder:
        run(["reproduce", "digits", "--out", folder], held)
        path = next(Path(folder).rglob("results.csv"))
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    keys = (
        "task", "data", "model", "features", "layer", "labels", "question", "condition", "classifier", "method",
        "metric", "role", "n", "C",
    )  # fmt: skip
    return {" | ".join(row[key] for key in keys): f"{float(row['value']):.4g}" for row in rows}


def subset(data: str, root: Path, folder: Path) -> Path:
    """2,000 training and 1,000 test images, drawn."""
    sets = open_images(data, root=root)
    order = np.random.default_rng(0)
    arrays = {}
    for name, n in (("train", 2000), ("test", 1000)):
        some = sets[name].subset(np.sort(order.choice(sets[name].n, n, replace=False)))
        assert some.labels is not None
        arrays[f"x_{name}"], arrays[f"y_{name}"] = some.tensor().permute(0, 2, 3, 1).numpy(), some.labels.numpy()
    np.savez(folder / "some.npz", allow_pickle=False, **arrays)
    return folder / "some.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("authors")
    parser.add_argument("svhn", type=Path)
    parser.add_argument("--reproduce", action="store_true", help="`reproduce digits` as well, minutes for each setting")
    add_data_root(parser)
    a = parser.parse_args()
    print(header())
    differ = False
    with tempfile.TemporaryDirectory() as folder:
        some = subset(a.data, a.data_root, Path(folder))
        disc = ["--features", f"disc:{a.authors}", "--features", "random:svhn32"]
        commands = {
            "digits": ["--features", "disc:digits", "--features", "pixels"],
            "svhn-mini": ["--data", str(a.svhn), *disc, "--probe", "svm,logistic,knn,weighted-knn", "--k", "5"],
            "2,000 images of CIFAR-10": ["--data", str(some), *disc],
        }
        for what, words in commands.items():
            differ |= compared(what, {name: classified(words, held) for name, held in settings().items()})
    if a.reproduce:
        differ |= compared("reproduce digits", {name: reproduced(held) for name, held in settings().items()})
    sys.exit(int(differ))


def compared(what: str, found: dict[str, dict[str, str]]) -> bool:
    """Prints what differs between settings; whether anything does."""
    names = list(found)
    keys = sorted({key for values in found.values() for key in values})
    unequal = [key for key in keys if len({values.get(key, "none") for values in found.values()}) > 1]
    print(f"{what}: {len(keys)} numbers by {', '.join(names)}: {f'{len(unequal)} differ' if unequal else 'all equal'}")
    for key in unequal:
        print(f"  {key.strip()}: {'; '.join(f'{name} {values.get(key)}' for name, values in found.items())}")
    return bool(unequal)


if __name__ == "__main__":
    main()
