"""The generator and discriminator of Radford, Metz and Chintala (arXiv 1511.06434), made from an `Architecture`.

The order of parameters follows the authors' code, github Newmu/dcgan_code. Images inside the networks are float NCHW in
the range of the generator's output; `scale_images` and `to_uint8` cross that boundary.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dcgan_eval.models.architecture import Architecture
from dcgan_eval.runtime.errors import InputError

LEAK = 0.2


class Layer(nn.Module):
    """The label joined to the input, a linear map, BatchNorm, a non-linearity: what both networks are made of.

    `maps` (channels, side, side), where given, turns the units of a dense layer into maps; with
    `normalise_maps` before BatchNorm, otherwise after it.
    """

    def __init__(
        self,
        linear: nn.Linear | nn.Conv2d | nn.ConvTranspose2d,
        norm: nn.Module,
        activation: nn.Module,
        maps: tuple[int, int, int] | None = None,
        normalise_maps: bool = False,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = norm
        self.activation = activation
        self.maps = maps
        self.normalise_maps = normalise_maps

    def forward(self, h: Tensor, label: Tensor | None = None) -> Tensor:
        """h: float (n, c) or (n, c, side, side); label: one-hot (n, n_classes), joined after h's channels."""
        if label is not None:
            planes = label if h.ndim == 2 else label[:, :, None, None].expand(-1, -1, *h.shape[2:])
            h = torch.cat([h, planes.to(h.dtype)], dim=1)
        h = self.linear(h)
        if self.maps is not None and self.normalise_maps:
            h = h.reshape(-1, *self.maps)
        h = self.activation(self.norm(h))
        if self.maps is not None and not self.normalise_maps:
            h = h.reshape(-1, *self.maps)
        return h


class _Network(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.batchnorm_mode: Literal["stored", "batch"] = "stored"

    def _allocate(self, device: torch.device | str) -> None:
        # layers were made on "meta": their default initialisation would draw from the global random generator
        self.to_empty(device=device)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(math.nan)
        for norm in _batchnorms(self):
            norm.reset_running_stats()

    def train(self, mode: bool = True) -> "_Network":
        """As nn.Module.train, but `eval()` keeps to the mode that `set_batchnorm_mode` chose."""
        super().train(mode)
        for norm in _batchnorms(self):
            # training without tracking is how torch uses the batch's own statistics and leaves the stored ones alone
            norm.track_running_stats = mode or self.batchnorm_mode == "stored"
            norm.train(mode or self.batchnorm_mode == "batch")
        return self

    def _norm(self, width: int, dimensions: Literal[1, 2]) -> nn.Module:
        a = self.architecture
        kind = nn.BatchNorm1d if dimensions == 1 else nn.BatchNorm2d
        return kind(width, eps=a.batchnorm_epsilon, affine=a.batchnorm_affine)

    def _one_hot(self, y: Tensor | None, n: int) -> Tensor | None:
        n_classes = self.architecture.n_classes
        if (y is None) != (n_classes == 0):
            raise InputError(
                f"the network is unconditional and takes no labels, but got {tuple(y.shape)}"
                if y is not None
                else f"the network is conditional: give labels y, int64 ({n},) below {n_classes}"
            )
        if y is None:
            return None
        if y.shape != (n,) or y.is_floating_point():
            raise InputError(f"labels must be int64 of shape ({n},), not {y.dtype} of shape {tuple(y.shape)}")
        return nn.functional.one_hot(y.long(), n_classes)


class Generator(_Network):
    """Draws images from z. Weights are NaN until `initialise` or `load_state_dict` sets them.

    `layers` lists the hidden layers and, last, the one that draws; a forward hook on one sees or alters its maps.
    """

    def __init__(self, architecture: Architecture, device: torch.device | str = "cpu") -> None:
        super().__init__(architecture)
        a = architecture
        with torch.device("meta"):
            layers = []
            width = a.z_dim
            if a.hidden_width:
                dense = nn.Linear(width + a.n_classes, a.hidden_width, bias=False)
                layers.append(Layer(dense, self._norm(a.hidden_width, 1), nn.ReLU()))
                width = a.hidden_width
            maps = (a.generator_channels[0], a.start_size, a.start_size)
            units = math.prod(maps)
            norm = self._norm(units, 1) if a.batchnorm_per_unit else self._norm(maps[0], 2)
            dense = nn.Linear(width + a.n_classes, units, bias=False)
            layers.append(Layer(dense, norm, nn.ReLU(), maps, normalise_maps=not a.batchnorm_per_unit))
            outputs = (*a.generator_channels[1:], a.image_channels)
            for i, (c_in, c_out, stride) in enumerate(
                zip(a.generator_channels, outputs, a.generator_strides, strict=True)
            ):
                conv = nn.ConvTranspose2d(
                    c_in + a.n_classes,
                    c_out,
                    a.kernel_size,
                    stride,
                    a.padding,
                    a.output_padding(stride),
                    bias=False,
                )
                if i < len(outputs) - 1:
                    layers.append(Layer(conv, self._norm(c_out, 2), nn.ReLU()))
                else:
                    layers.append(Layer(conv, nn.Identity(), nn.Tanh() if a.output == "tanh" else nn.Sigmoid()))
        self.layers = nn.ModuleList(layers)
        self._allocate(device)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z float (n, z_dim), y int64 (n,) for a conditional network → images float (n, channels, side, side).

        Values lie in `architecture.value_range`. Raises InputError for z or y of the wrong shape.
        """
        if z.ndim != 2 or z.shape[1] != self.architecture.z_dim:
            raise InputError(f"z must have shape (n, {self.architecture.z_dim}), not {tuple(z.shape)}")
        label = self._one_hot(y, len(z))
        h = z
        for layer in self.layers:
            h = layer(h, label)
        return h

    def from_hidden(self, h: Tensor, layer: int, y: Tensor | None = None) -> Tensor:
        """The images that follow from activations h of the hidden layer of that number, `hidden(z, y)[layer]`."""
        label = self._one_hot(y, len(h))
        for part in list(self.layers)[layer + 1 :]:
            h = part(h, label)
        return h

    def hidden(self, z: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """Activations after BatchNorm and ReLU of every hidden layer, from z towards the image."""
        label = self._one_hot(y, len(z))
        activations = [z]
        for layer in list(self.layers)[:-1]:
            activations.append(layer(activations[-1], label))
        return activations[1:]


class Discriminator(_Network):
    """Tells real images from generated ones. Weights are NaN until `initialise` or `load_state_dict` sets them."""

    def __init__(self, architecture: Architecture, device: torch.device | str = "cpu") -> None:
        super().__init__(architecture)
        a = architecture
        with torch.device("meta"):
            convs = []
            c_in = a.image_channels
            for i, (c_out, stride) in enumerate(zip(a.discriminator_channels, a.discriminator_strides, strict=True)):
                conv = nn.Conv2d(c_in + a.n_classes, c_out, a.kernel_size, stride, a.padding, bias=False)
                convs.append(Layer(conv, self._norm(c_out, 2) if i else nn.Identity(), nn.LeakyReLU(LEAK)))
                c_in = c_out
            dense = []
            width = c_in * a.conv_sizes[-1] ** 2
            if a.hidden_width:
                hidden = nn.Linear(width + a.n_classes, a.hidden_width, bias=False)
                dense.append(Layer(hidden, self._norm(a.hidden_width, 1), nn.LeakyReLU(LEAK)))
                width = a.hidden_width
            dense.append(Layer(nn.Linear(width + a.n_classes, 1, bias=False), nn.Identity(), nn.Identity()))
        self.convs = nn.ModuleList(convs)
        self.dense = nn.ModuleList(dense)
        self._allocate(device)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x float (n, channels, side, side) in `architecture.value_range`, y int64 (n,) → logits float (n,).

        A logit above 0 says real. Raises InputError for x or y of the wrong shape.
        """
        label = self._one_hot(y, len(x))
        h = self.conv_features(x, y)[-1].flatten(1)
        for layer in self.dense:
            h = layer(h, label)
        return h.squeeze(1)

    def conv_features(self, x: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """Activations after BatchNorm and LeakyReLU of every convolution, float NCHW: what the paper pools.

        x, y and what is raised: as `forward`.
        """
        a = self.architecture
        if x.shape[1:] != (a.image_channels, a.image_size, a.image_size):
            raise InputError(
                f"images must have shape (n, {a.image_channels}, {a.image_size}, {a.image_size}), not {tuple(x.shape)}"
            )
        label = self._one_hot(y, len(x))
        activations = [x]
        for layer in self.convs:
            activations.append(layer(activations[-1], label))
        return activations[1:]


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Weights N(0, 0.02), BatchNorm gains N(1, 0.02) and biases 0, BatchNorm statistics as if none had been seen.

    As the authors' code and pytorch/examples. `generator` lives on the CPU, whatever the module's device: equal seeds
    give equal weights everywhere.
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.reset_running_stats()
                if part.affine:
                    part.weight.copy_(torch.empty(part.weight.shape).normal_(1, 0.02, generator=generator))
                    part.bias.zero_()
            elif isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                part.weight.copy_(torch.empty(part.weight.shape).normal_(0, 0.02, generator=generator))


def _batchnorms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


def has_statistics(module: nn.Module) -> bool:
    """Whether every BatchNorm layer's running statistics come from data: by training, a file, or re-estimation."""
    return all(
        int(norm.num_batches_tracked) > 0 for norm in _batchnorms(module) if norm.num_batches_tracked is not None
    )


def set_batchnorm_mode(module: Generator | Discriminator, mode: Literal["stored", "batch"]) -> None:
    """Puts the network in evaluation with the BatchNorm statistics stored in it, or with those of each batch.

    "batch" uses the mean and the biased variance of the batch at hand and leaves the stored statistics alone; then a
    batch of one image, or of one kind, says nothing. The choice outlives `train()` and `eval()`.
    Raises InputError for "stored" where there are no statistics.
    """
    if mode == "stored" and not has_statistics(module):
        raise InputError(
            "the network holds no BatchNorm statistics: re-estimate them from images, or use those of each batch"
        )
    module.batchnorm_mode = mode
    module.eval()


def reestimate_batchnorm(
    network: Generator | Discriminator, batches: Iterable[Tensor | tuple[Tensor, Tensor | None]]
) -> None:
    """Sets the BatchNorm statistics from data, as the authors' svhn/svhn_semisup_analysis.py, and uses them after.

    batches: what the network takes, its labels beside it if it is conditional: images float (n, channels, side, side)
    in its range for a discriminator, of which the authors take 128 unlabelled training images at a time; z (n, z_dim)
    for a generator. Each batch runs with its own statistics; at every BatchNorm layer the mean and the biased variance
    of its input are averaged over batches in float64. As theirs, the last batch counts as much as any other even if
    it holds fewer. Raises InputError without any batch.
    """
    norms = _batchnorms(network)
    means = [torch.zeros(norm.num_features, dtype=torch.float64) for norm in norms]
    variances = [torch.zeros_like(mean) for mean in means]

    def record(i: int) -> Any:
        def hook(norm: nn.Module, inputs: tuple[Tensor]) -> None:
            h = inputs[0].float()
            variance, mean = torch.var_mean(h, dim=[d for d in range(h.ndim) if d != 1], correction=0)
            # to the CPU first: Apple's GPUs have no float64
            means[i] += mean.cpu().double()
            variances[i] += variance.cpu().double()

        return hook

    previous = network.batchnorm_mode
    set_batchnorm_mode(network, "batch")
    handles = [norm.register_forward_pre_hook(record(i)) for i, norm in enumerate(norms)]
    count = 0
    try:
        with torch.no_grad():
            for batch in batches:
                network(*batch) if isinstance(batch, tuple) else network(batch)
                count += 1
        if count == 0:
            raise InputError("no data to re-estimate BatchNorm statistics from: give at least one batch")
    except BaseException:
        network.batchnorm_mode = previous
        network.eval()
        raise
    finally:
        for handle in handles:
            handle.remove()
    for norm, mean, variance in zip(norms, means, variances, strict=True):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.running_mean.copy_(mean / count)
        norm.running_var.copy_(variance / count)
        norm.num_batches_tracked.fill_(count)
    set_batchnorm_mode(network, "stored")


def scale_images(images: Tensor, architecture: Architecture) -> Tensor:
    """uint8 NCHW → float32 NCHW in the network's range: x / 127.5 - 1 for tanh, x / 255 for sigmoid.

    Raises InputError for anything but uint8.
    """
    if images.dtype != torch.uint8:
        raise InputError(f"images must be uint8, not {images.dtype}")
    return images.float() / 127.5 - 1 if architecture.output == "tanh" else images.float() / 255


def to_uint8(images: Tensor, architecture: Architecture) -> Tensor:
    """Float NCHW in the network's range → uint8 NCHW, rounded to the nearest and clamped: `scale_images` undone."""
    low, high = architecture.value_range
    return ((images.float() - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)


def sample_z(
    architecture: Architecture, n: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Tensor:
    """n draws of z, float32 (n, z_dim) on `device`, made on the generator's own device: equal seeds, equal z."""
    shape = (n, architecture.z_dim)
    if architecture.z_distribution == "uniform":
        z = torch.rand(shape, generator=generator, device=generator.device) * 2 - 1
    else:
        z = torch.randn(shape, generator=generator, device=generator.device)
    return z.to(device)
