import json
import os
import pickle
import shutil
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.signal import convolve2d, correlate2d
from torch import nn

from dcgan_eval.models.architecture import PRESETS
from dcgan_eval.models.checkpoint import convert, describe, load, save
from dcgan_eval.models.networks import (
    has_statistics,
    reestimate_batchnorm,
    sample_z,
    scale_images,
)
from dcgan_eval.runtime.errors import InputError
from tests.builders import DIGITS_FILE, assert_equal_weights, networks, seeded, trained, write_authors


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


# ours


def test_round_trip_is_exact(tmp_path):
    g, d = trained()
    sha256 = save(tmp_path / "a.safetensors", generator=g, discriminator=d, metadata={"epoch": 3, "note": "ü"})
    loaded = load(str(tmp_path / "a.safetensors"))
    assert loaded.generator is not None
    assert loaded.discriminator is not None
    assert_equal_weights(g, loaded.generator)
    assert_equal_weights(d, loaded.discriminator)
    assert (loaded.architecture, loaded.format, loaded.sha256) == (DIGITS_FILE, "dcgan-eval", sha256)
    assert loaded.metadata == {"epoch": 3, "note": "ü"}
    assert loaded.has_statistics
    assert (loaded.generator_batchnorm, loaded.discriminator_batchnorm) == ("stored", "stored")
    z = sample_z(DIGITS_FILE, 3, seeded())
    assert torch.equal(loaded.generator(z), g(z))
    loaded.generator.train()(sample_z(DIGITS_FILE, 3, seeded())).sum().backward()
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_equal_content_gives_equal_bytes_and_sha256_and_other_content_does_not(tmp_path):
    shas = []
    for i, seed in enumerate((0, 0, 1)):
        g, d = trained(seed)
        shas.append(save(tmp_path / f"{i}.safetensors", generator=g, discriminator=d, metadata={"b": 1, "a": 2}))
    files = [(tmp_path / f"{i}.safetensors").read_bytes() for i in range(3)]
    assert files[0] == files[1] != files[2]
    assert shas[0] == shas[1] != shas[2]
    _, d = trained()
    d.architecture = replace(DIGITS_FILE, z_distribution="normal")
    _, plain = trained()
    assert save(tmp_path / "c.safetensors", discriminator=d) != save(tmp_path / "d.safetensors", discriminator=plain)


def test_one_network_alone(tmp_path):
    _, d = trained()
    save(tmp_path / "d.safetensors", discriminator=d)
    loaded = load(tmp_path / "d.safetensors")
    assert loaded.generator is None
    assert loaded.discriminator is not None
    assert_equal_weights(d, loaded.discriminator)
    described = describe(loaded)
    assert described["generator"] is None
    assert described["features"] == {"grid": 4, "per_layer": [512, 1024], "total": 1536}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("a.safetensors", lambda g, d: {}, "no network"),
        ("a.pth", lambda g, d: {"generator": g}, "must end in .safetensors"),
        ("no/such/a.safetensors", lambda g, d: {"generator": g}, "cannot be written: No such file"),
        (
            "a.safetensors",
            lambda g, d: {"generator": g, "discriminator": networks(replace(DIGITS_FILE, z_dim=8))[1]},
            "different architectures",
        ),
    ],
)
def test_what_cannot_be_saved(tmp_path, name, arguments, message):
    with pytest.raises(InputError, match=message):
        save(tmp_path / name, **arguments(*networks()))
    assert os.listdir(tmp_path) == []


def test_interrupted_save_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    g, d = trained()
    save(path, generator=g)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        save(path, generator=g, discriminator=d)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_truncated_or_altered_safetensors(tmp_path):
    g, d = trained()
    save(tmp_path / "a.safetensors", generator=g, discriminator=d)
    content = (tmp_path / "a.safetensors").read_bytes()
    path = tmp_path / "b.safetensors"
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"b\.safetensors: truncated, or not a safetensors file"):
            load(path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"b\.safetensors: damaged"):
        load(path)


def header(**changes):
    fields = {"version": 1, "architecture": DIGITS_FILE.to_json_dict(), "sha256": "", "metadata": {}, **changes}
    return {"dcgan_eval": json.dumps({key: value for key, value in fields.items() if value is not ...})}


def state(**changes):
    g, _ = networks()
    tensors = {f"generator.{key}": value for key, value in g.state_dict().items()}
    return {key: value for key, value in {**tensors, **changes}.items() if value is not None}


WEIGHT = "generator.layers.0.linear.weight"


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        (state(), None, "did not write"),
        (state(), {"format": "pt"}, "did not write"),
        (state(), {"dcgan_eval": "{"}, "header's 'dcgan_eval' cannot be read"),
        (state(), {"dcgan_eval": "[]"}, "cannot be read"),
        (state(), header(metadata=7), "cannot be read"),
        (state(), header(sha256=...), "cannot be read"),
        (state(), header(version=2), "version 2"),
        (state(), header(architecture=[1]), "fields absent"),
        (state(), header(architecture={**DIGITS_FILE.to_json_dict(), "z_dim": 10**9}), "z_dim must be"),
        (state(), header(), "damaged"),
        (state(**{WEIGHT: None}), header(), r"generator: 1 arrays absent \['layers.0.linear.weight'\]"),
        (state(**{"generator.extra": torch.zeros(1)}), header(), r"1 unknown \['extra'\]"),
        (state(**{"critic.w": torch.zeros(1)}), header(), "holds arrays of"),
        (state(**{WEIGHT: torch.zeros(2, 2)}), header(), r"\(2, 2\), but the architecture needs"),
        (state(**{WEIGHT: torch.zeros(1024, 32).double()}), header(), "is torch.float64"),
        (state(**{WEIGHT: torch.full((1024, 32), torch.nan)}), header(), "layers.0.linear.weight holds .* not finite"),
    ],
)
def test_foreign_safetensors(tmp_path, tensors, metadata, message):
    save_file(tensors, tmp_path / "foreign.safetensors", metadata)
    with pytest.raises(InputError, match=r"foreign\.safetensors.*" + message):
        load(tmp_path / "foreign.safetensors")


# the authors'


def test_authors_files_by_prefix_and_alone(tmp_path):
    g, d = networks()
    prefix = write_authors(tmp_path, g, d)
    both = load(prefix)
    assert both.generator is not None
    assert both.discriminator is not None
    assert_equal_weights(g, both.generator)
    assert_equal_weights(d, both.discriminator)
    assert (both.architecture, both.format, both.has_statistics) == (DIGITS_FILE, "authors", False)
    assert (both.generator_batchnorm, both.discriminator_batchnorm) == ("batch", "reestimated")
    alone = load(tmp_path / "7_discrim_params.jl")
    assert alone.generator is None
    assert alone.discriminator is not None
    assert_equal_weights(d, alone.discriminator)
    for listing in tmp_path.glob("*.jl"):
        listing.unlink()
    assert load(prefix).sha256 == both.sha256


def test_a_network_without_statistics_never_runs_on_stored_ones(tmp_path):
    checkpoint = load(write_authors(tmp_path, *networks()))
    z = sample_z(DIGITS_FILE, 6, seeded())
    g = checkpoint.generator
    assert g is not None
    assert not torch.allclose(g(z)[:3], g.eval()(z[:3]))
    assert not has_statistics(g)


def test_conversion_keeps_everything(tmp_path):
    prefix = write_authors(tmp_path, *networks())
    before, after = load(prefix), convert(prefix, tmp_path / "a.safetensors")
    assert after.sha256 == before.sha256
    assert (after.format, after.metadata) == ("dcgan-eval", {"converted_from": "authors"})
    assert not after.has_statistics
    assert (after.generator_batchnorm, after.discriminator_batchnorm) == ("batch", "reestimated")
    again = convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert again.discriminator is not None
    reestimate_batchnorm(again.discriminator, [torch.rand(8, 1, 8, 8, generator=seeded())])
    save(tmp_path / "c.safetensors", discriminator=again.discriminator)
    assert load(tmp_path / "c.safetensors").discriminator_batchnorm == "stored"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "absent"),
        (lambda file: file.write_bytes(file.read_bytes()[:-4]), "truncated"),
        (lambda file: file.write_bytes(file.read_bytes()[:20]), "truncated"),
        (lambda file: file.write_bytes(b""), "truncated"),
        (lambda file: file.write_bytes(b"PK\x03\x04"), "truncated"),
        (lambda file: file.write_bytes(pickle.dumps([1.0])), "not a plain .npy array"),
        (lambda file: np.save(file, np.load(file).astype(np.float64)), "holds float64, not a float32 array"),
        (lambda file: np.save(file, np.load(file).astype(">f4")), "holds >f4, not a float32 array"),
        (lambda file: np.save(file, np.where(np.load(file) > 0, np.nan, 0).astype("f4")), "not finite"),
        (lambda file: np.save(file, np.full_like(np.load(file), np.inf)), "not finite"),
    ],
)
@pytest.mark.parametrize("index", ["01", "03", "05"])
def test_damaged_arrays_are_named(tmp_path, damage, message, index):
    prefix = write_authors(tmp_path, *networks())
    file = tmp_path / f"7_discrim_params.jl_{index}.npy"
    damage(file)
    with pytest.raises(InputError, match=message) as error:
        load(prefix)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("index", ["03", "05"])
def test_absent_arrays_are_named_without_a_listing_too(tmp_path, index):
    prefix = write_authors(tmp_path, *networks())
    (tmp_path / "7_discrim_params.jl").unlink()
    (tmp_path / f"7_discrim_params.jl_{index}.npy").unlink()
    with pytest.raises(InputError, match=f"7_discrim_params.jl_{index}.npy: absent"):
        load(prefix)


def test_shapes_of_no_preset_are_listed(tmp_path):
    prefix = write_authors(tmp_path, *networks(replace(DIGITS_FILE, z_dim=7)))
    with pytest.raises(InputError, match=r"fit no preset \(lsun64, .*: generator \(7, 1024\) \(1024,\)"):
        load(prefix)


def test_networks_of_different_presets_are_refused(tmp_path):
    g, _ = networks()
    _, d = networks(PRESETS["svhn32"])
    with pytest.raises(InputError, match="fit no preset"):
        load(write_authors(tmp_path, g, d))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing", None, "no such checkpoint"),
        ("nothing.safetensors", None, "no such file"),
        ("7_gen_params.jl", None, "no such file"),
        ("7_gen_params.jl", b"arrays within", "lists no .npy files"),
        ("7_gen_params.jl", b"7_gen_params.jl_00.npy", "lists no .npy files"),
        ("7_params.jl", b"", "names end in _gen_params.jl or _discrim_params.jl"),
        ("7_gen_params.jl_01.npy", b"", "name the .jl or the prefix"),
        ("weights.bin", b"", "not a checkpoint"),
        ("", None, "a folder"),
    ],
)
def test_other_paths(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(tmp_path / name)


def test_nothing_is_unpickled(tmp_path):
    sprung = tmp_path / "sprung"
    prefix = write_authors(tmp_path, *networks())
    # a listing that is a live pickle is only searched for names
    listing = tmp_path / "7_gen_params.jl"
    listing.write_bytes(pickle.dumps([Trap(sprung), *(f"7_gen_params.jl_{i:02d}.npy" for i in range(1, 8))]))
    assert load(prefix).generator is not None
    np.save(tmp_path / "7_gen_params.jl_01.npy", np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"7_gen_params\.jl_01\.npy"):
        load(prefix)
    for name, zipped in (("net.pth", True), ("net.pt", False)):
        torch.save({"main.0.weight": Trap(sprung)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        with pytest.raises(InputError, match=rf"{name}: holds a pickled .*open, .*state_dict"):
            load(tmp_path / name)
    assert not sprung.exists()
    with open(tmp_path / "alive", "wb") as file:
        pickle.dump(Trap(sprung), file)
    pickle.loads((tmp_path / "alive").read_bytes()).close()
    assert sprung.exists(), "the trap must be able to spring for this test to mean anything"


@pytest.fixture(scope="module")
def authors(data):
    return data / "authors-svhn"


def test_real_weights_load_and_are_described(authors):
    checkpoint = load(authors / "200")
    assert (checkpoint.architecture, checkpoint.format) == (PRESETS["svhn32"], "authors")
    described = json.loads(json.dumps(describe(checkpoint)))
    assert described["presets"] == ["svhn32"]
    assert described["features"] == {"grid": 4, "per_layer": [1024, 2048, 4096], "total": 7168}
    sizes = [np.load(file).size for file in authors.glob("*discrim*.npy")]
    assert described["discriminator"]["parameters"] == sum(sizes)
    assert described["discriminator"]["layers"][1] == {
        "name": "convs.1",
        "weight": [128, 64, 5, 5],
        "output": [128, 8, 8],
    }
    assert described["generator"]["layers"][0]["output"] == [256, 4, 4]


def test_real_discriminator_convolves_as_theano(authors, data):
    """Theano's convolution is the true one: the kernel turned. Its border of 2 is scipy's "same" for 5x5."""
    kernels = np.load(authors / "200_discrim_params.jl_01.npy").astype(np.float64)
    discriminator = load(authors / "200").discriminator
    assert discriminator is not None
    photograph = torch.from_numpy(np.load(data / "svhn-mini.npz")["x_train"][:1])
    if photograph.shape[-1] == 3:
        photograph = photograph.permute(0, 3, 1, 2)
    x = scale_images(photograph, PRESETS["svhn32"])
    found = discriminator.conv_features(x)[0][0].detach().numpy()
    for filter_index in (0, 17, 63):
        h = sum(convolve2d(x[0, c].numpy(), kernels[filter_index, c], mode="same") for c in range(3))[::2, ::2]
        np.testing.assert_allclose(found[filter_index], np.where(h > 0, h, 0.2 * h), atol=1e-5)


def test_real_generator_draws_as_theano(authors):
    """The last layer is the transpose of a true convolution: zeros between the pixels, then correlation."""
    kernels = np.load(authors / "200_gen_params.jl_10.npy").astype(np.float64)
    generator = load(authors / "200").generator
    assert generator is not None
    with torch.no_grad():
        z = sample_z(PRESETS["svhn32"], 16, seeded())
        maps, image = generator.hidden(z)[-1][0].double().numpy(), generator(z)[0].numpy()
    spread = np.zeros((64, 32, 32))
    spread[:, ::2, ::2] = maps
    for c in range(3):
        drawn = np.tanh(sum(correlate2d(spread[i], kernels[i, c], mode="same") for i in range(64)))
        np.testing.assert_allclose(image[c], drawn, atol=1e-4)


def test_real_weights_converted_keep_their_sha256_wherever_they_lie(authors, tmp_path):
    shutil.copytree(authors, tmp_path / "elsewhere")
    sha256 = load(authors / "200").sha256
    assert load(tmp_path / "elsewhere" / "200").sha256 == sha256
    assert convert(authors / "200", tmp_path / "svhn.safetensors").sha256 == sha256


# pytorch/examples'


def reference(ngf=8, ndf=6, nz=10, nc=3):
    """The networks of the PyTorch DCGAN tutorial, with statistics, in the state of training."""
    torch.manual_seed(0)
    g: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(((nz, ngf * 8), (ngf * 8, ngf * 4), (ngf * 4, ngf * 2), (ngf * 2, ngf))):
        g += [nn.ConvTranspose2d(c_in, c_out, 4, 2 if i else 1, 1 if i else 0, bias=False)]
        g += [nn.BatchNorm2d(c_out), nn.ReLU()]
    g += [nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh()]
    d: list[nn.Module] = [nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for i in (1, 2, 4):
        d += [nn.Conv2d(ndf * i, ndf * i * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * i * 2), nn.LeakyReLU(0.2)]
    d += [nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False)]
    nets = nn.Sequential(*g), nn.Sequential(*d)
    for net in nets:
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.weight, 1, 0.3)
                nn.init.normal_(part.bias, 0, 0.3)
    for _ in range(3):
        nets[1](nets[0](torch.randn(8, nz, 1, 1)))
    return nets


def keyed(net, prefix="main."):
    return OrderedDict((prefix + key, value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("prefix", ["main.", "module.main."])
@pytest.mark.parametrize("training", [False, True])
def test_pytorch_examples_compute_the_same(tmp_path, prefix, training):
    g, d = reference()
    torch.save(keyed(g, prefix), tmp_path / "netG_epoch_1.pth")
    torch.save(keyed(d, prefix), tmp_path / "netD_epoch_1.pth")
    loaded_g, loaded_d = load(tmp_path / "netG_epoch_1.pth"), load(tmp_path / "netD_epoch_1.pth")
    assert loaded_g.discriminator is None
    assert loaded_d.generator is None
    generator, discriminator = loaded_g.generator, loaded_d.discriminator
    assert generator is not None
    assert discriminator is not None
    assert loaded_g.architecture.generator_channels == (64, 32, 16, 8)
    assert loaded_d.architecture.discriminator_channels == (6, 12, 24, 48)
    assert (loaded_g.architecture.z_dim, loaded_g.architecture.image_size) == (10, 64)
    assert (loaded_g.format, loaded_g.generator_batchnorm, loaded_g.has_statistics) == (
        "pytorch-examples",
        "stored",
        True,
    )
    z = torch.randn(5, 10, generator=seeded())
    with torch.no_grad():
        images = g.train(training)(z[:, :, None, None])
        torch.testing.assert_close(generator.train(training)(z), images, rtol=1e-4, atol=1e-5)
        logits = d.train(training)(images).flatten()
        torch.testing.assert_close(discriminator.train(training)(images), logits, rtol=1e-4, atol=1e-5)
    assert convert(tmp_path / "netG_epoch_1.pth", tmp_path / "g.safetensors").sha256 == loaded_g.sha256


def test_the_tutorials_own_widths_are_the_preset(tmp_path):
    g, d = reference(ngf=64, ndf=64, nz=100)
    for name, net in (("netG.pth", g), ("netD.pth", d)):
        torch.save(keyed(net), tmp_path / name)
        assert load(tmp_path / name).architecture == PRESETS["torch64"]


def test_old_files_that_do_not_count_batches(tmp_path):
    g, _ = reference()
    torch.save({k: v for k, v in keyed(g).items() if not k.endswith("tracked")}, tmp_path / "netG.pth")
    assert load(tmp_path / "netG.pth").has_statistics


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {**s, "fc.weight": torch.zeros(1)}, "'fc.weight' is not a key"),
        (lambda s: {"state_dict": s}, "not a state_dict"),
        (lambda s: [1, 2], "not a state_dict"),
        (lambda s: {}, "not a state_dict"),
        (lambda s: {k: v for k, v in s.items() if k != "main.0.weight"}, "layers hold weights"),
        (lambda s: {k: v for k, v in s.items() if k != "main.4.bias"}, "absent .*bias"),
        (lambda s: {**s, "main.12.bias": torch.zeros(3)}, "unknown .*bias"),
        (lambda s: {**s, "main.3.weight": torch.zeros(64, 32, 5, 5)}, "4x4 kernels"),
        (lambda s: {**s, "main.3.weight": torch.zeros(63, 32, 4, 4)}, r"\(63, 32, 4, 4\), but"),
        (lambda s: {**s, "main.3.weight": s["main.3.weight"] / 0}, "not finite"),
        (lambda s: {**s, "main.0.weight": torch.zeros(0, 64, 4, 4)}, "z_dim must be"),
    ],
)
def test_foreign_pth(tmp_path, change, message):
    torch.save(change(dict(keyed(reference()[0]))), tmp_path / "netG.pth")
    with pytest.raises(InputError, match=r"netG\.pth: .*" + message):
        load(tmp_path / "netG.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_whole_modules_and_truncated_pth(tmp_path, zipped):
    g, _ = reference()
    path = tmp_path / "netG.pth"
    torch.save(g, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match=r"holds a pickled torch\.nn.*Sequential.*torch\.save\(net\.state_dict\(\), path\)"
    ):
        load(path)
    torch.save(keyed(g), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for length in (0, 1, 10, len(content) // 2, len(content) - 100):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"netG\.pth: truncated, or not a file of torch\.save"):
            load(path)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(InputError, match="truncated, or not"):
        load(path)


# a part of a checkpoint, in fewer bits


@pytest.mark.parametrize(("dtype", "step"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_16_bits_are_loaded_as_the_float32_they_round_to(dtype, step, tmp_path):
    g, d = trained()
    save(tmp_path / "whole.safetensors", generator=g, discriminator=d)
    found = convert(tmp_path / "whole.safetensors", tmp_path / "d.safetensors", only="discriminator", dtype=dtype)
    assert found.generator is None
    assert found.discriminator is not None
    assert found.metadata["stored_as"] == str(dtype).removeprefix("torch.")
    assert found.has_statistics
    for key, value in d.state_dict().items():
        got = found.discriminator.state_dict()[key]
        assert got.dtype == value.dtype
        if value.is_floating_point():
            assert torch.equal(got, value.to(dtype).float())
            assert ((got - value).abs() <= step * value.abs() + 2**-24).all()
    # what is in the file is what the sha256 is of: once rounded, nothing changes any more
    again = convert(tmp_path / "d.safetensors", tmp_path / "e.safetensors")
    assert again.sha256 == found.sha256
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("d", "e")]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_network_that_is_absent_cannot_be_kept(tmp_path):
    g, _ = networks()
    save(tmp_path / "g.safetensors", generator=g)
    with pytest.raises(InputError, match="holds no discriminator"):
        convert(tmp_path / "g.safetensors", tmp_path / "out.safetensors", only="discriminator")
    assert not (tmp_path / "out.safetensors").exists()
