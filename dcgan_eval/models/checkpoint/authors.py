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


REPOSITORY = "the authors' repository, Newmu/dcgan_code on GitHub, has them in its folder models"


def _files(listing: Path) -> list[Path]:
    """The arrays that belong beside a .jl, in their order, whether they are there or not: the .jl itself says, to a
    text search, how many there must be."""
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
    return [
        present.get(index, listing.with_name(f"{listing.name}_{index:02d}.npy")) for index in range(1, max(needed) + 1)
    ]


def _names(files: list[Path]) -> str:
    """Of files of one folder, the first with its path."""
    return ", ".join([str(files[0]), *(file.name for file in files[1:])])


def read_arrays(files: list[Path]) -> list[tuple[Path, np.ndarray[Any, Any]]]:
    """Each file with its float32 array. Raises InputError for what is none, or is damaged."""
    arrays = []
    for file in files:
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


def fill_from(network: Generator | Discriminator, arrays: list[tuple[Path, np.ndarray[Any, Any]]]) -> None:
    """Set a network's parameters from arrays in their order; its BatchNorm statistics are left to be re-estimated."""
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
    files: dict[str, list[Path]] = {}
    for listing in listings:
        kind = next((kind for kind, suffix in SUFFIX.items() if listing.name.endswith(suffix)), None)
        if kind is None:
            raise InputError(f"{listing}: the authors' names end in {' or '.join(SUFFIX.values())}")
        files[kind] = _files(listing)
    if absent := [file for some in files.values() for file in some if not file.is_file()]:
        counts = " and ".join(f"01 to {len(some):02d} of the {kind}" for kind, some in files.items())
        raise InputError(f"{_names(absent)}: absent; the checkpoint needs arrays {counts}; {REPOSITORY}")
    arrays = {kind: read_arrays(some) for kind, some in files.items()}
    shapes = {kind: [array.shape for _, array in found] for kind, found in arrays.items()}
    for architecture in PRESETS.values():
        generator = Generator(architecture, "meta") if "generator" in arrays else None
        discriminator = Discriminator(architecture, "meta") if "discriminator" in arrays else None
        networks = networks_of(generator, discriminator)
        expected = {kind: _shapes(network) for kind, network in networks.items()}
        if expected == shapes:
            for kind, network in networks.items():
                fill_from(network, arrays[kind])
            return checkpoint_of(architecture, generator, discriminator, "authors")
        for kind, found in shapes.items():
            if found != expected[kind] and found == expected[kind][: len(found)]:
                last, count = arrays[kind][-1][0], len(expected[kind])
                absent = [last.with_name(f"{last.name[:-6]}{i:02d}.npy") for i in range(len(found) + 1, count + 1)]
                what = f"this {kind} has {count} arrays, found {len(found)}"
                raise InputError(f"{_names(absent)}: absent; {what}; {REPOSITORY}")
    seen = "; ".join(f"{kind} {' '.join(map(str, found))}" for kind, found in shapes.items())
    raise InputError(f"{listings[0]}: arrays of these shapes fit no preset ({', '.join(PRESETS)}): {seen}")
