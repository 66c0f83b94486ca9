"""Forgetting to draw (section 6.3.1 of the paper): the maps of an object dropped, and the same z drawn without it.

The paper drew 52 boxes around windows on 150 samples, fitted a logistic regression that tells activations of the
second-highest generator layer inside them from those outside, and dropped every map with a positive weight (200). Its
images show fewer windows. Here it is counted how much of the object is gone, how much else changed, and what dropping
as many maps at random does.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcgan_eval import figures
from dcgan_eval.errors import InputError, nearest
from dcgan_eval.networks import Generator, scale_images
from dcgan_eval.results import Row
from dcgan_eval.streams import stream
from dcgan_eval.studies.judge import Attribute, attribute_of
from dcgan_eval.studies.model import AT_ONCE, Model, layer_names
from dcgan_eval.studies.rows import row, share

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


def _layer(generator: Generator, name: str) -> nn.Module:
    known = with_maps(generator)
    if name not in known:
        raise InputError(f"no layer {name!r} of the generator has maps to drop{nearest(name, known)}")
    return generator.layers[layer_names(generator).index(name)]


def check_layer(generator: Generator, name: str) -> None:
    """Raises InputError, with those that there are, for a layer that is none or has no maps."""
    _layer(generator, name)


def write_samples(model: Model, num: int, seed: int, folder: Path) -> None:
    """The first num samples as 0000.png, …, in a folder that is made: what boxes are drawn on."""
    from PIL import Image

    folder.mkdir(parents=True)
    for i, image in enumerate(model.samples(num, seed)):
        pixels = image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels if len(image) == 3 else pixels[:, :, 0]).save(folder / f"{i:04d}.png")


def activations(model: Model, z: Tensor, layer: str) -> Tensor:
    """The maps of a generator's layer, after BatchNorm and ReLU, float32 (n, maps, side, side) on the CPU."""
    found: list[Tensor] = []
    handle = _layer(model.generator, layer).register_forward_hook(lambda m, i, out: found.append(out.cpu()))
    try:
        model.paint(z)
    finally:
        handle.remove()
    return torch.cat(found)


@contextmanager
def dropped(model: Model, layer: str, maps: Sequence[int]) -> Iterator[None]:
    """Within it the model draws with these maps of a layer set to 0 everywhere."""
    rows = list(maps)

    def drop(module: nn.Module, inputs: object, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, rows] = 0
        return out

    handle = _layer(model.generator, layer).register_forward_hook(drop)
    try:
        yield
    finally:
        handle.remove()


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
            raise InputError(f"{path}: sample {number}: samples are numbered 0 to {num - 1}; --num draws more")
        for left, top, right, bottom in boxes:
            if not (0 <= left < right <= size and 0 <= top < bottom <= size):
                raise InputError(
                    f"{path}: sample {number}: box {left:g}, {top:g}, {right:g}, {bottom:g} (left, top, right, bottom) "
                    f"is not within an image of {size}x{size}"
                )
    return {number: boxes for number, boxes in found.items() if boxes}


def _plain(content: Any) -> dict[int, list[Box]]:
    return {int(number): [_box(*box) for box in boxes] for number, boxes in content.items()}


def _coco(content: Mapping[str, Any]) -> dict[int, list[Box]]:
    numbers = {}
    for image in content["images"]:
        digits = re.findall(r"\d+", Path(str(image.get("file_name", ""))).stem)
        numbers[image["id"]] = int(digits[-1]) if digits else int(image["id"])
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

    X, y = maps.movedim(1, -1).flatten(0, 2).double().numpy(), positive.flatten().numpy()
    if y.all() or not y.any():
        where = "every place lies" if y.all() else "no place has its centre"
        raise InputError(f"{where} in a box: maps of {maps.shape[2]}x{maps.shape[3]}; want some of both kinds")
    # few columns, many rows: this solver takes tens of steps, each a small system
    return LogisticRegression(solver="newton-cholesky", class_weight="balanced").fit(X, y)


@dataclass(frozen=True)
class Forgotten:
    """images: of the same z, uint8 (3, k, C, H, W): as they are, without the object's maps, and without as many random
    ones. boxes: of those images, where they were drawn. dropped: the maps. rows: the numbers."""

    what: str
    layer: str
    images: Tensor
    boxes: list[list[Box]]
    dropped: list[int]
    rows: list[Row]


CHANGE = "root mean square of pixels"
BOXED = "what is in the boxes"
WAYS = ("as drawn", "its maps dropped", "random maps dropped")


def forget_class(
    model: Model,
    value: str,
    attributes: Sequence[Attribute],
    *,
    layer: str | None = None,
    num: int = 256,
    seed: int = 0,
    command: str = "",
) -> Forgotten:
    """Drops the maps that tell samples with a value from the others, found by the chooser on the first num samples.

    Judged on the next num samples. Rows: of those in which the judge finds the value, in how many it still does; of the
    others, in how many it still finds what it found; and the change of pixels, in % of that from one sample to another.
    Raises InputError where the chooser finds the value in none of the samples, or in all.
    """
    attribute = attribute_of(value, attributes)
    layer = layer or second_highest(model.generator)
    start = time.perf_counter()
    z = model.z(2 * num, seed)
    index = attribute.values.index(value)
    maps = activations(model, z[:num], layer)
    has = attribute.choose(model.samples(num, seed)).argmax(1) == index
    if not 0 < int(has.sum()) < num:
        raise InputError(f"{value} is in {int(has.sum())} of {num} samples; want some with and some without; see --num")
    positive = has[:, None, None].expand(-1, *maps.shape[2:])
    drop = _positive(regression(maps, positive))
    ways = _ways(model, z[num:], layer, drop, maps.shape[1], seed)
    scores = attribute.judge(ways[0])
    said = [scores.argmax(1), *(attribute.judge(images).argmax(1) for images in ways[1:])]
    had = said[0] == index
    if not 0 < int(had.sum()) < num:
        raise InputError(f"{value} is judged to be in {int(had.sum())} of {num} further samples; draw more by --num")
    rows = []
    record = _recorder(model, value, layer, drop, maps.shape[1], seed, time.perf_counter() - start, command, attribute)
    typical = _change(ways[0], ways[0].roll(1, 0)).mean()
    for way, images, now in zip(WAYS, ways, said, strict=True):
        keeps, same = int((now == index)[had].sum()), int((now == said[0])[~had].sum())
        change = 100 * float(_change(images, ways[0]).mean() / typical)
        n = int(had.sum())
        rows += [
            record(
                way,
                "still there",
                f"share of further samples with {value} that have it still; {attribute.about}",
                n,
                num,
                **share(keeps, n),
            ),
            record(
                way,
                "rest as before",
                f"share of further samples without {value} that show what they showed; {attribute.about}",
                num - n,
                num,
                **share(same, num - n),
            ),
            record(way, "change", f"{CHANGE}, of that between two samples", num, num, value=change, unit="%"),
        ]
    margin = scores.gather(1, said[0][:, None])[:, 0] - scores.topk(2).values[:, 1]
    chosen = margin.where(had, -torch.inf).topk(min(SHOWN, int(had.sum()))).indices  # the surest, as they were drawn
    return Forgotten(value, layer, torch.stack([images[chosen] for images in ways]), [], drop, rows)


def forget_boxes(
    model: Model,
    boxes: Mapping[int, Sequence[Box]],
    *,
    layer: str | None = None,
    seed: int = 0,
    command: str = "",
) -> Forgotten:
    """Drops the maps that tell what is inside boxes from the rest of the same samples.

    Fitted to every other sample with boxes, and measured on those in between. Rows: the change of pixels inside boxes
    and outside, in % of that from one sample to another; and where there is a discriminator, of the places in boxes
    the share that a detector finds the object at: the same regression, on the discriminator's maps of that size.
    Raises InputError for fewer than two samples with boxes.
    """
    if len(boxes) < 2:
        raise InputError(f"boxes on {len(boxes)} samples: want 2 at least, some to learn from and some to judge by")
    layer = layer or second_highest(model.generator)
    start = time.perf_counter()
    numbers = sorted(boxes)
    z = model.z(numbers[-1] + 1, seed)[numbers]
    size = model.architecture.image_size
    maps = activations(model, z, layer)
    at = torch.stack([inside(boxes[number], maps.shape[2], size) for number in numbers])
    drop = _positive(regression(maps[0::2], at[0::2]))
    ways = _ways(model, z[1::2], layer, drop, maps.shape[1], seed)
    pixels = torch.stack([inside(boxes[number], size, size) for number in numbers[1::2]])
    rows = []
    found: list[tuple[Tensor, str]] = []
    if model.has_discriminator:
        detect, about = _detector(model, model.draw(z), at, maps.shape[2])
        found = [(detect(images), about) for images in ways]
    took = time.perf_counter() - start
    record = _recorder(model, BOXED, layer, drop, maps.shape[1], seed, took, command, None)
    learnt = len(numbers) - len(pixels)
    square = (ways[0].double() - ways[0].roll(1, 0).double()).square().mean(1)
    for i, (way, images) in enumerate(zip(WAYS, ways, strict=True)):
        change = (images.double() - ways[0].double()).square().mean(1)
        for metric, where in (("change in boxes", pixels), ("change outside", ~pixels)):
            ratio = float(change[where].mean().sqrt() / square[where].mean().sqrt().clamp_min(1e-12))
            how = f"{CHANGE} there, of that between two samples"
            rows.append(record(way, metric, how, len(pixels), learnt, value=100 * ratio, unit="%"))
        if found:
            there, about = found[i]
            for metric, where in (("found in boxes", at[1::2]), ("found outside", ~at[1::2])):
                n = int(where.sum())
                rows.append(record(way, metric, about, n, learnt, **share(int(there[where].sum()), n)))
    shown = [list(boxes[number]) for number in numbers[1::2]][:SHOWN]
    return Forgotten(BOXED, layer, torch.stack([w[:SHOWN] for w in ways]), shown, drop, rows)


def _positive(fitted: Any) -> list[int]:
    return torch.nonzero(torch.from_numpy(fitted.coef_[0]) > 0)[:, 0].tolist()


def _ways(model: Model, z: Tensor, layer: str, drop: list[int], maps: int, seed: int) -> list[Tensor]:
    """The images of `WAYS`."""
    other = torch.randperm(maps, generator=stream(seed, "random maps"))[: len(drop)].tolist()
    images = [model.draw(z)]
    for some in (drop, other):
        with dropped(model, layer, some):
            images.append(model.draw(z))
    return images


def _detector(model: Model, images: Tensor, at: Tensor, side: int) -> tuple[Any, str]:
    """Finds the object in images by the discriminator's deepest maps of that size, learnt from every other image."""
    network = model.discriminator
    sizes = network.architecture.conv_sizes
    index = max((i for i, s in enumerate(sizes) if s == side), default=-1)
    if index < 0:
        raise InputError(
            f"the discriminator has no maps of {side}x{side}, only {', '.join(map(str, sizes))}: no detector"
        )

    def features(some: Tensor) -> Tensor:
        x = scale_images(some, model.architecture).to(model.device)
        with torch.inference_mode():
            return torch.cat(
                [network.conv_features(part, model.y(len(part)))[index].cpu() for part in torch.split(x, AT_ONCE)]
            )

    seen = features(images)
    fitted = regression(seen[0::2], at[0::2])

    def detect(some: Tensor) -> Tensor:
        maps = features(some)
        said = fitted.predict(maps.movedim(1, -1).flatten(0, 2).double().numpy())
        return torch.from_numpy(said).reshape(len(maps), side, side)

    from sklearn.metrics import roc_auc_score

    scores = fitted.decision_function(seen[1::2].movedim(1, -1).flatten(0, 2).double().numpy())
    area = float(roc_auc_score(at[1::2].flatten().numpy(), scores)) if bool(at[1::2].any()) else float("nan")
    return detect, (
        f"share of places at which a logistic regression on conv{index + 1} of the discriminator finds the object; "
        f"area under its ROC curve {area:.3f} on samples it was not fitted to"
    )


def _recorder(
    model: Model,
    what: str,
    layer: str,
    drop: list[int],
    width: int,
    seed: int,
    seconds: float,
    command: str,
    attribute: Attribute | None,
) -> Callable[..., Row]:
    """Makes a row of way, metric, how, n and n_reference; the rest is the study's."""

    def record(way: str, metric: str, how: str, n: int, n_reference: int, **value: Any) -> Row:
        count = f", {len(drop)} of {width}" if way != WAYS[0] else ""
        return row(
            "forget",
            metric,
            protocol=f"{what}: {way}{count}",
            method=f"logistic regression on {layer} of the generator; {how}",
            layer=layer,
            dimensions=width,
            n=n,
            n_reference=n_reference,
            seed=seed,
            seconds=seconds,
            command=command,
            data=attribute.data if attribute else None,
            judge=attribute.extractor if attribute else None,
            **model.fields,
            **value,
        )

    return record


def _change(x: Tensor, y: Tensor) -> Tensor:
    return (x.double() - y.double()).square().flatten(1).mean(1).sqrt()


def picture(found: Forgotten, model: Model) -> figures.Picture:
    """The same z as drawn, without the object's maps, and without as many at random."""
    k = found.images.shape[1]
    boxes = [(i * k + j, *box) for i in range(2) for j, some in enumerate(found.boxes) for box in some]
    tiles = figures.Tiles("each column is one z", found.images, rows=WAYS, boxes=boxes)
    return figures.sheet(
        [tiles], f"{model.name} forgets {found.what}: {len(found.dropped)} maps of {found.layer} dropped"
    )
