"""The command `dcgan-eval forget`."""

from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import (
    Data,
    Figure,
    GeneratorCheckpoint,
    JudgeFeatures,
    Label,
    OtherDiscriminator,
    attributes_of,
    begin,
    check_picture,
    check_results,
    conclude,
    note,
    open_model,
)
from dcgan_eval.options import DataOptions, DeviceOptions, ForgetOptions, OutputOptions
from dcgan_eval.runtime.errors import InputError


@command
def forget(
    context: typer.Context,
    checkpoint: GeneratorCheckpoint,
    what: Annotated[
        str | None, typer.Argument(help="Class of --data to ablate, or dark or bright. Not with --boxes.")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help='File of boxes around the object in samples: {"12": [[left, top, right, bottom], …]}, or COCO.'
        ),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="New folder to write the samples to (0000.png, …), to draw boxes on.")
    ] = None,
    data: Data = None,
    features: JudgeFeatures = None,
    picture: Figure = None,
    discriminator: OtherDiscriminator = None,
    label: Label = None,
    *,
    options: ForgetOptions,
    device: DeviceOptions,
    where: DataOptions,
    output: OutputOptions,
) -> None:
    """Ablate the generator's units that draw an object (Figure 6).

    Measures how much of the object is gone, and what else changed, and compares both with 199 random sets of units that
    change the images as much.
    """
    from dcgan_eval.studies import forget as study

    num, seed = options.num_samples, options.seed
    check_results(output.results)
    if picture is not None:
        check_picture(picture, "--picture")
    if samples is None and (what is None) == (boxes is None):
        raise InputError(
            "say what to forget: a class of --data (or dark, bright), or --boxes; --samples draws images for them"
        )
    if what is not None and boxes is not None:
        raise InputError(f"{what!r} and --boxes {boxes}: want one of the two")
    for option, value in (("--data", data), ("--features", features)):
        if boxes is not None and value is not None:
            raise InputError(f"{option} {value}: is for classes, and --boxes {boxes} needs none; leave it out")
    if samples is not None and not samples.absolute().parent.is_dir():
        raise InputError(f"--samples {samples}: the folder {samples.absolute().parent} does not exist")
    if samples is not None and samples.exists():
        raise InputError(f"--samples {samples}: exists already; name a folder to be made")
    if what is None and boxes is None and (picture or output.results):
        raise InputError("--picture and --results: are of an ablation; name a class of --data, or --boxes")
    model = open_model(checkpoint, label, seed, begin(context, device), discriminator)
    if options.layer is not None:
        study.check_layer(model.generator, options.layer)
    found = None if boxes is None else study.read_boxes(boxes, model.architecture.image_size, num)
    gone = None
    if what is not None:
        attributes = attributes_of(model, checkpoint, data, features, num, seed, where)
        gone = study.forget_class(model, what, attributes, options)
    elif found is not None:
        gone = study.forget_boxes(model, found, options)
    if samples is not None:
        study.write_samples(model, num, seed, samples)
        note(f"{samples}: {num} samples of {model.name}, seed {seed}")
    if gone is not None:
        conclude(gone.rows, output, picture, lambda: study.picture(gone, model))
