"""Numbers set beside each other: only of equal protocol, paired where they can be, and with intervals that hold."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dcgan_eval.results.differences import (
    apart,
    difference,
    newcombe,
    of_pairs,
    over_draws,
    resolving,
    standard_error,
    unequal,
)
from dcgan_eval.results.intervals import REAL_IMAGES, jackknife, of_error, of_images, of_mean, simultaneous, wilson
from dcgan_eval.results.outcomes import Outcomes
from dcgan_eval.runtime.errors import InputError
from tests.builders import RESULT


def of(right, **changes):
    """A result with these outcomes, (draws, n)."""
    each = 100 * right.mean(1)
    draws = tuple(each) if len(each) > 1 else ()
    interval = vars(of_images(right))
    return replace(
        RESULT, value=float(each.mean()), draws=draws, n=right.shape[1], outcomes=Outcomes.of(right),
        **interval, **changes,
    )  # fmt: skip


def judged(n, both=0.6, first=0.12, second=0.08, seed=0):
    """Two models' outcomes on n images: shares that both, only the first, only the second get right."""
    kind = np.random.default_rng(seed).choice(4, n, p=[both, first, second, 1 - both - first - second])
    return np.isin(kind, [0, 1])[None], np.isin(kind, [0, 2])[None]


def test_outcomes_of_the_same_images_are_paired():
    a, b = judged(4000)
    found = difference(of(a), of(b, features="pixels"))
    assert found.over == "paired by image"
    assert found.value == pytest.approx(100 * (a.mean() - b.mean()))
    assert found.low is not None
    assert found.high is not None
    # Wald's on so many images; the correction moves it by less than a hundredth
    each = a[0].astype(float) - b[0]
    wald = 1.96 * 100 * each.std() / 4000**0.5
    assert (found.low, found.high) == pytest.approx((found.value - wald, found.value + wald), abs=0.02)
    assert not found.within
    loose = difference(replace(of(a), outcomes=None), of(b))
    assert loose.over == "not paired"
    assert loose.low is not None
    assert loose.high is not None
    assert loose.high - loose.low > 1.4 * (found.high - found.low)  # what pairing is for


def test_the_difference_of_errors_is_that_of_accuracies_turned():
    a, b = judged(500)
    one = difference(of(a), of(b))
    errors = [replace(of(right), metric="error", value=100 - 100 * right.mean()) for right in (a, b)]
    other = difference(*errors)
    assert (other.value, other.low, other.high) == pytest.approx((-one.value, -(one.high or 0), -(one.low or 0)))


def test_agresti_and_mins_numbers():
    """Their adjusted interval is Wald's on the table with half added to each cell."""
    b, c, n = 12, 3, 60
    each = np.concatenate([np.ones(b), -np.ones(c), np.zeros(n - b - c)])
    centre = (b - c) / (n + 2)
    half = 1.96 * ((b + 0.5 + c + 0.5) - (b - c) ** 2 / (n + 2)) ** 0.5 / (n + 2)
    assert of_pairs(each, 1.96) == pytest.approx((centre - half, centre + half))


def test_newcombes_numbers():
    """Newcombe 1998 (Statistics in Medicine 17), Table II, (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339."""
    assert newcombe((56 / 70, 70), (48 / 80, 80), 1.96) == pytest.approx((5.24, 33.39), abs=0.006)


def test_equal_draws_get_the_paired_interval_of_student():
    rng = np.random.default_rng(0)
    shared = rng.normal(70, 5, 10)  # of which both have their part
    a, b = (tuple(shared + rng.normal(mean, 0.2, 10)) for mean in (1, 0))
    found = over_draws(replace(RESULT, draws=a), replace(RESULT, draws=b, features="pixels"))
    assert found is not None
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found.value == pytest.approx(np.mean(a) - np.mean(b))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.over == "paired by draw"
    assert not found.within


def test_two_generated_sets_are_compared_by_their_intervals():
    ends: dict[str, Any] = {
        "value": 10.0,
        "unit": "",
        "low": 9.0,
        "high": 12.0,
        "interval": "U-statistic",
        "interval_n": 10,
    }
    a, b = replace(RESULT, **ends), replace(RESULT, **{**ends, "value": 13.0, "low": 12.0, "high": 13.5})
    found = difference(a, b)
    assert (found.value, found.over) == (-3.0, "independent sets")
    assert (found.low, found.high) == pytest.approx((-3 - (1 + 0.25) ** 0.5, -3 + (4 + 1) ** 0.5))
    among_five = difference(a, b, models=5)
    assert found.low is not None
    assert among_five.low is not None
    assert among_five.low + 3 == pytest.approx((found.low + 3) * simultaneous(5) / 1.96, rel=1e-4)
    assert difference(replace(a, interval="", low=None, high=None), b).low is None


def test_standard_errors_are_those_that_intervals_were_made_from():
    x = np.random.default_rng(0).normal(5, 1, 40)
    error = x.std(ddof=1) / 40**0.5
    for value, found in ((x.mean(), of_mean(x, "")), (5.0, of_error(5.0, error, 40, ""))):
        row = replace(RESULT, unit="", value=value, **vars(found))
        assert standard_error(row) == pytest.approx(error)
    without = [np.delete(x.reshape(10, 4), i, 0).mean() for i in range(10)]
    row = replace(RESULT, unit="", value=float(x.mean()), **vars(jackknife(x.mean(), without, "")[0]))
    assert standard_error(row) == pytest.approx(x.reshape(10, 4).mean(1).std(ddof=1) / 10**0.5)
    assert standard_error(replace(RESULT, draws=(1.0, 2.0, 3.0), spread=1.0)) == 1.0
    assert standard_error(replace(RESULT, interval="", low=None, high=None)) is None
    assert standard_error(replace(row, interval_of=REAL_IMAGES)) is None
    cut = replace(RESULT, unit="", value=1.0, **vars(jackknife(1.0, without, "", most=1)[0]))
    assert standard_error(cut) == pytest.approx(standard_error(row))


def test_as_many_images_as_planned_resolve_the_difference():
    """Two normal means of one standard deviation: the usual sample size for a power of 80 %."""
    row = replace(RESULT, unit="", value=0.0, n=100, **vars(of_error(0.0, 0.1, 100, "")))
    n = resolving(row, 0.2)
    assert n == pytest.approx(2 * (1.96 + 0.8416) ** 2 / 0.2**2, abs=1)
    rng = np.random.default_rng(0)
    seen = rng.normal(0.2, (2 / n) ** 0.5, 20_000) > 1.96 * (2 / n) ** 0.5
    assert seen.mean() == pytest.approx(0.8, abs=0.01)
    with pytest.raises(ValueError, match="no standard error"):
        resolving(replace(row, interval="", low=None, high=None), 0.2)


def test_other_draws_are_not_paired():
    a, b = replace(RESULT, draws=(1.0, 2.0, 3.0)), replace(RESULT, draws=(2.0, 2.0, 2.5), seed=1)
    for other in (b, replace(RESULT, draws=(2.0, 2.0)), replace(b, draws=()), replace(RESULT, labels="labels:1000")):
        assert over_draws(a, other) is None


def test_of_draws_without_outcomes_nothing_is_known_over_images():
    a = replace(RESULT, draws=(1.0, 2.0, 3.0))
    found = difference(a, a)
    assert (found.value, found.low, found.high, found.over, found.within) == (0.0, None, None, "", False)


def test_of_many_models_the_interval_is_wider():
    a, b = judged(1000)
    two, six = difference(of(a), of(b)), difference(of(a), of(b), 6)
    assert two.low is not None
    assert six.low is not None
    assert two.high is not None
    assert six.high is not None
    assert (six.high - six.low) / (two.high - two.low) == pytest.approx(simultaneous(6) / simultaneous(2))


def test_a_quoted_number_of_a_single_fit_is_another_sample():
    ours = replace(RESULT, **vars(wilson(0.7428, 10_000, "test images")), n=10_000)
    quote = replace(
        RESULT, source="paper, Table 1", value=82.8, low=None, high=None, interval="", interval_n=0, n=10_000
    )
    found = apart(ours, quote)
    assert found.value == pytest.approx(-8.52)
    assert found.over == "not paired"
    assert found.low is not None
    assert found.high is not None
    assert found.low < -8.52 < found.high
    # without its own number of trials, or as a mean over draws, it gets none
    for other in (replace(quote, n=0), replace(quote, spread=0.4)):
        assert apart(ours, other).low is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("data_sha256", "ef" * 32), ("labels", "per-class:400"), ("metric", "error"), ("role", "folds"),
     ("n_reference", 4000), ("n", 5), ("task", "fid"), ("classifier", "5-NN"), ("condition", "x"),
     ("question", "x"), ("method", "features scaled")],
)  # fmt: skip
def test_unequal_protocols_are_refused_with_the_reason(name, value):
    other = replace(RESULT, **{name: value})
    assert (unequal(RESULT, other) or "").startswith(name)
    with pytest.raises(InputError, match=f"unequal protocol and cannot be compared: {name} .*measure both alike"):
        difference(RESULT, other)


def test_what_is_compared_may_differ():
    other = replace(RESULT, features="pixels", features_sha256="", dimensions=3, C=5.0, model="m", remark="C 5 given")
    assert unequal(RESULT, other) is None
