"""The command `dcgan-eval sample`."""

from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.common import (
    DeviceName,
    GeneratorCheckpoint,
    Seed,
    app,
    check_file,
    choose_device,
    note,
)
from dcgan_eval.errors import InputError


@app.command()
def sample(
    checkpoint: GeneratorCheckpoint,
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    num: Annotated[
        int, typer.Option(min=1, help="Number of samples; a conditional generator cycles through its classes.")
    ] = 64,
    columns: Annotated[
        int | None, typer.Option(min=1, help="Number of columns of the grid. [default: 8, or one per class]")
    ] = None,
    seed: Seed = 0,
    device: DeviceName = "auto",
) -> None:
    """Draw a grid of samples."""
    from dcgan_eval import figures
    from dcgan_eval.files import write_whole
    from dcgan_eval.images import Images
    from dcgan_eval.specs import open_side

    check_file(out, "--out")
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: a grid of pixels is a .png")
    drawn = open_side(f"gen:{checkpoint}", num=num, seed=seed, device=choose_device(device))
    assert isinstance(drawn, Images)
    write_whole(out, figures.grid(drawn.tensor(), columns or len(drawn.classes) or 8))
    note(f"{out}: {num} samples of {drawn.name}, seed {seed}")
