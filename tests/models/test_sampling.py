"""Images of a generator: every one depends on the seed and its index alone."""

import pytest
import torch
from sklearn.datasets import load_digits

from dcgan_eval.images import BLOCK
from dcgan_eval.metrics.frechet import frechet_distance_of_features
from dcgan_eval.models.checkpoint import load
from dcgan_eval.models.networks import has_statistics, sample_z, set_batchnorm_mode, to_uint8
from dcgan_eval.models.sampling import samples
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.random import stream
from tests.builders import DIGITS_FILE, assert_equal_weights, conditional, networks, trained


def draw(network, n, *, seed=0):
    return samples(network, n, seed=seed, name="gen:x", sha256="abc")


def block(network, start, seed, y=None):
    """The definition."""
    z = sample_z(network.architecture, BLOCK, stream(seed, "samples", start), "cpu")
    with torch.no_grad():
        return to_uint8(network.eval()(z, y), network.architecture)


def test_an_image_depends_on_the_seed_and_its_index_alone():
    network = trained()[0]
    many = draw(network, 2 * BLOCK + 30)
    whole = many.tensor()
    assert (whole.dtype, whole.shape) == (torch.uint8, (many.n, 1, 8, 8))
    assert len(torch.unique(whole.flatten(1), dim=0)) == many.n
    for start in (0, BLOCK):
        assert torch.equal(whole[start : start + BLOCK], block(network, start, 0))
    for size in (1, 37, BLOCK, 1000):
        assert torch.equal(torch.cat(list(many.batches(size))), whole)
    for n in (1, 2, BLOCK, BLOCK + 1):
        assert torch.equal(draw(network, n).tensor(), whole[:n])
    rows = torch.tensor([280, 3, 129, 3, 0])
    assert torch.equal(many.subset(rows).tensor(), whole[rows])
    assert torch.equal(many.subset(rows.flip(0)).tensor(), whole[rows.flip(0)])


def test_seeds_are_told_apart():
    network = trained()[0]
    first, same, other = draw(network, 50), draw(network, 50), draw(network, 50, seed=1)
    assert torch.equal(first.tensor(), same.tensor())
    assert (first.tensor() == other.tensor()).flatten(1).all(1).sum() == 0
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert first.sha256 != samples(network, 50, seed=0, name="gen:x", sha256="def").sha256
    assert (first.name, first.split, first.n, first.shape) == ("gen:x", "all", 50, (1, 8, 8))
    assert first.labels is None


def test_classes_are_drawn_in_turn():
    network = conditional()
    images = draw(network, BLOCK + 10)
    assert images.labels is not None
    assert images.labels.tolist() == [i % 3 for i in range(BLOCK + 10)]
    assert images.classes == ("0", "1", "2")
    set_batchnorm_mode(network, "batch")
    for start in (0, BLOCK):  # a block need not start with the first class
        y = torch.arange(start, start + BLOCK) % 3
        there = slice(start, start + BLOCK)
        assert torch.equal(images.tensor()[there], block(network, start, 0, y)[: images.n - start])
        other = block(network, start, 0, (y + 1) % 3)[: images.n - start]
        assert not torch.equal(images.tensor()[there], other)


def test_a_network_without_statistics_takes_those_of_its_block():
    network = networks()[0]
    assert not has_statistics(network)
    images = draw(network, BLOCK + 5)
    reference = networks()[0]
    set_batchnorm_mode(reference, "batch")
    assert torch.equal(images.tensor()[:BLOCK], block(reference, 0, 0))
    assert torch.equal(draw(network, 3).tensor(), images.tensor()[:3])
    assert torch.equal(draw(network, BLOCK + 5).subset([BLOCK + 4]).tensor(), images.tensor()[-1:])
    assert images.fingerprint != draw(trained()[0], BLOCK + 5).fingerprint  # by the mode alone: both said 'abc'


def test_the_network_and_the_global_generator_are_left_alone():
    network = trained()[0].train()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    images = draw(network, 2 * BLOCK)
    first = images.tensor()
    assert network.training
    assert_equal_weights(network, trained()[0])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(images.tensor(), first)  # nor are the images changed by what becomes of it
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_embedded_checkpoint_draws_digits():
    checkpoint = load("digits")
    assert checkpoint.generator is not None
    assert checkpoint.generator.architecture == DIGITS_FILE
    drawn = samples(checkpoint.generator, 500, seed=0, name="gen:digits", sha256=checkpoint.sha256).tensor()
    real = torch.from_numpy(load_digits().data / 16)
    noise = torch.rand(500, 64, generator=torch.Generator().manual_seed(0))
    distance = frechet_distance_of_features(real, drawn.flatten(1) / 255)
    between = frechet_distance_of_features(real[::2], real[1::2])
    assert between < distance < 0.1 * frechet_distance_of_features(real, noise)


def test_a_generator_that_draws_nan_is_refused_and_not_black():
    network = conditional()
    with torch.no_grad():
        next(network.parameters())[0, 0] = torch.nan
    drawn = samples(network, 4, seed=0, name="gen:broken", sha256="")
    with pytest.raises(InputError, match=r"gen:broken .*: draws values that are not finite; its weights have diverged"):
        drawn.tensor()
