"""The command `dcgan-eval fid`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import begin, check_results, conclude, note
from dcgan_eval.options import (
    FEATURES,
    DataOptions,
    DeviceOptions,
    ExtractionOptions,
    FeatureOptions,
    FidOptions,
    OutputOptions,
)
from dcgan_eval.runtime.errors import InputError

if TYPE_CHECKING:
    from dcgan_eval.features.moments import Statistics
    from dcgan_eval.images import Images
    from dcgan_eval.results import Row


@command
def fid(
    context: typer.Context,
    real: Annotated[
        str | None,
        typer.Argument(
            help="Reference images, usually real: NAME[:split], PATH[:split] of a folder, .zip or .npz, "
            "gen:CHECKPOINT, "
            "or an .npz of statistics (mu, sigma) of the same features. The split is needed where there are several. "
            "[default, without REAL and FAKE: digits:train]"
        ),
    ] = None,
    fake: Annotated[
        str | None,
        typer.Argument(
            help="Images to evaluate, in the same notation. Optional if --save-stats is given. [default, without "
            "REAL and FAKE: gen:digits]"
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help=f"Feature extractor: {FEATURES}. [default: inception; without REAL and FAKE: disc:digits@1x1]"
        ),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            help="Exported classifier (TorchScript or torch.export; uint8 images in, class logits out) whose score is "
            "reported in place of Inception's. Required for metric is with features other than inception."
        ),
    ] = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            min=2, help="Number of samples drawn from a gen:CHECKPOINT. [default: 50000; without REAL and FAKE: 898]"
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of sample sets to draw from a gen: FAKE, by the seeds from --seed on; their mean is "
            "reported, ± their standard deviation, and the interval of the mean.",
        ),
    ] = 1,
    plan: Annotated[
        float | None,
        typer.Option(
            metavar="DIFFERENCE",
            help="Also print how many images two generated sets need each, so that the 95 % interval of this "
            "difference of the metric excludes 0 in 80 % of cases. Takes one metric in --metrics: fid, is or kid, or "
            "fid-infinity with several --seeds.",
        ),
    ] = None,
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
    *,
    options: FidOptions,
    extractor: FeatureOptions,
    device: DeviceOptions,
    extraction: ExtractionOptions,
    where: DataOptions,
    output: OutputOptions,
) -> None:
    """Compare generated images with real ones: FID and relatives.

    With features other than Inception's, FID is reported as Fréchet distance and KID as kernel distance; the score of a
    --classifier is reported as classifier score. Images are resized to the extractor's input size, and greyscale images
    are converted to RGB; the protocol states it. Without REAL and FAKE: 898 samples of the digits generator that comes
    with the package, against the 898 training images of scikit-learn's digits, with the features of its discriminator.
    """
    from dcgan_eval.evaluations.fid import fid
    from dcgan_eval.features import module_features
    from dcgan_eval.features.moments import save_statistics
    from dcgan_eval.images import Images, most_common_shape
    from dcgan_eval.inputs import is_fitted, open_extractors, open_side

    run = begin(context, device, extraction, download=where.download)
    check_results(output.results)
    if real is None:
        real, fake, num_samples = "digits:train", "gen:digits", num_samples or 898
        features = features or "disc:digits@1x1"
    features = features or "inception"
    _check_request(real, fake, num_samples, seeds, save_stats)
    _check_plan(plan, fake, seeds, options)
    if classifier is not None and "is" not in options.metrics:
        raise InputError(f"--classifier {classifier}: is for metric `is` only, which --metrics does not name")
    fit_extractor = open_extractors([features], extractor, logits=True)[features]
    if save_stats is not None and is_fitted(features, extractor):
        raise InputError(f"--save-stats: {features} is fitted to REAL, and cannot be found again from its statistics")

    def side(spec: str, seed: int) -> "Images | Statistics":
        return open_side(
            spec, num=num_samples or 50000, seed=seed, root=where.data_root, download=where.download, device=run.device
        )

    # where both are samples they have other z
    reals = side(real, options.seed + seeds if (fake or "").startswith("gen:") else options.seed)
    fakes = [side(fake, options.seed + i) for i in range(seeds)] if fake is not None else []
    images = [part for part in (reals, *fakes) if isinstance(part, Images)]
    if not isinstance(reals, Images) and is_fitted(features, extractor):
        raise InputError(f"--features {features}: are fitted to REAL, and {real} holds statistics only")
    if save_stats is not None and not isinstance(reals, Images):
        raise InputError(f"--save-stats: {real} holds statistics already")
    if not images:  # two files of statistics: nothing is extracted, but features have a name
        raise InputError("REAL and FAKE are both statistics: one of them must be images, whose features are known")
    if plan is not None and not isinstance(fakes[0], Images):
        raise InputError(f"--plan {plan:g}: {fake} holds statistics only, which say nothing of other sets of images")
    judge = None
    if classifier is not None:
        judge = module_features(classifier, most_common_shape(images[-1], run.progress, run.ranks).shape)

    def keep(statistics: "Statistics") -> None:
        assert save_stats is not None
        save_statistics(save_stats, statistics)

    rows = list(
        fid(
            reals,
            fakes,
            fit_extractor(most_common_shape(images[0], run.progress, run.ranks)),
            options,
            run,
            classifier=judge,
            save=keep if save_stats is not None and run.ranks.first else None,
            skip_corrupt=skip_corrupt,
        )
    )
    if not run.ranks.first:
        return
    if save_stats is not None:
        note(f"{save_stats}: statistics of {real}")
    conclude(rows, output)
    if plan is not None:
        for row in rows:
            note(_planned(row, plan))


def _planned(row: "Row", difference: float) -> str:
    """How many images resolve a difference."""
    from dcgan_eval.results.differences import resolving, standard_error

    error = standard_error(row)
    if error is None:
        return f"{row.metric}: no plan, because its standard error is not known for one set of {row.n:,} images"
    return (
        f"{row.metric}: to see a difference of {difference:g}, two generated sets need about "
        f"{resolving(row, difference):,} images each; its 95 % interval then excludes 0 in 80 % of cases. The standard "
        f"error of one set of {row.n:,} images is {error:.3g}"
    )


def _check_plan(plan: float | None, fake: str | None, seeds: int, options: FidOptions) -> None:
    if plan is None:
        return
    if not 0 < plan < math.inf:
        raise InputError(f"--plan {plan:g}: want a difference above 0")
    if fake is None:
        raise InputError(f"--plan {plan:g}: FAKE is missing, whose sets of images would differ")
    if len(options.metrics) > 1:
        raise InputError(
            f"--plan {plan:g}: is a difference of one metric, and --metrics names {len(options.metrics)}; name one"
        )
    if options.metrics == ("prdc",):
        raise InputError(f"--plan {plan:g}: is a difference of one metric, and prdc stands for four; name another")
    if options.metrics == ("fid-infinity",) and seeds == 1:
        raise InputError(
            f"--plan {plan:g}: how much fid-infinity varies is known from several sets only; draw them by --seeds"
        )


def _check_request(real: str, fake: str | None, num_samples: int | None, seeds: int, save_stats: Path | None) -> None:
    """What can be refused before anything is opened."""
    from dcgan_eval.features.moments import is_statistics

    if fake is None and save_stats is None:
        raise InputError("FAKE is missing: name images to evaluate, or --save-stats to keep REAL's statistics alone")
    if seeds > 1 and not (fake or "").startswith("gen:"):
        what = "there is no FAKE" if fake is None else f"{fake} is one set of images"
        raise InputError(f"--seeds {seeds}: {what}; only a gen:CHECKPOINT is drawn again")
    if num_samples is not None and not any((side or "").startswith("gen:") for side in (real, fake)):
        raise InputError(f"--num-samples {num_samples}: applies only to gen:CHECKPOINT, and none was given")
    if save_stats is None:
        return
    if not save_stats.absolute().parent.is_dir():
        raise InputError(f"--save-stats {save_stats}: the folder {save_stats.absolute().parent} does not exist")
    if save_stats.suffix != ".npz" or save_stats.is_dir():
        raise InputError(f"--save-stats {save_stats}: want the name of an .npz file")
    if save_stats.exists() and not is_statistics(save_stats):
        raise InputError(f"--save-stats {save_stats}: is there and holds no statistics; choose another name")
