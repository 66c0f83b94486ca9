"""Claim: nothing that was fast has become slow. Small instances of what claims to be fast, as ratios to a peer in the
same run; exits with 1 where one is below a fifth of what it was when this was written.

    python -m benchmarks.regression [--rounds 3]

Ours and the peer take turns after a round that does not count; medians are compared. A fifth is beyond what a busy
machine does to a ratio, and a tenfold slowdown is not missed.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from benchmarks.features import network
from benchmarks.frechet import by_sqrtm
from benchmarks.measure import header
from benchmarks.neighbors import by_scikit_learn, ours
from benchmarks.svm import linear_svc
from dcgan_eval.features import discriminator_features
from dcgan_eval.linear import L2SVC
from dcgan_eval.metrics.frechet import fit, frechet_distance
from dcgan_eval.models.networks import scale_images

SLACK = 5


@dataclass(frozen=True)
class Check:
    """before: how many times faster than the peer ours was, on 2 cores with AVX2."""

    name: str
    peer: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    before: float


def svm() -> Check:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(1000) % 10
    X = (torch.randn(1000, 6000, generator=generator) + 0.05 * functional.one_hot(y, 10).repeat(1, 600)).relu()
    rows, labels = X.numpy(), y.numpy()

    return Check(
        "L2-SVM, 1,000 x 6,000, ten classes",
        "scikit-learn",
        lambda: L2SVC(1e-2).fit(rows, labels),
        lambda: linear_svc(rows, labels, 1e-2),
        4.5,
    )


def frechet() -> Check:
    generator = torch.Generator().manual_seed(0)
    a, b = (fit(torch.randn(2000, 768, generator=generator).relu()) for _ in range(2))
    return Check("Fréchet distance, d = 768", "scipy", lambda: frechet_distance(a, b), lambda: by_sqrtm(a, b), 5.0)


def neighbours() -> Check:
    x = torch.randint(0, 256, (6000, 3072), generator=torch.Generator().manual_seed(0)).float()
    queries, database = x[:1000], x[1000:]
    return Check(
        "5 nearest, 1,000 among 5,000 x 3,072",
        "scikit-learn",
        lambda: ours(queries, database, 5),
        lambda: by_scikit_learn(queries, database, 5),
        1.3,
    )


def features() -> Check:
    images = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    discriminator = network("svhn32", images)
    x = scale_images(images, discriminator.architecture)
    extractor = discriminator_features(discriminator, name="disc:svhn32")

    def theirs() -> object:
        with torch.inference_mode():
            maps = discriminator.conv_features(x)
            return torch.cat([functional.adaptive_max_pool2d(h, 4).flatten(1) for h in maps], 1)

    return Check("features of 512 images, svhn32", "plain PyTorch", lambda: extractor(images), theirs, 1.4)


def start() -> Check:
    def run(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    ours = run("import sys; from dcgan_eval.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    return Check("dcgan-eval --help", "import torch", ours, run("import torch"), 19.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{header()}\n\n{'':40}{'ours, s':>9}{'peer, s':>9}{'times':>8}{'before':>8}  peer")
    slow = []
    for make in (svm, frechet, neighbours, features, start):
        check = make()
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for i in range(rounds + 1):
            for name, work in (("ours", check.ours), ("theirs", check.theirs)):
                begun = time.perf_counter()
                work()
                if i:
                    seconds[name].append(time.perf_counter() - begun)
        ours, theirs = (statistics.median(some) for some in seconds.values())
        ratio = theirs / ours
        verdict = ""
        if ratio < check.before / SLACK:
            slow.append(check.name)
            verdict = ": TOO SLOW"
        print(
            f"{check.name:40}{ours:9.3f}{theirs:9.3f}{ratio:8.2f}{check.before:8.2f}  {check.peer}{verdict}", flush=True
        )
    if slow:
        sys.exit(f"slower than a fifth of what it was: {', '.join(slow)}")


if __name__ == "__main__":
    main()
