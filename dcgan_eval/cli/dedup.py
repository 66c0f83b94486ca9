"""The command `dcgan-eval dedup`."""

from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import begin, check_file, check_folder, check_results, conclude, note
from dcgan_eval.options import (
    BatchSize,
    DataOptions,
    DedupOptions,
    DeviceOptions,
    ExtractionOptions,
    OutputOptions,
)
from dcgan_eval.runtime.errors import InputError


@command
def dedup(
    context: typer.Context,
    data: Annotated[
        str, typer.Argument(help="Images: a named dataset, folder, .zip or .npz; of several splits the train split.")
    ],
    against: Annotated[
        str | None, typer.Option(help="Held-out images; an image that duplicates one of them is not kept either.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write keep.json, groups.csv and groups.png to.")] = Path(
        "duplicates"
    ),
    batch_size: BatchSize = 1024,
    *,
    options: DedupOptions,
    device: DeviceOptions,
    where: DataOptions,
    output: OutputOptions,
) -> None:
    """Find duplicate images and list the images to keep.

    Near-duplicates are found by codes of an autoencoder, as in the paper, or by perceptual hashes.

    `python -m training … --keep-list duplicates/keep.json` trains on these alone.
    """
    from dcgan_eval.evaluations.dedup import check_options, dedup, groups_csv, picture, rows, save_keep_list
    from dcgan_eval.images import open_split
    from dcgan_eval.inputs import open_training
    from dcgan_eval.runtime.files import write_whole

    run = begin(context, device, ExtractionOptions(batch_size))
    check_results(output.results)
    check_folder(out, "results are appended to --results FILE")
    check_options(options)
    files = {name: out / name for name in ("groups.csv", "groups.png", "keep.json")}
    for path in files.values() if out.exists() else (out,):
        check_file(path, "--out")
    train = open_training(data, root=where.data_root, download=where.download)
    held_out = None if against is None else open_split(against, root=where.data_root, download=where.download)
    duplicates = dedup(train, held_out, options, run)
    measured = [row for each in duplicates for row in rows(each, run, seed=options.seed)]
    sheet = picture(duplicates[0])
    try:
        out.mkdir(exist_ok=True)
        write_whole(files["groups.csv"], groups_csv(duplicates[0]))
        sheet.save(files["groups.png"])
        save_keep_list(files["keep.json"], duplicates[0])
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written to: {error}") from error
    conclude(measured, output)
    note(f"{out}: keep.json, groups.csv and groups.png, by {duplicates[0].method}")
