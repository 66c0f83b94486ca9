"""The files that the paper's authors released: a .jl, which is never opened, with .npy arrays beside it.

The .jl is a pickle. It is only searched, as text, for the names of its arrays; they are read with allow_pickle=False.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dcgan_eval.models.architecture import PRESETS
from dcgan_eval.models.checkpoint.contents import Checkpoint, checkpoint_of, fill, networks_of, one_line
from dcgan_eval.models.networks import Discriminator, Generator
from dcgan_eval.runtime.errors import InputError

SUFFIX = {"generator": "_gen_params.jl", "discriminator": "_discrim_params.jl"}


def arrays_beside(listing: Path) -> dict[int, Path]:
    pattern = re.compile(re.escape(listing.name) + r"_(\d{2,4})\.npy")
    folder = listing.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    found = {int(match[1]): folder / name for name in names if (match := pattern.fullmatch(name))}
    return {index: file for index, file in found.items() if index > 0}


def _read(listing: Path) -> list[tuple[Path, np.ndarray[Any, Any]]]:
    """The arrays beside a .jl in their order; the .jl itself says, to a text search, how many there must be."""
    present = arrays_beside(listing)
    if listing.is_file():
        needed = {int(match) for match in re.findall(rb"_(\d{2,4})\.npy", listing.read_bytes())} - {0}
        if not needed:
            raise InputError(
                f"{listing}: lists no .npy files; its arrays are inside the pickle, which is never opened: "
                f"save each with numpy.save as {listing.name}_01.npy, _02.npy, … in the order of the parameters"
            )
    elif present:
        needed = set(present)
    else:
        raise InputError(f"{listing}: no such file, and no {listing.name}_01.npy beside it")
    arrays = []
    for index in range(1, max(needed) + 1):
        file = listing.with_name(f"{listing.name}_{index:02d}.npy")
        if index not in present:
            raise InputError(f"{file}: absent; {listing.name} needs its arrays 01 to {max(needed):02d} beside it")
        try:
            with file.open("rb") as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False)
        except (ValueError, EOFError, OSError, MemoryError) as error:
            raise InputError(f"{file}: truncated, or not a plain .npy array ({one_line(error)})") from error
        if array.dtype != np.float32:
            raise InputError(f"{file}: holds {array.dtype}, not a float32 array")
        if not np.isfinite(array).all():
            raise InputError(f"{file}: holds values that are not finite; the file or the training run is damaged")
        arrays.append((file, array))
    return arrays


def _shapes(network: Generator | Discriminator) -> list[tuple[int, ...]]:
    # a layer's weight, BatchNorm gain and bias, then the next layer's: parameters() goes in the authors' order
    return [tuple(p.shape[::-1]) if p.ndim == 2 else tuple(p.shape) for p in network.parameters()]


def _fill_from(network: Generator | Discriminator, arrays: list[tuple[Path, np.ndarray[Any, Any]]]) -> None:
    state = {}
    for (name, _), (_, array) in zip(network.named_parameters(), arrays, strict=True):
        if array.ndim == 4:
            # Theano's dnn_conv and its gradient flip kernels, PyTorch's do not; both order (in, out) the same way
            array = array[:, :, ::-1, ::-1]
        elif array.ndim == 2:
            array = array.T
        state[name] = torch.from_numpy(np.ascontiguousarray(array))
    for name, buffer in network.named_buffers():
        initial = torch.ones if name.endswith("running_var") else torch.zeros
        state[name] = initial(buffer.shape, dtype=buffer.dtype)
    fill(network, state, str(arrays[0][0].parent))


def load_authors(listings: list[Path]) -> Checkpoint:
    arrays: dict[str, list[tuple[Path, np.ndarray[Any, Any]]]] = {}
    for listing in listings:
        kind = next((kind for kind, suffix in SUFFIX.items() if listing.name.endswith(suffix)), None)
        if kind is None:
            raise InputError(f"{listing}: the authors' names end in {' or '.join(SUFFIX.values())}")
        arrays[kind] = _read(listing)
    shapes = {kind: [array.shape for _, array in found] for kind, found in arrays.items()}
    for architecture in PRESETS.values():
        generator = Generator(architecture, "meta") if "generator" in arrays else None
        discriminator = Discriminator(architecture, "meta") if "discriminator" in arrays else None
        networks = networks_of(generator, discriminator)
        expected = {kind: _shapes(network) for kind, network in networks.items()}
        if expected == shapes:
            for kind, network in networks.items():
                _fill_from(network, arrays[kind])
            return checkpoint_of(architecture, generator, discriminator, "authors")
        for kind, found in shapes.items():
            if found != expected[kind] and found == expected[kind][: len(found)]:
                last = arrays[kind][-1][0]
                file = last.with_name(f"{last.name[:-6]}{len(found) + 1:02d}.npy")
                raise InputError(f"{file}: absent; this {kind} has {len(expected[kind])} arrays, found {len(found)}")
    seen = "; ".join(f"{kind} {' '.join(map(str, found))}" for kind, found in shapes.items())
    raise InputError(f"{listings[0]}: arrays of these shapes fit no preset ({', '.join(PRESETS)}): {seen}")
