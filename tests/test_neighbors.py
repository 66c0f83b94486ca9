import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist  # type: ignore[import-untyped]

from dcgan_eval import neighbors
from dcgan_eval.neighbors import k_nearest


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def by_definition(queries, database, k):
    """Distances and rows, equal distances by row; float64."""
    distances = cdist(queries.double(), database.double())
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


@pytest.mark.parametrize(("q", "n", "d", "k"), [(7, 50, 3, 4), (300, 40, 11, 40), (1, 1, 5, 1), (9, 2500, 64, 1)])
@pytest.mark.parametrize("shift", [0, 1000])
def test_against_scipy(q, n, d, k, shift):
    queries, database = normal(q, d, 1) + shift, normal(n, d, 2) + shift
    distances, rows = k_nearest(queries, database, k)
    expected, order = by_definition(queries, database, k)
    assert (distances.dtype, rows.dtype) == (torch.float32, torch.int64)
    assert distances.shape == rows.shape == (q, k)
    np.testing.assert_allclose(distances, expected, rtol=2e-6, atol=1e-6)
    # where the float32 expansion takes one row for another, both are as far away
    swapped = rows.numpy() != order
    assert swapped.mean() < 0.01
    assert (np.diff(distances.numpy(), axis=1) >= 0).all()


@pytest.mark.parametrize("values", [1, 500, 10**6])
def test_equal_distances_are_ordered_by_row(values, monkeypatch):
    monkeypatch.setattr(neighbors, "VALUES", values)
    database = normal(300, 8) + 9
    database[50:250:20] = 1
    distances, rows = k_nearest(torch.zeros(3, 8), database, 5)
    assert rows.tolist() == [[50, 70, 90, 110, 130]] * 3
    np.testing.assert_allclose(distances, np.sqrt(8), rtol=1e-6)
    # the corners of a square, then its centre
    square = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [0.0, 0.0]])
    assert k_nearest(torch.zeros(1, 2), square, 5)[1].tolist() == [[4, 0, 1, 2, 3]]


def test_blocks_change_nothing(monkeypatch):
    queries, database = normal(37, 6, 3), normal(400, 6, 4)
    distances, rows = k_nearest(queries, database, 9)
    for values, size in ((6, 1), (600, 5), (1800, 36), (10**9, 10**9)):
        monkeypatch.setattr(neighbors, "VALUES", values)
        monkeypatch.setattr(neighbors, "QUERIES", size)
        again, same = k_nearest(queries, database, 9)
        assert torch.equal(rows, same)
        torch.testing.assert_close(again, distances, rtol=1e-6, atol=0)


def test_copies_are_at_zero_and_near_copies_at_their_distance():
    database = torch.rand(500, 3072, generator=torch.Generator().manual_seed(0)) * 2 - 1
    copies = database[:20].clone()
    distances, rows = k_nearest(copies, database, 2)
    assert rows[:, 0].tolist() == list(range(20))
    assert distances[:, 0].tolist() == [0.0] * 20
    copies[:, 0] += 1e-3
    distances, rows = k_nearest(copies, database, 1)
    expected, order = by_definition(copies, database, 1)
    assert rows.numpy().tolist() == order.tolist()
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


def test_a_cluster_far_from_the_mean_is_told_apart():
    base = normal(1, 256) + 5
    database = torch.cat([base + 0.01 * normal(40, 256, 1), normal(200, 256, 2)])
    distances, rows = k_nearest(database[:40], database, 3)
    expected, order = by_definition(database[:40], database, 3)
    assert rows.numpy().tolist() == order.tolist()
    np.testing.assert_allclose(distances, expected, rtol=1e-4)


def test_order_of_queries_and_rows_does_not_matter():
    queries, database = normal(20, 5, 1), normal(90, 5, 2)
    distances, rows = k_nearest(queries, database, 4)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    again, shuffled = k_nearest(queries.flip(0), database[order], 4)
    assert torch.equal(order[shuffled].flip(0), rows)
    torch.testing.assert_close(again.flip(0), distances)


@pytest.mark.parametrize(("k", "d"), [(0, 3), (11, 3), (-1, 3), (2, 4)])
def test_what_does_not_fit_is_refused(k, d):
    with pytest.raises(ValueError, match=r"k=.* queries \(2, .*\) and database \(10, 3\) do not fit"):
        k_nearest(torch.zeros(2, d), torch.zeros(10, 3), k)
