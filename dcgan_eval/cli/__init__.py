"""The command `dcgan-eval`: parse, load, call one function, print or write; a file for each command."""

import logging
import os
import sys
import traceback
from typing import Annotated, Any

import typer

from dcgan_eval.cli.app import OPTIONS, app, check_names
from dcgan_eval.cli.common import note

# in the order of --help
from dcgan_eval.cli import classify, fid, neighbors, table3, dedup  # isort: skip # noqa: F401
from dcgan_eval.cli import sample, walk, arithmetic, turn, filters, forget  # isort: skip # noqa: F401
from dcgan_eval.cli import report, reproduce, checkpoints, migrate  # isort: skip # noqa: F401
from dcgan_eval.runtime.errors import InputError, RankLostError, UncertifiedError, as_typed

OVER_RANKS = ("classify", "fid", "neighbors")


@app.callback()
def options(
    context: typer.Context, debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False
) -> None:
    """Measure what a DCGAN has learnt. Every number comes with its protocol."""
    command = context.invoked_subcommand
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and "TORCHELASTIC_RUN_ID" in os.environ and command not in OVER_RANKS:
        raise InputError(f"{command}: runs in one process; torchrun is for {', '.join(OVER_RANKS)}")
    logging.basicConfig(format="%(message)s", level=logging.DEBUG if debug else logging.INFO)


def main(argv: list[str] | None = None) -> None:
    """Exit 0: done; 2: the input is at fault, said in one line; 1: our fault; 130: interrupted."""
    argv = (sys.argv[1:] if argv is None else argv) or ["--help"]
    debug = "--debug" in argv
    if debug:  # wherever it was given
        argv = ["--debug", *(word for word in argv if word != "--debug")]
    words = [word for word in argv if word not in ("--debug", "--no-debug")]
    command = words[0] if words else ""
    try:
        check_names(words)
        code: Any = app(argv, standalone_mode=False, obj=argv)
    except InputError as error:
        if debug:
            traceback.print_exc()
        code = _fail(as_typed(str(error), OPTIONS.get(command, ())))
    except (RankLostError, UncertifiedError) as error:
        if debug:
            traceback.print_exc()
        _fail(as_typed(str(error), OPTIONS.get(command, ())))
        code = 1
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # usage errors belong to typer's own copy of click, which has no public name
        if not hasattr(error, "format_message"):
            raise
        code = _fail(error.format_message())
    if code == 130:  # typer's own number for it
        note("dcgan-eval: interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    note(f"dcgan-eval: {' '.join(message.split())}")
    return 2
