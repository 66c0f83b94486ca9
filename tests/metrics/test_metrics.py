"""What holds of metrics whatever they measure, and of accumulators whatever their batches and ranks."""

import datetime
import pickle
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessException, spawn

from dcgan_eval.metrics.frechet import (
    Gaussian,
    fit,
    frechet_distance,
    frechet_distance_of_features,
)
from dcgan_eval.metrics.inception_score import inception_score
from dcgan_eval.metrics.kernel import kernel_distance
from dcgan_eval.metrics.manifold import manifold
from dcgan_eval.metrics.torchmetrics import GaussianMetric, InceptionScoreMetric
from tests.builders import features, normal


def frechet(x, y):
    return [frechet_distance_of_features(x, y)]


def kernel(x, y):
    """One subset, of all: no seed enters."""
    size = min(len(x), len(y))
    return [kernel_distance(x, y, seed=0, subsets=1, subset_size=size).mean]


def four_shares(x, y):
    return list(manifold(x, y, k=3)[:4])


def score(_, y):
    """Features as logits; one split, so that the shuffle does not matter."""
    return [inception_score(y, seed=0, splits=1).mean]


METRICS = {"frechet": frechet, "kernel": kernel, "manifold": four_shares, "inception score": score}
OF_TWO = {name: metric for name, metric in METRICS.items() if name != "inception score"}


def pair(n=120, d=6):
    """Overlapping in part, so that no metric is at its best or worst."""
    return features(1, n, d), features(1, n, d).flip(0) * 0.7 + 0.5 * normal(n, d, 9) + 0.3


def close(found, wanted, rel=1e-9):
    return found == pytest.approx(wanted, rel=rel, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_it_tells_sets_apart(metric):
    """Without which all below would hold of a constant."""
    x, y = pair()
    assert np.isfinite(metric(x, y)).all()
    for a, b in zip(metric(x, y), metric(x, 3 * y + 1), strict=True):
        assert abs(a - b) > 0.05 * abs(a)


def best_of_kernel(x):
    """Not 0, for it is without bias: 2 (Σ k − m Σᵢ kᵢᵢ) / m²(m − 1) ≤ 0."""
    k, m = (x.double() @ x.double().T / x.shape[1] + 1) ** 3, len(x)
    return [float(2 * (k.sum() - m * k.trace()) / (m * m * (m - 1)))]


BEST = {
    "frechet": lambda x: [0.0],
    "kernel": best_of_kernel,
    # every open ball holds the k nearest, itself first
    "manifold": lambda x: [1.0, 1.0, 1.0, 1.0],
}


@pytest.mark.parametrize("name", BEST)
@pytest.mark.parametrize(("n", "d"), [(120, 6), (20, 50)])
def test_a_set_beside_itself(name, n, d):
    x = features(3, n, d)
    assert METRICS[name](x, x) == pytest.approx(BEST[name](x), rel=1e-9, abs=1e-6)
    assert METRICS[name](x, x.flip(0)) == pytest.approx(BEST[name](x), rel=1e-9, abs=1e-6)
    # another set is worse
    assert METRICS[name](x, features(4, n, d)) != pytest.approx(BEST[name](x), rel=0.1, abs=0.1)


def test_the_best_inception_score_is_the_number_of_classes():
    assert close(score(None, 100 * torch.eye(8).repeat(4, 1)), [8])
    assert score(None, features(3, 50, 8))[0] < 8


@pytest.mark.parametrize(("metric", "mirror"), [(frechet, [0]), (kernel, [0]), (four_shares, [1, 0])])
@pytest.mark.parametrize(("n", "d"), [(120, 6), (20, 50)])
def test_which_comes_first(metric, mirror, n, d):
    """Distances are symmetric; precision one way is recall the other."""
    x, y = pair(n, d)
    assert close([metric(y, x)[i] for i in mirror], metric(x, y)[: len(mirror)])


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize(("n", "d"), [(120, 6), (20, 50)])
def test_order_does_not_matter(metric, n, d):
    x, y = pair(n, d)
    one, other = (torch.randperm(n, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert close(metric(x[one], y[other]), metric(x, y), rel=1e-10)


@pytest.mark.parametrize("metric", OF_TWO.values(), ids=OF_TWO)
@pytest.mark.parametrize(("n", "d"), [(120, 6), (20, 50)])
def test_rotations_and_reflections_do_not_matter(metric, n, d):
    x, y = pair(n, d)
    turn = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    turned = [(f.double() @ turn).float() for f in (x, y)]
    assert close(metric(*turned), metric(x, y), rel=1e-5)


@pytest.mark.parametrize("metric", [frechet, four_shares])
def test_where_zero_is_does_not_matter(metric):
    """To distances. It does to the kernel, which is not one of differences."""
    x, y = pair()
    assert close(metric(x + 16, y + 16), metric(x, y), rel=1e-5)
    assert not close(kernel(x + 16, y + 16), kernel(x, y), rel=0.1)


def test_units_scale_the_frechet_distance_and_leave_shares():
    x, y = pair()
    assert close(frechet(4 * x, 4 * y), [16 * frechet(x, y)[0]])
    assert four_shares(4 * x, 4 * y) == four_shares(x, y)


def test_what_does_not_change_probabilities_or_renames_classes():
    _, y = pair()
    assert close(score(None, y.double() + 10 * normal(120, 1)), score(None, y))
    assert close(score(None, y[:, [3, 1, 0, 5, 4, 2]]), score(None, y))


def test_everything_twice():
    x, y = pair(60)
    # means stay; covariances, over n − 1, shrink a little
    shrunk = [Gaussian(120, g.mean, g.covariance * (59 / 60) * (120 / 119)) for g in (fit(x), fit(y))]
    twice = [f.repeat(2, 1) for f in (x, y)]
    assert close(frechet(*twice), [frechet_distance(*shrunk)], rel=1e-6)
    # Σᵢ kᵢᵢ enters among the pairs, by copies
    k = [(a.double() @ b.double().T / 6 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    within = [(4 * m.sum() - 2 * m.trace()) / (120 * 119) for m in k[:2]]
    assert close(kernel(*twice), [float(within[0] + within[1] - 2 * k[2].mean())])
    assert close(score(None, twice[1]), score(None, y))
    # copies among the fakes change no real ball, nor their share within
    one, two = four_shares(x, y), four_shares(x, twice[1])
    assert (one[0], one[2], one[3]) == pytest.approx((two[0], two[2], two[3]), rel=1e-12)
    assert two[1] < one[1]
    # more copies than k leave every open ball empty
    assert four_shares(x.repeat(4, 1), x) == [0, 1, 0, 0]


def test_features_that_do_not_vary():
    one, three = torch.full((20, 4), 1.0), torch.full((20, 4), 3.0)
    for x in (one, three):
        assert frechet(x, x) == [0]
        assert kernel(x, x) == pytest.approx([0], abs=1e-9)
        # balls of radius 0 are empty, since they are open
        assert four_shares(x, x) == [0, 0, 0, 0]
        assert close(score(None, x), [1])
    assert close(frechet(one, three), [4 * 2**2])
    assert close(kernel(one, three), [2**3 + 10**3 - 2 * 4**3])
    assert four_shares(one, three) == [0, 0, 0, 0]
    # one that does not vary beside one that does
    x = features(5, 50, 4)
    wanted = float(((x.double().mean(0) - 1) ** 2).sum() + torch.cov(x.double().T).trace())
    assert close(frechet(x, one[:1].repeat(50, 1)), [wanted], rel=1e-8)
    assert np.isfinite(kernel(x, one[:1].repeat(50, 1))).all()


@pytest.mark.parametrize(
    ("metric", "message"),
    [(frechet, "at least two features, not"), (kernel, "of 1 features"), (four_shares, "neighbours in 1 features")],
)
@pytest.mark.parametrize("sizes", [(1, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize("d", [3, 20])
def test_one_feature_is_too_few(metric, message, sizes, d):
    with pytest.raises(ValueError, match=message):
        metric(normal(sizes[0], d), normal(sizes[1], d))


def test_one_image_has_a_score_of_one_and_cannot_be_split():
    assert close(score(None, normal(1, 5)), [1])
    with pytest.raises(ValueError, match="10 splits of 1 images"):
        inception_score(normal(1, 5), seed=0)


@pytest.mark.parametrize("metric", OF_TWO.values(), ids=OF_TWO)
def test_dimensions_must_agree(metric):
    with pytest.raises(ValueError, match="5 and of 4 dimensions"):
        metric(normal(9, 5), normal(9, 4))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("d", [4, 30])
def test_values_must_be_finite(metric, value, d):
    y = normal(20, d)
    y[11, 2] = value
    with pytest.raises(ValueError, match=r"NaN or infinite|not finite"):
        metric(normal(20, d), y)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_arguments_are_left_as_they_are(metric):
    x, y = pair()
    before = x.clone(), y.clone()
    metric(x, y)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


# 131 rows: a prime number of them, so that no batch size but 1 divides it
N, D = 131, 5
ACCUMULATORS = {
    "gaussian": lambda: GaussianMetric(D),
    "probabilities": lambda: InceptionScoreMetric(N, D, seed=3, splits=4),
}


def rows_of_features():
    """Some way from 0, so that merging means is work."""
    return features(2, N, D) + 20


def feed(accumulator, x, rows, size):
    """Batches of some rows, in the order given."""
    for some in rows.split(size):
        if isinstance(accumulator, GaussianMetric):
            accumulator.update(x[some])
        else:
            accumulator.update(x[some], some)
    return accumulator


def numbers(result):
    """One vector of everything that a result holds."""
    return torch.cat([torch.as_tensor(part, dtype=torch.float64).flatten().cpu() for part in result])


def truth(name):
    """Without an accumulator."""
    x = rows_of_features()
    if name == "gaussian":
        return numbers(Gaussian(N, x.double().mean(0), torch.cov(x.double().T)))
    return numbers(inception_score(x, seed=3, splits=4))


@pytest.mark.parametrize("name", ACCUMULATORS)
@pytest.mark.parametrize("size", [1, 10, N, 10**6])
@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_do_not_matter(name, size, shuffled):
    order = torch.randperm(N, generator=torch.Generator().manual_seed(size)) if shuffled else torch.arange(N)
    found = numbers(feed(ACCUMULATORS[name](), rows_of_features(), order, size).compute())
    torch.testing.assert_close(found, truth(name), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ACCUMULATORS)
def test_empty_batches_do_not_matter(name):
    accumulator, x = ACCUMULATORS[name](), rows_of_features()
    nothing = torch.zeros(0, dtype=torch.int64)
    for some in (nothing, torch.arange(50), nothing, torch.arange(50, N), nothing):
        feed(accumulator, x, some, N)
    torch.testing.assert_close(numbers(accumulator.compute()), truth(name), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ACCUMULATORS)
def test_asking_changes_nothing_and_reset_everything(name):
    accumulator, x = ACCUMULATORS[name](), rows_of_features()
    for _ in range(2):
        feed(accumulator, 3 * x, torch.arange(40), 10)
        accumulator.reset()
        feed(accumulator, x, torch.arange(N), 40)
        first, again = numbers(accumulator.compute()), numbers(accumulator.compute())
        assert torch.equal(first, again)
        torch.testing.assert_close(first, truth(name), rtol=1e-9, atol=0)
        accumulator.reset()


@pytest.mark.parametrize("name", ACCUMULATORS)
def test_a_result_is_not_the_state(name):
    """What has been handed out does not change with what comes after."""
    accumulator, x = ACCUMULATORS[name](), rows_of_features()
    result = feed(accumulator, x, torch.arange(N), 40).compute()
    before = numbers(result).clone()
    accumulator.reset()
    feed(accumulator, x + 1, torch.arange(N), 40)
    accumulator.compute()
    assert torch.equal(numbers(result), before)


@pytest.mark.parametrize("name", ACCUMULATORS)
def test_it_moves_and_is_copied_and_stays_in_its_precision(name):
    x, half = rows_of_features(), torch.arange(70)
    accumulator = feed(ACCUMULATORS[name]().to("cpu"), x, half, 30)
    assert accumulator.state_dict() == {}
    accumulator = accumulator.half().float().to("cpu").set_dtype(torch.float16)
    for other in (accumulator.clone(), pickle.loads(pickle.dumps(accumulator)), accumulator):
        found = numbers(feed(other, x, torch.arange(70, N), 30).compute())
        torch.testing.assert_close(found, truth(name), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ACCUMULATORS)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and DCGAN_EVAL_TEST_GPU=1")
def test_it_moves_to_a_gpu(name):
    x = rows_of_features().cuda()
    accumulator = feed(ACCUMULATORS[name]().to("cuda"), x, torch.arange(N).cuda(), 30)
    torch.testing.assert_close(numbers(accumulator.compute()), truth(name), rtol=1e-9, atol=0)


def shares(kind):
    """The rows of each of two ranks."""
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    cut = {"unequal": 90, "idle": N, "empty": N, "first idle": 0}[kind]
    return [order[:cut], order[cut:]]


def on_a_rank(name, kind, rank):
    """The accumulator's result there, with batches of other sizes on the other rank."""
    accumulator, x, own = ACCUMULATORS[name](), rows_of_features(), shares(kind)[rank]
    if kind.endswith("idle") and not len(own):
        return numbers(accumulator.compute())
    return numbers(feed(accumulator, x, own, (32, 7)[rank]).compute())


def asked_twice(name, rank):
    """Half of its rows, a result, and then the rest: what was gathered must not stay."""
    accumulator, x, own = ACCUMULATORS[name](), rows_of_features(), shares("unequal")[rank]
    feed(accumulator, x, own[:15], 4)
    if name != "probabilities":
        accumulator.compute()
    feed(accumulator, x, own[15:], 9)
    accumulator.compute()
    feed(accumulator, x, own[:0], 9)
    return numbers(accumulator.compute())


def reset_between(name, rank):
    accumulator, x, own = ACCUMULATORS[name](), rows_of_features(), shares("unequal")[rank]
    feed(accumulator, 2 * x, own, 50).compute()
    accumulator.reset()
    return numbers(feed(accumulator, x, own, 50).compute())


def of_its_own(rank):
    """A function of features, not of what other ranks pass to theirs."""
    x, y = rows_of_features()[shares("unequal")[rank]], features(6, 40, D)
    return torch.cat([numbers(fit(x)), torch.tensor([frechet_distance_of_features(x, y)], dtype=torch.float64)])


# an accumulator that breaks a collective ends the processes: that one comes last
JOBS: dict[str, Callable[[int], torch.Tensor]] = {
    **{f"{name}, {kind}": partial(on_a_rank, name, kind) for name in ACCUMULATORS for kind in ("unequal", "empty")},
    **{f"{name}, asked twice": partial(asked_twice, name) for name in ACCUMULATORS},
    **{f"{name}, reset": partial(reset_between, name) for name in ACCUMULATORS},
    "fit": of_its_own,
    **{f"{name}, {kind}": partial(on_a_rank, name, kind) for name in ACCUMULATORS for kind in ("first idle", "idle")},
}


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=30)
    )
    for number, job in enumerate(JOBS.values()):
        try:
            found: torch.Tensor | str = job(rank)
        except Exception as error:
            found = f"{type(error).__name__}: {str(error)[:300]}"
        torch.save(found, folder / f"{number}-{rank}")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes found: by job, a vector of each, or what went wrong."""
    folder = tmp_path_factory.mktemp("ranks")
    try:
        spawn(work, (folder,), nprocs=2)
        end = "none"
    except ProcessException as error:
        end = str(error)
    found = {}
    for number, name in enumerate(JOBS):
        files = [folder / f"{number}-{rank}" for rank in (0, 1)]
        found[name] = [torch.load(file) if file.is_file() else f"no result: {end}" for file in files]
    return found


@pytest.mark.parametrize("job", [name for name in JOBS if name != "fit"])
def test_two_ranks_find_what_one_does(job, ranks):
    wanted = truth(job.split(",")[0])
    for found in ranks[job]:
        assert isinstance(found, torch.Tensor), found
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


def test_functions_of_features_gather_nothing(ranks):
    """They may be called on one rank alone, or on each with features of its own."""
    for rank, found in enumerate(ranks["fit"]):
        assert isinstance(found, torch.Tensor), found
        torch.testing.assert_close(found, of_its_own(rank), rtol=1e-12, atol=0)
