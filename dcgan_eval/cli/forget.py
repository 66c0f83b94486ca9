"""The command `dcgan-eval forget`."""

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
    OtherDiscriminator,
    Out,
    Printed,
    Seed,
    app,
    attributes_of,
    check_out,
    check_picture,
    choose_device,
    conclude,
    note,
    open_model,
)
from dcgan_eval.errors import InputError


@app.command()
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
    layer: Annotated[
        str | None, typer.Option(help="Layer of the generator. [default: the second-highest, as in the paper]")
    ] = None,
    picture: Figure = None,
    num: Num = 256,
    discriminator: OtherDiscriminator = None,
    label: Label = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    data_root: DataRoot = Path("data"),
    download: Download = False,
    format: Printed = "table",
    out: Out = None,
) -> None:
    """Ablate the generator's maps that draw an object, and measure how much of it is gone and what else changed."""
    from dcgan_eval import results
    from dcgan_eval.studies import forget as study

    check_out(out)
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
            raise InputError(f"{option} {value}: tells classes apart, and --boxes {boxes} needs none; leave it out")
    if samples is not None and not samples.absolute().parent.is_dir():
        raise InputError(f"--samples {samples}: the folder {samples.absolute().parent} does not exist")
    if samples is not None and samples.exists():
        raise InputError(f"--samples {samples}: exists already; name a folder to be made")
    chosen = choose_device(device)
    model = open_model(checkpoint, label, seed, chosen, discriminator)
    if layer is not None:
        study.check_layer(model.generator, layer)
    found = None if boxes is None else study.read_boxes(boxes, model.architecture.image_size, num)
    gone = None
    if what is not None:
        attributes = attributes_of(model, checkpoint, data, features, num, seed, data_root, download)
        gone = study.forget_class(
            model, what, attributes, layer=layer, num=num, seed=seed, command=results.command(context.obj)
        )
    elif found is not None:
        gone = study.forget_boxes(model, found, layer=layer, seed=seed, command=results.command(context.obj))
    if samples is not None:
        study.write_samples(model, num, seed, samples)
        note(f"{samples}: {num} samples of {model.name}, seed {seed}")
    if gone is not None:
        conclude(gone.rows, out, format, picture, lambda: study.picture(gone, model))
