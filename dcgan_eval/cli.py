"""The command `dcgan-eval`: parse, load, call one function, print or write."""

import csv
import dataclasses
import io
import json
import logging
import os
import sys
import time
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcgan_eval.errors import InputError
from dcgan_eval.kinds import KINDS, PRECISIONS

# everything that imports torch is imported where it is used: --help must not wait for it
if TYPE_CHECKING:
    from dcgan_eval.images import Images
    from dcgan_eval.results import Row
    from dcgan_eval.statistics import Statistics

app = typer.Typer(
    name="dcgan-eval",
    help="Measure what a DCGAN has learnt. Every number comes with its protocol.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"
    csv = "csv"


class BatchNorm(StrEnum):
    """Which statistics BatchNorm uses."""

    auto = "auto"
    stored = "stored"
    batch = "batch"
    reestimated = "reestimated"


class Precision(StrEnum):
    """Of the convolutions."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class Resize(StrEnum):
    """Of images, for Inception."""

    tf1 = "tf1"
    clean = "clean"


class Method(StrEnum):
    """What makes two images one."""

    autoencoder = "autoencoder"
    paper = "paper"
    exact = "exact"
    phash = "phash"


class StoredPrecision(StrEnum):
    """Of arrays in a file."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Network(StrEnum):
    """One of the two in a checkpoint."""

    generator = "generator"
    discriminator = "discriminator"


@app.callback()
def options(debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False) -> None:
    """Measure what a DCGAN has learnt. Every number comes with its protocol."""
    logging.basicConfig(format="%(message)s", level=logging.DEBUG if debug else logging.INFO)


@app.command()
def classify(
    context: typer.Context,
    features: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What to classify with: {', '.join(KINDS)}. Repeat to compare. "
            "[default, with digits only: pixels, random:digits and disc:digits]"
        ),
    ] = None,
    data: Annotated[
        str, typer.Option(help="A named set (CIFAR-10, SVHN, MNIST, digits, …), folder, .zip or .npz.")
    ] = "digits",
    test: Annotated[str | None, typer.Option(help="Test images, where --data has no split of that name.")] = None,
    valid: Annotated[
        str | None,
        typer.Option(help="Images that choose C; default: a valid split of --data, else folds of the training labels."),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="all labels, or balanced draws: per-class:400 (Table 1), labels:1000 (Table 2).")
    ] = "all",
    C: Annotated[
        str | None,
        typer.Option("--C", help="One or more values, by commas. [default: 1e-4, 2e-4, 5e-4 … as far as it helps]"),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Stratified folds that choose C.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Label draws.")] = 10,
    knn: Annotated[int | None, typer.Option(min=1, help="Also classify by so many nearest neighbours.")] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Also each layer's features alone.")] = False,
    batchnorm: Annotated[
        BatchNorm, typer.Option(help="Statistics of a disc:'s BatchNorm; auto is what its file format calls for.")
    ] = BatchNorm.auto,
    precision: Annotated[Precision, typer.Option(help="Of the discriminator's convolutions.")] = Precision.float32,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides folds, draws, and random weights.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time; results do not depend on it.")] = 256,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps features for the next run; large ones are then mapped, not loaded."),
    ] = None,
    data_root: Annotated[Path, typer.Option(help="Where named sets lie.")] = Path("data"),
    download: Annotated[bool, typer.Option("--download", help="Fetch what is missing.")] = False,
    format: Annotated[Format, typer.Option(help="Of what is printed.")] = Format.table,
    out: Annotated[Path | None, typer.Option(help="CSV to append the rows to.")] = None,
) -> None:
    """Classify with fixed features and the paper's L2-SVM (Tables 1 and 2).

    Without options: scikit-learn's digits, by pixels, a discriminator with random weights, and one that was trained on
    them; in seconds, offline.
    """
    from dcgan_eval import results
    from dcgan_eval.classification import classify, labelled
    from dcgan_eval.probe import Protocol
    from dcgan_eval.specs import FeatureOptions, open_extractor

    parsed, Cs = Protocol.parse(protocol), _numbers(C, "--C")
    chosen = _device(device)
    _check_out(out)
    specs = features or (["pixels", "random:digits", "disc:digits"] if data == "digits" else [])
    if not specs:
        raise InputError(f"--features is needed with --data {data}: one or more of {', '.join(KINDS)}")
    kinds = {spec.partition(":")[0] for spec in specs}
    if batchnorm is not BatchNorm.auto and "disc" not in kinds:
        raise InputError(
            f"--batchnorm {batchnorm}: is a choice for disc:CHECKPOINT only, which --features does not name"
        )
    if precision is not Precision.float32 and not kinds & PRECISIONS:
        raise InputError(f"--precision {precision}: is a choice for {', '.join(sorted(PRECISIONS))} only")
    options = FeatureOptions(batchnorm.value, precision.value, seed, download)
    plans = {spec: open_extractor(spec, options) for spec in specs}
    sets = _splits(data, test, valid, data_root, download)
    train = labelled(sets["train"])
    measured: list[Row] = []
    for spec, plan in plans.items():
        _note(f"{spec} on {train.name}")
        start = time.perf_counter()
        extractor = plan(train)
        rows = list(
            classify(
                train,
                sets["test"],
                extractor,
                valid=sets.get("valid"),
                protocol=parsed,
                Cs=Cs,
                folds=folds,
                repeats=repeats,
                knn=knn,
                per_layer=per_layer,
                seed=seed,
                batch_size=batch_size,
                device=chosen,
                cache=cache,
                progress=sys.stderr.isatty(),
                seconds_fit=time.perf_counter() - start,
                command=results.command(context.obj),
            )
        )
        if out is not None:  # now: the next features may take an hour, and be interrupted
            results.append(out, rows)
        measured += rows
    _print(measured, format)


@app.command()
def fid(
    context: typer.Context,
    real: Annotated[
        str | None,
        typer.Argument(
            help="Real images: NAME[:split], PATH[:split] of a folder, .zip or .npz, gen:CHECKPOINT, or an .npz of "
            "statistics (mu, sigma). [default, with neither: digits]"
        ),
    ] = None,
    fake: Annotated[
        str | None, typer.Argument(help="Images to judge, written alike; optional with --save-stats.")
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="By commas, of fid, is, kid, prdc (precision, recall, density, coverage), fid-infinity.")
    ] = "fid",
    features: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(KINDS)}. [default: inception; with digits: disc:digits]")
    ] = None,
    resize: Annotated[Resize, typer.Option(help="Inception's: TensorFlow 1's bilinear, or clean-fid's.")] = Resize.tf1,
    weights: Annotated[Path | None, typer.Option(help="Inception's, where they are not in torch.hub's folder.")] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="A program (TorchScript, torch.export) that gives class logits, for `is`.")
    ] = None,
    num: Annotated[
        int | None, typer.Option(min=2, help="Samples drawn from a gen:CHECKPOINT. [default: 50000; with digits: 898]")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Times a gen: FAKE is sampled, by so many seeds.")] = 1,
    subsets: Annotated[int, typer.Option(min=1, help="Of kid.")] = 100,
    subset_size: Annotated[int, typer.Option(min=2, help="Of kid.")] = 1000,
    splits: Annotated[int, typer.Option(min=1, help="Of is.")] = 10,
    k: Annotated[int, typer.Option("--k", min=1, help="Nearest neighbour that the balls of prdc reach to.")] = 5,
    save_stats: Annotated[Path | None, typer.Option(help="Keep REAL's mean and covariance as an .npz.")] = None,
    skip_corrupt: Annotated[bool, typer.Option("--skip-corrupt", help="Leave out files that cannot be read.")] = False,
    batchnorm: Annotated[
        BatchNorm, typer.Option(help="Statistics of a disc:'s BatchNorm; auto is what its file format calls for.")
    ] = BatchNorm.auto,
    precision: Annotated[Precision, typer.Option(help="Of the network's convolutions.")] = Precision.float32,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides samples, subsets and shuffles.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time; results do not depend on it.")] = 256,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps features for the next run, or for this one's resumption.")
    ] = None,
    data_root: Annotated[Path, typer.Option(help="Where named sets lie.")] = Path("data"),
    download: Annotated[bool, typer.Option("--download", help="Fetch what is missing.")] = False,
    format: Annotated[Format, typer.Option(help="Of what is printed.")] = Format.table,
    out: Annotated[Path | None, typer.Option(help="CSV to append the rows to.")] = None,
) -> None:
    """Compare generated images with real ones: FID, IS, KID, precision, recall, density, coverage.

    Only numbers by Inception's published weights are called FID, KID and IS. Images of another size than the features
    take are resized, and grey ones made RGB, and the protocol says so. Without arguments: 898 samples of the embedded
    digits generator against as many of scikit-learn's digits, by the embedded discriminator.
    """
    from dcgan_eval import results
    from dcgan_eval.comparison import Settings, compare
    from dcgan_eval.features import module_features
    from dcgan_eval.images import Images, most_common_shape
    from dcgan_eval.specs import FeatureOptions, is_fitted, open_extractor, open_side
    from dcgan_eval.statistics import is_statistics, save_statistics

    settings = Settings(tuple(metric.strip() for metric in metrics.split(",")), seed, subsets, subset_size, splits, k)
    chosen = _device(device)
    _check_out(out)
    if real is None:
        real, fake, num = "digits:train", "gen:digits", num or 898
        features = features or "disc:digits"
    features = features or "inception"
    kind = features.partition(":")[0]
    if fake is None and save_stats is None:
        raise InputError("FAKE is missing: name images to judge, or --save-stats to keep REAL's statistics alone")
    if repeats > 1 and not (fake or "").startswith("gen:"):
        what = "there is no FAKE" if fake is None else f"{fake} is one set of images"
        raise InputError(f"--repeats {repeats}: {what}; only a gen:CHECKPOINT is drawn again")
    for given, option, owner in (
        (weights is not None, "--weights", "inception"),
        (resize is not Resize.tf1, f"--resize {resize}", "inception"),
        (batchnorm is not BatchNorm.auto, f"--batchnorm {batchnorm}", "disc"),
    ):
        if given and kind != owner:
            raise InputError(f"{option}: is a choice for {owner} features only, not for {features}")
    if precision is not Precision.float32 and kind not in PRECISIONS:
        raise InputError(f"--precision {precision}: is a choice for {', '.join(sorted(PRECISIONS))} only")
    if save_stats is not None and not save_stats.absolute().parent.is_dir():
        raise InputError(f"--save-stats {save_stats}: the folder {save_stats.absolute().parent} does not exist")
    if save_stats is not None and (save_stats.suffix != ".npz" or save_stats.is_dir()):
        raise InputError(f"--save-stats {save_stats}: want the name of an .npz file")
    if save_stats is not None and save_stats.exists() and not is_statistics(save_stats):
        raise InputError(f"--save-stats {save_stats}: is there and holds no statistics; choose another name")
    if num is not None and not any((side or "").startswith("gen:") for side in (real, fake)):
        raise InputError(f"--num {num}: is a choice for gen:CHECKPOINT only")
    if classifier is not None and "is" not in settings.metrics:
        raise InputError(f"--classifier {classifier}: judges metric `is` only, which --metrics does not name")
    options = FeatureOptions(
        batchnorm.value, precision.value, seed, download, grid=1, logits=True, weights=weights, resize=resize.value
    )
    plan = open_extractor(features, options)
    if save_stats is not None and is_fitted(features, options):
        raise InputError(f"--save-stats: {features} is fitted to REAL, and cannot be found again from its statistics")

    def side(spec: str, seed: int) -> "Images | Statistics":
        return open_side(spec, num=num or 50000, seed=seed, root=data_root, download=download, device=chosen)

    # where both are samples they have other z
    reals = side(real, seed + repeats if (fake or "").startswith("gen:") else seed)
    fakes = [side(fake, seed + i) for i in range(repeats)] if fake is not None else []
    images = [part for part in (reals, *fakes) if isinstance(part, Images)]
    if save_stats is not None and not isinstance(reals, Images):
        raise InputError(f"--save-stats: {real} holds statistics already")
    if not images:  # two files of statistics: nothing is extracted, but features have a name
        raise InputError("REAL and FAKE are both statistics: one of them must be images, whose features are known")
    rows = list(
        compare(
            reals,
            fakes,
            plan(most_common_shape(images[0], sys.stderr.isatty())),
            settings,
            classifier=None if classifier is None else module_features(classifier, most_common_shape(images[-1]).shape),
            save=None if save_stats is None else lambda statistics: save_statistics(save_stats, statistics),
            skip_corrupt=skip_corrupt,
            batch_size=batch_size,
            device=chosen,
            cache=cache,
            progress=sys.stderr.isatty(),
            command=results.command(context.obj),
        )
    )
    if out is not None:
        results.append(out, rows)
    if save_stats is not None:
        _note(f"{save_stats}: statistics of {real}")
    if rows:
        _print(rows, format)


@app.command()
def neighbors(
    context: typer.Context,
    fake: Annotated[
        str | None, typer.Argument(help="Samples: gen:CHECKPOINT, a folder, .zip or .npz. [default: gen:digits]")
    ] = None,
    train: Annotated[str | None, typer.Argument(help="The images that the generator was trained on.")] = None,
    test: Annotated[
        str | None, typer.Option(help="Real images that it was not trained on: what makes a distance mean something.")
    ] = None,
    features: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(KINDS)}. Repeat to compare. [default: pixels]")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Inception's, where they are not in torch.hub's folder.")] = None,
    num: Annotated[
        int | None, typer.Option(min=2, help="Samples drawn from a gen:CHECKPOINT. [default: 10000; with digits: 899]")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="PNG of the most suspicious samples with their neighbours, by the first features."),
    ] = None,
    nearest: Annotated[
        Path | None, typer.Option(help="CSV of every sample's nearest training image, by every features.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides samples and C_T's cells.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time; results do not depend on it.")] = 256,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps features for the next run.")] = None,
    data_root: Annotated[Path, typer.Option(help="Where named sets lie.")] = Path("data"),
    download: Annotated[bool, typer.Option("--download", help="Fetch what is missing.")] = False,
    format: Annotated[Format, typer.Option(help="Of what is printed.")] = Format.table,
    out: Annotated[Path | None, typer.Option(help="CSV to append the rows to.")] = None,
) -> None:
    """Ask whether a generator copies: its samples' distances to training images beside those of held-out images.

    Without arguments: 899 samples of the embedded digits generator, by pixels and the embedded discriminator.
    """
    from dcgan_eval import results
    from dcgan_eval.copying import copying
    from dcgan_eval.copying import picture as draw
    from dcgan_eval.files import write_whole
    from dcgan_eval.images import Images
    from dcgan_eval.specs import FeatureOptions, open_extractor, open_side

    chosen = _device(device)
    _check_out(out)
    for path, option in ((picture, "--picture"), (nearest, "--nearest")):
        if path is not None:
            _check_file(path, option)
        if path is not None and path.exists() and str(path) in (fake, train, test):
            raise InputError(f"{option} {path}: holds images to be read; want the name of another file")
    if fake is None:
        fake, train, test, num = "gen:digits", "digits:train", test or "digits:test", num or 899
        features = features or ["pixels", "disc:digits"]
    if weights is not None and "inception" not in (features or []):
        raise InputError("--weights: is a choice for inception features only, which --features does not name")
    if train is None:
        raise InputError("TRAIN is missing: name the images that the generator was trained on")

    def images(spec: str) -> "Images":
        opened = open_side(spec, num=num or 10000, seed=seed, root=data_root, download=download, device=chosen)
        if not isinstance(opened, Images):
            raise InputError(f"{spec}: holds statistics only; neighbours are sought among images")
        return opened

    options = FeatureOptions(seed=seed, download=download, grid=1, weights=weights)
    plans = [open_extractor(spec, options) for spec in features or ["pixels"]]
    fakes, trained, held_out = images(fake), images(train), None if test is None else images(test)
    rows: list[Row] = []
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(["features", "mirrored", "sample", "nearest", "distance"])
    for found in copying(
        fakes,
        trained,
        held_out,
        [plan(trained) for plan in plans],
        seed=seed,
        batch_size=batch_size,
        device=chosen,
        cache=cache,
        progress=sys.stderr.isatty(),
        command=results.command(context.obj),
    ):
        if picture is not None and not rows:
            write_whole(picture, draw(found, fakes, trained))
        if found.flips:  # which include the others
            near = zip(found.fake.flipped[:, 0], found.fake.rows[:, 0], found.fake.distances[:, 0], strict=True)
            for i, (flipped, row, distance) in enumerate(near):
                lines.writerow([found.extractor, int(flipped), i, int(row), f"{float(distance):.9g}"])
        rows += found.rows
    if nearest is not None:
        write_whole(nearest, table.getvalue())
    if out is not None:
        results.append(out, rows)
    _print(rows, format)


reproduce = typer.Typer(help="Make a table of the paper again.", add_completion=False, rich_markup_mode=None)
app.add_typer(reproduce, name="reproduce")


@reproduce.callback()
def reproduce_options() -> None:
    """Make a table of the paper again."""


@reproduce.command()
def table3(
    context: typer.Context,
    generator: Annotated[
        str, typer.Option(help="Checkpoint of a conditional generator, as `python -m training mnist28` makes.")
    ],
    data: Annotated[str, typer.Option(help="Labelled images with the splits train and test.")] = "MNIST",
    num: Annotated[int, typer.Option(min=1, help="Samples to go up to; the paper's are 10,000,000.")] = 1_000_000,
    state: Annotated[
        Path | None, typer.Option(help="File that keeps the search every minute, to go on from after a stop.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG of the error by the number of images.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides the samples.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    data_root: Annotated[Path, typer.Option(help="Where named sets lie.")] = Path("data"),
    download: Annotated[bool, typer.Option("--download", help="Fetch what is missing.")] = False,
    format: Annotated[Format, typer.Option(help="Of what is printed.")] = Format.table,
    out: Annotated[Path | None, typer.Option(help="CSV to append the rows to.")] = None,
) -> None:
    """Classify test digits by the nearest of more and more generated digits, and of real ones."""
    from dcgan_eval import results
    from dcgan_eval import table3 as table
    from dcgan_eval.files import write_whole
    from dcgan_eval.images import Images
    from dcgan_eval.specs import open_side

    chosen = _device(device)
    _check_out(out)
    for path, option in ((picture, "--picture"), (state, "--state")):
        if path is not None:
            _check_file(path, option)
    generated = open_side(f"gen:{generator}", num=num, seed=seed, device=chosen)
    assert isinstance(generated, Images)
    sets = _splits(data, None, None, data_root, download)
    rows = list(
        table.table3(
            sets["test"],
            sets["train"],
            generated,
            seed=seed,
            state=state,
            device=chosen,
            progress=sys.stderr.isatty(),
            command=results.command(context.obj),
        )
    )
    if picture is not None:
        write_whole(picture, table.picture(rows))
    if out is not None:
        results.append(out, rows)
    _print(rows, format)


@app.command()
def dedup(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="Images: a named set, folder, .zip or .npz; of several splits, train.")],
    against: Annotated[
        str | None, typer.Option(help="Held-out images: what is like one of these is not kept, either.")
    ] = None,
    method: Annotated[
        list[Method] | None,
        typer.Option(
            help="Codes of an autoencoder: near ones, or equal ones as in the paper; perceptual hashes; equal pixels. "
            "Repeat to compare; files are by the first. [default: autoencoder, exact]"
        ),
    ] = None,
    radius: Annotated[
        int | None, typer.Option(min=0, help="Bits that two codes may differ in. [default: 4, or 0 for paper, exact]")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where keep.json, groups.csv and groups.png are written.")] = Path(
        "duplicates"
    ),
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides the autoencoder.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time; results do not depend on it.")] = 1024,
    data_root: Annotated[Path, typer.Option(help="Where named sets lie.")] = Path("data"),
    download: Annotated[bool, typer.Option("--download", help="Fetch what is missing.")] = False,
    format: Annotated[Format, typer.Option(help="Of what is printed.")] = Format.table,
    out: Annotated[Path | None, typer.Option(help="CSV to append the rows to.")] = None,
) -> None:
    """Find the images that repeat others, near-duplicates included, and say which to keep.

    `python -m training … --keep-list duplicates/keep.json` trains on these alone.
    """
    from dcgan_eval import dedup, results
    from dcgan_eval.files import write_whole
    from dcgan_eval.images import open_images, open_split

    chosen = _device(device)
    _check_out(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--folder {folder}: is a file; want a folder")
    methods = list(dict.fromkeys(method or [Method.autoencoder, Method.exact]))
    if radius is not None and not {Method.autoencoder, Method.phash} & set(methods):
        raise InputError(f"--radius {radius}: is a choice for autoencoder and phash; {methods[0]} asks for equal codes")
    radii = {each: radius if each in (Method.autoencoder, Method.phash) else None for each in methods}
    for each in methods:
        dedup.check(each, radii[each])
    files = {name: folder / name for name in ("groups.csv", "groups.png", "keep.json")}
    for path in files.values() if folder.exists() else (folder,):
        _check_file(path, "--folder")
    found = open_images(data, root=data_root, download=download)
    train = found["train"] if "train" in found else open_split(data, root=data_root, download=download)
    held_out = None if against is None else open_split(against, root=data_root, download=download)
    if held_out is not None and held_out.fingerprint == train.fingerprint:
        raise InputError(f"--against {against}: are the same images as {data}")
    duplicates = [
        dedup.find(
            train,
            held_out,
            method=each.value,
            radius=radii[each],
            seed=seed,
            batch_size=batch_size,
            device=chosen,
            progress=sys.stderr.isatty(),
        )
        for each in methods
    ]
    command = results.command(context.obj)
    rows = [row for each in duplicates for row in dedup.rows(each, seed=seed, device=chosen, command=command)]
    sheet = dedup.picture(duplicates[0])
    try:
        folder.mkdir(exist_ok=True)
        write_whole(files["groups.csv"], dedup.groups_csv(duplicates[0]))
        write_whole(files["groups.png"], sheet)
        dedup.save_keep_list(files["keep.json"], duplicates[0])
    except OSError as error:
        raise InputError(f"--folder {folder}: cannot be written to: {error}") from error
    if out is not None:
        results.append(out, rows)
    _print(rows, format)
    _note(f"{folder}: keep.json, groups.csv and groups.png, by {methods[0]}")


@app.command()
def info(
    checkpoint: Annotated[
        str, typer.Argument(help="Ours (.safetensors), the authors' (prefix or .jl), netG/netD (.pth), or digits.")
    ],
    format: Annotated[Format, typer.Option(help="table or json.")] = Format.table,
) -> None:
    """Say what a checkpoint holds."""
    from dcgan_eval.checkpoint import describe, load

    described = describe(load(checkpoint))
    if format is Format.csv:
        raise InputError("info prints a table or json, not csv")
    if format is Format.json:
        typer.echo(json.dumps(described, indent=2))
        return
    presets = ", ".join(described["presets"]) or "none of the presets"
    typer.echo(f"format        {described['format']}\nsha256        {described['sha256']}\narchitecture  {presets}")
    for name, value in described["architecture"].items():
        typer.echo(f"  {name:24} {value}")
    for network in ("generator", "discriminator"):
        part = described[network]
        if part is None:
            typer.echo(f"{network:13} absent")
            continue
        typer.echo(f"{network:13} {part['parameters']:,} parameters, BatchNorm {part['batchnorm']}")
        for layer in part["layers"]:
            weight, output = (" x ".join(map(str, layer[key])) for key in ("weight", "output"))
            typer.echo(f"  {layer['name']:10} weight {weight:24} output {output}")
    if described["features"]:
        per_layer = " + ".join(map(str, described["features"]["per_layer"]))
        grid = described["features"]["grid"]
        typer.echo(f"features      {described['features']['total']:,} = {per_layer}, pooled to {grid}x{grid}")
    for key, value in described["metadata"].items():
        typer.echo(f"{key:13} {value}")


@app.command()
def convert(
    checkpoint: Annotated[str, typer.Argument(help="Any checkpoint that `info` understands.")],
    out: Annotated[Path, typer.Argument(help="Where to write it, as .safetensors.")],
    only: Annotated[Network | None, typer.Option(help="Keep one of the two networks.")] = None,
    precision: Annotated[
        StoredPrecision, typer.Option(help="Of the arrays in the file; 16 bits round them.")
    ] = StoredPrecision.float32,
) -> None:
    """Rewrite a checkpoint into this project's format; weights and BatchNorm statistics stay as they are."""
    import torch

    from dcgan_eval.checkpoint import convert

    converted = convert(
        checkpoint, out, only=None if only is None else only.value, dtype=getattr(torch, precision.value)
    )
    typer.echo(f"{out}: sha256 {converted.sha256}")


def _splits(data: str, test: str | None, valid: str | None, root: Path, download: bool) -> "dict[str, Images]":
    """'train', 'test' and perhaps 'valid'."""
    from dcgan_eval.images import open_images, open_split

    found = open_images(data, root=root, download=download)
    if len(found) == 1:  # the one split there is, or that was asked for, is what is trained on
        sets = {"train": next(iter(found.values()))}
    else:
        sets = {name: images for name, images in found.items() if name in ("train", "test", "valid")}
    for name, spec in (("test", test), ("valid", valid)):
        if spec is not None:
            opened = open_images(spec, root=root, download=download)
            sets[name] = opened[name] if name in opened else open_split(spec, root=root, download=download)
    for name, remedy in (("train", "give --data a source with one"), ("test", "name one with --test")):
        if name not in sets:
            raise InputError(f"--data {data}: has no {name} split besides {', '.join(found)}; {remedy}")
    return sets


def _device(name: str) -> str:
    import torch

    from dcgan_eval import devices

    # for the whole process: samples are drawn in one thread while features are computed in another
    torch.backends.cudnn.allow_tf32 = False
    return devices.choose(name)


def _check_out(out: Path | None) -> None:
    """A file that rows cannot be appended to is refused before anything is measured."""
    from dcgan_eval import results

    if out is not None and not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.absolute().parent} does not exist")
    if out is not None:
        results.read(out)


def _check_file(path: Path, option: str) -> None:
    """What cannot be written is refused before anything is measured."""
    folder = path.absolute().parent
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; want the name of a file")
    if not folder.is_dir():
        raise InputError(f"{option} {path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option} {path}: cannot write to the folder {folder}")


def _numbers(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise InputError(f"{option} {text!r}: want positive, finite numbers separated by commas, as in 1e-4,1e-3")
    return numbers


def _print(rows: "list[Row]", format: Format) -> None:
    from dcgan_eval import results

    if format is Format.json:
        records = [dataclasses.asdict(row) for row in rows]
        typer.echo(json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False))
    elif format is Format.csv:
        typer.echo(results.frame(rows).to_csv(index=False), nl=False)
    else:
        typer.echo(results.table(rows))


def _note(text: str) -> None:
    typer.echo(text, err=True)


def main(argv: list[str] | None = None) -> None:
    """Exit 0: done; 2: the input is at fault, said in one line; 1: our fault; 130: interrupted."""
    argv = (sys.argv[1:] if argv is None else argv) or ["--help"]
    debug = "--debug" in argv
    if debug:  # wherever it was given
        argv = ["--debug", *(word for word in argv if word != "--debug")]
    try:
        code: Any = app(argv, standalone_mode=False, obj=argv)
    except InputError as error:
        if debug:
            traceback.print_exc()
        code = _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # usage errors belong to typer's own copy of click, which has no public name
        if not hasattr(error, "format_message"):
            raise
        code = _fail(error.format_message())
    if code == 130:  # typer's own number for it
        _note("dcgan-eval: interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    _note(f"dcgan-eval: {' '.join(message.split())}")
    return 2
