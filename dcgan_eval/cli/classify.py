"""The command `dcgan-eval classify`."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import begin, check_results, note, show
from dcgan_eval.options import (
    FEATURES,
    KINDS,
    PAPER_TABLE2,
    ClassifyOptions,
    DataOptions,
    DeviceOptions,
    ExtractionOptions,
    FeatureOptions,
    FeatureSpec,
    OutputOptions,
    of_table2,
)
from dcgan_eval.runtime.errors import InputError

if TYPE_CHECKING:
    from dcgan_eval.results import Row


@command
def classify(
    context: typer.Context,
    features: Annotated[
        tuple[FeatureSpec, ...] | None,
        typer.Option(
            help=f"Features to classify with: {FEATURES}. "
            "Required unless --data is digits. [default: pixels,random:digits,disc:digits]"
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(help="Labelled images: a named dataset (CIFAR-10, SVHN, MNIST, digits, …), folder, .zip or .npz."),
    ] = "digits",
    test: Annotated[
        str | None, typer.Option(help="Test images. [default: the test split of --data, which must have one]")
    ] = None,
    valid: Annotated[
        str | None,
        typer.Option(
            help="Validation images for choosing C, or a number of training images to hold out for it, before labels "
            "are drawn (10000 in Table 2); the final classifier is not fitted to them. [default: the valid split of "
            "--data, or cross-validation where it has none]"
        ),
    ] = None,
    *,
    options: ClassifyOptions,
    extractor: FeatureOptions,
    device: DeviceOptions,
    extraction: ExtractionOptions,
    where: DataOptions,
    output: OutputOptions,
) -> None:
    """Classify images with frozen features and a linear SVM, or by other classifiers beside it.

    The protocol is that of Radford et al. 2015, Tables 1 and 2: a one-vs-rest L2-SVM (squared hinge loss), solved until
    its relative duality gap is below 1e-6. Its penalty C is chosen by cross-validation or on validation images.

    Without options: classifies scikit-learn's digits by three kinds of features, pixels, a discriminator with random
    weights, and the discriminator of digits that comes with the package. It takes seconds and works offline.
    """
    from dcgan_eval import results
    from dcgan_eval.evaluations.classify import aside, classify, grouping, labelled
    from dcgan_eval.evaluations.labels import Protocol
    from dcgan_eval.inputs import open_extractors, open_labelled

    specs: Sequence[str] = features or (("pixels", "random:digits", "disc:digits") if data == "digits" else ())
    if options.protocol == PAPER_TABLE2:
        options, extractor = of_table2(options, extractor, specs)
        valid = valid or "10000"
    Protocol.parse(options.protocol)
    run = begin(context, device, extraction, download=where.download)
    check_results(output.results)
    if not specs:
        raise InputError(f"--features is needed with --data {data}: one or more of {', '.join(KINDS)}")
    plans = open_extractors(specs, extractor, layers=options.per_layer)
    set_aside = int(valid) if valid is not None and valid.isdecimal() else None
    sets = open_labelled(
        data, test, None if set_aside is not None else valid, root=where.data_root, download=where.download
    )
    train = labelled(sets["train"])
    if set_aside is not None:
        train, sets["valid"] = aside(train, set_aside, options.seed)
    grouping(train, options, sets.get("valid"))  # what is wrong with it is said before extractors are fitted
    measured: list[Row] = []
    for spec, plan in plans.items():
        if run.ranks.first:
            note(f"{spec} on {train.name}")
        start = time.perf_counter()
        made = plan(train)
        seconds = time.perf_counter() - start
        rows = list(classify(train, sets["test"], made, options, run, valid=sets.get("valid"), seconds_fit=seconds))
        if (
            output.results is not None and run.ranks.first
        ):  # now: the next features may take an hour, and be interrupted
            results.append(output.results, rows)
        measured += rows
    if run.ranks.first:
        show(measured, output.format)
