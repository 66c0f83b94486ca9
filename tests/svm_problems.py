"""Linear classification problems as they come and as they should not: the solver's property tests draw from them."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dcgan_eval.linear import one_vs_rest

KINDS = ("normal", "after ReLU", "pixels", "sparse", "far from zero")
FAULTS = (
    "columns of unequal scale",
    "constant columns",
    "repeated rows",
    "repeated columns",
    "separable",
    "unbalanced",
    "rows of zeros",
)


class Problem(NamedTuple):
    """X: (n, d) float32 or float64. y: int64 (n,), 0 to classes − 1. what: kind and faults, for a failing test."""

    X: Tensor
    y: Tensor
    C: float
    classes: int
    what: str

    @property
    def signs(self) -> Tensor:
        return one_vs_rest(self.y, self.classes)


def drawn(seed: int, *, most_rows: int = 4000, most_columns: int = 8192, most_values: int = 2**22) -> Problem:
    """2 to 60 classes, 2 to `most_rows` rows, 1 to `most_columns` columns, C from 1e-8 to 1e4, up to three faults.

    C ‖x‖² stays below 1e15: beyond, float64 cannot tell f(x) from the margin.
    """
    rng = np.random.default_rng(seed)
    n = int(np.exp(rng.uniform(np.log(2), np.log(most_rows + 1))))
    d = int(np.exp(rng.uniform(0, np.log(min(most_columns, most_values / n) + 1))))
    classes = int(min(n, np.exp(rng.uniform(np.log(2), np.log(61)))))
    C = float(10 ** rng.uniform(-8, 4))
    kind = str(rng.choice(KINDS))
    faults = [str(name) for name in rng.choice(FAULTS, rng.integers(0, 4), replace=False)]
    X = rng.normal(size=(n, d))
    if kind == "after ReLU":
        rank = max(1, min(n, d) // 8)
        X = np.maximum(rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) / np.sqrt(rank) + 0.3, 0)
    elif kind == "pixels":
        X = rng.integers(0, 256, (n, d)).astype(float)
    elif kind == "sparse":
        X *= rng.random((n, d)) < 0.05
    elif kind == "far from zero":
        X += 100
    teacher = rng.normal(size=(d, classes))
    if "unbalanced" in faults:
        p = np.exp(rng.uniform(0, np.log(100), classes))
        y = rng.choice(classes, n, p=p / p.sum())
    elif "separable" in faults:
        y = ((X - X.mean(0)) @ teacher).argmax(1)
    else:
        y = (X @ teacher / np.sqrt(d) + rng.normal(size=(n, classes)) * X.std()).argmax(1)
    y[:classes] = np.arange(classes)  # each class has a row
    if "columns of unequal scale" in faults:
        X *= 10 ** rng.uniform(-4, 4, d)
    if "constant columns" in faults:
        X[:, rng.random(d) < 0.3] = rng.choice([1.0, 7.0, 1e3])
    if "repeated columns" in faults:
        X = X[:, rng.integers(0, max(1, d // 3), d)]
    if "repeated rows" in faults:
        X[classes:] = X[rng.integers(0, max(1, n // 3), n)][classes:]
    if "rows of zeros" in faults:
        X[rng.random(n) < 0.2] = 0
    C = min(C, 1e15 / max((X**2).sum(1).max(), 1.0))
    dtype = np.float32 if rng.random() < 0.7 else np.float64
    what = f"seed {seed}: {n} × {d} {np.dtype(dtype).name}, {classes} classes, C {C:.2g}, {', '.join([kind, *faults])}"
    return Problem(torch.from_numpy(X.astype(dtype)), torch.from_numpy(y), C, classes, what)


def objectives(problem: Problem, coef: Tensor, intercept: Tensor) -> NDArray[np.float64]:
    """P(w) of every column from the definition, by NumPy in float64."""
    slack = np.maximum(0, 1 - problem.signs.numpy() * (problem.X.double().numpy() @ coef.numpy() + intercept.numpy()))
    return np.asarray(((coef**2).sum(0) + intercept**2).numpy() / 2 + problem.C * (slack**2).sum(0))
