"""Features of any live network: its output, and the pooled outputs of the parts that are asked for."""

import copy
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import CodeType
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dcgan_eval.features.extract import CPU_CHUNK, Extractor, Function, fingerprint
from dcgan_eval.runtime.errors import InputError

Transform = Callable[[Tensor], Tensor]  # uint8 (n, C, H, W) → what the network takes, on the same device
Tokens = Literal["mean", "first"]
Layout = Literal["NCHW", "NHWC"]
SIDE = 64  # of the images that a network is tried with


def extractor(
    network: nn.Module,
    *,
    transform: Transform | None = None,
    layers: Sequence[str] = (),
    name: str = "network",
    protocol: str = "",
    trained_on: str = "unknown",
    tokens: Tokens = "mean",
    skipped: int = 0,
    layout: Layout = "NCHW",
    shape: tuple[int, int, int] | None = None,
) -> Extractor:
    """The extractor of a network in memory, which is copied, and evaluated as after `eval()`.

    network: floats from what `transform` gives; its output are the features, pooled to (n, d).
    transform: from uint8 (n, 3, H, W) images of any size to the network's input; None for x / 255. `each` makes one of
        what takes a single PIL image.
    layers: submodules, as `named_modules` calls them, whose pooled outputs are slices of their own, for
        `classify --per-layer`; 'all' is the network's output alone.
    name: in tables. protocol: what decides the features besides, for the notes of a table. trained_on: see `Extractor`.
    tokens: what (n, t, d) outputs are pooled to: the 'mean' over tokens but for so many `skipped` first ones, such as
        registers, or the 'first', a class token. layout: of outputs of four dimensions, which are averaged over the
        image.
    shape: (C, H, W) of the images where the network takes but one; RGB of any size if None.
    Its fingerprint is over the weights and buffers, the printed network, the transform as it prints or its compiled
    code with what it closes over, and all other settings; what else a forward pass depends on is not in it.
    Raises InputError for layers that it does not have, or call once; a network that fails, gives no floats of at most
    four dimensions, or another row where other images are beside one; and a transform that nothing tells from others.
    """
    try:
        model = copy.deepcopy(network).eval()
    except Exception as error:
        raise InputError(f"{name}: cannot be copied ({_last_line(error)}); remove parametrizations") from error
    known = dict(model.named_modules(remove_duplicate=False))
    layers = tuple(dict.fromkeys(layers))
    for layer in layers:
        if layer not in known or layer in ("", "all"):
            raise InputError(f"{name}: has no layer {layer!r}; its layers are {', '.join(filter(None, known))[:500]}")

    def pooled(output: Any, what: str) -> Tensor:
        found = output
        while isinstance(found, Mapping | Sequence) and not isinstance(found, str) and len(found):
            found = next(iter(found.values())) if isinstance(found, Mapping) else found[0]
        if not isinstance(found, Tensor) or not found.is_floating_point() or not 2 <= found.ndim <= 4:
            got = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"{name}: {what} gives {got}; want floats of 2 to 4 dimensions")
        if found.ndim == 4:
            return found.float().mean((2, 3) if layout == "NCHW" else (1, 2))
        if found.ndim == 3:
            return found[:, skipped:].float().mean(1) if tokens == "mean" else found[:, 0].float()
        return found.float()

    def parts(moved: nn.Module, images: Tensor) -> list[Tensor]:
        outputs: dict[str, Tensor] = {}
        modules = dict(moved.named_modules(remove_duplicate=False))

        def keep(layer: str, output: Any) -> None:
            if layer in outputs:
                raise InputError(f"{name}: calls its layer {layer!r} several times; choose others")
            outputs[layer] = pooled(output, layer).clone()  # what follows may work in place

        hooks = [
            modules[layer].register_forward_hook(lambda _, __, output, layer=layer: keep(layer, output))
            for layer in layers
        ]
        try:
            last = pooled(moved(images.float() / 255 if transform is None else transform(images)), "its output")
        finally:
            for hook in hooks:
                hook.remove()
        if missing := [layer for layer in layers if layer not in outputs]:
            raise InputError(f"{name}: does not call its layer {missing[0]!r}; choose others")
        return [last, *(outputs[layer] for layer in layers)]

    @cache
    def on(device: torch.device) -> Function:
        moved = model if device.type == "cpu" else copy.deepcopy(model).to(device)

        def function(images: Tensor) -> Tensor:
            size = CPU_CHUNK if device.type == "cpu" else max(1, len(images))
            return torch.cat([torch.cat(parts(moved, some), 1) for some in torch.split(images, size)])

        return function

    sides = shape or (3, SIDE, SIDE)
    tried = torch.randint(0, 256, (3, *sides), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    try:
        with torch.inference_mode():
            found, fewer = parts(model, tried), parts(model, tried[:2])
    except InputError:
        raise
    except Exception as error:  # whatever the network does
        where = "x".join(map(str, sides))
        raise InputError(f"{name}: fails on images of {where}: {_last_line(error)}") from error
    for whole, part in zip(found, fewer, strict=True):
        if len(whole) != 3:
            raise InputError(f"{name}: gives {len(whole)} rows for 3 images; want one each")
        if not torch.allclose(whole[:2], part, rtol=1e-2, atol=1e-2 * float(whole.abs().max())):
            raise InputError(f"{name}: gives an image other features beside other images; want each by itself")
    slices, start = {}, 0
    for layer, part in zip(("all", *layers), found, strict=True):
        slices[layer] = slice(start, start + part.shape[1])
        start += part.shape[1]
    settings = {
        "network": str(model), "transform": _identity(transform), "layers": list(layers), "tokens": tokens,
        "skipped": skipped, "layout": layout, "shape": shape,
    }  # fmt: skip
    weights = fingerprint({}, {**dict(model.named_parameters()), **dict(model.named_buffers())})
    return Extractor(
        name=name,
        protocol=", ".join(
            filter(None, [protocol or f"output of {type(network).__name__}, float32", f"weights {weights[:8]}"])
        ),
        fingerprint=fingerprint({**settings, "weights": weights}),
        input_shape=shape or (3, None, None),
        slices=slices,
        on=on,
        trained_on=trained_on,
    )


class each:  # noqa: N801, called as a function
    """A transform of batches from one of single PIL images, such as a library's own: exactly that, image by image."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self.transform = transform

    def __call__(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 2, 3, 1).cpu().numpy()
        return torch.stack([self.transform(Image.fromarray(np.ascontiguousarray(x))) for x in pixels]).to(images.device)

    def __repr__(self) -> str:
        return f"each {_identity(self.transform)}"


def _identity(transform: Any) -> str:
    """What tells one transform from another, the same in every process.

    Raises InputError where nothing does.
    """
    if isinstance(transform, functools.partial):
        return f"partial {_identity(transform.func)} {transform.args!r} {sorted(transform.keywords.items())!r}"
    if inspect.isfunction(transform):
        cells = [_identity(cell.cell_contents) for cell in transform.__closure__ or ()]
        defaults = (transform.__defaults__, transform.__kwdefaults__)
        return f"{transform.__qualname__} {_code(transform.__code__)} {defaults!r} {cells}"
    found = str(transform)
    if re.search(r" at 0x[0-9a-f]+", found):
        kind = type(transform).__name__
        raise InputError(f"transform {kind}: prints as an address; give it a __repr__ of its settings")
    return found


def _code(code: CodeType) -> str:
    constants = [_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names!r}"


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:200]
