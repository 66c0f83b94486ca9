import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import kstest, mannwhitneyu, norm
from torchmetrics.image.mifid import _compute_cosine_distance, _mifid_compute

from dcgan_eval.metrics import memorization
from dcgan_eval.metrics.memorization import (
    TAU,
    authenticity,
    copying_test,
    cosine_distances,
    mifid,
    nearer,
    nearer_than_any,
    nearest,
    p_values,
)
from tests.builders import normal, whole

# the nearest


def mirror(x):
    return x.flip(1)


def by_definition(queries, train, k, mirrored=None):
    """Distances, rows and whether mirrored, of every training row at the smaller of its distances, ascending."""
    plain = cdist(queries.double(), train.double())
    other = np.full_like(plain, np.inf) if mirrored is None else cdist(mirrored.double(), train.double())
    both = np.minimum(plain, other)
    order = np.argsort(both, axis=1, kind="stable")[:, :k]
    distances, flipped = (np.take_along_axis(x, order, 1) for x in (both, other < plain))
    return distances, order, flipped


@pytest.mark.parametrize("k", [1, 2, 5, 60])
@pytest.mark.parametrize("flips", [False, True])
def test_nearest_is_the_definition(k, flips):
    queries, train = normal(80, 6, 1), normal(60, 6, 2)
    # nearly their own mirror images: most rows are found both ways
    queries[:40, 3:] = queries[:40, :3].flip(1) + 0.05 * normal(40, 3, 3)
    mirrored = mirror(queries) if flips else None
    found = nearest(queries, train, k, mirrored)
    distances, rows, flipped = by_definition(queries, train, k, mirrored)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.flipped, flipped)
    assert (found.distances.dtype, found.rows.dtype, found.flipped.dtype) == (torch.float64, torch.int64, torch.bool)
    assert found.flipped.any() == flips
    assert not found.flipped.all()


@pytest.mark.parametrize("k", [1, 3, 8])
def test_of_ties_each_row_counts_once_at_its_distance(k):
    """Whole numbers from 0 to 2: queries that are training rows, equal distances, and palindromes, in plenty."""
    queries, train = whole(200, 4, 1, high=3), whole(50, 4, 2, high=3)
    found = nearest(queries, train, k, mirror(queries))
    np.testing.assert_array_equal(found.distances, by_definition(queries, train, k, mirror(queries))[0])
    plain, other = (torch.from_numpy(cdist(x, train)) for x in (queries, mirror(queries)))
    for distances, table in ((found.distances[~found.flipped], plain), (found.distances[found.flipped], other)):
        flips = table is other
        i, j = torch.nonzero(found.flipped == flips, as_tuple=True)
        np.testing.assert_array_equal(distances, table[i, found.rows[i, j]])
    assert all(len(set(rows)) == k for rows in found.rows.tolist())
    # of a row at one distance both ways the image itself is meant
    i, j = torch.nonzero(found.flipped, as_tuple=True)
    assert len(i)
    assert (other[i, found.rows[i, j]] < plain[i, found.rows[i, j]]).all()


def test_a_mirrored_copy_is_found_at_zero():
    train = normal(50, 6, 1)
    found = nearest(mirror(train[7:9]), train, 2, train[7:9])
    assert (found.rows[:, 0].tolist(), found.distances[:, 0].tolist()) == ([7, 8], [0.0, 0.0])
    assert found.flipped[:, 0].all()
    assert (nearest(mirror(train[7:9]), train, 2).distances > 0).all()


# shares and probabilities


def test_nearer_is_scipys_one_sided_test():
    fake, held_out = normal(60, 1, 1)[:, 0].abs(), normal(90, 1, 2)[:, 0].abs() * 1.3
    p = nearer(fake, held_out)
    assert p == mannwhitneyu(fake.numpy(), held_out.numpy(), alternative="less").pvalue
    assert p < 0.2
    assert nearer(held_out, fake) == pytest.approx(1 - p, abs=0.01)


def test_nearer_among_few_is_the_share_of_orders():
    """Three smaller than four others: one order of 7 over 3."""
    assert nearer(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0, 7.0])) == pytest.approx(1 / 35)
    assert nearer(torch.zeros(30), torch.zeros(40)) > 0.5


def test_nearer_than_every_held_out_image():
    fake, held_out = torch.tensor([0.5, 0.9, 1.0, 1.5, 9.0]), torch.tensor([2.0, 1.0, 3.0])
    found = nearer_than_any(fake, held_out)
    assert found[:2] == (2 / 5, 1 / 4)  # one as near as the nearest held-out one is not nearer
    # of all orders of 5 and 3, those that begin with two of the 5
    orders = list(itertools.permutations([0] * 5 + [1] * 3, 2))
    assert found.p == pytest.approx(sum(order == (0, 0) for order in orders) / len(orders))
    assert nearer_than_any(torch.ones(4), held_out)[:] == (0.0, 1 / 4, 1.0)
    # 2 copies among 30 samples, beside 500 held-out images
    few = nearer_than_any(torch.cat([torch.zeros(2), torch.full((28,), 2.0)]), torch.ones(500))
    assert few.p == pytest.approx(30 * 29 / (530 * 529))
    many = nearer_than_any(torch.cat([torch.zeros(166), torch.full((9834,), 2.0)]), torch.ones(486))
    assert many.p == pytest.approx(3.6e-4, rel=0.05)


def test_each_distance_has_a_p_value():
    fake, held_out = torch.tensor([0.5, 1.0, 2.5, 9.0]), torch.tensor([2.0, 1.0, 3.0])
    assert p_values(fake, held_out).tolist() == [1 / 4, 2 / 4, 3 / 4, 1.0]
    rng = torch.Generator().manual_seed(0)
    found = p_values(torch.rand(4000, generator=rng), torch.rand(999, generator=rng))
    assert kstest(found.numpy(), "uniform").statistic < 0.06


def test_copies_among_held_out_images_are_counted_likewise():
    held_out = torch.cat([torch.zeros(10), torch.ones(90)])
    found = nearer_than_any(torch.cat([torch.zeros(20), torch.ones(180)]), held_out)
    assert found[:2] == (0.1, 0.1)
    assert found.p > 0.5
    copies = nearer_than_any(torch.cat([torch.zeros(150), torch.ones(50)]), held_out)
    assert copies[:2] == (0.75, 0.1)
    assert copies.p < 1e-20


def authpct(train, fake):
    """As dgm-eval's compute_authpct: a sample is authentic if its nearest has a neighbour strictly nearer than it."""
    among = cdist(train.double(), train.double())
    np.fill_diagonal(among, np.inf)
    between = cdist(train.double(), fake.double())
    return np.mean(among.min(0)[between.argmin(0)] < between.min(0))


@pytest.mark.parametrize("seed", [0, 10])
def test_authenticity_is_that_of_dgm_eval(seed):
    train, fake, held_out = normal(150, 5, seed), normal(80, 5, seed + 1) * 0.7, normal(120, 5, seed + 2)
    train[:20] = train[20:40]  # whose own neighbours are at 0
    fake[:10] = train[:10]  # and which are copied: no farther
    found = authenticity(nearest(fake, train), nearest(held_out, train), train)
    assert found[:2] == (authpct(train, fake), authpct(train, held_out))
    assert 0 < found.value < found.held_out < 1
    pooled = (80 * found.value + 120 * found.held_out) / 200
    z = (found.value - found.held_out) / np.sqrt(pooled * (1 - pooled) / 80 + pooled * (1 - pooled) / 120)
    assert found.p == pytest.approx(norm.cdf(z), rel=1e-9)
    assert found.p < 0.5


def test_as_far_as_the_neighbour_is_not_farther():
    """Training rows at 0, 1 and 10: radii 1, 1 and 9."""
    train = torch.tensor([[0.0], [1.0], [10.0]])
    fake, held_out = torch.tensor([[-1.0], [-1.5], [2.0], [19.5]]), torch.tensor([[3.0], [10.0]])
    found = authenticity(nearest(fake, train), nearest(held_out, train), train)
    assert found[:2] == (2 / 4, 1 / 2)
    assert found.p == pytest.approx(0.5)


@pytest.mark.parametrize("far", [0.0, 100.0])
def test_shares_that_are_all_or_nothing_prove_nothing(far):
    train = normal(30, 3)
    sides = (nearest(train[:20] + far, train), nearest(train[:25] + far, train))
    assert authenticity(*sides, train) == (float(far > 0), float(far > 0), 1.0)


def test_half_of_a_share_is_not_chance():
    train, held_out = normal(300, 8, 1), normal(200, 8, 2)
    fake = torch.cat([train[:100] + 0.01, normal(100, 8, 3)])
    found = authenticity(nearest(fake, train), nearest(held_out, train), train)
    assert found.p < 1e-4
    assert authenticity(nearest(held_out, train), nearest(fake, train), train).p > 1 - 1e-4


# C_T

CENTRES = torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0], [0.0, 50.0, 0.0], [0.0, 0.0, 50.0]])


def clustered(counts, seed, spread=1.0):
    """Points around the centres, and which centre each is of."""
    of = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    return spread * normal(len(of), 3, seed) + CENTRES[of], of.numpy()


def c_t(fake, held_out, train, fewest=20):
    """Meehan et al. 2020, eq. 3 and 4, as their code: Z_U of every cell with enough, weighted by held-out features."""
    (fake, of_fake), (held_out, of_held_out), (train, of_train) = fake, held_out, train
    total = weights = squares = cells = 0
    for cell in range(4):
        a, b, t = (x[of == cell] for x, of in ((fake, of_fake), (held_out, of_held_out), (train, of_train)))
        n, m = len(a), len(b)
        if n < fewest or m < fewest:
            continue
        a, b = (cdist(x.double(), t.double()).min(1) for x in (a, b))
        u = (a[:, None] > b[None]).sum() + (a[:, None] == b[None]).sum() / 2
        z = (u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12)
        total, weights, squares, cells = total + m * z, weights + m, squares + m * m, cells + 1
    return total / weights, norm.cdf(total / np.sqrt(squares)), cells, 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("fakes", "held_out"),
    [
        ((100, 100, 100, 100), (100, 100, 100, 100)),
        ((60, 250, 30, 60), (300, 20, 50, 80)),
        ((19, 20, 200, 161), (100, 100, 19, 181)),  # two cells hold too few of one side
        ((0, 0, 0, 499), (100, 100, 100, 100)),
    ],
)
def test_c_t_is_its_definition(seed, fakes, held_out):
    sets = clustered(fakes, seed, 0.95), clustered(held_out, seed + 10), clustered((80, 120, 50, 40), seed + 20)
    found = copying_test(*(x for x, _ in sets), seed=seed)
    assert found == pytest.approx(c_t(*sets), rel=1e-9)
    assert found.cells == sum(a >= 20 and b >= 20 for a, b in zip(fakes, held_out, strict=True))
    assert abs(found.value) < 5


def test_c_t_of_ties_and_copies():
    held_out, of_held_out = clustered((100, 100, 100, 100), 1)
    train, of_train = clustered((50, 50, 50, 50), 2)
    held_out[:30] = train[0]
    fake = (train.repeat(2, 1), np.tile(of_train, 2))
    found = copying_test(fake[0], held_out, train, seed=0)
    assert found == pytest.approx(c_t(fake, (held_out, of_held_out), (train, of_train)), rel=1e-9)
    assert found.value < -10
    assert found.p < 1e-50


def test_c_t_goes_up_where_samples_are_farther():
    sets = [normal(300, 4, 1) * 2, normal(300, 4, 2), normal(400, 4, 3)]
    found = copying_test(*sets, seed=0)
    assert found.value > 3
    assert found.p > 0.999


@pytest.mark.parametrize(("n", "m", "cells"), [(99, 500, 1), (200, 500, 2), (500, 399, 3), (30, 30, 1)])
def test_a_hundred_of_both_to_a_cell(n, m, cells):
    assert copying_test(normal(n, 2, 1), normal(m, 2, 2), normal(90, 2, 3), seed=0).all_cells == cells


def test_cells_that_hold_too_few():
    train = normal(60, 3)
    for n, m in ((19, 300), (300, 19)):
        with pytest.raises(ValueError, match="want 20 of both"):
            copying_test(normal(n, 3, 1), normal(m, 3, 2), train, seed=0)
    assert copying_test(normal(20, 3, 1), normal(20, 3, 2), train, seed=0).cells == 1


def test_the_seed_decides_the_cells():
    sets = [normal(400, 4, seed) for seed in range(3)]
    first, same, other = (copying_test(*sets, seed=seed) for seed in (0, 0, 1))
    assert first == same != other


def shares_below(ps):
    return [(np.array(ps) <= level).mean() for level in (0.01, 0.05, 0.25, 0.5, 0.75)]


def test_probabilities_are_uniform_where_nothing_is_copied():
    """Samples and held-out images of one distribution, 200 times."""
    found: dict[str, list[float]] = {"nearer": [], "any": [], "authenticity": [], "C_T": []}
    for seed in range(200):
        fake, held_out, train = torch.split(normal(500, 3, seed), [200, 200, 100])
        near = [nearest(x, train) for x in (fake, held_out)]
        first = [n.distances[:, 0] for n in near]
        found["nearer"].append(nearer(*first))
        found["any"].append(nearer_than_any(*first).p)
        found["authenticity"].append(authenticity(near[0], near[1], train).p)
        found["C_T"].append(copying_test(fake, held_out, train, seed=seed).p)
    for name in ("nearer", "authenticity", "C_T"):
        assert kstest(found[name], "uniform").pvalue > 0.01, name
    for name, ps in found.items():
        # three standard deviations of a share of 200
        for share, level in zip(shares_below(ps), (0.01, 0.05, 0.25, 0.5, 0.75), strict=True):
            assert share < level + 3 * np.sqrt(level * (1 - level) / 200), name


# MiFID


def one_minus_cos(fake, train):
    """Of every sample, by every pair."""
    x, t = (y.double().numpy() for y in (fake, train))
    cos = x @ t.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(t, axis=1)
    return (1 - np.abs(cos)).min(1)


POSITIVE, SIGNED = (lambda n, seed: normal(n, 16, seed).abs()), (lambda n, seed: normal(n, 16, seed))


@pytest.mark.parametrize(
    ("fake", "train"),
    [
        (POSITIVE(70, 1), POSITIVE(120, 2)),
        (SIGNED(70, 1), SIGNED(120, 2)),
        (POSITIVE(70, 1), SIGNED(120, 2)),
        pytest.param(SIGNED(70, 1), POSITIVE(120, 2)),
        (1000 * POSITIVE(70, 1), 1e-3 * SIGNED(120, 2)),
    ],
    ids=["positive", "signed", "signed train", "signed fake", "scaled"],
)
def test_cosine_distances_are_the_definition(fake, train):
    found = cosine_distances(fake, train)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, one_minus_cos(fake, train), rtol=1e-5, atol=1e-12)
    assert (found > 0.01).all()


@pytest.mark.parametrize("constant", ["ROWS", "VALUES"])
def test_cosine_distances_do_not_depend_on_the_blocks(constant, monkeypatch):
    """To the last bit, with rows of length 0 among them."""
    fake, train = normal(50, 5, seed=1), normal(40, 5)
    fake[[0, 8, 9, 30]] = 0
    wanted = cosine_distances(fake, train)
    monkeypatch.setattr(memorization, constant, 7)
    assert torch.equal(cosine_distances(fake, train), wanted)


def test_length_and_sign_are_nothing():
    train = normal(40, 5)
    found = cosine_distances(torch.cat([train[:3], 7 * train[3:6], -train[6:9], -0.01 * train[9:12]]), train)
    assert found.max() < 1e-12
    assert found[:3].tolist() == [0.0] * 3


def test_features_of_length_zero_have_a_direction_like_nothing():
    """As the reference, which leaves such rows out: they may not be nearest to anything."""
    train = torch.cat([torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]])])
    np.testing.assert_allclose(cosine_distances(torch.tensor([[0.1, 1.0, 0.0]]), train), [1 - 0.1 / np.sqrt(1.01)])


def test_copies_of_a_few_are_at_zero_from_samples_to_training_images_only():
    train = normal(1000, 16, 1).abs() + 0.1
    fake = train[:50].repeat(8, 1)
    assert float(cosine_distances(fake, train).max()) == 0
    other = cosine_distances(train, fake)
    assert float(other.mean()) > 0.05
    # torchmetrics hands over real images first
    assert float(_compute_cosine_distance(train, fake, 1.0)) == pytest.approx(float(other.mean()), rel=1e-3)


def moments(x):
    return x.double().mean(0), x.double().T.cov(), x.double()


@pytest.mark.parametrize(("noise", "punished"), [(0.1, True), (4.0, False)])
def test_mifid_is_torchmetrics_formula_in_the_reference_direction(noise, punished):
    train = normal(200, 16, 1).abs()
    fake = train[:100] + noise * normal(100, 16, 2).abs() ** 3
    mean = float(cosine_distances(fake, train).mean())
    assert (mean < TAU) == punished
    # its first side is the one that looks for neighbours
    peer = float(_mifid_compute(*[*moments(fake), *moments(train), TAU]))
    fid = float(_mifid_compute(*[*moments(fake), *moments(train), 0.0]))
    assert mifid(fid, mean) == pytest.approx(peer, rel=1e-5)
    assert (mifid(fid, mean) > fid) == punished


def test_mifid_below_and_at_its_threshold():
    assert mifid(3.0, 0.05) == pytest.approx(60)
    assert mifid(3.0, 0.1) == mifid(3.0, 0.9) == 3
    assert mifid(3.0, 0.1, tau=0.2) == pytest.approx(30)
    assert mifid(3.0, 0.0) == pytest.approx(3e14)
    assert mifid(0.0, 0.0) == 0
