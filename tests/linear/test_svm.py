import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from benchmarks.svm_parity import PROBLEMS, digits, objective, random
from dcgan_eval.linear import L2SVC, SquaredHinge, one_vs_rest, operators, solve_path
from dcgan_eval.linear import path as solver
from dcgan_eval.linear.preconditioner import Preconditioner
from dcgan_eval.runtime import fast_ops
from dcgan_eval.runtime.errors import UncertifiedError
from dcgan_eval.runtime.ranks import ALONE
from tests.svm_paths import PATHS, path
from tests.svm_problems import drawn, objectives


@parametrize_with_checks([L2SVC()])
def test_scikit_learn_estimator(estimator, check):
    check(estimator)


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
    X, y, _ = random(6, shape[0], shape[1], 3, 0.0)
    keep = np.random.default_rng(0).random((shape[0], 2)) < 0.7
    Y = one_vs_rest(torch.from_numpy(y), 3)
    weight = torch.from_numpy(np.repeat(keep, 3, axis=1)).double()
    for solution in solve_path(torch.from_numpy(X), SquaredHinge(torch.cat([Y, Y], 1), weight), [0.01, 0.3], tol=1e-12):
        for fold in range(2):
            model = L2SVC(solution.C, tol=1e-12).fit(X[keep[:, fold]], y[keep[:, fold]])
            columns = slice(3 * fold, 3 * fold + 3)
            np.testing.assert_allclose(solution.coef[:, columns].T, model.coef_, atol=1e-6)
            np.testing.assert_allclose(solution.decision[:, columns], model.decision_function(X), atol=1e-5)


def test_on_the_weights_few_products_are_in_float64(monkeypatch):
    """Those near the optimum and the certificate's; the others are 7 times as fast."""
    X, y, C = random(3, 4000, 600, 3, 0.1, 0.0, "f4")
    assert X.size > operators.EASY
    counts = {torch.float32: 0, torch.float64: 0}

    def counted(product):
        def method(form, A):
            counts[A.dtype] += 1
            return product(form, A)

        return method

    for name in ("forward", "adjoint"):
        monkeypatch.setattr(operators.Primal, name, counted(getattr(operators.Primal, name)))
    model = L2SVC(C).fit(X, y)
    assert (model.gap_ <= 1e-6 * model.objective_).all()
    assert counts[torch.float64] <= 10 < counts[torch.float32]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gram_and_primal_forms_agree_whatever_the_block(monkeypatch, dtype):
    X, y, C = random(7, 700, 2000, 4, 1e-2, 1.0, dtype)
    gram = L2SVC(C, tol=1e-10).fit(X, y)
    monkeypatch.setattr(solver, "GRAM_BYTES", 0)
    primal = L2SVC(C, tol=1e-10).fit(X, y)
    for name, size in (("BLOCK", 7777), ("STREAM", 7777), ("WIDTH", 333)):
        monkeypatch.setattr(operators, name, size)
    blocks = L2SVC(C, tol=1e-10).fit(X, y)
    for other in (primal, blocks):
        np.testing.assert_allclose(other.coef_, gram.coef_, atol=2e-5 * np.abs(gram.coef_).max())
        np.testing.assert_allclose(other.objective_, gram.objective_, rtol=1e-10)


def test_rounding_of_the_gram_matrix_does_not_show(monkeypatch):
    """A Gram matrix wrong in the third digit, as bfloat16 units would make it, costs steps but moves no optimum."""
    X, y, C = random(8, 900, 3000, 3, 1e-3, 1.0, "f4")
    truth = L2SVC(C, tol=1e-8).fit(X, y)
    exact = operators._gram_matrix

    def rough(*arguments):
        K = exact(*arguments)
        return K.bfloat16().to(K.dtype) if K.dtype == torch.float32 else K

    monkeypatch.setattr(operators, "_gram_matrix", rough)
    model = L2SVC(C, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(model.objective_, truth.objective_, rtol=1e-8)
    np.testing.assert_allclose(model.coef_, truth.coef_, atol=1e-4 * np.abs(truth.coef_).max())


@pytest.mark.parametrize("seed", range(50))
def test_every_precision_certifies_the_same_optimum(seed):
    """Problems as they should not be, in every precision that some machine multiplies in, or should not."""
    problem = drawn(seed, most_rows=300, most_columns=800, most_values=2**16)
    weight = torch.ones_like(problem.signs)
    found = []
    for name in PATHS:
        with path(name):
            solution = next(solve_path(problem.X, SquaredHinge(problem.signs, weight), [problem.C]))
        what = f"{name}: {problem.what}"
        values = objectives(problem, solution.coef, solution.intercept)
        np.testing.assert_allclose(solution.objective, values, rtol=1e-9, err_msg=what)
        assert solution.converged, what
        assert float(solution.relative_gap.max()) <= 1e-6, what
        found.append((what, values, solution.gap.numpy()))
    least = np.min([values for _, values, _ in found], 0)
    for what, values, gap in found:
        assert (values - least <= gap + 1e-9 * least).all(), what
        np.testing.assert_allclose(values, least, rtol=1e-6, err_msg=what)


@pytest.mark.parametrize("name", ["split bfloat16", "float32", "as here"])
def test_many_unbalanced_classes_after_relu(name):
    """43 classes with 1 to 12 times as many rows: products in bfloat16 alone once made these weights NaN."""
    rng = np.random.default_rng(0)
    p = np.linspace(1, 12, 43)
    y = rng.choice(43, 900, p=p / p.sum())
    z = rng.normal(size=(43, 60))[y] + 1.3 * rng.normal(size=(900, 60))
    X = np.maximum(z @ rng.normal(size=(60, 1500)) / 7 + 0.3, 0).astype("f4")
    with path(name), warnings.catch_warnings():
        warnings.simplefilter("error")
        model = L2SVC(1e-3).fit(X, y)
    values = objective(model.coef_, model.intercept_, X, y, 1e-3)
    np.testing.assert_allclose(model.objective_, values, rtol=1e-9)
    peer = LinearSVC(C=1e-3, dual=True, tol=1e-8, max_iter=10_000, random_state=0).fit(X, y)
    np.testing.assert_allclose(values, objective(peer.coef_, peer.intercept_, X, y, 1e-3), rtol=1e-6)


def test_a_product_that_is_not_a_number_ends_in_an_error_or_the_optimum(monkeypatch):
    """Where float32 products break down float64 takes over; where that does, too, there is no solution."""
    X, y, C = random(12, 300, 700, 3, 1e-2, 0.0, "f4")
    truth = L2SVC(C).fit(X, y).objective_
    right = fast_ops.few_times

    def broken(few, X, add_to=None):
        product = right(few, X, add_to)
        return product * torch.nan if few.dtype in broken_dtypes else product

    broken_dtypes = [torch.float32]
    monkeypatch.setattr(operators, "few_times", broken)
    for name in ("float32", "float32, on the weights"):
        with path(name):
            np.testing.assert_allclose(L2SVC(C).fit(X, y).objective_, truth, rtol=1e-6)
    broken_dtypes.append(torch.float64)
    for name in ("as here", "float32", "float32, on the weights"):
        with path(name), pytest.raises(UncertifiedError, match=r"C=0.01 has no finite solution: scale the features"):
            L2SVC(C).fit(X, y)


def test_a_gram_matrix_of_split_products_is_left_where_it_is_too_coarse(monkeypatch):
    """What C allows is known from a few products, before Newton is begun."""
    X, y, _ = random(8, 300, 3000, 3, 1.0, 1.0, "f4")
    made = []
    exact = operators._gram_matrix

    def counted(X, bias, device, precision, shift):
        made.append(precision)
        return exact(X, bias, device, precision, shift)

    monkeypatch.setattr(operators, "_gram_matrix", counted)
    Y = one_vs_rest(torch.from_numpy(y), 3)
    with path("split bfloat16"):
        for solution in solve_path(torch.from_numpy(X), SquaredHinge(Y, torch.ones_like(Y)), [1e-6, 1e-5, 10.0]):
            assert solution.converged
            assert made[0] == "split"
            assert (len(made) == 1) == (solution.C < 1)
    error = float((exact(torch.from_numpy(X), 1.0, torch.device("cpu"), "split").double()
                   - exact(torch.from_numpy(X), 1.0, torch.device("cpu"), "float64")).norm(2))  # fmt: skip
    primal = operators.Primal(torch.from_numpy(X), 1.0, torch.device("cpu"), torch.device("cpu"), ALONE, 300)
    assert error / 2 <= operators.Gram(primal, "split").error(primal) <= 4 * error


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
    cpu, cuda = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul  # type: ignore[attr-defined]
    before = cpu.fp32_precision, cuda.fp32_precision
    X, y, C = random(12, 600, 700, 2, 1e-2, 0.0, "f4")
    L2SVC(C).fit(X, y)
    assert (cpu.fp32_precision, cuda.fp32_precision) == before


BAD: dict[str, tuple[dict, Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray], str]] = {
    "C = 0": ({"C": 0.0}, lambda X: X, lambda y: y, "C must be positive"),
    "C < 0": ({"C": -1.0}, lambda X: X, lambda y: y, "C must be positive"),
    "C = nan": ({"C": np.nan}, lambda X: X, lambda y: y, "C must be positive"),
    "NaN": ({}, lambda X: np.where(X > 1, np.nan, X), lambda y: y, "NaN"),
    "overflow": ({}, lambda X: X * 1e200, lambda y: y, "scale the features"),
    "C too large": ({"C": 1e290}, lambda X: X, lambda y: y, "scale the features"),
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


def test_columns_of_a_larger_array_are_features_like_others():
    """Enough of them for float32, in which products of other strides than these are another library's."""
    some = np.random.default_rng(0).standard_normal((3000, 2000), np.float32)[:, 100:-100]
    y = np.arange(3000) % 3
    found, wanted = (L2SVC(1e-3).fit(X, y) for X in (some, np.ascontiguousarray(some)))
    np.testing.assert_allclose(found.objective_, wanted.objective_, rtol=1e-6)
    assert (found.gap_ <= 1e-6 * found.objective_).all()


@pytest.mark.parametrize("weight", [np.inf, 1e40])
def test_weights_beyond_all_measure_are_refused(weight):
    X, y, _ = random(14, 30, 5, 2, 1.0)
    with pytest.raises(ValueError, match=r"infinit|scale the features"):
        L2SVC().fit(X, y, sample_weight=np.full(30, weight))


def test_rows_left_out_have_no_part_in_a_dual_point():
    """Conjugate gradients leave them coefficients; divided by their weight of 0 these are no numbers."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(20, 50, generator=generator, dtype=torch.float64)
    form = operators.Gram(operators.Primal(X, 1.0, torch.device("cpu"), torch.device("cpu"), ALONE, 20), "float64")
    y = one_vs_rest(torch.arange(20) % 2, 2)
    u, c = y * torch.rand(20, 1, generator=generator), torch.ones_like(y)
    c[::5] = 0
    known, allowed = torch.tensor([[torch.inf], [1e300]], dtype=torch.float64)
    loss = SquaredHinge(y, c)
    gap, dual = loss.by_coefficients(form, u, loss.at(form, form.forward(u), u[0]), known, allowed)
    assert bool(gap.isfinite().all())
    assert not dual[::5].any()
    torch.testing.assert_close(dual[1::5], u[1::5])


def small_form(kind, n=120, d=90):
    X = torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    form = operators.Primal(X, 1.0, torch.device("cpu"), torch.device("cpu"), ALONE, n)
    return X, form if kind == "primal" else operators.Gram(form, "float64")


@pytest.mark.parametrize("kind", ["primal", "gram"])
def test_the_preconditioner_inverts_each_problems_hessian_on_the_leading_eigenvectors(kind):
    X, form = small_form(kind)
    curvature = torch.rand(len(X), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    curvature[::3, 1] = 0  # each problem has rows of its own
    preconditioned = Preconditioner(form, curvature)
    ones = torch.cat([X, torch.ones(len(X), 1)], 1)
    V = form.bases[torch.float64].V
    assert 0 < V.shape[1] <= X.shape[1] // 4
    for j in range(3):
        H = torch.eye(X.shape[1] + 1, dtype=torch.float64) + ones.T @ (curvature[:, j, None] * ones)
        span = V if kind == "primal" else ones.T @ V
        # in the span of V: z with <v, H z> = rest * <v, r>
        r = torch.randn(form.order, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        z, Fz, rz = preconditioned(r)
        w, residual = (z, r) if kind == "primal" else (ones.T @ z, ones.T @ r)
        assert torch.allclose(Fz, ones @ w)
        assert torch.allclose(rz, (residual * w).sum(0))
        inner = span.T @ residual[:, j]
        wanted = preconditioned.rest[j] * torch.linalg.solve(span.T @ H @ span, inner)
        assert torch.allclose(span.T @ w[:, j], wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["primal", "gram"])
def test_without_a_basis_residuals_stay_as_they_are(kind):
    X, form = small_form(kind)
    X *= 0
    if isinstance(form, operators.Gram):
        form.K *= 0
    z, _, _ = Preconditioner(form, torch.ones(len(X), 2, dtype=torch.float64))(r := torch.ones(form.order, 2).double())
    # but for the constant feature, which is not 0 in the weights
    assert torch.equal(z[: X.shape[1]], r[: X.shape[1]])


def test_a_basis_of_some_rows_speaks_of_all(monkeypatch):
    X, form = small_form("primal", 3000, 200)
    X[:, :10] *= 10
    monkeypatch.setattr(operators, "SAMPLE", 8)
    found = form.basis(whole=False)
    assert found.V.shape == (201, 26)
    assert found.values[:10].mean() == pytest.approx(float(torch.linalg.eigvalsh(X.T @ X)[-10:].mean()), rel=0.1)
    assert found.V[:10].norm(dim=1).min() > 0.95
    assert torch.allclose(found.F * found.values.sqrt(), torch.cat([X, torch.ones(3000, 1)], 1) @ found.V)


def test_factors_of_what_rounding_made_indefinite_or_not_finite():
    good = torch.eye(3, dtype=torch.float64)
    slightly, wrong = good.clone(), torch.full((3, 3), torch.nan, dtype=torch.float64)
    slightly[2, 2] = -1e-12
    L = operators.factors(torch.stack([good, slightly, wrong]), 1e-7)
    assert torch.equal(L[0], good)
    assert torch.allclose(L[1] @ L[1].T, slightly, atol=2e-7)
    assert L[2].isnan().all()
    assert operators.factors(torch.empty(2, 0, 0, dtype=torch.float64), 1e-7).shape == (2, 0, 0)


def test_where_float32_leads_astray_the_ladder_is_climbed_again_in_float64():
    problem = drawn(45, most_rows=600, most_columns=2000, most_values=2**18)
    with path("float32"):
        solution = next(solve_path(problem.X, SquaredHinge(problem.signs, torch.ones_like(problem.signs)), [problem.C]))
    assert solution.converged


def test_a_gram_matrix_that_a_rung_fails_on_is_given_up(monkeypatch):
    monkeypatch.setattr(solver, "PATIENCE", 2)
    problem = drawn(165)
    tried = []
    more = solver._Path._more_precise

    def tried_next(path, form):
        tried.append(form.precision)
        return more(path, form)

    monkeypatch.setattr(solver._Path, "_more_precise", tried_next)
    solution = next(solve_path(problem.X, SquaredHinge(problem.signs, torch.ones_like(problem.signs)), [problem.C]))
    assert tried == ["float64"]
    assert solution.objective.isfinite().all()
