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
    Format,
    Label,
    OtherDiscriminator,
    Out,
    Printed,
    Seed,
    WalkPath,
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


@app.command()
def walk(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="Of a generator; any that `info` understands.")],
    picture: Figure = None,
    animation: Annotated[Path | None, typer.Option(help=".webp or .gif of the walk, forth and back.")] = None,
    num: Annotated[int, typer.Option(min=2, help="z to walk between.")] = 9,
    steps: Annotated[int, typer.Option(min=2, help="Images from each z to the next, both included.")] = 8,
    path: Annotated[WalkPath, typer.Option(help="Of the picture; numbers are of both.")] = WalkPath.straight,
    images: Annotated[
        str | None, typer.Option(help="Walk between the first of these images instead, their z being searched for.")
    ] = None,
    optimise: Annotated[int, typer.Option(min=1, help="Steps of that search.")] = 200,
    pairs: Annotated[int, typer.Option(min=2, help="Of z, over which the numbers are means.")] = 16,
    discriminator: OtherDiscriminator = None,
    label: Label = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    data_root: DataRoot = Path("data"),
    download: Download = False,
    format: Printed = Format.table,
    out: Out = None,
) -> None:
    """Walk between points of the latent space, and measure how smooth the way is, beside blended pixels."""
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
        path=path.value,
        pairs=pairs,
        images=given,
        optimise=optimise,
        seed=seed,
        progress=sys.stderr.isatty(),
        command=results.command(context.obj),
    )
    if animation is not None and kind is not None:
        write_whole(animation, figures.animation(list(study.frames(found)), kind))  # type: ignore[arg-type]
    conclude(found.rows, out, format, picture, lambda: study.picture(found, model, path.value))
