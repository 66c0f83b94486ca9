"""The command `dcgan-eval turn`."""

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
    judge_of,
    open_model,
)
from dcgan_eval.options import DataOptions, DeviceOptions, OutputOptions, TurnOptions
from dcgan_eval.runtime.errors import InputError


@command
def turn(
    context: typer.Context,
    checkpoint: GeneratorCheckpoint,
    start: Annotated[
        str | None,
        typer.Argument(
            metavar="FROM",
            help="Group at the start: sample numbers as on --contact-sheet (3,17,40,8); or a class of --data, dark or "
            "bright (below or above the median brightness), or several of these joined by &.",
        ),
    ] = None,
    end: Annotated[str | None, typer.Argument(metavar="TO", help="Group at the end, in the same notation.")] = None,
    data: Data = None,
    features: JudgeFeatures = None,
    contact_sheet: ContactSheet = None,
    picture: Figure = None,
    label: Label = None,
    *,
    options: TurnOptions,
    device: DeviceOptions,
    where: DataOptions,
    output: OutputOptions,
) -> None:
    """Move samples along a latent direction, as in Figure 8.

    The direction leads from one group of samples to another. Measures how much the samples change along it, and whether
    the change is linear, and compares it with 199 random directions.
    """
    from dcgan_eval.images import from_tensor
    from dcgan_eval.studies import turn as study

    num, seed = options.num_samples, options.seed
    check_results(output.results)
    if picture is not None:
        check_picture(picture, "--picture")
    if contact_sheet is not None:
        check_sheet(contact_sheet, num)
    if (start is None or end is None) and (contact_sheet is None or start is not None):
        raise InputError(
            "FROM and TO are wanted, as in 3,17,40,8 5,6,21,30; --contact-sheet draws the numbered samples"
        )
    if (start is None or end is None) and (picture or output.results):
        raise InputError("--picture and --results: need FROM and TO; without, only --contact-sheet is written")
    model = open_model(checkpoint, label, seed, begin(context, device))
    if start is None or end is None:
        assert contact_sheet is not None
        draw_sheet(model, num, seed, contact_sheet)
        return
    ends = [[word.strip() for word in text.split("&" if data or is_named(text) else ",")] for text in (start, end)]
    if data or any(map(is_named, (start, end))):
        attributes = attributes_of(model, checkpoint, data, features, num, seed, where)
        groups = study.named(model, ends[0], ends[1], attributes, options)
    else:
        numbers = []
        for name, words in (("FROM", ends[0]), ("TO", ends[1])):
            if not all(word.isascii() and word.isdigit() for word in words):
                raise InputError(f"{name} {','.join(words)!r}: want numbers of samples, as in 3,17,40,8")
            numbers.append([int(word) for word in words])
        samples = from_tensor(model.samples(num, seed), name=f"{num} samples of {model.name}")
        judge = judge_of(model, checkpoint, features, seed, where.download, samples)
        groups = study.numbered(model, numbers[0], numbers[1], judge, options)
    found = study.turn(model, groups, options)
    if contact_sheet is not None:
        draw_sheet(model, num, seed, contact_sheet)
    conclude(found.rows, output, picture, lambda: study.picture(found, model))
