"""What the discriminator's filters see (section 6.2 of the paper): guided backpropagation, beside random weights."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dcgan_eval import figures
from dcgan_eval.images import BLOCK, Images
from dcgan_eval.models.networks import (
    Discriminator,
    has_statistics,
    initialise,
    reestimate_batchnorm,
    scale_images,
    set_batchnorm_mode,
)
from dcgan_eval.options import FiltersOptions
from dcgan_eval.results import Row
from dcgan_eval.runtime.errors import InputError, nearest
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.run import HERE, Run
from dcgan_eval.studies.model import labels, layer_names
from dcgan_eval.studies.rows import row

TOP = 6  # images of each filter
MOST = 24  # filters


@contextmanager
def guided(module: nn.Module) -> Iterator[None]:
    """Within it gradients pass a ReLU or LeakyReLU only where they and what went in are positive.

    Springenberg et al. 2014, section 3.4. Of a LeakyReLU nothing passes its negative side: what inhibits a unit is no
    part of what excites it.
    """
    handles = []
    positive: dict[nn.Module, Tensor] = {}

    def remember(activation: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        positive[activation] = inputs[0] > 0

    def guide(activation: nn.Module, into: Any, out: Any) -> tuple[Tensor]:
        return (out[0].clamp_min(0) * positive[activation],)

    for part in module.modules():
        if isinstance(part, nn.ReLU | nn.LeakyReLU):
            handles += [part.register_forward_hook(remember), part.register_full_backward_hook(guide)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@exact()
def guided_gradient(
    discriminator: Discriminator, images: Tensor, layer: int, units: Tensor, y: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What in each image excites a filter where its response is strongest, by guided backpropagation.

    images: float (n, C, H, W) in the network's range. units: the filter of each, int64 (n,). Returns the gradient of
    that response, float (n, C, H, W), and where it is, int64 (n, 2): row and column of the map.
    """
    x = images.detach().clone().requires_grad_()
    with guided(discriminator), torch.enable_grad():
        maps = discriminator.conv_features(x, y)[layer]
        maps = maps[torch.arange(len(x), device=x.device), units]
        at = maps.flatten(1).argmax(1)
        (gradient,) = torch.autograd.grad(maps.flatten(1).gather(1, at[:, None]).sum(), x)
    return gradient, torch.stack([at // maps.shape[2], at % maps.shape[2]], 1)


def receptive_field(discriminator: Discriminator, layer: int, at: Tensor) -> Tensor:
    """Left, top, right and bottom, in pixels within the image, of what units at (row, column), int64 (n, 2), see."""
    a = discriminator.architecture
    low, high = at.double(), at.double()
    for stride in reversed(a.discriminator_strides[: layer + 1]):
        low = low * stride - a.padding
        high = high * stride - a.padding + a.kernel_size - 1
    box = torch.stack([low[:, 1], low[:, 0], high[:, 1] + 1, high[:, 0] + 1], 1)
    return box.clamp(0, a.image_size)


@dataclass(frozen=True)
class Seen:
    """Of one network and each of its chosen filters: images uint8 (filters, TOP, C, H, W) that excite it most, the
    guided gradients in them, made visible likewise, and the boxes that the units see, one after the other."""

    name: str
    images: Tensor
    gradients: Tensor
    boxes: list[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Filters:
    layer: str
    filters: list[int]
    trained: Seen
    random: Seen
    rows: list[Row]


@exact()
def filters(
    discriminator: Discriminator,
    images: Images,
    options: FiltersOptions = FiltersOptions(),
    run: Run = HERE,
    *,
    name: str,
    sha256: str,
    y: int | None = None,
) -> Filters:
    """The images that excite chosen filters most and what in them does, in a discriminator and in a random one.

    A discriminator without BatchNorm statistics, and the random one, take them from the images. The layer is the last
    by default, as in the paper. y: the label that a conditional network sees all images with. The images must have the
    network's shape. Rows, of both networks: over all filters of the layer lifetime sparseness, and where images
    have labels the share of a filter's `TOP` images that are of one class; over the chosen ones in how much of the
    image half of the guided gradient lies.
    Raises InputError for layers and filters that do not exist, and fewer than `TOP` images.
    """
    a = discriminator.architecture
    known = layer_names(discriminator)
    layer, chosen, seed, device = options.layer or known[-1], options.filters, options.seed, run.device
    if layer not in known:
        raise InputError(f"{name}: no layer {layer!r}{nearest(layer, known)}")
    index = known.index(layer)
    width = a.discriminator_channels[index]
    if not 0 < len(chosen) <= MOST:
        raise InputError(f"{name}: {len(chosen)} filters; a picture shows 1 to {MOST}")
    for one in chosen:
        if not 0 <= one < width:
            raise InputError(f"{name}: no filter {one}; those of {layer} are 0 to {width - 1}")
    if a.n_classes and (y is None or not 0 <= y < a.n_classes):
        raise InputError(f"{name}: is conditional; say by `label` which class, 0 to {a.n_classes - 1}, it is told")
    if y is not None and not a.n_classes:
        raise InputError(f"{name}: `label` {y}: the discriminator is unconditional and takes none; leave it out")
    if images.n < TOP:
        raise InputError(f"{images.name}: {images.n} images; the {TOP} that excite a filter most need more")
    said = "" if y is None else f"; label {y}"
    start = time.perf_counter()
    untrained = Discriminator(a, device)
    initialise(untrained, stream(seed, "random weights"))
    networks = {"trained": copy.deepcopy(discriminator).to(device), "random weights": untrained}
    x = scale_images(images.tensor(), a)
    rows: list[Row] = []
    seen = []
    for what, network in networks.items():
        network.requires_grad_(False)
        if has_statistics(network):
            set_batchnorm_mode(network, "stored")
            statistics = "stored"
        else:
            reestimate_batchnorm(
                network, ((part.to(device), labels(len(part), y, device)) for part in torch.split(x, BLOCK))
            )
            statistics = f"of the images by {BLOCK}"
        with torch.inference_mode():
            strongest = torch.cat(
                [
                    network.conv_features(part.to(device), labels(len(part), y, device))[index].amax((2, 3)).cpu()
                    for part in torch.split(x, BLOCK)
                ]
            )
        top = strongest.topk(TOP, 0).indices.T  # (filters, TOP)
        some = x[top[list(chosen)].flatten()].to(device)
        units = torch.tensor(chosen, device=device).repeat_interleave(TOP)
        gradient, at = guided_gradient(network, some, index, units, labels(len(some), y, device))
        gradient = gradient.cpu()
        boxes = receptive_field(network, index, at.cpu())
        numbers = [
            (
                "sparseness", 100 * float(sparseness(strongest).mean()), width,
                "lifetime sparseness (Vinje and Gallant 2000) of a filter's strongest response in each image",
            ),
            (
                "half of the gradient in", 100 * float(_half_in(gradient).mean()), len(chosen),
                f"the smallest share of the image with half of the guided gradient's square, mean over {TOP} images",
            ),
        ]  # fmt: skip
        if images.labels is not None and bool((images.labels >= 0).all()):
            of = images.labels[top]  # (filters, TOP)
            same = (of[:, :, None] == of[:, None, :]).sum(2).amax(1).double() / TOP
            how = f"share of the {TOP} images that excite a filter most that are of one class, mean over filters"
            numbers.append(("one class", 100 * float(same.mean()), width, how))
        for metric, value, n, how in numbers:
            rows.append(
                row(
                    "filters", metric, value, model=name, model_sha256=sha256, networks=f"BatchNorm {statistics}{said}",
                    run=run, layer=layer, dimensions=width, condition=what, method=how, n=n, unit="%",
                    n_reference=images.n, seed=seed, data=images, features=f"{what} {layer}",
                    seconds=time.perf_counter() - start,
                )
            )  # fmt: skip
        shown = images.subset(top[list(chosen)].flatten()).tensor().reshape(len(chosen), TOP, *images.shape)
        seen.append(Seen(what, shown, visible(gradient).reshape(shown.shape), boxes.tolist()))
    return Filters(layer, list(chosen), seen[0], seen[1], rows)


def sparseness(responses: Tensor) -> Tensor:
    """Lifetime sparseness of each filter over images, in [0, 1]: 0 if all excite it alike, 1 if a single one does.

    responses: (images, filters); below 0 they count as 0. Of a filter that nothing excites 0. Vinje and Gallant 2000,
    after Rolls and Tovee 1995.
    """
    r = responses.double().clamp_min(0)
    square = r.square().mean(0)
    activity = torch.where(square > 0, r.mean(0).square() / square, 1.0)
    return (1 - activity) / (1 - 1 / len(r))


def _half_in(gradients: Tensor) -> Tensor:
    """The smallest share of places that hold half of the square of a gradient, (n, C, H, W) → float64 (≤ n,).

    Gradients that are 0 everywhere, of filters that nothing excites, are left out.
    """
    gradients = gradients[gradients.flatten(1).any(1)]
    energy = gradients.double().square().sum(1).flatten(1).sort(1, descending=True).values
    reached = energy.cumsum(1) < energy.sum(1, keepdim=True) / 2
    return (reached.sum(1) + 1) / energy.shape[1]


def visible(gradients: Tensor) -> Tensor:
    """Gradients (..., C, H, W) → uint8, each by itself: grey where 0, its largest magnitude at black or white."""
    largest = gradients.abs().amax((-3, -2, -1), keepdim=True).clamp_min(1e-30)
    return (127.5 + 127.5 * gradients / largest).round().to(torch.uint8)


def picture(found: Filters, name: str) -> figures.Picture:
    """A row for each filter: the images that excite it most, and what in them does; then the same of random weights."""
    strips = []
    for seen in (found.trained, found.random):
        names = [f"{one}" for one in found.filters]
        boxes = [(i, *box) for i, box in enumerate(seen.boxes)]
        strips.append(
            [
                figures.Tiles(f"{seen.name}: most exciting images", seen.images, rows=names, boxes=boxes),
                figures.Tiles("what excites: guided backpropagation", seen.gradients),
            ]
        )
    return figures.sheet(strips, f"Filters of {found.layer} of {name}; a box is what the strongest unit sees")
