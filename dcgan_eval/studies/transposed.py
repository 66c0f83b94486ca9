"""Transposed convolution, three ways that are one: what the generator's layers compute, and why they are so called.

A convolution is linear in its input: vec(y) = A vec(x). The transposed convolution of the same kernel is
vec(x) = A^T vec(y). It is no inverse, so "deconvolution" is the wrong name. (Dumoulin and Visin 2016, chapter 4.)
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dcgan_eval import figures
from dcgan_eval.models.architecture import Architecture


def output_size(size: int, kernel: int, stride: int, padding: int, output_padding: int) -> int:
    """Side of what a transposed convolution makes of a side."""
    return (size - 1) * stride - 2 * padding + kernel + output_padding


def convolution_matrix(weight: Tensor, size: tuple[int, int], stride: int, padding: int) -> Tensor:
    """A: the matrix that `torch.nn.functional.conv2d` is, for images of this size.

    weight: (c_out, c_in, k_h, k_w). Returns (c_out * h_out * w_out, c_in * h * w); vec goes through channels, rows,
    columns. Each row holds the kernel where one output value looks, and zeros elsewhere.
    """
    c_out, c_in, k_h, k_w = weight.shape
    h, w = size
    h_out, w_out = (h + 2 * padding - k_h) // stride + 1, (w + 2 * padding - k_w) // stride + 1
    matrix = weight.new_zeros(c_out, h_out, w_out, c_in, h, w)
    for i in range(h_out):
        for j in range(w_out):
            for p in range(k_h):
                for q in range(k_w):
                    row, column = i * stride + p - padding, j * stride + q - padding
                    if 0 <= row < h and 0 <= column < w:
                        matrix[:, i, j, :, row, column] = weight[:, :, p, q]
    return matrix.reshape(c_out * h_out * w_out, c_in * h * w)


def by_matrix(y: Tensor, weight: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    """The transposed convolution as A^T vec(y).

    y: (c_out, h, w), what the convolution would make; weight: (c_out, c_in, k_h, k_w), the convolution's. Returns
    (c_in, H, W).
    """
    h, w = (
        output_size(side, k, stride, padding, output_padding)
        for side, k in zip(y.shape[1:], weight.shape[2:], strict=True)
    )
    return (convolution_matrix(weight, (h, w), stride, padding).T @ y.flatten()).reshape(weight.shape[1], h, w)


def zeros_inserted(y: Tensor, kernel: tuple[int, int], stride: int, padding: int, output_padding: int) -> Tensor:
    """y with stride - 1 zeros between its rows and columns, and zeros around it: k - 1 - padding at every side, and
    output_padding more below and to the right. Less than none are rows and columns taken away. (..., h, w)."""
    h, w = y.shape[-2:]
    spread = y.new_zeros(*y.shape[:-2], (h - 1) * stride + 1, (w - 1) * stride + 1)
    spread[..., ::stride, ::stride] = y
    top, left = kernel[0] - 1 - padding, kernel[1] - 1 - padding
    return functional.pad(spread, (left, left + output_padding, top, top + output_padding))


def by_zeros(y: Tensor, weight: Tensor, stride: int, padding: int, output_padding: int) -> Tensor:
    """The transposed convolution as an ordinary one, of stride 1, of `zeros_inserted`, by the kernel turned by 180°."""
    k_h, k_w = weight.shape[2:]
    spread = zeros_inserted(y, (k_h, k_w), stride, padding, output_padding)
    return functional.conv2d(spread[None], weight.flip(2, 3).transpose(0, 1))[0]


def picture(y: Tensor, weight: Tensor, stride: int, padding: int, output_padding: int) -> figures.Picture:
    """One channel, step by step: the input, zeros inserted, the turned kernel, the output; and A^T. y: (h, w)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    kernel = weight[0, 0]
    k = (kernel.shape[0], kernel.shape[1])
    spread = zeros_inserted(y, k, stride, padding, output_padding)
    out = by_zeros(y[None], weight, stride, padding, output_padding)[0]
    matrix = convolution_matrix(weight, (out.shape[0], out.shape[1]), stride, padding).T
    parts = (
        (f"input, {_sides(y)}", y),
        (f"zeros inserted, {_sides(spread)}", spread),
        ("kernel, turned by 180°", kernel.flip(0, 1)),
        (f"output, {_sides(out)}", out),
        (f"Aᵀ, {_sides(matrix)}", matrix),
    )
    with rc_context(figures.STYLE):
        figure = Figure(figsize=(10, 3), dpi=150, layout="constrained")
        axes = figure.subplots(1, len(parts), width_ratios=[max(2.0, values.shape[1] / 2) for _, values in parts])
        for ax, (title, values) in zip(axes, parts, strict=True):
            ax.grid(False)
            ax.imshow(values.numpy(), cmap="cividis", aspect="equal")
            for (row, column), value in _cells(values):
                light = value > (float(values.min()) + float(values.max())) / 2
                size = 8 if values.shape[0] <= 8 else 5
                ax.text(column, row, f"{value:g}", ha="center", va="center", fontsize=size, color="k" if light else "w")
            ax.set_title(title, fontsize=8)
            ax.set_xticks([])
            ax.set_yticks([])
    return figures.Picture(figure)


def _cells(values: Tensor) -> list[tuple[tuple[int, int], float]]:
    return [((i, j), float(values[i, j])) for i in range(values.shape[0]) for j in range(values.shape[1])]


def _sides(values: Tensor) -> str:
    return "×".join(map(str, values.shape))


class Maps(NamedTuple):
    """Of a generator's layer: its name, how many maps it makes, their side, its weights, and the side of its input once
    zeros are inserted, 0 where none are."""

    layer: str
    maps: int
    side: int
    weights: int
    spread: int


def stack(architecture: Architecture) -> list[Maps]:
    """A generator's layers that have maps, from the projection of z to the image."""
    a = architecture
    channels = (*a.generator_channels, a.image_channels)
    side = a.start_size
    lines = [
        Maps("projection", channels[0], side, ((a.hidden_width or a.z_dim) + a.n_classes) * channels[0] * side**2, 0)
    ]
    for i, stride in enumerate(a.generator_strides):
        y = torch.zeros(side, side)
        padding = a.output_padding(stride)
        spread = zeros_inserted(y, (a.kernel_size, a.kernel_size), stride, a.padding, padding).shape[0]
        side = output_size(side, a.kernel_size, stride, a.padding, padding)
        weights = (channels[i] + a.n_classes) * channels[i + 1] * a.kernel_size**2
        lines.append(Maps(f"conv{i + 1}", channels[i + 1], side, weights, spread))
    return lines


def drawn(architecture: Architecture) -> figures.Picture:
    """Figure 1 of the paper: z, and the maps of every layer as a block, higher the larger, wider the more they are."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    lines = stack(architecture)
    with rc_context(figures.STYLE):
        figure = Figure(figsize=(8, 2.8), dpi=150)
        ax = figure.add_axes((0.01, 0.02, 0.98, 0.96))
        ax.set_axis_off()
        ax.text(0, 0, f"z\n{architecture.z_dim}", ha="center", va="center", fontsize=9)
        x = 4.0
        for line in lines:
            wide, high = 2 + line.maps**0.5 / 2, 4 * line.side**0.5
            ax.add_patch(Rectangle((x, -high / 2), wide, high, facecolor=figures.COLOURS[4], edgecolor="k"))
            words = f"{line.maps}\n{line.side}×{line.side}"
            ax.text(x + wide / 2, -high / 2 - 2, words, ha="center", va="top", fontsize=8)
            ax.text(x + wide / 2, high / 2 + 1, line.layer, ha="center", va="bottom", fontsize=7)
            x += wide + 5
        ax.set_xlim(-3, x)
        ax.set_ylim(-28, 22)
    return figures.Picture(figure)
