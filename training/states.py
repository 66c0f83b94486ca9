"""All that a run is made of at one step, and its files."""

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from dcgan_eval.images import Images
from dcgan_eval.models.networks import Discriminator, Generator, initialise, set_batchnorm_mode
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole
from dcgan_eval.runtime.random import stream
from training.config import TrainConfig

HEADER = "dcgan_eval_training"
VERSION = 1
MOMENTS = ("exp_avg", "exp_avg_sq")
Network = TypeVar("Network", Generator, Discriminator)
NAME = re.compile(r"state-\d{9}\.safetensors")


@dataclass
class State:
    """Networks, averages and optimisers after `step` minibatches. Random numbers are functions of seed and step."""

    config: TrainConfig
    generator: Generator
    discriminator: Discriminator
    average: Generator | None
    average_d: Discriminator | None
    optimizers: dict[str, torch.optim.Adam]
    step: int = 0
    told: dict[str, list[Tensor]] = field(default_factory=dict)  # by steps since the last line of metrics

    @property
    def drawn_from(self) -> Generator:
        """The generator that is shown and exported: the average where there is one."""
        return self.average or self.generator

    @property
    def read_from(self) -> Discriminator:
        """The discriminator whose features are judged and exported: the average where there is one."""
        return self.average_d or self.discriminator

    @property
    def images(self) -> int:
        """Real images taken so far: the clock of a run."""
        return self.step * self.config.batch_size

    def modules(self) -> dict[str, nn.Module]:
        parts = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "average_d": self.average_d,
        }
        return {name: module for name, module in parts.items() if module is not None}


def create(config: TrainConfig, device: torch.device) -> State:
    """The state before the first step; equal configurations give equal weights on every device."""
    generator, discriminator = Generator(config.architecture), Discriminator(config.architecture)
    initialise(generator, stream(config.seed, "generator"))
    initialise(discriminator, stream(config.seed, "discriminator"))
    if config.spectral_norm:
        with torch.random.fork_rng(devices=[]):  # torch draws its first vectors from the global generator
            torch.default_generator.manual_seed(stream(config.seed, "spectral norm").initial_seed())
            for part in list(discriminator.modules()):
                if isinstance(part, nn.Linear | nn.Conv2d):
                    spectral_norm(part)
    for network in (generator, discriminator):
        network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.train()
    average = copy.deepcopy(generator) if config.ema else None
    average_d = copy.deepcopy(discriminator) if config.ema_d else None
    betas = (config.beta1, config.beta2)
    # what a recording of a GPU's kernels is to read anew at every step is a tensor there
    on_gpu = device.type == "cuda"
    optimizers = {
        name: torch.optim.Adam(
            network.parameters(),
            torch.tensor(lr, device=device) if on_gpu else lr,
            betas,
            weight_decay=config.weight_decay,
            fused=True,
            capturable=on_gpu,
        )
        for name, network, lr in (
            ("generator", generator, config.learning_rate_g),
            ("discriminator", discriminator, config.learning_rate_d),
        )
    }
    return State(config, generator, discriminator, average, average_d, optimizers)


@torch.no_grad()
def plain(network: Network) -> Network:
    """A copy for evaluation on the same device: spectral normalisation divided into the weights, statistics not shared
    between ranks, BatchNorm in mode "batch"."""
    device = next(network.parameters()).device
    copied = type(network)(network.architecture, device)
    copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval()  # in training, reading a spectrally normalised weight moves its singular vectors on
    for key, value in copied.state_dict().items():
        path, _, name = key.rpartition(".")
        value.copy_(getattr(network.get_submodule(path), name))
    network.train()
    set_batchnorm_mode(copied, "batch")
    return copied


def is_finite(state: State) -> bool:
    return all(bool(torch.isfinite(p).all()) for module in state.modules().values() for p in module.parameters())


def save(state: State, folder: Path, images: Images, keep: int) -> Path:
    """Write `state-STEP.safetensors` whole or not at all, then remove all but the last `keep`; OSError if it cannot."""
    arrays: dict[str, Tensor] = {}
    for name, part in state.modules().items():
        arrays |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            arrays |= {f"adam {name}.{index}.{key}": value for key, value in moments.items()}
    data = {"name": images.name, "n": images.n, "selection": images.selection, "sha256": images.sha256}
    header = {
        "version": VERSION,
        "step": state.step,
        "config": state.config.to_json_dict(),
        "data": data,
        "told": {name: torch.stack(values).tolist() for name, values in state.told.items()},
    }
    # safetensors stores plain row-major arrays
    content = safetensors_bytes(
        {key: value.detach().cpu().contiguous() for key, value in arrays.items()},
        {HEADER: json.dumps(header, sort_keys=True)},
    )
    path = folder / f"state-{state.step:09d}.safetensors"
    write_whole(path, content)
    for old in saved(folder)[:-keep]:
        old.unlink()
    return path


def saved(folder: Path) -> list[Path]:
    """The states in a folder, oldest first."""
    return sorted(path for path in folder.glob("state-*.safetensors") if NAME.fullmatch(path.name))


def read_header(path: Path) -> dict[str, Any]:
    """step, config, data and told of a saved state. InputError if it is damaged or of another version."""
    with _reading(path), safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {})[HEADER])
        if header["version"] != VERSION:
            raise InputError(f"{path}: of version {header['version']} of the format; this program reads {VERSION}")
        return {name: header[name] for name in ("step", "config", "data", "told")}


def restore(path: Path, config: TrainConfig, device: torch.device) -> State:
    """The state that `save` wrote, on the device. config: that of the header, but perhaps for `epochs`.

    Raises InputError if it is damaged.
    """
    header = read_header(path)
    with _reading(path), safe_open(path, framework="pt") as file:
        state = create(config, device)
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for name, part in state.modules().items():
            part.load_state_dict(_under(arrays, f"{name}."))
        for name, optimizer in state.optimizers.items():
            moments = _under(arrays, f"adam {name}.")
            if moments:  # there are none before the first update
                _restore_moments(optimizer, moments)
        state.step = int(header["step"])
        state.told = {k: list(torch.tensor(values, device=device).float()) for k, values in header["told"].items()}
        return state


def _restore_moments(optimizer: torch.optim.Adam, moments: dict[str, Tensor]) -> None:
    found: dict[int, dict[str, Tensor]] = {}
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        # laid out in memory as the parameter, which the fused kernel takes for granted
        found[index] = {k: torch.empty_like(parameter).copy_(moments.pop(f"{index}.{k}")) for k in MOMENTS}
        found[index]["step"] = moments.pop(f"{index}.step")
    if moments:
        raise ValueError(f"unknown arrays {sorted(moments)[:3]}")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": found})


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes of its reader becomes an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"{path}: damaged, or no state of a run ({why}); remove it to go on from the one before"
        ) from error


def _under(arrays: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def learning_rates(config: TrainConfig, step: int, steps: int, per_epoch: int) -> dict[str, float]:
    """Of the two optimisers at a step: constant, then linearly to 0 over the last `decay_epochs`."""
    decay = config.decay_epochs * per_epoch
    factor = min(1.0, (steps - step) / decay) if decay else 1.0
    return {"generator": config.learning_rate_g * factor, "discriminator": config.learning_rate_d * factor}


def set_learning_rates(state: State, rates: Mapping[str, float]) -> None:
    """Of the optimisers by name, for the next update; on a GPU in place, where recorded kernels read them."""
    for name, rate in rates.items():
        group = state.optimizers[name].param_groups[0]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def total_steps(config: TrainConfig, per_epoch: int) -> int:
    """Minibatches of the whole run: the last epoch may be a part of one."""
    return max(1, math.ceil(config.epochs * per_epoch - 1e-6))  # 0.07 * 100 is a little more than 7
