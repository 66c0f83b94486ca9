"""The application, and commands made from functions and their option records."""

import copy
import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_args

import typer
from typer.models import ArgumentInfo, OptionInfo

from dcgan_eval.options import SEPARATORS, Options, declared
from dcgan_eval.runtime.errors import InputError

app = typer.Typer(
    name="dcgan-eval",
    help="Measure what a DCGAN has learnt. Every number comes with its protocol.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


OPTIONS: dict[str, set[str]] = {}  # of each command, as Python calls them


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Adds a function to the application as the command of its name.

    A parameter that is a record of options becomes the options of its fields; a field that several records have is one
    option, given to all of them. An option whose type is a tuple takes values separated by commas, and may be repeated.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    records = {name: p.annotation for name, p in parameters.items() if _is_record(p.annotation)}
    given: dict[str, inspect.Parameter] = {}
    for name, parameter in parameters.items():
        for each in _fields(records[name]) if name in records else [parameter]:
            each = each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            assert given.setdefault(each.name, each) == each, f"{each.name}: is declared twice, and otherwise"
    OPTIONS[function.__name__] = {name for name, p in given.items() if _is_option(p)}
    many = {name: declared(p.annotation).kind for name, p in given.items() if _is_list(p)}

    @functools.wraps(function)
    def run(**values: Any) -> None:
        values = {k: _separated(k, v, many[k]) if k in many else v for k, v in values.items()}
        made = {
            name: record(**{field.name: values[field.name] for field in dataclasses.fields(record)})
            for name, record in records.items()
        }
        function(**{name: made[name] if name in made else values[name] for name in parameters})

    flat = [_as_typer_knows(p) for p in given.values()]
    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    app.command()(run)
    return run


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Options)


def _fields(record: type[Options]) -> list[inspect.Parameter]:
    return list(inspect.signature(record, eval_str=True).parameters.values())


def _is_option(parameter: inspect.Parameter) -> bool:
    return isinstance(getattr(parameter.annotation, "__metadata__", [None])[0], OptionInfo)


def _is_list(parameter: inspect.Parameter) -> bool:
    return _is_option(parameter) and declared(parameter.annotation).many


def _as_typer_knows(parameter: inspect.Parameter) -> inspect.Parameter:
    """The same for typer, which has no tuples of any length, and prints arguments in small letters."""
    if not hasattr(parameter.annotation, "__metadata__"):
        return parameter
    option = declared(parameter.annotation)
    info = copy.copy(option.info)
    if not option.many:
        if isinstance(info, ArgumentInfo):
            info.metavar = info.metavar or parameter.name.upper()
        return parameter.replace(annotation=Annotated[get_args(parameter.annotation)[0], info])
    text, default, rest = (info.help or "").partition(" [default")
    info.help = f"{text} Repeat the option, or separate values by commas.{default}{rest}"
    info.metavar = "VALUE,…"
    values = parameter.default
    return parameter.replace(
        annotation=Annotated[list[str] | None, info], default=None if values is None else [str(v) for v in values]
    )


def _separated(name: str, words: list[str] | None, kind: Any) -> tuple[Any, ...] | None:
    if words is None:
        return None
    parts = [part.strip() for word in words for part in re.split(SEPARATORS.get(kind, ","), word)]
    if kind not in (int, float):
        return tuple(parts)
    try:
        return tuple(kind(part) for part in parts)
    except ValueError as error:
        numbers = {int: "whole numbers", float: "numbers"}[kind]
        raise InputError(f"`{name}` {','.join(words)!r}: want {numbers} separated by commas") from error


def typed(name: str) -> str:
    """--prdc-k of prdc_k."""
    return f"--{name.replace('_', '-')}"


# options of before, by command ('' for all), and what they are called now
RENAMED: Mapping[str, Mapping[str, str]] = {
    "": {"--out": "--results"},
    "classify": {"--repeats": "--draws", "--knn": "--k"},
    "fid": {
        "--num": "--num-samples", "--repeats": "--seeds", "--subsets": "--kid-subsets",
        "--subset-size": "--kid-subset-size", "--splits": "--is-splits", "--k": "--prdc-k",
    },
    "neighbors": {"--num": "--num-samples"},
    "dedup": {"--folder": "--out"},
    "table3": {"--num": "--num-samples", "--state": "--resume-from"},
    "sample": {"--num": "--num-samples"},
    "walk": {"--num": "--num-points", "--optimise": "--inversion-steps"},
    "arithmetic": {"--num": "--num-samples", "--sheet": "--contact-sheet"},
    "turn": {"--num": "--num-samples", "--sheet": "--contact-sheet", "--by": "--method"},
    "filters": {"--num": "--num-images"},
    "forget": {"--num": "--num-samples"},
    "reproduce": {"--num": "--num-samples", "--folder": "--out"},
}  # fmt: skip


def check_names(argv: Sequence[str]) -> None:
    """Raises InputError for an option's name of before, where the command has the new one in its place."""
    command = argv[0] if argv else ""
    known = {typed(name) for name in OPTIONS.get(command, ())}
    old = {**RENAMED[""], **RENAMED.get(command, {})}
    for word in argv[1:]:
        name = word.partition("=")[0]
        if name not in known and old.get(name) in known:
            raise InputError(f"{name}: is called {old[name]} now")
