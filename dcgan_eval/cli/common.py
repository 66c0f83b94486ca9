"""What the commands share: the application, options that mean the same everywhere, checks made before work begins."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from dcgan_eval.errors import InputError, nearest
from dcgan_eval.options import BatchNormChoice, Format, Precision

# everything that imports torch is imported where it is used: --help must not wait for it
if TYPE_CHECKING:
    from collections.abc import Callable

    from dcgan_eval.features import Extractor
    from dcgan_eval.figures import Picture
    from dcgan_eval.images import Images
    from dcgan_eval.ranks import Ranks
    from dcgan_eval.results import Row
    from dcgan_eval.studies.judge import Attribute
    from dcgan_eval.studies.model import Model

app = typer.Typer(
    name="dcgan-eval",
    help="Measure what a DCGAN has learnt. Every number comes with its protocol.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


DeviceName = Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda or mps.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Number of images per batch; results do not depend on it.")]
DataRoot = Annotated[Path, typer.Option(help="Directory of named datasets; --download stores them there.")]
Download = Annotated[bool, typer.Option("--download", help="Download missing datasets and weights.")]
Printed = Annotated[Format, typer.Option(help="Output format.")]
Data = Annotated[str | None, typer.Option(help="Labelled images; the sample classifier learns their classes.")]
JudgeFeatures = Annotated[
    str | None, typer.Option(help="Features for the sample classifier. [default: disc: of the checkpoint itself]")
]
Sheet = Annotated[
    Path | None, typer.Option(help="Contact sheet of the numbered samples to write (.png, .svg or .pdf).")
]
Num = Annotated[int, typer.Option(min=2, help="Number of samples to choose exemplars from.")]
Figure = Annotated[Path | None, typer.Option(help="Figure of the study to write (.png, .svg or .pdf).")]
OtherDiscriminator = Annotated[
    str | None, typer.Option(help="Discriminator checkpoint, if the generator's checkpoint contains none.")
]
Label = Annotated[int | None, typer.Option(min=0, help="Class to generate, for a conditional generator.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Directory to cache features in, for later runs and for resuming. [default: no cache]"),
]
GeneratorCheckpoint = Annotated[str, typer.Argument(help="Generator checkpoint, in any format that `info` reads.")]
BatchNormStatistics = Annotated[
    BatchNormChoice,
    typer.Option(
        help="BatchNorm statistics of a disc: network: stored in its file, of each batch of 128 images, or "
        "reestimated from training images; auto uses what its file format calls for."
    ),
]
FeaturePrecision = Annotated[Precision, typer.Option(help="Floating-point type of the network's convolutions.")]
InceptionWeights = Annotated[
    Path | None, typer.Option(help="File of Inception's weights, if they are not in torch.hub's directory.")
]
Out = Annotated[Path | None, typer.Option(help="CSV or Parquet file to append the results to.")]


def splits(data: str, test: str | None, valid: str | None, root: Path, download: bool) -> "dict[str, Images]":
    """'train', 'test' and perhaps 'valid'."""
    from dcgan_eval.images import open_images, open_split

    found = open_images(data, root=root, download=download)
    if len(found) == 1:  # the one split there is, or that was asked for, is what is trained on
        sets = {"train": next(iter(found.values()))}
    else:
        sets = {name: images for name, images in found.items() if name in ("train", "test", "valid")}
    for name, spec in (("test", test), ("valid", valid)):
        if spec is not None:
            opened = open_images(spec, root=root, download=download)
            sets[name] = opened[name] if name in opened else open_split(spec, root=root, download=download)
    for name, remedy in (("train", "give --data a source with one"), ("test", "name one with --test")):
        if name not in sets:
            raise InputError(f"--data {data}: has no {name} split besides {', '.join(found)}; {remedy}")
    return sets


def choose_device(name: str) -> str:
    from dcgan_eval import devices

    return devices.choose(name)


def join(context: typer.Context, device: str, download: bool) -> "tuple[Ranks, str]":
    """The processes of torchrun, until the command ends, and the device of this one."""
    from dcgan_eval import ranks

    if download and ranks.started():
        raise InputError("--download: would fetch once per process; run it once without torchrun first")
    here, own = context.with_resource(ranks.joined(choose_device(device)))
    return here, str(own)


def open_model(checkpoint: str, label: int | None, seed: int, device: str, discriminator: str | None = None) -> "Model":
    """The networks of a checkpoint, or the discriminator of another, ready to be studied."""
    from dcgan_eval.specs import open_discriminator, open_generator
    from dcgan_eval.studies.model import ready

    found, name = open_generator(checkpoint)
    judge, judge_name = (None, "") if discriminator is None else open_discriminator(discriminator)
    return ready(found, name=name, judge=judge, judge_name=judge_name, label=label, seed=seed, device=device)


def is_named(text: str) -> bool:
    """Whether samples are named by what they show, and not by number."""
    return any(letter.isalpha() for letter in text)


def check_sheet(path: Path, num: int) -> None:
    """A contact sheet that cannot be written, or shows too much."""
    from dcgan_eval.figures import NUMBERED

    check_picture(path, "--sheet")
    if num > NUMBERED:
        raise InputError(f"--num {num}: a --sheet shows {NUMBERED} samples at most")


def draw_sheet(model: "Model", num: int, seed: int, path: Path) -> None:
    """The numbered samples that exemplars are chosen from."""
    from dcgan_eval import figures

    title = f"Samples of {model.name}, seed {seed}"
    figures.numbered(model.samples(num, seed), title).save(path)
    note(f"{path}: {num} samples by number")


def attributes_of(
    model: "Model",
    checkpoint: str,
    data: str | None,
    features: str | None,
    num: int,
    seed: int,
    root: Path,
    download: bool,
) -> "list[Attribute]":
    """Brightness, and the classes of labelled images."""
    from dcgan_eval.images import open_images
    from dcgan_eval.studies.judge import brightness, learnt

    found = [brightness(model.samples(num, seed))]
    if data is None:
        if features is not None:
            raise InputError(f"--features {features}: tell classes apart; name by --data the images that have some")
        return found
    splits = open_images(data, root=root, download=download)
    images = splits.get("train") or next(iter(splits.values()))
    judge = judge_of(model, checkpoint, features, seed, download, images)
    return [learnt(images, judge, seed=seed, device=model.device, progress=sys.stderr.isatty()), *found]


def judge_of(
    model: "Model", checkpoint: str, features: str | None, seed: int, download: bool, images: "Images"
) -> "Extractor":
    """What samples are seen in; images: that it is fitted to, where it must be."""
    from dcgan_eval.specs import FeatureOptions, open_extractor

    if features is None and (not model.has_discriminator or model.label is not None):
        why = "is conditional" if model.has_discriminator else "holds no discriminator"
        raise InputError(f"{checkpoint}: {why}; say by --features what samples are seen in, such as pixels")
    return open_extractor(features or f"disc:{checkpoint}", FeatureOptions(seed=seed, download=download))(images)


def check_out(out: Path | None) -> None:
    """A file that rows cannot be appended to is refused before anything is measured."""
    from dcgan_eval import results

    if out is not None and not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.absolute().parent} does not exist")
    if out is not None:
        results.read(out)


def check_file(path: Path, option: str) -> None:
    """What cannot be written is refused before anything is measured."""
    folder = path.absolute().parent
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; want the name of a file")
    if not folder.is_dir():
        raise InputError(f"{option} {path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option} {path}: cannot write to the folder {folder}")


def check_picture(path: Path, option: str) -> None:
    """The same of a picture, whose name says its kind."""
    from dcgan_eval.figures import kind_of

    check_file(path, option)
    kind_of(path)


def one_of(text: str, choices: Any, option: str) -> Any:
    """The text, if it is one of a Literal's values; typer has no lists of Literals."""
    if text not in get_args(choices):
        known = get_args(choices)
        raise InputError(f"{option} {text!r} is not one of {', '.join(known)}{nearest(text, known)}")
    return text


def numbers(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise InputError(f"{option} {text!r}: want positive, finite numbers separated by commas, as in 1e-4,1e-3")
    return numbers


def show(rows: "list[Row]", format: Format) -> None:
    from dcgan_eval import report, results

    if format == "json":
        records = [dataclasses.asdict(row) for row in rows]
        typer.echo(json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False))
    elif format == "csv":
        typer.echo(results.to_csv(rows), nl=False)
    else:
        typer.echo(report.text(report.tables(rows)))


def conclude(
    rows: "list[Row]",
    out: Path | None,
    format: Format,
    picture: Path | None = None,
    draw: "Callable[[], Picture] | None" = None,
) -> None:
    """How a study ends: its picture is saved, its rows are appended and shown."""
    from dcgan_eval import results

    if picture is not None and draw is not None:
        draw().save(picture)
    if out is not None:
        results.append(out, rows)
    if rows:
        show(rows, format)


def note(text: str) -> None:
    typer.echo(text, err=True)
