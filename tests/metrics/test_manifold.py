import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.spatial.distance import cdist
from torch_fidelity import metric_prc

from dcgan_eval.metrics.manifold import manifold
from tests.builders import normal, whole


def definition(real, fake, k):
    """Kynkäänniemi et al. 2019, eq. 1 and 2; Naeem et al. 2020, eq. 4 and 6; from all distances, balls open."""
    real, fake = real.double().numpy(), fake.double().numpy()
    # each is its own nearest, at 0
    real_radii, fake_radii = (np.sort(cdist(x, x), 1)[:, k] for x in (real, fake))
    between = cdist(real, fake)
    in_real, in_fake = between < real_radii[:, None], between < fake_radii[None]
    precision, recall = in_real.any(0).mean(), in_fake.any(1).mean()
    return precision, recall, in_real.sum() / (k * len(fake)), in_real.any(1).mean()


def clouds(seed, n, m, d):
    """Two that overlap in part, of different width: neither of the four is 0 or 1."""
    fake = normal(m, d, seed + 1) * 0.8
    fake[:, 0] += 1.5
    fake[m // 2 :, 1] -= 3
    return normal(n, d, seed), fake


def ties(seed, n, m, d):
    """Whole numbers: copies, within and across both, and distances that are equal to radii. All is exact in float64."""
    return whole(n, d, seed, high=3), whole(m, d, seed + 1, high=4)


PROBLEMS = {
    "clouds": clouds(0, 200, 150, 8),
    "more fakes": clouds(5, 60, 400, 3),
    "fewer than dimensions": clouds(7, 30, 25, 100),
    "far": tuple(x + 1000 for x in clouds(9, 100, 100, 5)),
    "one fake more than k": clouds(11, 50, 6, 4),
    "ties": ties(13, 300, 200, 4),
    "copies": ties(15, 200, 300, 2),
    "apart": (normal(40, 3, 1), normal(50, 3, 2) + 100),
    "the same": (normal(80, 6, 1), normal(80, 6, 1)),
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_it_is_the_definition(problem, k):
    real, fake = PROBLEMS[problem]
    found = manifold(real, fake, k=k)
    assert found[:4] == pytest.approx(definition(real, fake, k), rel=1e-12, abs=0)
    assert found.k == k


@pytest.mark.parametrize("problem", [name for name in PROBLEMS if name not in ("the same", "one fake more than k")])
@pytest.mark.parametrize("k", [1, 5])
def test_it_is_prdcs(problem, k):
    """Exactly. Its distances, ‖a‖² + ‖b‖² − 2a·b, of a set and its copy are exact for whole numbers only."""
    real, fake = PROBLEMS[problem]
    peer = compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=k)
    found = manifold(real, fake, k=k)
    assert (found.precision, found.recall, found.coverage) == (peer["precision"], peer["recall"], peer["coverage"])
    assert found.density == pytest.approx(peer["density"], rel=1e-14)


@pytest.mark.parametrize("problem", ["clouds", "more fakes", "fewer than dimensions", "apart", "one fake more than k"])
@pytest.mark.parametrize("k", [3, 5])
def test_it_is_torch_fidelitys_where_no_distances_are_equal(problem, k):
    real, fake = PROBLEMS[problem]
    peer = metric_prc.prc_features_to_metric(
        fake.double(), real.double(), prc_neighborhood=k, prc_batch_size=64, save_cpu_ram=True, verbose=False
    )
    found = manifold(real, fake, k=k)
    # its shares are means in float32
    assert (found.precision, found.recall) == pytest.approx((peer["precision"], peer["recall"]), rel=1e-6)


def test_the_default_is_prdcs_five():
    real, fake = PROBLEMS["clouds"]
    assert manifold(real, fake)[:5] == manifold(real, fake, k=5)[:5]
    assert manifold(real, fake)[:4] != manifold(real, fake, k=4)[:4]


def test_known_sets():
    """On a line: reals 0, 1, 2, 4 with radii 1, 1, 1, 2 for k = 1; fakes 0.5, 3, 10 with radii 2.5, 2.5, 7."""
    real, fake = (torch.tensor(x)[:, None] for x in ([0.0, 1.0, 2.0, 4.0], [0.5, 3.0, 10.0]))
    # 0.5 lies in the balls of 0 and 1; 3 in that of 4 and on the rim of that of 2; 10 in none
    # 0, 1, 2, 4 lie in the ball of 0.5 or of 3
    assert manifold(real, fake, k=1)[:4] == (2 / 3, 1.0, 1.0, 3 / 4)


def test_rims_are_outside():
    """Fakes at a real's radius to the last bit, and a hair nearer."""
    real = normal(60, 5, 3)
    radii = cdist(real.double(), real.double())
    np.fill_diagonal(radii, np.inf)
    lonely = int(radii.min(1).argmax())
    # a fake where the lonely one's nearest neighbour is: on its rim, and in the ball of the neighbour alone, if at all
    fake = real[radii[lonely].argmin()].repeat(3, 1)
    exact = definition(real, fake, 1)
    assert manifold(real, fake, k=1)[:4] == pytest.approx(exact)
    assert manifold(real, 0.999 * fake + 0.001 * real[lonely], k=1).density > exact[2]


def test_precision_and_recall_are_each_others_mirror():
    real, fake = PROBLEMS["clouds"]
    one, other = manifold(real, fake), manifold(fake, real)
    assert (one.precision, one.recall) == (other.recall, other.precision)
    assert 0 < one.precision < 1
    assert one.precision != one.recall


def test_what_each_of_them_sees():
    """Fakes of one mode of two: precise, and half of the reals left out. Fakes too wide: the reverse."""
    real = normal(400, 4, 1)
    real[200:] += 20
    fake = normal(200, 4, 2)
    found = manifold(real, fake)
    assert found.precision > 0.85
    assert found.recall == pytest.approx(0.45, abs=0.06)
    assert found.coverage == pytest.approx(0.5, abs=0.05)
    assert found.density == pytest.approx(1, abs=0.2)
    wide = manifold(real, torch.cat([normal(200, 4, 3), normal(200, 4, 4) + 20, 100 * normal(400, 4, 5)]))
    assert wide.precision == pytest.approx(0.45, abs=0.06)
    assert wide.recall > 0.95
    # more copies of what is in the midst of the reals raise the density, beyond 1, and nothing else
    dense = manifold(real, real[:200].mean(0).repeat(50, 1))
    assert dense.density > 1.5
    assert dense.coverage < 0.2


@pytest.mark.parametrize(
    ("n", "m", "k"), [(5, 50, 5), (50, 5, 5), (1, 50, 1), (50, 1, 1), (0, 9, 1), (9, 9, 0), (9, 9, -1)]
)
def test_too_few_features_or_neighbours(n, m, k):
    with pytest.raises(ValueError, match=rf"{k} nearest neighbours in {min(n, m)} features: want 1 to {min(n, m) - 1}"):
        manifold(normal(n, 3), normal(m, 3), k=k)


def test_dimensions_that_differ():
    with pytest.raises(ValueError, match="3 and of 2 dimensions"):
        manifold(normal(9, 3), normal(9, 2))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_values_that_are_not_finite(value, side):
    sets = [normal(20, 3, 1), normal(20, 3, 2)]
    sets[side][4, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        manifold(*sets)
