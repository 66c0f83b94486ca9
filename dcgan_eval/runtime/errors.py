"""Exceptions that the command line reports as one line.

Their messages name options in backticks, as Python calls them; a command line writes them as its user does.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line: what was wrong, where, and what to do.

    The command line prints the message alone and exits with 2.
    """


class UncertifiedError(ArithmeticError):
    """A number could not be certified, so there is none; the message is one line.

    The command line prints the message alone and exits with 1.
    """


class RankLostError(BaseException):
    """One of several processes is gone, or all were told to stop; the message says what to do.

    It may come anywhere, as KeyboardInterrupt, and no reader of a file may take it for a fault of that file.

    The command line prints the message alone and exits with 1.
    """


def as_typed(message: str, names: "Container[str]") -> str:
    """A message with those options that are written in backticks as on a command line: `prdc_k` as --prdc-k."""
    return re.sub(r"`(\w+)`", lambda m: f"--{m[1].replace('_', '-')}" if m[1] in names else m[0], message)


def nearest(name: str, known: "list[str] | tuple[str, ...]") -> str:
    """A hint for an unknown name: `; did you mean 'svhn32'?` and the known names."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(known)})"
