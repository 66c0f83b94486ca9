import pytest
import torch

from dcgan_eval.metrics.rows import FeatureAccumulator
from tests.test_neighbors import normal


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("order", ["as they are", "reversed", "mixed"])
def test_they_come_out_in_the_order_of_their_rows(size, order):
    """To the last bit."""
    x = normal(150, 5)
    rows = {
        "as they are": torch.arange(150),
        "reversed": torch.arange(150).flip(0),
        "mixed": torch.randperm(150, generator=torch.Generator().manual_seed(0)),
    }[order]
    accumulator = FeatureAccumulator(5)
    for some in rows.split(size):
        accumulator.update(x[some], some)
    found = accumulator.compute()
    assert found.dtype == torch.float32
    assert torch.equal(found, x)


def test_a_row_that_came_twice_counts_once():
    """In one batch or in two; and rows may have gaps, and be large."""
    x = normal(6, 3)
    rows = torch.tensor([40, 7, 2**40, 7 + 2**33, 0, 2**62])
    accumulator = FeatureAccumulator(3)
    accumulator.update(x[[0, 1, 0, 2]], rows[[0, 1, 0, 2]])
    accumulator.update(x[[1, 3, 4, 5, 5, 0]], rows[[1, 3, 4, 5, 5, 0]])
    assert torch.equal(accumulator.compute(), x[[4, 1, 0, 3, 2, 5]])


def test_of_copies_that_differ_the_first_counts():
    accumulator = FeatureAccumulator(1)
    for value in (3.0, 1.0, 2.0):
        accumulator.update(torch.full((20, 1), value), torch.arange(20))
    assert accumulator.compute().tolist() == [[3.0]] * 20


def test_equal_features_of_different_rows_are_all_kept():
    accumulator = FeatureAccumulator(4)
    accumulator.update(torch.ones(9, 4), torch.arange(9))
    assert torch.equal(accumulator.compute(), torch.ones(9, 4))


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_none_came():
    accumulator = FeatureAccumulator(4)
    assert accumulator.compute().shape == (0, 4)
    accumulator.update(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert accumulator.compute().shape == (0, 4)
    assert accumulator.compute().dtype == torch.float32
    accumulator.update(torch.ones(1, 4), torch.tensor([5]))
    assert accumulator.compute().tolist() == [[1.0] * 4]


def test_more_may_come_after_it_was_asked():
    x = normal(20, 3)
    accumulator = FeatureAccumulator(3)
    accumulator.update(x[10:], torch.arange(10, 20))
    assert torch.equal(accumulator.compute(), x[10:])
    accumulator.update(x[:10], torch.arange(10))
    assert torch.equal(accumulator.compute(), x)


@pytest.mark.parametrize(("shape", "n"), [((4, 3), 4), ((4, 5), 3), ((4, 5), 5), ((5,), 5), ((4, 5, 1), 4)])
def test_features_that_do_not_fit(shape, n):
    accumulator = FeatureAccumulator(5)
    with pytest.raises(ValueError, match=rf"features \({shape[0]},.*\) of {n} images, want 5 of each"):
        accumulator.update(torch.zeros(shape), torch.arange(n))
