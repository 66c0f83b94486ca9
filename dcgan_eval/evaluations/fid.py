"""From two sets of images to the distances between them: features of both, streamed once, then every metric.

Features of a side are computed once, whatever is measured; files are decoded once before, to check them. The Fréchet
distance and the Inception score keep sums only; what needs the features themselves, the kernel distance and precision,
recall, density and coverage, keeps them in memory.

The interval of a distance is over other generated sets of as many images, against the same real ones, but for
recall's, which is over other real images.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcgan_eval import results
from dcgan_eval.features import Extractor, PixelHash, feature_blocks, share
from dcgan_eval.features.content import UNKNOWN
from dcgan_eval.features.moments import Statistics
from dcgan_eval.images import Images, fitted
from dcgan_eval.metrics import extrapolation
from dcgan_eval.metrics.extrapolation import POINTS, frechet_distance_at_infinity
from dcgan_eval.metrics.frechet import Gaussian, Moments, frechet_distance, without_each
from dcgan_eval.metrics.inception_score import InceptionScore, Splits
from dcgan_eval.metrics.kernel import kernel_distance
from dcgan_eval.metrics.manifold import Manifold, manifold
from dcgan_eval.options import FidOptions
from dcgan_eval.results import Interval, Measurement, Row, Spread
from dcgan_eval.results.intervals import REAL_IMAGES, jackknife, of_error, of_fraction, of_mean, students_t
from dcgan_eval.results.intervals import spread as spread_of
from dcgan_eval.runtime.devices import with_float64
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.run import HERE, Run

NEED_FEATURES = {"kid", "prdc"}  # of the real side; of the fake one, also fid-infinity
BLOCKS = 10  # random ones of a generated set, to leave out in turn
WIDEST = 2560  # features: of each block a covariance is kept
FOR_BIAS = 6  # generated images per feature: with fewer, the jackknife finds too large a bias


class Side(NamedTuple):
    """What is known of one set of images. pixels: a hash of them by the fingerprint of what they were given to; none of
    saved statistics. features, score: None where no metric needs them. blocks: rows of each of `BLOCKS` random blocks,
    int64, and moments: of their features; () where there is no interval of them. notes: what was done to the images
    first."""

    name: str
    sha256: str
    pixels: dict[str, str]
    n: int
    gaussian: Gaussian
    features: Tensor | None
    score: InceptionScore | None
    blocks: tuple[Tensor, ...]
    moments: tuple[Moments, ...]
    notes: tuple[str, ...]
    seconds: float


def fid(
    real: Images | Statistics,
    fakes: Sequence[Images | Statistics],
    extractor: Extractor,
    options: FidOptions = FidOptions(),
    run: Run = HERE,
    *,
    classifier: Extractor | None = None,
    save: Callable[[Statistics], None] | None = None,
    skip_corrupt: bool = False,
) -> Iterator[Row]:
    """FID and its relatives: every metric of generated images against real ones, a row each.

    fakes: one set, or samples of one generator by several seeds, over which a metric's mean and spread are taken.
    extractor: of the features; images of other shapes are fitted to it.
    options: which metrics, and what decides them. The seed is of KID's subsets, the Inception score's shuffle, the
        subsets of the extrapolation, and the blocks of the jackknife.
    run: see `extract`.
    classifier: whose outputs are class logits, for the Inception score; by default the extractor's own logits.
    save: is handed the real set's statistics.
    skip_corrupt: leave out files that cannot be read, and say so; otherwise any stops it.
    Raises InputError for statistics of another extractor, or where a metric needs images; too few images for a metric;
    files that cannot be read; and features that are not finite.
    """
    check_metrics(options, real, fakes, extractor, classifier)

    def side(images: Images | Statistics, is_real: bool, blocks: int = 0) -> Side:
        if isinstance(images, Statistics):
            # ours begin with the extractor's protocol; what was done to the images follows
            what = images.protocol.removeprefix(extractor.protocol).removeprefix("; ")
            g = images.gaussian
            return Side(images.name, images.sha256, {}, g.n, g, None, None, (), (), (what,) if what else (), 0.0)
        keep = NEED_FEATURES | (set() if is_real else {"fid-infinity"})
        return _side(
            images,
            extractor,
            options,
            classifier,
            is_real=is_real,
            blocks=blocks,
            keeps=bool(keep & set(options.metrics)),
            skip_corrupt=skip_corrupt,
            run=run,
        )

    reals = side(real, True)
    if save is not None:
        protocol = "; ".join([extractor.protocol, *reals.notes])
        save(Statistics(reals.gaussian, reals.name, reals.sha256, extractor.fingerprint, protocol))
    drawn = [side(fake, False, blocks=BLOCKS if len(fakes) == 1 else 0) for fake in fakes]
    for metric in options.metrics if drawn else ():
        start = time.perf_counter()
        found = [_measure(metric, reals, fake, options, extractor, classifier, run) for fake in drawn]
        seconds = time.perf_counter() - start
        for numbers in zip(*found, strict=True):
            first = numbers[0]
            value, spread, interval = first.value, first.spread, first.interval
            draws = tuple(number.value for number in numbers)
            if len(draws) > 1:
                value, spread, interval = float(np.mean(draws)), spread_of(draws, "sample sets"), Interval()
            mean = of_mean(draws, "sample sets")
            judge = classifier if metric == "is" and classifier is not None else extractor
            used = _outputs(judge, metric == "is")
            measured = Measurement(
                task="fid",
                metric=first.name,
                value=value,
                draws=draws if len(draws) > 1 else (),
                draws_low=mean.low,
                draws_high=mean.high,
                n=drawn[0].n,
                n_reference=reals.n,
                method=first.method,
                remark=first.remark if len(draws) == 1 else "",
                **asdict(interval),
                **asdict(spread),
            )
            source = results.provenance(
                run,
                data=reals.name,
                data_sha256=reals.sha256,
                pixels_sha256=" ".join(
                    [
                        reals.pixels.get(extractor.fingerprint, UNKNOWN),
                        *(fake.pixels.get(judge.fingerprint, UNKNOWN) for fake in drawn),
                    ]
                ),
                model=drawn[0].name,
                model_sha256=" ".join(dict.fromkeys(fake.sha256 for fake in drawn)),
                features=judge.name,
                features_sha256=judge.fingerprint,
                features_protocol="; ".join([judge.protocol, *dict.fromkeys(reals.notes + drawn[0].notes)]),
                batchnorm=judge.batchnorm,
                trained_on=judge.trained_on,
                dtype=judge.dtype,
                dimensions=used.stop - used.start,
                seed=options.seed,
                seconds_features=reals.seconds + sum(fake.seconds for fake in drawn),
                seconds=seconds,
            )
            yield results.stamp(measured, source)


def check_metrics(
    options: FidOptions,
    real: Images | Statistics,
    fakes: Sequence[Images | Statistics],
    extractor: Extractor,
    classifier: Extractor | None,
) -> None:
    """Raises InputError for what can be known to fail before an image is read."""
    if "is" in options.metrics and classifier is None and "logits" not in extractor.slices:
        raise InputError(
            f"metric 'is' needs class probabilities, which {extractor.name} has not; name one with `classifier`"
        )
    sides = [(real, True), *((fake, False) for fake in fakes)]
    # of the smaller side first, so that the largest possible is possible for both
    for images, is_real in sorted(sides, key=lambda side: side[0].n if isinstance(side[0], Images) else 0):
        if isinstance(images, Images):
            _check_counts(images.name, images.n, options, extractor, is_real)
    for images, is_real in sides:
        if isinstance(images, Images):
            continue
        needs = [m for m in options.metrics if not (m == "fid" or (is_real and m in ("is", "fid-infinity")))]
        if needs:
            raise InputError(f"{images.name}: holds statistics only, but {', '.join(needs)} needs its images")
        columns = _outputs(extractor)
        d = columns.stop - columns.start
        if len(images.gaussian.mean) != d:
            raise InputError(
                f"{images.name}: statistics of {len(images.gaussian.mean)} dimensions, but {extractor.name} has {d}; "
                "save them with the same features"
            )
        if images.extractor not in ("", extractor.fingerprint):
            raise InputError(
                f"{images.name}: statistics of another extractor ({images.protocol}), not of {extractor.name} "
                f"({extractor.protocol}); save them with the same features"
            )


def _check_counts(name: str, n: int, options: FidOptions, extractor: Extractor, is_real: bool) -> None:
    if n < 2:
        raise InputError(f"{name}: a covariance needs at least two images, not {n}")
    size, splits, k = options.kid_subset_size, options.is_splits, options.prdc_k
    fewest: dict[str, int] = {"kid": size, "prdc": k + 1}
    remedy: dict[str, str] = {
        "kid": f"a subset of {size} needs {size}; the largest possible `kid_subset_size` is {n}",
        "prdc": f"the {k}-th neighbour needs {k + 1}; the largest possible `prdc_k` is {n - 1}",
    }
    if not is_real:
        columns = _outputs(extractor)
        d = columns.stop - columns.start
        fewest |= {"is": splits, "fid-infinity": extrapolation.fewest(d)}
        remedy |= {
            "is": f"{splits} splits need {splits}; the largest possible `is_splits` is {n}",
            "fid-infinity": f"the extrapolation needs subsets of {extrapolation.PER_FEATURE:g} samples for each of {d} "
            f"features, and so {fewest['fid-infinity']} samples",
        }
    for metric in options.metrics:
        if n < fewest.get(metric, 0):
            raise InputError(f"{name}: {n} images are too few for {metric}: {remedy[metric]}")


def _outputs(extractor: Extractor, logits: bool = False) -> slice:
    """Columns of the features without the logits that Inception has beside them, or of the logits; else all."""
    return extractor.slices.get("logits", extractor.features) if logits else extractor.features


def _side(
    images: Images,
    extractor: Extractor,
    options: FidOptions,
    classifier: Extractor | None,
    *,
    is_real: bool,
    blocks: int,
    keeps: bool,
    skip_corrupt: bool,
    run: Run,
) -> Side:
    start = time.perf_counter()
    scores = not is_real and "is" in options.metrics
    notes: list[str] = []
    pixels: dict[str, dict[int, str]] = {}  # by who was given them, and the part
    parts = [(torch.arange(images.n), images)]
    if images.survey is not None:
        survey = images.survey(run.progress, run.ranks)
        parts = survey.parts
        if survey.broken:
            some = ", ".join(survey.broken[:3]) + (", …" if len(survey.broken) > 3 else "")
            what = f"{len(survey.broken)} of {images.n} files cannot be read: {some}"
            if not skip_corrupt:
                raise InputError(f"{images.name}: {what}; replace them, or leave them out with `skip_corrupt`")
            notes.append(f"{images.name}: {what}; left out")
    n = sum(part.n for _, part in parts)
    _check_counts(images.name, n, options, extractor, is_real)
    # rows of what is left, in the order of the files
    place = torch.full((images.n,), -1, dtype=torch.int64)
    place[torch.cat([rows for rows, _ in parts]).sort().values] = torch.arange(n)
    columns = _outputs(extractor)
    device = with_float64(run.device)
    d = columns.stop - columns.start
    of_rows = random_blocks(n, options.seed, blocks) if n >= 2 * blocks else ()
    apart = of_rows if "fid" in options.metrics and d <= WIDEST else ()
    block_of = torch.empty(n, dtype=torch.int64)
    for which, rows in enumerate(apart):
        block_of[rows] = which
    # of all by themselves, so that the seed of the blocks changes no rounding
    moments, of_blocks = Moments.none(d, device), [Moments.none(d, device) for _ in apart]
    features = torch.zeros(n, d) if keeps else None
    span = _outputs(classifier or extractor, logits=True)
    splits, sums, seen = None, None, torch.zeros(n if scores else 0, dtype=torch.int64)
    if scores:
        splits = Splits.drawn(n, seed=options.seed, splits=options.is_splits)
        sums = splits.sums(torch.zeros(0, span.stop - span.start), torch.zeros(0, dtype=torch.int64))
    for number, (rows, part) in enumerate(parts):
        judges = [extractor] if classifier is None or not scores else [extractor, classifier]
        for judge in judges:
            fitting, what = fitted(part, judge.input_shape)
            if what:
                notes.append(f"{images.name}: " + (f"{part.n} images " if len(parts) > 1 else "") + what)
            at, hashed = share(judge, fitting, run.ranks).start, PixelHash()
            for block in feature_blocks(judge, fitting, run, hashed):
                here = place[rows[at : at + len(block)]]
                at += len(block)
                if judge is extractor:
                    moments = moments.merged(Moments.of(block[:, columns].to(device)))
                    for which in range(len(of_blocks)):
                        own = block[block_of[here] == which][:, columns]
                        of_blocks[which] = of_blocks[which].merged(Moments.of(own.to(device)))
                    if features is not None:
                        features[here] = block[:, columns]
                if splits is not None and sums is not None and judge is judges[-1]:
                    sums = sums.plus(splits.sums(block[:, span], here))
                    seen.index_add_(0, here, torch.ones_like(here))
            pixels.setdefault(judge.fingerprint, {})[number] = hashed.digest(fitting, run.ranks)
    return Side(
        images.name,
        images.sha256,
        {judge: _of_all(list(found.values())) for judge, found in pixels.items()},
        n,
        moments.over(run.ranks).gaussian(),
        None if features is None else run.ranks.sum(features),  # of which each rank has set its own rows
        None if splits is None or sums is None else splits.score(sums.over(run.ranks), run.ranks.sum(seen)),
        of_rows,
        tuple(some.over(run.ranks) for some in of_blocks),
        tuple(notes),
        time.perf_counter() - start,
    )


def _of_all(hashes: Sequence[str]) -> str:
    """One hash of images of several sizes."""
    if len(hashes) == 1 or UNKNOWN in hashes:
        return hashes[0] if len(hashes) == 1 else UNKNOWN
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


class _Number(NamedTuple):
    name: str
    value: float
    method: str
    spread: Spread = Spread()
    interval: Interval = Interval()
    remark: str = ""


def _measure(
    metric: str,
    real: Side,
    fake: Side,
    options: FidOptions,
    extractor: Extractor,
    classifier: Extractor | None,
    run: Run,
) -> list[_Number]:
    """The numbers of one metric. Only those of Inception itself are called by its name."""
    inception = extractor.name == "inception"
    try:
        if metric == "fid":
            distance = frechet_distance(real.gaussian, fake.gaussian)
            how = "Fréchet distance of Gaussians, covariances over n - 1"
            interval, remark = _of_blocks(distance, real, fake)
            name = "FID" if inception else "Fréchet distance"
            return [_Number(name, distance, how, interval=interval, remark=remark)]
        if metric == "is":
            assert fake.score is not None
            mean, std, splits = fake.score
            name = "IS" if inception and classifier is None else "classifier score"
            how = f"exp KL(p(y|x), p(y)), {splits} splits, shuffled with seed {options.seed}"
            spread = Spread(std, "standard deviation", splits, "splits")
            return [_Number(name, mean, how, spread, of_splits(fake.score))]
        assert fake.features is not None
        fakes = fake.features.to(with_float64(run.device))
        if metric == "fid-infinity":
            line = frechet_distance_at_infinity(real.gaussian, fakes, seed=options.seed)
            how = (
                f"Fréchet distance extrapolated to infinitely many samples, line over 1/N through {POINTS} subsets of "
                f"{line.sizes[0]:,} to {line.sizes[-1]:,}, seed {options.seed}"
            )
            name = "FID∞" if inception else "Fréchet distance∞"
            return [_Number(name, line.intercept, how)]
        assert real.features is not None
        reals = real.features.to(with_float64(run.device))
        if metric == "kid":
            subsets, size, seed = options.kid_subsets, options.kid_subset_size, options.seed
            found = kernel_distance(fakes, reals, seed=seed, subsets=subsets, subset_size=size)
            how = f"unbiased MMD², kernel (x·y/d + 1)³, {subsets} subsets of {size}, seed {seed}"
            spread = Spread(found.std, "standard deviation", subsets, "subsets")
            interval = of_error(found.mean, found.error, fake.n, "generated images")
            return [_Number("KID" if inception else "kernel distance", found.mean, how, spread, interval)]
        shares = manifold(reals, fakes, k=options.prdc_k, ranks=run.ranks, blocks=fake.blocks)
        how = f"balls to the {shares.k}-th nearest neighbour, open"
        return [
            _Number(name, getattr(shares, name), how, interval=interval)
            for name, interval in of_shares(shares, real.n, fake.n).items()
        ]
    except ValueError as error:
        raise InputError(f"{metric} of {fake.name} and {real.name}: {error}") from error


def random_blocks(n: int, seed: int, blocks: int = BLOCKS) -> tuple[Tensor, ...]:
    """Rows 0 to n − 1, int64, in random blocks of one size, or one image more."""
    order = torch.randperm(n, generator=stream(seed, "blocks"))
    return tuple(order[i::blocks].sort().values for i in range(blocks))


def _of_blocks(distance: float, real: Side, fake: Side) -> tuple[Interval, str]:
    """The interval of a Fréchet distance over other generated sets, and its bias in words."""
    if not fake.moments:
        return Interval(), ""
    without = [frechet_distance(real.gaussian, some) for some in without_each(fake.moments)]
    interval, bias = jackknife(distance, without, "generated images")
    if fake.n < FOR_BIAS * len(fake.gaussian.mean):
        return interval, f"bias not known: fewer than {FOR_BIAS} generated images per feature"
    return interval, f"a bias of about {bias:.3g} is due to the number of generated images (jackknife)"


def of_splits(score: InceptionScore) -> Interval:
    """The interval of an Inception score over its splits, which share no image; none of one split."""
    mean, std, splits = score
    if splits < 2:
        return Interval()
    # their spread divides by their number
    return students_t(mean, std * (splits / (splits - 1)) ** 0.5, splits, "splits", least=1)


def of_shares(found: Manifold, n_real: int, n_fake: int) -> dict[str, Interval]:
    """The intervals of precision, recall, density and coverage, by name. n_real, n_fake: images of both sets."""
    generated, each = "generated images", found.balls.double().cpu().numpy() / found.k
    return {
        "precision": of_fraction(found.precision, n_fake, generated),
        "recall": of_fraction(found.recall, n_real, REAL_IMAGES),
        "density": students_t(found.density, float(each.std(ddof=1)), n_fake, generated, least=0),
        "coverage": jackknife(found.coverage, found.without, generated, most=1)[0] if found.without else Interval(),
    }
