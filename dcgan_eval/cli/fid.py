"""The command `dcgan-eval fid`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcgan_eval.cli.common import (
    BatchNormStatistics,
    BatchSize,
    Cache,
    DataRoot,
    DeviceName,
    Download,
    FeaturePrecision,
    InceptionWeights,
    Out,
    Printed,
    Seed,
    app,
    check_out,
    join,
    note,
    show,
)
from dcgan_eval.errors import InputError
from dcgan_eval.options import KINDS, PRECISIONS, Resize

if TYPE_CHECKING:
    from dcgan_eval.statistics import Statistics


@app.command()
def fid(
    context: typer.Context,
    real: Annotated[
        str | None,
        typer.Argument(
            help="Real images: NAME[:split], PATH[:split] of a folder, .zip or .npz, gen:CHECKPOINT, or an .npz of "
            "statistics (mu, sigma). [default, without REAL and FAKE: digits:train]"
        ),
    ] = None,
    fake: Annotated[
        str | None, typer.Argument(help="Images to evaluate, in the same notation. Optional if --save-stats is given.")
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="Metrics, separated by commas: fid, is, kid, prdc (precision, recall, density, coverage), "
            "fid-infinity (FID extrapolated to infinitely many samples)."
        ),
    ] = "fid",
    features: Annotated[
        str | None,
        typer.Option(
            help=f"Feature extractor: {', '.join(KINDS)}. [default: inception; without REAL and FAKE: disc:digits]"
        ),
    ] = None,
    resize: Annotated[
        Resize,
        typer.Option(
            help="Resizing for Inception: tf1 is TensorFlow 1's bilinear, clean is clean-fid's antialiased bicubic."
        ),
    ] = "tf1",
    weights: InceptionWeights = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            help="Exported classifier (TorchScript or torch.export) for the Inception score. [default: Inception]"
        ),
    ] = None,
    num: Annotated[
        int | None,
        typer.Option(
            min=2, help="Number of samples drawn from a gen:CHECKPOINT. [default: 50000; without REAL and FAKE: 898]"
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of sample sets to draw from a gen: FAKE, for a mean and a spread.")
    ] = 1,
    subsets: Annotated[int, typer.Option(min=1, help="Number of KID subsets.")] = 100,
    subset_size: Annotated[int, typer.Option(min=2, help="Number of images in each KID subset.")] = 1000,
    splits: Annotated[int, typer.Option(min=1, help="Number of splits for the Inception score.")] = 10,
    k: Annotated[
        int,
        typer.Option("--k", min=1, help="Number of nearest neighbours k for precision, recall, density and coverage."),
    ] = 5,
    save_stats: Annotated[
        Path | None, typer.Option(help="File (.npz) to save the mean and covariance of REAL's features to.")
    ] = None,
    skip_corrupt: Annotated[
        bool,
        typer.Option(
            "--skip-corrupt",
            help="Leave out unreadable image files and report their number. [default: stop with an error]",
        ),
    ] = False,
    batchnorm: BatchNormStatistics = "auto",
    precision: FeaturePrecision = "float32",
    seed: Seed = 0,
    device: DeviceName = "auto",
    batch_size: BatchSize = 256,
    cache: Cache = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    format: Printed = "table",
    out: Out = None,
) -> None:
    """Compare generated images with real ones: FID, IS, KID, precision, recall, density, coverage.

    With features other than Inception's, FID is reported as Fréchet distance, KID as kernel distance and IS as
    classifier score. Images are resized to the extractor's input size, and greyscale images are converted to RGB; the
    protocol states it. Without arguments: 898 samples of the digits generator that comes with the package, against the
    898 training images of scikit-learn's digits, with the features of its discriminator.
    """
    from dcgan_eval import results
    from dcgan_eval.comparison import Settings, compare
    from dcgan_eval.features import module_features
    from dcgan_eval.images import Images, most_common_shape
    from dcgan_eval.specs import FeatureOptions, is_fitted, open_extractor, open_side
    from dcgan_eval.statistics import is_statistics, save_statistics

    settings = Settings(tuple(metric.strip() for metric in metrics.split(",")), seed, subsets, subset_size, splits, k)
    here, chosen = join(context, device, download)
    progress = here.first and sys.stderr.isatty()
    check_out(out)
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
        (resize != "tf1", f"--resize {resize}", "inception"),
        (batchnorm != "auto", f"--batchnorm {batchnorm}", "disc"),
    ):
        if given and kind != owner:
            raise InputError(f"{option}: is a choice for {owner} features only, not for {features}")
    if precision != "float32" and kind not in PRECISIONS:
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
    options = FeatureOptions(batchnorm, precision, seed, download, grid=1, logits=True, weights=weights, resize=resize)
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
    judge = None
    if classifier is not None:
        judge = module_features(classifier, most_common_shape(images[-1], progress, here).shape)

    def keep(statistics: "Statistics") -> None:
        assert save_stats is not None
        save_statistics(save_stats, statistics)

    rows = list(
        compare(
            reals,
            fakes,
            plan(most_common_shape(images[0], progress, here)),
            settings,
            classifier=judge,
            save=keep if save_stats is not None and here.first else None,
            skip_corrupt=skip_corrupt,
            batch_size=batch_size,
            device=chosen,
            cache=cache,
            progress=progress,
            ranks=here,
            command=results.command(context.obj),
        )
    )
    if not here.first:
        return
    if out is not None:
        results.append(out, rows)
    if save_stats is not None:
        note(f"{save_stats}: statistics of {real}")
    if rows:
        show(rows, format)
