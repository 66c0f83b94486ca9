"""Every precision that the solver can multiply in on some machine, on this one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from dcgan_eval.linear import operators, preconditioner
from dcgan_eval.linear import path as solver
from dcgan_eval.runtime.fast_ops import few_times


def to_bfloat16(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().float()


def to_tf32(x: torch.Tensor) -> torch.Tensor:
    """Rounded to the 10 bits of TF32."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def rounding(to: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`few_times` on a machine that rounds the factors of float32 products, whatever it is asked for."""

    def product(few: torch.Tensor, X: torch.Tensor, add_to: torch.Tensor | None = None) -> torch.Tensor:
        if few.dtype == torch.float32:
            few, X = to(few), to(X)
        return few_times(few, X, add_to)

    return product


PATHS = ("as here", "float32", "float32, on the weights", "split bfloat16", "bfloat16 unasked", "TF32 unasked")


@contextmanager
def path(name: str) -> Iterator[None]:
    """The solver takes this path, problems of any size included."""
    with pytest.MonkeyPatch.context() as patch:
        if name != "as here":
            patch.setattr(solver, "EASY", 0)
            patch.setattr(operators, "EASY", 0)
            patch.setattr(solver, "multiplies_split", lambda device: name == "split bfloat16")
        if name == "float32, on the weights":
            patch.setattr(solver, "GRAM_BYTES", 0)
        if name.endswith("unasked"):
            rounded = rounding(to_bfloat16 if name.startswith("bfloat16") else to_tf32)
            patch.setattr(operators, "few_times", rounded)
            patch.setattr(preconditioner, "few_times", rounded)
        yield
