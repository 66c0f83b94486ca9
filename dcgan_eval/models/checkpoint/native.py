"""Files of our own: .safetensors whose header holds what rebuilds the networks."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from dcgan_eval.models.architecture import Architecture
from dcgan_eval.models.checkpoint.contents import (
    Checkpoint,
    arrays_of,
    checkpoint_of,
    digest,
    fill,
    networks_of,
    one_line,
    widened,
)
from dcgan_eval.models.networks import Discriminator, Generator
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole

_HEADER = "dcgan_eval"
_VERSION = 1


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
    networks = networks_of(generator, discriminator)
    if not networks:
        raise InputError(f"{path}: no network to save")
    architecture = next(iter(networks.values())).architecture
    if any(network.architecture != architecture for network in networks.values()):
        raise InputError(f"{path}: generator and discriminator are of different architectures")
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a checkpoint's name must end in .safetensors")
    arrays = {k: v.to(dtype) if v.is_floating_point() else v for k, v in arrays_of(networks).items()}
    sha256 = digest(architecture, {key: widened(array) for key, array in arrays.items()})
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


def load_native(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            # copies: the file's own memory map must not outlive a file that is replaced
            keys = file.keys() if header is not None else []
            arrays = {key: widened(file.get_tensor(key).clone()) for key in keys}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: truncated, or not a safetensors file ({one_line(error)})") from error
    if header is None:
        raise InputError(f"{path}: a safetensors file that this program did not write: its header has no {_HEADER!r}")
    try:
        fields = json.loads(header)
        version, values = fields["version"], fields["architecture"]
        sha256, metadata = fields["sha256"], dict(fields["metadata"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: the header's {_HEADER!r} cannot be read ({one_line(error)})") from error
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
    for kind, module in networks_of(generator, discriminator).items():
        fill(module, parts[kind], f"{path}: {kind}")
    checkpoint = checkpoint_of(architecture, generator, discriminator, "dcgan-eval", metadata)
    if checkpoint.sha256 != sha256:
        raise InputError(f"{path}: damaged: its arrays do not have the sha256 that its header states; copy it again")
    return checkpoint
