"""A number: what was measured, and what it was measured from, with and by."""

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dcgan_eval.results.outcomes import Outcomes

if TYPE_CHECKING:
    from dcgan_eval.runtime.run import Run

MEASURED = "measured"
CERTIFIED = 1e-6  # the largest gap of a certified number: the tolerance of dcgan_eval.evaluations.linear_probe

Role = Literal["value", "held-out", "p-value", "folds", "validation"]
SpreadKind = Literal["", "standard deviation", "not stated"]
IntervalKind = Literal["", "Wilson", "Wilson, clustered", "Student's t", "jackknife", "U-statistic"]
CBy = Literal[
    "", "folds", "validation", "folds of all draws", "validation of all draws", "folds of other draws",
    "validation of other draws", "given",
]  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """Where a value would be if more had been measured, with a confidence of 95 %: the fields of `Measurement` of
    these names.

    low, high: its ends, in the value's unit; None where it is not known. interval: its kind. interval_n, interval_of:
    how many of what it was found over, such as 10000 'test images'; 0 and '' where there is none.
    """

    low: float | None = None
    high: float | None = None
    interval: IntervalKind = ""
    interval_n: int = 0
    interval_of: str = ""


@dataclass(frozen=True)
class Spread:
    """How far apart repeated values were: the fields of `Measurement` of these names.

    spread: their standard deviation, in the value's unit; None where it is not known. spread_kind: that, or that the
    paper does not say what its ± is. spread_n, spread_of: how many of what there were, such as 10 'label draws'; 0 and
    '' where that is not known.
    """

    spread: float | None = None
    spread_kind: SpreadKind = ""
    spread_n: int = 0
    spread_of: str = ""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number, and under what conditions it was measured.

    task: the command that measures it. question: what is asked, of a task that asks several questions, else ''.
    condition: what the number was measured under, as its table's row says it; '' where there is one condition only.
    metric: name of the metric. role: 'value'; 'held-out', the same metric of held-out images in place of the evaluated
    ones, or of a count how many of images drawn as those are to be expected; 'p-value' of the value against the
    held-out one, or among those of random sets or directions; 'folds' or 'validation', the metric on these in place of
    the test set. value: in `unit` ('%' for accuracies, errors and fractions, 'images' for counts, else ''). low, high,
    interval, interval_n, interval_of: see `Interval`. spread, spread_kind, spread_n, spread_of: see `Spread`. draws:
    the value of each draw, seed or random set, in order; () where there is one. draws_low, draws_high: the ends of the
    95 % interval of the mean over draws (Student's t), None where it has none. n: number of images evaluated: test
    images, or generated ones. n_reference: number of images they are evaluated against: training images, or real ones.
    classifier: such as 'L2-SVM' or '5-NN'; labels: how many labels it was fitted to, such as 'all' or 'per-class:400';
    C: its penalty, the most frequent where each draw has its own, C_by: how it was chosen, and gap: its certified
    relative distance from the optimum; '' and None where there is no classifier. outcomes: which test images were
    classified correctly, None where that is not kept. method: how the number follows from the images' features; equal
    for all numbers that may be compared. remark: what the method found or chose on the way, such as the range of C.
    """

    task: str
    question: str = ""
    condition: str = ""
    metric: str
    role: Role = "value"
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    interval: IntervalKind = ""
    interval_n: int = 0
    interval_of: str = ""
    spread: float | None = None
    spread_kind: SpreadKind = ""
    spread_n: int = 0
    spread_of: str = ""
    draws: tuple[float, ...] = ()
    draws_low: float | None = None
    draws_high: float | None = None
    n: int
    n_reference: int = 0
    classifier: str = ""
    labels: str = ""
    C: float | None = None
    C_by: CBy = ""
    gap: float | None = None
    outcomes: Outcomes | None = None
    method: str = ""
    remark: str = ""

    @property
    def certified(self) -> bool:
        """Whether an SVM behind it is known to be as near to its optimum as a result must be; of other numbers True."""
        return self.gap is None or self.gap <= CERTIFIED


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a number was measured from, with and by.

    source: `MEASURED`, or what it is quoted from, such as 'paper, Table 1'. data, features: names, never a path;
    data_sha256, features_sha256: SHA-256 of the content; of images of `classify` with their split after a ':', and of
    part of a split with a digest of which after a '/'. pixels_sha256: of the pixels that were given to the extractor,
    decoded and fitted to its input, as `dcgan_eval.features.content` takes it: of each set of images, those of the
    model last, '-' where it is not known; '' where no set's is. model: what is evaluated by the data, None where the
    features are; of quoted numbers the paper's name. features_protocol: everything that decides the features.
    batchnorm: where the statistics of its BatchNorm layers are from, '' where it has none. trained_on: the images that
    the weights of the features have seen, with labels or without; 'nothing', or 'unknown'. dtype: the precision they
    were computed in, of which 'float32' means IEEE float32 products and never TF32. layer: 'all', or the one layer
    used. dimensions: of the features. seed: of all that is random. seconds_features, seconds: taken by the features of
    all images, fitting included, and by what was done with them. device: such as 'cpu' or '2 x cuda'. instruction_set:
    that the processor computed with, as `dcgan_eval.runtime.fast_ops.instruction_set` names it; threads: of the
    processor, in each process; '' and 0 where they are not known. versions: of the libraries, and of this code.
    command: as typed. time: UTC, ISO 8601.
    """

    source: str = MEASURED
    data: str = ""
    data_sha256: str = ""
    pixels_sha256: str = ""
    model: str | None = None
    model_sha256: str | None = None
    features: str = ""
    features_sha256: str = ""
    features_protocol: str = ""
    batchnorm: str = ""
    trained_on: str = ""
    dtype: str = ""
    layer: str = "all"
    dimensions: int = 0
    seed: int = 0
    seconds_features: float = 0.0
    seconds: float = 0.0
    device: str = ""
    instruction_set: str = ""
    threads: int = 0
    versions: str = ""
    command: str = ""
    time: str = ""


@dataclass(frozen=True, kw_only=True)
class Row(Provenance, Measurement):
    """One line of a file of results: a measurement and its provenance."""

    def record(self) -> dict[str, Any]:
        """Its fields by name, as JSON holds them: of outcomes the name of their file."""
        return {**vars(self), "outcomes": "" if self.outcomes is None else str(self.outcomes)}


def stamp(measurement: Measurement, provenance: Provenance) -> Row:
    """A row with the fields of a measurement and of its provenance."""
    return Row(**vars(measurement), **vars(provenance))


def provenance(run: "Run", **known: Any) -> Provenance:
    """The provenance of a number that this process measures now, in this run. known: the fields of `Provenance` that
    neither can tell."""
    import torch

    from dcgan_eval.runtime.fast_ops import instruction_set

    return Provenance(
        **{
            "device": run.computed_on,
            "command": run.command,
            "instruction_set": instruction_set(),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "time": now(),
            **known,
        }
    )


@cache
def versions() -> str:
    """What the numbers were computed with."""
    names = ("torch", "torchvision", "torch-fidelity", "scikit-learn", "scipy", "numpy", "pillow")
    own = f"dcgan-eval {version('dcgan-eval')}{_commit()}"
    return f"python {platform.python_version()}, {own}, " + ", ".join(f"{name} {version(name)}" for name in names)


def _commit() -> str:
    """Of the checkout that this code is in, as ' (1a2b3c4d)', with a '+' where files have changed; '' elsewhere."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        described = subprocess.run(
            ["git", "-C", root, "describe", "--always", "--exclude=*", "--abbrev=8", "--dirty=+"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" ({described.stdout.strip()})"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def command(argv: Sequence[str] | None = None) -> str:
    """The command line as typed, but for the folder in the environment variable DATA, which reads `$DATA` again."""
    folder = os.environ.get("DATA", "").rstrip("/")
    # whole folder names only (/data is not the start of /data2), and outside of quotes, where a shell expands it
    this = re.compile(rf"(?<![^=:,]){re.escape(folder)}(?=[/:]|$)" if folder else "(?!)")
    words = [this.split(word) for word in ["dcgan-eval", *(sys.argv[1:] if argv is None else argv)]]
    return " ".join("$DATA".join(part and shlex.quote(part) for part in word) or "''" for word in words)
