"""Operations that depend on the processor or are private to torch, each beside its public fallback.

`has` decides by the processor and by what oneDNN may use of it; the fallbacks compute the same numbers anywhere, so
that a test can run every path on every machine.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

LARGE = 2**21  # values that no processor's cache holds beside others

# what oneDNN may be capped to by the environment, in ascending order
LEVELS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16",
          "AVX512_CORE_FP16", "AVX10_1_512", "AVX10_2_512", "AVX512_CORE_AMX", "AVX512_CORE_AMX_FP16",
          "AVX10_1_512_AMX", "AVX10_1_512_AMX_FP16", "AVX10_2_512_AMX_2")  # fmt: skip
# instructions, and the lowest cap that leaves them
NEEDS = {"avx512_vnni": "AVX512_CORE_VNNI", "avx512_bf16": "AVX512_CORE_BF16", "amx_int8": "AVX512_CORE_AMX",
         "amx_bf16": "AVX512_CORE_AMX"}  # fmt: skip


@cache
def _processor() -> Mapping[str, Any]:
    return torch.cpu.get_capabilities()


def has(instructions: str) -> bool:
    """Whether oneDNN uses these instructions here: those of `NEEDS`, as torch.cpu.get_capabilities names them."""
    cap = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL").upper()
    capped = cap in LEVELS and LEVELS.index(cap) < LEVELS.index(NEEDS[instructions])
    return bool(_processor().get(instructions, False)) and not capped and _onednn()


def _onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def instruction_set() -> str:
    """What this process computes with: torch's vector instructions, then what oneDNN has for low precision."""
    more = " ".join(name for name in NEEDS if has(name))
    return torch.backends.cpu.get_cpu_capability() + (f" {more}" if more else "")


def _private(library: str, name: str) -> Any:
    """A private operation of torch, or None where this version has none of that name."""
    return getattr(torch if library == "torch" else getattr(torch.ops, library), name, None)


def few_times(few: Tensor, X: Tensor, add_to: Tensor | None = None) -> Tensor:
    """few @ X for a contiguous (m, k) of few rows and a large X (k, n), of one dtype; added to `add_to` if given.

    In float32 on CPUs by oneDNN where Xᵀ is contiguous, which it reads as it is, in a half to two thirds of the time
    that MKL takes of an X that no cache holds. Of a contiguous X it takes 10 % less than MKL with AVX2, and 30 % more
    with AVX-512.
    """
    if few.dtype == torch.float32 and few.device.type == "cpu" and X.numel() > LARGE:
        by_onednn = _private("mkldnn", "_linear_pointwise") if _onednn() else None
        # of other strides oneDNN has no fast product, or none
        as_it_is = X.is_contiguous() and torch.backends.cpu.get_cpu_capability() != "AVX512"
        if by_onednn is not None and (as_it_is or X.T.is_contiguous()):
            product: Tensor = (
                by_onednn(X.T, few, None, "none", [], "").T
                if X.T.is_contiguous()
                else by_onednn(few, X.T, None, "none", [], "")
            )
            return product if add_to is None else add_to.add_(product)
    return few @ X if add_to is None else add_to.addmm_(few, X)


def sums_bytes(device: torch.device) -> bool:
    """Whether products of bytes are right and fast: without these instructions oneDNN's sums of bytes overflow."""
    there = has("avx512_vnni") or has("amx_int8")
    return device.type == "cpu" and there and _private("torch", "_int_mm") is not None


def product_of_bytes(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of int8 (m, k) and (k, n), k ≤ 2¹⁶, every sum exact and then rounded to float32."""
    if sums_bytes(a.device):
        return _private("torch", "_int_mm")(a, b).float()
    return (a.double() @ b.double()).float()


def numbered(device: torch.device) -> torch.device:
    """The device that a tensor there names: 'cuda' is the current GPU, and compares as unequal to 'cuda:0'."""
    return torch.device("cuda", torch.cuda.current_device()) if str(device) == "cuda" else device


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are faster than those of float32."""
    return device.type == "cuda" or (device.type == "cpu" and (has("avx512_bf16") or has("amx_bf16")))


def multiplies_split(device: torch.device) -> bool:
    """Whether three products of bfloat16 are faster than one of float32.

    On CPUs never: with AMX a Gram matrix took 2.5 times as long, since splitting is bound by memory.
    """
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """float32 x as hi + lo, both bfloat16, to 2⁻¹⁷ of x (Henry, Tang and Heinecke 2019, section III)."""
    hi = x.bfloat16()
    return hi, (x - hi).bfloat16()


def product_of_split(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """a @ b, float32 (m, n), of the halves that `split` gives of a (m, k) and b (k, n); lo · lo is left out."""
    (a_hi, a_lo), (b_hi, b_lo) = a, b
    return product_of_bfloat16(a_hi, b_hi) + (product_of_bfloat16(a_hi, b_lo) + product_of_bfloat16(a_lo, b_hi))


def product_of_bfloat16(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of bfloat16 (m, k) and (k, n), multiplied exactly and summed in float32."""
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()
