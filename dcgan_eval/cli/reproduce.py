"""The command `dcgan-eval reproduce`."""

import contextlib
import dataclasses
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcgan_eval.cli.app import OPTIONS, app, command
from dcgan_eval.cli.common import check_folder, note, show
from dcgan_eval.options import DataOptions, DeviceOptions, Format, Seed
from dcgan_eval.runtime.errors import InputError, UncertifiedError, as_typed

if TYPE_CHECKING:
    from dcgan_eval.results import Row

# of each task the numbers that sum it up
HEADLINES = ("accuracy", "FID", "Fréchet distance", "AuthPct", "suspected copies", "duplicates", "error")


@command
def reproduce(
    target: Annotated[
        str, typer.Argument(help="Target to reproduce: digits, table1, table2, table3, figures or all.")
    ] = "digits",
    out: Annotated[
        Path, typer.Option(help="Folder of all outputs; a step that is finished there is not run again.")
    ] = Path("reproduction"),
    cifar10: Annotated[str, typer.Option(help="Labelled images of Table 1.")] = "CIFAR-10",
    svhn: Annotated[str, typer.Option(help="Labelled images of Table 2.")] = "SVHN",
    mnist: Annotated[str, typer.Option(help="Labelled images of Table 3.")] = "MNIST",
    imagenet: Annotated[str | None, typer.Option(help="Images to fit Table 1's network to, with --train.")] = None,
    imagenet_disc: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint of Table 1's discriminator, trained on ImageNet: the authors' is PATH/30, from their "
            "repository's folder models/imagenet_gan_pretrain_128f_relu_lrelu_7l_3x3_256z."
        ),
    ] = None,
    svhn_disc: Annotated[
        str | None, typer.Option(help="Checkpoint of Table 2's discriminator, such as the authors'.")
    ] = None,
    mnist_gen: Annotated[str | None, typer.Option(help="Checkpoint of Table 3's conditional generator.")] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Fit the networks for which no checkpoint is given, by the paper's recipes.")
    ] = False,
    num_samples: Annotated[
        int, typer.Option(min=1, help="Number of samples for Table 3; the paper's is 10,000,000.")
    ] = 1_000_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan only.")] = False,
    seed: Seed = 0,
    format: Annotated[Format, typer.Option(help="Output format.")] = "table",
    *,
    device: DeviceOptions,
    where: DataOptions,
) -> None:
    """Reproduce the paper's tables and figures.

    Runs every step whose data and weights are available, and says what is missing. If interrupted, run it again: a step
    is finished when its outputs were made from the same data, weights and options. Writes a page of every table and
    figure, index.html. Without arguments: all of it on scikit-learn's digits, with the networks inside the package,
    offline.
    """
    from dcgan_eval.reproduction import Inspector, Sources, assemble, plan, run, steps
    from dcgan_eval.runtime import devices

    chosen = devices.choose(device.device)
    check_folder(out, "results.csv is written there")
    if train and importlib.util.find_spec("training") is None and not Path("training/__main__.py").exists():
        raise InputError("--train: training is in the checkout, not in the package; run this from there")
    if imagenet is not None and not train:
        raise InputError(f"--imagenet {imagenet}: applies only to --train")
    paths = [f"--data-root={where.data_root}"] if where.data_root != DataOptions.data_root else []
    paths += ["--download"] if where.download else []
    on = () if device == DeviceOptions() else ("--device", device.device)
    sources = Sources(
        cifar10, svhn, mnist, imagenet, imagenet_disc, svhn_disc, mnist_gen, train, num_samples, seed,
        on, tuple(paths),
    )  # fmt: skip
    todo = steps(target, sources)
    inspect = Inspector(out, where.data_root, where.download and not dry_run)
    note(plan(todo, inspect, chosen))
    if dry_run:
        return
    outcomes = run(todo, inspect, _call, note)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if not any(outcome.status in ("made", "kept") for outcome in outcomes):
        why = (failed or outcomes)[0].why
        if any(outcome.bug for outcome in failed):
            raise typer.Exit(1)
        raise InputError(f"reproduce {target}: nothing could be done: {why}")
    order = [step.name for step in steps("all", dataclasses.replace(sources, train=True))]
    stale = [outcome.step.name for outcome in outcomes if outcome.status not in ("made", "kept")]
    found, index = assemble(out, order, stale)
    _summary([row for step in todo for row in found.get(step.name, [])], format)
    note(f"{index}: every table and figure, and {out / 'results.csv'}: {sum(map(len, found.values()))} results")
    for outcome in outcomes:
        if outcome.status in ("failed", "missing"):
            note(f"{outcome.status}: {outcome.step.title}: {outcome.why}")
    if failed:
        raise typer.Exit(1 if any(outcome.bug for outcome in failed) else 2)


def _call(argv: Sequence[str]) -> str:
    """A command of this program in this process; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            code = app(list(argv), standalone_mode=False, obj=list(argv))
        except (InputError, UncertifiedError) as error:
            raise type(error)(as_typed(str(error), OPTIONS.get(argv[0], ()))) from error
        except Exception as error:
            # usage errors belong to typer's own copy of click, which has no public name
            if hasattr(error, "format_message"):
                raise InputError(error.format_message()) from error
            raise
    if code == 130:  # what typer makes of Ctrl-C
        raise KeyboardInterrupt
    if code:
        raise InputError(f"{argv[0]} ended with {code}; what it said stands above")
    return printed.getvalue()


def _summary(rows: "list[Row]", format: Format) -> None:
    """The rows themselves, or a line for each number that sums a task up."""
    from dcgan_eval.report.formats import text
    from dcgan_eval.report.table import Cell, number, table

    if format != "table":
        show(rows, format)
        return
    lines = [
        {
            "data": Cell(row.data.partition(" ")[0]),
            "model": Cell(row.model or ""),
            "features": Cell(row.features),
            "labels": Cell(row.labels),
            "condition": Cell(row.condition),
            "classifier": Cell(row.classifier),
            "images": Cell(f"{row.n:,}", row.n),
            "reference images": Cell(f"{row.n_reference:,}", row.n_reference),
            "metric": Cell(row.metric),
            "value": number(row),
            "unit": Cell(row.unit),
        }
        for row in rows
        if row.metric in HEADLINES
        and row.role == "value"
        and row.layer == "all"
        and not (row.task == "classify" and row.metric == "error")
    ]
    typer.echo(text([table("Summary", lines)]).rstrip("\n"))
