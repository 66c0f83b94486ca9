"""Which precision torch multiplies float32 in: the one place that reads or changes it.

torch keeps the precision of float32 products and convolutions in settings of the whole process: on GPUs convolutions
are in TF32 by default, and a user may have allowed more. `exact` holds all of them at IEEE float32 for as long as any
thread is inside. It reads and writes torch's settings by operator (`fp32_precision`) alone: torch refuses a mixture
with the older `allow_tf32`.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dcgan_eval.runtime.errors import InputError

# variables by which a library multiplies float32 in lower precision whatever torch asks for, and what they may be
STRICT = {"ONEDNN_DEFAULT_FPMATH_MODE": ("", "STRICT"), "DNNL_DEFAULT_FPMATH_MODE": ("", "STRICT"),
          "NVIDIA_TF32_OVERRIDE": ("", "0")}  # fmt: skip

_turn = threading.Lock()
_inside: Counter[int] = Counter()  # how often each thread has entered `exact`
_before: list[str] = []


def _settings() -> tuple[Any, ...]:
    b: Any = torch.backends
    return b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul, b.mkldnn.conv, b.mkldnn.rnn


@contextmanager
def exact() -> Iterator[None]:
    """Float32 products and convolutions are IEEE float32, in all threads, until the last one that entered has left.

    Inside, torch's older settings (`torch.backends.cudnn.allow_tf32` and `flags`) may raise RuntimeError.

    Raises InputError where the environment orders a library to compute them otherwise.
    """
    global _before
    for name, allowed in STRICT.items():
        if os.environ.get(name, "").upper() not in allowed:
            raise InputError(f"{name}={os.environ[name]} lowers the precision of float32 products: unset it")
    me = threading.get_ident()
    with _turn:
        if not _inside:
            # what all operators have in common they inherit; written back, it would no longer follow the common setting
            common = torch.backends.fp32_precision  # type: ignore[attr-defined]
            found = [setting.fp32_precision for setting in _settings()]
            _before = ["none" if value == common else value for value in found]
            for setting in _settings():
                setting.fp32_precision = "ieee"
        _inside[me] += 1
    try:
        yield
    finally:
        with _turn:
            _inside[me] -= 1
            if not _inside[me]:
                del _inside[me]
            if not _inside:
                for setting, value in zip(_settings(), _before, strict=True):
                    setting.fp32_precision = value
