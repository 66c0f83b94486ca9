"""Walking in the latent space (section 6.1 of the paper): paths between z, how smooth they are, and the way back.

A sharp turn on the way, or an end that differs from its start by little, is a sign of memorised images; a smooth change
of what is drawn says that the generator has learnt what lies between them.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dcgan_eval import figures
from dcgan_eval.images import Images
from dcgan_eval.models.networks import Discriminator, sample_z, scale_images
from dcgan_eval.options import Interpolation, WalkOptions
from dcgan_eval.results import Row
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.random import stream
from dcgan_eval.studies.model import AT_ONCE, Model
from dcgan_eval.studies.rows import mean, row

EPSILON = 1e-3  # of a path: a tenth of it changes lengths by 0.4 % at most
CANDIDATES = 256  # z, the nearest of which optimisation starts from
RATE = 0.1  # of Adam; 0.03 found images less near in as many steps
SHOWN = 8  # of given images
PARALLEL = 1e-4  # radians: along a shorter arc the sphere is flat


def straight(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """(1 - t) a + t b. a, b: (n, d); t: (n, 1) in [0, 1]."""
    return a + t * (b - a)


def spherical(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Directions along the great circle (Shoemake 1985; for z, White 2016), lengths along a straight line.

    a, b: (n, d); t: (n, 1) in [0, 1]. Where the two point the same way, or opposite ways, the straight line.
    """
    lengths = [v.double().norm(dim=1, keepdim=True).clamp_min(1e-30) for v in (a, b)]
    u, v = a / lengths[0], b / lengths[1]
    angle = (u * v).sum(1, keepdim=True).clamp(-1, 1).acos()
    flat = (angle < PARALLEL) | (angle > math.pi - PARALLEL)
    angle = angle.where(~flat, 1.0)
    arc = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
    return (arc * torch.lerp(lengths[0], lengths[1], t.double())).to(a.dtype).where(~flat, straight(a, b, t))


PATHS: dict[Interpolation, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"straight": straight, "spherical": spherical}


def between(z: Tensor, steps: int, path: Interpolation = "straight") -> Tensor:
    """z (n, d) → (n - 1, steps, d): from each to the next, both ends included. InputError for n or steps below 2."""
    if len(z) < 2 or steps < 2:
        raise InputError(f"a walk goes between at least 2 z in at least 2 steps, not {len(z)} z in {steps}")
    t = torch.linspace(0, 1, steps, dtype=z.dtype)[:, None]
    return torch.stack([PATHS[path](a.expand(steps, -1), b.expand(steps, -1), t) for a, b in pairwise(z)])


def perceptual_distance(discriminator: Discriminator, x: Tensor, y: Tensor, label: Tensor | None = None) -> Tensor:
    """Squared distance of images in all of a discriminator's convolutions, float64 (n,).

    As LPIPS (Zhang et al. 2018, eq. 1) with all channels weighing the same: maps scaled to length 1 at every place,
    their squared distance averaged over places, summed over layers. x, y: float (n, C, H, W) in the networks' range.
    """
    total = torch.zeros(len(x), dtype=torch.float64)
    for a, b in zip(discriminator.conv_features(x, label), discriminator.conv_features(y, label), strict=True):
        difference = torch.nn.functional.normalize(a) - torch.nn.functional.normalize(b)
        total += difference.square().sum(1).mean((1, 2)).cpu().double()
    return total


@dataclass(frozen=True)
class Smoothness:
    """Of a way from one image to another: each pair's path length, and D's logit half way, float64 (pairs,); of the
    samples at its ends the logit alone."""

    length: Tensor | None
    logit: Tensor


@exact()
def smoothness(model: Model, pairs: int, seed: int) -> dict[str, Smoothness]:
    """How fast images change along paths between random z, and along a blending of the pixels of their ends.

    length: perceptual path length (Karras et al. 2019, eq. 2), d(x(t), x(t + e)) / e^2 at one random t of each pair, d
    being `perceptual_distance`. Of 'straight', 'spherical' and 'pixels blended'. logit: D's at t = 1/2, above 0 where
    it takes the image for real; and of 'samples', where the ways begin.
    """
    judge, a = model.discriminator, model.architecture
    rng = stream(seed, "pairs")
    z = sample_z(a, 2 * pairs, rng)
    t = torch.rand(pairs, 1, generator=rng) * (1 - EPSILON)
    found = {}
    ends = [model.paint(some) for some in (z[:pairs], z[pairs:])]

    def blended(at: Tensor) -> Tensor:
        return torch.lerp(ends[0], ends[1], at.to(model.device)[:, :, None, None])

    def logit(images: Tensor) -> Tensor:
        return torch.cat([judge(part, model.y(len(part))).cpu().double() for part in torch.split(images, AT_ONCE)])

    ways: dict[str, Callable[[Tensor], Tensor]] = {
        name: lambda at, go=go: model.paint(go(z[:pairs], z[pairs:], at))  # type: ignore[misc]
        for name, go in PATHS.items()
    }
    with torch.inference_mode():
        for name, way in {**ways, "pixels blended": blended}.items():
            x, y, half = way(t), way(t + EPSILON), way(torch.full_like(t, 0.5))
            length = [
                perceptual_distance(judge, p, q, model.y(len(p)))
                for p, q in zip(torch.split(x, AT_ONCE), torch.split(y, AT_ONCE), strict=True)
            ]
            found[name] = Smoothness(torch.cat(length) / EPSILON**2, logit(half))
        found["samples"] = Smoothness(None, logit(ends[0]))
    return found


@dataclass(frozen=True)
class Found:
    """z float32 (n, z_dim) of images; error float64 (n,): root mean square over pixels, in grey levels of 255."""

    z: Tensor
    error: Tensor


@exact()
def invert(model: Model, images: Tensor, *, seed: int = 0, steps: int = 200) -> Found:
    """The z whose images are nearest to those given, uint8 (n, C, H, W), in the mean square of pixels.

    From the nearest of `CANDIDATES` random z on by Adam, its rate falling from `RATE` to 0 by a cosine. Uniform z stay
    in [-1, 1]; normal ones may be of any length. A local optimum: the error says how far from the image it is.
    """
    a, g = model.architecture, model.generator
    if images.shape[1:] != (a.image_channels, a.image_size, a.image_size):
        raise InputError(f"images of {tuple(images.shape[1:])} are not what {model.name} draws")
    want = scale_images(images, a).to(model.device)
    candidates = sample_z(a, CANDIDATES, stream(seed, "candidates"))
    drawn = model.paint(candidates)
    first = [int((drawn - x).square().flatten(1).mean(1).argmin()) for x in want]
    z = candidates[first].to(model.device).requires_grad_()
    optimiser = torch.optim.Adam([z], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    for _ in tqdm(range(steps), desc="z", unit="step", leave=False, disable=not model.run.progress):
        optimiser.zero_grad()
        for some in torch.split(torch.arange(len(z)), AT_ONCE):
            # of every image by itself: Adam scales each coordinate, so that images do not touch one another
            (g(z[some], model.y(len(some))) - want[some]).square().flatten(1).mean(1).sum().backward()
        optimiser.step()
        schedule.step()
        if a.z_distribution == "uniform":
            z.data.clamp_(-1, 1)
    found = z.detach()
    low, high = a.value_range
    square = (model.paint(found) - want).square().flatten(1).double().mean(1)
    return Found(found.cpu(), square.sqrt().cpu() * (255 / (high - low)))


@dataclass(frozen=True)
class Walk:
    """z: those walked between, float32 (n, z_dim). path: (n - 1, steps, C, H, W) uint8. ways: of one pair of images,
    'straight', 'spherical' and 'pixels blended', (3, steps, C, H, W). given: the images whose z they are, (n, C, H, W),
    where they were searched for. rows: the numbers."""

    z: Tensor
    given: Tensor | None
    path: Tensor
    ways: Tensor
    rows: list[Row]


@exact()
def walk(
    model: Model,
    options: WalkOptions = WalkOptions(),
    images: Images | None = None,
) -> Walk:
    """From each of `num_points` random z, or of the z found for as many images, to the next.

    Rows: of each way path length and D's logit, where there is a D; or of images the error of their z, and of as many
    samples, which have one, the same error. pairs: see `smoothness`. inversion_steps: see `invert`.
    """
    num, steps, seed, iterations = options.num_points, options.steps, options.seed, options.inversion_steps
    rows: list[Row] = []
    common: dict[str, Any] = {"seed": seed, **model.fields}
    given = None
    if images is None:
        z = model.z(num, seed)
    else:
        start = time.perf_counter()
        given = images.subset(range(min(num, images.n))).tensor()
        found = invert(model, given, seed=seed, steps=iterations)
        own = invert(model, model.draw(model.z(len(given), seed)), seed=seed, steps=iterations)
        z, took = found.z, time.perf_counter() - start
        sought = f"the nearest of {CANDIDATES} z, then {iterations} steps of Adam at {RATE}"
        typical = float(model.z(CANDIDATES, seed).norm(dim=1).mean())
        for what, some in (("images given", found), ("its own samples", own)):
            for metric, values, how in (
                ("round trip error", some.error, f"root mean square of pixels, of 255; {sought}"),
                ("length of z", some.z.double().norm(dim=1) / typical, "of that of samples, in their mean"),
            ):
                rows.append(
                    row(
                        "walk", metric, condition=what, method=how, data=images, n=len(z),
                        seconds=took, **common, **mean(values, "images"),
                    )
                )  # fmt: skip
    drawn = model.draw(between(z, steps, options.path).flatten(0, 1))
    drawn = drawn.reshape(-1, steps, *drawn.shape[1:])
    ends = drawn[0, [0, -1]].float()
    t = torch.linspace(0, 1, steps)[:, None, None, None]
    ways = [model.draw(between(z[:2], steps, name)[0]) for name in PATHS]
    ways.append(torch.lerp(ends[0], ends[1], t).round().to(torch.uint8))
    if images is None and model.has_discriminator:
        start = time.perf_counter()
        measured = smoothness(model, options.pairs, seed)
        took = time.perf_counter() - start
        for way, of in measured.items():
            for metric, values, how in (
                (
                    "path length",
                    of.length,
                    "perceptual path length (Karras et al. 2019) in all convolutions of the discriminator, each place "
                    f"of length 1, steps of {EPSILON}",
                ),
                ("logit", of.logit, "the discriminator's half way, and of samples; above 0 an image is real to it"),
            ):
                if values is None:
                    continue
                rows.append(
                    row(
                        "walk", metric, condition=way, method=how, n=options.pairs,
                        features=model.judge_name, features_sha256=model.judge.sha256, seconds=took, **common,
                        **mean(values, "pairs"),
                    )
                )  # fmt: skip
    return Walk(z, given, drawn, torch.stack(ways), rows)


def picture(found: Walk, model: Model, path: Interpolation) -> figures.Picture:
    """The walk, a row from each z to the next, above the first row three ways."""
    steps = found.path.shape[1]
    columns = figures.fitting(steps)
    parts = [
        figures.Tiles(
            f"{path} paths between {len(found.z)} z",
            found.path[: figures.FITS, columns],
            rows=[f"{i} to {i + 1}" for i in range(min(len(found.path), figures.FITS))],
        ),
        figures.Tiles("the first of them, three ways", found.ways[:, columns], rows=[*PATHS, "pixels blended"]),
    ]
    if found.given is not None:
        drawn = torch.cat([found.path[:, 0], found.path[-1:, -1]])
        both = torch.stack([found.given, drawn])[:, :SHOWN]
        parts.insert(0, figures.Tiles("what their z draw", both, rows=["given", "found"]))
    return figures.sheet(parts, f"Walking in the latent space of {model.name}: {steps} steps from each z to the next")


def frames(found: Walk) -> Iterator[Tensor]:
    """Forth and back, uint8 (C, H, W) each, as a loop shows them: no image twice in a row."""
    forth = [found.path[0, 0], *(image for leg in found.path for image in leg[1:])]
    yield from forth
    yield from forth[-2:0:-1]
