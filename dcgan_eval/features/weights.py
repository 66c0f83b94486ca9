"""Published weights of networks that are not ours: where they lie, and whether they are what was published."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from dcgan_eval.runtime.errors import InputError


def published_weights(
    url: str, *, name: str, path: Path | None = None, download: bool = False
) -> tuple[dict[str, Any], Path]:
    """The state dict of a file, without unpickling it, and the file.

    path: the file; by default the one that `url` names, in torch.hub's folder (TORCH_HOME), where `download` puts it.
        Its content must have the first digits of the SHA-256 that its name states, if it states any.
    name: of the extractor, for messages. Raises InputError for a file that is absent or damaged.
    """
    file = path or Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not os.path.exists(file) and path is None and download:
        try:
            torch.hub.load_state_dict_from_url(url, check_hash=True, weights_only=True, map_location="cpu")
        except (OSError, RuntimeError) as error:
            raise InputError(f"{name}: {url} cannot be fetched ({error})") from error
    if not os.path.exists(file):
        raise InputError(f"{name}: no weights; download {url} and put it at {file}")
    remedy = "delete it and" if path is None else "or give another file;"
    return read_weights(file, name, f"{remedy} download {url}"), file


def read_weights(file: Path, name: str, remedy: str = "give another file") -> dict[str, Any]:
    """The state dict of a file (safetensors, or what torch.save wrote), without unpickling it.

    name: of the extractor, for messages. Raises InputError for a file that is absent or damaged, or whose content has
    not the first digits of the SHA-256 that its name states, if it states any.
    """
    if not os.path.exists(file):
        raise InputError(f"{name}: {file}: no such file; {remedy}")
    try:
        expected = re.search(r"-([0-9a-f]{8,})\.", file.name)
        with open(file, "rb") as stream:
            if expected and not hashlib.file_digest(stream, "sha256").hexdigest().startswith(expected[1]):
                raise ValueError("its SHA-256 is not the one in its name")
        if file.suffix == ".safetensors":
            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        if not state or not isinstance(state, dict) or not all(isinstance(a, torch.Tensor) for a in state.values()):
            raise ValueError("it is no state dict")
    except Exception as error:  # a damaged stream fails in as many ways as it has opcodes
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file}: damaged ({reason}); {remedy}") from error
    return state
