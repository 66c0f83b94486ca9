import numpy as np
import pytest
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity import metric_fid

from dcgan_eval.metrics import frechet
from dcgan_eval.metrics.frechet import (
    Gaussian,
    Moments,
    fit,
    frechet_distance,
    frechet_distance_of_features,
)
from tests.builders import features, frechet_by_definition


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 10), (120, 500, 40), (50, 41, 40)])
def test_it_is_the_definition(n, m, d):
    x, y = features(1, n, d), features(2, m, d)
    assert frechet_distance(fit(x), fit(y)) == pytest.approx(frechet_by_definition(x, y), rel=1e-9)
    assert frechet_distance_of_features(x, y) == pytest.approx(frechet_by_definition(x, y), rel=1e-9)


@pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated")
@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 10), (120, 500, 40), (2000, 1500, 64)])
def test_it_is_torch_fidelitys_and_pytorch_fids(n, m, d):
    """From float64 features; the means and covariances that the peers take are theirs, or NumPy's."""
    x, y = features(1, n, d, dtype=torch.float64), features(2, m, d, dtype=torch.float64)
    found = frechet_distance_of_features(x, y)
    statistics = [metric_fid.fid_features_to_statistics(f) for f in (x, y)]
    wanted = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert found == pytest.approx(wanted, rel=1e-6)
    moments = [part for f in (x.numpy(), y.numpy()) for part in (f.mean(0), np.cov(f, rowvar=False))]
    assert found == pytest.approx(float(calculate_frechet_distance(*moments)), rel=1e-6)


def test_columns_may_come_in_blocks(monkeypatch):
    x, y = features(1, 20, 50), features(2, 30, 50)
    wanted = frechet_distance_of_features(x, y)
    monkeypatch.setattr(frechet, "COLUMNS", 7)
    assert frechet_distance_of_features(x, y) == pytest.approx(wanted, rel=1e-12)


def test_known_gaussians():
    """Where covariances commute, the term is Σ (√λ₁ − √λ₂)²."""
    mean = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    variances = torch.tensor([4.0, 9.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.0, 16.0], dtype=torch.float64)
    first, second = (Gaussian(10, m, torch.diag(v)) for m, v in zip((mean, 0 * mean), variances, strict=True))
    assert frechet_distance(first, second) == pytest.approx(14 + 1 + 9 + 16, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(20, 30, 60), (59, 12, 60), (5, 80, 60), (80, 5, 60)])
def test_fewer_features_than_dimensions(n, m, d):
    """Singular covariances: from the factors, from the matrices, and from the few dimensions that all lie in."""
    x, y = features(3, n, d), features(4, m, d)
    both = torch.cat([x, y]).double()
    basis = torch.linalg.svd(both - both.mean(0), full_matrices=False)[2]
    A, B = ((f.double() - both.mean(0)) @ basis.T for f in (x, y))
    exact = frechet_distance(fit(A), fit(B))
    assert frechet_distance_of_features(x, y) == pytest.approx(exact, rel=1e-6)
    assert frechet_distance(fit(x), fit(y)) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(("n", "d"), [(200, 20), (20, 200), (2, 5)])
def test_zero_on_itself_and_symmetric(n, d):
    x, y = features(5, n, d), features(6, n, d)
    scale = float(fit(x).covariance.trace())
    assert 0 <= frechet_distance_of_features(x, x) < 1e-6 * scale
    assert 0 <= frechet_distance(fit(x), fit(x)) < 1e-6 * scale
    assert frechet_distance_of_features(x, y) == pytest.approx(frechet_distance_of_features(y, x), rel=1e-9)


def test_free_of_order_and_rotation():
    x, y = features(7, 300, 12, dtype=torch.float64), features(8, 300, 12, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    wanted = frechet_distance_of_features(x, y)
    assert frechet_distance_of_features(x.flip(0), y) == pytest.approx(wanted, rel=1e-12)
    assert frechet_distance_of_features(x @ turn, y @ turn) == pytest.approx(wanted, rel=1e-9)


def test_constant_features_and_copies():
    x = features(9, 100, 6)
    constant = torch.full((10, 6), 2.0)
    assert frechet_distance_of_features(constant, constant + 3) == pytest.approx(6 * 9, rel=1e-12)
    wanted = float(((x.double().mean(0) - 2) ** 2).sum() + fit(x).covariance.trace())
    assert frechet_distance_of_features(x, constant) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance_of_features(x.repeat(2, 1), x.repeat(2, 1)) < 1e-6


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_batches_change_nothing(size):
    """Features a million deviations from zero, where sums of squares in float64 would keep four digits."""
    x = features(10, 300, 8, dtype=torch.float64) + 1e6
    whole = fit(x)
    moments = Moments.none(8)
    for batch in (*torch.split(x, size), x[:0]):
        moments = moments.merged(Moments.of(batch))
    found = moments.gaussian()
    assert found.n == 300
    torch.testing.assert_close(found.mean, whole.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.covariance, torch.cov(x.T), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(torch.zeros(1, 3)), "at least two features, not 1"),
        (lambda: Moments.none(3).gaussian(), "at least two features, not 0"),
        (lambda: fit(torch.full((4, 3), torch.nan)), "NaN"),
        (lambda: frechet_distance_of_features(torch.zeros(1, 9), torch.zeros(5, 9)), "at least two"),
        (lambda: frechet_distance_of_features(torch.zeros(4, 9), torch.full((4, 9), torch.inf)), "infinite"),
        (lambda: frechet_distance_of_features(torch.zeros(4, 3), torch.zeros(4, 2)), "3 and of 2 dimensions"),
        (lambda: frechet_distance(fit(features(1, 9, 3)), fit(features(1, 9, 2))), "3 and of 2 dimensions"),
        (
            lambda: frechet_distance(
                Gaussian(5, torch.zeros(2).double(), -torch.eye(2).double()), fit(features(1, 9, 2))
            ),
            "not a covariance",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("spoilt", ["mean", "covariance"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_no_distance_of_0(spoilt, value):
    right = fit(features(3, 50, 4))
    wrong = right._replace(**{spoilt: getattr(right, spoilt) * value})
    for pair in ((right, wrong), (wrong, right)):
        with pytest.raises(ValueError, match="NaN or infinite"):
            frechet_distance(*pair)
