import copy

import numpy as np
import pytest
import torch
from captum.attr import GuidedBackprop
from torch import nn

from dcgan_eval.images import from_tensor, open_images
from dcgan_eval.models.architecture import preset
from dcgan_eval.models.checkpoint import load
from dcgan_eval.models.networks import Discriminator, Layer, initialise, scale_images, set_batchnorm_mode
from dcgan_eval.options import FiltersOptions
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.studies import filters as study
from dcgan_eval.studies.filters import TOP, filters, guided, guided_gradient, receptive_field, sparseness, visible


@pytest.fixture(scope="module")
def discriminator():
    found = load("digits").discriminator
    assert found is not None
    return found.requires_grad_(False)


@pytest.fixture(scope="module")
def train():
    return open_images("digits")["train"]


def with_relu(network):
    """Where guided backpropagation is defined alike by us, captum and the paper: ReLU in place of LeakyReLU."""
    changed = copy.deepcopy(network)
    for layer in changed.convs:
        layer.activation = nn.ReLU()
    return changed


class Responses(nn.Module):
    """A filter's response at one place of each image, for captum."""

    def __init__(self, network, layer, at):
        super().__init__()
        self.network, self.layer, self.at = network, layer, at

    def forward(self, x):
        maps = self.network.conv_features(x)[self.layer]
        return maps[torch.arange(len(x)), :, self.at[:, 0], self.at[:, 1]]


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("unit", [0, 5, 31])
def test_the_gradient_is_captums(discriminator, train, layer, unit):
    network = with_relu(discriminator)
    x = scale_images(train.tensor()[:12], network.architecture)
    gradient, at = guided_gradient(network, x, layer, torch.full((12,), unit))
    theirs = GuidedBackprop(Responses(network, layer, at)).attribute(x.clone().requires_grad_(), target=unit)
    torch.testing.assert_close(gradient, theirs)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", ["svhn32", "torch64"])
def test_the_gradient_is_captums_in_deeper_networks(name):
    network = Discriminator(preset(name))
    initialise(network, torch.Generator().manual_seed(0))
    set_batchnorm_mode(network, "batch")
    network = with_relu(network.requires_grad_(False))
    a = network.architecture
    x = torch.rand(4, a.image_channels, a.image_size, a.image_size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    gradient, at = guided_gradient(network, x, 2, torch.full((4,), 7))
    theirs = GuidedBackprop(Responses(network, 2, at)).attribute(x.clone().requires_grad_(), target=7)
    torch.testing.assert_close(gradient, theirs)


def test_the_rule_by_hand():
    """One unit after a hidden pair: a negative gradient does not pass, nor does what came in below zero."""
    into, out = nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False)
    network = nn.Sequential(into, nn.LeakyReLU(0.2), out)
    with torch.no_grad():
        into.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 1]]))
        out.weight.copy_(torch.tensor([[2.0, 3, -5]]))
    x = torch.tensor([[1.0, -1.5]], requires_grad=True)
    with guided(network):
        (gradient,) = torch.autograd.grad(network(x).sum(), x)
    # the first unit passes 2; the second came in below 0; the third's gradient is negative
    assert gradient.tolist() == [[2.0, 0.0]]
    (plain,) = torch.autograd.grad(network(x).sum(), x)
    assert plain.tolist() == [[pytest.approx(2 - 1.0), pytest.approx(0.6 - 1.0)]]


def test_nothing_outside_the_receptive_field(discriminator, train):
    x = scale_images(train.tensor()[:20], discriminator.architecture)
    for layer in (0, 1):
        gradient, at = guided_gradient(discriminator, x, layer, torch.arange(20))
        for image, (left, top, right, bottom) in zip(gradient, receptive_field(discriminator, layer, at), strict=True):
            seen = torch.zeros(8, 8, dtype=torch.bool)
            seen[int(top) : int(bottom), int(left) : int(right)] = True
            assert image[:, ~seen].abs().max() == 0


@pytest.mark.parametrize("name", ["svhn32", "imagenet32", "torch64"])
def test_the_receptive_field_is_what_the_gradient_reaches(name):
    network = Discriminator(preset(name))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.01)
    set_batchnorm_mode(network, "batch")
    a = network.architecture
    for layer, side in enumerate(a.conv_sizes[:3]):
        x = torch.rand(2, 3, a.image_size, a.image_size, requires_grad=True)
        h = x
        for conv in network.convs[: layer + 1]:
            assert isinstance(conv, Layer)
            h = conv.linear(h)
        at = torch.tensor([side // 2, side // 3])
        (gradient,) = torch.autograd.grad(h[0, 0, at[0], at[1]], x)
        reached = gradient[0].abs().sum(0).nonzero()
        left, top, right, bottom = receptive_field(network, layer, at[None])[0].tolist()
        assert reached.amin(0).tolist() == [top, left]
        assert (reached.amax(0) + 1).tolist() == [bottom, right]


def test_sparseness_of_known_responses():
    even, single = torch.ones(10, 1), torch.zeros(10, 1)
    single[3] = 5
    assert sparseness(torch.cat([even, single, -even], 1)).tolist() == [0, pytest.approx(1), 0]
    r = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)).double().numpy()
    by_hand = (1 - r.mean(0) ** 2 / (r**2).mean(0)) / (1 - 1 / 50)
    np.testing.assert_allclose(sparseness(torch.from_numpy(r)).numpy(), by_hand, rtol=1e-6)


def test_where_half_of_a_gradient_is():
    gradients = torch.zeros(3, 2, 4, 4)
    gradients[0, 1, 2, 2] = 5  # all of it at one of 16 places
    gradients[1] = 1  # alike everywhere
    gradients[2, 0, 0] = torch.tensor([3.0, 2, 2, 1])  # squares 9, 4, 4, 1
    assert study._half_in(gradients).tolist() == [1 / 16, 8 / 16, 1 / 16]


def test_gradients_are_made_visible():
    shown = visible(torch.tensor([[[[-2.0, 0, 1]]], [[[0.0, 0, 0]]]]))
    assert shown.tolist() == [[[[0, 128, 191]]], [[[128, 128, 128]]]]


def test_the_most_exciting_images_are(discriminator, train):
    found = filters(
        discriminator,
        train,
        options=FiltersOptions(
            filters=(
                0,
                9,
            )
        ),
        name="disc:digits",
        sha256="0",
    )
    assert found.layer == "conv2"
    x = scale_images(train.tensor(), discriminator.architecture)
    with torch.no_grad():
        strongest = discriminator.conv_features(x)[1].amax((2, 3))
    for i, one in enumerate((0, 9)):
        want = train.tensor()[strongest[:, one].topk(TOP).indices]
        assert torch.equal(found.trained.images[i], want)
    assert found.trained.gradients.shape == found.random.gradients.shape == (2, TOP, 1, 8, 8)
    by = {(row.metric, row.condition): row.value for row in found.rows}
    assert {way for _, way in by} == {"trained", "random weights"}
    assert by["sparseness", "trained"] > by["sparseness", "random weights"]
    labels = train.labels[strongest.topk(TOP, 0).indices.T]
    modes = [int(np.bincount(row).max()) for row in labels.numpy()]
    assert by["one class", "trained"] == pytest.approx(100 * np.mean(modes) / TOP)
    again = filters(
        discriminator,
        train,
        options=FiltersOptions(
            filters=(
                0,
                9,
            )
        ),
        name="disc:digits",
        sha256="0",
    )
    assert [row.value for row in again.rows] == [row.value for row in found.rows]
    svg = study.picture(found, "disc:digits").render("svg").decode()
    assert "random weights: most exciting images" in svg


def test_images_without_labels_have_no_class(discriminator, train):
    plain = from_tensor(train.tensor()[:50], name="x")
    found = filters(discriminator, plain, options=FiltersOptions(layer="conv1", filters=(1,)), name="d", sha256="0")
    assert "one class" not in {row.metric for row in found.rows}
    assert {row.layer for row in found.rows} == {"conv1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "conv3"}, r"no layer 'conv3'.*known: conv1, conv2"),
        ({"filters": (64,)}, r"no filter 64; those of conv2 are 0 to 63"),
        ({"y": 1}, "unconditional"),
    ],
)
def test_what_does_not_exist(discriminator, train, options, message):
    y = options.pop("y", None)
    with pytest.raises(InputError, match=message):
        filters(discriminator, train, FiltersOptions(**options), name="d", sha256="0", y=y)


def test_too_few_images(discriminator, train):
    with pytest.raises(InputError, match="5 images"):
        filters(discriminator, train.subset(range(5)), name="d", sha256="0")
