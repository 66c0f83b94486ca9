import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dcgan_eval.models.architecture import PRESETS, Architecture, preset
from dcgan_eval.models.networks import (
    Discriminator,
    Generator,
    has_statistics,
    initialise,
    reestimate_batchnorm,
    sample_z,
    scale_images,
    set_batchnorm_mode,
    to_uint8,
)
from dcgan_eval.runtime.errors import InputError

DIGITS = PRESETS["digits"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def networks(architecture, seed=0):
    g, d = Generator(architecture), Discriminator(architecture)
    initialise(g, seeded(seed))
    initialise(d, seeded(seed + 1))
    return g, d


def labels(architecture, n):
    return torch.arange(n) % architecture.n_classes if architecture.n_classes else None


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "faces64"])
def test_every_preset_draws_judges_and_learns(name):
    a = PRESETS[name]
    g, d = networks(a)
    y = labels(a, 3)
    x = g(sample_z(a, 3, seeded()), y)
    assert x.shape == (3, a.image_channels, a.image_size, a.image_size)
    low, high = a.value_range
    assert low <= x.min() < x.max() <= high
    logits = d(x, y)
    assert logits.shape == (3,)
    logits.sum().backward()
    for parameter in [*g.parameters(), *d.parameters()]:
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    shapes = [f.shape[1:] for f in d.conv_features(x, y)]
    assert shapes == [(c, s, s) for c, s in zip(a.discriminator_channels, a.conv_sizes, strict=True)]


@pytest.mark.parametrize(("name", "count"), [("svhn32", 7168), ("imagenet32", 28672)])
def test_feature_counts_are_the_papers(name, count):
    _, d = networks(PRESETS[name])
    features = d.conv_features(torch.zeros(2, 3, 32, 32))
    assert sum(nn.functional.adaptive_max_pool2d(f, 4)[0].numel() for f in features) == count


# by hand from the authors' scripts; dense weights are (in, out) there, and transposed here
AUTHORS = {
    "faces64": (
        "100,16384 16384 16384 1024,512,5,5 512 512 512,256,5,5 256 256 256,128,5,5 128 128 128,3,5,5",
        "128,3,5,5 256,128,5,5 256 256 512,256,5,5 512 512 1024,512,5,5 1024 1024 16384,1",
    ),
    "imagenet32": (
        "256,8192 8192 8192 512,512,3,3 512 512 512,256,3,3 256 256 256,256,3,3 256 256 256,128,3,3 128 128"
        " 128,128,3,3 128 128 128,3,3,3",
        "128,3,3,3 128,128,3,3 128 128 256,128,3,3 256 256 256,256,3,3 256 256 512,256,3,3 512 512"
        " 512,512,3,3 512 512 8192,1",
    ),
    "mnist28": (
        "110,1024 1034,6272 138,64,5,5 74,1,5,5",
        "64,11,5,5 128,74,5,5 6282,1024 1034,1",
    ),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_parameters_are_the_authors_in_their_order(name):
    for network, written in zip((Generator, Discriminator), AUTHORS[name], strict=True):
        shapes = [p.shape[::-1] if p.ndim == 2 else p.shape for p in network(PRESETS[name], "meta").parameters()]
        assert shapes == [tuple(map(int, shape.split(","))) for shape in written.split()]


def test_preset_by_name_and_its_nearest():
    assert preset("svhn32") is PRESETS["svhn32"]
    with pytest.raises(InputError, match="did you mean 'svhn32'"):
        preset("svhn23")


@pytest.mark.parametrize("name", PRESETS)
def test_architecture_survives_json(name):
    written = json.dumps(PRESETS[name].to_json_dict())
    assert Architecture.from_json_dict(json.loads(written)) == PRESETS[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 9}, "not divisible"),
        ({"image_size": 0}, "image_size"),
        ({"z_dim": True}, "z_dim"),
        ({"z_dim": 10**12}, "z_dim"),
        ({"kernel_size": 2}, "kernel_size 2 cannot keep"),
        ({"generator_channels": (64,)}, "1 channels but 2 strides"),
        ({"discriminator_channels": [32, 64]}, "must be a tuple"),
        ({"discriminator_strides": (1, "2")}, "discriminator_strides"),
        ({"output": "relu"}, "'relu' is not one of tanh, sigmoid"),
        ({"z_distribution": "cauchy"}, "z_distribution"),
        ({"batchnorm_epsilon": 0.0}, "batchnorm_epsilon"),
        ({"batchnorm_affine": 1}, "batchnorm_affine"),
    ],
)
def test_contradictory_architectures_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(DIGITS, **change)


@pytest.mark.parametrize("values", [None, {}, {**DIGITS.to_json_dict(), "dropout": 0.5}])
def test_json_of_other_fields_is_refused(values):
    with pytest.raises(InputError, match="fields absent"):
        Architecture.from_json_dict(values)


def test_weights_are_nan_until_initialised():
    assert torch.isnan(next(Discriminator(DIGITS).parameters())).all()


def test_initialisation_has_the_papers_moments():
    g, _ = networks(PRESETS["cifar32"])
    for layer in g.layers:
        n = layer.linear.weight.numel()
        assert abs(layer.linear.weight.mean()) < 5 * 0.02 / math.sqrt(n)
        assert abs(layer.linear.weight.std() - 0.02) < 5 * 0.02 / math.sqrt(2 * n)
    gains = g.layers[0].norm.weight
    assert abs(gains.mean() - 1) < 5 * 0.02 / math.sqrt(gains.numel())
    assert abs(gains.std() - 0.02) < 5 * 0.02 / math.sqrt(2 * gains.numel())
    assert all((layer.norm.bias == 0).all() for layer in list(g.layers)[:-1])
    assert all(layer.linear.bias is None for layer in g.layers)


def test_equal_seeds_give_equal_weights_and_others_do_not():
    first, again, other = (networks(DIGITS, seed)[0].state_dict() for seed in (0, 0, 5))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["layers.0.linear.weight"], other["layers.0.linear.weight"])


def test_nothing_draws_from_the_global_generator():
    before = torch.get_rng_state()
    networks(DIGITS)
    sample_z(DIGITS, 3, seeded())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["svhn32", "imagenet32", "torch64"])
def test_transposed_convolutions_are_the_transposes_of_convolutions(name):
    """<conv(x), h> = <x, conv transposed(h)> with the same kernel, stride and padding: the authors' definition."""
    g, _ = networks(PRESETS[name])
    up = g.layers[-1].linear
    side = PRESETS[name].image_size
    x = torch.randn(1, 3, side, side, generator=seeded(1))
    down = nn.functional.conv2d(x, up.weight, stride=up.stride, padding=up.padding)
    h = torch.randn(down.shape, generator=seeded(2))
    torch.testing.assert_close((down * h).sum(), (x * up(h)).sum(), rtol=1e-4, atol=1e-4)


def test_hidden_ends_before_the_image():
    g, _ = networks(DIGITS)
    z = sample_z(DIGITS, 4, seeded())
    hidden = g.hidden(z)
    assert [h.shape[1:] for h in hidden] == [(64, 4, 4), (32, 8, 8)]
    assert all(h.min() == 0 for h in hidden)
    torch.testing.assert_close(g.layers[-1](hidden[-1]), g(z))


def test_labels_matter_and_are_asked_for():
    a = PRESETS["mnist28"]
    g, d = networks(a)
    z = sample_z(a, 4, seeded())
    y = torch.tensor([0, 1, 2, 3])
    assert not torch.equal(g(z, y), g(z, y + 1))
    x = g(z, y)
    assert not torch.equal(d(x, y), d(x, y + 1))
    for call in (lambda: g(z), lambda: d(x), lambda: d.conv_features(x)):
        with pytest.raises(InputError, match="is conditional: give labels"):
            call()
    with pytest.raises(InputError, match=r"labels must be int64 of shape \(4,\)"):
        g(z, y[:2])
    with pytest.raises(InputError, match="unconditional"):
        networks(DIGITS)[0](sample_z(DIGITS, 4, seeded()), y)


def test_labels_join_after_the_channels_of_every_layer():
    """A weight that sees nothing but label 2 lights exactly the images of label 2."""
    a = PRESETS["mnist28"]
    _, d = networks(a)
    with torch.no_grad():
        d.convs[0].linear.weight.zero_()[0, 1 + 2, 2, 2] = 1
    first = d.conv_features(torch.rand(3, 1, 28, 28, generator=seeded()), torch.tensor([1, 2, 3]))[0]
    assert torch.equal(first[:, 0], torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(3, 14, 14))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, d: g(torch.zeros(2, 31)), r"z must have shape \(n, 32\), not \(2, 31\)"),
        (lambda g, d: d(torch.zeros(2, 3, 8, 8)), r"not \(2, 3, 8, 8\)"),
        (lambda g, d: d.conv_features(torch.zeros(1, 8, 8)), r"not \(1, 8, 8\)"),
        (lambda g, d: scale_images(torch.zeros(1, 1, 8, 8), DIGITS), "must be uint8"),
    ],
)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call(*networks(DIGITS))


def lrelu(h):
    return np.where(h > 0, h, 0.2 * h)


def forward_in_numpy(d, x, statistics=None):
    """DIGITS' discriminator in float64; returns the features and the statistics of the batch at its one BatchNorm."""
    w1, w2 = (layer.linear.weight.detach().double() for layer in d.convs)
    h1 = lrelu(nn.functional.conv2d(x.double(), w1, padding=1).numpy())
    h2 = nn.functional.conv2d(torch.from_numpy(h1), w2, stride=2, padding=1).numpy()
    mean = h2.mean(axis=(0, 2, 3))
    variance = np.square(h2 - mean[:, None, None]).mean(axis=(0, 2, 3))
    u, s = statistics or (mean, variance)
    norm = d.convs[1].norm
    gain, bias = (p.detach().double().numpy()[:, None, None] for p in (norm.weight, norm.bias))
    return [h1, lrelu((h2 - u[:, None, None]) / np.sqrt(s[:, None, None] + 1e-8) * gain + bias)], (mean, variance)


def images(n, seed=0):
    return scale_images(torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=seeded(seed)), DIGITS)


def test_batch_mode_uses_the_batch_and_leaves_the_stored_statistics_alone():
    _, d = networks(DIGITS)
    set_batchnorm_mode(d, "batch")
    before = {key: value.clone() for key, value in d.state_dict().items()}
    expected, _ = forward_in_numpy(d, images(5))
    for found, wanted in zip(d.conv_features(images(5)), expected, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=2e-4, atol=2e-5)
    assert all(torch.equal(before[key], value) for key, value in d.state_dict().items())


def test_reestimation_is_the_authors():
    """Mean over batches of the batch's mean and biased variance; the last, smaller batch counts as much."""
    _, d = networks(DIGITS)
    batches = [images(6, 1), images(6, 2), images(3, 3)]
    assert not has_statistics(d)
    reestimate_batchnorm(d, iter(batches))
    statistics = [forward_in_numpy(d, batch)[1] for batch in batches]
    mean, variance = (np.mean(each, axis=0) for each in zip(*statistics, strict=True))
    norm = d.convs[1].norm
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-4)
    assert has_statistics(d)
    one, many = d.conv_features(images(1, 9)), d.conv_features(torch.cat([images(1, 9), images(7, 8)]))
    for a, b, wanted in zip(one, many, forward_in_numpy(d, images(1, 9), (mean, variance))[0], strict=True):
        torch.testing.assert_close(a, b[:1])
        np.testing.assert_allclose(a.detach().numpy(), wanted, rtol=1e-3, atol=1e-4)


def test_reestimation_covers_batchnorm_after_dense_layers_and_does_not_care_for_the_order():
    a = replace(DIGITS, hidden_width=16)
    _, d = networks(a)
    reestimate_batchnorm(d, [images(6, 1), images(4, 2)])
    first = {key: value.clone() for key, value in d.state_dict().items()}
    assert (first["dense.0.norm.running_var"] != 1).any()
    reestimate_batchnorm(d, [images(4, 2), images(6, 1)])
    for key, value in d.state_dict().items():
        torch.testing.assert_close(value, first[key], rtol=1e-6, atol=1e-8)


def test_failed_reestimation_changes_nothing():
    _, d = networks(DIGITS)
    before = {key: value.clone() for key, value in d.state_dict().items()}
    with pytest.raises(InputError, match="at least one batch"):
        reestimate_batchnorm(d, [])
    with pytest.raises(InputError, match="images must have shape"):
        reestimate_batchnorm(d, [images(4), torch.zeros(2, 3, 8, 8)])
    assert all(torch.equal(before[key], value) for key, value in d.state_dict().items())
    assert not d.convs[1].norm._forward_pre_hooks


def test_modes_outlive_eval_and_training_updates_what_is_stored():
    _, d = networks(DIGITS)
    with pytest.raises(InputError, match="no BatchNorm statistics"):
        set_batchnorm_mode(d, "stored")
    set_batchnorm_mode(d, "batch")
    nn.Sequential(d).eval()
    assert not torch.equal(d(images(4))[:2], d(images(4)[:2]))
    d.train()(images(4))
    assert has_statistics(d)
    norm = d.convs[1].norm
    expected = 0.1 * forward_in_numpy(d, images(4))[1][0]
    np.testing.assert_allclose(norm.running_mean.numpy(), expected, rtol=1e-4, atol=1e-7)
    set_batchnorm_mode(d, "stored")
    torch.testing.assert_close(d(images(4))[:2], d(images(4)[:2]))


@pytest.mark.parametrize("name", ["digits", "mnist28"])
def test_scaling_and_back_is_the_identity(name):
    a = PRESETS[name]
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    scaled = scale_images(levels, a)
    assert scaled.dtype == torch.float32
    assert (scaled.min().item(), scaled.max().item()) == a.value_range
    assert torch.equal(to_uint8(scaled, a), levels)


def test_to_uint8_rounds_to_the_nearest_and_clamps():
    values = torch.tensor([-9.0, -1.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 1.0, 9.0])
    assert to_uint8(values, DIGITS).tolist() == [0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize(("name", "std"), [("digits", 1 / math.sqrt(3)), ("torch64", 1.0)])
def test_z_follows_its_distribution_and_its_seed(name, std):
    a = PRESETS[name]
    z = sample_z(a, 4000, seeded(1))
    assert z.shape == (4000, a.z_dim)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - std) < 0.01
    assert (z.abs().max() <= 1) == (a.z_distribution == "uniform")
    assert torch.equal(z, sample_z(a, 4000, seeded(1)))
    assert not torch.equal(z, sample_z(a, 4000, seeded(2)))
