"""Where tensors are computed with."""

import torch

from dcgan_eval.runtime.errors import InputError, nearest

NAMES = ("auto", "cpu", "cuda", "mps")


def with_float64(device: torch.device | str) -> torch.device:
    """The device, or the CPU in place of Apple's GPUs, which have no float64."""
    device = torch.device(device)
    return torch.device("cpu") if device.type == "mps" else device


def choose(name: str) -> str:
    """'cuda:1' of 'cuda:1', 'auto' being the first there is of cuda, mps and cpu. InputError for one that is absent."""
    kind, colon, index = name.partition(":")
    if kind not in NAMES or (colon and not (kind == "cuda" and index.isascii() and index.isdigit())):
        raise InputError(f"unknown device {name!r}{nearest(name, NAMES)}")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there[kind] or (index and int(index) >= torch.cuda.device_count()):
        raise InputError(f"device {name} is not available on this machine; use `device` auto")
    return name
