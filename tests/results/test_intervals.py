"""Intervals against other libraries, and against what they promise: how often they hold the true value."""

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, t
from statsmodels.stats.multitest import multipletests

from benchmarks import coverage
from dcgan_eval.results import Interval, Spread
from dcgan_eval.results.intervals import (
    Z95,
    by_rank,
    holm,
    jackknife,
    of_clusters,
    of_images,
    of_mean,
    simultaneous,
    spread,
    wilson,
)


@pytest.mark.parametrize(("right", "n"), [(0, 50), (50, 50), (1, 50), (37, 50), (486, 1000), (7551, 10_000)])
def test_wilsons_interval_is_scipys(right, n):
    found, interval = wilson(right / n, n, "test images"), binomtest(right, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((100 * interval.low, 100 * interval.high), abs=1e-9)
    assert (found.interval, found.interval_n, found.interval_of) == ("Wilson", n, "test images")
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 100 * right / n <= found.high


def test_the_interval_of_a_mean_is_students():
    x = np.random.default_rng(0).normal(5, 2, 7)
    found = of_mean(x, "z")
    assert (found.low, found.high) == pytest.approx(t.interval(0.95, 6, x.mean(), x.std(ddof=1) / 7**0.5))
    assert (found.interval, found.interval_n, found.interval_of) == ("Student's t", 7, "z")
    assert of_mean([3.0], "z") == Interval()


def test_a_spread_divides_by_one_less():
    assert spread([1.0, 2.0, 4.0], "label draws") == Spread(
        float(np.std([1, 2, 4], ddof=1)), "standard deviation", 3, "label draws"
    )
    assert spread([1.0], "label draws") == Spread()


def test_over_images_several_draws_are_worth_between_one_and_their_number():
    rng = np.random.default_rng(0)
    right = rng.random((1, 400)) < 0.8
    one = of_images(right)
    assert one == wilson(float(right.mean()), 400, "test images")
    assert of_images(np.repeat(right, 10, 0)) == one  # draws that agree tell nothing more
    apart = of_images(rng.random((10, 400)) < 0.8)  # draws that have nothing in common are other images
    alike = wilson(float((rng.random((10, 400)) < 0.8).mean()), 4000, "test images")
    assert apart.low is not None
    assert apart.high is not None
    assert alike.low is not None
    assert alike.high is not None
    assert apart.high - apart.low == pytest.approx(alike.high - alike.low, rel=0.1)
    assert of_images(np.ones((3, 50), bool)).low == pytest.approx(wilson(1.0, 50, "").low)


def test_over_clusters_by_hand():
    """Four clusters of 50: a mean of 0.5 whose variance is 0.04 / 3 / 4, as of 75 independent trials, times
    (1.96 / 3.18)² for Student's t of 3."""
    found = of_clusters([0.4, 0.4, 0.6, 0.6], 50, "seeds of z")
    by_hand = wilson(0.5, 0.25 / (0.04 / 3 / 4) * (Z95 / t.ppf(0.975, 3)) ** 2, "seeds of z")
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))
    assert (found.interval, found.interval_n, found.interval_of) == ("Wilson, clustered", 4, "seeds of z")


def test_clusters_are_worth_between_their_number_and_that_of_all_trials():
    def ends(found):
        return pytest.approx((found.low, found.high))

    fewer = (Z95 / t.ppf(0.975, 9)) ** 2
    # of nearly equal clusters all trials count, but for the uncertainty of so few clusters
    nearly = of_clusters([0.5] * 9 + [0.501], 20, "")
    assert (nearly.low, nearly.high) == ends(wilson(0.5001, 200 * fewer, ""))
    # clusters that agree within count once, not less, however uncertain their variance is
    apart = of_clusters([0.0, 1.0] * 5, 20, "")
    assert (apart.low, apart.high) == ends(wilson(0.5, 10, ""))
    # without a variance, too
    for share in (0.0, 0.3, 1.0):
        alike = of_clusters([share] * 10, 20, "")
        assert (alike.low, alike.high) == ends(wilson(share, 200 * fewer, ""))
    one = of_clusters([1.0, 1.0], 1, "")
    assert (one.low, one.high) == ends(wilson(1.0, 2, ""))


def test_p_by_rank():
    others = list(range(199))
    assert by_rank(-1, others, high=False) == by_rank(199, others, high=True) == 1 / 200
    assert by_rank(0, others, high=False) == 2 / 200  # a tie is as extreme
    assert by_rank(0, others, high=True) == 1
    assert by_rank(100, others, high=True) == 100 / 200
    assert by_rank(3, [3.0] * 199, high=True) == by_rank(3, [3.0] * 199, high=False) == 1


def test_the_quantile_of_two_models_is_students_and_grows_with_their_number():
    assert simultaneous(2) == pytest.approx(Z95)
    assert simultaneous(2, 9) == pytest.approx(t.ppf(0.975, 9))
    # q of 0.95, in the table of any textbook: 3.314, 4.030
    assert simultaneous(3) == pytest.approx(3.314 / 2**0.5, abs=1e-3)
    assert simultaneous(6) == pytest.approx(4.030 / 2**0.5, abs=1e-3)
    assert simultaneous(6, 10) == pytest.approx(t.ppf(1 - 0.05 / 2 / 15, 10))


def test_holm_is_statsmodels():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 40):
        p = rng.random(n) ** 3
        assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]) == []
    assert holm([0.02, 0.02]) == [0.04, 0.04]


# what they promise


@pytest.mark.parametrize("case", [case for case in coverage.CASES if case.slow == 1], ids=str)
def test_an_interval_holds_the_true_value_as_often_as_it_says(case):
    """Within what chance does to so many rounds, and not much more often: too wide says too little."""
    found = case.covered(rounds=1500, seed=1)
    noise = 3.3 * (0.95 * 0.05 / 1500) ** 0.5
    assert case.least - noise <= found <= case.most + noise


def test_those_that_take_long_held_it_when_they_were_last_run():
    with (Path(__file__).parents[2] / "reports/benchmarks/coverage.csv").open(encoding="utf-8", newline="") as file:
        found = {tuple(line[:3]): float(line[3]) / 100 for line in csv.reader(file) if line[3] != "holds, %"}
    for case in coverage.CASES:
        measured, noise = found[case.interval, case.of, case.truth], coverage.noise(1000)
        assert case.least - noise <= measured <= case.most + noise, case


def test_a_jackknife_holds_it_in_a_small_case():
    found = coverage.ESTIMATES["jackknife, Fréchet distance"]
    rng, arguments = np.random.default_rng(0), (60, 3, 0.3, False)
    several = [found(rng, *arguments) for _ in range(300)]
    truth = float(np.mean([value for value, _ in several]))
    share = np.mean([coverage.holds(interval.low, interval.high, truth) for _, interval in several])
    assert 0.88 <= share <= 0.99


def test_the_jackknife_of_a_mean_is_students_t_of_the_means_of_blocks():
    x = np.random.default_rng(0).normal(5, 1, (10, 7))
    without = [np.delete(x, i, 0).mean() for i in range(10)]
    found, bias = jackknife(x.mean(), without, "images")
    blocks = of_mean(x.mean(1), "")
    assert (found.low, found.high) == pytest.approx((blocks.low, blocks.high))
    assert (found.interval, found.interval_n, found.interval_of) == ("jackknife", 10, "blocks of images")
    assert bias == pytest.approx(0, abs=1e-12)


def test_the_jackknife_finds_a_bias_that_falls_with_the_size():
    """Of a variance that divides by n it is −σ²/n."""
    x = np.random.default_rng(0).normal(0, 2, (10, 50))
    found = jackknife(x.var(), [np.delete(x, i, 0).var() for i in range(10)], "")[1]
    assert found == pytest.approx(-x.var() / x.size, rel=0.5)


def test_a_jackknife_without_change_knows_nothing():
    assert jackknife(1.0, [1.0] * 10, "")[0] == Interval()
    assert jackknife(0.01, [0.0, 0.02] * 5, "")[0].low == 0  # of what is not below 0


def test_cases_are_told_apart():
    for a, b in combinations(coverage.CASES, 2):
        assert str(a) != str(b)
