"""Networks made ready to be studied: what an image is depends on its z alone, not on what is drawn beside it."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dcgan_eval.images import BLOCK
from dcgan_eval.models.architecture import Architecture
from dcgan_eval.models.checkpoint import Checkpoint
from dcgan_eval.models.networks import (
    Discriminator,
    Generator,
    has_statistics,
    reestimate_batchnorm,
    sample_z,
    set_batchnorm_mode,
    to_uint8,
)
from dcgan_eval.models.sampling import latents
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.run import HERE, Run

STATISTICS = 10  # batches of `BLOCK` z
AT_ONCE = 64  # images; a network's memory is bounded by it


@dataclass(frozen=True, eq=False)
class Model:
    """A generator in evaluation on the run's device, with fixed BatchNorm statistics.

    checkpoint: what it came from. name: as reports print it. judge, judge_name: the same of the discriminator, if it
    holds one. label: the class that a conditional generator draws. seed: of BatchNorm statistics. protocol: how
    BatchNorm came by them, and the label.
    """

    checkpoint: Checkpoint
    name: str
    judge: Checkpoint
    judge_name: str
    generator: Generator
    label: int | None
    seed: int
    run: Run
    protocol: str

    @property
    def device(self) -> torch.device:
        return torch.device(self.run.device)

    @property
    def architecture(self) -> Architecture:
        return self.generator.architecture

    def y(self, n: int) -> Tensor | None:
        """The label of each of n images, as the networks take it: int64 (n,), or None."""
        return labels(n, self.label, self.device)

    @exact()
    def paint(self, z: Tensor) -> Tensor:
        """z (n, z_dim) → images as the generator draws them, float32 (n, C, H, W) on the device."""
        with torch.inference_mode():
            return torch.cat(
                [self.generator(some.to(self.device), self.y(len(some))) for some in torch.split(z, AT_ONCE)]
            )

    def draw(self, z: Tensor) -> Tensor:
        """z (n, z_dim) → images, uint8 (n, C, H, W) on the CPU."""
        painted = self.paint(z)
        if not bool(painted.isfinite().all()):  # which would be black pixels
            raise InputError(f"{self.name}: draws values that are not finite; its weights have diverged")
        return to_uint8(painted, self.architecture).cpu()

    def samples(self, n: int, seed: int) -> Tensor:
        """The images of `z`, uint8 (n, C, H, W) on the CPU; drawn once, for whatever asks for the same again."""
        if (n, seed) not in self._drawn:
            self._drawn[n, seed] = self.draw(self.z(n, seed))
        return self._drawn[n, seed]

    @cached_property
    def _drawn(self) -> dict[tuple[int, int], Tensor]:
        return {}

    def z(self, n: int, seed: int) -> Tensor:
        """The z of the first n samples of a seed, float32 (n, z_dim); those of `dcgan-eval sample`."""
        return latents(self.architecture, n, seed)

    @cached_property
    def discriminator(self) -> Discriminator:
        """That of `judge`, ready as the generator is; statistics that it lacks are those of what the generator draws.

        Raises InputError where there is none.
        """
        if self.judge.discriminator is None:
            raise InputError(
                f"{self.name}: holds a generator only, and this is measured in features of its discriminator; "
                "name one by `discriminator`"
            )
        network = copy.deepcopy(self.judge.discriminator).to(self.device).requires_grad_(False)
        if has_statistics(network):
            set_batchnorm_mode(network, "stored")
        else:
            reestimate_batchnorm(
                network, ((self.paint(z), self.y(len(z))) for z in _batches(self.architecture, self.seed))
            )
        return network

    @property
    def fields(self) -> dict[str, Any]:
        """What a row of results says of it."""
        return {
            "model": self.name,
            "model_sha256": self.checkpoint.sha256,
            "networks": self.protocol,
            "run": self.run,
        }

    @property
    def has_discriminator(self) -> bool:
        return self.judge.discriminator is not None


@exact()
def ready(
    checkpoint: Checkpoint,
    run: Run = HERE,
    *,
    name: str,
    judge: Checkpoint | None = None,
    judge_name: str = "",
    label: int | None = None,
    seed: int = 0,
) -> Model:
    """A copy of a checkpoint's generator, ready to be studied in a run.

    judge: of another checkpoint the discriminator, for one that holds a generator only, as those of pytorch/examples.

    A network without BatchNorm statistics, as the authors' files, gets them from `STATISTICS` batches of z drawn by
    the seed, as the authors re-estimate their discriminator's. label: of a conditional generator. The checkpoint must
    hold a generator. Raises InputError for a label that does not fit, and a discriminator of other images.
    """
    assert checkpoint.generator is not None
    a = checkpoint.architecture
    if judge is None:
        judge, judge_name = checkpoint, f"disc:{name.removeprefix('gen:')}"
    else:
        b = judge.architecture
        for what in ("image_size", "image_channels", "n_classes", "value_range"):
            if getattr(a, what) != getattr(b, what):
                raise InputError(
                    f"{judge_name}: is of another {what}, {getattr(b, what)}, than {name}, {getattr(a, what)}"
                )
    _check_label(name, a.n_classes, label)
    generator = copy.deepcopy(checkpoint.generator).to(run.device).requires_grad_(False)
    protocol = "BatchNorm stored"
    if has_statistics(generator):
        set_batchnorm_mode(generator, "stored")
    else:
        y = labels(BLOCK, label, run.device)
        reestimate_batchnorm(generator, ((z.to(run.device), y) for z in _batches(a, seed)))
        protocol = f"BatchNorm of {STATISTICS} x {BLOCK} z"
    protocol += "" if label is None else f"; label {label}"
    return Model(checkpoint, name, judge, judge_name, generator, label, seed, run, protocol)


def _batches(architecture: Architecture, seed: int) -> Iterator[Tensor]:
    for i in range(STATISTICS):
        yield sample_z(architecture, BLOCK, stream(seed, "statistics", i))


def labels(n: int, label: int | None, device: torch.device | str) -> Tensor | None:
    """The label of each of n images, as a network takes it: int64 (n,), or None where it takes none."""
    return None if label is None else torch.full((n,), label, device=device)


def _check_label(name: str, n_classes: int, label: int | None) -> None:
    known = f"0 to {n_classes - 1}"
    if n_classes and label is None:
        raise InputError(f"{name}: is conditional; say by `label` which of its classes, {known}, it shall draw")
    if not n_classes and label is not None:
        raise InputError(f"{name}: `label` {label}: the generator is unconditional and takes none; leave it out")
    if label is not None and not 0 <= label < n_classes:
        raise InputError(f"{name}: `label` {label}: its classes are {known}")


def apart(x: Tensor, y: Tensor) -> Tensor:
    """Root mean square of the difference of images (n, C, H, W), in their own units, float64 (n,)."""
    return (x.double() - y.double()).square().flatten(1).mean(1).sqrt()


def layer_names(network: nn.Module) -> list[str]:
    """Of a discriminator: conv1, …; of a generator, from z on: dense1 (where it has one), project, conv1, …"""
    if isinstance(network, Generator):
        hidden = ["dense1"] if network.architecture.hidden_width else []
        return [*hidden, "project", *(f"conv{i + 1}" for i in range(len(network.architecture.generator_channels)))]
    assert isinstance(network, Discriminator)
    return [f"conv{i + 1}" for i in range(len(network.convs))]
