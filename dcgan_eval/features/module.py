"""Features of a network of the user's own, saved as TorchScript or by `torch.export`."""

import copy
import hashlib
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from dcgan_eval.features.extract import CPU_CHUNK, Extractor, Function
from dcgan_eval.runtime.errors import InputError

# all that torch.export.save writes of a program and plain arrays; torch looks for more, in older layouts too
MEMBER = re.compile(
    r"[^/]+/(models/model\.json|(?P<inputs>data/sample_inputs/model\.pt)|data/weights/weight_[0-9]+"
    r"|data/constants/tensor_[0-9]+|(?P<config>data/(weights|constants)/model_(weights|constants)_config\.json)"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id))"
)


def module_features(path: Path, shape: tuple[int, int, int]) -> Extractor:
    """What a program computes: it takes uint8 images (n, C, H, W), any n, and gives floats (n, d).

    Scaling and resizing are the program's own. A file that `torch.jit.save` wrote (.pt, .pth, .ts), or
    `torch.export.save` with n a dynamic dimension (.pt2). Such a file is a program that this runs: use your own, or one
    that you trust. What it holds besides the program and plain arrays, which would be unpickled, is refused.
    shape: (C, H, W) of the images.
    Raises InputError for a file that is absent, of another kind or damaged, and a program that does something else.
    """
    where = f"module:{path}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{where}: {error.strerror or error}; name a file") from error
    sha256 = hashlib.sha256(content).hexdigest()
    run = _exported(content, where) if path.suffix == ".pt2" else _scripted(content, where)
    c, h, w = shape
    for n in (2, 3):
        try:
            with torch.inference_mode():
                found = run("cpu")(torch.zeros(n, c, h, w, dtype=torch.uint8))
        except Exception as error:  # whatever the program does
            raise InputError(f"{where}: fails on {n} uint8 images of {c}x{h}x{w}: {_last_line(error)}") from error
        good = isinstance(found, Tensor) and found.ndim == 2 and found.is_floating_point()
        if not good or len(found) != n or found.shape[1] == 0:
            got = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"{where}: gives {got} for {n} images; it must give floats of shape ({n}, d)")

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
        with warnings.catch_warnings(action="ignore"):
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
            if not (known := MEMBER.fullmatch(info.filename)):
                raise InputError(
                    f"{where}: not a program of this torch, or not a plain one: holds {info.filename!r}, which may be "
                    "unpickled; export it again"
                )
            data = archive.read(info)
            if known["config"] and any(entry["use_pickle"] for entry in json.loads(data)["config"].values()):
                raise InputError(f"{where}: holds pickled arrays, which are never read; export plain ones")
            copied.writestr(info.filename, b"" if known["inputs"] else data)
    return out.getvalue()


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:200] if lines else type(error).__name__
