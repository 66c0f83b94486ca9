"""Networks made ready to be studied: what an image is depends on its z alone, not on what is drawn beside it."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcgan_eval.checkpoint import Checkpoint
from dcgan_eval.errors import InputError
from dcgan_eval.images import BLOCK
from dcgan_eval.networks import (
    Architecture,
    Discriminator,
    Generator,
    has_statistics,
    reestimate_batchnorm,
    sample_z,
    set_batchnorm_mode,
    to_uint8,
)
from dcgan_eval.sampling import latents
from dcgan_eval.streams import stream

STATISTICS = 10  # batches of `BLOCK` z; of more, images hardly change
AT_ONCE = 64  # images; a network's memory is bounded by it


@dataclass(frozen=True, eq=False)
class Model:
    """A generator, and its discriminator if there is one, in evaluation on `device` with fixed BatchNorm statistics.

    name, sha256: of the checkpoint, as reports print them. label: the class that a conditional generator draws.
    protocol: how BatchNorm came by its statistics, and the label.
    """

    name: str
    sha256: str
    generator: Generator
    discriminator: Discriminator | None
    label: int | None
    device: torch.device
    protocol: str

    @property
    def architecture(self) -> Architecture:
        return self.generator.architecture

    def y(self, n: int) -> Tensor | None:
        """The label of each of n images, as the networks take it: int64 (n,), or None."""
        return None if self.label is None else torch.full((n,), self.label, device=self.device)

    def paint(self, z: Tensor) -> Tensor:
        """z (n, z_dim) → images as the generator draws them, float32 (n, C, H, W) on the device."""
        with torch.inference_mode():
            return _in_parts(lambda some: self.generator(some, self.y(len(some))), z.to(self.device))

    def draw(self, z: Tensor) -> Tensor:
        """z (n, z_dim) → images, uint8 (n, C, H, W) on the CPU."""
        return to_uint8(self.paint(z), self.architecture).cpu()

    def z(self, n: int, seed: int) -> Tensor:
        """The z of the first n samples of a seed, float32 (n, z_dim); those of `dcgan-eval sample`."""
        return latents(self.architecture, n, seed)

    def judge(self) -> Discriminator:
        """The discriminator. Raises InputError where the checkpoint holds none."""
        if self.discriminator is None:
            raise InputError(
                f"{self.name}: holds a generator only, and this is measured in features of its discriminator; "
                "give a checkpoint of both"
            )
        return self.discriminator


def ready(
    checkpoint: Checkpoint, *, name: str, label: int | None = None, seed: int = 0, device: torch.device | str = "cpu"
) -> Model:
    """Copies of a checkpoint's networks, ready to be studied.

    A network without BatchNorm statistics, as the authors' files, gets them from `STATISTICS` batches of z drawn by
    the seed, as the authors re-estimate their discriminator's; the discriminator sees what the generator draws of them.
    label: of a conditional generator. The checkpoint must hold a generator.
    Raises InputError for a label that does not fit.
    """
    assert checkpoint.generator is not None
    _check_label(name, checkpoint.architecture.n_classes, label)
    at = torch.device(device)
    generator = copy.deepcopy(checkpoint.generator).to(at)
    discriminator = None if checkpoint.discriminator is None else copy.deepcopy(checkpoint.discriminator).to(at)
    a = generator.architecture
    y = None if label is None else torch.full((BLOCK,), label, device=at)

    def batches() -> Iterator[Tensor]:
        for i in range(STATISTICS):
            yield sample_z(a, BLOCK, stream(seed, "statistics", i), at)

    taken = []
    if has_statistics(generator):
        set_batchnorm_mode(generator, "stored")
    else:
        reestimate_batchnorm(generator, ((z, y) for z in batches()))
        taken.append("generator's")
    if discriminator is not None and has_statistics(discriminator):
        set_batchnorm_mode(discriminator, "stored")
    elif discriminator is not None:
        with torch.no_grad():
            reestimate_batchnorm(discriminator, ((generator(z, y), y) for z in batches()))
        taken.append("discriminator's")
    for network in (generator, discriminator):
        if network is not None:
            network.requires_grad_(False)
    protocol = f"BatchNorm: the {' and '.join(taken)} of {STATISTICS} x {BLOCK} z" if taken else "BatchNorm stored"
    protocol += "" if label is None else f"; label {label}"
    return Model(name, checkpoint.sha256, generator, discriminator, label, at, protocol)


def _check_label(name: str, n_classes: int, label: int | None) -> None:
    known = f"0 to {n_classes - 1}"
    if n_classes and label is None:
        raise InputError(f"{name}: is conditional; say by --label which of its classes, {known}, it shall draw")
    if not n_classes and label is not None:
        raise InputError(f"{name}: --label {label}: the generator is unconditional and takes none; leave it out")
    if label is not None and not 0 <= label < n_classes:
        raise InputError(f"{name}: --label {label}: its classes are {known}")


def _in_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([function(part) for part in torch.split(x, AT_ONCE)])


def layer_names(network: nn.Module) -> list[str]:
    """Of a discriminator: conv1, …; of a generator, from z on: dense1 (where it has one), project, conv1, …"""
    if isinstance(network, Generator):
        hidden = ["dense1"] if network.architecture.hidden_width else []
        return [*hidden, "project", *(f"conv{i + 1}" for i in range(len(network.architecture.generator_channels)))]
    assert isinstance(network, Discriminator)
    return [f"conv{i + 1}" for i in range(len(network.convs))]
