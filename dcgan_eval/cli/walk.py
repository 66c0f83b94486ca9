"""The command `dcgan-eval walk`."""

from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import (
    Figure,
    GeneratorCheckpoint,
    Label,
    OtherDiscriminator,
    begin,
    check_file,
    check_picture,
    check_results,
    conclude,
    note,
    open_model,
)
from dcgan_eval.options import DataOptions, DeviceOptions, OutputOptions, WalkOptions
from dcgan_eval.runtime.errors import InputError


@command
def walk(
    context: typer.Context,
    checkpoint: GeneratorCheckpoint,
    picture: Figure = None,
    animation: Annotated[
        Path | None,
        typer.Option(help="Animation of the interpolation to write (.webp or .gif), forwards and backwards."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Images to interpolate between, in place of random z; latent inversion finds their z."),
    ] = None,
    discriminator: OtherDiscriminator = None,
    label: Label = None,
    *,
    options: WalkOptions,
    device: DeviceOptions,
    where: DataOptions,
    output: OutputOptions,
) -> None:
    """Interpolate in the latent space and measure how smooth it is.

    For comparison, the pixels of both ends are interpolated, too.
    """
    from dcgan_eval import figures
    from dcgan_eval.images import fitted, open_split
    from dcgan_eval.runtime.files import write_whole
    from dcgan_eval.studies import walk as study

    check_results(output.results)
    if picture is not None:
        check_picture(picture, "--picture")
    kind = None if animation is None else animation.suffix.lower().removeprefix(".")
    if animation is not None:
        check_file(animation, "--animation")
        if kind not in ("webp", "gif"):
            raise InputError(f"--animation {animation}: an animation's name ends in .webp or .gif")
    model = open_model(checkpoint, label, options.seed, begin(context, device), discriminator)
    if images is None and not model.has_discriminator:
        if picture is None and animation is None:
            raise InputError(f"{checkpoint}: holds no discriminator to measure with; name one by --discriminator")
        note(f"{checkpoint}: holds no discriminator to measure with: the pictures alone")
    a = model.architecture
    given = None
    if images is not None:
        given = open_split(images, root=where.data_root, download=where.download)
        given = fitted(given, (a.image_channels, a.image_size, a.image_size))[0]
        if given.n < 2:
            raise InputError(f"--images {images}: holds {given.n} images; a walk goes between 2 at least")
    found = study.walk(model, options, given)
    if animation is not None and kind is not None:
        write_whole(animation, figures.animation(list(study.frames(found)), kind))  # type: ignore[arg-type]
    conclude(found.rows, output, picture, lambda: study.picture(found, model, options.path))
