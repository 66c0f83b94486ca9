"""How claims about speed are measured: ours and its peers in turns, beside what the machine could do.

A round that does not count comes first; then ours and the peers take turns, and medians are compared. What takes longer
than `SLOW` seconds runs once. The limit of a piece of work is the time that its matrix products and convolutions alone
would take at the machine's peak arithmetic, or at the rate at which it reads memory where that takes longer; both are
measured in the same run.
"""

import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from dcgan_eval import results

ROUNDS = 3
SLOW = 20.0
CACHED = 2**25  # bytes that may lie in a processor's cache, and do not count as read from memory


@dataclass(frozen=True)
class Limits:
    """bandwidth: bytes/s read from memory. peaks: FLOP/s by dtype."""

    bandwidth: float
    peaks: dict[torch.dtype, float]

    def __str__(self) -> str:
        rates = ", ".join(f"{peak / 1e9:,.0f} GFLOP/s in {str(dtype)[6:]}" for dtype, peak in self.peaks.items())
        return f"{self.bandwidth / 1e9:.1f} GB/s read from memory, {rates}"


@dataclass(frozen=True)
class Case:
    """The same work by ours and by peers. n: its size. limit: seconds, where torch does not see the work."""

    n: int
    ours: Callable[[], object]
    peers: dict[str, Callable[[], object]]
    limit: float | None = None


@dataclass(frozen=True)
class Measured:
    """A row of the table: one size beside one peer. Seconds are medians. growth: of ours, the power of n since the
    smaller size; None at the smallest."""

    claim: str
    n: int
    ours: float
    peer: str
    theirs: float
    limit: float
    growth: float | None

    @property
    def times(self) -> float:
        return self.theirs / self.ours

    @property
    def share(self) -> float:
        """Of the machine's limit, in %."""
        return 100 * self.limit / self.ours


def header() -> str:
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.get_device_name()}"
    return f"{machine}; {results.versions()}; {results.now()}"


def wait(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device | str = "cpu") -> float:
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def peak(dtype: torch.dtype, device: torch.device | str) -> float:
    """FLOP/s of a matrix product or a convolution, whichever is faster here."""
    n = 8192 if torch.device(device).type == "cuda" else 3072
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    x, w = (torch.randn(*shape, device=device, dtype=dtype) for shape in ((n // 48, 256, 32, 32), (256, 256, 3, 3)))
    x, w = (tensor.to(memory_format=torch.channels_last) for tensor in (x, w))
    works: list[tuple[Callable[[], Tensor], int]] = [
        (lambda: a @ b, 2 * n**3),
        (lambda: nn.functional.conv2d(x, w, padding=1), 18 * 256 * x.numel()),
    ]
    return max(flops / min(seconds(work, device) for _ in range(4)) for work, flops in works)


def limits(device: torch.device | str, dtypes: Iterable[torch.dtype] = (torch.float32, torch.float64)) -> Limits:
    x = torch.ones(2**27, device=device)
    bandwidth = x.numel() * x.element_size() / min(seconds(x.sum, device) for _ in range(5))
    return Limits(bandwidth, {dtype: peak(dtype, device) for dtype in dtypes})


def _few_times(few: Tensor, X: Tensor, *rest: Any, out_val: Tensor) -> int:
    return 2 * few.numel() * len(X)


# operations that torch has no number of FLOP for
UNCOUNTED: dict[Any, Callable[..., int]] = {torch.ops.aten.addmm_: flop_registry[torch.ops.aten.addmm]}
if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
    UNCOUNTED[torch.ops.mkldnn._linear_pointwise] = _few_times


class Limit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up, over the products and convolutions that run inside, the seconds they would take at the limits."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limits, self.seconds = limits, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        count = UNCOUNTED.get(packet) or flop_registry.get(packet)
        if count is None:
            with self:  # into its parts, which inference mode hides
                out = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if out is NotImplemented else out
        out = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        moved = sum(t.numel() * t.element_size() for t in tensors)
        arithmetic = count(*args, **kwargs, out_val=out) / self.limits.peaks[tensors[0].dtype]
        self.seconds += max(arithmetic, moved / self.limits.bandwidth if moved > CACHED else 0.0)
        return out


def measure(claim: str, cases: Iterable[Case], limits: Limits, device: torch.device | str = "cpu") -> list[Measured]:
    """Prints a line for every size and peer as it is known."""
    titles = f"{'n':>8}{'ours, s':>10}  {'peer':24}{'peer, s':>10}{'times':>8}{'limit, s':>10}{'share':>7}  growth"
    print(f"\n{claim}\n{titles}")
    found: list[Measured] = []
    before: tuple[int, float] | None = None
    for case in cases:
        works = {"ours": case.ours, **case.peers}
        taken: dict[str, list[float]] = {name: [] for name in works}
        single = {name: seconds(work, device) for name, work in works.items()}  # the round that does not count,
        for _ in range(ROUNDS):
            for name, work in works.items():
                if single[name] < SLOW:
                    taken[name].append(seconds(work, device))
        medians = {name: statistics.median(some) if some else single[name] for name, some in taken.items()}  # or does
        limit = case.limit
        if limit is None:
            with Limit(limits) as counted:
                case.ours()
            limit = counted.seconds
        ours = medians.pop("ours")
        growth = None if before is None else math.log(ours / before[1]) / math.log(case.n / before[0])
        before = case.n, ours
        for peer, theirs in medians.items():
            row = Measured(claim, case.n, ours, peer, theirs, limit, growth)
            found.append(row)
            print(
                f"{row.n:8,}{ours:10.3f}  {peer:24}{theirs:10.3f}{row.times:8.2f}{limit:10.3f}{row.share:6.0f}%  "
                + ("" if growth is None else f"n^{growth:.2f}"),
                flush=True,
            )
    return found
