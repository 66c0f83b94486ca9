"""The command `dcgan-eval sample`."""

from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import GeneratorCheckpoint, begin, check_file, note
from dcgan_eval.options import DeviceOptions, Seed
from dcgan_eval.runtime.errors import InputError


@command
def sample(
    context: typer.Context,
    checkpoint: GeneratorCheckpoint,
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    num_samples: Annotated[
        int, typer.Option(min=1, help="Number of samples; a conditional generator cycles through its classes.")
    ] = 64,
    columns: Annotated[
        int | None, typer.Option(min=1, help="Number of columns of the grid. [default: 8, or one per class]")
    ] = None,
    seed: Seed = 0,
    *,
    device: DeviceOptions,
) -> None:
    """Draw a grid of samples."""
    from dcgan_eval import figures
    from dcgan_eval.images import Images
    from dcgan_eval.inputs import open_side
    from dcgan_eval.runtime.files import write_whole

    check_file(out, "--out")
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: a grid of pixels is a .png")
    run = begin(context, device)
    drawn = open_side(f"gen:{checkpoint}", num=num_samples, seed=seed, device=run.device)
    assert isinstance(drawn, Images)
    write_whole(out, figures.grid(drawn.tensor(), columns or len(drawn.classes) or 8))
    note(f"{out}: {num_samples} samples of {drawn.name}, seed {seed}")
