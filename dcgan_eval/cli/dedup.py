"""The command `dcgan-eval dedup`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.common import (
    BatchSize,
    DataRoot,
    DeviceName,
    Download,
    Out,
    Printed,
    Seed,
    app,
    check_file,
    check_out,
    choose_device,
    note,
    one_of,
    show,
)
from dcgan_eval.errors import InputError
from dcgan_eval.options import DuplicateMethod


@app.command()
def dedup(
    context: typer.Context,
    data: Annotated[
        str, typer.Argument(help="Images: a named dataset, folder, .zip or .npz; of several splits the train split.")
    ],
    against: Annotated[
        str | None, typer.Option(help="Held-out images; an image that duplicates one of them is not kept either.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Near codes of an autoencoder, equal codes as in the paper, equal pixels (exact), or perceptual "
            "hashes (phash). Repeat to compare; files are by the first. [default: autoencoder, exact]"
        ),
    ] = None,
    radius: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of bits in which the codes of duplicates may differ. [default: 4, or 0 for paper, exact]",
        ),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Folder to write keep.json, groups.csv and groups.png to.")] = Path(
        "duplicates"
    ),
    seed: Seed = 0,
    device: DeviceName = "auto",
    batch_size: BatchSize = 1024,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    format: Printed = "table",
    out: Out = None,
) -> None:
    """Find duplicate images, near-duplicates included, and list the images to keep.

    `python -m training … --keep-list duplicates/keep.json` trains on these alone.
    """
    from dcgan_eval import dedup, results
    from dcgan_eval.files import write_whole
    from dcgan_eval.images import open_images, open_split

    chosen = choose_device(device)
    check_out(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--folder {folder}: is a file; want a folder")
    methods = [one_of(each, DuplicateMethod, "--method") for each in dict.fromkeys(method or ["autoencoder", "exact"])]
    if radius is not None and not {"autoencoder", "phash"} & set(methods):
        raise InputError(f"--radius {radius}: is a choice for autoencoder and phash; {methods[0]} asks for equal codes")
    radii = {each: radius if each in ("autoencoder", "phash") else None for each in methods}
    for each in methods:
        dedup.check(each, radii[each])
    files = {name: folder / name for name in ("groups.csv", "groups.png", "keep.json")}
    for path in files.values() if folder.exists() else (folder,):
        check_file(path, "--folder")
    found = open_images(data, root=data_root, download=download)
    train = found["train"] if "train" in found else open_split(data, root=data_root, download=download)
    held_out = None if against is None else open_split(against, root=data_root, download=download)
    if held_out is not None and held_out.fingerprint == train.fingerprint:
        raise InputError(f"--against {against}: are the same images as {data}")
    duplicates = [
        dedup.find(
            train,
            held_out,
            method=each,
            radius=radii[each],
            seed=seed,
            batch_size=batch_size,
            device=chosen,
            progress=sys.stderr.isatty(),
        )
        for each in methods
    ]
    command = results.command(context.obj)
    rows = [row for each in duplicates for row in dedup.rows(each, seed=seed, device=chosen, command=command)]
    sheet = dedup.picture(duplicates[0])
    try:
        folder.mkdir(exist_ok=True)
        write_whole(files["groups.csv"], dedup.groups_csv(duplicates[0]))
        sheet.save(files["groups.png"])
        dedup.save_keep_list(files["keep.json"], duplicates[0])
    except OSError as error:
        raise InputError(f"--folder {folder}: cannot be written to: {error}") from error
    if out is not None:
        results.append(out, rows)
    show(rows, format)
    note(f"{folder}: keep.json, groups.csv and groups.png, by {methods[0]}")
