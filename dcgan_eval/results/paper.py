"""Numbers quoted from Radford, Metz and Chintala, arXiv 1511.06434v2: rows like any other, but for their source."""

import re
from dataclasses import dataclass
from typing import Any

from dcgan_eval.results import Measurement, Provenance, Row, stamp
from dcgan_eval.results.row import CBy

# methods of `classify` in which features are not scaled, as in the authors' code
UNSCALED = (
    "features unscaled", "Euclidean, features unscaled", "cosine, weights exp(cos / 0.07), features unscaled",
)  # fmt: skip


@dataclass(frozen=True)
class Quote:
    """A number of the paper.

    row: the number. Its `features` are the kind of our features that it corresponds to, as in `disc:…`, '' if none, or
    in Table 3 the images that are searched, 'gen' or 'real'; its `dimensions` are their number, 0 for any. What the
    paper does not say is ''. table: the paper's number of the table. units: the largest number of feature units, which
    Table 1 states. unlike: in what ours of that kind differ from it, whatever they are measured on.
    """

    row: Row
    table: int
    units: int | None = None
    unlike: str = ""


def _quote(
    table: int,
    model: str,
    features: str,
    dimensions: int,
    labels: str,
    n_reference: int,
    value: float,
    spread: float | None = None,
    *,
    units: int | None = None,
    unlike: str = "",
    remark: str = "",
    classifier: str = "",
    trained_on: str = "",
    batchnorm: str = "",
    C_by: CBy = "",
) -> Quote:
    data, metric, n = {
        1: ("CIFAR-10", "accuracy", 10_000),
        2: ("SVHN", "error", 26_032),
        3: ("MNIST", "error", 10_000),
    }[table]
    measurement = Measurement(
        task="table3" if table == 3 else "classify",
        metric=metric,
        value=value,
        unit="%",
        spread=spread,
        spread_kind="" if spread is None else "not stated",
        n=n,
        n_reference=n_reference,
        labels=labels,
        classifier=classifier,
        C_by=C_by,
        remark=remark,
    )
    provenance = Provenance(
        source=f"paper, Table {table}",
        data=data,
        model=model,
        features=features,
        dimensions=dimensions,
        batchnorm=batchnorm,
        trained_on=trained_on,
    )
    return Quote(stamp(measurement, provenance), table, units, unlike)


def _table1(
    model: str,
    features: str,
    dimensions: int,
    units: int,
    accuracy: float,
    few: float,
    spread: float,
    *,
    remark: str = "",
    **known: Any,
) -> list[Quote]:
    known["remark"] = "; ".join(part for part in (f"at most {units} feature units", remark) if part)
    return [
        _quote(1, model, features, dimensions, "all", 50_000, accuracy, units=units, **known),
        _quote(1, model, features, dimensions, "per-class:400", 4_000, few, spread, units=units, **known),
    ]


def _table2(model: str, features: str, dimensions: int, error: float, **known: Any) -> Quote:
    return _quote(2, model, features, dimensions, "labels:1000", 1000, error, **known)


def _table3(model: str, features: str, n_reference: int, error: float) -> Quote:
    unlike = "perhaps the training of the generator, of which a row of ours says nothing" if features == "gen" else ""
    return _quote(3, model, features, 784, "", n_reference, error, unlike=unlike)


COATES = (
    "of Coates and Ng 2011 at NIPS, whose features are not those of their AISTATS paper, which reports 79.6 at best"
)
QUOTES = (
    *_table1(
        "1 Layer K-means",
        "kmeans",
        4 * 4800,
        4800,
        80.6,
        63.7,
        0.7,
        remark=COATES,
        unlike="features (kmeans: is the AISTATS paper's)",
    ),
    *_table1("3 Layer K-means Learned RF", "", 0, 3200, 82.0, 70.7, 0.7),
    *_table1("View Invariant K-means", "", 0, 6400, 81.9, 72.6, 0.7),
    *_table1("Exemplar CNN", "", 0, 1024, 84.3, 77.4, 0.2),
    *_table1(
        "DCGAN + L2-SVM",
        "disc",
        28672,
        512,
        82.8,
        73.8,
        0.4,
        classifier="L2-SVM",
        trained_on="ImageNet",
    ),
    _table2("KNN", "pixels", 3072, 77.93, unlike="perhaps k, which the paper does not state"),
    _table2("TSVM", "", 0, 66.55),
    _table2("M1+KNN", "", 0, 65.63),
    _table2("M1+TSVM", "", 0, 54.33),
    _table2("M1+M2", "", 0, 36.02),
    _table2("SWWAE without dropout", "", 0, 27.83),
    _table2("SWWAE with dropout", "", 0, 23.56),
    _table2(
        "DCGAN + L2-SVM",
        "disc",
        7168,
        22.48,
        classifier="L2-SVM",
        trained_on="SVHN",
        batchnorm="reestimated",
        C_by="validation of other draws",
    ),
    _table2("Supervised CNN", "", 0, 28.87, remark="same architecture; on validation images"),
    _table3("AlignMNIST", "", 10_000_000, 1.4),
    _table3("InfiMNIST", "", 10_000_000, 2.6),
    _table3("Real data", "real", 50_000, 3.1),
    _table3("GAN", "", 50_000, 6.28),
    _table3("GAN", "", 10_000_000, 5.65),
    _table3("DCGAN", "gen", 50_000, 2.98),
    _table3("DCGAN", "gen", 10_000_000, 1.48),
)


def quoted(row: Row) -> Quote | None:
    """The paper's number of the same table, labels, metric and kind of model as a measured one, if any.

    In what they may still differ: `differs`.
    """
    kind = ("real" if row.model is None else "gen") if row.task == "table3" else row.features.partition(":")[0]
    data = row.data.partition(":")[0]
    is_knn = row.task == "classify" and row.C is None
    for quote in QUOTES:
        told = quote.row
        # Table 3 comes from files as well, whose names are in small letters
        names = (told.data, told.data.lower() if row.task == "table3" else told.data)
        ours = (row.task, row.metric, row.role, row.labels, kind, is_knn, row.layer)
        theirs = (told.task, told.metric, told.role, told.labels, told.features, told.model == "KNN", told.layer)
        same_size = told.dimensions in (0, row.dimensions)
        same_searched = row.task != "table3" or row.n_reference == told.n_reference
        if ours == theirs and data in names and same_size and same_searched:
            return quote
    return None


def differs(row: Row, quote: Quote) -> list[str]:
    """In what a measured number and the paper's differ, as far as the paper says: 'classifier 5-NN, not L2-SVM' and so
    on.

    Where there is none of these their difference is one of the models.
    """
    told = quote.row
    found = [quote.unlike] if quote.unlike else []
    seen = row.trained_on.partition(",")[0].partition(":")[0]
    if told.trained_on and seen.lower() != told.trained_on.lower():
        found.append(f"trained on {row.trained_on or 'unknown images'}, not {told.trained_on}")
    if pooled := re.search(r"@(\d+x\d+(mean)?)$", row.features):
        found.append(f"pooled to {pooled[1]}, not to 4x4 by the maximum")
    if row.classifier and row.method not in UNSCALED:
        found.append(row.method)
    for name, what in (("classifier", "classifier"), ("batchnorm", "BatchNorm"), ("C_by", "C by")):
        ours, theirs = getattr(row, name), getattr(told, name)
        if theirs and ours != theirs:
            found.append(f"{what} {ours or 'none'}, not {theirs}")
    if row.n != told.n:
        found.append(f"{row.n:,} test images, not {told.n:,}")
    if row.n_reference != told.n_reference:
        found.append(f"{row.n_reference:,} labels, not {told.n_reference:,}")
    return found
