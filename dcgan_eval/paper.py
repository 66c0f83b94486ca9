"""Numbers quoted from Radford, Metz and Chintala, arXiv 1511.06434v2: not measured here, not to be mixed with those."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quote:
    """One number of a table of the paper.

    features, dimensions: the kind of ours that it corresponds to, as in `disc:…`, and how many there are, 0 for any; of
    Table 3 'gen' or 'real', the images that are searched.
    """

    table: int
    model: str
    features: str
    dimensions: int
    data: str
    protocol: str
    metric: str
    value: float
    spread: float | None = None

    def __str__(self) -> str:
        spread = f" ± {self.spread:g}" if self.spread is not None else ""
        return f"{self.value:g}{spread} {self.metric} on {self.data} (paper, Table {self.table}, {self.model})"


QUOTES = (
    Quote(1, "1 Layer K-means", "kmeans", 0, "CIFAR-10", "all", "accuracy", 80.6),
    Quote(1, "1 Layer K-means", "kmeans", 0, "CIFAR-10", "per-class:400", "accuracy", 63.7, 0.7),
    Quote(1, "3 Layer K-means Learned RF", "", 0, "CIFAR-10", "all", "accuracy", 82.0),
    Quote(1, "3 Layer K-means Learned RF", "", 0, "CIFAR-10", "per-class:400", "accuracy", 70.7, 0.7),
    Quote(1, "View Invariant K-means", "", 0, "CIFAR-10", "all", "accuracy", 81.9),
    Quote(1, "View Invariant K-means", "", 0, "CIFAR-10", "per-class:400", "accuracy", 72.6, 0.7),
    Quote(1, "Exemplar CNN", "", 0, "CIFAR-10", "all", "accuracy", 84.3),
    Quote(1, "Exemplar CNN", "", 0, "CIFAR-10", "per-class:400", "accuracy", 77.4, 0.2),
    Quote(1, "DCGAN + L2-SVM", "disc", 28672, "CIFAR-10", "all", "accuracy", 82.8),
    Quote(1, "DCGAN + L2-SVM", "disc", 28672, "CIFAR-10", "per-class:400", "accuracy", 73.8, 0.4),
    Quote(2, "DCGAN + L2-SVM", "disc", 7168, "SVHN", "labels:1000", "error", 22.48),
    Quote(2, "KNN", "pixels", 3072, "SVHN", "labels:1000", "error", 77.93),
    Quote(3, "AlignMNIST", "", 784, "MNIST", "nearest of 10,000,000 generated images", "error", 1.4),
    Quote(3, "InfiMNIST", "", 784, "MNIST", "nearest of 10,000,000 generated images", "error", 2.6),
    Quote(3, "Real data", "real", 784, "MNIST", "nearest of 50,000 real images", "error", 3.1),
    Quote(3, "GAN", "", 784, "MNIST", "nearest of 50,000 generated images", "error", 6.28),
    Quote(3, "GAN", "", 784, "MNIST", "nearest of 10,000,000 generated images", "error", 5.65),
    Quote(3, "DCGAN", "gen", 784, "MNIST", "nearest of 50,000 generated images", "error", 2.98),
    Quote(3, "DCGAN", "gen", 784, "MNIST", "nearest of 10,000,000 generated images", "error", 1.48),
)


def quoted_in_table3(generated: bool, data: str, protocol: str) -> Quote | None:
    """The paper's error on data such as 'MNIST:test' by a protocol such as 'nearest of 50,000 real images', if any."""
    wanted = ("gen" if generated else "real", protocol, data.partition(":")[0].upper())
    return next((q for q in QUOTES if (q.features, q.protocol, q.data) == wanted), None)


def quoted(features: str, dimensions: int, data: str, protocol: str, probe: str) -> Quote | None:
    """The paper's number for features such as 'disc:svhn32', data such as 'CIFAR-10-JPEG' and a protocol, if any.

    A lossy copy of a set is set beside the set itself, which the quote names. probe: 'svm' or 'knn'.
    """
    kind = features.partition(":")[0]
    for quote in QUOTES:
        same_data = data in (quote.data, f"{quote.data}-JPEG")
        same_probe = (quote.model == "KNN") == (probe == "knn")
        same_size = quote.dimensions in (0, dimensions)
        if same_data and same_probe and same_size and (kind, protocol) == (quote.features, quote.protocol):
            return quote
    return None
