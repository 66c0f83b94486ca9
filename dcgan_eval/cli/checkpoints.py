"""The commands `dcgan-eval info` and `convert`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.options import Format, Network, StoredPrecision
from dcgan_eval.runtime.errors import InputError


@command
def info(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Checkpoint: ours (.safetensors), the authors' (prefix or .jl), netG/netD (.pth), or digits."
        ),
    ],
    format: Annotated[Format, typer.Option(help="Output format.")] = "table",
) -> None:
    """Describe the networks of a checkpoint."""
    from dcgan_eval.models.checkpoint import describe, load
    from dcgan_eval.runtime.fast_ops import instruction_set

    described = describe(load(checkpoint))
    described["computed_with"] = {"instruction_set": instruction_set(), "precision": "float32"}
    if format == "csv":
        raise InputError("info prints a table or json, not csv")
    if format == "json":
        typer.echo(json.dumps(described, indent=2))
        return
    presets = ", ".join(described["presets"]) or "none of the presets"
    typer.echo(f"format        {described['format']}\nsha256        {described['sha256']}\narchitecture  {presets}")
    for name, value in described["architecture"].items():
        typer.echo(f"  {name:24} {value}")
    for network in ("generator", "discriminator"):
        part = described[network]
        if part is None:
            typer.echo(f"{network:13} absent")
            continue
        typer.echo(f"{network:13} {part['parameters']:,} parameters, BatchNorm {part['batchnorm']}")
        for layer in part["layers"]:
            weight, output = (" x ".join(map(str, layer[key])) for key in ("weight", "output"))
            typer.echo(f"  {layer['name']:10} weight {weight:24} output {output}")
    if described["features"]:
        per_layer = " + ".join(map(str, described["features"]["per_layer"]))
        grid = described["features"]["grid"]
        typer.echo(f"features      {described['features']['total']:,} = {per_layer}, pooled to {grid}x{grid}")
    typer.echo(f"computed with {instruction_set()}, float32")
    for key, value in described["metadata"].items():
        typer.echo(f"{key:13} {value}")


@command
def convert(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint to convert, in any format that `info` reads.")],
    out: Annotated[Path, typer.Argument(help="File to write (.safetensors).")],
    only: Annotated[Network | None, typer.Option(help="Network to keep. [default: both]")] = None,
    precision: Annotated[
        StoredPrecision, typer.Option(help="Precision of the stored arrays; 16 bits round them.")
    ] = "float32",
) -> None:
    """Rewrite a checkpoint into this project's format.

    Weights and BatchNorm statistics stay as they are.
    """
    import torch

    from dcgan_eval.models.checkpoint import convert

    converted = convert(checkpoint, out, only=only, dtype=getattr(torch, precision))
    typer.echo(f"{out}: sha256 {converted.sha256}")
