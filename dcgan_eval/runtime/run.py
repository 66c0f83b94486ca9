"""Where and how a piece of work is done, in one record; no result depends on it but for its rounding."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Run:
    """What an evaluation is run with. Raises InputError for a batch size below 1.

    device: computes.
    ranks: the processes that share the work, of which each gets every result.
    batch_size: images that a network sees at a time.
    cache: folder of features found before; None to keep none.
    progress: whether bars are shown on standard error.
    command: that results say they were made by; '' from Python.
    """

    device: torch.device | str = "cpu"
    ranks: Ranks = ALONE
    batch_size: int = 256
    cache: Path | None = None
    progress: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"`batch_size` {self.batch_size}: must be at least 1")
        object.__setattr__(self, "cache", None if self.cache is None else Path(self.cache))

    @property
    def computed_on(self) -> str:
        """What a result says it was computed on: 'cuda', or '8 × cuda'."""
        return self.ranks.on(self.device)


HERE = Run()  # this process, on the CPU
