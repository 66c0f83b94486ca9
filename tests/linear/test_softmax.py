import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from benchmarks.svm_parity import PROBLEMS, digits, random
from dcgan_eval.linear import Softmax, SoftmaxRegression, operators, solve_path
from dcgan_eval.linear import path as solver
from dcgan_eval.linear.preconditioner import Preconditioner
from dcgan_eval.runtime.ranks import ALONE
from tests.svm_paths import PATHS, path
from tests.svm_problems import drawn


def objective(coef, intercept, X, y, C, weight=1.0):
    """½‖w‖² + C · cross-entropy from the definition, in float64; of two classes by their one decision value."""
    F = X.astype(np.float64) @ coef.T + intercept
    if F.shape[1] == 1:
        F = np.concatenate([np.zeros_like(F), F], 1)
    top = F.max(1)
    losses = np.log(np.exp(F - top[:, None]).sum(1)) + top - F[np.arange(len(y)), np.unique(y, return_inverse=True)[1]]
    return (coef**2).sum() / 2 + C * (weight * losses).sum()


@parametrize_with_checks([SoftmaxRegression(tol=1e-14)])  # weights and repeated rows are the same to 1e-7
def test_scikit_learn_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", PROBLEMS)
def test_objective_is_at_most_scikit_learns_and_is_certified(name):
    X, y, C = PROBLEMS[name]()
    if name == "constant features":
        X[:, ::4] = 3  # L-BFGS takes half a minute with 7
    model = SoftmaxRegression(C).fit(X, y)
    value = objective(model.coef_, model.intercept_, X, y, C)
    np.testing.assert_allclose(model.objective_, value, rtol=1e-9)
    assert (model.gap_ <= 1e-6 * model.objective_).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer = LogisticRegression(C=C, tol=1e-8, max_iter=1000).fit(X.astype(np.float64), y)
    theirs = objective(peer.coef_, peer.intercept_, X, y, C)
    assert value <= theirs * (1 + 1e-6)
    if not name.startswith("unscaled"):
        np.testing.assert_allclose(value, theirs, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 5.0, 1: 0.5}])
def test_models_are_scikit_learns(classes, class_weight):
    X, y, C = random(10, 300, 20, classes, 0.5, 0.5)
    weight = np.random.default_rng(1).random(300)
    ours = SoftmaxRegression(C, tol=1e-13, class_weight=class_weight).fit(X, y, weight)
    peer = LogisticRegression(C=C, tol=1e-11, max_iter=10_000, class_weight=class_weight).fit(X, y, weight)
    assert ours.coef_.shape == peer.coef_.shape
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.intercept_, peer.intercept_, atol=1e-5)
    np.testing.assert_allclose(ours.decision_function(X), peer.decision_function(X), atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(ours.predict(X), peer.predict(X))


def test_gap_bounds_the_distance_from_the_optimum():
    X, y, _ = digits(1 / 16, 1.0)
    optimum = SoftmaxRegression(1.0, tol=1e-13).fit(X, y).objective_
    for max_iter in (1, 2, 3, 4):
        with pytest.warns(ConvergenceWarning, match="SoftmaxRegression at C=1 stopped .* relative gap"):
            model = SoftmaxRegression(1.0, tol=1e-13, max_iter=max_iter).fit(X, y)
        assert (model.objective_ - optimum <= model.gap_).all()
        assert (model.objective_ - optimum > -1e-9 * optimum).all()


@pytest.mark.parametrize("shape", [(120, 900), (900, 120), (700, 600)])
@pytest.mark.parametrize("classes", [2, 3])
def test_masked_columns_are_the_problems_on_the_rows_they_keep(shape, classes):
    X, y, _ = random(6, shape[0], shape[1], classes, 0.0, 0.5)
    keep = np.random.default_rng(0).random((shape[0], 2)) < 0.7
    loss = Softmax(torch.from_numpy(y), torch.from_numpy(keep), classes)
    for solution in solve_path(torch.from_numpy(X), loss, [0.01, 0.3], tol=1e-12):
        for fold in range(2):
            rows = keep[:, fold]
            model = SoftmaxRegression(solution.C, tol=1e-12).fit(X[rows], y[rows])
            columns = slice(classes * fold, classes * fold + classes)
            coef, decision = solution.coef[:, columns].T, solution.decision[:, columns]
            if classes == 2:
                coef, decision = coef[1:] - coef[:1], decision[:, 1] - decision[:, 0]
            np.testing.assert_allclose(coef, model.coef_, atol=1e-6)
            np.testing.assert_allclose(decision, model.decision_function(X), atol=1e-5)
            np.testing.assert_allclose(solution.objective[fold], model.objective_[0], rtol=1e-9)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gram_and_primal_forms_agree_whatever_the_block(monkeypatch, dtype):
    X, y, C = random(7, 700, 4000, 4, 1e-2, 1.0, dtype)
    assert X.size > operators.EASY
    gram = SoftmaxRegression(C, tol=1e-10).fit(X, y)
    monkeypatch.setattr(solver, "GRAM_BYTES", 0)
    primal = SoftmaxRegression(C, tol=1e-10).fit(X, y)
    for name, size in (("BLOCK", 7777), ("STREAM", 7777), ("WIDTH", 333)):
        monkeypatch.setattr(operators, name, size)
    blocks = SoftmaxRegression(C, tol=1e-10).fit(X, y)
    for other in (primal, blocks):
        np.testing.assert_allclose(other.coef_, gram.coef_, atol=2e-5 * np.abs(gram.coef_).max())
        np.testing.assert_allclose(other.intercept_, gram.intercept_, atol=2e-5 * np.abs(gram.coef_).sum())
        np.testing.assert_allclose(other.objective_, gram.objective_, rtol=1e-10)


@pytest.mark.parametrize("seed", range(40))
def test_every_precision_certifies_the_same_optimum(seed):
    """Problems as they should not be, in every precision that some machine multiplies in, or should not."""
    problem = drawn(seed, most_rows=300, most_columns=800, most_values=2**16)
    # beyond, a rounded p times C is no dual point that proves 1e-6
    C = min(problem.C, 1e12 / max(float(problem.X.double().square().sum(1).max()), 1.0))
    loss = Softmax(problem.y, torch.ones(len(problem.y), 1), problem.classes)
    found = []
    for name in PATHS:
        with path(name):
            solution = next(solve_path(problem.X, loss, [C]))
        what = f"{name}: {problem.what}"
        assert solution.converged, what
        assert float(solution.relative_gap.max()) <= 1e-6, what
        coef, b = solution.coef.T.numpy(), solution.intercept.numpy()
        if problem.classes == 2:
            coef, b = coef[1:] - coef[:1], b[1:] - b[:1]
        value = objective(coef, b, problem.X.numpy(), problem.y.numpy(), C)
        # decision values of 1e6 and more, of which those of a row differ by little
        np.testing.assert_allclose(float(solution.objective), value, rtol=1e-6, err_msg=what)
        found.append((what, float(solution.objective), float(solution.gap)))
    least = min(value for _, value, _ in found)
    for what, value, gap in found:
        assert value - least <= gap + 1e-9 * least, what


@pytest.mark.parametrize(("n", "d", "classes", "C"), [(2000, 100, 10, 1e4), (600, 300, 10, 1e4), (1000, 100, 2, 1e6)])
def test_what_is_separated_is_certified_at_large_c(n, d, classes, C):
    """Losses are next to nothing there, and so must be what the intercepts' gradient is away from 0."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)).astype("f4")
    y = (X @ rng.normal(size=(d, classes))).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = SoftmaxRegression(C).fit(X, y)
    assert (model.gap_ <= 1e-6 * model.objective_).all()
    assert (model.predict(X) == y).all()


def test_a_shift_of_features_moves_intercepts_alone():
    """1000 is 500 of their standard deviations; of float32 no more than 1e-4 of these would be left."""
    X, y, C = random(3, 400, 60, 4, 1.0)
    here = SoftmaxRegression(C, tol=1e-10).fit(X, y)
    there = SoftmaxRegression(C, tol=1e-10).fit(X + 1000, y)
    np.testing.assert_allclose(there.coef_, here.coef_, atol=1e-6)
    np.testing.assert_allclose(there.intercept_, here.intercept_ - 1000 * here.coef_.sum(1), atol=1e-2)
    np.testing.assert_allclose(there.objective_, here.objective_, rtol=1e-9)


def test_a_c_so_small_that_only_shares_are_learnt():
    X, y, _ = random(5, 300, 10, 3, 1.0)
    model = SoftmaxRegression(1e-12).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), np.tile(np.bincount(y) / 300, (300, 1)), atol=1e-7)


def test_the_preconditioner_leaves_nothing_that_sums_over_classes_and_lets_intercepts_follow():
    """In the span of a whole basis it inverts each class's Hessian with the intercept eliminated."""
    X = torch.randn(120, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    form = operators.Primal(X, 0.0, torch.device("cpu"), torch.device("cpu"), ALONE, 120)
    curvature = torch.rand(120, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    r = torch.randn(31, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    r -= r.mean(1, keepdim=True)
    z, Fz, rz = Preconditioner(form, curvature, width=3)(r)
    wanted = torch.zeros_like(r)
    for j in range(3):
        c = curvature[:, j]
        centred = X - c @ X / c.sum()
        H = torch.eye(30, dtype=torch.float64) + centred.T @ (c[:, None] * centred)
        scale = 1 + float(torch.linalg.eigvalsh(X.T @ X)[0]) * c.mean()
        wanted[:30, j] = scale * torch.linalg.solve(H, r[:30, j])
        wanted[30, j] = r[30, j]  # the constant feature is 0
    wanted -= wanted.mean(1, keepdim=True)
    torch.testing.assert_close(z[:30], wanted[:30])
    torch.testing.assert_close(Fz, X @ z[:30])
    torch.testing.assert_close(rz, (r * z).sum(0))


@pytest.mark.parametrize(
    ("y", "weight", "message"),
    [
        ([0, 1, 2, 1], [[1.0], [1.0], [0.0], [1.0]], "all weights of class 2 are 0"),
        ([0, 1, 1, 3], [[1.0]] * 4, r"y must be in \[0, 3\), got 0 to 3"),
        ([0, 1, 2, 1], [[1.0]] * 3, r"y is \(4,\) and weight \(3, 1\) for X of 4 rows"),
        ([0, 1, 2, 1], [[1.0], [1.0], [1.0], [-1.0]], "weight must not be negative"),
    ],
)
def test_bad_input(y, weight, message):
    loss = Softmax(torch.tensor(y), torch.tensor(weight), 3)
    with pytest.raises(ValueError, match=message):
        next(solve_path(torch.ones(4, 2), loss, [1.0]))
