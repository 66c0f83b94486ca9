"""From what a user writes to sources of images and to extractors; what is wrong is found before images are read."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dcgan_eval import features
from dcgan_eval.checkpoint import Checkpoint, load
from dcgan_eval.errors import InputError, nearest
from dcgan_eval.features import Extractor
from dcgan_eval.images import Images, fitted, open_split
from dcgan_eval.networks import Architecture, preset
from dcgan_eval.options import FITTED, KINDS, NO_ARGUMENT, BatchNormChoice, Precision, Resize
from dcgan_eval.sampling import samples

if TYPE_CHECKING:
    from dcgan_eval.statistics import Statistics

BATCHNORM_IMAGES = 12800  # 100 batches of 128; of more images the statistics no longer change


@dataclass(frozen=True)
class FeatureOptions:
    """What decides features besides their name. grid: that a discriminator's maps are pooled to. logits: whether
    Inception's come along. weights, resize: Inception's. seed: of random weights, centroids, and which images BatchNorm
    statistics are taken from."""

    batchnorm: BatchNormChoice = "auto"
    precision: Precision = "float32"
    seed: int = 0
    download: bool = False
    grid: int = 4
    logits: bool = False
    weights: Path | None = None
    resize: Resize = "tf1"


def open_extractor(spec: str, options: FeatureOptions) -> Callable[[Images], Extractor]:
    """What makes the extractor of a spec from training images, which some need.

    spec: one of `KINDS`. Raises InputError for anything else, and for what is wrong but for the images.
    """
    o = options
    kind, colon, argument = spec.partition(":")
    kinds = [known.partition(":")[0] for known in KINDS]
    if kind not in kinds or (kind in NO_ARGUMENT) == bool(colon) or (kind not in NO_ARGUMENT and not argument):
        raise InputError(f"--features {spec!r} is not one of {', '.join(KINDS)}{nearest(kind, kinds)}")
    if kind == "pixels":
        return lambda train: features.pixel_features(train.shape)
    if kind == "inception":
        inception = features.inception_features(
            weights=o.weights, resize=o.resize, precision=o.precision, logits=o.logits, download=o.download
        )
        return lambda train: inception
    if kind == "module":
        return lambda train: features.module_features(Path(argument), train.shape)
    if kind == "kmeans":
        if not (argument.isascii() and argument.isdigit() and 0 < int(argument) < 10**6):
            raise InputError(
                f"--features {spec!r}: the number of centroids must be a positive integer, as in kmeans:1600"
            )
        return lambda train: features.kmeans_features(train, int(argument), seed=o.seed, progress=sys.stderr.isatty())
    if kind == "torchvision":
        backbone = features.torchvision_features(argument, seed=o.seed, download=o.download)
        return lambda train: backbone

    def sample(train: Images, a: Architecture) -> Images:
        # in random order, because files lie sorted by class and each batch of 128 must look like all
        some = torch.randperm(train.n, generator=torch.Generator().manual_seed(o.seed))[:BATCHNORM_IMAGES]
        return fitted(train.subset(some), (a.image_channels, a.image_size, a.image_size))[0]

    if kind == "random":
        untrained = preset(argument)
        return lambda train: features.random_features(
            argument, sample(train, untrained), seed=o.seed, grid=o.grid, precision=o.precision
        )
    checkpoint, name = open_discriminator(argument)
    discriminator = checkpoint.discriminator
    assert discriminator is not None
    mode = checkpoint.discriminator_batchnorm if o.batchnorm == "auto" else o.batchnorm
    return lambda train: features.discriminator_features(
        discriminator,
        name=name,
        grid=o.grid,
        batchnorm=mode,
        images=sample(train, checkpoint.architecture),
        precision=o.precision,
    )


def is_fitted(spec: str, options: FeatureOptions) -> bool:
    """Whether the extractor depends on the images that it is made from."""
    kind, _, argument = spec.partition(":")
    if kind != "disc":
        return kind in FITTED
    auto = options.batchnorm == "auto"
    return (load(argument).discriminator_batchnorm if auto else options.batchnorm) == "reestimated"


def open_side(
    spec: str,
    *,
    num: int,
    seed: int,
    root: Path = Path("data"),
    download: bool = False,
    device: torch.device | str = "cpu",
) -> "Images | Statistics":
    """One side of a comparison: a split of images, gen:CHECKPOINT (num samples by seed), or saved statistics.

    Raises InputError for anything else.
    """
    if spec.startswith("gen:"):
        argument = spec.removeprefix("gen:")
        if not argument:
            raise InputError(f"{spec!r}: name a checkpoint, as in gen:netG.safetensors")
        checkpoint, name = open_generator(argument)
        assert checkpoint.generator is not None
        return samples(checkpoint.generator, num, seed=seed, name=name, sha256=checkpoint.sha256, device=device)
    from dcgan_eval.statistics import is_statistics, load_statistics  # brings torchmetrics, slow to import

    if is_statistics(Path(spec)):
        return load_statistics(Path(spec))
    return open_split(spec, root=root, download=download)


def open_generator(argument: str) -> tuple[Checkpoint, str]:
    """A checkpoint and what reports call its generator. Raises InputError where it holds none."""
    checkpoint = load(argument)
    if checkpoint.generator is None:
        raise InputError(f"{argument}: holds a discriminator only; samples come from a generator")
    return checkpoint, f"gen:{_name(argument, checkpoint.format)}"


def open_discriminator(argument: str) -> tuple[Checkpoint, str]:
    """A checkpoint and what reports call its discriminator. Raises InputError where it holds none."""
    checkpoint = load(argument)
    if checkpoint.discriminator is None:
        raise InputError(f"{argument}: holds a generator only; features come from a discriminator")
    return checkpoint, f"disc:{_name(argument, checkpoint.format)}"


def _name(argument: str, format: str) -> str:
    """What reports call a checkpoint; never a path."""
    return f"authors-{Path(argument).name}" if format == "authors" else Path(argument).stem
