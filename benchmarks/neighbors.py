"""Claim: exact nearest neighbours at least twice as fast as the faster of scikit-learn's brute force and faiss's flat
index, with the same rows.

    python -m benchmarks.neighbors CIFAR-10 [--data-root data] [--k 5] [--rounds 3]

Queries are all test images, the database all training images: 10,000 against 50,000 of 3,072 values. Twice: pixels,
which are bytes, and pixels standardised by column, which are not. The three take turns; the medians are compared.
scikit-learn and faiss return float32 distances that cancel between near copies, so distances are not compared: where
rows differ, ours must be nearer in float64, or as near; otherwise it exits with 1.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from benchmarks.arguments import add_data_root
from benchmarks.measure import Case, header
from dcgan_eval.images import Images, open_images
from dcgan_eval.nearest.exact import k_nearest


def ours(queries: Tensor, database: Tensor, k: int) -> NDArray[np.int64]:
    return k_nearest(queries, database, k)[1].numpy()


def by_faiss(queries: Tensor, database: Tensor, k: int) -> NDArray[np.int64]:
    index = faiss.IndexFlatL2(database.shape[1])
    index.add(database.numpy())
    return np.asarray(index.search(queries.numpy(), k)[1])


def by_scikit_learn(queries: Tensor, database: Tensor, k: int) -> NDArray[np.int64]:
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(database.numpy())
    return np.asarray(search.kneighbors(queries.numpy(), return_distance=False))


SEARCHES: dict[str, Callable[[Tensor, Tensor, int], NDArray[np.int64]]] = {
    "ours": ours,
    "faiss": by_faiss,
    "scikit-learn": by_scikit_learn,
}


def cases(sets: dict[str, Images], queries: int = 2500, k: int = 5) -> Iterator[Case]:
    """By the size of the database: pixels, for the `queries` first test images."""
    x, database = (sets[name].tensor().flatten(1).float() for name in ("test", "train"))
    x = x[:queries]
    for n in (len(database) // 16, len(database) // 4, len(database)):
        runs = {search: partial(run, x, database[:n], k) for search, run in SEARCHES.items()}
        yield Case(n, runs.pop("ours"), dict(runs))


def farther(queries: Tensor, database: Tensor, found: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """How many of `found` are farther than the neighbour of the same rank among `other`, in float64."""
    differ = np.flatnonzero((found != other).any(1))
    a, b = (
        (queries[differ, None].double() - database[rows[differ]].double()).square().sum(2).sort(1).values
        for rows in (found, other)
    )
    return int((a > b).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    add_data_root(parser)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    sets = open_images(a.data, root=a.data_root)
    queries, database = (sets[name].tensor().flatten(1).float() for name in ("test", "train"))
    deviation, mean = torch.std_mean(database, 0)
    print(f"{header()}; faiss {faiss.__version__}")
    print(f"{len(queries)} queries of {sets['test'].name}, {len(database)} rows of {sets['train'].name}, k {a.k}\n")
    failed = False
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, x, y in (
        ("pixels", queries, database),
        ("standardised", (queries - mean) / deviation, (database - mean) / deviation),
    ):
        seconds: dict[str, list[float]] = {search: [] for search in SEARCHES}
        found = {}
        for _ in range(a.rounds):
            for search, run in SEARCHES.items():
                start = time.perf_counter()
                found[search] = run(x, y, a.k)
                seconds[search].append(time.perf_counter() - start)
                if name == "pixels" and search == "ours" and len(seconds[search]) == 1:
                    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                    print(f"memory of ours beyond both sets: {(after - before) / 2**20:.2f} GiB")
        medians = {search: statistics.median(times) for search, times in seconds.items()}
        best = min(("faiss", "scikit-learn"), key=lambda search: medians[search])
        operations = 2 * len(x) * len(y) * x.shape[1]
        print(f"{name}: {', '.join(f'{search} {took:.1f} s' for search, took in medians.items())}")
        rate = operations / medians["ours"] / 1e9
        print(f"    {medians[best] / medians['ours']:.2f} times as fast as {best}, {rate:.0f} GFLOP/s")
        for search in ("faiss", "scikit-learn"):
            differ = int((found[search] != found["ours"]).sum())
            wrong = farther(x, y, found["ours"], found[search])
            print(f"    {search}: {differ} rows differ, ours farther in {wrong}")
            failed = failed or wrong > 0
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
