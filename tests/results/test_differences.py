"""Numbers set beside each other: only of equal protocol, and with an interval."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dcgan_eval.results.differences import apart, difference, unequal
from dcgan_eval.runtime.errors import InputError
from tests.builders import RESULT


def drawn(values, **changes):
    return replace(
        RESULT, value=float(np.mean(values)), spread=1.96 * float(np.std(values)), draws=tuple(values),
        **changes,
    )  # fmt: skip


def test_equal_draws_get_the_paired_interval_of_student():
    rng = np.random.default_rng(0)
    shared = rng.normal(70, 5, 10)  # of which both have their part
    a, b = (shared + rng.normal(mean, 0.2, 10) for mean in (1, 0))
    found = difference(drawn(a.tolist()), drawn(b.tolist(), features="pixels"))
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found.half is not None
    assert found.value == pytest.approx((a - b).mean())
    assert (found.value - found.half, found.value + found.half) == pytest.approx((low, high))
    assert "10 equal draws" in found.kind
    assert not found.within
    assert apart(drawn(a.tolist()), drawn(b.tolist())).within  # what pairing is for


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        shared = rng.normal(0, 5, 10)
        a, b = (shared + rng.normal(mean, 1, 10) for mean in (0.3, 0))
        found = difference(drawn(a.tolist()), drawn(b.tolist()))
        assert found.half is not None
        covered += abs(found.value - 0.3) <= found.half
    assert 0.92 < covered / 400 < 0.98


def test_other_draws_are_not_paired():
    a, b = drawn([1.0, 2.0, 3.0]), drawn([2.0, 2.0, 2.5], seed=1)
    for other in (b, drawn([2.0, 2.0]), replace(b, draws=())):
        found = difference(a, other)
        assert found.kind == "root of the sum of squares of both ±"
        assert found.half == pytest.approx(np.hypot(a.spread or 0, other.spread or 0))


def test_without_any_spread_nothing_is_within():
    found = difference(replace(RESULT, spread=None), replace(RESULT, spread=None))
    assert (found.half, found.within) == (None, False)


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
