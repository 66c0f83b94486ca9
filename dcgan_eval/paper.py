"""Numbers quoted from Radford, Metz and Chintala, arXiv 1511.06434v2: rows like any other, but for their source."""

from dcgan_eval.results import Row


def _quote(
    table: int,
    model: str,
    features: str,
    dimensions: int,
    protocol: str,
    value: float,
    spread: float | None = None,
    *,
    about: str = "",
) -> Row:
    """features, dimensions: the kind of ours that it corresponds to, as in `disc:…`, '' if none, and how many there
    are, 0 for any; of Table 3 'gen' or 'real', the images that are searched. about: what the table says besides."""
    data, metric, n = {
        1: ("CIFAR-10", "accuracy", 10_000),
        2: ("SVHN", "error", 26_032),
        3: ("MNIST", "error", 10_000),
    }[table]
    labels = {"all": 50_000, "per-class:400": 4_000, "labels:1000": 1_000}
    return Row(
        task="table3" if table == 3 else "classify",
        source=f"paper, Table {table}",
        data=data,
        data_sha256="",
        model=model,
        model_sha256=None,
        features=features,
        features_sha256="",
        features_protocol=about,
        dtype="",
        layer="all",
        dimensions=dimensions,
        protocol=protocol,
        method="",
        metric=metric,
        value=value,
        unit="%",
        spread=spread,
        spread_kind="not stated by the paper" if spread is not None else "",
        n=n,
        n_reference=labels[protocol] if protocol in labels else int(protocol.split()[2].replace(",", "")),
        C=None,
        gap=None,
        seed=0,
        seconds_features=0.0,
        seconds=0.0,
        device="",
        instruction_set="",
        versions="",
        command="",
        time="",
    )


def _table1(
    model: str, features: str, dimensions: int, units: int, accuracy: float, few: float, spread: float
) -> list[Row]:
    about = f"at most {units} feature units"
    return [
        _quote(1, model, features, dimensions, "all", accuracy, about=about),
        _quote(1, model, features, dimensions, "per-class:400", few, spread, about=about),
    ]


FEW, MANY = (f"nearest of {n} generated images" for n in ("50,000", "10,000,000"))
QUOTES = (
    *_table1("1 Layer K-means", "kmeans", 0, 4800, 80.6, 63.7, 0.7),
    *_table1("3 Layer K-means Learned RF", "", 0, 3200, 82.0, 70.7, 0.7),
    *_table1("View Invariant K-means", "", 0, 6400, 81.9, 72.6, 0.7),
    *_table1("Exemplar CNN", "", 0, 1024, 84.3, 77.4, 0.2),
    *_table1("DCGAN + L2-SVM", "disc", 28672, 512, 82.8, 73.8, 0.4),
    _quote(2, "KNN", "pixels", 3072, "labels:1000", 77.93),
    _quote(2, "TSVM", "", 0, "labels:1000", 66.55),
    _quote(2, "M1+KNN", "", 0, "labels:1000", 65.63),
    _quote(2, "M1+TSVM", "", 0, "labels:1000", 54.33),
    _quote(2, "M1+M2", "", 0, "labels:1000", 36.02),
    _quote(2, "SWWAE without dropout", "", 0, "labels:1000", 27.83),
    _quote(2, "SWWAE with dropout", "", 0, "labels:1000", 23.56),
    _quote(2, "DCGAN + L2-SVM", "disc", 7168, "labels:1000", 22.48),
    _quote(2, "Supervised CNN", "", 0, "labels:1000", 28.87, about="same architecture; on validation images"),
    _quote(3, "AlignMNIST", "", 784, MANY, 1.4),
    _quote(3, "InfiMNIST", "", 784, MANY, 2.6),
    _quote(3, "Real data", "real", 784, "nearest of 50,000 real images", 3.1),
    _quote(3, "GAN", "", 784, FEW, 6.28),
    _quote(3, "GAN", "", 784, MANY, 5.65),
    _quote(3, "DCGAN", "gen", 784, FEW, 2.98),
    _quote(3, "DCGAN", "gen", 784, MANY, 1.48),
)


def quoted(row: Row) -> Row | None:
    """The paper's number by the protocol of a measured one, of the same metric, if any.

    A lossy copy of a set is set beside the set itself, which the quote names.
    """
    kind = ("real" if row.model is None else "gen") if row.task == "table3" else row.features.partition(":")[0]
    data = row.data.partition(":")[0]
    for quote in QUOTES:
        # Table 3 comes from files as well, whose names are in small letters
        same_data = data in (
            quote.data,
            f"{quote.data}-JPEG",
            quote.data.lower() if row.task == "table3" else quote.data,
        )
        same_probe = row.task == "table3" or (quote.model == "KNN") == (row.C is None)
        same_size = quote.dimensions in (0, row.dimensions) and row.layer == "all"
        same = (row.task, row.metric, row.protocol, kind) == (quote.task, quote.metric, quote.protocol, quote.features)
        if same and same_data and same_probe and same_size:
            return quote
    return None


def cite(quote: Row) -> str:
    """As in '82.8 accuracy on CIFAR-10 (paper, Table 1, DCGAN + L2-SVM)'."""
    spread = f" ± {quote.spread:g}" if quote.spread is not None else ""
    return f"{quote.value:g}{spread} {quote.metric} on {quote.data} ({quote.source}, {quote.model})"
