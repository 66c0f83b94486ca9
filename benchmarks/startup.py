"""Claim: `dcgan-eval --help` answers in less than half a second, and no command waits for what it does not use.

Each in a process of its own, beside the import of torch alone, which every command that computes must wait for. The
limit is what Python takes to start.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.measure import Case


def started(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def cases() -> Iterator[Case]:
    begun = [_timed(partial(started, "")) for _ in range(5)]
    main = "import sys; from dcgan_eval.cli import main\ntry: main({!r})\nexcept SystemExit: pass"
    peers: dict[str, Callable[[], object]] = {"import torch": partial(started, "import torch")}
    yield Case(1, partial(started, main.format(["--help"])), peers, statistics.median(begun))
    # what `classify` imports; twice as much as torch alone
    classify = partial(started, "import dcgan_eval.classification, dcgan_eval.specs")
    yield Case(2, classify, peers, statistics.median(begun))


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
