"""The command `dcgan-eval filters`."""

from typing import Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import Figure, Label, begin, check_picture, check_results, conclude
from dcgan_eval.options import DataOptions, DeviceOptions, FiltersOptions, OutputOptions


@command
def filters(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="Discriminator checkpoint, in any format that `info` reads.")],
    data: Annotated[str, typer.Argument(help="Images to search for those that excite each filter most.")],
    picture: Figure = None,
    num_images: Annotated[int, typer.Option(min=1, help="Number of images drawn from the data.")] = 512,
    label: Label = None,
    *,
    options: FiltersOptions,
    device: DeviceOptions,
    where: DataOptions,
    output: OutputOptions,
) -> None:
    """Show what excites a discriminator's filters, as in Figure 5.

    Uses guided backpropagation; a network with random weights is shown for comparison.
    """
    import torch

    from dcgan_eval.images import fitted, open_split
    from dcgan_eval.inputs import open_discriminator
    from dcgan_eval.runtime.random import stream
    from dcgan_eval.studies import filters as study

    check_results(output.results)
    if picture is not None:
        check_picture(picture, "--picture")
    found, name = open_discriminator(checkpoint)
    assert found.discriminator is not None
    a = found.architecture
    images = open_split(data, root=where.data_root, download=where.download)
    some = torch.randperm(images.n, generator=stream(options.seed, "images"))[:num_images]
    ready = fitted(images.subset(some), (a.image_channels, a.image_size, a.image_size))[0]
    seen = study.filters(
        found.discriminator, ready, options, begin(context, device), name=name, sha256=found.sha256, y=label
    )
    conclude(seen.rows, output, picture, lambda: study.picture(seen, name))
