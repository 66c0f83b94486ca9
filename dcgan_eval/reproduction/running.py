"""Running a plan: what is finished stays, what fails leaves the rest alone, and the page is made of what there is."""

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from dcgan_eval import results
from dcgan_eval.report import everything, page, pictures
from dcgan_eval.report.pictures import curves, write_list
from dcgan_eval.reproduction.step import FOLDER, Inspector, State, Step, finished, marker, read_marker, rows_file
from dcgan_eval.results import Row
from dcgan_eval.results.store import write_outcomes
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole

REFERENCE = 210e9  # float32 operations a second, in matrix products, of the 2 cores that steps were timed on

Call = Callable[[Sequence[str]], str]  # runs a command line in this process; what it printed; raises as commands do


@dataclass(frozen=True)
class Outcome:
    """status: 'made' now, 'kept' from before, 'missing' inputs, or 'failed'. why: of the last two. bug: whether a
    failure is ours, not the input's."""

    step: Step
    status: Literal["made", "kept", "missing", "failed"]
    seconds: float = 0.0
    why: str = ""
    bug: bool = False


def speed(device: str) -> float:
    """How many times as fast as `REFERENCE` this device multiplies matrices of float32, in a tenth of a second."""
    x = torch.ones(1024, 1024, device=device)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        float((x @ x)[0, 0])
        best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best / REFERENCE


def duration(seconds: float) -> str:
    """As in '40 s', '12 min' or '3.5 h'."""
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def plan(steps: Sequence[Step], inspect: Inspector, device: str) -> str:
    """A line per step: what it is, about how long it takes here, and what is missing; then the sum."""
    by_name = {step.name: step for step in steps}
    faster = speed(device)
    states = [inspect(step, by_name) for step in steps]
    width = max(len(step.title) for step in steps)
    lines = []
    for step, state in zip(steps, states, strict=True):
        took = finished(inspect.folder, step).get("seconds")
        if state.status == "finished":
            when = f"took {duration(float(took))}" if isinstance(took, int | float) else ""
        else:
            when = "" if state.status == "missing" else f"about {duration(step.seconds / faster)}"
        lines.append(f"{step.title:{width}}  {state.status:8}  {when:14}  {state.why}".rstrip())
    left = sum(s.seconds for s, state in zip(steps, states, strict=True) if state.status in ("to do", "waits")) / faster
    return "\n".join([*lines, f"{'in all':{width}}  {'':8}  about {duration(left)}"])


def run(steps: Sequence[Step], inspect: Inspector, call: Call, say: Callable[[str], None]) -> list[Outcome]:
    """Every step that is not finished, in order; call: see `Call`. KeyboardInterrupt leaves what is finished.

    Raises InputError if the folder cannot be written to.
    """
    folder = inspect.folder
    by_name = {step.name: step for step in steps}
    if all(inspect(step, by_name).status == "missing" for step in steps):
        return [Outcome(step, "missing", why=inspect(step, by_name).why) for step in steps]
    try:
        for part in ("steps", "figures", "cache"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to: {error}; choose another --out") from error
    outcomes = []
    for number, step in enumerate(steps, 1):
        state = inspect(step, by_name)
        where = f"[{number}/{len(steps)}] {step.title}"
        if state.status == "finished":
            outcomes.append(Outcome(step, "kept"))
            say(f"{where}: finished before")
        elif state.status in ("missing", "waits"):
            outcomes.append(Outcome(step, "missing", why=state.why))
            say(f"{where}: left out: {state.why}")
        else:
            say(where)
            outcomes.append(_make(step, state, folder, call))
            if outcomes[-1].status == "failed":
                say(f"{where}: failed: {outcomes[-1].why}")
    return outcomes


def _make(step: Step, state: State, folder: Path, call: Call) -> Outcome:
    argv = [word.replace(FOLDER, str(folder)) for word in (*step.argv, *step.options)]
    start = time.perf_counter()
    try:
        marker(folder, step).unlink(missing_ok=True)
        rows_file(folder, step.name).unlink(missing_ok=True)  # commands append, and this one may have been cut short
        if step.resumes is not None:
            _set_aside(folder / step.resumes, folder / "steps" / f"{step.name}.begun", state.identity)
        if step.program == "training":
            _train(argv, folder / step.outputs[0])
        else:
            write_whole(folder / "steps" / f"{step.name}.txt", call(argv))
        if step.copied is not None:
            write_whole(folder / "figures" / f"{step.name}.png", (folder / step.copied).read_bytes())
        seconds = time.perf_counter() - start
        program = "dcgan-eval" if step.program == "dcgan-eval" else "python -m training"
        command = f"{program} {results.command(argv).removeprefix('dcgan-eval ')}"
        kept = {"inputs": state.identity, "command": command, "title": step.title, "seconds": seconds}
        write_whole(marker(folder, step), json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    except (InputError, OSError) as error:
        return Outcome(step, "failed", time.perf_counter() - start, " ".join(str(error).split()))
    except Exception as error:  # the other steps are not to blame
        traceback.print_exc()
        return Outcome(step, "failed", time.perf_counter() - start, f"{type(error).__name__}: {error}", bug=True)
    return Outcome(step, "made", seconds)


def _set_aside(path: Path, begun: Path, identity: str) -> None:
    """What a stopped step goes on from, if it was begun with other inputs, is renamed: nothing is lost or mixed.

    begun: file that keeps the identity which it was begun with.
    """
    before = begun.read_text(encoding="utf-8") if begun.exists() else "unknown"
    if before != identity and path.exists():
        path.rename(path.with_name(f"{path.name}.{before[:12]}.{int(time.time())}"))
    write_whole(begun, identity)


def _train(argv: Sequence[str], checkpoint: Path) -> None:
    """In a process of its own: training is no part of the package, and may run for days."""
    run = checkpoint.parent
    run.parent.mkdir(parents=True, exist_ok=True)
    resume = ["--resume"] if (run / "metrics.csv").exists() else []
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *argv, "--out", str(run), *resume], env={**os.environ, "PYTHONPATH": path}
    )
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # which has had the signal too, and saves before it ends
        raise
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise InputError(f"training ended with {code}; what it said stands above")


def assemble(folder: Path, order: Sequence[str], without: Collection[str] = ()) -> tuple[dict[str, list[Row]], Path]:
    """results.csv, figures.csv and index.html of all steps that are finished in the folder; their rows, and the page.

    order: names of steps; those that it lacks come last. without: names of those whose files are of other inputs.
    """
    place = {name: i for i, name in enumerate(order)}
    kept = {path.stem: read_marker(path) for path in (folder / "steps").glob("*.json") if path.stem not in without}
    names = sorted((name for name in kept if kept[name]), key=lambda n: (place.get(n, len(place)), n))
    found = {name: results.read(rows_file(folder, name)) for name in names}
    rows = [row for some in found.values() for row in some]
    write_outcomes(folder / "results.csv", rows)
    write_whole(folder / "results.csv", results.to_csv(rows))
    drawn = [name for name in names if (folder / "figures" / f"{name}.png").exists()]
    write_list(
        folder / "figures",
        [(f"{name}.png", str(kept[name].get("title", name)), str(kept[name].get("command", ""))) for name in drawn],
    )
    index = folder / "index.html"
    shown = [*pictures(folder / "figures"), *curves(rows)]
    write_whole(index, page("What the networks learnt", everything(rows), shown))
    return found, index
