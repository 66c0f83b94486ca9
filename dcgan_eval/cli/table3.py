"""The command `dcgan-eval table3`."""

from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import begin, check_file, check_picture, check_results, conclude
from dcgan_eval.options import DataOptions, DeviceOptions, OutputOptions, Seed


@command
def table3(
    context: typer.Context,
    generator: Annotated[
        str, typer.Option(help="Checkpoint of a conditional generator, as `python -m training mnist28` makes.")
    ],
    data: Annotated[str, typer.Option(help="Labelled images with the splits train and test.")] = "MNIST",
    num_samples: Annotated[
        int, typer.Option(min=1, help="Largest number of samples to search; the paper's is 10,000,000.")
    ] = 1_000_000,
    resume_from: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps the search, every minute: made if it does not exist, resumed from if it does."
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Figure of the error by the number of images to write (.png, .svg or .pdf).")
    ] = None,
    seed: Seed = 0,
    *,
    device: DeviceOptions,
    where: DataOptions,
    output: OutputOptions,
) -> None:
    """Classify test digits by the nearest generated digit (Table 3).

    Reports the error for growing numbers of generated digits and, for comparison, of real digits.
    """
    from dcgan_eval.evaluations import table3 as table
    from dcgan_eval.images import Images
    from dcgan_eval.inputs import open_labelled, open_side

    run = begin(context, device)
    check_results(output.results)
    if picture is not None:
        check_picture(picture, "--picture")
    if resume_from is not None:
        check_file(resume_from, "--resume-from")
    generated = open_side(f"gen:{generator}", num=num_samples, seed=seed, device=run.device)
    assert isinstance(generated, Images)
    sets = open_labelled(data, root=where.data_root, download=where.download)
    rows = list(table.table3(sets["test"], sets["train"], generated, run, seed=seed, resume_from=resume_from))
    conclude(rows, output, picture, lambda: table.picture(rows))
