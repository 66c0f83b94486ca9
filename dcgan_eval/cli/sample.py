"""The command `dcgan-eval sample`."""

from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.common import DeviceName, app, check_file, choose_device, note
from dcgan_eval.errors import InputError


@app.command()
def sample(
    checkpoint: Annotated[str, typer.Argument(help="Of a generator; any that `info` understands.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    num: Annotated[int, typer.Option(min=1, help="Samples; of a conditional generator the classes take turns.")] = 64,
    columns: Annotated[int | None, typer.Option(min=1, help="Of the grid. [default: 8, or one for each class]")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides the samples.")] = 0,
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
