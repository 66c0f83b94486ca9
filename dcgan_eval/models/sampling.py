"""Images of a generator, as a source like any other."""

import copy
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from dcgan_eval.images import BLOCK, Images, generated
from dcgan_eval.models.architecture import Architecture
from dcgan_eval.models.networks import Generator, has_statistics, sample_z, set_batchnorm_mode, to_uint8
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.random import stream


def samples(
    generator: Generator, n: int, *, seed: int, name: str, sha256: str, device: torch.device | str = "cpu"
) -> Images:
    """n images of a generator, drawn as they are read; image i depends on the seed and i, not on n or batches.

    A conditional generator draws its classes in turn, and they are the labels. BatchNorm uses the stored statistics; a
    network that has none, as the authors' files, those of each block of `BLOCK` images, which is how it was trained.
    name: what a report prints. sha256: of the checkpoint.
    """
    a = generator.architecture
    mode: Literal["stored", "batch"] = "stored" if has_statistics(generator) else "batch"
    network = copy.deepcopy(generator).to(device).eval()
    set_batchnorm_mode(network, mode)

    @exact()
    @torch.inference_mode()
    def sample(start: int, count: int) -> Tensor:
        z = _block(a, start, count, seed).to(device)
        y = torch.arange(start, start + count, device=device) % a.n_classes if a.n_classes else None
        drawn = network(z, y)
        if not bool(drawn.isfinite().all()):  # which would be black pixels
            raise InputError(f"{name}: draws values that are not finite; its weights have diverged")
        return to_uint8(drawn, a)

    shape = (a.image_channels, a.image_size, a.image_size)
    labels = torch.arange(n) % a.n_classes if a.n_classes else None
    if mode == "batch":
        name = f"{name} (BatchNorm of each {BLOCK})"
    drawn = generated(sample, n, name=name, sha256=sha256, shape=shape, labels=labels, classes=a.n_classes)
    return replace(drawn, selection=f"seed {seed}, {BLOCK}, {mode}")


def latents(architecture: Architecture, n: int, seed: int) -> Tensor:
    """The z of the first n of `samples` by that seed, float32 (n, z_dim) on the CPU."""
    return torch.cat([_block(architecture, start, BLOCK, seed) for start in range(0, max(n, 1), BLOCK)])[:n]


def _block(architecture: Architecture, start: int, count: int, seed: int) -> Tensor:
    return sample_z(architecture, count, stream(seed, "samples", start))
