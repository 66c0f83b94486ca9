"""Table 3 of the paper: test digits classified by the nearest of generated, labelled ones, beside real ones."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from dcgan_eval import figures, results
from dcgan_eval.features import PixelHash
from dcgan_eval.images import Images
from dcgan_eval.nearest.streaming import by_samples, sizes_up_to
from dcgan_eval.results import Interval, Measurement, Row
from dcgan_eval.results.intervals import wilson
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.run import HERE, Run

SIZES = (1000, 10_000, 50_000, 60_000, 100_000, 1_000_000, 10_000_000)
REAL = (1000, 10_000, 50_000, 60_000)


def table3(
    test: Images,
    train: Images,
    generated: Images,
    run: Run = HERE,
    *,
    seed: int = 0,
    resume_from: Path | None = None,
) -> Iterator[Row]:
    """Errors of the 1-nearest-neighbour classifier in pixels, and the mean distance to the nearest, a row each.

    By the first 1,000, 10,000 … real training images and by as many generated ones, up to all there are.

    seed: that the samples were drawn by, to be reported.
    resume_from: a file that keeps the search, as `by_samples`; where it goes on from one, its seconds are 0.
    Raises InputError for unlabelled images, and images of different shapes.
    """
    if run.ranks.world > 1:
        raise InputError("table3: runs in one process")
    for images in (test, train, generated):
        if images.labels is None:
            raise InputError(f"{images.name}: has no labels; Table 3 needs them, and a conditional generator")
        if images.shape != test.shape:
            shapes = (f"{one.name} of {'x'.join(map(str, one.shape))}" for one in (test, images))
            raise InputError(f"{' and '.join(shapes)} have no distances; both must have one shape")
    if test.labels is not None and bool((test.labels < 0).any()):
        raise InputError(f"{test.name}: Table 3 needs a label on every test image")
    pixels = " ".join(map(_pixels, (test, train)))
    for images in (train, generated):
        is_real = images is train
        sizes = sizes_up_to(images.n, REAL if is_real else SIZES)
        goes_on = not is_real and resume_from is not None and resume_from.exists()
        start = time.perf_counter()
        state = None if is_real else resume_from
        for point in by_samples(test, images, sizes, state=state, device=run.device, progress=run.progress):
            assert point.error is not None
            source = results.provenance(
                run,
                data=f"{test.name} {train.name}",
                data_sha256=f"{test.sha256} {train.sha256}",
                pixels_sha256=pixels,
                model=None if is_real else images.name,
                model_sha256=None if is_real else images.sha256,
                features="pixels",
                features_protocol="pixels in [0, 255]",
                trained_on="nothing",
                dtype="uint8",
                dimensions=test.shape[0] * test.shape[1] * test.shape[2],
                seed=seed,
                seconds=0.0 if goes_on else time.perf_counter() - start,
            )
            for metric, value, unit, interval in (
                ("error", point.error, "%", wilson(point.error / 100, test.n, "test images")),
                ("nearest distance", point.distance, "", Interval()),
            ):
                measured = Measurement(
                    task="table3",
                    method="1-nearest neighbour, Euclidean; distance is the mean to the nearest",
                    metric=metric,
                    value=value,
                    unit=unit,
                    n=test.n,
                    n_reference=point.samples,
                    **asdict(interval),
                )
                yield results.stamp(measured, source)


def _pixels(images: Images) -> str:
    seen = PixelHash()
    for start, batch in zip(range(0, images.n, 1024), images.batches(1024), strict=True):
        seen.add(batch, start)
    return seen.digest(images)


def picture(rows: Sequence[Row]) -> figures.Picture:
    """The error and the distance over the number of images."""
    panels: dict[str, dict[str, figures.Line]] = {}
    titles = {"error": "test error of the nearest neighbour, %", "nearest distance": "mean distance to it"}
    for metric, title in titles.items():
        points = [row for row in rows if row.metric == metric]
        panels[title] = {
            model or "real images": (
                [row.n_reference for row in points if row.model == model],
                [row.value for row in points if row.model == model],
            )
            for model in dict.fromkeys(row.model for row in points)
        }
    return figures.curves(panels, "images searched", log_x=True)
