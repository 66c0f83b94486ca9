"""Claim: ranks of torchrun share the work: twice as many of them take about half as long, and exchange little.

    python -m benchmarks.ranks [--ranks 1,2] [--out reports/benchmarks/ranks.csv]

On one machine, a thread each: features of 1,024 images by imagenet32, an L2-SVM of 16,384 rows of 4,096 features and
ten classes, and the 5 nearest of 1,000 queries among 16,384 rows of 3,072 values; noise throughout. Beside the seconds:
how often the SVM multiplied by its rows, and the bytes that each rank gave to sums in all.
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from benchmarks.features import network
from benchmarks.measure import Limit, header, limits
from dcgan_eval.features import discriminator_features, extract
from dcgan_eval.images import from_tensor
from dcgan_eval.linear import L2SVC, newton
from dcgan_eval.linear.operators import Basis, Gram, Primal
from dcgan_eval.linear.preconditioner import Preconditioner
from dcgan_eval.nearest.exact import k_nearest
from dcgan_eval.runtime.files import write_whole
from dcgan_eval.runtime.ranks import Ranks, joined
from dcgan_eval.runtime.run import Run

ROUNDS = 3


def worker(ranks: Ranks) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1024, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images = from_tensor(pixels, name="noise")
    extractor = discriminator_features(network("imagenet32", pixels[:256]), name="disc:imagenet32")
    y = torch.randint(10, (16384,), generator=torch.Generator().manual_seed(1))
    X = (torch.randn(16384, 4096, generator=generator) + 0.05 * torch.eye(10)[y].repeat(1, 410)[:, :4096]).relu()
    queries, database = torch.randn(1000, 3072, generator=generator), torch.randn(16384, 3072, generator=generator)
    rows, near = (slice(some.start, some.stop) for some in (ranks.share(len(X)), ranks.share(len(database))))
    mine, labels, stored = X[rows].clone(), y[rows].numpy(), database[near].clone()
    del X, database
    model = L2SVC(1e-3, ranks=ranks)
    works: dict[str, Callable[[], object]] = {
        "features": lambda: extract(extractor, images, run=Run(ranks=ranks)),
        "svm": lambda: model.fit(mine, labels),
        "neighbours": lambda: k_nearest(queries, stored, 5, ranks=ranks),
    }
    found: dict[str, float] = {}
    for name, work in works.items():
        work()
        taken = []
        for _ in range(ROUNDS):
            ranks.sum(torch.zeros(1))  # all begin together
            start = time.perf_counter()
            work()
            ranks.sum(torch.zeros(1))
            taken.append(time.perf_counter() - start)
        found[name] = sorted(taken)[ROUNDS // 2]
    found |= counted(model.fit, mine, labels)
    with Limit(limits("cpu")) as limit:
        model.fit(mine, labels)
    return found | {"svm limit": limit.seconds}


def counted(fit: Callable[..., object], *arguments: object) -> dict[str, float]:
    """Products with all rows, in passes over ten columns, float32 and float64; Newton systems of ten columns that the
    preconditioner was fitted to; and megabytes given to collectives."""
    found = {"float32": 0.0, "float64": 0.0, "systems": 0.0, "megabytes": 0.0}
    forward, adjoint, collective, basis = Primal.forward, Primal.adjoint, Ranks._all, Primal.basis
    inside = False

    class Counted(Preconditioner):
        def __init__(self, form: Primal | Gram, curvature: Tensor) -> None:
            found["systems"] += curvature.shape[1] / 10
            super().__init__(form, curvature)

    def count(values: Tensor) -> None:
        if not inside:
            found[str(values.dtype)[6:]] += values.shape[1] / 10

    def there(form: Primal, W: Tensor) -> Tensor:
        count(W)
        return forward(form, W)

    def back(form: Primal, A: Tensor) -> Tensor:
        count(A)
        return adjoint(form, A)

    def leading(form: Primal, whole: bool) -> Basis:
        nonlocal inside
        inside = True
        try:
            return basis(form, whole)
        finally:
            inside = False

    def all_(ranks: Ranks, values: Tensor, call: Callable[[Tensor], object]) -> Tensor:
        found["megabytes"] += values.numel() * values.element_size() / 1e6
        return collective(ranks, values, call)

    with (
        mock.patch.object(Primal, "forward", there),
        mock.patch.object(Primal, "adjoint", back),
        mock.patch.object(Primal, "basis", leading),
        mock.patch.object(newton, "Preconditioner", Counted),
        mock.patch.object(Ranks, "_all", all_),
    ):
        fit(*arguments)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        with joined("cpu") as (here, _):
            found = worker(here)
            if here.first:
                print(json.dumps(found))
        return
    torch.set_num_threads(1)  # what the header says; ranks have one each
    lines = []
    for world in map(int, a.ranks.split(",")):
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world), "-m"]
        done = subprocess.run(
            [sys.executable, *command, "benchmarks.ranks", "--worker"],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        lines.append({"ranks": world, **json.loads(done.stdout.splitlines()[-1]), "machine": header()})
        print({k: v if isinstance(v, str) else round(v, 3) for k, v in lines[-1].items()}, flush=True)
    if a.out is not None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        write_whole(a.out, text.getvalue())


if __name__ == "__main__":
    main()
