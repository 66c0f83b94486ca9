"""Forgetting to draw (section 6.3.1 of the paper): the maps of an object dropped, and the same z drawn without it.

The paper drew 52 boxes around windows on 150 samples, fitted a logistic regression that tells activations of the
second-highest generator layer inside them from those outside, and dropped every map with a positive weight (200). Its
images show fewer windows. Here it is counted how much of the object is gone and how much else changed, and the same of
random sets of maps that change the images as much.
"""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dcgan_eval import figures
from dcgan_eval.models.networks import Generator, scale_images, to_uint8
from dcgan_eval.options import ForgetOptions
from dcgan_eval.results import Row
from dcgan_eval.results.intervals import by_rank
from dcgan_eval.runtime.errors import InputError, nearest
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.random import stream
from dcgan_eval.studies.judge import Attribute, attribute_of
from dcgan_eval.studies.model import AT_ONCE, Model, apart, layer_names
from dcgan_eval.studies.rows import mean, repeated, row, share

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

SHOWN = 8


def second_highest(generator: Generator) -> str:
    """The paper's layer: of those with hidden maps the second from the image; of Figure 1's the 256 maps of 16x16.

    It cannot be the one next to the image, which has 128 maps: the paper drops 200. Of a generator with one such layer,
    that one.
    """
    known = with_maps(generator)
    return known[max(0, len(known) - 2)]


def with_maps(generator: Generator) -> list[str]:
    """Names of the hidden layers that have maps, from z on."""
    return [name for name in layer_names(generator)[:-1] if not name.startswith("dense")]


def check_layer(generator: Generator, name: str) -> int:
    """The number of a hidden layer that has maps. Raises InputError, with those that there are, for any other name."""
    known = with_maps(generator)
    if name not in known:
        raise InputError(f"no layer {name!r} of the generator has maps to drop{nearest(name, known)}")
    return layer_names(generator).index(name)


def write_samples(model: Model, num: int, seed: int, folder: Path) -> None:
    """The first num samples as 0000.png, …, in a new folder, which is there whole or not at all: to draw boxes on.

    Raises InputError where it cannot be made.
    """
    from PIL import Image

    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
            made = Path(beside, folder.name)
            made.mkdir()
            for i, image in enumerate(model.samples(num, seed)):
                pixels = image.permute(1, 2, 0).numpy()
                Image.fromarray(pixels if len(image) == 3 else pixels[:, :, 0]).save(made / f"{i:04d}.png")
            made.rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror or error}; name another folder") from error


@exact()
def activations(model: Model, z: Tensor, layer: str) -> Tensor:
    """The maps of a generator's layer, after BatchNorm and ReLU, float32 (n, maps, side, side) on the CPU."""
    number = check_layer(model.generator, layer)
    with torch.inference_mode():
        return torch.cat(
            [
                model.generator.hidden(part.to(model.device), model.y(len(part)))[number].cpu()
                for part in torch.split(z, AT_ONCE)
            ]
        )


@exact()
def without(model: Model, maps: Tensor, layer: str, drop: Sequence[int]) -> Tensor:
    """What the generator draws from the maps of a layer once some are 0 everywhere, uint8 (n, C, H, W) on the CPU."""
    number = check_layer(model.generator, layer)
    images = []
    with torch.inference_mode():
        for part in torch.split(maps, AT_ONCE):
            h = part.to(model.device, copy=True)
            h[:, list(drop)] = 0
            drawn = model.generator.from_hidden(h, number, model.y(len(h)))
            images.append(to_uint8(drawn, model.architecture).cpu())
    return torch.cat(images)


def read_boxes(path: Path, size: int, num: int) -> dict[int, list[Box]]:
    """Boxes by the number of the sample: {"12": [[left, top, right, bottom], …], …}, or a COCO file.

    Of a COCO file the number is that in an image's file name, as `0012.png`, and where it has none its id. size: of
    the images, in pixels. Raises InputError, naming the box, for what is no box within an image of the first num.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {' '.join(str(error).split())}") from error
    try:
        found = _coco(content) if isinstance(content, dict) and "annotations" in content else _plain(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f'{path}: want {{"12": [[left, top, right, bottom], …], …}} by sample, or a COCO file; {error!r}'
        ) from error
    for number, boxes in found.items():
        if not 0 <= number < num:
            raise InputError(f"{path}: sample {number}: samples are numbered 0 to {num - 1}; `num_samples` draws more")
        for left, top, right, bottom in boxes:
            if not (0 <= left < right <= size and 0 <= top < bottom <= size):
                raise InputError(
                    f"{path}: sample {number}: box {left:g}, {top:g}, {right:g}, {bottom:g} (left, top, right, bottom) "
                    f"is not within an image of {size}x{size}"
                )
    return {number: boxes for number, boxes in found.items() if boxes}


def _plain(content: Any) -> dict[int, list[Box]]:
    found = {int(number): [_box(*box) for box in boxes] for number, boxes in content.items()}
    if len(found) < len(content):
        raise ValueError("a sample stands there twice")
    return found


def _coco(content: Mapping[str, Any]) -> dict[int, list[Box]]:
    numbers = {}
    for image in content["images"]:
        digits = re.findall(r"\d+", Path(str(image.get("file_name", ""))).stem)
        numbers[image["id"]] = int(digits[-1]) if digits else int(image["id"])
    kinds = {annotation.get("category_id") for annotation in content["annotations"]}
    if len(kinds) > 1:
        raise ValueError(f"boxes of {len(kinds)} categories, where one object is to be forgotten")
    found: dict[int, list[Box]] = {}
    for annotation in content["annotations"]:
        left, top, width, height = annotation["bbox"]
        box = _box(left, top, left + width, top + height)
        found.setdefault(numbers[annotation["image_id"]], []).append(box)
    return found


def _box(left: float, top: float, right: float, bottom: float) -> Box:
    return float(left), float(top), float(right), float(bottom)


def inside(boxes: Sequence[Box], side: int, size: int) -> Tensor:
    """Which places of maps have their centre in one of the boxes, given in pixels: bool (side, side)."""
    centre = (torch.arange(side, dtype=torch.float64) + 0.5) * (size / side)
    found = torch.zeros(side, side, dtype=torch.bool)
    for left, top, right, bottom in boxes:
        found |= ((centre >= top) & (centre < bottom))[:, None] & ((centre >= left) & (centre < right))[None]
    return found


def regression(maps: Tensor, positive: Tensor) -> Any:
    """A logistic regression that tells places by their maps, scikit-learn's, both kinds weighing the same.

    maps: (n, channels, side, side); positive: bool (n, side, side). Raises InputError where one kind is missing.
    """
    from sklearn.linear_model import LogisticRegression

    X, y = _places(maps), positive.flatten().numpy()
    if y.all() or not y.any():
        where = "every place lies" if y.all() else "no place has its centre"
        raise InputError(f"{where} in a box: maps of {maps.shape[2]}x{maps.shape[3]}; want some of both kinds")
    # few columns, many rows: this solver takes tens of steps, each a small system
    return LogisticRegression(solver="newton-cholesky", class_weight="balanced").fit(X, y)


@dataclass(frozen=True)
class Forgotten:
    """images: of the same z, uint8 (3, k, C, H, W): as they are, without the object's maps, and without the first set
    of random ones. boxes: of those images, where they were drawn. dropped: the maps. rows: the numbers."""

    what: str
    layer: str
    images: Tensor
    boxes: list[list[Box]]
    dropped: list[int]
    rows: list[Row]


CHANGE = "root mean square of pixels"
BOXED = "what is in the boxes"
WAYS = ("as drawn", "its maps dropped", "random maps dropped")
Numbers = Mapping[str, Mapping[str, Any]]  # by metric fields of a row: value, unit, and perhaps an interval
SETS = 199  # of random maps: no p-value is below 1 / (1 + SETS)
MATCHED = 64  # samples at most, by which random sets are matched
TYPICAL = 64  # samples, in pairs of which the change from one to another is taken
# metrics with a p-value: whether the object's maps should have a higher value than random ones, or a lower one
HIGHER = {"still there": False, "rest as before": True, "change in boxes": True, "found in boxes": False}


@exact()
def forget_class(
    model: Model,
    value: str,
    attributes: Sequence[Attribute],
    options: ForgetOptions = ForgetOptions(),
) -> Forgotten:
    """Drops the maps that tell samples with a value from the others, found by the chooser on the first `num_samples`.

    Judged on as many further samples. Rows: of those in which the judge finds the value, in how many it still does; of
    the others, in how many it still finds what it found; and the change of pixels, in % of that from one sample to
    another. Of random maps the mean over `SETS` sets, each of as many maps as change the images as much
    (`random_sets`), and their standard deviation. And p-values: how often a random set has as little of the object
    left, and as much of the others.
    Raises InputError where the value is found in no sample, or in all.
    """
    attribute = attribute_of(value, attributes)
    num, seed, layer = options.num_samples, options.seed, options.layer or second_highest(model.generator)
    start = time.perf_counter()
    z = model.z(2 * num, seed)
    index = attribute.values.index(value)
    has = attribute.choose(model.samples(num, seed)).argmax(1) == index
    if not 0 < int(has.sum()) < num:
        raise InputError(
            f"{value} is in {int(has.sum())} of {num} samples; want some with and some without; see `num_samples`"
        )
    maps = activations(model, z[:num], layer)
    drop = _positive(regression(maps, has[:, None, None].expand(-1, *maps.shape[2:])))
    maps = activations(model, z[num:], layer)
    plain = without(model, maps, layer, [])
    scores = attribute.judge(plain)
    before = scores.argmax(1)
    had = before == index
    if not 0 < int(had.sum()) < num:
        raise InputError(
            f"{value} is judged to be in {int(had.sum())} of {num} further samples; draw more by `num_samples`"
        )
    typical = float(apart(plain, plain.roll(1, 0)).mean())
    n = int(had.sum())
    margin = scores.gather(1, before[:, None])[:, 0] - scores.topk(2).values[:, 1]
    chosen = margin.where(had, -torch.inf).topk(min(SHOWN, n)).indices  # the surest, as they were drawn

    def measured(images: Tensor) -> Numbers:
        now = attribute.judge(images).argmax(1)
        return {
            "still there": share(int((now == index)[had].sum()), n, "samples"),
            "rest as before": share(int((now == before)[~had].sum()), num - n, "samples"),
            "change": {"value": 100 * float(apart(images, plain).mean()) / typical, "unit": "%"},
        }

    found, counts, shown = _tried(model, maps, layer, drop, seed, plain, measured, chosen)
    judge = f"; {attribute.about}"
    how = {
        "still there": (f"share of further samples with {value} that have it still{judge}", n),
        "rest as before": (f"share of further samples without {value} that show what they showed{judge}", num - n),
        "change": (f"{CHANGE}, of that between two samples", num),
    }
    rows = _rows(
        model, value, layer, counts, maps.shape[1], found, how, num, seed, time.perf_counter() - start, attribute
    )
    return Forgotten(value, layer, shown, [], drop, rows)


@exact()
def forget_boxes(
    model: Model,
    boxes: Mapping[int, Sequence[Box]],
    options: ForgetOptions = ForgetOptions(),
) -> Forgotten:
    """Drops the maps that tell what is inside boxes from the rest of the same samples.

    Fitted to every other sample with boxes, and measured on those in between. Rows: the change of pixels as a
    whole, inside boxes and outside, in % of that from one sample to another there; and where there is a discriminator
    with maps of that size, of the places in boxes the share that a detector finds the object at, mean over samples: the
    same regression, on the discriminator's maps. Of random maps the mean over `SETS` sets, each of as many maps as
    change the images as much (`random_sets`), and their standard deviation. And p-values: how often a random set
    changes as much inside boxes, and leaves as little there to be found.
    Raises InputError for fewer than four samples with boxes, and for boxes that hold no place, or all.
    """
    if len(boxes) < 4:
        raise InputError(f"boxes on {len(boxes)} samples: want 4 at least, some to learn from and some to judge by")
    seed, layer = options.seed, options.layer or second_highest(model.generator)
    start = time.perf_counter()
    numbers = sorted(boxes)
    size = model.architecture.image_size
    maps = activations(model, model.z(numbers[-1] + 1, seed)[numbers], layer)
    at = torch.stack([inside(boxes[number], maps.shape[2], size) for number in numbers])
    pixels = torch.stack([inside(boxes[number], size, size) for number in numbers[1::2]])
    for where in (at[1::2], pixels):
        if not bool(where.any()) or bool(where.all()):
            raise InputError(
                f"boxes to judge by hold {'every' if bool(where.any()) else 'no'} place; want some of both"
            )
    drop = _positive(regression(maps[0::2], at[0::2]))
    images = without(model, maps, layer, [])
    plain = images[1::2]
    samples = model.samples(TYPICAL, seed).double()
    overall = float(apart(samples, samples.roll(1, 0)).mean())
    typical = (samples - samples.roll(1, 0)).square().mean((0, 1))  # at each pixel
    detect, about = _detector(model, images, at) if model.has_discriminator else (None, "")

    def measured(images: Tensor) -> Numbers:
        change = (images.double() - plain.double()).square().mean(1)
        found: dict[str, dict[str, Any]] = {
            "change": {"value": 100 * float(apart(images, plain).mean()) / overall, "unit": "%"}
        }
        for name, where in (("change in boxes", pixels), ("change outside", ~pixels)):
            usual = typical.expand_as(change)[where].mean()
            found[name] = {"value": 100 * float((change[where].mean() / usual).sqrt()), "unit": "%"}
        if detect is not None:
            there = detect(images)
            for name, where in (("found in boxes", at[1::2]), ("found outside", ~at[1::2])):
                each = [said[one].double().mean() for said, one in zip(there, where, strict=True) if bool(one.any())]
                shares = 100 * torch.stack(each)
                found[name] = {"unit": "%", **mean(shares, "samples")}
        return found

    first = torch.arange(min(SHOWN, len(plain)))
    found, counts, shown = _tried(model, maps[1::2], layer, drop, seed, plain, measured, first)
    change = f"{CHANGE}, of that between two samples"
    there = f"{CHANGE} there, of that between two samples"
    how = {
        name: (about if name.startswith("found") else change if name == "change" else there, len(plain))
        for name in found[0][0]
    }  # fmt: skip
    took = time.perf_counter() - start
    learnt = len(numbers) - len(plain)
    rows = _rows(model, BOXED, layer, counts, maps.shape[1], found, how, learnt, seed, took, None)
    return Forgotten(BOXED, layer, shown, [list(boxes[number]) for number in numbers[1::2]][:SHOWN], drop, rows)


def matched(change: Callable[[Sequence[int]], float], order: Sequence[int], aim: float) -> list[int]:
    """The first maps of an order, as many that the change by dropping them is nearest to an aim; never none, nor all.

    By bisection, of a change that grows with their number. Where it does not everywhere, or is always more than the
    aim or less, the nearest of those that were tried.
    """
    tried: dict[int, float] = {}
    low, high = 0, len(order)  # below the aim, and not
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = change(order[:middle])
        low, high = (middle, high) if tried[middle] < aim else (low, middle)
    return list(order[: min(tried, key=lambda number: abs(tried[number] - aim))])


def random_sets(model: Model, maps: Tensor, layer: str, drop: Sequence[int], seed: int) -> Iterator[list[int]]:
    """`SETS` random sets of maps; to drop one of them changes the images as much as to drop the given maps.

    For each all maps are ordered at random, and the first of them taken: as many as are `matched` by the root mean
    square of the change of pixels, mean over the first `MATCHED` samples.

    maps: float32 (n, maps, side, side), the layer's of samples; drop: the given ones.
    Raises InputError for a layer of one map.
    """
    if maps.shape[1] < 2:
        raise InputError(f"{layer} has one map, so that there is no other set of maps to compare with; see `layer`")
    few = maps[:MATCHED]
    plain = without(model, few, layer, [])

    def change(some: Sequence[int]) -> float:
        return float(apart(without(model, few, layer, some), plain).mean())

    aim = change(drop)
    for i in tqdm(range(SETS), desc="random sets", unit="set", leave=False, disable=not model.run.progress):
        order = torch.randperm(maps.shape[1], generator=stream(seed, "random maps", i))
        yield matched(change, order.tolist(), aim)


def _tried(
    model: Model,
    maps: Tensor,
    layer: str,
    drop: list[int],
    seed: int,
    plain: Tensor,
    measured: Callable[[Tensor], Numbers],
    chosen: Tensor,
) -> tuple[list[list[Numbers]], list[list[int]], Tensor]:
    """The numbers of each of `WAYS`, once or for every random set; how many maps each dropped; and the chosen images of
    each, the first set's."""
    found: list[list[Numbers]] = []
    counts: list[list[int]] = []
    shown: list[Tensor] = []
    ways: tuple[Iterable[list[int]], ...] = ([[]], [drop], random_sets(model, maps, layer, drop, seed))
    for sets in ways:
        found.append([])
        counts.append([])
        for i, some in enumerate(sets):
            images = without(model, maps, layer, some) if some else plain
            found[-1].append(measured(images))
            counts[-1].append(len(some))
            if i == 0:
                shown.append(images[chosen])
    return found, counts, torch.stack(shown)


def _positive(fitted: Any) -> list[int]:
    return torch.nonzero(torch.from_numpy(fitted.coef_[0]) > 0)[:, 0].tolist()


def _detector(model: Model, images: Tensor, at: Tensor) -> tuple[Callable[[Tensor], Tensor] | None, str]:
    """Finds the object in images by the discriminator's deepest maps of that size, learnt from every other image; none
    where it has no such maps."""
    from sklearn.metrics import roc_auc_score

    network, side = model.discriminator, at.shape[1]
    index = max((i for i, s in enumerate(network.architecture.conv_sizes) if s == side), default=-1)
    if index < 0:
        return None, ""

    def features(some: Tensor) -> Tensor:
        x = scale_images(some, model.architecture).to(model.device)
        with torch.inference_mode():
            parts = [network.conv_features(part, model.y(len(part)))[index].cpu() for part in torch.split(x, AT_ONCE)]
        return torch.cat(parts)

    seen = features(images)
    fitted = regression(seen[0::2], at[0::2])

    def detect(some: Tensor) -> Tensor:
        said = fitted.predict(_places(features(some)))
        return torch.from_numpy(said).reshape(len(some), side, side)

    area = float(roc_auc_score(at[1::2].flatten().numpy(), fitted.decision_function(_places(seen[1::2]))))
    return detect, (
        f"share of places at which a logistic regression on conv{index + 1} of the discriminator finds the object, "
        f"mean over samples; area under its ROC curve {area:.3f} on samples it was not fitted to"
    )


def _places(maps: Tensor) -> Any:
    """(n, channels, side, side) → a line of channels for each place."""
    return maps.movedim(1, -1).flatten(0, 2).double().numpy()


def _rows(
    model: Model,
    what: str,
    layer: str,
    counts: Sequence[Sequence[int]],
    width: int,
    found: Sequence[Sequence[Numbers]],
    how: Mapping[str, tuple[str, int]],
    n_reference: int,
    seed: int,
    seconds: float,
    attribute: Attribute | None,
) -> list[Row]:
    """found, counts: the numbers and the dropped maps of each of `WAYS`, once or for every random set. how: a metric is
    found, and of how many."""
    (plain,), (own,), random = found
    average = sum(counts[2]) / len(counts[2])
    conditions = (
        WAYS[0],
        f"{WAYS[1]}, {counts[1][0]} of {width}",
        f"{WAYS[2]}, {average:.0f} of {width} on average",
    )
    common: dict[str, Any] = {
        "question": what,
        "layer": layer,
        "dimensions": width,
        "n_reference": n_reference,
        "seed": seed,
        "seconds": seconds,
        "data": attribute.data if attribute else None,
        "judge": attribute.extractor if attribute else None,
        **model.fields,
    }
    by = (
        f"maps by a logistic regression on {layer} of the generator; each random set has as many maps as change the "
        "images as much"
    )
    values = {metric: [numbers[metric]["value"] for numbers in random] for metric in how}
    rows = []
    for condition, numbers in zip(
        conditions,
        (plain, own, {metric: {"unit": "%", **repeated(values[metric], "random sets")} for metric in how}),
        strict=True,
    ):
        rows += [
            row("forget", metric, condition=condition, method=f"{about}; {by}", n=n, **common, **numbers[metric])
            for metric, (about, n) in how.items()
        ]
    rows += [
        row(
            "forget", metric, by_rank(own[metric]["value"], values[metric], high=HIGHER[metric]), role="p-value",
            condition=conditions[1], n=n, **common,
            method=f"share of this set of maps and {len(random)} random ones with a value at least as "
            f"{'high' if HIGHER[metric] else 'low'}",
        )
        for metric, (_, n) in how.items()
        if metric in HIGHER
    ]  # fmt: skip
    return rows


def picture(found: Forgotten, model: Model) -> figures.Picture:
    """The same z as drawn, without the object's maps, and without the first random set."""
    k = found.images.shape[1]
    boxes = [(i * k + j, *box) for i in range(2) for j, some in enumerate(found.boxes) for box in some]
    tiles = figures.Tiles("each column is one z", found.images, rows=WAYS, boxes=boxes)
    return figures.sheet(
        [tiles], f"{model.name} forgets {found.what}: {len(found.dropped)} maps of {found.layer} dropped"
    )
