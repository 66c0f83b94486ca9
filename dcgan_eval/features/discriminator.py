"""Features of a discriminator, as section 5 of the paper (arXiv 1511.06434): all convolutions, max-pooled to 4x4.

BatchNorm as in the authors' svhn/svhn_semisup_analysis.py where the network comes without statistics.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from dcgan_eval.features.extract import CPU_CHUNK, Extractor, Function, fingerprint
from dcgan_eval.images import Images
from dcgan_eval.models.architecture import preset
from dcgan_eval.models.networks import (
    LEAK,
    Discriminator,
    Layer,
    has_statistics,
    initialise,
    reestimate_batchnorm,
    scale_images,
)
from dcgan_eval.options import BatchNormMode, Pooling, Precision
from dcgan_eval.runtime.errors import InputError, nearest

GRID = 4  # side of what the paper max-pools each layer's maps to


def discriminator_features(
    discriminator: Discriminator,
    *,
    name: str,
    layers: Sequence[str] | None = None,
    grid: int = GRID,
    pooling: Pooling = "max",
    batchnorm: BatchNormMode = "stored",
    images: Images | None = None,
    batchnorm_batch: int = 128,
    precision: Precision = "float32",
    trained_on: str = "unknown",
) -> Extractor:
    """Activations after BatchNorm and LeakyReLU, pooled to grid x grid, flattened (C, H, W), layer after layer.

    Maps smaller than the grid keep their size; where it does not divide them, windows overlap as those of
    `torch.nn.AdaptiveMaxPool2d`. The discriminator is copied, and its own BatchNorm mode has no say.

    name: what a table prints, such as 'disc:svhn32'; '@1x1', '@4x4mean' and so on follows where the grid or the pooling
        is not the paper's.
    layers: any of 'conv1', 'conv2', ...; None for all. Features come in the network's order.
    pooling: which value of a window is taken: its maximum, as in the paper, or its mean.
    batchnorm: 'stored' uses the network's statistics. 'reestimated' first takes them from `images`, `batchnorm_batch`
        at a time. 'batch' normalises every `batchnorm_batch` consecutive images by their own statistics, the last
        ones by those of fewer: features then depend on the order of the images, though not on the batch size.
    precision: of the convolutions and of the maps between them; 'float32' excludes TF32.
    trained_on: see `Extractor`.
    Raises InputError for a conditional network, unknown layers, or statistics or images that are not there.
    """
    a = discriminator.architecture
    input_shape = (a.image_channels, a.image_size, a.image_size)
    known = [f"conv{i + 1}" for i in range(len(a.discriminator_channels))]
    for layer in known if layers is None else layers:
        if layer not in known:
            raise InputError(f"{name}: no layer {layer!r}{nearest(layer, known)}")
    chosen = [i for i, layer in enumerate(known) if layers is None or layer in layers]
    if not chosen or grid < 1 or batchnorm_batch < 1:
        raise InputError(f"{name}: needs a layer ({', '.join(known)}), a grid and a BatchNorm batch of at least 1")
    if a.n_classes:
        raise InputError(f"{name}: a conditional discriminator asks for the labels that its features are to predict")
    if batchnorm == "stored" and not has_statistics(discriminator):
        raise InputError(f"{name}: holds no BatchNorm statistics; re-estimate them from training images")
    if batchnorm != "reestimated":
        images = None
    elif images is None or images.n == 0 or images.shape != input_shape:
        raise InputError(
            f"{name}: BatchNorm statistics are re-estimated from images of {input_shape}, "
            f"not {'none' if images is None or images.n == 0 else images.shape}"
        )

    sides = [min(grid, side) for side in a.conv_sizes]
    slices: dict[str, slice] = {}
    start = 0
    for i in chosen:
        slices[known[i]] = slice(start, start := start + a.discriminator_channels[i] * sides[i] ** 2)

    network = copy.deepcopy(discriminator).cpu()
    weights = _weights(network, chosen[-1] + 1, batchnorm == "stored")
    settings = {
        "extractor": "discriminator",
        "architecture": a.to_json_dict(),
        "layers": list(slices),
        "grid": grid,
        **({"pooling": pooling} if pooling != "max" else {}),  # as numbers that have been measured name them
        "batchnorm": batchnorm,
        "batchnorm_batch": None if batchnorm == "stored" else batchnorm_batch,
        "images": None if images is None else images.fingerprint,
        "precision": precision,
    }
    statistics = f"of each {batchnorm_batch} images" if batchnorm == "batch" else batchnorm
    if images is not None:
        statistics += f" on {images.n} of {images.name} by {batchnorm_batch}"

    @cache
    @torch.no_grad()
    def on(device: torch.device) -> Function:
        moved = copy.deepcopy(network).to(device)
        if images is not None:
            batches = (scale_images(batch.to(device), a) for batch in images.batches(batchnorm_batch))
            reestimate_batchnorm(moved, (b.contiguous(memory_format=torch.channels_last) for b in batches))
        chunk = batchnorm_batch if batchnorm == "batch" else CPU_CHUNK if device.type == "cpu" else None
        return _function(moved, slices, grid, pooling, chunk, batchnorm == "batch", getattr(torch, precision))

    usual = (grid, pooling) == (GRID, "max")
    return Extractor(
        name=name if usual else f"{name}@{grid}x{grid}{'' if pooling == 'max' else pooling}",
        protocol=f"{'+'.join(slices)} {pooling}-pooled to {grid}x{grid}, not scaled; BatchNorm {statistics}; "
        f"{precision}; weights {fingerprint({}, weights)[:8]}",
        fingerprint=fingerprint(settings, weights),
        input_shape=input_shape,
        slices=slices,
        on=on,
        group=batchnorm_batch if batchnorm == "batch" else 1,
        dtype=precision,
        batchnorm=batchnorm,
        trained_on=trained_on,
    )


def random_features(
    preset_name: str,
    images: Images,
    *,
    seed: int = 0,
    layers: Sequence[str] | None = None,
    grid: int = GRID,
    pooling: Pooling = "max",
    batchnorm_batch: int = 128,
    precision: Precision = "float32",
) -> Extractor:
    """`discriminator_features` of a preset's discriminator that has learnt nothing: what the architecture is worth.

    Weights are drawn by `initialise` from `seed`; BatchNorm statistics come from `images`, as there are no others.
    """
    network = Discriminator(preset(preset_name))
    initialise(network, torch.Generator().manual_seed(seed))
    extractor = discriminator_features(
        network,
        name=f"random:{preset_name}",
        layers=layers,
        grid=grid,
        pooling=pooling,
        batchnorm="reestimated",
        images=images,
        batchnorm_batch=batchnorm_batch,
        precision=precision,
    )
    protocol = f"{extractor.protocol} drawn with seed {seed}"
    return replace(extractor, protocol=protocol, trained_on="nothing")


def _weights(network: Discriminator, layers: int, statistics: bool) -> dict[str, Tensor]:
    """The arrays that decide the activations of the first `layers` convolutions."""
    state = network.convs[:layers].state_dict()
    unused = ("num_batches_tracked",) if statistics else ("num_batches_tracked", "running_mean", "running_var")
    return {name: array for name, array in state.items() if not name.endswith(unused)}


def _function(
    network: Discriminator,
    slices: Mapping[str, slice],
    grid: int,
    pooling: Pooling,
    chunk: int | None,
    own_statistics: bool,
    dtype: torch.dtype,
) -> Function:
    low, high = network.architecture.value_range
    step = (high - low) / 255
    zero = -low / step  # the pixel value that stands for 0, as padding does; x - zero is exact even in bfloat16
    dimensions = max(columns.stop for columns in slices.values())
    last = max(int(name.removeprefix("conv")) for name in slices)
    stages = {
        f"conv{i + 1}": _stage(layer, 1.0 if i else step, own_statistics, dtype)
        for i, layer in enumerate(network.convs[:last])
    }

    def function(images: Tensor) -> Tensor:
        out = torch.empty(len(images), dimensions, device=images.device)
        size = chunk or max(1, len(images))
        for part, rows in zip(torch.split(images, size), torch.split(out, size), strict=True):
            h = part.to(dtype, memory_format=torch.channels_last).sub_(zero)
            for name, stage in stages.items():
                h = stage(h)
                if name in slices:
                    pooled = _pool(h, grid, pooling)
                    rows[:, slices[name]].view(pooled.shape).copy_(pooled)
        return out

    return function


def _stage(layer: nn.Module, scale: float, own_statistics: bool, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Convolution, BatchNorm, LeakyReLU; stored statistics, an affine map per channel, go into the convolution.

    scale: of the layer's input, likewise taken into the weights.
    """
    assert isinstance(layer, Layer)
    conv, norm = layer.linear, layer.norm
    assert isinstance(conv, nn.Conv2d)
    device = conv.weight.device
    # on the CPU, because not every device has float64
    weight, bias = conv.weight.cpu().double() * scale, None
    normalise = None
    if isinstance(norm, nn.BatchNorm2d):
        if own_statistics:
            gain, shift, epsilon = norm.weight, norm.bias, norm.eps

            def normalise(h: Tensor) -> Tensor:
                return functional.batch_norm(h, None, None, gain, shift, training=True, eps=epsilon)
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            factor = (norm.running_var.cpu().double() + norm.eps).rsqrt()
            bias = -norm.running_mean.cpu().double() * factor
            if norm.affine:
                factor, bias = factor * norm.weight.cpu(), bias * norm.weight.cpu() + norm.bias.cpu()
            weight = weight * factor[:, None, None, None]
            bias = bias.to(device, dtype)
    weight = weight.to(device, dtype, memory_format=torch.channels_last)
    stride, padding = conv.stride, conv.padding

    def stage(h: Tensor) -> Tensor:
        h = functional.conv2d(h, weight, bias, stride, padding)
        if normalise is not None:
            h = normalise(h)
        return functional.leaky_relu(h, LEAK, inplace=True)

    return stage


def _pool(maps: Tensor, grid: int, pooling: Pooling) -> Tensor:
    side = maps.shape[-1]
    if side <= grid:
        return maps
    if pooling == "mean":
        return functional.adaptive_avg_pool2d(maps, grid)
    if side % grid:
        return functional.adaptive_max_pool2d(maps, grid)
    return functional.max_pool2d(maps, side // grid)  # the same windows, faster in channels-last
