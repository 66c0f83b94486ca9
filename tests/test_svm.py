import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from dcgan_eval import svm
from dcgan_eval.svm import L2SVC, one_vs_rest, solve_path

Problem = tuple[np.ndarray, np.ndarray, float]


@parametrize_with_checks([L2SVC()])
def test_scikit_learn_estimator(estimator, check):
    check(estimator)


def objective(coef: np.ndarray, intercept: np.ndarray, X: np.ndarray, y: np.ndarray, C: float, scaling: float = 1.0):
    """P of every one-vs-rest problem, straight from the definition."""
    classes = np.unique(y)
    X = X.astype(np.float64)
    values = []
    for k, (w, b) in enumerate(zip(coef, intercept, strict=True)):
        sign = np.where(y == classes[1 if len(classes) == 2 else k], 1, -1)
        penalty = w @ w + ((b / scaling) ** 2 if scaling else 0)
        values.append(penalty / 2 + C * (np.maximum(0, 1 - sign * (X @ w + b)) ** 2).sum())
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


@pytest.mark.parametrize("name", PROBLEMS)
def test_objective_is_at_most_liblinears_and_is_certified(name):
    X, y, C = PROBLEMS[name]()
    model = L2SVC(C).fit(X, y)
    values = objective(model.coef_, model.intercept_, X, y, C)
    np.testing.assert_allclose(model.objective_, values, rtol=1e-9)
    assert (model.gap_ <= 1e-6 * model.objective_).all()
    peers = []
    for dual in (True, False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer = LinearSVC(C=C, dual=dual, tol=1e-6, max_iter=300, random_state=0).fit(X, y)
        peers.append(objective(peer.coef_, peer.intercept_, X, y, C))
    assert (values <= np.min(peers, 0) * (1 + 1e-6)).all()
    # where liblinear converges, it stops at the same value
    if not name.startswith("unscaled"):
        np.testing.assert_allclose(values, np.min(peers, 0), rtol=1e-5)


def test_gap_bounds_the_distance_from_the_optimum():
    X, y, _ = digits(1 / 16, 1.0)
    optimum = L2SVC(1.0, tol=1e-13).fit(X, y).objective_
    for max_iter in (1, 2, 3):
        with pytest.warns(ConvergenceWarning, match="relative gap"):
            model = L2SVC(1.0, tol=1e-13, max_iter=max_iter).fit(X, y)
        assert (model.objective_ - optimum <= model.gap_).all()
        assert (model.objective_ - optimum > -1e-9 * optimum).all()


@pytest.mark.parametrize("shape", [(120, 900), (900, 120), (700, 600)])
def test_masked_columns_are_the_problems_on_the_rows_they_keep(shape):
    X, y, _ = random(6, *shape, 3, 0.0)
    keep = np.random.default_rng(0).random((shape[0], 2)) < 0.7
    Y = one_vs_rest(torch.from_numpy(y), 3)
    weight = torch.from_numpy(np.repeat(keep, 3, axis=1)).double()
    for solution in solve_path(torch.from_numpy(X), torch.cat([Y, Y], 1), weight, [0.01, 0.3], tol=1e-12):
        for fold in range(2):
            model = L2SVC(solution.C, tol=1e-12).fit(X[keep[:, fold]], y[keep[:, fold]])
            columns = slice(3 * fold, 3 * fold + 3)
            np.testing.assert_allclose(solution.coef[:, columns].T, model.coef_, atol=1e-6)
            np.testing.assert_allclose(solution.decision[:, columns], model.decision_function(X), atol=1e-5)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gram_and_primal_forms_agree_whatever_the_block(monkeypatch, dtype):
    X, y, C = random(7, 700, 2000, 4, 1e-2, 1.0, dtype)
    gram = L2SVC(C, tol=1e-10).fit(X, y)
    monkeypatch.setattr(svm, "GRAM_BYTES", 0)
    primal = L2SVC(C, tol=1e-10).fit(X, y)
    monkeypatch.setattr(svm, "BLOCK", 7777)
    blocks = L2SVC(C, tol=1e-10).fit(X, y)
    for other in (primal, blocks):
        np.testing.assert_allclose(other.coef_, gram.coef_, atol=2e-5 * np.abs(gram.coef_).max())
        np.testing.assert_allclose(other.objective_, gram.objective_, rtol=1e-10)


def test_rounding_of_the_gram_matrix_does_not_show(monkeypatch):
    """A Gram matrix wrong in the third digit, as bfloat16 units would make it, costs steps but moves no optimum."""
    X, y, C = random(8, 900, 3000, 3, 1e-3, 1.0, "f4")
    truth = L2SVC(C, tol=1e-8).fit(X, y)
    exact = svm._gram_matrix

    def rough(*arguments):
        K = exact(*arguments)
        return K.bfloat16().to(K.dtype) if K.dtype == torch.float32 else K

    monkeypatch.setattr(svm, "_gram_matrix", rough)
    model = L2SVC(C, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(model.objective_, truth.objective_, rtol=1e-8)
    np.testing.assert_allclose(model.coef_, truth.coef_, atol=1e-4 * np.abs(truth.coef_).max())


@pytest.mark.parametrize("options", [{"fit_intercept": False}, {"intercept_scaling": 10.0}, {"intercept_scaling": 0.1}])
def test_intercept_as_in_liblinear(options):
    X, y, C = random(9, 200, 20, 3, 1.0, 2.0)
    ours = L2SVC(C, tol=1e-12, **options).fit(X, y)
    peer = LinearSVC(C=C, dual=False, tol=1e-10, max_iter=10000, **options).fit(X, y)
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.intercept_, np.broadcast_to(peer.intercept_, (3,)), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 5.0, 1: 0.5}])
def test_weights_as_in_liblinear(classes, class_weight):
    X, y, C = random(10, 200, 20, classes, 1.0, 0.5)
    weight = np.random.default_rng(1).random(200)
    ours = L2SVC(C, tol=1e-12, class_weight=class_weight).fit(X, y, weight)
    peer = LinearSVC(C=C, dual=False, tol=1e-10, max_iter=10000, class_weight=class_weight).fit(X, y, weight)
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=1e-5)


def test_inputs_of_every_kind_give_the_same(tmp_path):
    X, y, C = random(11, 150, 40, 3, 1.0, 0.0, "f4")
    expected = L2SVC(C).fit(X, y)
    np.save(tmp_path / "X.npy", X)
    readonly = X.copy()
    readonly.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in (
            np.asfortranarray(X),
            np.load(tmp_path / "X.npy", mmap_mode="r"),
            readonly,
            torch.from_numpy(X),
            X.tolist(),
        ):
            model = L2SVC(C).fit(same, y)
            np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-6)
            assert (model.predict(same) == expected.predict(X)).all()


def test_matrix_precision_settings_are_restored():
    before = torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    X, y, C = random(12, 600, 700, 2, 1e-2, 0.0, "f4")
    L2SVC(C).fit(X, y)
    assert (torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision) == before


BAD: dict[str, tuple[dict, Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray], str]] = {
    "C = 0": ({"C": 0.0}, lambda X: X, lambda y: y, "C must be positive"),
    "C < 0": ({"C": -1.0}, lambda X: X, lambda y: y, "C must be positive"),
    "C = nan": ({"C": np.nan}, lambda X: X, lambda y: y, "C must be positive"),
    "NaN": ({}, lambda X: np.where(X > 1, np.nan, X), lambda y: y, "NaN"),
    "one class": ({}, lambda X: X, lambda y: y * 0, "1 class"),
    "too few labels": ({}, lambda X: X, lambda y: y[1:], "(?i)inconsistent|labels"),
}


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, tensor):
    options, spoil_X, spoil_y, message = BAD[name]
    X, y, _ = random(13, 30, 5, 2, 1.0)
    X = spoil_X(X)
    with pytest.raises(ValueError, match=message):
        L2SVC(**options).fit(torch.from_numpy(X) if tensor else X, spoil_y(y))
