from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch_fidelity import metric_kid
from torchmetrics.image.kid import poly_mmd

from dcgan_eval.metrics.kernel import kernel_distance, mmd2
from tests.builders import features, normal


def k(x, y):
    return (float(np.dot(x, y)) / len(x) + 1) ** 3


def definition(x, y):
    """Gretton et al. 2012, eq. 3, sum by sum."""
    x, y = x.double().numpy(), y.double().numpy()
    m, n = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i, j in product(range(m), repeat=2) if i != j) / (m * (m - 1))
    yy = sum(k(y[i], y[j]) for i, j in product(range(n), repeat=2) if i != j) / (n * (n - 1))
    return xx + yy - 2 * sum(k(a, b) for a, b in product(x, y)) / (m * n)


@pytest.mark.parametrize(("m", "n", "d"), [(30, 30, 8), (12, 41, 3), (2, 2, 50), (25, 3, 1)])
def test_it_is_the_definition(m, n, d):
    x, y = features(1, m, d, dtype=torch.float64), features(2, n, d, dtype=torch.float64)
    assert mmd2(x, y) == pytest.approx(definition(x, y), rel=1e-11)


def test_subsets_are_averaged_and_their_spread_divides_by_their_number():
    x, y = features(1, 40, 6), features(2, 60, 6)
    random = np.random.RandomState(7)
    values = []
    for _ in range(5):
        first, second = (f[random.choice(len(f), 9, replace=False)] for f in (x, y))
        values.append(definition(first, second))
    found = kernel_distance(x, y, seed=7, subsets=5, subset_size=9)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-11)
    assert found.std == pytest.approx((sum((v - np.mean(values)) ** 2 for v in values) / 5) ** 0.5, rel=1e-9)
    assert found[2:4] == (5, 9)


@pytest.mark.parametrize(("n", "m", "d", "subsets", "size"), [(300, 200, 64, 10, 100), (150, 400, 20, 3, 150)])
@pytest.mark.parametrize("seed", [0, 2020])
def test_it_is_torch_fidelitys(n, m, d, subsets, size, seed):
    x, y = features(3, n, d), features(4, m, d)
    peer = metric_kid.kid_features_to_metric(
        x.double(), y.double(), kid_subsets=subsets, kid_subset_size=size, rng_seed=seed, verbose=False
    )
    found = kernel_distance(x, y, seed=seed, subsets=subsets, subset_size=size)
    assert found.mean == pytest.approx(peer["kernel_inception_distance_mean"], rel=1e-9)
    assert found.std == pytest.approx(peer["kernel_inception_distance_std"], rel=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"), [({"subsets": 2}, {"kid_subsets": 2}), ({"subset_size": 50}, {"kid_subset_size": 50})]
)
def test_defaults_are_torch_fidelitys(ours, theirs):
    x, y = features(3, 1010, 8), features(4, 1030, 8)
    peer = metric_kid.kid_features_to_metric(x.double(), y.double(), verbose=False, **theirs)
    found = kernel_distance(x, y, seed=2020, **ours)
    assert found.mean == pytest.approx(peer["kernel_inception_distance_mean"], rel=1e-9)
    assert found[2:4] == (ours.get("subsets", 100), ours.get("subset_size", 1000))


@pytest.mark.parametrize(("n", "d"), [(100, 16), (10, 200), (2, 3)])
def test_one_subset_is_torchmetrics_poly_mmd(n, d):
    """Which is for sets of one size."""
    x, y = features(5, n, d, dtype=torch.float64), features(6, n, d, dtype=torch.float64)
    assert mmd2(x, y) == pytest.approx(float(poly_mmd(x, y)), rel=1e-10)
    found = kernel_distance(x, y, seed=1, subsets=1, subset_size=n)
    assert found.mean == pytest.approx(float(poly_mmd(x, y)), rel=1e-10)
    assert found.std == 0


def test_it_is_unbiased():
    """The mean over all pairs of subsets is the estimate from all; a biased one would be larger by far."""
    x, y = features(7, 6, 4, dtype=torch.float64), features(8, 5, 4, dtype=torch.float64)
    parts = [mmd2(x[list(a)], y[list(b)]) for a in combinations(range(6), 3) for b in combinations(range(5), 2)]
    assert np.mean(parts) == pytest.approx(mmd2(x, y), rel=1e-11)
    # and with samples of one distribution, it is on both sides of 0
    draws = torch.randn(40, 2, 30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    same = np.array([mmd2(a, b) for a, b in draws])
    assert abs(same.mean()) < 3 * same.std() / 40**0.5
    assert same.min() < 0 < same.max()


def test_known_values():
    """Of two points each, with k by hand: k(1, 1) = 8, k(0, ·) = 1, k(1, −1) = 0, k(2, 1) = 27, k(2, −1) = −1."""
    x, y = (torch.tensor(v, dtype=torch.float64)[:, None] for v in ([0.0, 2.0], [1.0, -1.0]))
    assert mmd2(x, y) == 1 + 0 - 2 * (1 + 1 + 27 - 1) / 4
    one, two = torch.full((5, 3), 1.0, dtype=torch.float64), torch.full((4, 3), 2.0, dtype=torch.float64)
    assert mmd2(one, two) == 2**3 + 5**3 - 2 * 3**3


def test_the_seed_draws_and_nothing_else_does():
    x, y = features(1, 50, 6), features(2, 50, 6)
    state, before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    found = [kernel_distance(x, y, seed=seed, subsets=4, subset_size=20) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0].mean != found[2].mean
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index] # noqa: NPY002


def test_float32_features_lose_nothing():
    """Far from zero, where a float32 kernel is wrong in the first digit of the difference."""
    x, y = features(1, 40, 6) + 1000, features(2, 40, 6) + 999
    found = kernel_distance(x, y, seed=0, subsets=1, subset_size=40)
    exact = definition(x, y)
    assert found.mean == pytest.approx(exact, rel=1e-5)
    assert abs(mmd2(x, y) - exact) > 0.1 * abs(exact)


@pytest.mark.parametrize(
    ("n", "m", "options", "message"),
    [
        (10, 8, {}, "100 subsets of 1000 of 8 features"),
        (10, 8, {"subset_size": 9}, "subsets of 9 of 8 features"),
        (10, 8, {"subset_size": 1}, "subsets of 1 of 8 features: want 1 or more, of 2 to 8"),
        (10, 8, {"subset_size": 4, "subsets": 0}, "0 subsets"),
        (0, 8, {}, "of 0 features"),
        (1, 8, {"subset_size": 1}, "of 1 features"),
    ],
)
def test_subsets_that_cannot_be_drawn(n, m, options, message):
    with pytest.raises(ValueError, match=message):
        kernel_distance(torch.zeros(n, 3), torch.zeros(m, 3), seed=0, **options)


def test_dimensions_that_differ():
    with pytest.raises(ValueError, match="3 and of 2 dimensions"):
        kernel_distance(torch.zeros(9, 3), torch.zeros(9, 2), seed=0, subset_size=4)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("size", [20, 4])
def test_values_that_are_not_finite(value, size):
    """Whether or not a subset holds them."""
    x, y = features(1, 20, 3), features(2, 20, 3)
    drawn = np.random.RandomState(0).choice(20, size, replace=False)
    for first in (True, False):
        a, b = x.clone(), y.clone()
        row = next((i for i in range(20) if i not in drawn), 0) if first else 3
        (a if first else b)[row, 1] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            kernel_distance(a, b, seed=0, subsets=1, subset_size=size)


def test_values_too_large_for_the_kernel():
    with pytest.raises(ValueError, match="too large"):
        kernel_distance(torch.full((4, 2), 1e120, dtype=torch.float64), torch.zeros(4, 2), seed=0, subset_size=3)


# how much it varies


@pytest.mark.parametrize(("shift", "subsets", "size"), [(0.4, 1, 60), (0.4, 10, 20), (0.0, 10, 20)])
def test_the_standard_error_is_that_of_many_sets(shift, subsets, size):
    found = [
        kernel_distance(normal(60, 4, i) + shift, normal(80, 4, 1000 + i), seed=i, subsets=subsets, subset_size=size)
        for i in range(300)
    ]
    deviation = np.std([each.mean for each in found], ddof=1)
    assert np.mean([each.error**2 for each in found]) ** 0.5 == pytest.approx(deviation, rel=0.25)


def test_three_features_tell_nothing_of_variances():
    assert np.isnan(kernel_distance(features(0, 9, 4), features(1, 9, 4), seed=0, subsets=2, subset_size=3).error)
