"""The command `dcgan-eval walk`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.common import (
    DataRoot,
    DeviceName,
    Download,
    Figure,
    GeneratorCheckpoint,
    Label,
    OtherDiscriminator,
    Out,
    Printed,
    Seed,
    app,
    check_file,
    check_out,
    check_picture,
    choose_device,
    conclude,
    note,
    open_model,
)
from dcgan_eval.errors import InputError
from dcgan_eval.options import Interpolation


@app.command()
def walk(
    context: typer.Context,
    checkpoint: GeneratorCheckpoint,
    picture: Figure = None,
    animation: Annotated[
        Path | None,
        typer.Option(help="Animation of the interpolation to write (.webp or .gif), forwards and backwards."),
    ] = None,
    num: Annotated[int, typer.Option(min=2, help="Number of latent vectors z to interpolate between.")] = 9,
    steps: Annotated[int, typer.Option(min=2, help="Number of images from one z to the next, both ends included.")] = 8,
    path: Annotated[
        Interpolation, typer.Option(help="Interpolation shown in the figure; both are measured.")
    ] = "straight",
    images: Annotated[
        str | None, typer.Option(help="Images to interpolate between instead; latent inversion finds their z.")
    ] = None,
    optimise: Annotated[int, typer.Option(min=1, help="Number of latent inversion steps.")] = 200,
    pairs: Annotated[int, typer.Option(min=2, help="Number of pairs of z that the reported means are over.")] = 16,
    discriminator: OtherDiscriminator = None,
    label: Label = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    data_root: DataRoot = Path("data"),
    download: Download = False,
    format: Printed = "table",
    out: Out = None,
) -> None:
    """Interpolate between points of the latent space, and measure how smooth the path is, beside blended pixels."""
    from dcgan_eval import figures, results
    from dcgan_eval.files import write_whole
    from dcgan_eval.images import fitted, open_split
    from dcgan_eval.studies import walk as study

    check_out(out)
    if picture is not None:
        check_picture(picture, "--picture")
    kind = None if animation is None else animation.suffix.lower().removeprefix(".")
    if animation is not None:
        check_file(animation, "--animation")
        if kind not in ("webp", "gif"):
            raise InputError(f"--animation {animation}: an animation's name ends in .webp or .gif")
    model = open_model(checkpoint, label, seed, choose_device(device), discriminator)
    if images is None and not model.has_discriminator:
        if picture is None and animation is None:
            raise InputError(f"{checkpoint}: holds no discriminator to measure with; name one by --discriminator")
        note(f"{checkpoint}: holds no discriminator to measure with: the pictures alone")
    a = model.architecture
    given = None
    if images is not None:
        given = open_split(images, root=data_root, download=download)
        given = fitted(given, (a.image_channels, a.image_size, a.image_size))[0]
        if given.n < 2:
            raise InputError(f"--images {images}: holds {given.n} images; a walk goes between 2 at least")
    found = study.walk(
        model,
        num=num,
        steps=steps,
        path=path,
        pairs=pairs,
        images=given,
        optimise=optimise,
        seed=seed,
        progress=sys.stderr.isatty(),
        command=results.command(context.obj),
    )
    if animation is not None and kind is not None:
        write_whole(animation, figures.animation(list(study.frames(found)), kind))  # type: ignore[arg-type]
    conclude(found.rows, out, format, picture, lambda: study.picture(found, model, path))
