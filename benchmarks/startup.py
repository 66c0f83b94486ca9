"""Claim: `dcgan-eval --help` answers in less than half a second, and no command waits for what it does not use.

Each in a process of its own, beside the import of torch alone, which every command that computes must wait for. The
limit is what Python takes to start.
"""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks.measure import Case, seconds

HELP = "import sys; from dcgan_eval.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
CLASSIFY = "import dcgan_eval.evaluations.classify, dcgan_eval.inputs"


def started(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def cases(code: str) -> Iterator[Case]:
    begun = median(seconds(partial(started, "")) for _ in range(5))
    yield Case(1, partial(started, code), {"import torch": partial(started, "import torch")}, begun)
