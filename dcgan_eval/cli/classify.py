"""The command `dcgan-eval classify`."""

import sys
import time
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
    Out,
    Printed,
    Seed,
    app,
    check_out,
    join,
    note,
    numbers,
    show,
    splits,
)
from dcgan_eval.errors import InputError
from dcgan_eval.options import KINDS, PRECISIONS

if TYPE_CHECKING:
    from dcgan_eval.results import Row


@app.command()
def classify(
    context: typer.Context,
    features: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Features to classify with: {', '.join(KINDS)}. Repeat the option to compare several. "
            "[default with --data digits: pixels, random:digits and disc:digits]"
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(help="Labelled images: a named dataset (CIFAR-10, SVHN, MNIST, digits, …), folder, .zip or .npz."),
    ] = "digits",
    test: Annotated[str | None, typer.Option(help="Test images. [default: the test split of --data]")] = None,
    valid: Annotated[
        str | None,
        typer.Option(
            help="Validation images for choosing C, or a number of training images to hold out for it (10000 in "
            "Table 2). [default: the valid split of --data, else cross-validation]"
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="Training labels: all; per-class:N random labels per class (400 in Table 1); labels:N random labels "
            "in total, equally many per class (1000 in Table 2)."
        ),
    ] = "all",
    C: Annotated[
        str | None,
        typer.Option(
            "--C", help="Values of C to try, separated by commas. [default: 1e-4, 2e-4, 5e-4 … as far as it helps]"
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Number of stratified cross-validation folds for choosing C.")] = 5,
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of random label draws; not used with --protocol all.")
    ] = 10,
    knn: Annotated[
        int | None,
        typer.Option(min=1, help="Also report the accuracy of k nearest neighbours (Euclidean) with this k."),
    ] = None,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Also report the accuracy of each layer's features alone.")
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
    """Classify images by fixed features with a linear L2-SVM, as Radford et al. 2015 do (Tables 1 and 2).

    Without options: classifies scikit-learn's digits by three kinds of features, pixels, a discriminator with random
    weights, and a discriminator trained on digits. It takes seconds and needs no network.
    """
    from dcgan_eval import results
    from dcgan_eval.classification import aside, classify, labelled
    from dcgan_eval.probe import Protocol
    from dcgan_eval.specs import FeatureOptions, open_extractor

    parsed, Cs = Protocol.parse(protocol), numbers(C, "--C")
    here, chosen = join(context, device, download)
    check_out(out)
    specs = features or (["pixels", "random:digits", "disc:digits"] if data == "digits" else [])
    if not specs:
        raise InputError(f"--features is needed with --data {data}: one or more of {', '.join(KINDS)}")
    kinds = {spec.partition(":")[0] for spec in specs}
    if batchnorm != "auto" and "disc" not in kinds:
        raise InputError(
            f"--batchnorm {batchnorm}: is a choice for disc:CHECKPOINT only, which --features does not name"
        )
    if precision != "float32" and not kinds & PRECISIONS:
        raise InputError(f"--precision {precision}: is a choice for {', '.join(sorted(PRECISIONS))} only")
    options = FeatureOptions(batchnorm, precision, seed, download)
    plans = {spec: open_extractor(spec, options) for spec in specs}
    set_aside = int(valid) if valid is not None and valid.isdecimal() else None
    sets = splits(data, test, None if set_aside is not None else valid, data_root, download)
    train = labelled(sets["train"])
    if set_aside is not None:
        train, sets["valid"] = aside(train, set_aside, seed)
    measured: list[Row] = []
    for spec, plan in plans.items():
        if here.first:
            note(f"{spec} on {train.name}")
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
                progress=here.first and sys.stderr.isatty(),
                ranks=here,
                seconds_fit=time.perf_counter() - start,
                command=results.command(context.obj),
            )
        )
        if out is not None and here.first:  # now: the next features may take an hour, and be interrupted
            results.append(out, rows)
        measured += rows
    if here.first:
        show(measured, format)
