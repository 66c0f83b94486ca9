"""Claim: on every problem of the table, L2SVC's objective is liblinear's or lower, and its certificate holds.

    python -m benchmarks.svm_parity

LinearSVC runs both of its solvers at tol=1e-8 and up to 3,000 iterations; the lower objective is shown. Objectives are
sums over the one-vs-rest problems, in float64 from the definition.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from dcgan_eval import results
from dcgan_eval.linear import L2SVC

Array = NDArray[Any]
Problem = tuple[Array, Array, float]


def objective(coef: Array, intercept: Array, X: Array, y: Array, C: float) -> Array:
    """P of every one-vs-rest problem, straight from the definition, in float64."""
    classes = np.unique(y)
    X = X.astype(np.float64)
    values = []
    for k, (w, b) in enumerate(zip(coef, intercept, strict=True)):
        sign = np.where(y == classes[1 if len(classes) == 2 else k], 1, -1)
        values.append((w @ w + b * b) / 2 + C * (np.maximum(0, 1 - sign * (X @ w + b)) ** 2).sum())
    return np.array(values)


def random(seed: int, n: int, d: int, classes: int, C: float, offset: float = 0.0, dtype: str = "f8") -> Problem:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) + offset).astype(dtype), rng.integers(0, classes, n), C


def digits(scale: float, C: float) -> Problem:
    X, y = load_digits(return_X_y=True)
    return X * scale, y, C


def one_sample_classes() -> Problem:
    X, y, C = random(3, 100, 30, 1, 10.0)
    y[:2] = [1, 2]
    return X, y, C


def constant_features() -> Problem:
    X, y, C = random(4, 500, 40, 4, 1.0)
    X[:, ::4] = 7
    return X, y, C


def unscaled(n: int, d: int) -> Problem:
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, size=(n, d)).astype("f4"), rng.integers(0, 3, n), 1.0


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "n > d": lambda: digits(1 / 16, 1.0),
    "n < d": lambda: random(0, 300, 2000, 5, 0.1),
    "two classes": lambda: (*make_classification(1000, 50, random_state=0), 1.0),
    "one-sample classes": one_sample_classes,
    "constant features": constant_features,
    "unscaled, n > d": lambda: digits(16, 1.0),
    "unscaled, conjugate gradients": lambda: unscaled(2000, 768),
    "unscaled, n < d": lambda: unscaled(300, 1024),
    "offset, Gram in float32": lambda: random(1, 900, 3000, 3, 1e-2, 3.0, "f4"),
    "offset, passes over X": lambda: random(2, 3000, 800, 3, 1e-2, 1.0, "f4"),
    "small C": lambda: digits(1 / 16, 1e-8),
}


def main() -> None:
    print(f"{results.versions()}; {results.now()}")
    print(
        f"{'problem':30} {'n':>5} {'d':>5} {'classes':>7} {'C':>6} {'L2SVC':>16} {'gap ≤':>8} {'s':>6} "
        f"{'LinearSVC':>16} {'relative':>9} {'s':>6}"
    )
    for name, build in PROBLEMS.items():
        X, y, C = build()
        start = time.perf_counter()
        ours = L2SVC(C).fit(X, y)
        seconds = time.perf_counter() - start
        value = objective(ours.coef_, ours.intercept_, X, y, C).sum()
        start = time.perf_counter()
        found, note = np.inf, ""
        for dual in (True, False):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                peer = LinearSVC(C=C, dual=dual, tol=1e-8, max_iter=3000, random_state=0).fit(X, y)
            theirs = objective(peer.coef_, peer.intercept_, X, y, C).sum()
            if theirs < found:
                found, note = theirs, " did not converge" if caught else ""
        print(
            f"{name:30} {X.shape[0]:5} {X.shape[1]:5} {len(np.unique(y)):7} {C:6g} {value:16.10g} "
            f"{(ours.gap_ / ours.objective_).max():8.0e} {seconds:6.2f} {found:16.10g} {(value - found) / found:+9.0e} "
            f"{time.perf_counter() - start:6.2f}{note}",
            flush=True,
        )


if __name__ == "__main__":
    main()
