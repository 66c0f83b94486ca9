"""What the commands share: arguments that mean the same in several, checks made before work begins, the end."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcgan_eval.options import DataOptions, DeviceOptions, ExtractionOptions, FeatureOptions, Format, OutputOptions
from dcgan_eval.runtime.errors import InputError

# everything that imports torch is imported where it is used: --help must not wait for it
if TYPE_CHECKING:
    from collections.abc import Callable

    from dcgan_eval.features import Extractor
    from dcgan_eval.figures import Picture
    from dcgan_eval.images import Images
    from dcgan_eval.results import Row
    from dcgan_eval.runtime.run import Run
    from dcgan_eval.studies.judge import Attribute
    from dcgan_eval.studies.model import Model

Data = Annotated[str | None, typer.Option(help="Labelled images; the sample classifier learns their classes.")]
JudgeFeatures = Annotated[
    str | None, typer.Option(help="Features for the sample classifier. [default: disc: of the checkpoint itself]")
]
ContactSheet = Annotated[
    Path | None, typer.Option(help="Contact sheet of the numbered samples to write (.png, .svg or .pdf).")
]
Figure = Annotated[Path | None, typer.Option(help="Figure of the study to write (.png, .svg or .pdf).")]
OtherDiscriminator = Annotated[
    str | None, typer.Option(help="Discriminator checkpoint, if the generator's checkpoint contains none.")
]
Label = Annotated[int | None, typer.Option(min=0, help="Class that a conditional network is given.")]
GeneratorCheckpoint = Annotated[str, typer.Argument(help="Generator checkpoint, in any format that `info` reads.")]


def begin(
    context: typer.Context,
    options: DeviceOptions,
    extraction: ExtractionOptions | None = None,
    *,
    download: bool = False,
) -> "Run":
    """How this command runs; over the processes of torchrun, until it ends, where there are some."""
    from dcgan_eval import results
    from dcgan_eval.runtime import devices, ranks
    from dcgan_eval.runtime.run import Run

    if download and ranks.started():
        raise InputError("--download: would fetch once per process; run it once without torchrun first")
    here, device = context.with_resource(ranks.joined(devices.choose(options.device)))
    extraction = extraction or ExtractionOptions()
    shown, command = here.first and sys.stderr.isatty(), results.command(context.obj)
    return Run(str(device), here, extraction.batch_size, extraction.cache, shown, command)


def open_model(checkpoint: str, label: int | None, seed: int, run: "Run", discriminator: str | None = None) -> "Model":
    """The networks of a checkpoint, or the discriminator of another, ready to be studied."""
    from dcgan_eval.inputs import open_discriminator, open_generator
    from dcgan_eval.studies.model import ready

    found, name = open_generator(checkpoint)
    judge, judge_name = (None, "") if discriminator is None else open_discriminator(discriminator)
    return ready(found, run, name=name, judge=judge, judge_name=judge_name, label=label, seed=seed)


def is_named(text: str) -> bool:
    """Whether samples are named by what they show, and not by number."""
    return any(letter.isalpha() for letter in text)


def check_sheet(path: Path, num: int) -> None:
    """A contact sheet that cannot be written, or shows too much."""
    from dcgan_eval.figures import NUMBERED

    check_picture(path, "--contact-sheet")
    if num > NUMBERED:
        raise InputError(f"--num-samples {num}: a --contact-sheet shows {NUMBERED} samples at most")


def draw_sheet(model: "Model", num: int, seed: int, path: Path) -> None:
    """The numbered samples that exemplars are chosen from."""
    from dcgan_eval import figures

    title = f"Samples of {model.name}, seed {seed}"
    figures.numbered(model.samples(num, seed), title).save(path)
    note(f"{path}: {num} samples by number")


def attributes_of(
    model: "Model", checkpoint: str, data: str | None, features: str | None, num: int, seed: int, where: DataOptions
) -> "list[Attribute]":
    """Brightness, and the classes of labelled images."""
    from dcgan_eval.inputs import open_training
    from dcgan_eval.studies.judge import brightness, learnt

    found = [brightness(model.samples(num, seed))]
    if data is None:
        if features is not None:
            raise InputError(f"--features {features}: classify samples; name by --data the images that have classes")
        return found
    images = open_training(data, root=where.data_root, download=where.download)
    judge = judge_of(model, checkpoint, features, seed, where.download, images)
    return [learnt(images, judge, model.run, seed=seed), *found]


def judge_of(
    model: "Model", checkpoint: str, features: str | None, seed: int, download: bool, images: "Images"
) -> "Extractor":
    """What samples are seen in; images: that it is fitted to, where it must be."""
    from dcgan_eval.inputs import open_extractor

    if features is None and (not model.has_discriminator or model.label is not None):
        why = "is conditional" if model.has_discriminator else "contains no discriminator"
        raise InputError(f"{checkpoint}: {why}; name features for the sample classifier by --features, such as pixels")
    return open_extractor(features or f"disc:{checkpoint}", FeatureOptions(seed=seed, download=download))(images)


def check_results(path: Path | None) -> None:
    """A file that rows cannot be appended to is refused before anything is measured."""
    from dcgan_eval import results

    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"--results {path}: the folder {path.absolute().parent} does not exist")
    if path is not None:
        results.read(path)


def check_file(path: Path, option: str) -> None:
    """What cannot be written is refused before anything is measured."""
    folder = path.absolute().parent
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; want the name of a file")
    if not folder.is_dir():
        raise InputError(f"{option} {path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option} {path}: cannot write to the folder {folder}")


def check_folder(path: Path, results: str) -> None:
    """A folder to make or to fill. results: where those go, which the option of this name was for once."""
    if path.exists() and not path.is_dir():
        raise InputError(f"--out {path}: is a file; want a folder")
    if path.suffix.lower() in (".csv", ".parquet"):
        raise InputError(f"--out {path}: names a file; want a folder; {results}")


def check_picture(path: Path, option: str) -> None:
    """The same of a picture, whose name says its kind."""
    from dcgan_eval.figures import kind_of

    check_file(path, option)
    kind_of(path)


def show(rows: "list[Row]", format: Format) -> None:
    from dcgan_eval import report, results

    if format == "json":
        records = [row.record() for row in rows]
        typer.echo(json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False))
    elif format == "csv":
        typer.echo(results.to_csv(rows), nl=False)
    else:
        typer.echo(report.text(report.tables(rows)))


def conclude(
    rows: "list[Row]",
    output: OutputOptions,
    picture: Path | None = None,
    draw: "Callable[[], Picture] | None" = None,
) -> None:
    """How a command ends: its picture is saved, its rows are appended and shown."""
    from dcgan_eval import results

    if picture is not None and draw is not None:
        draw().save(picture)
    if output.results is not None:
        results.append(output.results, rows)
    if rows:
        show(rows, output.format)


def note(text: str) -> None:
    typer.echo(text, err=True)
