import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional

from dcgan_eval.evaluations.knn_probe import knn_probe
from dcgan_eval.evaluations.labels import ALL, Protocol, Split, draw_labels
from dcgan_eval.results.paper import UNSCALED
from dcgan_eval.runtime.errors import InputError
from tests.builders import blobs

TRAIN, TEST = blobs(150), blobs(200, seed=1)


def draws(y, text, repeats, seed):
    return draw_labels(y, Protocol.parse(text), repeats, np.random.default_rng(seed))


@pytest.mark.parametrize("k", [1, 3, 5, 8])
@pytest.mark.parametrize("classes", [2, 4])
def test_knn_is_that_of_sklearn(k, classes):
    train, test = blobs(120, classes), blobs(150, classes, seed=1)
    model = KNeighborsClassifier(k, algorithm="brute").fit(train.X.numpy(), train.y.numpy())
    votes = model.predict_proba(test.X.numpy())
    untied = (votes == votes.max(1, keepdims=True)).sum(1) == 1
    some = Split(test.X[torch.from_numpy(untied)], test.y[torch.from_numpy(untied)])
    (found,) = knn_probe(train, some, ks=(k,))
    expected = model.predict(some.X.numpy()) == some.y.numpy()
    assert found.accuracy == pytest.approx(100 * expected.mean())
    assert (found.C, found.curve, found.n_train) == (None, (), 120)
    assert (found.classifier, found.method) == (f"{k}-NN", "Euclidean, features unscaled")


@pytest.mark.parametrize(
    ("labels", "winner"),
    [([1, 0], 1), ([0, 1], 0), ([1, 0, 0, 1], 1), ([2, 1, 1, 2, 0], 2), ([0, 2, 1], 0), ([2, 1, 1], 1),
     ([1, 0, 0, 0, 1, 1], 1), ([2, 1, 0, 0, 1], 1)],
)  # fmt: skip
def test_tied_votes_go_to_the_nearest_of_the_tied(labels, winner):
    """Training images on a line, the nearest first, and every class once more, far away."""
    y = torch.tensor([*labels, 0, 1, 2])
    train = Split(torch.tensor([[float(i)] for i in [*range(1, len(labels) + 1), 900, 900, 900]]), y)
    test = Split(torch.zeros(1, 1), torch.tensor([winner]))
    assert knn_probe(train, test, ks=(len(labels),))[0].accuracy == 100


def test_knn_takes_the_same_draws_as_the_svm():
    protocol = Protocol("per-class", 6)
    (found,) = knn_probe(TRAIN, TEST, ks=(1,), protocol=protocol, draws=3, seed=4)
    values = []
    for rows in draws(TRAIN.y.numpy(), str(protocol), 3, 4):
        model = KNeighborsClassifier(1).fit(TRAIN.X[rows].numpy(), TRAIN.y[rows].numpy())
        values.append(100 * (model.predict(TEST.X.numpy()) == TEST.y.numpy()).mean())
    assert found.accuracies == pytest.approx(values)
    assert found.spread.spread == pytest.approx(np.std(values, ddof=1))
    assert found.n_train == 18


@pytest.mark.parametrize(("k", "protocol", "most"), [(0, ALL, 150), (151, ALL, 150), (7, Protocol("labels", 6), 6)])
def test_k_must_fit(k, protocol, most):
    with pytest.raises(InputError, match=f"wants a k from 1 to {most}"):
        knn_probe(TRAIN, TEST, ks=(1, k), protocol=protocol)


def dinos(train, test, k):
    """eval_knn.py of facebookresearch/dino, its tensors' names: the predicted class of each test image."""
    similarity = functional.normalize(test.X.double()) @ functional.normalize(train.X.double()).T
    distances, indices = similarity.topk(k, largest=True, sorted=True)
    retrieved_neighbors = train.y[indices]
    retrieval_one_hot = functional.one_hot(retrieved_neighbors, int(train.y.max()) + 1).double()
    probs = (retrieval_one_hot * (distances / 0.07).exp()[:, :, None]).sum(1)
    return probs.sort(1, descending=True)[1][:, 0]


@pytest.mark.parametrize("scale", [1.0, 1e-3, 100.0])
def test_weighted_votes_are_dinos_for_every_k_of_one_search(scale):
    train, test = blobs(300, 4, noise=2.0, scale=scale), blobs(150, 4, seed=1, noise=2.0, scale=scale)
    ks = (1, 10, 20, 100, 200)
    found = knn_probe(train, test, ks=ks, weighted=True)
    for k, probe in zip(ks, found, strict=True):
        right = (dinos(train, test, k) == test.y).numpy()
        np.testing.assert_array_equal(probe.right[0], right)
        assert (probe.classifier, probe.C) == (f"weighted {k}-NN", None)
        assert probe.method == "cosine, weights exp(cos / 0.07), features unscaled"
        assert probe.method in UNSCALED  # tables do not repeat it
    assert len({probe.accuracy for probe in found}) > 3


def test_votes_of_several_k_are_those_of_each_alone():
    several = knn_probe(TRAIN, TEST, ks=(1, 7, 30))
    alone = [knn_probe(TRAIN, TEST, ks=(k,))[0] for k in (1, 7, 30)]
    assert [probe.accuracies for probe in several] == [probe.accuracies for probe in alone]


def test_labels_that_no_training_image_has_are_never_right():
    train = Split(TRAIN.X, 2 * TRAIN.y)  # 0, 2 and 4
    (found,), (wanted,) = knn_probe(train, Split(TEST.X, 2 * TEST.y)), knn_probe(TRAIN, TEST)
    np.testing.assert_array_equal(found.right, wanted.right)
    assert knn_probe(train, Split(TEST.X, torch.ones_like(TEST.y)))[0].accuracy == 0


def test_features_without_a_direction_are_refused():
    X = TEST.X.clone()
    X[3] = 0
    with pytest.raises(InputError, match="features of some image are all 0"):
        knn_probe(TRAIN, Split(X, TEST.y), weighted=True)
    assert knn_probe(TRAIN, Split(X, TEST.y))[0].accuracy > 50
