"""Claim: L2SVC reaches liblinear's optimum 15 times faster than scikit-learn's LinearSVC, and a sweep of 7 values of C
by 5 folds 100 times faster, on 5,000 × 28,672 features; 50,000 × 28,672 are solved in 8 GiB.

    python -m benchmarks.svm DATA            a labelled source of 32×32 RGB images with at least 5,000
    python -m benchmarks.svm DATA --primal   beside LinearSVC's primal solver as well, at two values of C
    python -m benchmarks.svm DATA --large    50,000 rows as well, in a process of its own, with its peak memory

Features: random:imagenet32, which are as hard as a trained network's. LinearSVC runs at its default tolerance, whose
objective is printed beside ours; both are computed in float64 from the definition. Each is timed alone, after a warm-up
of ours. LinearSVC's sweep is an estimate: its time at the three values of C that are run, interpolated in log C, times
4/5 for the smaller folds.
"""

import argparse
import contextlib
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from benchmarks.arguments import add_data_root
from benchmarks.measure import Case, header
from dcgan_eval.features import extract, random_features
from dcgan_eval.images import Images, open_images
from dcgan_eval.linear import L2SVC, SquaredHinge, one_vs_rest, solve_path
from dcgan_eval.options import CS
from dcgan_eval.runtime.run import Run

N = 5000


def features(sets: dict[str, Images], n: int, cache: Path) -> tuple[torch.Tensor, torch.Tensor]:
    train = sets["train"]
    assert train.labels is not None
    order = torch.randperm(train.n, generator=torch.Generator().manual_seed(0))
    some = train.subset(order[:n])
    assert some.labels is not None
    extractor = random_features("imagenet32", train.subset(order[:N]))
    print(f"{train.name} ({train.sha256[:12]}), {extractor.name}: {extractor.protocol}")
    return extract(extractor, some, run=Run(cache=cache, progress=True)), some.labels


def objective(coef: np.ndarray, intercept: np.ndarray, X: np.ndarray, y: np.ndarray, C: float) -> float:
    sign = np.where(y[:, None] == np.arange(len(coef)), 1, -1)
    decision = np.concatenate([block.astype(np.float64) @ coef.T for block in np.array_split(X, 50)]) + intercept
    penalty = 0.5 * ((coef**2).sum() + (intercept**2).sum())
    return float(penalty + C * (np.maximum(0, 1 - sign * decision) ** 2).sum())


def single(X: np.ndarray, y: np.ndarray, C: float, peers: list[bool]) -> float:
    """Prints ours beside LinearSVC; the peer's seconds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        ours = L2SVC(C).fit(X, y)
        times.append(time.perf_counter() - start)
    seconds, value = float(np.median(times)), objective(ours.coef_, ours.intercept_, X, y, C)
    gap = (ours.gap_ / ours.objective_).max()
    print(f"C={C:g}  L2SVC {seconds:.2f} s (median of 3), objective {value:.9g}, certified gap {gap:.1e}")
    best = np.inf
    for dual in peers:
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            peer = LinearSVC(C=C, dual=dual).fit(X, y)
        taken = time.perf_counter() - start
        theirs = objective(peer.coef_, peer.intercept_, X, y, C)
        print(
            f"         LinearSVC {'dual' if dual else 'primal'} {taken:.1f} s, objective {theirs:.9g} "
            f"({(theirs - value) / value:+.1e} of ours){', did not converge' if caught else ''}: "
            f"{taken / seconds:.0f} ×",
            flush=True,
        )
        best = min(best, taken)
    return best


def cases(sets: dict[str, Images], cache: Path, device: torch.device | str, C: float = 1e-3) -> Iterator[Case]:
    """By the number of rows, of 28,672 features; beside cuML's where there is a GPU and the package."""
    X, y = features(sets, N, cache)
    for n in (N // 16, N // 4, N):
        rows, labels = X[:n], y[:n].numpy()
        peers: dict[str, Callable[[], object]] = {
            "scikit-learn LinearSVC": partial(linear_svc, rows.numpy(), labels, C)
        }
        if torch.device(device).type == "cuda":
            with contextlib.suppress(ImportError):
                from cuml.svm import LinearSVC as OnGPU

                on_device = rows.to(device)
                peers["cuML LinearSVC"] = partial(OnGPU(C=C, penalized_intercept=True).fit, on_device, labels)
        yield Case(n, partial(L2SVC(C, device=device).fit, rows, labels), peers)


def linear_svc(X: np.ndarray, y: np.ndarray, C: float) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LinearSVC(C=C).fit(X, y)


def sweep(X: torch.Tensor, y: torch.Tensor, peers: dict[float, float]) -> None:
    Y = one_vs_rest(y, 10)
    fold = torch.arange(len(y)) % 5
    weight = torch.cat([(fold != k).double()[:, None].expand_as(Y) for k in range(5)], 1)
    start = time.perf_counter()
    gaps = [float(s.relative_gap.max()) for s in solve_path(X, SquaredHinge(Y.repeat(1, 5), weight), CS)]
    seconds = time.perf_counter() - start
    known = sorted(peers)
    log = np.interp(np.log(CS), np.log(known), np.log([peers[C] for C in known]))
    estimate = float(5 * 0.8 * np.exp(log).sum())
    print(
        f"{len(CS)} C × 5 folds  L2SVC {seconds:.1f} s, gaps ≤ {max(gaps):.1e}; LinearSVC, estimated from C="
        f"{', '.join(f'{C:g}' for C in known)}: {estimate:.0f} s: {estimate / seconds:.0f} ×",
        flush=True,
    )


def large(sets: dict[str, Images], cache: Path, C: float) -> None:
    X, y = features(sets, 50_000, cache)
    start = time.perf_counter()
    model = L2SVC(C).fit(X, y)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{X.shape[0]} × {X.shape[1]}, C={C:g}: L2SVC {seconds:.0f} s, {model.n_iter_} Newton steps, certified gap "
        f"{(model.gap_ / model.objective_).max():.1e}, peak memory {peak:.2f} GiB with the features "
        f"({X.numel() * 4 / 2**30:.2f} GiB) and everything else"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    add_data_root(parser)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--primal", action="store_true", help="also LinearSVC's slower primal solver; no sweep")
    arguments = parser.parse_args()
    print(header())
    sets = open_images(arguments.data, root=arguments.data_root)
    if arguments.large:
        large(sets, arguments.cache, 1e-3)
        return
    X, y = features(sets, N, arguments.cache)
    print(f"{X.shape[0]} × {X.shape[1]} float32, 10 classes")
    L2SVC(1e-4).fit(X[:600], y[:600])
    if arguments.primal:
        for C in (1e-4, 1e-3):
            single(X.numpy(), y.numpy(), C, [True, False])
    else:
        sweep(X, y, {C: single(X.numpy(), y.numpy(), C, [True]) for C in (1e-4, 1e-3, 1e-2)})


if __name__ == "__main__":
    main()
