"""Inception's features beside torch-fidelity's and clean-fid's, with weights of a seed, and every fault of the file."""

import hashlib
import os
import pickle
import urllib.error
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from cleanfid.resize import build_resizer
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as peer_module

from dcgan_eval.features import inception as module
from dcgan_eval.features import inception_features
from dcgan_eval.images import fitted, from_tensor
from dcgan_eval.runtime.errors import InputError
from tests.builders import of_size


@pytest.fixture(scope="module")
def ours(weights):
    return inception_features(weights=weights, logits=True)


@pytest.fixture(scope="module")
def peer(weights):
    """torch-fidelity's own, which gives pooled features and logits without the bias."""
    return peer_module.FeatureExtractorInceptionV3(
        "peer", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
    )


def check_close(found, expected, relative=1e-4):
    """Of every image, in the norm."""
    assert found.shape == expected.shape
    assert ((found - expected).norm(dim=1) / expected.norm(dim=1)).max() < relative


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (299, 299)])
def test_features_and_logits_are_those_of_torch_fidelity(ours, peer, photographs, size):
    images = of_size(photographs(2, start=100), *size)
    pool, logits = peer(images)
    found = ours(images)
    assert found.dtype == torch.float32
    check_close(found[:, ours.slices["pool"]], pool)
    check_close(found[:, ours.slices["logits"]], logits)
    assert (pool[0] - pool[1]).norm() > 0.05 * pool[0].norm()  # the network tells images apart


def test_grey_images_are_replicated(ours, peer, photographs):
    grey = photographs(2, start=100)[:, :1]
    with pytest.raises(InputError, match=r"inception-like takes images of 3xanyxany .* but these are 1x32x32"):
        ours(grey)
    images, what = fitted(from_tensor(grey, name="grey"), ours.input_shape)
    assert what == "grey replicated to RGB"
    check_close(ours(images.tensor())[:, :2048], peer(grey.expand(-1, 3, -1, -1))[0])


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (299, 299), (400, 310)])
def test_clean_resizing_is_that_of_clean_fid(photographs, size):
    """Its own is Pillow's in single precision, neither is rounded to 8 bits; noise overshoots and is cut."""
    noise = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    resize = build_resizer("clean")
    for images, tolerance in ((of_size(photographs(2, start=100), *size), 5e-4), (noise, 1e-2)):
        expected = torch.from_numpy(np.stack([resize(image.permute(1, 2, 0).numpy()) for image in images]))
        found = module._resized(images, "clean")
        assert found.shape == (2, 3, 299, 299)
        assert (found - expected.permute(0, 3, 1, 2)).abs().max() < tolerance
        assert found.min() >= 0
        assert found.max() <= 255


def test_clean_features_are_those_of_the_network_on_images_that_clean_fid_resized(weights, peer, photographs):
    images = photographs(2, start=100)
    resize = build_resizer("clean")

    def clean(x, *, size, align_corners):
        arrays = [resize(image.permute(1, 2, 0).byte().numpy()) for image in x]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)

    with mock.patch.object(peer_module, "interpolate_bilinear_2d_like_tensorflow1x", clean):
        expected = peer(images)[0]
    extractor = inception_features(weights=weights, resize="clean")
    check_close(extractor(images), expected)
    assert (extractor(images) - peer(images)[0]).norm() > 1e-2 * expected.norm()
    assert "resized to 299x299, bicubic, antialiased, not rounded (clean-fid)" in extractor.protocol


def test_batches_change_nothing(ours, photographs):
    images = photographs(9, start=100)
    whole = ours(images)
    for size in (2, 5):
        check_close(torch.cat([ours(batch) for batch in torch.split(images, size)]), whole, 1e-5)


def test_precision_is_of_the_convolutions_only(weights, ours, photographs):
    """Weights that were not trained amplify rounding some hundred times."""
    images = photographs(1, start=100)
    low, full = inception_features(weights=weights, precision="bfloat16")(images), ours(images)[:, :2048]
    assert low.dtype == torch.float32
    assert 1e-3 < (low - full).norm() / full.norm() < 0.4
    assert not torch.equal(low, low.bfloat16().float())  # the pooling is not rounded


def test_the_global_generator_is_left_alone(weights):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    inception_features(weights=weights)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_said_of_it(weights, ours, tmp_path, monkeypatch):
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert ours.name == "inception-like"  # what rests on these weights is no FID
    assert f"weights {sha256[:8]}; images resized to 299x299, bilinear as TensorFlow 1" in ours.protocol
    assert ours.protocol.startswith("pool and logits of Inception 2015-12-05")
    assert ours.protocol.endswith("; float32")
    assert {name: (part.start, part.stop) for name, part in ours.slices.items()} == {
        "pool": (0, 2048), "logits": (2048, 3056),
    }  # fmt: skip
    plain = inception_features(weights=weights)
    assert plain.dimensions == 2048
    assert plain.protocol.startswith("pool of Inception")
    os.symlink(weights, tmp_path / f"moved-{sha256[:8]}.pth")
    moved = inception_features(weights=tmp_path / f"moved-{sha256[:8]}.pth")
    assert (moved.fingerprint, moved.protocol) == (plain.fingerprint, plain.protocol)
    state = torch.load(weights, weights_only=True)
    state["fc.bias"] += 1
    torch.save(state, tmp_path / "other.pth")
    others = [
        ours,
        plain,
        inception_features(weights=weights, resize="clean"),
        inception_features(weights=weights, precision="bfloat16"),
        inception_features(weights=tmp_path / "other.pth"),
    ]
    assert len({extractor.fingerprint for extractor in others}) == len(others)
    assert len({extractor.protocol for extractor in others}) == len(others)
    monkeypatch.setattr(module, "PUBLISHED", sha256[:8])
    assert inception_features(weights=weights).name == "inception"


def test_the_published_file_is_looked_for_where_torch_keeps_it(weights, tmp_path, monkeypatch):
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    url = f"https://example.org/weights-{sha256[:8]}.pth"
    monkeypatch.setattr(module, "URL", url)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / f"weights-{sha256[:8]}.pth"
    with pytest.raises(InputError) as caught:
        inception_features()
    assert str(caught.value) == f"inception: no weights; download {url} and put it at {place}"

    def fetch(asked, **options):
        assert (asked, options["check_hash"], options["weights_only"]) == (url, True, True)
        place.parent.mkdir(parents=True)
        os.symlink(weights, place)

    def offline(asked, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"inception: .* cannot be fetched .*no network"):
        inception_features(download=True)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    inception_features(download=True)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    inception_features(download=True)  # it is there by now


class Trap:
    """Unpickling this makes a folder."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def wrong_hash(path, weights, trap):
    path = path.with_name("weights-inception-2015-12-05-6726825d.pth")
    os.symlink(weights, path)
    return path


def truncated(path, weights, trap):
    path.write_bytes(weights.read_bytes()[:-1000])


def other_shape(path, weights, trap):
    state = torch.load(weights, weights_only=True)
    state["fc.weight"] = state["fc.weight"][:1000].clone()
    torch.save(state, path)


def one_missing(path, weights, trap):
    state = torch.load(weights, weights_only=True)
    del state["Mixed_5b.branch1x1.bn.running_var"]
    torch.save(state, path)


BAD = {
    "another hash than its name says": (wrong_hash, r"6726825d\.pth: damaged \(its SHA-256 is not the one in its name"),
    "truncated": (truncated, "damaged"),
    "an object beside arrays": (lambda p, w, trap: torch.save({"a": torch.zeros(1), "x": trap}, p), "damaged"),
    "an object instead": (lambda p, w, trap: torch.save(trap, p), "damaged"),
    "a plain pickle": (lambda p, w, trap: p.write_bytes(pickle.dumps(trap, protocol=2)), "damaged"),
    "a whole module": (lambda p, w, trap: torch.save(nn.Linear(2, 2), p), "damaged"),
    "a number among the arrays": (lambda p, w, trap: torch.save({"fc.weight": 1.0}, p), "it is no state dict"),
    "a list": (lambda p, w, trap: torch.save([torch.zeros(2)], p), "it is no state dict"),
    "an empty file": (lambda p, w, trap: p.write_bytes(b""), "damaged"),
    "text": (lambda p, w, trap: p.write_bytes(b"not weights\nat all"), "damaged"),
    "a folder": (lambda p, w, trap: p.mkdir(), "damaged"),
    "another network": (lambda p, w, trap: torch.save(nn.Linear(9, 1008).state_dict(), p), "not Inception's weights"),
    "no array": (lambda p, w, trap: torch.save({}, p), "it is no state dict"),
    "another shape": (other_shape, "not Inception's weights"),
    "one array less": (one_missing, "not Inception's weights"),
    "absent": (lambda p, w, trap: None, r"inception: no weights; download https://\S+6726825d\.pth and put it at"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_weights(case, weights, tmp_path):
    make, message = BAD[case]
    path = tmp_path / "weights.pth"
    made = make(path, weights, Trap(tmp_path / "sprung"))
    path = made if isinstance(made, Path) else path
    with pytest.raises(InputError, match=message) as caught:
        inception_features(weights=path)
    assert str(path) in str(caught.value)
    assert "https://github.com/toshas/torch-fidelity" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_the_trap_is_one(tmp_path):
    torch.save({"x": Trap(tmp_path / "sprung")}, tmp_path / "weights.pth")
    torch.load(tmp_path / "weights.pth", weights_only=False)
    assert (tmp_path / "sprung").exists()


def test_a_name_that_is_too_long():
    with pytest.raises(InputError):
        inception_features(weights=Path("x" * 5000))
