import pytest
import torch

from dcgan_eval.models.architecture import preset
from dcgan_eval.models.checkpoint import load
from dcgan_eval.models.networks import Generator, initialise
from dcgan_eval.models.sampling import latents, samples
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.studies import model as studied
from dcgan_eval.studies.model import layer_names, ready
from tests.builders import networks, write_authors


@pytest.fixture(scope="module")
def authors(tmp_path_factory):
    """Networks without BatchNorm statistics, as the authors' files."""
    folder = tmp_path_factory.mktemp("authors")
    return load(write_authors(folder, *networks(preset("svhn32"))))


def test_z_are_those_of_samples(digits_model):
    drawn = samples(digits_model.generator, 130, seed=5, name="x", sha256="")
    assert torch.equal(drawn.tensor(), digits_model.draw(digits_model.z(130, 5)))
    assert torch.equal(latents(digits_model.architecture, 3, 5), digits_model.z(130, 5)[:3])
    assert not torch.equal(digits_model.z(3, 5), digits_model.z(3, 6))


@pytest.mark.parametrize("at_once", [1, 7, 64])
def test_an_image_depends_on_its_z_alone(authors, at_once, monkeypatch):
    model = ready(authors, name="a")
    z = model.z(20, 0)
    whole = model.paint(z)
    monkeypatch.setattr(studied, "AT_ONCE", at_once)
    order = torch.arange(19, -1, -1)
    torch.testing.assert_close(model.paint(z[order])[order], whole, rtol=0, atol=1e-5)
    assert whole.std(0).mean() > 1e-3


def test_statistics_depend_on_the_seed_and_the_checkpoint_stays_as_it_was(authors):
    before = {name: array.clone() for name, array in authors.generator.state_dict().items()}
    a, b, c = (ready(authors, name="a", seed=seed) for seed in (0, 0, 1))
    z = a.z(4, 0)
    assert torch.equal(a.paint(z), b.paint(z))
    assert not torch.equal(a.paint(z), c.paint(z))
    assert "10 x 128 z" in a.protocol
    assert all(torch.equal(array, before[name]) for name, array in authors.generator.state_dict().items())


def test_the_discriminator_gets_its_statistics_from_what_the_generator_draws(authors):
    model = ready(authors, name="a")
    maps = model.discriminator.conv_features(model.paint(model.z(512, 3)))[1]
    # normalised over samples that it has not seen: nearly mean 0 and variance 1 before gain and bias
    norm = model.discriminator.convs[1].norm
    assert isinstance(norm, torch.nn.BatchNorm2d)
    inputs = torch.where(maps > 0, maps, maps / 0.2)
    plain = (inputs - norm.bias[:, None, None]) / norm.weight[:, None, None]
    assert plain.mean((0, 2, 3)).abs().max() < 0.1
    assert (plain.var((0, 2, 3)) - 1).abs().max() < 0.2


def test_a_conditional_generator_wants_a_label():
    generator = Generator(preset("mnist28"))
    initialise(generator, torch.Generator().manual_seed(0))
    from dcgan_eval.models.checkpoint import Checkpoint

    checkpoint = Checkpoint(preset("mnist28"), generator, None, "dcgan-eval", "0" * 64, {})
    with pytest.raises(InputError, match=r"conditional.*`label`.*0 to 9"):
        ready(checkpoint, name="m")
    with pytest.raises(InputError, match=r"`label` 10: its classes are 0 to 9"):
        ready(checkpoint, name="m", label=10)
    three, four = (ready(checkpoint, name="m", label=label) for label in (3, 4))
    z = three.z(2, 0)
    assert not torch.equal(three.paint(z), four.paint(z))
    assert "label 3" in three.protocol
    with pytest.raises(InputError, match="generator only"):
        _ = three.discriminator


def test_an_unconditional_generator_takes_no_label():
    with pytest.raises(InputError, match="unconditional"):
        ready(load("digits"), name="gen:digits", label=0)


def test_layers_have_names(digits_model):
    assert layer_names(digits_model.generator) == ["project", "conv1", "conv2"]
    assert layer_names(Generator(preset("mnist28"))) == ["dense1", "project", "conv1", "conv2"]
    assert layer_names(digits_model.discriminator) == ["conv1", "conv2"]
    for name in ("digits", "mnist28", "lsun64"):
        assert len(layer_names(Generator(preset(name)))) == len(Generator(preset(name)).layers)
