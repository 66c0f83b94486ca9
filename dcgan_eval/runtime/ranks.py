"""The processes of `torchrun`: which rows each of them has, and sums over all.

Every function takes part of its data on each rank and gives each the whole answer; `ALONE` is the one process there is
without torchrun. What ranks decide by is the first one's (`agreed`), so that machines that round differently still
take the same steps.
"""

import gc
import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType

import torch
import torch.distributed as dist
from torch import Tensor

from dcgan_eval.runtime.errors import InputError, RankLostError

WAIT = timedelta(hours=2)  # for the slowest rank; Gloo notices at once where one is gone


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run. rank: in [0, world). local: among those of its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this one prints and writes the files."""
        return self.rank == 0

    def on(self, device: torch.device | str) -> str:
        """What a result says it was computed on: 'cuda', or '8 × cuda'."""
        kind = torch.device(device).type if self.world > 1 else str(device)
        return kind if self.world == 1 else f"{self.world} × {kind}"

    def share(self, n: int, whole: int = 1) -> range:
        """Which of n rows are this rank's: consecutive ones, as equally many blocks of `whole` rows as may be."""
        blocks = -(-n // whole)
        return range(*(min(n, blocks * rank // self.world * whole) for rank in (self.rank, self.rank + 1)))

    def mine(self, rows: Tensor) -> Tensor:
        """This rank's share of rows that every rank has."""
        here = self.share(len(rows))
        return rows[here.start : here.stop]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks; the argument is lost. All must call this together, as what follows."""
        return self._all(values, lambda whole: dist.all_reduce(whole))

    def largest(self, values: Tensor) -> Tensor:
        """The elementwise maximum over ranks; the argument is lost."""
        return self._all(values, lambda whole: dist.all_reduce(whole, dist.ReduceOp.MAX))

    def agreed(self, values: Tensor) -> Tensor:
        """The first rank's; the argument is lost."""
        return self._all(values, lambda whole: dist.broadcast(whole, 0))

    def _all(self, values: Tensor, collective: Callable[[Tensor], object]) -> Tensor:
        if self.world > 1:
            values = values.contiguous()  # collectives take no other
            collective(values)
        return values

    def check_same(self, what: str, identity: str) -> None:
        """Raises InputError on every rank unless the identity is the same on all."""
        number = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:7], "big")
        if int(self.largest(torch.tensor([number, -number])).sum()):
            raise InputError(f"{what}: is not the same on all ranks; give them the same files")

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, one after the other; each may have another number of them, of one shape and dtype."""
        if self.world == 1:
            return rows
        counts = torch.zeros(self.world, dtype=torch.int64, device=rows.device)
        counts[self.rank] = len(rows)
        sizes = [int(n) for n in self.sum(counts)]
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # collectives want equal shapes
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])


ALONE = Ranks()


def started() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined(device: torch.device | str) -> Iterator[tuple[Ranks, torch.device]]:
    """The ranks that torchrun started, over NCCL on GPUs and Gloo elsewhere, and this one's device; or `ALONE`.

    Raises InputError for devices that ranks cannot have, and RankLostError where another rank stops in the middle.
    """
    device = torch.device(device)
    if not started():
        yield ALONE, device
        return
    here = Ranks(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    if device.type == "mps":
        raise InputError("torchrun needs CUDA devices, or `device` cpu")
    if device.type == "cuda":
        if device.index is not None:
            raise InputError(f"`device` {device}: torchrun gives each rank a GPU; want cuda")
        if here.local >= torch.cuda.device_count():
            raise InputError(f"{here.local + 1} or more ranks on a machine with {torch.cuda.device_count()} GPUs")
        device = torch.device("cuda", here.local)
        torch.cuda.set_device(device)

    def stopped(number: int, frame: FrameType | None) -> None:
        raise _lost(here)

    before = signal.signal(signal.SIGTERM, stopped)  # which torchrun sends to all when one is gone
    try:
        # of tensors on the CPU, too: labels, and what is accumulated there
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=WAIT)
        yield here, device
        # a DistributedDataParallel in a cycle, freed after the group, would end it: its destructor holds the GIL and
        # waits for a thread of Gloo, which may want the GIL, for ever
        gc.collect()
        dist.destroy_process_group()  # after an error it might wait for the rank that is gone
    except (dist.DistError, RuntimeError) as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error):
            raise _lost(here, f" ({str(error).splitlines()[0][:200]})") from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _lost(here: Ranks, why: str = "") -> RankLostError:
    return RankLostError(
        f"rank {here.rank} of {here.world}: another rank is gone, or all were told to stop; what is finished is kept: "
        f"run the same command again{why}"
    )
