"""The command `dcgan-eval table3`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.common import (
    DataRoot,
    DeviceName,
    Download,
    Out,
    Printed,
    Seed,
    app,
    check_file,
    check_out,
    check_picture,
    choose_device,
    show,
    splits,
)


@app.command()
def table3(
    context: typer.Context,
    generator: Annotated[
        str, typer.Option(help="Checkpoint of a conditional generator, as `python -m training mnist28` makes.")
    ],
    data: Annotated[str, typer.Option(help="Labelled images with the splits train and test.")] = "MNIST",
    num: Annotated[
        int, typer.Option(min=1, help="Largest number of samples to search; the paper's is 10,000,000.")
    ] = 1_000_000,
    state: Annotated[
        Path | None, typer.Option(help="File to save the search to every minute, and to resume it from.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Figure of the error by the number of images to write (.png, .svg or .pdf).")
    ] = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
    data_root: DataRoot = Path("data"),
    download: Download = False,
    format: Printed = "table",
    out: Out = None,
) -> None:
    """Classify test digits by the nearest of more and more generated digits, and of real ones."""
    from dcgan_eval import results
    from dcgan_eval import table3 as table
    from dcgan_eval.images import Images
    from dcgan_eval.specs import open_side

    chosen = choose_device(device)
    check_out(out)
    if picture is not None:
        check_picture(picture, "--picture")
    if state is not None:
        check_file(state, "--state")
    generated = open_side(f"gen:{generator}", num=num, seed=seed, device=chosen)
    assert isinstance(generated, Images)
    sets = splits(data, None, None, data_root, download)
    rows = list(
        table.table3(
            sets["test"],
            sets["train"],
            generated,
            seed=seed,
            state=state,
            device=chosen,
            progress=sys.stderr.isatty(),
            command=results.command(context.obj),
        )
    )
    if picture is not None:
        table.picture(rows).save(picture)
    if out is not None:
        results.append(out, rows)
    show(rows, format)
