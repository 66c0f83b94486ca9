"""From what a user writes to sources of images and to extractors; what is wrong is found before images are read."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from dcgan_eval import features
from dcgan_eval.features import Extractor
from dcgan_eval.features.moments import Statistics, is_statistics, load_statistics
from dcgan_eval.images import Images, fitted, only_split, open_images, open_split
from dcgan_eval.models.architecture import Architecture, preset
from dcgan_eval.models.checkpoint import Checkpoint, load
from dcgan_eval.models.sampling import samples
from dcgan_eval.options import FITTED, KINDS, NO_ARGUMENT, PRECISIONS, FeatureOptions, Pooling
from dcgan_eval.runtime.errors import InputError, nearest

APPLIES = {
    "batchnorm": {"disc"}, "batchnorm_images": {"disc", "random"}, "precision": PRECISIONS,
    "weights": {"inception", "timm"}, "resize": {"inception"},
}  # fmt: skip

Plan = Callable[[Images], Extractor]  # training images, which some extractors are fitted to → the extractor


def open_extractors(
    specs: Sequence[str], options: FeatureOptions, *, logits: bool = False, layers: bool = False
) -> dict[str, Plan]:
    """What makes the extractor of each spec from training images.

    specs: each one of `KINDS`; a disc: or random: may end in '@1x1', the grid that its maps are max-pooled to in place
        of the paper's 4x4, or '@4x4mean' and so on, to the mean in place of the maximum.
    logits: whether Inception's come along. layers: whether a backbone's come along, each a slice.
    Raises InputError for anything else, and for options that apply to none of the specs.
    """
    _check_options(specs, options)
    return {spec: _plan(spec, options, logits, layers) for spec in specs}


def open_extractor(spec: str, options: FeatureOptions = FeatureOptions(), *, logits: bool = False) -> Plan:
    """What makes the extractor of one spec from training images; see `open_extractors`."""
    return open_extractors([spec], options, logits=logits)[spec]


def _check_options(specs: Sequence[str], options: FeatureOptions) -> None:
    kinds = {spec.partition(":")[0] for spec in specs}
    for name, owners in APPLIES.items():
        value = getattr(options, name)
        if value != getattr(FeatureOptions, name) and not kinds & owners:
            only = ", ".join(kind for kind in KINDS if kind.partition(":")[0] in owners)
            raise InputError(f"`{name}` {value}: applies only to {only}; the features are {', '.join(specs)}")

    if options.weights is not None and sum(spec.partition(":")[0] in APPLIES["weights"] for spec in specs) > 1:
        raise InputError(f"`weights` {options.weights}: is of one network; the features are {', '.join(specs)}")


def _plan(spec: str, options: FeatureOptions, logits: bool, layers: bool) -> Plan:
    kind, colon, argument = spec.partition(":")
    if kind not in MAKERS or (kind in NO_ARGUMENT) == bool(colon) or (kind not in NO_ARGUMENT and not argument):
        raise InputError(f"`features` {spec!r} is not one of {', '.join(KINDS)}{nearest(kind, list(MAKERS))}")
    return MAKERS[kind](argument, options, logits, layers)


def _pixels(argument: str, options: FeatureOptions, logits: bool, layers: bool) -> Plan:
    return lambda train: features.pixel_features(train.shape)


def _inception(argument: str, options: FeatureOptions, logits: bool, layers: bool) -> Plan:
    o = options
    inception = features.inception_features(
        weights=o.weights, resize=o.resize, precision=o.precision, logits=logits, download=o.download
    )
    return lambda train: inception


def _module(argument: str, options: FeatureOptions, logits: bool, layers: bool) -> Plan:
    return lambda train: features.module_features(Path(argument), train.shape)


def _kmeans(argument: str, options: FeatureOptions, logits: bool, layers: bool) -> Plan:
    if not (argument.isascii() and argument.isdigit() and 0 < int(argument) < 10**6):
        raise InputError(
            f"`features` 'kmeans:{argument}': the number of centroids must be a positive integer, as in kmeans:1600"
        )
    progress = sys.stderr.isatty()
    return lambda train: features.kmeans_features(train, int(argument), seed=options.seed, progress=progress)


def _torchvision(argument: str, options: FeatureOptions, logits: bool, layers: bool) -> Plan:
    backbone = features.torchvision_features(argument, seed=options.seed, download=options.download)
    return lambda train: backbone


def _timm(argument: str, options: FeatureOptions, logits: bool, layers: bool) -> Plan:
    backbone = features.timm_features(
        argument, weights=options.weights or "published", layers=layers, download=options.download
    )
    return lambda train: backbone


def _random(argument: str, options: FeatureOptions, logits: bool, layers: bool) -> Plan:
    name, grid, pooling = _pooled(argument)
    untrained = preset(name)
    return lambda train: features.random_features(
        name,
        _sample(train, untrained, options),
        seed=options.seed,
        grid=grid,
        pooling=pooling,
        precision=options.precision,
    )


def _disc(argument: str, options: FeatureOptions, logits: bool, layers: bool) -> Plan:
    path, grid, pooling = _pooled(argument)
    checkpoint, name = open_discriminator(path)
    discriminator = checkpoint.discriminator
    assert discriminator is not None
    mode = checkpoint.discriminator_batchnorm if options.batchnorm == "auto" else options.batchnorm
    return lambda train: features.discriminator_features(
        discriminator,
        name=name,
        grid=grid,
        pooling=pooling,
        batchnorm=mode,
        images=_sample(train, checkpoint.architecture, options),
        precision=options.precision,
        trained_on=checkpoint.trained_on,
    )


# by the kinds of `KINDS`; each raises InputError for what is wrong but for the images
MAKERS: dict[str, Callable[[str, FeatureOptions, bool, bool], Plan]] = {
    "disc": _disc,
    "inception": _inception,
    "random": _random,
    "kmeans": _kmeans,
    "torchvision": _torchvision,
    "timm": _timm,
    "module": _module,
    "pixels": _pixels,
}


def _pooled(argument: str) -> tuple[str, int, Pooling]:
    """What comes before '@1x1' or '@4x4mean', the side of that grid, and how maps are pooled to it; as in the paper
    where there is none, or a file has that name.

    Raises InputError for a grid that is not square.
    """
    match = re.fullmatch(r"(.+)@(\d{1,3})x(\d{1,3})(max|mean)?", argument)
    if match is None or Path(argument).exists():
        return argument, features.GRID, "max"
    if match[2] != match[3] or int(match[2]) == 0:
        raise InputError(f"`features` {argument}: want a square grid of at least 1x1, as in {match[1]}@1x1")
    return match[1], int(match[2]), "mean" if match[4] == "mean" else "max"


def _sample(train: Images, a: Architecture, options: FeatureOptions) -> Images:
    """Training images that BatchNorm statistics are taken from, as the network takes them."""
    # in random order, because files lie sorted by class and each batch of 128 must look like all
    order = torch.randperm(train.n, generator=torch.Generator().manual_seed(options.seed))
    some = order[: options.batchnorm_images or train.n]
    return fitted(train.subset(some), (a.image_channels, a.image_size, a.image_size))[0]


def is_fitted(spec: str, options: FeatureOptions) -> bool:
    """Whether the extractor depends on the images that it is made from."""
    kind, _, argument = spec.partition(":")
    if kind != "disc":
        return kind in FITTED
    auto = options.batchnorm == "auto"
    return (load(_pooled(argument)[0]).discriminator_batchnorm if auto else options.batchnorm) == "reestimated"


def open_labelled(
    spec: str,
    test: str | None = None,
    valid: str | None = None,
    *,
    root: Path = Path("data"),
    download: bool = False,
) -> dict[str, Images]:
    """What is trained on, tested on and perhaps validated on: 'train', 'test', and 'valid' where there is one.

    spec: a source with these splits; where it has one split only, or names one, that is what is trained on.
    test, valid: sources of their own in place of the splits.
    Raises InputError where 'train' or 'test' is missing.
    """
    found = open_images(spec, root=root, download=download)
    if len(found) == 1:
        sets = {"train": next(iter(found.values()))}
    else:
        sets = {name: images for name, images in found.items() if name in ("train", "test", "valid")}
    for name, own in (("test", test), ("valid", valid)):
        if own is not None:
            opened = open_images(own, root=root, download=download)
            sets[name] = opened[name] if name in opened else open_split(own, root=root, download=download)
    for name in ("train", "test"):
        if name not in sets:
            there = ", ".join(found)
            raise InputError(f"`data` {spec}: has only {there}; want {name} images, as a split or by `{name}`")
    return sets


def open_training(spec: str, *, root: Path = Path("data"), download: bool = False) -> Images:
    """The train split of a source, or the only split that there is. Raises InputError where there are others only."""
    return training_split(spec, open_images(spec, root=root, download=download))


def training_split(spec: str, found: dict[str, Images]) -> Images:
    """The same of a source that is open: the one place that decides what is trained on."""
    return found["train"] if "train" in found else only_split(spec, found)


def open_side(
    spec: str,
    *,
    num: int,
    seed: int,
    root: Path = Path("data"),
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Images | Statistics:
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
