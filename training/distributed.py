"""What keeps a run the same whatever the number of its ranks."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce as _all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import Ranks


def any_rank(flag: bool, ranks: Ranks, device: torch.device) -> bool:
    """Whether the flag is set on any rank: all must call it together."""
    if ranks.world == 1:
        return flag  # without a GPU's being waited for
    return bool(ranks.sum(torch.tensor([int(flag)], device=device)).item())


def mean_over(values: Tensor, ranks: Ranks) -> Tensor:
    """The mean of each value over ranks: all must call it together."""
    return ranks.sum(values) / ranks.world


def check_same(step: int, ranks: Ranks, device: torch.device) -> None:
    """Raises InputError unless all ranks are at the same step, as they are if they share the folder of the run."""
    ends = ranks.largest(torch.tensor([step, -step], device=device))
    if int(ends.sum()):
        raise InputError(f"ranks would go on from different steps, {-int(ends[1])} to {int(ends[0])}: share --out")


def check_share(batch_size: int, ranks: Ranks) -> None:
    """Raises InputError unless ranks get equal shares, which averages of averages need."""
    if batch_size % ranks.world or batch_size < 2 * ranks.world:
        raise InputError(f"batch_size {batch_size} does not divide into {ranks.world} ranks with 2 images or more each")


def share_statistics(network: nn.Module) -> None:
    """Make every BatchNorm layer of the network use the statistics of the whole minibatch, over all ranks.

    torch's SyncBatchNorm does so on GPUs only; this runs on any device, so that 1 and N ranks agree on each.
    """
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.forward = _shared_forward(part)  # type: ignore[method-assign]


def _mean(values: Tensor) -> Tensor:
    """Over ranks, of equal shares; gradients flow through it."""
    total: Tensor = _all_reduce(values)  # type: ignore[no-untyped-call]
    return total / dist.get_world_size()


def _shared_forward(norm: _BatchNorm) -> Any:
    def forward(h: Tensor) -> Tensor:
        x = h.float()
        dims = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        x = x - _mean(x.mean(dims)).view(shape)
        variance = _mean(x.square().mean(dims))
        x = x * (variance + norm.eps).rsqrt().view(shape)
        return (x * norm.weight.view(shape) + norm.bias.view(shape) if norm.affine else x).to(h.dtype)

    return forward
