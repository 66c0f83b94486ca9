"""The command `dcgan-eval neighbors`."""

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcgan_eval.cli.common import (
    BatchSize,
    Cache,
    DataRoot,
    DeviceName,
    Download,
    InceptionWeights,
    Out,
    Printed,
    Seed,
    app,
    check_file,
    check_out,
    check_picture,
    join,
    show,
)
from dcgan_eval.errors import InputError
from dcgan_eval.options import KINDS

if TYPE_CHECKING:
    from dcgan_eval.images import Images
    from dcgan_eval.results import Row


@app.command()
def neighbors(
    context: typer.Context,
    fake: Annotated[
        str | None,
        typer.Argument(help="Generated images: gen:CHECKPOINT, a folder, .zip or .npz. [default: gen:digits]"),
    ] = None,
    train: Annotated[
        str | None, typer.Argument(help="Images that the generator was trained on. Required if FAKE is given.")
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            help="Held-out real images, not used in training, to compare distances with. "
            "[default, without FAKE: digits:test]"
        ),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Feature extractor: {', '.join(KINDS)}. Repeat the option to compare several. "
            "[default: pixels; without FAKE: pixels and disc:digits]"
        ),
    ] = None,
    weights: InceptionWeights = None,
    num: Annotated[
        int | None,
        typer.Option(min=2, help="Number of samples drawn from a gen:CHECKPOINT. [default: 10000; without FAKE: 899]"),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Figure to write (.png, .svg or .pdf): the samples nearest to training images, with these images."
        ),
    ] = None,
    nearest: Annotated[
        Path | None,
        typer.Option(help="CSV file to write: each sample's nearest training image, by each extractor."),
    ] = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    batch_size: BatchSize = 256,
    cache: Cache = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    format: Printed = "table",
    out: Out = None,
) -> None:
    """Test whether a generator copies training images: compare its samples' distances with those of held-out images.

    Without arguments: 899 samples of the digits generator that comes with the package, beside the 899 test images of
    scikit-learn's digits.
    """
    from dcgan_eval import results
    from dcgan_eval.copying import copying
    from dcgan_eval.copying import picture as draw
    from dcgan_eval.files import write_whole
    from dcgan_eval.images import Images
    from dcgan_eval.specs import FeatureOptions, open_extractor, open_side

    here, chosen = join(context, device, download)
    check_out(out)
    for path, option in ((picture, "--picture"), (nearest, "--nearest")):
        if path is not None:
            (check_picture if path is picture else check_file)(path, option)
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
        progress=here.first and sys.stderr.isatty(),
        ranks=here,
        command=results.command(context.obj),
    ):
        if picture is not None and not rows and here.first:
            draw(found, fakes, trained).save(picture)
        if found.flips:  # which include the others
            near = zip(found.fake.flipped[:, 0], found.fake.rows[:, 0], found.fake.distances[:, 0], strict=True)
            for i, (flipped, row, distance) in enumerate(near):
                lines.writerow([found.extractor, int(flipped), i, int(row), f"{float(distance):.9g}"])
        rows += found.rows
    if not here.first:
        return
    if nearest is not None:
        write_whole(nearest, table.getvalue())
    if out is not None:
        results.append(out, rows)
    show(rows, format)
