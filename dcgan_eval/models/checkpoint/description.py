"""What a checkpoint holds, in words and numbers."""

from typing import Any

import torch
from torch import Tensor

from dcgan_eval.models.architecture import PRESETS
from dcgan_eval.models.checkpoint.contents import Checkpoint
from dcgan_eval.models.networks import Discriminator, Generator, Layer


def describe(checkpoint: Checkpoint, grid: int = 4) -> dict[str, Any]:
    """What a checkpoint holds, as JSON values.

    features: for each of the discriminator's convolutions, the values after pooling its maps to grid by grid (maps
    smaller than that stay as they are), and their total; None without a discriminator.
    """
    architecture = checkpoint.architecture
    described: dict[str, Any] = {
        "format": checkpoint.format,
        "sha256": checkpoint.sha256,
        "presets": [name for name, known in PRESETS.items() if known == architecture],
        "architecture": architecture.to_json_dict(),
        "has_statistics": checkpoint.has_statistics,
        "generator": None,
        "discriminator": None,
        "features": None,
        "metadata": checkpoint.metadata,
    }
    if checkpoint.generator is not None:
        described["generator"] = {
            "parameters": sum(p.numel() for p in checkpoint.generator.parameters()),
            "batchnorm": checkpoint.generator_batchnorm,
            "layers": _layers(checkpoint.generator),
        }
    if checkpoint.discriminator is not None:
        described["discriminator"] = {
            "parameters": sum(p.numel() for p in checkpoint.discriminator.parameters()),
            "batchnorm": checkpoint.discriminator_batchnorm,
            "layers": _layers(checkpoint.discriminator),
        }
        per_layer = [
            channels * min(grid, side) ** 2
            for channels, side in zip(architecture.discriminator_channels, architecture.conv_sizes, strict=True)
        ]
        described["features"] = {"grid": grid, "per_layer": per_layer, "total": sum(per_layer)}
    return described


def _layers(network: Generator | Discriminator) -> list[dict[str, Any]]:
    a = network.architecture
    # on "meta" shapes are worked out and nothing else
    empty = type(network)(a, "meta").eval()
    rows: list[dict[str, Any]] = []

    def record(name: str) -> Any:
        def hook(layer: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            rows.append({"name": name, "weight": list(layer.linear.weight.shape), "output": list(output.shape[1:])})

        return hook

    for name, layer in empty.named_modules():
        if isinstance(layer, Layer):
            layer.register_forward_hook(record(name))
    shape = (1, a.z_dim) if isinstance(network, Generator) else (1, a.image_channels, a.image_size, a.image_size)
    empty(torch.empty(shape, device="meta"), torch.empty(1, dtype=torch.int64, device="meta") if a.n_classes else None)
    return rows
