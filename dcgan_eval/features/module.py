"""Features of a network of the user's own, saved as TorchScript or by `torch.export`."""

import copy
import hashlib
import io
import json
import logging
import re
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from dcgan_eval.errors import InputError
from dcgan_eval.features.extract import CPU_CHUNK, Extractor, Function


def module_features(path: Path, shape: tuple[int, int, int]) -> Extractor:
    """What a program computes: it takes uint8 images (n, C, H, W), any n, and gives floats (n, d).

    Scaling and resizing are the program's own. A file that `torch.jit.save` wrote (.pt, .pth, .ts), or
    `torch.export.save` with n a dynamic dimension (.pt2). Such a file is a program that this runs: use your own, or one
    that you trust. What it holds besides the program and plain arrays, which would be unpickled, is refused.
    shape: (C, H, W) of the images.
    Raises InputError for a file that is absent, of another kind or damaged, and a program that does something else.
    """
    where = f"module:{path}"
    if not path.is_file():
        raise InputError(f"{where}: no such file")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    run = _exported(content, where) if path.suffix == ".pt2" else _scripted(content, where)
    c, h, w = shape
    try:
        with torch.inference_mode():
            found = run("cpu")(torch.zeros(2, c, h, w, dtype=torch.uint8))
    except Exception as error:  # whatever the program does
        raise InputError(f"{where}: fails on two uint8 images of {c}x{h}x{w}: {_last_line(error)}") from error
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2 or not found.is_floating_point():
        got = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"{where}: gives {got} for two images; it must give floats of shape (2, d)")

    @cache
    def on(device: torch.device) -> Function:
        moved = run(str(device))

        def function(images: Tensor) -> Tensor:
            size = CPU_CHUNK if device.type == "cpu" else max(1, len(images))
            return torch.cat([moved(part).float() for part in torch.split(images, size)])

        return function

    return Extractor(
        name=f"module:{path.stem}",
        protocol=f"{path.name}, sha256 {sha256[:8]}, on uint8 images",
        fingerprint=hashlib.sha256(f"module {sha256} {shape}".encode()).hexdigest(),
        input_shape=shape,
        slices={"all": slice(0, found.shape[1])},
        on=on,
    )


def _scripted(content: bytes, where: str) -> Callable[[str], Callable[[Tensor], Tensor]]:
    try:
        module = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise InputError(f"{where}: not TorchScript ({_last_line(error)}); write it with torch.jit.save") from error
    return lambda device: copy.deepcopy(module).to(device).eval()


def _exported(content: bytes, where: str) -> Callable[[str], Callable[[Tensor], Tensor]]:
    from torch.export.passes import move_to_device_pass

    # the reader says more than one line of what it does not like
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    try:
        program = torch.export.load(io.BytesIO(_without_pickles(content, where)))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where}: not a program of this torch ({_last_line(error)}); export it again") from error
    return lambda device: move_to_device_pass(program, device).module()


def _without_pickles(content: bytes, where: str) -> bytes:
    """The archive without its example inputs, which nobody needs and torch may unpickle; refused if others remain."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w") as copied:
        for info in archive.infolist():
            data = archive.read(info)
            name = info.filename.partition("/")[2]
            if re.fullmatch(r"data/sample_inputs/.*\.pt", name):
                data = b""
            elif re.fullmatch(r"data/(weights|constants)/.*config\.json", name):
                entries = json.loads(data)["config"].values()
                if any(entry["use_pickle"] for entry in entries):
                    raise InputError(f"{where}: holds pickled arrays, which are never read; export plain ones")
            elif re.fullmatch(r"data/(weights|constants)/(.*\.pt|custom_obj.*)", name) or "aotinductor" in name:
                raise InputError(f"{where}: holds {name}, which is never unpickled; export it with this torch")
            copied.writestr(info.filename, data)
    return out.getvalue()


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:200] if lines else type(error).__name__
