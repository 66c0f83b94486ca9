import numpy as np
import pytest
import torch
from scipy.stats import linregress
from sklearn.linear_model import LinearRegression

from dcgan_eval.metrics import extrapolation
from dcgan_eval.metrics.extrapolation import fewest, frechet_distance_at_infinity
from dcgan_eval.metrics.frechet import Gaussian, fit, frechet_distance
from tests.builders import features, frechet_by_definition


def standard(d, *, n=10**6, shift=0.0):
    """What the features of `drawn` come from, `shift` away along every dimension."""
    return Gaussian(n, torch.full((d,), shift, dtype=torch.float64), torch.eye(d, dtype=torch.float64))


def drawn(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "d", "points"), [(400, 6, 15), (57, 3, 4), (20, 2, 15)])
def test_it_is_the_line_through_its_points(n, d, points):
    """By SciPy, which knows the intercept's standard error, and by the authors' choice, scikit-learn."""
    found = frechet_distance_at_infinity(standard(d, shift=1), drawn(n, d, 1), seed=3, points=points)
    x = 1 / np.array(found.sizes)
    line = linregress(x, found.distances)
    assert found.intercept == pytest.approx(line.intercept, rel=1e-9)
    assert found.slope == pytest.approx(line.slope, rel=1e-9)
    assert found.error == pytest.approx(line.intercept_stderr, rel=1e-9)
    model = LinearRegression().fit(x[:, None], found.distances)
    assert found.intercept == pytest.approx(float(model.predict(np.array([[0.0]]))[0]), rel=1e-9)
    assert len(found.sizes) == len(found.distances) == points


@pytest.mark.parametrize(
    ("n", "sizes"), [(50000, np.linspace(5000, 50000, 15).astype("int32")), (25, None), (20, None)]
)
def test_sizes_are_the_authors(n, sizes, monkeypatch):
    """np.linspace(5000, 50000, 15).astype('int32') with 50,000."""
    monkeypatch.setattr(extrapolation, "frechet_distance", lambda real, fake: float(fake.n))
    found = frechet_distance_at_infinity(standard(1), drawn(n, 1, 0), seed=0)
    assert found.sizes[0] == max(n // 10, 3)  # 2.5 for the one feature
    assert found.sizes[-1] == n
    assert found.distances == tuple(map(float, found.sizes))
    steps = np.diff(found.sizes)
    assert steps.max() - steps.min() <= 1
    if sizes is not None:
        assert found.sizes == tuple(sizes)


def test_points_are_distances_of_random_subsets():
    """By SciPy's matrix root; subsets without replacement, drawn anew for every size."""
    x, y = features(1, 300, 5), features(2, 200, 5)
    found = frechet_distance_at_infinity(fit(x), y, seed=8, points=6)
    # all of them are there in the last
    assert found.distances[-1] == pytest.approx(frechet_by_definition(x, y), rel=1e-9)
    generator = torch.Generator().manual_seed(8)
    for size, distance in zip(found.sizes, found.distances, strict=True):
        some = y[torch.randperm(200, generator=generator)[:size]]
        assert distance == pytest.approx(frechet_by_definition(x, some), rel=1e-9)


def test_subsets_hold_no_feature_twice_and_are_not_nested(monkeypatch):
    seen = []

    def counted(some):
        seen.append(some[:, 0].long().tolist())
        return fit(some)

    monkeypatch.setattr(extrapolation, "fit", counted)
    fake = torch.arange(100.0)[:, None] + torch.zeros(1, 2)
    found = frechet_distance_at_infinity(standard(2), fake, seed=0)
    assert [len(some) for some in seen] == list(found.sizes)
    assert all(len(set(some)) == len(some) for some in seen)
    assert not set(seen[0]) <= set(seen[1])
    assert sorted(seen[-1]) == list(range(100))


@pytest.mark.parametrize(("a", "b"), [(7.0, 300.0), (0.0, 5.0), (-1.0, 20.0), (3.0, 0.0)])
def test_a_line_is_found(a, b, monkeypatch):
    """Also where the intercept is below 0."""
    monkeypatch.setattr(extrapolation, "frechet_distance", lambda real, fake: a + b / fake.n)
    found = frechet_distance_at_infinity(standard(1), drawn(500, 1, 0), seed=0)
    assert found.intercept == pytest.approx(a, abs=1e-10)
    assert found.slope == pytest.approx(b, abs=1e-8)
    assert 0 <= found.error < 1e-8


def test_its_error_is_that_of_noise(monkeypatch):
    """Noise of a known size about a line: the estimates spread as their errors say."""
    random = np.random.default_rng(0)
    monkeypatch.setattr(extrapolation, "frechet_distance", lambda real, fake: 5 + 60 / fake.n + 0.1 * random.normal())
    fits = [frechet_distance_at_infinity(standard(1), drawn(200, 1, 0), seed=0) for _ in range(200)]
    off = np.array([(one.intercept - 5) / one.error for one in fits])
    # Student's t with 13 degrees of freedom: variance 13 / 11
    assert 0.9 < off.var() < 1.5
    assert abs(off.mean()) < 0.25


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_it_comes_nearer_to_the_truth_than_all_samples_do(shift):
    """The truth is d · shift². Bias falls as 1/N, by (d² + d)/4N for the covariance and d/N for the mean."""
    d, n, truth = 20, 1000, 20 * shift**2
    found = [frechet_distance_at_infinity(standard(d, shift=shift), drawn(n, d, seed), seed=seed) for seed in range(12)]
    bias = np.mean([one.distances[-1] for one in found]) - truth
    expected = ((d * d + d) / 4 + d) / n
    spread = np.std([one.distances[-1] for one in found])
    assert abs(bias - expected) < 0.15 * expected + 3 * spread / 12**0.5
    off = np.mean([one.intercept for one in found]) - truth
    assert abs(off) < max(0.25 * expected, 3 * spread / 12**0.5)
    assert np.mean([one.slope for one in found]) == pytest.approx(expected * n, rel=0.3)


def test_the_seed_draws_and_nothing_else_does():
    fake = drawn(100, 3, 0)
    state = torch.get_rng_state()
    found = [frechet_distance_at_infinity(standard(3), fake, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0].intercept != found[2].intercept
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("n", "points", "message"), [(19, 15, "15 points of 19"), (0, 15, "of 0"), (50, 2, "2 points of")]
)
def test_too_few(n, points, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance_at_infinity(standard(2), drawn(n, 2, 0), seed=0, points=points)


def test_bad_features():
    fake = drawn(50, 2, 0)
    with pytest.raises(ValueError, match="2 and of 3 dimensions"):
        frechet_distance_at_infinity(standard(2), drawn(50, 3, 0), seed=0)
    fake[7, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        frechet_distance_at_infinity(standard(2), fake, seed=0)


def test_fewer_samples_than_features_need_are_refused():
    real = fit(features(1, 400, 30))
    assert (fewest(30), fewest(2048), fewest(1)) == (150, 10_240, 20)
    with pytest.raises(ValueError, match="15 points of 149 samples of 30 features: want at least 3, and 150 samples"):
        frechet_distance_at_infinity(real, features(2, 149, 30), seed=0)
    found = frechet_distance_at_infinity(real, features(2, 150, 30), seed=0)
    assert found.sizes[0] == 75
    assert found.distances[-1] == pytest.approx(frechet_distance(real, fit(features(2, 150, 30))), rel=1e-9)


def test_with_enough_samples_it_is_near_the_truth_where_few_mislead():
    """Features as uneven as a network's: of 60, variances fall by a hundred."""
    d, truth = 60, 1.0
    scale = torch.logspace(0, -1, d)
    real = Gaussian(10**6, torch.zeros(d, dtype=torch.float64), torch.diag(scale.double() ** 2))
    shift = truth**0.5 * torch.nn.functional.one_hot(torch.tensor(0), d)
    found = [
        frechet_distance_at_infinity(real, drawn(fewest(d), d, seed) * scale + shift, seed=seed) for seed in range(20)
    ]
    plain = np.mean([one.distances[-1] for one in found]) - truth
    assert abs(np.mean([one.intercept for one in found]) - truth) < 0.15 * plain
