"""The command `dcgan-eval filters`."""

from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.common import (
    DataRoot,
    DeviceName,
    Download,
    Figure,
    Label,
    Out,
    Printed,
    Seed,
    app,
    check_out,
    check_picture,
    choose_device,
    conclude,
)
from dcgan_eval.errors import InputError


@app.command()
def filters(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="Discriminator checkpoint, in any format that `info` reads.")],
    data: Annotated[str, typer.Argument(help="Images to search for those that excite each filter most.")],
    picture: Figure = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer of the filters: conv1, conv2, …  [default: the last]")
    ] = None,
    chosen: Annotated[
        str, typer.Option("--filters", help="Numbers of the filters to show, separated by commas.")
    ] = "0,1,2,3,4,5",
    num: Annotated[int, typer.Option(min=1, help="Number of images drawn from the data.")] = 512,
    label: Label = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    data_root: DataRoot = Path("data"),
    download: Download = False,
    format: Printed = "table",
    out: Out = None,
) -> None:
    """Show what excites a discriminator's filters, by guided backpropagation, beside a network of random weights."""
    import torch

    from dcgan_eval import results
    from dcgan_eval.images import fitted, open_split
    from dcgan_eval.specs import open_discriminator
    from dcgan_eval.streams import stream
    from dcgan_eval.studies import filters as study

    check_out(out)
    if picture is not None:
        check_picture(picture, "--picture")
    words = [word.strip() for word in chosen.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise InputError(f"--filters {chosen!r}: want numbers of filters separated by commas, as in 0,1,2")
    found, name = open_discriminator(checkpoint)
    assert found.discriminator is not None
    a = found.architecture
    images = open_split(data, root=data_root, download=download)
    some = torch.randperm(images.n, generator=stream(seed, "images"))[:num]
    ready = fitted(images.subset(some), (a.image_channels, a.image_size, a.image_size))[0]
    seen = study.filters(
        found.discriminator,
        ready,
        name=name,
        sha256=found.sha256,
        layer=layer,
        chosen=[int(word) for word in words],
        y=label,
        seed=seed,
        device=choose_device(device),
        command=results.command(context.obj),
    )
    conclude(seen.rows, out, format, picture, lambda: study.picture(seen, name))
