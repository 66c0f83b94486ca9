"""From samples, training and held-out images to what their distances say about copying, and a picture to judge by."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dcgan_eval import figures, results
from dcgan_eval.features import Extractor, PixelHash, extract
from dcgan_eval.images import Images, Rows, fitted
from dcgan_eval.metrics.frechet import frechet_distance_of_features
from dcgan_eval.metrics.memorization import (
    FEWEST,
    TAU,
    Nearest,
    authenticity,
    copying_test,
    cosine_distances,
    mifid,
    nearer,
    nearer_than_any,
    nearest,
)
from dcgan_eval.nearest.streaming import by_samples, sizes_up_to
from dcgan_eval.results import Measurement, Row
from dcgan_eval.runtime.devices import with_float64
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import Ranks
from dcgan_eval.runtime.run import HERE, Run

NEIGHBOURS = 5
SAMPLES = (1000, 10_000, 100_000)  # of which the authors' training scripts log the distance


@dataclass(frozen=True, eq=False)
class Found:
    """Of one extractor: rows, and the nearest training images of samples and held-out images, mirror images included
    if `flips`."""

    extractor: str
    flips: bool
    rows: list[Row]
    fake: Nearest
    held_out: Nearest | None


def neighbors(
    fake: Images,
    train: Images,
    held_out: Images | None,
    extractors: Sequence[Extractor],
    run: Run = HERE,
    *,
    seed: int = 0,
) -> Iterator[Found]:
    """By every extractor, without and with mirror images: how near samples come to training images.

    Mean distances, cosine distances and the memorisation-informed distance (MiFID, by Inception); where there are
    held-out images also how many samples are nearer than every one of them, authenticity, the data-copying test C_T,
    and of each number, but for C_T, the same of the held-out images, and, but for the Fréchet distance, a p-value; in
    pixels also how near held-out images are to 1,000, 10,000 … samples.

    run: see `extract`; its ranks share the search, too.
    seed: of C_T's cells.
    Raises InputError for fewer images than these numbers need, and where two of the sets are the same. Held-out images
    that are training images too, and training images that repeat, bias every number: the protocol counts them.
    """
    sides = [images for images in (fake, held_out) if images is not None]
    if len({images.fingerprint for images in (train, *sides)}) <= len(sides):
        names = ", ".join(images.name for images in (train, *sides))
        raise InputError(
            f"{names}: two of these are the same images; samples, training and held-out images must differ"
        )
    if train.n <= NEIGHBOURS:
        raise InputError(f"{train.name}: {train.n} images; the {NEIGHBOURS} nearest need more")
    fewest = 2 if held_out is None else FEWEST
    for images in sides:
        if images.n < fewest:
            raise InputError(f"{images.name}: {images.n} images are too few; want at least {fewest}")
    biases = _biases(train, held_out)
    for extractor in extractors:
        start = time.perf_counter()
        pixels: dict[str, str] = {}

        def features(images: Images, judge: Extractor = extractor, pixels: dict[str, str] = pixels) -> Tensor:
            ready, _ = fitted(images, judge.input_shape)
            seen = PixelHash()
            found = extract(judge, ready, run, seen)
            pixels[images.fingerprint] = seen.digest(ready, run.ranks)
            return run.ranks.gathered(found[:, judge.features]).to(with_float64(run.device))

        in_train = features(train)
        plain = [features(images) for images in sides]
        mirrored: list[Tensor | None] = [None for _ in sides]
        seconds_features = time.perf_counter() - start
        hashes = " ".join(pixels[images.fingerprint] for images in (train, *sides[1:], fake))
        fits = ((images.name, fitted(images, extractor.input_shape)[1]) for images in (train, *sides))
        notes = dict.fromkeys(f"{name}: {what}" for name, what in fits if what)
        for flips in (False, True):
            start = time.perf_counter()
            if flips:
                mirrored = [features(_mirrored(images)) for images in sides]
                seconds_features += time.perf_counter() - start
                start = time.perf_counter()
            near = [nearest(x, in_train, NEIGHBOURS, y, ranks=run.ranks) for x, y in zip(plain, mirrored, strict=True)]
            number = partial(Measurement, task="neighbors", n=fake.n, n_reference=train.n)
            numbers = list(_numbers(number, near, plain, in_train, extractor, flips, seed, run.ranks))
            if extractor.name == "pixels" and held_out is not None and not flips:
                numbers += _by_samples(held_out, fake, extractor, run.device)
            source = results.provenance(
                run,
                data=" ".join(images.name for images in (train, *sides[1:])),
                data_sha256=" ".join(images.sha256 for images in (train, *sides[1:])),
                pixels_sha256=hashes,
                model=fake.name,
                model_sha256=fake.sha256,
                features=extractor.name,
                features_sha256=extractor.fingerprint,
                features_protocol="; ".join([extractor.protocol, *notes]),
                batchnorm=extractor.batchnorm,
                trained_on=extractor.trained_on,
                dtype=extractor.dtype,
                dimensions=in_train.shape[1],
                seed=seed,
                seconds_features=seconds_features,
                seconds=time.perf_counter() - start,
            )
            condition = "; ".join(["with mirror images" if flips else "without mirror images", *biases])
            rows = [results.stamp(replace(number, condition=condition), source) for number in numbers]
            yield Found(extractor.name, flips, rows, near[0], near[1] if len(near) > 1 else None)
        del in_train, plain, mirrored  # before the next one's come


def _numbers(
    number: Callable[..., Measurement],
    near: Sequence[Nearest],
    plain: Sequence[Tensor],
    train: Tensor,
    extractor: Extractor,
    flips: bool,
    seed: int,
    ranks: Ranks,
) -> Iterator[Measurement]:
    """Each metric of the samples, of the held-out images where there are some, and the p-value between both.

    number: a Measurement of all fields that these have in common.
    """

    def each(
        metric: str, values: Sequence[float], method: str, p: float | None = None, **fields: Any
    ) -> Iterator[Measurement]:
        yield number(metric=metric, value=values[0], method=method, **fields)
        if len(values) > 1:
            yield number(metric=metric, role="held-out", value=values[1], method=method, **fields)
        if p is not None:
            yield number(metric=metric, role="p-value", value=p, method=method, **{**fields, "unit": ""})

    first = [n.distances[:, 0] for n in near]
    means = [float(d.mean()) for d in first]
    p = nearer(first[0], first[1]) if len(near) > 1 else None
    yield from each("nearest distance", means, "mean Euclidean distance to the nearest; p by Mann-Whitney's U", p)
    if len(near) > 1:
        share = nearer_than_any(first[0], first[1])
        how = "samples nearer than every held-out image; held-out: how many of images drawn as those; p by their order"
        if bool((first[1] == 0).any()):  # held-out images that are training images, too
            how = "samples at distance 0; held-out: the same share of as many; p by Fisher's exact test"
        counts = [round(len(first[0]) * share.value), len(first[0]) * share.held_out]
        yield from each("suspected copies", counts, how, share.p, unit="images")
        share = authenticity(near[0], near[1], train, ranks=ranks)
        how = "share farther from the nearest than that one from its own (Alaa et al. 2022); p of two proportions"
        yield from each("AuthPct", [100 * share.value, 100 * share.held_out], how, share.p, unit="%")
    if flips:
        return
    cosines = [cosine_distances(x, train, ranks=ranks) for x in plain]
    if len(near) > 1:
        test = copying_test(plain[0], plain[1], train, seed=seed)
        cells = f"{test.cells} of {test.all_cells} cells, seed {seed}"
        yield from each("C_T", [test.value], "data-copying test (Meehan et al. 2020)", test.p, remark=cells)
        how = "mean of 1 - |cos| to the nearest; p by Mann-Whitney's U"
        p = nearer(*cosines)
        yield from each("cosine distance", [float(c.mean()) for c in cosines], how, p)
    else:
        yield from each("cosine distance", [float(cosines[0].mean())], "mean of 1 - |cos| to the nearest")
    distances = [frechet_distance_of_features(x, train) for x in plain]
    name = "MiFID" if extractor.name == "inception" else "memorisation-informed Fréchet distance"
    how = f"Fréchet distance over the cosine distance where below {TAU} (Bai et al. 2021)"
    yield from each(name, [mifid(d, float(c.mean())) for d, c in zip(distances, cosines, strict=True)], how)


def _by_samples(
    held_out: Images, fake: Images, extractor: Extractor, device: torch.device | str
) -> Iterator[Measurement]:
    """As the authors logged while they trained: how well more and more samples cover held-out images."""
    x, samples = (replace(fitted(images, extractor.input_shape)[0], labels=None) for images in (held_out, fake))
    for point in by_samples(x, samples, sizes_up_to(samples.n, SAMPLES), device=device):
        yield Measurement(
            task="neighbors",
            metric=f"held-out to {point.samples:,} samples",
            value=point.distance / 127.5,  # in units of the features
            n=held_out.n,
            n_reference=point.samples,
            method="mean Euclidean distance of held-out images to the nearest of so many samples",
        )


def _biases(train: Images, held_out: Images | None) -> list[str]:
    """How many training images repeat others, and how many held-out images are training images, to the pixel."""
    seen = {hash_ for batch in train.batches(1024) for hash_ in _hashes(batch)}
    found = [f"{train.n - len(seen)} training images repeat others"] if len(seen) < train.n else []
    if held_out is not None:
        among = sum(hash_ in seen for batch in held_out.batches(1024) for hash_ in _hashes(batch))
        found += [f"{among} held-out images are training images"] if among else []
    return found


def _hashes(images: Tensor) -> Iterator[bytes]:
    return (hashlib.sha256(image.numpy().tobytes()).digest() for image in images)


def _mirrored(images: Images) -> Images:
    def read(rows: Rows) -> Tensor:
        return images.read(rows).flip(3)

    return replace(images, read=read, selection=f"{images.selection}, mirrored", survey=None)


def picture(found: Found, fake: Images, train: Images, count: int = 8) -> figures.Picture:
    """The distances of samples and held-out images, and the nearest samples, each with its neighbours."""
    rows = torch.argsort(found.fake.distances[:, 0])[:count].cpu()
    tiles = []
    for row in rows.tolist():
        sample = fitted(fake, (3, *train.shape[1:]))[0].read(torch.tensor([row]))
        near = fitted(train, (3, None, None))[0].read(found.fake.rows[row].cpu())
        flips = found.fake.flipped[row].cpu()[:, None, None, None]
        tiles.append(torch.cat([sample, torch.where(flips, near.flip(3), near)]))
    lines = {f"{fake.name}": found.fake.distances[:, 0].cpu().numpy()}
    if found.held_out is not None:
        lines["held-out images"] = found.held_out.distances[:, 0].cpu().numpy()
    return figures.suspects(torch.stack(tiles), lines, f"distance to the nearest of {train.name}, {found.extractor}")
