"""Files of weights ↔ networks: ours (safetensors), the authors' (.jl with .npy beside), pytorch/examples' (.pth).

Nothing is unpickled: the authors' .jl is only scanned for the names of its arrays, .npy are read with
allow_pickle=False and .pth with weights_only=True.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from dcgan_eval.errors import InputError
from dcgan_eval.files import write_whole
from dcgan_eval.networks import (
    PRESETS,
    Architecture,
    Discriminator,
    Generator,
    Layer,
    has_statistics,
    set_batchnorm_mode,
)
from dcgan_eval.options import BatchNormMode

Format = Literal["dcgan-eval", "authors", "pytorch-examples"]

EMBEDDED = {"digits": Path(__file__).with_name("digits.safetensors")}  # by `python -m training digits`

_HEADER = "dcgan_eval"
_VERSION = 1
_AUTHORS_SUFFIX = {"generator": "_gen_params.jl", "discriminator": "_discrim_params.jl"}


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
    def generator_batchnorm(self) -> BatchNormMode:
        """How the generator's BatchNorm is meant to run: "stored", or as the authors' by those of each "batch"."""
        return "stored" if self.generator is None or has_statistics(self.generator) else "batch"

    @property
    def discriminator_batchnorm(self) -> BatchNormMode:
        """How the discriminator's is: "stored", or "reestimated" from images first (`reestimate_batchnorm`)."""
        return "stored" if self.discriminator is None or has_statistics(self.discriminator) else "reestimated"


def load(path: str | Path) -> Checkpoint:
    """Reads a checkpoint, whichever of the formats it is in.

    path: our `.safetensors`; the prefix of the authors' files (`authors-svhn/200` for `200_gen_params.jl_01.npy` and
    so on, both networks if both are there) or one of their `.jl`; a netG or netD `.pth` or `.pt` of pytorch/examples;
        or the name of one in `EMBEDDED`, which a file of that name goes before.
    A network with BatchNorm statistics comes in mode "stored", one without in mode "batch".
    Raises InputError, naming the file, for whatever is absent, damaged, not finite, or fits no known network.
    """
    try:
        path = EMBEDDED.get(str(path), Path(path)) if not Path(path).exists() else Path(path)
    except OSError as error:  # a name that is too long
        raise InputError(f"{str(path)[:60]}…: {error.strerror}") from error
    if path.name.endswith(".npy"):
        raise InputError(f"{path}: one array of a checkpoint; name the .jl or the prefix before _gen_params.jl")
    if path.suffix == ".jl":
        return _load_authors([path])
    if path.is_file():
        if path.suffix == ".safetensors":
            return _load_ours(path)
        if path.suffix in (".pth", ".pt"):
            return _load_pytorch(path)
        raise InputError(
            f"{path}: not a checkpoint; known are .safetensors, .pth, .pt, .jl and the prefix of .jl files"
        )
    listings = [path.with_name(path.name + suffix) for suffix in _AUTHORS_SUFFIX.values()] if path.name else []
    listings = [listing for listing in listings if listing.is_file() or _authors_arrays(listing)]
    if listings:
        return _load_authors(listings)
    if path.suffix in (".safetensors", ".pth", ".pt"):
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: a folder; name a checkpoint in it, or the prefix of one such as {path / '200'}")
    raise InputError(f"{path}: no such checkpoint, nor {path.name}_gen_params.jl or {path.name}_discrim_params.jl")


def save(
    path: str | Path,
    *,
    generator: Generator | None = None,
    discriminator: Discriminator | None = None,
    metadata: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Writes one `.safetensors` whose header holds the JSON that rebuilds the networks; returns the sha256 of content.

    The file appears whole or not at all, and equal content gives equal bytes. metadata: JSON values. dtype: of the
    arrays in the file, float32, bfloat16 or float16; `load` makes them float32 again, and the sha256 is of those.
    Raises InputError for no network, two of different architectures, or a path that cannot be written.
    """
    path = Path(path)
    networks = _networks(generator, discriminator)
    if not networks:
        raise InputError(f"{path}: no network to save")
    architecture = next(iter(networks.values())).architecture
    if any(network.architecture != architecture for network in networks.values()):
        raise InputError(f"{path}: generator and discriminator are of different architectures")
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a checkpoint's name must end in .safetensors")
    arrays = {k: v.to(dtype) if v.is_floating_point() else v for k, v in _arrays(networks).items()}
    sha256 = _digest(architecture, {key: _widened(array) for key, array in arrays.items()})
    header = {
        "version": _VERSION,
        "architecture": architecture.to_json_dict(),
        "sha256": sha256,
        "metadata": metadata or {},
    }
    # one key only: safetensors keeps its metadata in a hash map, whose order would differ from run to run
    content = safetensors_bytes(arrays, {_HEADER: json.dumps(header, sort_keys=True)})
    try:
        write_whole(path, content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    return sha256


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    only: Literal["generator", "discriminator"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Checkpoint:
    """Loads any checkpoint and saves it as ours. As both networks in float32 it is unchanged: the sha256 stays, and so
    does the lack of statistics. Raises InputError where the one network asked for is absent."""
    checkpoint = load(source)
    networks = _networks(checkpoint.generator, checkpoint.discriminator)
    if only is not None and only not in networks:
        raise InputError(f"{source}: holds no {only}")
    metadata = {"converted_from": checkpoint.format, **checkpoint.metadata}
    if dtype != torch.float32:
        metadata["stored_as"] = str(dtype).removeprefix("torch.")
    save(
        destination,
        generator=None if only == "discriminator" else checkpoint.generator,
        discriminator=None if only == "generator" else checkpoint.discriminator,
        metadata=metadata,
        dtype=dtype,
    )
    return load(destination)


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


# ours


def _networks(generator: Generator | None, discriminator: Discriminator | None) -> dict[str, Generator | Discriminator]:
    both = {"generator": generator, "discriminator": discriminator}
    return {name: network for name, network in both.items() if network is not None}


def _arrays(networks: dict[str, Generator | Discriminator]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }


def _widened(array: Tensor) -> Tensor:
    return array.float() if array.dtype in (torch.bfloat16, torch.float16) else array


def _digest(architecture: Architecture, arrays: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(architecture.to_json_dict(), sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name].numpy()
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _fill(network: Generator | Discriminator, arrays: dict[str, Tensor], where: str) -> None:
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


def _checkpoint(
    architecture: Architecture,
    generator: Generator | None,
    discriminator: Discriminator | None,
    format: Format,
    metadata: dict[str, Any] | None = None,
) -> Checkpoint:
    sha256 = _digest(architecture, _arrays(_networks(generator, discriminator)))
    return Checkpoint(architecture, generator, discriminator, format, sha256, metadata or {})


def _load_ours(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            # copies: the file's own memory map must not outlive a file that is replaced
            keys = file.keys() if header is not None else []
            arrays = {key: _widened(file.get_tensor(key).clone()) for key in keys}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: truncated, or not a safetensors file ({_one_line(error)})") from error
    if header is None:
        raise InputError(f"{path}: a safetensors file that this program did not write: its header has no {_HEADER!r}")
    try:
        fields = json.loads(header)
        version, values = fields["version"], fields["architecture"]
        sha256, metadata = fields["sha256"], dict(fields["metadata"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: the header's {_HEADER!r} cannot be read ({_one_line(error)})") from error
    if version != _VERSION:
        raise InputError(f"{path}: written in version {version!r} of the format; this program reads {_VERSION}")
    try:
        architecture = Architecture.from_json_dict(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in arrays.items():
        network, _, key = name.partition(".")
        parts.setdefault(network, {})[key] = tensor
    if not parts or parts.keys() - {"generator", "discriminator"}:
        raise InputError(f"{path}: holds arrays of {sorted(parts)}, not of a generator or a discriminator")
    generator = Generator(architecture, "meta") if "generator" in parts else None
    discriminator = Discriminator(architecture, "meta") if "discriminator" in parts else None
    for kind, module in _networks(generator, discriminator).items():
        _fill(module, parts[kind], f"{path}: {kind}")
    checkpoint = _checkpoint(architecture, generator, discriminator, "dcgan-eval", metadata)
    if checkpoint.sha256 != sha256:
        raise InputError(f"{path}: damaged: its arrays do not have the sha256 that its header states; copy it again")
    return checkpoint


# the authors'


def _authors_arrays(listing: Path) -> dict[int, Path]:
    pattern = re.compile(re.escape(listing.name) + r"_(\d{2,4})\.npy")
    folder = listing.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    found = {int(match[1]): folder / name for name in names if (match := pattern.fullmatch(name))}
    return {index: file for index, file in found.items() if index > 0}


def _read_authors(listing: Path) -> list[tuple[Path, np.ndarray[Any, Any]]]:
    """The arrays beside a .jl in their order; the .jl itself says, to a text search, how many there must be."""
    present = _authors_arrays(listing)
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
            raise InputError(f"{file}: truncated, or not a plain .npy array ({_one_line(error)})") from error
        if array.dtype != np.float32:
            raise InputError(f"{file}: holds {array.dtype}, not a float32 array")
        if not np.isfinite(array).all():
            raise InputError(f"{file}: holds values that are not finite; the file or the training run is damaged")
        arrays.append((file, array))
    return arrays


def _authors_shapes(network: Generator | Discriminator) -> list[tuple[int, ...]]:
    # a layer's weight, BatchNorm gain and bias, then the next layer's: parameters() goes in the authors' order
    return [tuple(p.shape[::-1]) if p.ndim == 2 else tuple(p.shape) for p in network.parameters()]


def _from_authors(network: Generator | Discriminator, arrays: list[tuple[Path, np.ndarray[Any, Any]]]) -> None:
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
    _fill(network, state, str(arrays[0][0].parent))


def _load_authors(listings: list[Path]) -> Checkpoint:
    arrays: dict[str, list[tuple[Path, np.ndarray[Any, Any]]]] = {}
    for listing in listings:
        kind = next((kind for kind, suffix in _AUTHORS_SUFFIX.items() if listing.name.endswith(suffix)), None)
        if kind is None:
            raise InputError(f"{listing}: the authors' names end in {' or '.join(_AUTHORS_SUFFIX.values())}")
        arrays[kind] = _read_authors(listing)
    shapes = {kind: [array.shape for _, array in found] for kind, found in arrays.items()}
    for architecture in PRESETS.values():
        generator = Generator(architecture, "meta") if "generator" in arrays else None
        discriminator = Discriminator(architecture, "meta") if "discriminator" in arrays else None
        networks = _networks(generator, discriminator)
        expected = {kind: _authors_shapes(network) for kind, network in networks.items()}
        if expected == shapes:
            for kind, network in networks.items():
                _from_authors(network, arrays[kind])
            return _checkpoint(architecture, generator, discriminator, "authors")
        for kind, found in shapes.items():
            if found != expected[kind] and found == expected[kind][: len(found)]:
                last = arrays[kind][-1][0]
                file = last.with_name(f"{last.name[:-6]}{len(found) + 1:02d}.npy")
                raise InputError(f"{file}: absent; this {kind} has {len(expected[kind])} arrays, found {len(found)}")
    seen = "; ".join(f"{kind} {' '.join(map(str, found))}" for kind, found in shapes.items())
    raise InputError(f"{listings[0]}: arrays of these shapes fit no preset ({', '.join(PRESETS)}): {seen}")


# pytorch/examples'


def _load_pytorch(path: Path) -> Checkpoint:
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
    for network in _networks(generator, discriminator).values():
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
        _fill(network, arrays, str(path))
    return _checkpoint(architecture, generator, discriminator, "pytorch-examples")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
