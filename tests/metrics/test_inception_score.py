from functools import reduce

import numpy as np
import pytest
import torch
from torch_fidelity import metric_isc
from torchmetrics.image.inception import InceptionScore

from dcgan_eval.metrics.inception_score import Splits, Sums, inception_score


def classes(seed, n, c, scale=3.0):
    """Logits that are not normalised, float32, as a network's."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, c, generator=generator) + 5 * torch.randn(n, 1, generator=generator)


def definition(logits, order, splits):
    """Salimans et al. 2016: exp of the mean over images of KL(p(y|x) ‖ p(y)), split by split."""
    exps = np.exp(logits.double().numpy() - logits.double().numpy().max(1, keepdims=True))
    p = (exps / exps.sum(1, keepdims=True))[order]
    n, scores = len(p), []
    for i in range(splits):
        part = p[i * n // splits : (i + 1) * n // splits]
        marginal = part.mean(0)
        scores.append(np.exp(np.mean([(row * np.log(row / marginal)).sum() for row in part])))
    return np.mean(scores), np.sqrt(np.mean((np.array(scores) - np.mean(scores)) ** 2))


def accumulated(logits, *, seed, splits, size=7):
    """From batches that come in reverse."""
    drawn = Splits.drawn(len(logits), seed=seed, splits=splits)
    parts = [drawn.sums(logits[rows], rows) for rows in reversed(torch.arange(len(logits)).split(size))]
    return drawn.score(reduce(Sums.plus, parts), torch.ones(len(logits), dtype=torch.int64))


CALLS = {"at once": inception_score, "accumulated": accumulated}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("n", "c", "splits"), [(100, 10, 10), (103, 5, 10), (64, 300, 1), (12, 3, 12), (1, 4, 1)])
def test_it_is_the_definition(call, n, c, splits):
    logits = classes(1, n, c)
    mean, std = definition(logits, np.random.RandomState(5).permutation(n), splits)
    found = call(logits, seed=5, splits=splits)
    assert found.mean == pytest.approx(mean, rel=1e-10)
    assert found.std == pytest.approx(std, rel=1e-8, abs=1e-10)
    assert found.splits == splits


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("n", "splits", "seed"), [(500, 10, 2020), (503, 10, 0), (77, 3, 1), (9, 9, 4)])
def test_it_is_torch_fidelitys(call, n, splits, seed):
    logits = classes(2, n, 40)
    peer = metric_isc.isc_features_to_metric(logits, splits=splits, rng_seed=seed)
    found = call(logits, seed=seed, splits=splits)
    assert found.mean == pytest.approx(peer["inception_score_mean"], rel=1e-10)
    assert found.std == pytest.approx(peer["inception_score_std"], rel=1e-8, abs=1e-12)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save all", r"ignore:std\(\). degrees of freedom")
@pytest.mark.parametrize(("n", "splits"), [(200, 1), (200, 10), (90, 3)])
def test_it_is_torchmetrics(n, splits):
    """Whose shuffle is undone here, and whose spread divides by one less."""
    peer = InceptionScore(torch.nn.Identity(), splits=splits)
    logits = classes(3, n, 25).double()
    ours = torch.from_numpy(np.random.RandomState(6).permutation(n))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.randperm(n)
        shuffled = torch.empty_like(logits)
        shuffled[theirs] = logits[ours]
        torch.manual_seed(0)
        peer.update(shuffled)
        mean, std = peer.compute()
    found = inception_score(logits, seed=6, splits=splits)
    assert found.mean == pytest.approx(float(mean), rel=1e-10)
    if splits > 1:
        assert found.std == pytest.approx(float(std) * ((splits - 1) / splits) ** 0.5, rel=1e-9)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_known_scores(call):
    """As many as there are classes, if each image is sure and all classes are there; 1, if images do not differ."""
    sure = torch.eye(7).repeat(6, 1) * 1000
    assert call(sure, seed=0, splits=1).mean == pytest.approx(7, rel=1e-12)
    assert call(torch.zeros(20, 7), seed=0, splits=4)[:2] == pytest.approx((1, 0), abs=1e-12)
    assert call(classes(0, 1, 7).repeat(20, 1), seed=0, splits=4)[:2] == pytest.approx((1, 0), abs=1e-12)
    # two classes, with 3 : 1 and 1 : 3: the mean is even, and KL = ¾ log 3/2 + ¼ log 1/2
    logits = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log().repeat(5, 1)
    assert call(logits, seed=0, splits=1).mean == pytest.approx(1.5**0.75 * 0.5**0.25, rel=1e-7)
    assert call(torch.randn(9, 1), seed=0, splits=2)[:2] == (1, 0)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_it_lies_between_one_and_the_number_of_classes(call):
    for seed, scale in enumerate((1e-3, 1.0, 30.0, 1e4)):
        found = call(classes(seed, 60, 9, scale), seed=seed, splits=6)
        assert 1 - 1e-12 <= found.mean <= 9 * (1 + 1e-12)
        assert found.std >= 0


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_probabilities_that_underflow(call):
    """Logits 1e38 apart, where p log p is 0 · ∞ for who is not careful."""
    logits = torch.tensor([[1e38, 0.0, -1e38], [-1e38, 1e38, 0.0], [0.0, 0.0, -3e38]])
    # p: (1, 0, 0), (0, 1, 0), (½, ½, 0), so that the marginal is (½, ½, 0)
    assert call(logits, seed=0, splits=1).mean == pytest.approx(2 ** (2 / 3), rel=1e-12)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_seed_shuffles_and_nothing_else_does(call):
    logits = classes(4, 50, 6)
    state, before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    found = [call(logits, seed=seed, splits=5) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0].mean != found[2].mean
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index] # noqa: NPY002


@pytest.mark.parametrize(("n", "splits"), [(4, 5), (0, 1), (4, 0), (4, -1)])
def test_splits_that_cannot_be_made(n, splits):
    message = f"{splits} splits of {n} images: want 1 to {n}"
    with pytest.raises(ValueError, match=message):
        inception_score(torch.zeros(n, 3), seed=0, splits=splits)
    with pytest.raises(ValueError, match=message):
        Splits.drawn(n, seed=0, splits=splits)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite(call, value):
    logits = classes(5, 30, 4)
    logits[17, 2] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        call(logits, seed=0, splits=3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (list(range(9)), "1 never and 0 more than once"),
        ([*range(10), 3], "0 never and 1 more than once"),
        ([], "10 never and 0 more"),
        # as many as announced, but one twice and one not at all
        ([*range(9), 0], "1 never and 1 more than once"),
        ([0] * 10, "9 never and 1 more than once"),
    ],
    ids=["one missing", "one too many", "none", "one twice", "one ten times"],
)
@pytest.mark.parametrize("splits", [1, 5])
def test_images_that_did_not_come_once_each(rows, message, splits):
    drawn = Splits.drawn(10, seed=0, splits=splits)
    sums = drawn.sums(classes(6, 10, 4)[rows], torch.tensor(rows, dtype=torch.int64))
    with pytest.raises(ValueError, match=message):
        drawn.score(sums, torch.bincount(torch.tensor(rows, dtype=torch.int64), minlength=10))
