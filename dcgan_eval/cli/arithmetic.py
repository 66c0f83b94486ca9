"""The command `dcgan-eval arithmetic`."""

from typing import Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import (
    ContactSheet,
    Data,
    Figure,
    GeneratorCheckpoint,
    JudgeFeatures,
    Label,
    attributes_of,
    begin,
    check_picture,
    check_results,
    check_sheet,
    conclude,
    draw_sheet,
    is_named,
    open_model,
)
from dcgan_eval.options import ArithmeticOptions, DataOptions, DeviceOptions, OutputOptions
from dcgan_eval.runtime.errors import InputError


@command
def arithmetic(
    context: typer.Context,
    checkpoint: GeneratorCheckpoint,
    expression: Annotated[
        str | None,
        typer.Argument(
            help="Expression A - B + C. A term is a list of sample numbers as on --contact-sheet: "
            "'3,17,40 - 5,8,11 + 2,9,77'; or a class of --data, dark or bright (below or above the median brightness), "
            "or several of these joined by &: "
            "'7 & dark - 7 & bright + 2 & bright'."
        ),
    ] = None,
    data: Data = None,
    features: JudgeFeatures = None,
    contact_sheet: ContactSheet = None,
    picture: Figure = None,
    label: Label = None,
    *,
    options: ArithmeticOptions,
    device: DeviceOptions,
    where: DataOptions,
    output: OutputOptions,
) -> None:
    """Add and subtract latent vectors, as in Figure 7.

    Each term is the mean of three exemplars; single exemplars and arithmetic in pixels are shown for comparison. Where
    terms have names, the experiment is repeated for ten seeds of z.
    Without EXPRESSION only --contact-sheet is written.
    """
    from dcgan_eval.studies import arithmetic as study

    num, seed = options.num_samples, options.seed
    check_results(output.results)
    if picture is not None:
        check_picture(picture, "--picture")
    if contact_sheet is not None:
        check_sheet(contact_sheet, num)
    if expression is None and contact_sheet is None:
        raise InputError(
            "EXPRESSION is missing, as in '3,17,40 - 5,8,11 + 2,9,77'; --contact-sheet draws the numbered samples"
        )
    if expression is None and (picture or output.results):
        raise InputError("--picture and --results: need EXPRESSION; without, only --contact-sheet is written")
    run = begin(context, device)
    named = expression is not None and is_named(expression)
    if expression is not None:  # a mistake in it is found before anything is loaded
        study.parse(expression, named=named or data is not None)
    model = open_model(checkpoint, label, seed, run)
    if expression is None:
        assert contact_sheet is not None
        draw_sheet(model, num, seed, contact_sheet)
        return
    attributes = attributes_of(model, checkpoint, data, features, num, seed, where) if data or named else []
    found = study.arithmetic(model, expression, attributes, options)
    if contact_sheet is not None:
        draw_sheet(model, num, seed, contact_sheet)
    conclude(found.rows, output, picture, lambda: study.picture(found, model))
