"""Every option, declared once: its type, default, limits and help text.

The command line is made from these records (`dcgan_eval.cli.app.command`), and the Python functions take them; what a
record refuses, it refuses for both. Free of torch, since `--help` must not wait for it.

An `InputError` names an option in backticks, as Python calls it; the command line writes `prdc_k` as --prdc-k.
"""

import math
import numbers
import types
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

from typer import Option
from typer.models import OptionInfo

from dcgan_eval.runtime.errors import InputError, nearest

# choices

# kinds of features, and what each is
KINDS = {
    "disc:CHECKPOINT": "the outputs of all convolutional layers of a discriminator, each max-pooled to 4x4 as in "
    "the paper; CHECKPOINT@1x1 pools to 1x1, and CHECKPOINT@4x4mean takes the mean of each window",
    "inception": "Inception v3, as FID uses it",
    "random:PRESET": "a discriminator with random weights, of an architecture such as imagenet32 or svhn32",
    "kmeans:UNITS": "single-layer k-means with UNITS centroids",
    "torchvision:NAME": "a torchvision network such as resnet50",
    "timm:NAME": "a model of the package timm, by its own transform",
    "module:FILE": "an exported network of your own, TorchScript or torch.export",
    "pixels": "the pixels themselves",
}
FEATURES = ", ".join(f"{spec} ({what})" for spec, what in KINDS.items())
NO_ARGUMENT = {kind for kind in KINDS if ":" not in kind}
PRECISIONS = {"disc", "random", "inception"}  # whose convolutions may run in bfloat16
FITTED = {"random", "kmeans"}  # to the real images, as is a disc: whose BatchNorm is re-estimated

Precision = Literal["float32", "bfloat16"]  # of a network's convolutions
Resize = Literal["tf1", "clean"]  # of images, for Inception
Pooling = Literal["max", "mean"]  # of a discriminator's maps
Scaling = Literal["none", "standardised", "unit-norm"]  # of features, before they are classified
Classifier = Literal["svm", "logistic"]  # linear
ProbeName = Literal["svm", "logistic", "knn", "weighted-knn"]
KS: dict[str, tuple[int, ...]] = {"knn": (5,), "weighted-knn": (10, 20, 100, 200)}  # neighbours that vote; DINO's
BatchNormMode = Literal["stored", "batch", "reestimated"]  # whose statistics BatchNorm normalises by
BatchNormChoice = Literal["auto", "stored", "batch", "reestimated"]
MetricName = Literal["fid", "is", "kid", "prdc", "fid-infinity"]
DuplicateMethod = Literal["autoencoder", "paper", "exact", "phash"]
DirectionMethod = Literal["mean", "svm"]  # how a latent direction comes from two groups
Interpolation = Literal["straight", "spherical"]
# by what labels C is chosen, where they are drawn several times
ChoiceOfC = Literal["each-draw", "all-draws", "other-draws"]
CS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)  # of the authors' script
PAPER_TABLE2 = "paper-table2"
DRAWS_OF_TABLE2 = 100  # of labels
Network = Literal["generator", "discriminator"]
StoredPrecision = Literal["float32", "bfloat16", "float16"]  # of arrays in a file
Format = Literal["table", "json", "csv"]
ReportFormat = Literal["table", "md", "latex", "html", "csv", "json"]

# texts of which a comma may be a part: what separates two of them
FeatureSpec = NewType("FeatureSpec", str)
Equation = NewType("Equation", str)  # column=value
SEPARATORS: dict[Any, str] = {
    FeatureSpec: rf",(?=\s*(?:{'|'.join(kind.partition(':')[0] for kind in KINDS)})(?:[:,\s]|$))",
    Equation: r",(?=\s*\w+=)",
}

# what several records and commands share

Seed = Annotated[int, Option(min=0, max=2**32 - 1, help="Seed of everything that is random.")]
Download = Annotated[bool, Option("--download", help="Download missing datasets and weights.")]
BatchSize = Annotated[int, Option(min=1, help="Number of images per batch; results do not depend on it.")]
NumSamples = Annotated[int, Option(min=2, help="Number of samples to choose exemplars from.")]


@dataclass(frozen=True)
class Options:
    """Options that belong together. Raises InputError for a value that its type or its limits do not allow."""

    def __post_init__(self) -> None:
        record: Any = type(self)  # hashable, whatever mypy makes of dataclasses
        options = declaration(record)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) and options[field.name].kind is Path:
                value = Path(value)
                object.__setattr__(self, field.name, value)
            if value is not None:
                _check(field.name, value, options[field.name])


@dataclass(frozen=True)
class Declaration:
    """What an option's annotation says. choices: () for any value. many: whether it is a list of values."""

    kind: Any
    choices: tuple[str, ...]
    many: bool
    info: OptionInfo


@cache
def declaration(record: type[Any]) -> dict[str, Declaration]:
    """The options of a record by name, in order."""
    hints = get_type_hints(record, include_extras=True)
    return {field.name: declared(hints[field.name]) for field in fields(record)}


def declared(hint: Any) -> Declaration:
    """What `Annotated[kind, typer.Option(…)]` says, where the kind may be a tuple of any length, and may be None."""
    kind, info = get_args(hint)
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    many = get_origin(kind) is tuple
    if many:
        kind = get_args(kind)[0]
    return Declaration(kind, get_args(kind) if get_origin(kind) is Literal else (), many, info)


def _check(name: str, value: Any, declared: Declaration) -> None:
    if declared.many and not isinstance(value, tuple):
        raise InputError(f"`{name}` {value!r}: want a tuple")
    kind: Any = {float: numbers.Real, int: numbers.Integral}.get(declared.kind, declared.kind)
    for each in value if declared.many else (value,):
        # what is made by NewType is no class; its values are text
        if isinstance(kind, type) and (not isinstance(each, kind) or (isinstance(each, bool) and kind is not bool)):
            raise InputError(f"`{name}` {each!r}: want a value of type {declared.kind.__name__}")
        if declared.choices and each not in declared.choices:
            raise InputError(f"`{name}` {each!r}: unknown{nearest(str(each), declared.choices)}")
        low, high = declared.info.min, declared.info.max
        if (low is not None and each < low) or (high is not None and each > high):
            raise InputError(f"`{name}` {each}: want {low} or more" + (f", {high} or less" if high is not None else ""))


# records


@dataclass(frozen=True)
class DeviceOptions(Options):
    device: Annotated[str, Option(help="Device to compute on: auto, cpu, cuda or mps.")] = "auto"


@dataclass(frozen=True)
class ExtractionOptions(Options):
    batch_size: BatchSize = 256
    cache: Annotated[
        Path | None,
        Option(help="Directory to cache features in, for later runs and for resuming. [default: no cache]"),
    ] = None


@dataclass(frozen=True)
class DataOptions(Options):
    data_root: Annotated[Path, Option(help="Directory of the named datasets; --download stores them there.")] = Path(
        "data"
    )
    download: Download = False


@dataclass(frozen=True)
class OutputOptions(Options):
    format: Annotated[Format, Option(help="Output format.")] = "table"
    results: Annotated[Path | None, Option(help="CSV or Parquet file to append the results to.")] = None


@dataclass(frozen=True)
class FeatureOptions(Options):
    """What decides features besides their name."""

    batchnorm: Annotated[
        BatchNormChoice,
        Option(
            help="BatchNorm statistics of a disc: network: stored in its file, of each batch of 128 images, or "
            "reestimated from the training images of the command (REAL in fid); auto: stored where the file has any, "
            "else reestimated."
        ),
    ] = "auto"
    batchnorm_images: Annotated[
        int, Option(min=0, help="Number of training images that BatchNorm statistics are re-estimated from; 0: all.")
    ] = 12800  # 100 batches of 128
    precision: Annotated[Precision, Option(help="Floating-point type of the feature extractor's convolutions.")] = (
        "float32"
    )
    weights: Annotated[
        Path | None,
        Option(help="File of the weights of inception or timm:, in place of the published ones in their cache."),
    ] = None
    resize: Annotated[
        Resize,
        Option(
            help="Resizing for Inception: tf1 is TensorFlow 1's bilinear, clean is clean-fid's antialiased bicubic."
        ),
    ] = "tf1"
    seed: Seed = 0
    download: Download = False


@dataclass(frozen=True)
class ClassifyOptions(Options):
    protocol: Annotated[
        str,
        Option(
            help="Number of training labels: all; per-class:N for N randomly chosen training images per class (400 in "
            "Table 1); labels:N for N in total, equally many per class. paper-table2 is Table 2's protocol: 1000 "
            "labels, 100 draws, 10000 validation images, the authors' seven values of C, of which 10 other draws "
            "choose one, and BatchNorm statistics from all unlabelled training images."
        ),
    ] = "all"
    C: Annotated[
        tuple[float, ...] | None,
        Option(
            "--C",
            help="Values of C to try. [default: 1e-4, 2e-4, 5e-4 and so on, up and down until accuracy improves "
            "no further]",
        ),
    ] = None
    folds: Annotated[
        int,
        Option(
            min=2,
            help="Number of stratified cross-validation folds for choosing C, where there are no validation images.",
        ),
    ] = 5
    group_by: Annotated[
        str | None,
        Option(
            help="Name of the groups that folds keep whole, such as the photograph that several images were cut from: "
            "an array of the .npz (src for src_train beside x_train) or a column of labels.csv. [default: no groups]"
        ),
    ] = None
    draws: Annotated[int, Option(min=1, help="Number of random draws of the labels; not used with --protocol all.")] = (
        10
    )
    C_from: Annotated[
        ChoiceOfC,
        Option(
            "--C-from",
            help="Labels that C is chosen by: each-draw chooses its own, by no more labels than it has; all-draws "
            "chooses one C for all of them, by the labels of all; other-draws chooses one by 10 draws that are not "
            "tested, as Table 2 does.",
        ),
    ] = "each-draw"
    scaling: Annotated[
        Scaling,
        Option(
            help="Scaling of features before they are classified: none, as in the authors' code; standardised, each "
            "to mean 0 and standard deviation 1 over all training images; unit-norm, each image's to a Euclidean norm "
            "of 1."
        ),
    ] = "none"
    probe: Annotated[
        tuple[ProbeName, ...],
        Option(
            help="Classifiers: svm, the paper's L2-SVM; logistic, softmax regression; knn, a vote of the k nearest "
            "training images (Euclidean); weighted-knn, DINO's (cosine, temperature 0.07)."
        ),
    ] = ("svm",)
    k: Annotated[
        tuple[int, ...] | None,
        Option(
            "--k",
            min=1,
            help="Numbers of neighbours that vote. [default: 5 for knn; for weighted-knn 10,20,100,200, as far as "
            "there are labels]",
        ),
    ] = None
    per_layer: Annotated[
        bool, Option("--per-layer", help="Also report the accuracy of each layer's features alone.")
    ] = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.C is not None and not (self.C and all(0 < C < math.inf for C in self.C)):
            given = ",".join(f"{C:g}" for C in self.C)
            raise InputError(f"`C` {given!r}: want positive, finite numbers, as in 1e-4,1e-3")
        if not self.probe:
            raise InputError("`probe` '': want one or more of svm, logistic, knn, weighted-knn")
        if self.k is not None and not (self.k and set(self.probe) & set(KS)):
            given = ",".join(map(str, self.k))
            raise InputError(f"`k` {given!r}: applies to `probe` knn and weighted-knn")


def of_table2(
    classify: ClassifyOptions, features: FeatureOptions, specs: Sequence[str]
) -> tuple[ClassifyOptions, FeatureOptions]:
    """Table 2's protocol (section 5.2 of the paper, and its authors' svhn/svhn_semisup_analysis.py): 1,000 labels, 100
    draws, C by 10 others, and BatchNorm statistics from all unlabelled training images. 10,000 of them are to be set
    aside for validation besides.

    classify, features: what is asked besides, such as a seed. specs: the features that it is for.
    Raises InputError where an option that the protocol decides is not what it is by default.
    """
    decided = ("C", "draws", "C_from", "folds", "scaling")
    for given, names in ((classify, decided), (features, ("batchnorm", "batchnorm_images"))):
        for name in names:
            if getattr(given, name) != getattr(type(given), name):
                raise InputError(f"`{name}`: decided by the protocol {PAPER_TABLE2}; leave it out")
    kinds = {spec.partition(":")[0] for spec in specs}
    if kinds & {"disc", "random"}:
        features = replace(features, batchnorm_images=0)
    if "disc" in kinds:
        features = replace(features, batchnorm="reestimated")
    return replace(classify, protocol="labels:1000", C=CS, draws=DRAWS_OF_TABLE2, C_from="other-draws"), features


@dataclass(frozen=True)
class FidOptions(Options):
    metrics: Annotated[
        tuple[MetricName, ...],
        Option(
            help="Metrics: fid, is, kid, prdc (precision, recall, density, coverage), fid-infinity (FID of FAKE "
            "extrapolated to infinitely many images, from subsets of FAKE of at least 2.5 images per feature)."
        ),
    ] = ("fid",)
    kid_subsets: Annotated[int, Option(min=1, help="Number of KID subsets.")] = 100
    kid_subset_size: Annotated[
        int, Option(min=2, help="Number of images in each KID subset; neither set may have fewer.")
    ] = 1000
    is_splits: Annotated[int, Option(min=1, help="Number of splits for the Inception score.")] = 10
    prdc_k: Annotated[
        int, Option(min=1, help="Number of nearest neighbours k for precision, recall, density and coverage.")
    ] = 5
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            known = ", ".join(get_args(MetricName))
            raise InputError(f"`metrics` {','.join(self.metrics)!r}: name each once, of {known}")


@dataclass(frozen=True)
class DedupOptions(Options):
    method: Annotated[
        tuple[DuplicateMethod, ...],
        Option(
            help="Methods: autoencoder (similar codes), paper (equal codes, as in the paper), exact (equal pixels), "
            "phash (similar perceptual hashes). The output files use the first."
        ),
    ] = ("autoencoder", "exact")
    radius: Annotated[
        int | None,
        Option(
            min=0,
            help="Number of bits in which the codes of duplicates may differ. [default: 4, or 0 for paper, exact]",
        ),
    ] = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.method:
            raise InputError(f"`method` is empty: name one of {', '.join(get_args(DuplicateMethod))}")


@dataclass(frozen=True)
class WalkOptions(Options):
    num_points: Annotated[int, Option(min=2, help="Number of latent vectors z to interpolate between.")] = 9
    steps: Annotated[int, Option(min=2, help="Number of images from one z to the next, both ends included.")] = 8
    path: Annotated[Interpolation, Option(help="Interpolation shown in the figure; both are measured.")] = "straight"
    inversion_steps: Annotated[int, Option(min=1, help="Number of latent inversion steps.")] = 200
    pairs: Annotated[int, Option(min=2, help="Number of pairs of z to average over.")] = 16
    seed: Seed = 0


@dataclass(frozen=True)
class ArithmeticOptions(Options):
    num_samples: NumSamples = 256
    draws: Annotated[
        int, Option(min=1, help="Number of exemplar draws for each of 10 seeds of z, for terms that are names.")
    ] = 10
    seed: Seed = 0


@dataclass(frozen=True)
class TurnOptions(Options):
    method: Annotated[
        DirectionMethod, Option(help="Direction: the difference of the means of four samples, or a linear SVM in z.")
    ] = "mean"
    num_samples: NumSamples = 256
    starts: Annotated[int, Option(min=1, help="Number of further samples to move along the direction.")] = 8
    steps: Annotated[int, Option(min=3, help="Number of images from one end to the other.")] = 8
    seed: Seed = 0


@dataclass(frozen=True)
class FiltersOptions(Options):
    layer: Annotated[str | None, Option(help="Layer of the filters: conv1, conv2, …  [default: the last]")] = None
    filters: Annotated[tuple[int, ...], Option(min=0, help="Numbers of the filters to show.")] = (0, 1, 2, 3, 4, 5)
    seed: Seed = 0


@dataclass(frozen=True)
class ForgetOptions(Options):
    layer: Annotated[
        str | None, Option(help="Layer of the generator. [default: the last but one convolution, as in the paper]")
    ] = None
    num_samples: Annotated[int, Option(min=2, help="Number of samples to find the object's units with.")] = 256
    seed: Seed = 0
