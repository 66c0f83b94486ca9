"""netG and netD of pytorch/examples' dcgan: a state_dict by torch.save, read with weights_only=True."""

import dataclasses
import re
from pathlib import Path

import torch
from torch import Tensor

from dcgan_eval.models.architecture import PRESETS
from dcgan_eval.models.checkpoint.contents import Checkpoint, checkpoint_of, fill, networks_of
from dcgan_eval.models.networks import Discriminator, Generator
from dcgan_eval.runtime.errors import InputError


def load_pytorch_examples(path: Path) -> Checkpoint:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged stream fails in as many ways as it has opcodes
        if match := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path}: holds a pickled {match[1]}, which is never opened; "
                "save the weights alone: torch.save(net.state_dict(), path)"
            ) from error
        raise InputError(f"{path}: truncated, or not a file of torch.save ({type(error).__name__})") from error
    if not isinstance(state, dict) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise InputError(f"{path}: not a state_dict; save the weights alone: torch.save(net.state_dict(), path)")
    # {3: {"weight": …}, …}: the position in nn.Sequential, whose activations have no entries
    positions: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        match = re.fullmatch(
            r"(?:module\.)?main\.(\d{1,4})\.(weight|bias|running_mean|running_var|num_batches_tracked)", str(key)
        )
        if match is None:
            raise InputError(f"{path}: {key!r} is not a key of pytorch/examples dcgan, main.N.weight and so on")
        positions.setdefault(int(match[1]), {})[match[2]] = tensor
    modules = [positions[position] for position in sorted(positions)]
    convs = [m["weight"] for m in modules if "weight" in m and m["weight"].ndim == 4]
    shapes = " ".join(str(tuple(conv.shape)) for conv in convs)
    if len(convs) < 3 or any(conv.shape[2:] != (4, 4) for conv in convs):
        raise InputError(
            f"{path}: needs three or more 4x4 kernels, as pytorch/examples dcgan has; found {shapes or 'none'}"
        )
    is_generator = "running_mean" in modules[1]
    if is_generator:
        channels = [conv.shape[1] for conv in convs[:-1]]
        z_dim, image_channels = convs[0].shape[0], convs[-1].shape[1]
    else:
        channels = [conv.shape[0] for conv in convs[:-1]][::-1]
        z_dim, image_channels = PRESETS["torch64"].z_dim, convs[0].shape[1]
    strides = (2,) * len(channels)
    try:
        # a file holds one network: the other is taken for its mirror, and z for the preset's
        architecture = dataclasses.replace(
            PRESETS["torch64"],
            image_size=4 << len(channels),
            image_channels=image_channels,
            z_dim=z_dim,
            generator_channels=tuple(channels),
            generator_strides=strides,
            discriminator_channels=tuple(channels[::-1]),
            discriminator_strides=strides,
        )
    except InputError as error:
        raise InputError(f"{path}: kernels {shapes}: {error}") from error
    # the 4x4 convolutions from 1x1 and to 1x1 are dense layers
    if is_generator:
        modules[0]["weight"] = convs[0].flatten(1).T.contiguous()
    else:
        modules[-1]["weight"] = convs[-1].flatten(1)
    generator = Generator(architecture, "meta") if is_generator else None
    discriminator = None if is_generator else Discriminator(architecture, "meta")
    for network in networks_of(generator, discriminator).values():
        names = list(dict.fromkeys(key.rpartition(".")[0] for key in network.state_dict()))
        if len(names) != len(modules):
            raise InputError(
                f"{path}: {len(modules)} layers hold weights where pytorch/examples dcgan has {len(names)}"
            )
        arrays = {}
        for name, module in zip(names, modules, strict=True):
            if "running_mean" in module:
                # files older than PyTorch 0.4.1 do not count batches
                module.setdefault("num_batches_tracked", torch.tensor(1))
            arrays.update({f"{name}.{key}": tensor for key, tensor in module.items()})
        fill(network, arrays, str(path))
    return checkpoint_of(architecture, generator, discriminator, "pytorch-examples")
