import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dcgan_eval.models.architecture import preset
from dcgan_eval.models.networks import Generator, initialise, sample_z, set_batchnorm_mode
from dcgan_eval.studies.transposed import (
    by_matrix,
    by_zeros,
    convolution_matrix,
    drawn,
    output_size,
    picture,
    stack,
    zeros_inserted,
)

sides = st.integers(1, 5)


@given(
    sides, sides, st.integers(1, 3), st.integers(1, 3), sides, sides,
    st.integers(1, 4), st.integers(0, 5), st.integers(0, 3), st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_three_ways_are_torchs(h, w, c_out, c_in, k_h, k_w, stride, padding, output_padding, seed):
    assume(output_padding < stride)
    assume(min(output_size(h, k_h, stride, padding, output_padding),
               output_size(w, k_w, stride, padding, output_padding)) >= 1)  # fmt: skip
    g = torch.Generator().manual_seed(seed)
    y = torch.randn(c_out, h, w, generator=g, dtype=torch.float64)
    weight = torch.randn(c_out, c_in, k_h, k_w, generator=g, dtype=torch.float64)
    want = functional.conv_transpose2d(y[None], weight, None, stride, padding, output_padding)[0]
    options = (y, weight, stride, padding, output_padding)
    torch.testing.assert_close(by_matrix(*options), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(by_zeros(*options), want, rtol=1e-12, atol=1e-12)


@given(st.integers(1, 7), st.integers(1, 7), sides, st.integers(1, 3), st.integers(0, 3), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_the_matrix_is_the_convolution(h, w, k, stride, padding, seed):
    assume(min(h, w) + 2 * padding >= k)
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2, h, w, generator=g, dtype=torch.float64)
    weight = torch.randn(3, 2, k, k, generator=g, dtype=torch.float64)
    want = functional.conv2d(x[None], weight, None, stride, padding)[0]
    found = convolution_matrix(weight, (h, w), stride, padding) @ x.flatten()
    torch.testing.assert_close(found, want.flatten(), rtol=1e-12, atol=1e-12)


def test_the_course_notes_example():
    """2x2 to 4x4 by a 3x3 kernel at stride 2: zeros make 6x6 of it."""
    y = torch.arange(1.0, 5).reshape(2, 2)
    spread = zeros_inserted(y, (3, 3), 2, 1, 1)
    assert spread.shape == (6, 6)
    assert spread.nonzero().tolist() == [[1, 1], [1, 3], [3, 1], [3, 3]]
    weight = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    assert by_zeros(y[None], weight, 2, 1, 1).shape == (1, 4, 4)
    svg = picture(y, weight, 2, 1, 1).render("svg").decode()
    for words in ("input, 2×2", "zeros inserted, 6×6", "output, 4×4", "16×4"):
        assert words in svg


@pytest.mark.parametrize("name", ["lsun64", "mnist28", "torch64", "imagenet32"])
def test_the_stack_is_the_generators(name):
    a = preset(name)
    network = Generator(a)
    initialise(network, torch.Generator().manual_seed(0))
    set_batchnorm_mode(network, "batch")
    z = sample_z(a, 2, torch.Generator().manual_seed(0))
    y = torch.zeros(2, dtype=torch.int64) if a.n_classes else None
    with torch.no_grad():
        maps = [h for h in network.hidden(z, y) if h.ndim == 4] + [network(z, y)]
    lines = stack(a)
    assert [(line.maps, line.side) for line in lines] == [(h.shape[1], h.shape[2]) for h in maps]
    weights = [p.numel() for name, p in network.named_parameters() if name.endswith("linear.weight")]
    assert [line.weights for line in lines] == weights[bool(a.hidden_width) :]


def test_figure_1_is_drawn():
    svg = drawn(preset("lsun64")).render("svg").decode()
    for words in ("1024", "4×4", "512", "8×8", "256", "16×16", "128", "32×32", "64×64"):
        assert words in svg
