"""Binary codes of images, and the pairs of codes that are near, in time linear in their number.

The paper's near-duplicate removal (Radford et al. 2015, section 3.1) is semantic hashing (Salakhutdinov and Hinton
2009): images fall on the same code if an autoencoder describes them alike. `near` allows for some bits of difference,
by multi-index hashing (Norouzi et al. 2012): of radius + 1 pieces of two codes that differ in `radius` bits, one is
equal.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from tqdm import trange

from dcgan_eval.runtime.errors import InputError, UncertifiedError
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.random import stream

Codes = NDArray[np.uint64]  # (n, words of 64 bits)

SIDE = 32
DIMENSIONS = 3 * SIDE**2
BITS = 128
STEPS = 2000
BATCH = 256
RATE = 1e-3  # Adam's, falling linearly to 0
NOISE = 1.0  # added to pixels, in their standard deviations
DROPOUT = 0.5
FLOOR = 0.03  # added to a standard deviation of pixels in [0, 1]: noise of flat images stays noise


class Autoencoder(NamedTuple):
    """The encoder of a fitted autoencoder. weight: float64 (BITS, 3 · SIDE²). bias: float64 (BITS,).

    each: whether every image is first standardised by itself, so that brightness, contrast and cast do not count.
    mean: float64 (3 · SIDE²,), then subtracted. deviation: what that is divided by.
    """

    weight: Tensor
    bias: Tensor
    each: bool
    mean: Tensor
    deviation: float


@exact()
def fit_autoencoder(
    images: Tensor, *, each: bool, seed: int, device: torch.device | str = "cpu", progress: bool = False
) -> Autoencoder:
    """The paper's 3072-128-3072 denoising, dropout-regularised ReLU autoencoder, fitted to uint8 (n, 3, 32, 32) images.

    Noise is Gaussian, the loss the squared error. each: first standardise every image by the means of its own channels
    and their common deviation. The paper states neither, nor the noise, the share dropped or the steps.
    """
    device = torch.device(device)
    draws = stream(seed, "autoencoder")
    total, squares = torch.zeros(DIMENSIONS, dtype=torch.float64), 0.0
    for some in torch.split(images, 4096):
        x = _pixels(some, each)
        total += x.sum(0)
        squares += float(x.square().sum())
    mean = total / len(images)
    variance = squares / (len(images) * DIMENSIONS) - float(mean.square().mean())
    mean, deviation = mean.to(device), max(variance, 0.0) ** 0.5 + FLOOR
    parameters = [
        ((2 * torch.rand(shape, generator=draws) - 1) * scale).to(device).requires_grad_()
        for shape, scale in (
            ((BITS, DIMENSIONS), DIMENSIONS**-0.5),
            ((BITS,), DIMENSIONS**-0.5),
            ((DIMENSIONS, BITS), BITS**-0.5),
            ((DIMENSIONS,), 0.0),
        )
    ]
    weight, bias, out, out_bias = parameters
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for _ in trange(STEPS, desc="autoencoder", unit="step", leave=False, disable=not progress):
        rows = torch.randint(len(images), (BATCH,), generator=draws)
        clean = ((_pixels(images[rows].to(device), each) - mean) / deviation).float()
        noise = torch.randn(clean.shape, generator=draws).to(device)
        kept = (torch.rand(BATCH, BITS, generator=draws) >= DROPOUT).to(device) / (1 - DROPOUT)
        code = functional.relu(functional.linear(clean + NOISE * noise, weight, bias)) * kept
        loss = functional.mse_loss(functional.linear(code, out, out_bias), clean)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    if not bool(weight.isfinite().all() and bias.isfinite().all()):  # all codes would be 0, and all images duplicates
        raise UncertifiedError("the autoencoder of near-duplicates diverged; use another `seed`, or `method` phash")
    return Autoencoder(weight.detach().double(), bias.detach().double(), each, mean, deviation)


def encode(autoencoder: Autoencoder, images: Tensor) -> Codes:
    """Which units of the code are active: uint64 (n, 2) of uint8 (n, 3, 32, 32) images."""
    a = autoencoder
    x = (_pixels(images.to(a.weight.device), a.each) - a.mean) / a.deviation
    return _packed((functional.linear(x, a.weight, a.bias) > 0).cpu().numpy())


def _pixels(images: Tensor, each: bool) -> Tensor:
    """float64 (n, 3 · SIDE²), in [0, 1] or, if `each`, standardised image by image."""
    x = images.flatten(2).double() / 255
    if not each:
        return x.flatten(1)
    x = (x - x.mean(2, keepdim=True)).flatten(1)
    return x / (x.std(1, keepdim=True) + FLOOR)


def exact_codes(images: Tensor) -> Codes:
    """SHA-256 of shape and pixels, uint64 (n, 4), of uint8 (n, C, H, W) images."""
    shape = repr(tuple(images.shape[1:])).encode()
    digests = b"".join(hashlib.sha256(shape + image.numpy().tobytes()).digest() for image in images)
    return np.frombuffer(digests, np.uint64).reshape(-1, 4)


def perceptual_codes(images: Tensor) -> Codes:
    """The perceptual hash of the package imagehash, uint64 (n, 1), of uint8 (n, C, H, W) images."""
    try:
        from imagehash import phash
    except ImportError as error:
        raise InputError("perceptual hashes need the package imagehash; pip install 'dcgan-eval[dedup]'") from error
    bits = [
        phash(Image.fromarray((image.permute(1, 2, 0) if len(image) == 3 else image[0]).numpy())).hash.ravel()
        for image in images
    ]
    return _packed(np.array(bits, bool).reshape(-1, 64))


def _packed(bits: NDArray[np.bool_]) -> Codes:
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)


def variants(images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The images (n, C, H, W), their mirror images, and the images moved by a pixel, edges repeated.

    Of two opposite moves one is enough where every image is compared with every other.
    """
    yield "as it is", images
    yield "mirrored", images.flip(3)
    h, w = images.shape[2:]
    # torch pads no integers by repetition; float32 holds them exactly
    wide = functional.pad(images.float(), (1, 1, 1, 1), mode="replicate").to(torch.uint8)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        yield "moved", wide[:, :, 1 + down : 1 + down + h, 1 + right : 1 + right + w]


class Pairs(NamedTuple):
    """i, j: int64 (p,), rows of queries and codes. bits: int64 (p,), in how many they differ."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    bits: NDArray[np.int64]


def near(queries: Codes, codes: Codes, radius: int) -> Pairs:
    """All pairs of a query and a code that differ in at most `radius` bits, in order.

    Time and memory grow with the number of codes and of pairs that share a piece of the code: linearly, as long as
    bits are balanced and independent, and there are more such pieces, 2^(bits / (radius + 1)), than codes.
    Raises ValueError where the widths differ, or radius + 1 pieces would be empty.
    """
    width = 64 * codes.shape[1]
    if queries.shape[1] != codes.shape[1] or not 0 <= radius < width:
        raise ValueError(f"queries {queries.shape}, codes {codes.shape} and radius {radius} do not fit")
    found = [Pairs(*(np.empty(0, np.int64),) * 3)]
    for keys, others in zip(_pieces(queries, radius + 1), _pieces(codes, radius + 1), strict=True):
        order = np.argsort(others, kind="stable")
        sorted_ = others[order]
        first = np.searchsorted(sorted_, keys, "left")
        count = np.searchsorted(sorted_, keys, "right") - first
        some = np.flatnonzero(count)
        offset = 0
        while len(some):  # the next code of the same piece, for every query that has one
            j = order[first[some] + offset]
            bits = np.bitwise_count(queries[some] ^ codes[j]).sum(1, dtype=np.int64)
            within = bits <= radius
            found.append(Pairs(some[within], j[within], bits[within]))
            offset += 1
            some = some[count[some] > offset]
    i, j, bits = (np.concatenate(part) for part in zip(*found, strict=True))
    _, once = np.unique(i * max(1, len(codes)) + j, return_index=True)  # found by several pieces
    return Pairs(i[once], j[once], bits[once])


def _pieces(codes: Codes, count: int) -> Iterator[NDArray[np.uint64]]:
    """As integers, at most 64 bits of each of so many disjoint pieces."""
    bits = np.unpackbits(np.ascontiguousarray(codes).view(np.uint8), axis=1, bitorder="little")
    for first in range(count):
        few = bits[:, first::count][:, :64]
        padded = np.zeros((len(few), 64), np.uint8)
        padded[:, : few.shape[1]] = few
        yield _packed(padded.astype(bool))[:, 0]


def distinct(codes: Codes) -> tuple[Codes, NDArray[np.int64]]:
    """The distinct codes, and which of them each is: int64 (n,)."""
    whole = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1] * 8))).ravel()
    _, first, which = np.unique(whole, return_index=True, return_inverse=True)
    return codes[first], which.astype(np.int64)
