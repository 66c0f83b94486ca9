"""From nothing to the paper's tables: what there is to do, how long it takes, what is missing, and doing it."""

from dcgan_eval.reproduction.running import Outcome, assemble, plan, run
from dcgan_eval.reproduction.step import Inspector, Source, State, Step
from dcgan_eval.reproduction.targets import TARGETS, Sources, steps

__all__ = [
    "TARGETS",
    "Inspector",
    "Outcome",
    "Source",
    "Sources",
    "State",
    "Step",
    "assemble",
    "plan",
    "run",
    "steps",
]
