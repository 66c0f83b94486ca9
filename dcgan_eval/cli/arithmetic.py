"""The command `dcgan-eval arithmetic`."""

from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.common import (
    Data,
    DataRoot,
    DeviceName,
    Download,
    Figure,
    GeneratorCheckpoint,
    JudgeFeatures,
    Label,
    Num,
    Out,
    Printed,
    Seed,
    Sheet,
    app,
    attributes_of,
    check_out,
    check_picture,
    check_sheet,
    choose_device,
    conclude,
    draw_sheet,
    is_named,
    open_model,
)
from dcgan_eval.errors import InputError


@app.command()
def arithmetic(
    context: typer.Context,
    checkpoint: GeneratorCheckpoint,
    expression: Annotated[
        str | None,
        typer.Argument(
            help="Expression A - B + C. A term is a list of sample numbers as on --sheet: '3,17,40 - 5,8,11 + 2,9,77'; "
            "or classes of --data, dark and bright, joined by &: '7 & dark - 7 & bright + 2 & bright'."
        ),
    ] = None,
    data: Data = None,
    features: JudgeFeatures = None,
    sheet: Sheet = None,
    picture: Figure = None,
    num: Num = 256,
    draws: Annotated[
        int,
        typer.Option(min=1, help="Number of exemplar draws for named terms, which the reported fractions are over."),
    ] = 100,
    label: Label = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    data_root: DataRoot = Path("data"),
    download: Download = False,
    format: Printed = "table",
    out: Out = None,
) -> None:
    """Add and subtract latent vectors: the mean of three exemplars per term, beside single exemplars and pixels."""
    from dcgan_eval import results
    from dcgan_eval.studies import arithmetic as study

    check_out(out)
    if picture is not None:
        check_picture(picture, "--picture")
    if sheet is not None:
        check_sheet(sheet, num)
    if expression is None and sheet is None:
        raise InputError("EXPRESSION is missing, as in '3,17,40 - 5,8,11 + 2,9,77'; --sheet draws the numbered samples")
    chosen = choose_device(device)
    named = expression is not None and is_named(expression)
    if expression is not None:  # a mistake in it is found before anything is loaded
        study.parse(expression, named=named or data is not None)
    model = open_model(checkpoint, label, seed, chosen)
    if expression is None:
        assert sheet is not None
        draw_sheet(model, num, seed, sheet)
        return
    attributes = (
        attributes_of(model, checkpoint, data, features, num, seed, data_root, download) if data or named else []
    )
    found = study.arithmetic(
        model,
        expression,
        attributes=attributes,
        num=num,
        draws=draws,
        seed=seed,
        command=results.command(context.obj),
    )
    if sheet is not None:
        draw_sheet(model, num, seed, sheet)
    conclude(found.rows, out, format, picture, lambda: study.picture(found, model))
