import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedGroupKFold

from dcgan_eval.evaluations.labels import ALL, Groups, Protocol, draw_labels, stratified_folds
from dcgan_eval.runtime.errors import InputError
from tests.builders import blobs, sklearn_folds

TRAIN, TEST = blobs(150), blobs(200, seed=1)


# protocols


@pytest.mark.parametrize(
    ("text", "protocol"),
    [
        ("all", ALL),
        ("labels:1000", Protocol("labels", 1000)),
        ("per-class:400", Protocol("per-class", 400)),
        ("per-class:1", Protocol("per-class", 1)),
    ],
)
def test_protocols_are_parsed_and_printed(text, protocol):
    assert Protocol.parse(text) == protocol
    assert str(protocol) == text


@pytest.mark.parametrize(
    "text",
    ["", "al", "all:5", "labels", "labels:", "labels:0", "labels:-5", "labels:1.5", "labels:x", "labels:10:5",
     "per-class:²", "per-class: 4", "per_class:400", "perclass:400", "ALL"],
)  # fmt: skip
def test_other_protocols_are_refused(text):
    with pytest.raises(InputError, match=r"is not all, labels:N or per-class:N with N > 0"):
        Protocol.parse(text)


def test_a_mistyped_protocol_is_met_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'labels:1000'"):
        Protocol.parse("label:1000")
    with pytest.raises(InputError, match="did you mean 'per-class:400'"):
        Protocol.parse("perclass:400")


# folds and draws


def folds(y, k, seed):
    return stratified_folds(y, k, np.random.default_rng(seed))


@pytest.mark.parametrize("k", [2, 3, 5])
def test_folds_are_stratified(k):
    y = np.repeat([0, 1, 2, 3], [7, 23, 40, 11])
    np.random.default_rng(0).shuffle(y)
    fold = folds(y, k, 0)
    assert set(fold) == set(range(k))
    for label in range(4):
        counts = np.bincount(fold[y == label], minlength=k)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 1


def test_folds_follow_the_seed():
    y = TRAIN.y.numpy()
    assert (folds(y, 5, 0) == folds(y, 5, 0)).all()
    assert (folds(y, 5, 0) != folds(y, 5, 1)).any()


def test_small_classes_get_fewer_folds():
    assert set(folds(np.array([0] * 20 + [1] * 3), 5, 0)) == {0, 1, 2}
    with pytest.raises(InputError, match="a class has a single training image"):
        folds(np.array([0] * 20 + [1]), 5, 0)


def grouped(y, of, k, rng):
    return stratified_folds(y, k, rng, Groups("src", torch.as_tensor(of)))


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_grouped_folds_are_scikit_learns_and_split_no_group(k, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=150)
    of = 1000 - 7 * rng.integers(60, size=150)  # in any order, of any numbers
    fold = grouped(y, of, k, np.random.default_rng(seed))
    np.testing.assert_array_equal(fold, sklearn_folds(y, of, k, np.random.default_rng(seed)))
    assert set(fold) == set(range(k))
    assert all(len(set(fold[of == group])) == 1 for group in of)
    for label in range(4):  # as even as groups of a few images allow
        counts = np.bincount(fold[y == label], minlength=k)
        assert counts.max() < 2 * counts.min()
    np.testing.assert_array_equal(fold, grouped(y, of, k, np.random.default_rng(seed)))
    assert (fold != grouped(y, of, k, np.random.default_rng(seed + 2))).any()


@pytest.mark.parametrize(
    ("y", "of", "message"),
    [
        ([0, 1] * 10, [0, 1, 2] * 6 + [0, 1], r"`group_by` 'src': 20 training images are in 3 groups, too few for 5 "
         "folds; want `folds` 3 or fewer"),
        ([0, 1] * 10, [0, 5] * 5 + [i for j in range(5) for i in (0, 10 + j)],
         "`group_by` 'src': all 10 training images of class 0 that C is chosen by are in one group"),
        ([0] * 9 + [1], range(10), "a class has a single training image"),
    ],
)  # fmt: skip
def test_groups_that_cannot_be_folds_are_refused(y, of, message):
    with pytest.raises(InputError, match=message) as caught:
        grouped(np.array(y), np.array(of), 5, np.random.default_rng(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([0] * 5 + [1] * 5, "one of 2 folds has all training images of class 0"),
        ([1] * 10, "one of 2 folds has no image"),
    ],
)
def test_folds_that_are_none_are_refused(folds, message, monkeypatch):
    """The search for folds is greedy, and promises nothing."""
    held_out = [(None, np.flatnonzero(np.array(folds) == k)) for k in range(2)]
    monkeypatch.setattr(StratifiedGroupKFold, "split", lambda *_: held_out)
    with pytest.raises(InputError, match=message):
        grouped(np.repeat([0, 1], 5), np.arange(10), 2, np.random.default_rng(0))


def draws(y, text, repeats, seed):
    return draw_labels(y, Protocol.parse(text), repeats, np.random.default_rng(seed))


@pytest.mark.parametrize(("text", "each"), [("per-class:7", 7), ("labels:21", 7), ("labels:3", 1)])
def test_draws_are_balanced_and_without_replacement(text, each):
    y = TRAIN.y.numpy()
    drawn = draws(y, text, 6, 0)
    assert len(drawn) == 6
    for rows in drawn:
        assert rows.dtype == torch.int64
        assert len(set(rows.tolist())) == len(rows) == 3 * each
        assert (rows.diff() > 0).all()
        assert 0 <= rows.min() <= rows.max() < len(y)
        assert np.bincount(y[rows]).tolist() == [each] * 3
    assert len({tuple(rows.tolist()) for rows in drawn}) == 6
    assert all(torch.equal(a, b) for a, b in zip(drawn, draws(y, text, 6, 0), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn, draws(y, text, 6, 1), strict=True))


def test_every_image_can_be_drawn():
    y = TRAIN.y.numpy()
    assert len(set(torch.cat(draws(y, "per-class:20", 40, 0)).tolist())) == len(y)
    whole = draws(np.repeat([0, 1], 5), "per-class:5", 1, 0)[0]
    assert whole.tolist() == list(range(10))


def test_all_is_one_draw_of_everything():
    (rows,) = draws(TRAIN.y.numpy(), "all", 10, 0)
    assert rows.tolist() == list(range(150))
