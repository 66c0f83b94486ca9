"""A checkpoint by its name, whichever format it is in, and any of them saved as ours."""

from pathlib import Path
from typing import Literal

import torch

from dcgan_eval.models.checkpoint.authors import SUFFIX, arrays_beside, load_authors
from dcgan_eval.models.checkpoint.contents import Checkpoint, networks_of
from dcgan_eval.models.checkpoint.native import load_native, save
from dcgan_eval.models.checkpoint.pytorch_examples import load_pytorch_examples
from dcgan_eval.runtime.errors import InputError

EMBEDDED = {"digits": Path(__file__).parents[1] / "digits.safetensors"}  # by `python -m training digits`


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
        return load_authors([path])
    if path.is_file():
        if path.suffix == ".safetensors":
            return load_native(path)
        if path.suffix in (".pth", ".pt"):
            return load_pytorch_examples(path)
        raise InputError(
            f"{path}: not a checkpoint; known are .safetensors, .pth, .pt, .jl and the prefix of .jl files"
        )
    listings = [path.with_name(path.name + suffix) for suffix in SUFFIX.values()] if path.name else []
    listings = [listing for listing in listings if listing.is_file() or arrays_beside(listing)]
    if listings:
        return load_authors(listings)
    if path.suffix in (".safetensors", ".pth", ".pt"):
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: a folder; name a checkpoint in it, or the prefix of one such as {path / '200'}")
    raise InputError(f"{path}: no such checkpoint, nor {path.name}_gen_params.jl or {path.name}_discrim_params.jl")


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
    networks = networks_of(checkpoint.generator, checkpoint.discriminator)
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
