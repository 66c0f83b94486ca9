"""What a file of weights held, whatever its format, and how arrays become networks."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dcgan_eval.models.architecture import Architecture
from dcgan_eval.models.networks import Discriminator, Generator, has_statistics, set_batchnorm_mode
from dcgan_eval.options import BatchNormMode
from dcgan_eval.runtime.errors import InputError

Format = Literal["dcgan-eval", "authors", "pytorch-examples"]
# what the discriminators that the paper's authors released were trained on, by the SHA-256 of their first kernels
RELEASED = {
    "adc372ef60eae526eee192ca8231eea1fdb8d6189cc31217e2667d51a61183a1": "SVHN, without labels",
    "85b3fc1052c63b1007810d39a497f5c151022707d68e4dfcce63c4414ca2a397": "ImageNet, without labels",
}


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights held; at least one of the two networks is there, on the CPU, in evaluation.

    sha256: of the architecture and every array, whatever file and format they came from.
    metadata: what whoever saved it noted down, JSON values; empty for foreign formats.
    """

    architecture: Architecture
    generator: Generator | None
    discriminator: Discriminator | None
    format: Format
    sha256: str
    metadata: dict[str, Any]

    @property
    def has_statistics(self) -> bool:
        """Whether the BatchNorm statistics of every network here come from data; the authors' files hold none."""
        return all(has_statistics(network) for network in (self.generator, self.discriminator) if network is not None)

    @property
    def trained_on(self) -> str:
        """The images that the networks have seen, where whoever saved them noted it down, or the discriminator is one
        that the authors released; else 'unknown'."""
        if data := self.metadata.get("data"):
            return f"{data}, {'with' if self.architecture.n_classes else 'without'} labels"
        if self.discriminator is None:
            return "unknown"
        first = next(self.discriminator.parameters()).detach().numpy()
        return RELEASED.get(hashlib.sha256(first.tobytes()).hexdigest(), "unknown")

    @property
    def generator_batchnorm(self) -> BatchNormMode:
        """How the generator's BatchNorm is meant to run: "stored", or as the authors' by those of each "batch"."""
        return "stored" if self.generator is None or has_statistics(self.generator) else "batch"

    @property
    def discriminator_batchnorm(self) -> BatchNormMode:
        """How the discriminator's is: "stored", or "reestimated" from images first (`reestimate_batchnorm`)."""
        return "stored" if self.discriminator is None or has_statistics(self.discriminator) else "reestimated"


def networks_of(
    generator: Generator | None, discriminator: Discriminator | None
) -> dict[str, Generator | Discriminator]:
    both = {"generator": generator, "discriminator": discriminator}
    return {name: network for name, network in both.items() if network is not None}


def arrays_of(networks: dict[str, Generator | Discriminator]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }


def widened(array: Tensor) -> Tensor:
    return array.float() if array.dtype in (torch.bfloat16, torch.float16) else array


def digest(architecture: Architecture, arrays: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(architecture.to_json_dict(), sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name].numpy()
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def fill(network: Generator | Discriminator, arrays: dict[str, Tensor], where: str) -> None:
    """Gives a network made on "meta" its arrays, by state_dict key, if they are exactly those it needs."""
    expected = network.state_dict()
    absent, unknown = sorted(expected.keys() - arrays.keys()), sorted(arrays.keys() - expected.keys())
    if absent or unknown:
        raise InputError(f"{where}: {len(absent)} arrays absent {absent[:3]}, {len(unknown)} unknown {unknown[:3]}")
    for key, tensor in arrays.items():
        if tensor.shape != expected[key].shape or tensor.dtype != expected[key].dtype:
            raise InputError(
                f"{where}: array {key} is {tensor.dtype} {tuple(tensor.shape)}, "
                f"but the architecture needs {expected[key].dtype} {tuple(expected[key].shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{where}: array {key} holds values that are not finite; the training run has diverged")
    network.load_state_dict(arrays, assign=True)
    set_batchnorm_mode(network, "stored" if has_statistics(network) else "batch")


def checkpoint_of(
    architecture: Architecture,
    generator: Generator | None,
    discriminator: Discriminator | None,
    format: Format,
    metadata: dict[str, Any] | None = None,
) -> Checkpoint:
    sha256 = digest(architecture, arrays_of(networks_of(generator, discriminator)))
    return Checkpoint(architecture, generator, discriminator, format, sha256, metadata or {})


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
