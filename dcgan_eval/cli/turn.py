"""The command `dcgan-eval turn`."""

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
    judge_of,
    open_model,
)
from dcgan_eval.errors import InputError
from dcgan_eval.options import DirectionMethod


@app.command()
def turn(
    context: typer.Context,
    checkpoint: GeneratorCheckpoint,
    start: Annotated[
        str | None,
        typer.Argument(
            metavar="FROM",
            help="Group at the start: sample numbers as on --sheet (3,17,40,8), or classes of --data, dark, bright, "
            "joined by &.",
        ),
    ] = None,
    end: Annotated[str | None, typer.Argument(metavar="TO", help="Group at the end, in the same notation.")] = None,
    by: Annotated[
        DirectionMethod,
        typer.Option(help="Direction: the difference of the means of four samples, or a linear SVM in z."),
    ] = "mean",
    data: Data = None,
    features: JudgeFeatures = None,
    sheet: Sheet = None,
    picture: Figure = None,
    num: Num = 256,
    starts: Annotated[int, typer.Option(min=1, help="Number of further samples to move along the direction.")] = 8,
    steps: Annotated[int, typer.Option(min=3, help="Number of images from one end to the other.")] = 8,
    label: Label = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    data_root: DataRoot = Path("data"),
    download: Download = False,
    format: Printed = "table",
    out: Out = None,
) -> None:
    """Find a direction in z between two groups, move samples along it, and measure whether the change is straight."""
    from dcgan_eval import results
    from dcgan_eval.images import from_tensor
    from dcgan_eval.studies import turn as study

    check_out(out)
    if picture is not None:
        check_picture(picture, "--picture")
    if sheet is not None:
        check_sheet(sheet, num)
    if (start is None or end is None) and (sheet is None or start is not None):
        raise InputError("FROM and TO are wanted, as in 3,17,40,8 5,6,21,30; --sheet draws the numbered samples")
    chosen = choose_device(device)
    model = open_model(checkpoint, label, seed, chosen)
    if start is None or end is None:
        assert sheet is not None
        draw_sheet(model, num, seed, sheet)
        return
    ends = [[word.strip() for word in text.split("&" if data or is_named(text) else ",")] for text in (start, end)]
    if data or any(map(is_named, (start, end))):
        attributes = attributes_of(model, checkpoint, data, features, num, seed, data_root, download)
        groups = study.named(model, ends[0], ends[1], attributes, num, seed, by)
    else:
        numbers = []
        for name, words in (("FROM", ends[0]), ("TO", ends[1])):
            if not all(word.isascii() and word.isdigit() for word in words):
                raise InputError(f"{name} {','.join(words)!r}: want numbers of samples, as in 3,17,40,8")
            numbers.append([int(word) for word in words])
        samples = from_tensor(model.samples(num, seed), name=f"{num} samples of {model.name}")
        judge = judge_of(model, checkpoint, features, seed, download, samples)
        groups = study.numbered(model, numbers[0], numbers[1], num, seed, judge)
    found = study.turn(
        model,
        groups,
        by=by,
        num=num,
        starts=starts,
        steps=steps,
        seed=seed,
        command=results.command(context.obj),
    )
    if sheet is not None:
        draw_sheet(model, num, seed, sheet)
    conclude(found.rows, out, format, picture, lambda: study.picture(found, model))
