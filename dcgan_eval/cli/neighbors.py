"""The command `dcgan-eval neighbors`."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import begin, check_file, check_picture, check_results, conclude
from dcgan_eval.options import (
    FEATURES,
    DataOptions,
    DeviceOptions,
    ExtractionOptions,
    FeatureOptions,
    FeatureSpec,
    OutputOptions,
)
from dcgan_eval.runtime.errors import InputError

if TYPE_CHECKING:
    from dcgan_eval.images import Images
    from dcgan_eval.results import Row


@command
def neighbors(
    context: typer.Context,
    fake: Annotated[
        str | None,
        typer.Argument(
            help="Generated images: gen:CHECKPOINT, or PATH[:split] of a folder, .zip or .npz. [default: gen:digits]"
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Argument(
            help="Images that the generator was trained on: NAME[:split] or PATH[:split]. Required if FAKE is "
            "given. [default, without FAKE: digits:train]"
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            help="Held-out real images, not used in training, to compare distances with; without them only "
            "the samples' "
            "distances are reported. [default, without FAKE: digits:test]"
        ),
    ] = None,
    features: Annotated[
        tuple[FeatureSpec, ...] | None,
        typer.Option(
            help=f"Feature extractor: {FEATURES}. [default: pixels; without FAKE: pixels and disc:digits@1x1]"
        ),
    ] = None,
    num_samples: Annotated[
        int | None,
        typer.Option(min=2, help="Number of samples drawn from a gen:CHECKPOINT. [default: 10000; without FAKE: 899]"),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Figure to write (.png, .svg or .pdf): the samples closest to a training image, each beside "
            "its nearest "
            "training images, by the first extractor."
        ),
    ] = None,
    nearest: Annotated[
        Path | None,
        typer.Option(
            help="CSV file to write: each sample's nearest training image, by each extractor, with the p-value of its "
            "distance beside those of held-out images."
        ),
    ] = None,
    *,
    extractor: FeatureOptions,
    device: DeviceOptions,
    extraction: ExtractionOptions,
    where: DataOptions,
    output: OutputOptions,
) -> None:
    """Test whether a generator copies its training images.

    Compares the distances from its samples to the nearest training images with those from held-out real images: samples
    that are closer than held-out images are suspicious. Reports the mean distance, the number of samples closer than
    every held-out image, AuthPct and C_T, each with a p-value, and MiFID.

    Without FAKE and TRAIN: 899 samples of the digits generator that comes with the package, beside the 899 test images
    of scikit-learn's digits.
    """
    from dcgan_eval.evaluations.neighbors import neighbors
    from dcgan_eval.evaluations.neighbors import picture as draw
    from dcgan_eval.images import Images
    from dcgan_eval.inputs import open_extractors, open_side
    from dcgan_eval.metrics.memorization import p_values
    from dcgan_eval.runtime.files import write_whole

    run = begin(context, device, extraction, download=where.download)
    check_results(output.results)
    for path, option in ((picture, "--picture"), (nearest, "--nearest")):
        if path is not None:
            (check_picture if path is picture else check_file)(path, option)
        if path is not None and path.exists() and str(path) in (fake, train, test):
            raise InputError(f"{option} {path}: holds images to be read; want the name of another file")
    specs: Sequence[str] = features or ("pixels",)
    if fake is None:
        fake, train, test, num_samples = "gen:digits", "digits:train", test or "digits:test", num_samples or 899
        specs = features or ("pixels", "disc:digits@1x1")
    if train is None:
        raise InputError("TRAIN is missing: name the images that the generator was trained on")

    if num_samples is not None and not any((spec or "").startswith("gen:") for spec in (fake, train, test)):
        raise InputError(f"--num-samples {num_samples}: applies only to gen:CHECKPOINT, and none was given")

    def images(spec: str) -> "Images":
        opened = open_side(
            spec,
            num=num_samples or 10000,
            seed=extractor.seed,
            root=where.data_root,
            download=where.download,
            device=run.device,
        )
        if not isinstance(opened, Images):
            raise InputError(f"{spec}: holds statistics only; neighbours are sought among images")
        return opened

    plans = open_extractors(specs, extractor)
    fakes, trained, held_out = images(fake), images(train), None if test is None else images(test)
    rows: list[Row] = []
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(["features", "mirrored", "sample", "nearest", "distance", "p"])
    extractors = [plan(trained) for plan in plans.values()]
    for found in neighbors(fakes, trained, held_out, extractors, run, seed=extractor.seed):
        if picture is not None and not rows and run.ranks.first:
            draw(found, fakes, trained).save(picture)
        if found.flips:  # which include the others
            first = found.fake.distances[:, 0]
            p = [""] * len(first)
            if found.held_out is not None:
                p = [f"{value:.4g}" for value in p_values(first, found.held_out.distances[:, 0]).tolist()]
            near = zip(found.fake.flipped[:, 0], found.fake.rows[:, 0], first, p, strict=True)
            for i, (flipped, row, distance, chance) in enumerate(near):
                lines.writerow([found.extractor, int(flipped), i, int(row), f"{float(distance):.9g}", chance])
        rows += found.rows
    if not run.ranks.first:
        return
    if nearest is not None:
        write_whole(nearest, table.getvalue())
    conclude(rows, output)
