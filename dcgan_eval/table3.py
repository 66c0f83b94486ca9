"""Table 3 of the paper: test digits classified by the nearest of generated, labelled ones, beside real ones."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from dcgan_eval import figures, results
from dcgan_eval.errors import InputError
from dcgan_eval.images import Images
from dcgan_eval.results import Row
from dcgan_eval.runtime.fast_ops import instruction_set
from dcgan_eval.sample_neighbors import by_samples, sizes_up_to

SIZES = (1000, 10_000, 50_000, 60_000, 100_000, 1_000_000, 10_000_000)
REAL = (1000, 10_000, 50_000, 60_000)
Z95 = 1.96


def table3(
    test: Images,
    train: Images,
    generated: Images,
    *,
    seed: int = 0,
    state: Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
    command: str = "",
) -> Iterator[Row]:
    """Errors of the 1-nearest-neighbour classifier in pixels, and the mean distance to the nearest, a row each.

    By the first 1,000, 10,000 … real training images and by as many generated ones, up to all there are. seed: which
    the samples were drawn by, to be stated. Where a search goes on from a state, its seconds are 0. state, device,
    progress: see `by_samples`.
    Raises InputError for unlabelled images, and images of different shapes.
    """
    for images in (test, train, generated):
        if images.labels is None:
            raise InputError(f"{images.name}: has no labels; Table 3 needs them, and a conditional generator")
        if images.shape != test.shape:
            shapes = (f"{one.name} of {'x'.join(map(str, one.shape))}" for one in (test, images))
            raise InputError(f"{' and '.join(shapes)} have no distances; both must have one shape")
    if test.labels is not None and bool((test.labels < 0).any()):
        raise InputError(f"{test.name}: Table 3 needs a label on every test image")
    for source in (train, generated):
        is_real = source is train
        sizes = sizes_up_to(source.n, REAL if is_real else SIZES)
        goes_on = not is_real and state is not None and state.exists()
        start = time.perf_counter()
        for point in by_samples(
            test, source, sizes, state=None if is_real else state, device=device, progress=progress
        ):
            assert point.error is not None
            share = point.error / 100
            spread = 100 * Z95 * (share * (1 - share) / test.n) ** 0.5
            for metric, value, unit, spread_, kind in (
                ("error", point.error, "%", spread, f"1.96 standard errors over {test.n} test images"),
                ("nearest distance", point.distance, "", None, ""),
            ):
                yield Row(
                    task="table3",
                    data=f"{test.name} {train.name}",
                    data_sha256=f"{test.sha256} {train.sha256}",
                    model=None if is_real else source.name,
                    model_sha256=None if is_real else source.sha256,
                    features="pixels",
                    features_sha256="",
                    features_protocol="pixels in [0, 255]",
                    dtype="uint8",
                    layer="all",
                    dimensions=test.shape[0] * test.shape[1] * test.shape[2],
                    protocol=f"nearest of {point.samples:,} {'real' if is_real else 'generated'} images",
                    method="1-nearest neighbour, Euclidean; distance is the mean to the nearest",
                    metric=metric,
                    value=value,
                    unit=unit,
                    spread=spread_,
                    spread_kind=kind,
                    n=test.n,
                    n_reference=point.samples,
                    C=None,
                    gap=None,
                    seed=seed,
                    seconds_features=0.0,
                    seconds=0.0 if goes_on else time.perf_counter() - start,
                    device=str(device),
                    instruction_set=instruction_set(),
                    versions=results.versions(),
                    command=command,
                    time=results.now(),
                )


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
