"""Precisions are held and restored, fast operations equal their fallbacks, roots and sums are alike everywhere."""

import math
import threading
from typing import Any

import numpy as np
import pytest
import torch

from dcgan_eval.runtime import fast_ops
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.fast_ops import few_times, product_of_bytes, product_of_split, split
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.rounding import root, sum_rows

B: Any = torch.backends


def settings():
    return [
        B.cuda.matmul.fp32_precision,
        B.cudnn.conv.fp32_precision,
        B.cudnn.rnn.fp32_precision,
        B.mkldnn.matmul.fp32_precision,
        B.mkldnn.conv.fp32_precision,
        B.mkldnn.rnn.fp32_precision,
    ]


@pytest.fixture
def restored():
    """Whatever a test sets is set back."""
    places = (B.cuda.matmul, B.cudnn.conv, B.cudnn.rnn, B.mkldnn.matmul, B.mkldnn.conv, B.mkldnn.rnn)
    before = settings()
    yield
    for place, value in zip(places, before, strict=True):
        place.fp32_precision = value


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_roots_are_correctly_rounded():
    """torch's own are not: 1 to 2 % of these are off on many processors."""
    x = torch.arange(200_001, dtype=torch.float64)
    assert root(x).tolist() == [math.sqrt(value) for value in range(200_001)]
    assert root(torch.tensor([-1.0, torch.inf], dtype=torch.float64)).isnan().tolist() == [True, False]


@pytest.mark.parametrize("width", [1, 2, 3, 7, 64, 1000, 3073])
def test_sums_of_rows_depend_on_the_row_alone(width):
    x = random(70, width, seed=width).double() * 1e3
    whole = sum_rows(x.clone())
    np.testing.assert_allclose(whole, [math.fsum(row) for row in x.tolist()], rtol=1e-13, atol=1e-10)
    for rows in (slice(0, 1), slice(3, 20), slice(69, 70)):
        assert torch.equal(sum_rows(x[rows].clone()), whole[rows])
    assert torch.equal(sum_rows(x.T.contiguous().T), whole)  # whatever its strides


@pytest.mark.usefixtures("restored")
def test_exact_holds_all_and_restores_what_a_user_has_set():
    B.cuda.matmul.fp32_precision = "tf32"
    B.mkldnn.matmul.fp32_precision = "bf16"
    before = settings()
    with exact():
        assert settings() == ["ieee"] * 6
        with exact():
            pass
        assert settings() == ["ieee"] * 6
    assert settings() == before
    with pytest.raises(KeyError), exact():
        raise KeyError
    assert settings() == before


@pytest.mark.usefixtures("restored")
def test_a_common_setting_is_followed_again_afterwards():
    B.mkldnn.matmul.fp32_precision = "none"
    common = B.fp32_precision
    try:
        B.fp32_precision = "tf32"
        with exact():
            assert B.mkldnn.matmul.fp32_precision == "ieee"
        assert B.mkldnn.matmul.fp32_precision == "tf32"
        B.fp32_precision = "ieee"
        assert B.mkldnn.matmul.fp32_precision == "ieee"
    finally:
        B.fp32_precision = common


@pytest.mark.usefixtures("restored")
def test_the_last_thread_that_leaves_restores():
    B.cuda.matmul.fp32_precision = "tf32"
    before, inside, leave, seen = settings(), threading.Event(), threading.Event(), []

    def other():
        with exact():
            inside.set()
            leave.wait(20)
            seen.append(settings())

    thread = threading.Thread(target=other)
    with exact():
        thread.start()
        assert inside.wait(20)
    assert settings() == ["ieee"] * 6  # the other one is still inside
    leave.set()
    thread.join(20)
    assert seen == [["ieee"] * 6]
    assert settings() == before


@pytest.mark.parametrize(("name", "value"), [("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"), ("NVIDIA_TF32_OVERRIDE", "1")])
def test_an_environment_that_lowers_products_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{name}={value}.*unset it"), exact():
        pass
    monkeypatch.setenv(name, "0" if name.startswith("NVIDIA") else "strict")
    with exact():
        pass


def test_onednn_uses_no_more_than_it_is_capped_to(monkeypatch):
    monkeypatch.setattr(fast_ops, "_processor", lambda: dict.fromkeys(fast_ops.NEEDS, True))
    monkeypatch.setattr(fast_ops, "_onednn", lambda: True)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    assert all(fast_ops.has(name) for name in fast_ops.NEEDS)
    expected = {
        "AVX2": [],
        "AVX512_CORE": [],
        "AVX512_CORE_VNNI": ["avx512_vnni"],
        "avx512_core_bf16": ["avx512_vnni", "avx512_bf16"],
        "AVX10_1_512": ["avx512_vnni", "avx512_bf16"],
        "AVX512_CORE_AMX": list(fast_ops.NEEDS),
        "ALL": list(fast_ops.NEEDS),
    }
    for cap, there in expected.items():
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
        assert [name for name in fast_ops.NEEDS if fast_ops.has(name)] == there, cap
    assert fast_ops.instruction_set().endswith("amx_int8 amx_bf16")
    monkeypatch.setattr(fast_ops, "_processor", dict)
    assert not any(fast_ops.has(name) for name in fast_ops.NEEDS)


@pytest.mark.parametrize("layout", ["rows", "columns", "neither"])
def test_products_with_few_rows_without_the_private_operation(monkeypatch, layout):
    X = random(3000, 1000, seed=1)
    X = {"rows": X, "columns": random(1000, 3000, seed=1).T, "neither": random(3000, 2000)[:, ::2]}[layout]
    few, added = random(7, 3000, seed=2), random(7, 1000, seed=3)
    assert X.numel() > fast_ops.LARGE
    wanted = few.double() @ X.double()
    used = []
    private = fast_ops._private

    def counted(*name):
        used.append(name)
        return private(*name)

    monkeypatch.setattr(fast_ops, "_private", counted)
    fast = few_times(few, X), few_times(few, X, add_to=added.clone())
    monkeypatch.setattr(fast_ops, "_private", lambda *name: None)
    plain = few_times(few, X), few_times(few, X, add_to=added.clone())
    assert used or not fast_ops._onednn()
    for product, more in (fast, plain):
        np.testing.assert_allclose(product, wanted, atol=1e-3)
        np.testing.assert_allclose(more, wanted + added, atol=1e-3)


def test_products_of_bytes_are_exact_without_the_private_operation(monkeypatch):
    a, b = (torch.randint(-128, 128, shape, dtype=torch.int8) for shape in ((40, 2**16), (2**16, 32)))
    a[0], b[:, 0] = -128, -128  # the largest sum there is, 2³⁰
    wanted = (a.numpy().astype(np.int64) @ b.numpy().astype(np.int64)).astype(np.float32)
    np.testing.assert_array_equal(product_of_bytes(a, b), wanted)
    monkeypatch.setattr(fast_ops, "_private", lambda *name: None)
    assert not fast_ops.sums_bytes(torch.device("cpu"))
    np.testing.assert_array_equal(product_of_bytes(a, b), wanted)


def test_split_products_keep_16_bits():
    """Beside float64; three products of bfloat16, each exact but for its sums in float32."""
    a, b = random(60, 500, seed=1), random(500, 40, seed=2)
    hi, lo = split(a)
    assert hi.dtype == lo.dtype == torch.bfloat16
    assert float((a - hi.float() - lo.float()).abs().max() / a.abs().max()) < 2**-16
    wanted = a.double() @ b.double()
    norms = a.double().norm(dim=1)[:, None] * b.double().norm(dim=0)
    error = (product_of_split(split(a), split(b)) - wanted).abs() / norms
    coarse = (a.bfloat16().double() @ b.bfloat16().double() - wanted).abs() / norms
    assert float(error.max()) < 2**-16
    assert float(coarse.max()) > 10 * float(error.max())


def test_a_gpu_without_a_number_is_the_current_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    named = {name: str(fast_ops.numbered(torch.device(name))) for name in ("cuda", "cuda:0", "cpu", "mps")}
    assert named == {"cuda": "cuda:1", "cuda:0": "cuda:0", "cpu": "cpu", "mps": "mps"}
