"""The paper's numbers, and what they may stand beside."""

from dataclasses import replace

import pytest

from dcgan_eval.report.words import cite
from dcgan_eval.results.paper import QUOTES, differs, quoted
from tests.builders import RESULT


@pytest.mark.parametrize(
    ("features", "data", "labels", "probe", "value"),
    [
        ("disc:netD", "CIFAR-10", "all", "svm", 82.8),
        ("disc:netD", "CIFAR-10", "per-class:400", "svm", 73.8),
        ("disc:authors-200", "SVHN", "labels:1000", "svm", 22.48),
        ("kmeans:4800", "CIFAR-10", "all", "svm", 80.6),
        ("kmeans:4800", "CIFAR-10", "per-class:400", "svm", 63.7),
        ("kmeans:1600", "CIFAR-10", "all", "svm", None),
        ("kmeans:10", "CIFAR-10", "per-class:400", "svm", None),
        ("pixels", "SVHN", "labels:1000", "knn", 77.93),
        ("disc:authors-200", "svhn-mini", "labels:1000", "svm", None),
        ("disc:authors-200", "svhn-mini", "all", "svm", None),
        ("disc:authors-200", "SVHN", "all", "svm", None),
        ("disc:authors-200", "SVHN", "labels:500", "svm", None),
        ("disc:netD", "CIFAR-10", "per-class:40", "svm", None),
        ("disc:netD", "CIFAR-100", "all", "svm", None),
        ("disc:netD", "CIFAR-10 + other", "all", "svm", None),
        ("disc:netD", "CIFAR-10", "all", "knn", None),
        ("random:imagenet32", "CIFAR-10", "all", "svm", None),
        ("pixels", "CIFAR-10", "all", "svm", None),
        ("pixels", "SVHN", "labels:1000", "svm", None),
        ("view-invariant:1600", "CIFAR-10", "all", "svm", None),
    ],
)
def test_a_number_is_quoted_only_where_the_protocol_matches(features, data, labels, probe, value):
    kind, _, argument = features.partition(":")
    dimensions = 3072 if kind == "pixels" else 28672 if data.startswith("CIFAR") else 7168
    if kind == "kmeans":
        dimensions = 4 * int(argument)
    metric = "error" if data.lower().startswith("svhn") else "accuracy"
    row = replace(RESULT, features=features, dimensions=dimensions, data=data, labels=labels, metric=metric,
                  C=None if probe == "knn" else 1e-3)  # fmt: skip
    quote = quoted(row)
    assert (quote.row.value if quote else None) == value
    assert quoted(replace(row, layer="conv1")) is None
    assert quoted(replace(row, metric="accuracy" if metric == "error" else "error")) is None
    if features.startswith("disc:"):
        assert quoted(replace(row, dimensions=dimensions + 1)) is None


def test_the_quotes_are_those_of_the_paper():
    """arXiv 1511.06434v2, Tables 1 and 2."""
    table1 = {(q.row.model, q.row.labels): (q.row.value, q.row.spread) for q in QUOTES if q.table == 1}
    assert table1 == {
        ("1 Layer K-means", "all"): (80.6, None),
        ("1 Layer K-means", "per-class:400"): (63.7, 0.7),
        ("3 Layer K-means Learned RF", "all"): (82.0, None),
        ("3 Layer K-means Learned RF", "per-class:400"): (70.7, 0.7),
        ("View Invariant K-means", "all"): (81.9, None),
        ("View Invariant K-means", "per-class:400"): (72.6, 0.7),
        ("Exemplar CNN", "all"): (84.3, None),
        ("Exemplar CNN", "per-class:400"): (77.4, 0.2),
        ("DCGAN + L2-SVM", "all"): (82.8, None),
        ("DCGAN + L2-SVM", "per-class:400"): (73.8, 0.4),
    }
    table2 = {q.row.model: q.row.value for q in QUOTES if q.table == 2}
    assert table2 == {
        "KNN": 77.93,
        "TSVM": 66.55,
        "M1+KNN": 65.63,
        "M1+TSVM": 54.33,
        "M1+M2": 36.02,
        "SWWAE without dropout": 27.83,
        "SWWAE with dropout": 23.56,
        "DCGAN + L2-SVM": 22.48,
        "Supervised CNN": 28.87,
    }
    of = {(q.row.source, q.row.data, q.row.metric, q.row.n) for q in QUOTES}
    assert of == {
        ("paper, Table 1", "CIFAR-10", "accuracy", 10_000),
        ("paper, Table 2", "SVHN", "error", 26_032),
        ("paper, Table 3", "MNIST", "error", 10_000),
    }


def test_a_quote_says_which_data_it_is_of():
    quote = quoted(replace(RESULT, data="CIFAR-10"))
    assert quote is not None
    assert cite(quote) == "82.8 accuracy on CIFAR-10 (paper, Table 1, DCGAN + L2-SVM)"


def authors(**changes):
    """The authors' network of Table 1 as it would be measured."""
    return replace(
        RESULT, features="disc:authors-30", data="CIFAR-10", dimensions=28672, n=10_000, n_reference=50_000,
        trained_on="ImageNet, without labels", C=1e-3, **changes,
    )  # fmt: skip


def test_only_numbers_of_one_protocol_have_a_difference():
    quote = quoted(authors())
    assert quote is not None
    assert differs(authors(), quote) == []
    for changes, said in (
        ({"trained_on": "tiny:train, without labels"}, "trained on tiny:train, without labels, not ImageNet"),
        ({"trained_on": ""}, "trained on unknown images, not ImageNet"),
        ({"classifier": "5-NN"}, "classifier 5-NN, not L2-SVM"),
        ({"features": "disc:authors-30@4x4mean"}, "pooled to 4x4mean, not to 4x4 by the maximum"),
        ({"method": "features standardised"}, "features standardised"),
        ({"n": 2000}, "2,000 test images, not 10,000"),
        ({"n_reference": 5000}, "5,000 labels, not 50,000"),
    ):
        assert differs(replace(authors(), **changes), quote) == [said]


def test_table_2_is_told_from_what_is_only_like_it():
    row = authors(
        features_sha256="", metric="error", labels="labels:1000", batchnorm="reestimated",
        C_by="validation of other draws",
    )  # fmt: skip
    row = replace(
        row, data="SVHN", dimensions=7168, n=26_032, n_reference=1000, trained_on="SVHN, without labels",
        features="disc:authors-200",
    )  # fmt: skip
    quote = quoted(row)
    assert quote is not None
    assert differs(row, quote) == []
    other = replace(row, C_by="folds", batchnorm="stored", trained_on="nothing")
    assert differs(other, quote) == [
        "trained on nothing, not SVHN", "BatchNorm stored, not reestimated",
        "C by folds, not validation of other draws",
    ]  # fmt: skip


def test_features_of_another_kind_than_the_papers_say_so():
    row = replace(authors(), features="kmeans:4800", dimensions=19_200, trained_on="CIFAR-10:train, without labels")
    quote = quoted(row)
    assert quote is not None
    assert differs(row, quote) == ["features (kmeans: is the AISTATS paper's)"]
    assert "79.6" in quote.row.remark
