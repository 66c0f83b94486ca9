"""The command `dcgan-eval migrate`."""

from pathlib import Path
from typing import Annotated

import typer

from dcgan_eval.cli.app import command
from dcgan_eval.cli.common import check_file, note
from dcgan_eval.runtime.errors import InputError


@command
def migrate(
    old: Annotated[Path, typer.Argument(help="CSV file of results, written by an earlier version.")],
    out: Annotated[Path, typer.Option(help="CSV file to write, which must not exist yet.")],
) -> None:
    """Rewrite a results file of an earlier version."""
    from dcgan_eval import results
    from dcgan_eval.results.migration import migrated

    check_file(out, "--out")
    if out.exists():
        raise InputError(f"--out {out}: exists; choose another file")
    rows = migrated(old)
    results.append(out, rows)
    note(f"{out}: {len(rows)} results")
