from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import LinearSVC

from dcgan_eval.evaluations.knn_probe import knn_probe
from dcgan_eval.evaluations.labels import ALL, Groups, Protocol, Split, draw_labels, stratified_folds
from dcgan_eval.evaluations.linear_probe import HIGHEST, LITTLE, LOWEST, OTHERS, _beyond, _decade, linear_probe
from dcgan_eval.features.scaling import feature_scaling
from dcgan_eval.linear import L2SVC
from dcgan_eval.options import CS
from dcgan_eval.results import Interval, Spread
from dcgan_eval.results.intervals import spread, wilson
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import ALONE
from tests.builders import blobs, sklearn_folds

TRAIN, TEST = blobs(150), blobs(200, seed=1)


def draws(y, text, repeats, seed):
    return draw_labels(y, Protocol.parse(text), repeats, np.random.default_rng(seed))


# the linear probe


def predictions(train, test, C):
    model = LinearSVC(C=C, dual=False, tol=1e-8, max_iter=100_000).fit(train.X.numpy(), train.y.numpy())
    return torch.from_numpy(model.predict(test.X.numpy()))


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize(("n", "d", "noise"), [(150, 6, 1), (60, 200, 6)])
def test_accuracy_is_that_of_linear_svc_at_the_chosen_c(classes, n, d, noise):
    train, test = blobs(n, classes, d, noise=noise), blobs(200, classes, d, seed=1, noise=noise)
    found = linear_probe(train, test)
    assert found.C is not None
    expected = 100 * float((predictions(train, test, found.C) == test.y).double().mean())
    assert found.accuracy == pytest.approx(expected, abs=1e-9)
    assert 120 / classes < found.accuracy < 100
    assert found.accuracies == (found.accuracy,)
    assert found.gap is not None
    assert found.gap is not None
    assert found.gap <= 1e-6
    assert found.n_train == n


@pytest.mark.parametrize("C", [1e-3, 1.0])
def test_predictions_are_those_of_linear_svc(C):
    """Each test image alone, so that errors which cancel cannot hide."""
    right = predictions(TRAIN, TEST, C) == TEST.y
    for i in range(40):
        one = Split(TEST.X[i : i + 1], TEST.y[i : i + 1])
        assert linear_probe(TRAIN, one, Cs=[C]).accuracy == 100 * float(right[i]), i


def test_every_point_of_the_curve_is_that_of_explicit_refits():
    found = linear_probe(TRAIN, TEST, Cs=[1e-3, 1e-2, 1], folds=4, seed=3)
    fold = stratified_folds(TRAIN.y.numpy(), 4, np.random.default_rng(3))
    X, y = TRAIN.X.numpy(), TRAIN.y.numpy()
    for C, score in found.curve:
        right = 0
        for k in range(4):
            model = L2SVC(C=C).fit(X[fold != k], y[fold != k])
            right += int((model.predict(X[fold == k]) == y[fold == k]).sum())
        assert score == pytest.approx(100 * right / len(y), abs=1e-9)
    assert [C for C, _ in found.curve] == [1e-3, 1e-2, 1]
    assert len({score for _, score in found.curve}) > 1


def test_the_smallest_of_the_best_c_is_chosen():
    found = linear_probe(TRAIN, TEST, Cs=[10, 1e-3, 1, 0.1, 1e-2, 1e-3])
    top = max(score for _, score in found.curve)
    assert min(C for C, score in found.curve if score == top) == found.C
    assert [C for C, _ in found.curve] == [1e-3, 1e-2, 0.1, 1, 10]
    # classes so far apart that every C is right
    easy = blobs(60, noise=0.01, scale=10)
    assert linear_probe(easy, easy, Cs=[0.1, 1, 10]).C == 0.1


@pytest.mark.parametrize("protocol", [ALL, Protocol("per-class", 12)])
def test_test_images_have_no_say_in_c(protocol):
    found = linear_probe(TRAIN, TEST, protocol=protocol, draws=3)
    wrong = Split(TEST.X * 3 + 1, (TEST.y + 1) % 3)
    other = linear_probe(TRAIN, wrong, protocol=protocol, draws=3)
    assert (other.C, other.curve) == (found.C, found.curve)
    assert other.accuracy != found.accuracy


def test_with_given_validation_images_test_has_no_say_either():
    valid = blobs(90, seed=2)
    found = linear_probe(TRAIN, TEST, valid=valid)
    other = linear_probe(TRAIN, Split(TEST.X, TEST.y.flip(0)), valid=valid)
    assert (other.C, other.curve) == (found.C, found.curve)
    for C, score in found.curve:
        assert score == pytest.approx(100 * float((predictions(TRAIN, valid, C) == valid.y).double().mean()), abs=1e-9)
    assert "by validation" in found.remark
    assert "by 5 stratified folds" in linear_probe(TRAIN, TEST).remark


def test_draws_are_fitted_one_by_one_with_one_c():
    protocol = Protocol("per-class", 10)
    found = linear_probe(TRAIN, TEST, protocol=protocol, draws=4, seed=5, Cs=[0.1])
    rng = np.random.default_rng(5)
    values = []
    for rows in draw_labels(TRAIN.y.numpy(), protocol, 4, rng):
        part = Split(TRAIN.X[rows], TRAIN.y[rows])
        values.append(100 * float((predictions(part, TEST, 0.1) == TEST.y).double().mean()))
    assert found.accuracies == pytest.approx(values, abs=1e-9)
    assert found.accuracy == pytest.approx(np.mean(values))
    assert found.spread.spread == pytest.approx(np.std(values, ddof=1))
    assert found.spread == spread(found.accuracies, "label draws")
    assert found.n_train == 30
    assert found.remark.startswith("4 balanced draws, ")


def test_scores_of_several_draws_are_averaged_over_all_of_them():
    """The folds of each draw follow its rows in the generator's stream; the chosen C serves all."""
    protocol, Cs = Protocol("per-class", 8), [1e-3, 0.1]
    found = linear_probe(TRAIN, TEST, protocol=protocol, draws=3, seed=2, Cs=Cs, folds=2, C_from="all-draws")
    rng = np.random.default_rng(2)
    rows = draw_labels(TRAIN.y.numpy(), protocol, 3, rng)
    right = dict.fromkeys(Cs, 0)
    for draw in rows:
        X, y = TRAIN.X[draw].numpy(), TRAIN.y[draw].numpy()
        fold = stratified_folds(y, 2, rng)
        for C in Cs:
            for k in range(2):
                model = L2SVC(C=C).fit(X[fold != k], y[fold != k])
                right[C] += int((model.predict(X[fold == k]) == y[fold == k]).sum())
    assert dict(found.curve) == pytest.approx({C: 100 * right[C] / (3 * 24) for C in Cs})
    assert max(Cs, key=lambda C: (right[C], -C)) == found.C
    assert (found.C_by, found.remark.endswith("2 stratified folds of all draws")) == ("folds of all draws", True)


def test_each_draw_chooses_its_own_c_by_its_own_labels():
    protocol, Cs = Protocol("per-class", 8), [1e-4, 1e-2, 1.0]
    found = linear_probe(TRAIN, TEST, protocol=protocol, draws=6, seed=2, Cs=Cs, folds=2)
    rng = np.random.default_rng(2)
    rows = draw_labels(TRAIN.y.numpy(), protocol, 6, rng)
    chosen = []
    for draw, right in zip(rows, found.right, strict=True):
        X, y = TRAIN.X[draw].numpy(), TRAIN.y[draw].numpy()
        fold = stratified_folds(y, 2, rng)
        scores = {
            C: sum(
                (L2SVC(C=C).fit(X[fold != k], y[fold != k]).predict(X[fold == k]) == y[fold == k]).sum() for k in (0, 1)
            )
            for C in Cs
        }
        chosen.append(max(Cs, key=lambda C: (scores[C], -C)))
        np.testing.assert_array_equal(L2SVC(C=chosen[-1]).fit(X, y).predict(TEST.X) == TEST.y.numpy(), right)
    assert len(set(chosen)) > 1  # or the case would say nothing
    assert min(set(chosen), key=lambda C: (-chosen.count(C), C)) == found.C
    assert found.C_by == "folds"
    assert f"C {min(chosen):g} to {max(chosen):g} of 0.0001 to 1 by 2 stratified folds of each draw" in found.remark


def test_the_folds_of_all_labels_are_grouped():
    of = torch.arange(150) // 4
    found = linear_probe(TRAIN, TEST, Cs=CS, groups=Groups("src", of), folds=3, seed=4)
    X, y = TRAIN.X.numpy(), TRAIN.y.numpy()
    fold = sklearn_folds(y, of.numpy(), 3, np.random.default_rng(4))
    for C, score in found.curve:
        right = sum(
            (L2SVC(C=C).fit(X[fold != k], y[fold != k]).predict(X[fold == k]) == y[fold == k]).sum() for k in range(3)
        )
        assert score == pytest.approx(100 * right / 150)
    assert found.C_by == "folds"
    assert found.remark.endswith("by 3 stratified folds grouped by src")


def test_the_folds_of_each_draw_are_grouped_and_draws_stay_as_they_are():
    protocol, Cs = Protocol("per-class", 16), [1e-4, 1e-2, 1.0]
    of = torch.arange(150) // 4
    found = linear_probe(TRAIN, TEST, protocol=protocol, draws=4, seed=2, Cs=Cs, folds=2, groups=Groups("src", of))
    rng = np.random.default_rng(2)
    rows = draw_labels(TRAIN.y.numpy(), protocol, 4, rng)
    right = dict.fromkeys(Cs, 0)
    for draw, outcome in zip(rows, found.right, strict=True):
        X, y = TRAIN.X[draw].numpy(), TRAIN.y[draw].numpy()
        fold = sklearn_folds(y, of[draw].numpy(), 2, rng)
        scores = {
            C: sum(
                (L2SVC(C=C).fit(X[fold != k], y[fold != k]).predict(X[fold == k]) == y[fold == k]).sum() for k in (0, 1)
            )
            for C in Cs
        }
        right = {C: right[C] + scores[C] for C in Cs}
        chosen = max(Cs, key=lambda C: (scores[C], -C))
        np.testing.assert_array_equal(L2SVC(C=chosen).fit(X, y).predict(TEST.X) == TEST.y.numpy(), outcome)
    assert dict(found.curve) == pytest.approx({C: 100 * right[C] / (4 * 48) for C in Cs})
    assert found.remark.endswith("by 2 stratified folds of each draw grouped by src")
    other = linear_probe(
        TRAIN, TEST, protocol=protocol, draws=2, seed=2, Cs=Cs, folds=2, groups=Groups("src", of), C_from="other-draws"
    )
    assert other.remark.endswith("by 2 stratified folds of 10 other draws grouped by src")


def test_copies_of_one_image_inflate_the_accuracy_on_folds_unless_they_are_grouped():
    """Each image four times with a little noise: single folds test on copies of training images."""
    few, generator = blobs(40, d=60, noise=4, seed=3), torch.Generator().manual_seed(0)
    X = few.X.repeat_interleave(4, 0)
    copies = Split(X + 0.05 * torch.randn(X.shape, generator=generator), few.y.repeat_interleave(4))
    test = blobs(400, d=60, noise=4, seed=4)
    whole = Groups("image", torch.arange(40).repeat_interleave(4))
    single, kept = (dict(linear_probe(copies, test, Cs=[0.1, 0.2], groups=g).curve) for g in (None, whole))
    accuracy = linear_probe(copies, test, Cs=[0.1]).accuracy
    assert single[0.1] > 95
    assert abs(kept[0.1] - accuracy) < 15
    assert kept[0.1] < single[0.1] - 20


def test_other_draws_choose_one_c_for_draws_that_they_are_not_of():
    protocol, Cs = Protocol("per-class", 8), [1e-4, 1e-2, 1.0]
    valid = blobs(80, seed=2)
    found = linear_probe(TRAIN, TEST, protocol=protocol, valid=valid, draws=4, seed=2, Cs=Cs, C_from="other-draws")
    rng = np.random.default_rng(2)
    tested, others = (draw_labels(TRAIN.y.numpy(), protocol, n, rng) for n in (4, OTHERS))

    def right(draw, C, judged):
        model = L2SVC(C=C).fit(TRAIN.X[draw], TRAIN.y[draw].numpy())
        return model.predict(judged.X) == judged.y.numpy()

    scores = {C: sum(right(draw, C, valid).sum() for draw in others) for C in Cs}
    assert max(Cs, key=lambda C: (scores[C], -C)) == found.C
    np.testing.assert_array_equal(found.right, [right(draw, found.C, TEST) for draw in tested])
    assert dict(found.curve) == pytest.approx({C: 100 * scores[C] / 800 for C in Cs})
    assert found.C_by == "validation of other draws"
    assert found.remark.endswith("by validation of 10 other draws")


def test_equal_seeds_give_equal_numbers_and_others_do_not():
    protocol = Protocol("labels", 30)
    a, b, c = (replace(linear_probe(TRAIN, TEST, protocol=protocol, draws=3, seed=s), seconds=0) for s in (0, 0, 1))
    assert a == b
    assert a.accuracies != c.accuracies
    assert len(set(a.accuracies)) > 1


def test_a_given_c_is_used_as_it_is():
    found = linear_probe(TRAIN, TEST, Cs=[0.03])
    assert (found.C, found.curve) == (0.03, ())
    assert found.remark == "C 0.03 given"
    # one image of a class cannot be held out, and need not be
    lonely = Split(TRAIN.X[:30], torch.tensor([0] * 29 + [1]))
    test = Split(TEST.X, TEST.y.clamp(max=1))
    assert linear_probe(lonely, test, Cs=[0.03]).C == 0.03
    assert linear_probe(lonely, test, valid=test).C is not None
    with pytest.raises(InputError, match="a class has a single training image"):
        linear_probe(lonely, test)


def test_a_class_without_training_images_is_never_predicted():
    keep = TRAIN.y != 1
    train = Split(TRAIN.X[keep], TRAIN.y[keep])
    found = linear_probe(train, TEST, Cs=[0.1])
    assert found.accuracy == pytest.approx(100 * float((predictions(train, TEST, 0.1) == TEST.y).double().mean()))


def test_random_labels_are_at_chance():
    y = torch.randint(4, (400,), generator=torch.Generator().manual_seed(0))
    X = torch.randn(400, 5, generator=torch.Generator().manual_seed(1))
    found = linear_probe(Split(X[:200], y[:200]), Split(X[200:], y[200:]), Cs=[1e-3, 1e-2])
    assert abs(found.accuracy - 25) < 10


# softmax regression


@pytest.mark.parametrize(("classes", "n", "d"), [(2, 150, 6), (4, 200, 6), (3, 60, 90)])
def test_accuracy_is_that_of_logistic_regression_at_the_chosen_c(classes, n, d):
    train, test = blobs(n, classes, d, noise=2.0), blobs(200, classes, d, seed=1, noise=2.0)
    found = linear_probe(train, test, kind="logistic")
    model = LogisticRegression(C=found.C, tol=1e-10, max_iter=10_000).fit(train.X.double().numpy(), train.y.numpy())
    np.testing.assert_array_equal(found.right[0], model.predict(test.X.double().numpy()) == test.y.numpy())
    assert found.classifier == "logistic regression"
    assert found.gap is not None
    assert found.gap <= 1e-6
    assert found.curve != linear_probe(train, test).curve


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_the_search_goes_down_without_turning_back(kind):
    """Features so large that the smallest C of all are the best: what the smallest has learnt decides nothing."""
    train, test = blobs(100, d=40, noise=3, scale=300), blobs(100, d=40, seed=1, noise=3, scale=300)
    found = linear_probe(train, test, kind=kind)
    Cs = [C for C, _ in found.curve]
    assert found.C is not None
    assert found.C < 1e-4
    assert Cs[-1] == 5e-4


def test_the_search_for_c_begins_where_logistic_regression_learns_nothing():
    """At the smallest C it names the largest class of each fold, and which C is best is chance."""
    train, test = blobs(150, 3, scale=0.02), blobs(200, 3, seed=1, scale=0.02)
    found = linear_probe(train, test, kind="logistic")
    scores = dict(found.curve)
    assert max(scores[C] for C in CS[:3]) < 50
    assert found.C is not None
    assert found.C > 0.1
    assert found.accuracy > 75


def test_folds_of_logistic_regression_are_explicit_refits():
    X, y = TRAIN.X.double().numpy(), TRAIN.y.numpy()
    found = linear_probe(TRAIN, TEST, kind="logistic", Cs=(1e-2, 1.0), folds=4, seed=3)
    fold = stratified_folds(y, 4, np.random.default_rng(3))
    for C, score in found.curve:
        right = 0
        for k in range(4):
            model = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(X[fold != k], y[fold != k])
            right += (model.predict(X[fold == k]) == y[fold == k]).sum()
        assert score == pytest.approx(100 * right / len(y))


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_labels_need_not_be_counted_from_0_without_gaps(kind):
    spread_out = [Split(split.X, 3 * split.y + 1) for split in (TRAIN, TEST, blobs(90, seed=2))]
    found = linear_probe(spread_out[0], spread_out[1], kind=kind, valid=spread_out[2])
    wanted = linear_probe(TRAIN, TEST, kind=kind, valid=blobs(90, seed=2))
    np.testing.assert_array_equal(found.right, wanted.right)
    assert found.curve == wanted.curve
    gone = Split(TEST.X, torch.full_like(TEST.y, 2))
    assert linear_probe(spread_out[0], gone, kind=kind, Cs=(0.1,)).accuracy == 0


# the grid of C


@pytest.mark.parametrize(
    ("C", "steps", "expected"),
    [(1e-2, 1, 2e-2), (1e-2, 2, 5e-2), (1e-2, 3, 0.1), (1e-4, -1, 5e-5), (1e-4, -2, 2e-5), (1e-4, -3, 1e-5),
     (2, 1, 5), (5, 1, 10), (5, -2, 1), (1e-8, 0, 1e-8), (5e3, 1, 1e4), (20, -1, 10), (0.1, 4, 2)],
)  # fmt: skip
def test_decade(C, steps, expected):
    assert _decade(C, steps) == expected


def scores(Cs, best):
    """As if each C had been tried on one draw."""
    return {C: [80.0 if best == C else 70.0] for C in Cs}


def test_the_grid_is_the_authors_and_goes_on_as_1_2_5():
    assert CS == (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
    grid = sorted(CS[:3])
    while more := _beyond(grid, scores(grid, grid[-1]), TRAIN.y, 0.5):
        grid += more
    while more := _beyond(grid, scores(grid, grid[0]), TRAIN.y, 0.5):
        grid = more + grid
    assert grid == [float(f"{digit}e{e}") for e in range(-8, 4) for digit in (1, 2, 5)] + [1e4]
    assert (grid[0], grid[-1]) == (LOWEST, HIGHEST)
    assert _beyond(CS, scores(CS, 2e-3), TRAIN.y, 0.5) == []
    assert _beyond(CS, scores(CS, 5e-3), TRAIN.y, 0.5) == [2e-2]


def test_where_nothing_is_learnt_larger_c_are_next():
    down, up = [5e-5], [2e-2]
    even, most = (torch.arange(100) % 2, (torch.arange(100) > 9).long())
    for score, judged, expected in ((50, even, up), (90, even, down), (90, most, up), (100, even, down)):
        assert _beyond(CS, {C: [float(score)] for C in CS}, judged, 0.5) == expected
    # a little worse with a larger C is still no reason to look for a smaller one
    assert _beyond(CS, {C: [50.0 if C < 5e-3 else 49.0] for C in CS}, even, 0.5) == up
    # scores that differ tell where to look, however low they are
    assert _beyond(CS, {C: [50 - C] for C in CS}, even, 0.5) == down
    # but not where weights hardly lower the objective: whatever the score, and whichever is the best
    for best in CS:
        assert _beyond(CS, scores(CS, best), even, LITTLE / 2) == up
    assert _beyond(CS, {C: [100.0] for C in CS}, even, LITTLE) == down
    ends = (1e-4, 1e-2, HIGHEST)
    assert _beyond(ends, {C: [50.0] for C in ends}, even, 0.5) == []
    assert _beyond(ends, {C: [90.0] for C in ends}, even, LITTLE / 2) == []


@pytest.mark.parametrize("scale", [0.01, 100])
def test_the_grid_is_widened_until_the_best_is_inside(scale):
    """Features s times smaller want a C s² times larger."""
    train, test = (blobs(100, d=40, seed=s, noise=3, scale=scale) for s in (0, 1))
    found = linear_probe(train, test)
    Cs = [C for C, _ in found.curve]
    assert set(CS[:3]) <= set(Cs)
    assert all(a < b for a, b in pairwise(Cs))
    assert found.C is not None
    assert Cs[0] < found.C < Cs[-1] or found.C in (LOWEST, HIGHEST)
    assert (CS[-1] < found.C) == (scale < 1)
    assert (CS[0] > found.C) == (scale > 1)
    assert f"C {found.C:g} of {Cs[0]:g} to {Cs[-1]:g}" in found.remark
    # what is said of the C found after widening is what it gives
    expected = 100 * float((predictions(train, test, found.C) == test.y).double().mean())
    assert found.accuracy == pytest.approx(expected, abs=0.7)


@pytest.mark.parametrize("protocol", [ALL, Protocol("per-class", 30)])
def test_features_so_small_that_no_c_of_the_authors_learns_are_classified_all_the_same(protocol):
    train, test = blobs(150, scale=1e-3), blobs(200, seed=1, scale=1e-3)
    found = linear_probe(train, test, protocol=protocol, draws=1)
    assert found.accuracy == pytest.approx(linear_probe(TRAIN, TEST, protocol=protocol, draws=1).accuracy, abs=3)
    valid = blobs(80, seed=2, scale=1e-3)
    assert linear_probe(train, test, valid=valid).accuracy == pytest.approx(found.accuracy, abs=4)


def test_the_grid_ends_at_its_bounds():
    # nothing can be learnt, however large C is
    blank = Split(torch.ones(60, 2), torch.arange(60) % 3)
    found = linear_probe(blank, blank)
    assert [C for C, _ in found.curve][-1] == HIGHEST
    assert found.accuracy == pytest.approx(100 / 3)
    # classes so far apart that the smallest C will do
    easy = blobs(60, noise=0.01, scale=1e6)
    found = linear_probe(easy, easy)
    assert found.C == found.curve[0][0] == LOWEST
    assert found.accuracy == 100


def test_given_values_are_never_widened():
    found = linear_probe(blobs(150, scale=1e-3), TEST, Cs=[1e-4, 1e-3])
    assert [C for C, _ in found.curve] == [1e-4, 1e-3]


def test_all_draws_are_scored_on_the_widened_grid():
    found = linear_probe(
        blobs(150, scale=0.01), blobs(50, seed=1, scale=0.01), protocol=Protocol("per-class", 15), draws=3
    )
    assert len(found.curve) > len(CS)
    assert len(found.accuracies) == 3


# intervals


def test_one_draw_has_the_interval_of_one_fit():
    found = linear_probe(TRAIN, TEST, protocol=Protocol("per-class", 10), draws=1, Cs=[0.1])
    assert found.interval == wilson(found.accuracy / 100, 200, "test images")
    assert (found.spread, found.of_draws) == (Spread(), Interval())


def test_outcomes_are_those_of_the_model():
    found = linear_probe(TRAIN, TEST, Cs=[0.1])
    model = L2SVC(0.1).fit(TRAIN.X, TRAIN.y.numpy())
    np.testing.assert_array_equal(found.right[0], model.predict(TEST.X) == TEST.y.numpy())
    assert found.right.shape == (1, 200)


@pytest.mark.parametrize("block", [2**22, 7])
def test_scaling_is_that_of_sklearn(monkeypatch, block):
    monkeypatch.setattr("dcgan_eval.features.scaling.BLOCK", block)
    train, test = blobs(150, scale=30), blobs(200, seed=1)
    for split in (train, test):
        split.X[:, 2], split.X[:, 4] = 0.1, 0  # constant features
    test.X[3] = 0
    by_sklearn = StandardScaler().fit(train.X.double().numpy())
    scale = feature_scaling("standardised", train.X, ALONE)
    for split in (train, test):
        np.testing.assert_allclose(scale(split.X), by_sklearn.transform(split.X.double().numpy()), rtol=1e-6, atol=1e-6)
    scale = feature_scaling("unit-norm", train.X, ALONE)
    for split in (train, test):
        np.testing.assert_allclose(scale(split.X), normalize(split.X.double().numpy()), rtol=1e-6, atol=1e-7)
        assert scale(split.X).dtype == torch.float32
    assert feature_scaling("none", train.X, ALONE)(test.X) is test.X


@pytest.mark.parametrize("scaling", ["standardised", "unit-norm"])
def test_a_probe_of_scaled_features_is_one_of_features_scaled_before(scaling):
    train, test, valid = blobs(150, scale=30), blobs(200, seed=1, scale=30), blobs(90, seed=2, scale=30)
    few = Protocol("per-class", 20)
    before = [Split(feature_scaling(scaling, train.X, ALONE)(split.X), split.y) for split in (train, test, valid)]
    found = linear_probe(train, test, valid=valid, protocol=few, scaling=scaling)
    wanted = linear_probe(before[0], before[1], valid=before[2], protocol=few)
    assert (found.curve, found.accuracies) == (wanted.curve, wanted.accuracies)
    assert found.method == {"standardised": "features standardised", "unit-norm": "features of unit norm"}[scaling]
    (near,) = knn_probe(train, test, scaling=scaling)
    assert near.accuracies == knn_probe(*before[:2])[0].accuracies
    assert near.method == f"Euclidean, {found.method}"


# bad input


def nan(split, value=float("nan"), row=-1):
    X = split.X.clone()
    X[row, 2] = value
    return Split(X, split.y)


EMPTY = Split(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))
ONE_CLASS = Split(TRAIN.X, torch.zeros_like(TRAIN.y))
BIG = Split(torch.zeros(3000, 6), torch.arange(3000) % 3)


@pytest.mark.parametrize(
    ("train", "test", "options", "message"),
    [
        (TRAIN, TEST, {"Cs": [0.0]}, r"C must be positive and finite, got 0$"),
        (TRAIN, TEST, {"Cs": [1.0, -1.0]}, r"C must be positive and finite, got 1, -1$"),
        (TRAIN, TEST, {"Cs": [float("nan")]}, "C must be positive and finite, got nan"),
        (TRAIN, TEST, {"Cs": [float("inf")]}, "C must be positive and finite, got inf"),
        (TRAIN, TEST, {"Cs": []}, "C must be positive and finite, got none"),
        (ONE_CLASS, TEST, {}, "at least two classes, but the training labels hold 1"),
        (EMPTY, TEST, {}, "at least two classes, but the training labels hold 0"),
        (TRAIN, EMPTY, {}, r"test features are \(0, 6\) for 0 labels"),
        (TRAIN, TEST, {"valid": EMPTY}, r"validation features are \(0, 6\) for 0 labels"),
        (TRAIN, Split(TEST.X[:, :5], TEST.y), {}, r"test features are \(200, 5\) for 200 labels"),
        (TRAIN, Split(TEST.X[:9], TEST.y), {}, r"test features are \(9, 6\) for 200 labels"),
        (Split(TRAIN.X, TRAIN.y[:9]), TEST, {}, r"training features are \(150, 6\) for 9 labels"),
        (nan(TRAIN), TEST, {}, "training features hold NaN or infinite values"),
        (nan(BIG, row=1500), TEST, {}, "training features hold NaN or infinite values"),
        (TRAIN, nan(TEST), {}, "test features hold NaN or infinite values"),
        (TRAIN, nan(TEST, float("inf")), {}, "test features hold NaN or infinite values"),
        (TRAIN, TEST, {"valid": nan(TEST)}, "validation features hold NaN or infinite values"),
        (TRAIN, Split(TEST.X, TEST.y + 1), {}, "test labels run from 1 to 3, but .* from 0 to 2"),
        (TRAIN, Split(TEST.X, TEST.y - 1), {}, "test labels run from -1 to 1, but .* from 0 to 2"),
        (TRAIN, TEST, {"valid": Split(TEST.X, TEST.y * 2)}, "validation labels run from 0 to 4"),
        (Split(TRAIN.X, TRAIN.y - 1), TEST, {}, "training labels run from -1 to 1"),
        (TRAIN, TEST, {"protocol": Protocol("labels", 100)}, "labels:100: not a multiple of the 3 classes"),
        (TRAIN, TEST, {"protocol": Protocol("labels", 2)}, "labels:2: not a multiple of the 3 classes"),
        (TRAIN, TEST, {"protocol": Protocol("per-class", 100)}, "class . has only .. training images, .* takes 100"),
        (TRAIN, TEST, {"protocol": Protocol("per-class", 1), "draws": 0}, "draws must be at least 1, got 0"),
    ],
)
def test_bad_input_is_one_clear_line(train, test, options, message):
    with pytest.raises(InputError, match=message) as caught:
        linear_probe(train, test, **options)
    assert "\n" not in str(caught.value)
    if options.keys() <= {"protocol", "draws"}:
        with pytest.raises(InputError, match=message):
            knn_probe(train, test, **options)
