import importlib
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from sklearn.cluster import KMeans
from torch import nn

from dcgan_eval.features import (
    Extractor,
    discriminator_features,
    extract,
    kmeans_features,
    pixel_features,
    random_features,
    torchvision_features,
)
from dcgan_eval.features import kmeans as kmeans_module
from dcgan_eval.images import from_tensor, open_images
from dcgan_eval.models import checkpoint
from dcgan_eval.models.architecture import PRESETS, Architecture
from dcgan_eval.models.networks import Discriminator, initialise, reestimate_batchnorm, scale_images, set_batchnorm_mode
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.run import Run

extract_module = importlib.import_module("dcgan_eval.features.extract")  # the package shows the function

TINY = Architecture(
    image_size=8,
    image_channels=1,
    z_dim=4,
    kernel_size=3,
    generator_channels=(4, 2),
    generator_strides=(2, 2),
    discriminator_channels=(2, 3),
    discriminator_strides=(1, 2),
)


def noise(n, shape=(1, 8, 8), seed=0, name="noise"):
    generator = torch.Generator().manual_seed(seed)
    return from_tensor(torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator), name=name)


def fitted(architecture, seed=0):
    """A discriminator whose BatchNorm gains, biases and statistics are all far from their initial values."""
    network = Discriminator(architecture)
    generator = torch.Generator().manual_seed(seed)
    initialise(network, generator)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (norm.weight, norm.bias):
                if values is not None:
                    values.data.normal_(0.5, 0.5, generator=generator)
            statistics = dict(norm.named_buffers())
            statistics["running_mean"].normal_(0, 0.1, generator=generator)
            statistics["running_var"].uniform_(0.01, 0.1, generator=generator)
            statistics["num_batches_tracked"].fill_(1)
    set_batchnorm_mode(network, "stored")
    return network


def numpy_features(network, images, grid, pooling):
    """By loops over the definition: scale, convolve, normalise, leak, pool, flatten; float64."""
    h = images.numpy().astype(np.float64) / 127.5 - 1
    features = []
    for layer in network.convs:
        weight, stride = layer.linear.weight.detach().double().numpy(), layer.linear.stride[0]
        padded = np.pad(h, ((0, 0), (0, 0), (1, 1), (1, 1)))
        side = h.shape[2] // stride
        out = np.zeros((len(h), len(weight), side, side))
        for y in range(side):
            for x in range(side):
                window = padded[:, :, y * stride : y * stride + 3, x * stride : x * stride + 3]
                out[:, :, y, x] = np.einsum("ncij,kcij->nk", window, weight)
        if isinstance(layer.norm, nn.BatchNorm2d):
            norm = {k: v.double().numpy()[:, None, None] for k, v in layer.norm.state_dict().items() if v.ndim}
            out = (out - norm["running_mean"]) / np.sqrt(norm["running_var"] + layer.norm.eps)
            out = out * norm["weight"] + norm["bias"]
        h = np.where(out > 0, out, 0.2 * out)
        g = min(grid, side)
        pooled = np.zeros((len(h), len(weight), g, g))
        for i in range(g):
            for j in range(g):
                rows = slice(i * side // g, -(-(i + 1) * side // g))
                columns = slice(j * side // g, -(-(j + 1) * side // g))
                pooled[:, :, i, j] = getattr(h[:, :, rows, columns], pooling)((2, 3))
        features.append(pooled.reshape(len(h), -1))
    return np.concatenate(features, 1)


@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("grid", [1, 2, 3, 4, 8])
def test_discriminator_features_are_the_definition(grid, pooling):
    network, images = fitted(TINY), noise(5)
    truth = numpy_features(network, images.tensor(), grid, pooling)
    found = discriminator_features(network, name="disc:tiny", grid=grid, pooling=pooling)(images.tensor())
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, truth, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["svhn32", "imagenet32", "cifar32", "digits", "torch64"])
def test_folding_changes_nothing(name):
    network = fitted(PRESETS[name])
    a = network.architecture
    images = noise(2, (a.image_channels, a.image_size, a.image_size)).tensor()
    with torch.no_grad():
        maps = network.conv_features(scale_images(images, a))
    plain = torch.cat([nn.functional.adaptive_max_pool2d(m, min(4, m.shape[-1])).flatten(1) for m in maps], 1)
    found = discriminator_features(network, name=name)(images)
    assert (found - plain).norm() < 1e-5 * plain.norm()
    bfloat16 = discriminator_features(network, name=name, precision="bfloat16")(images)
    assert 1e-4 * plain.norm() < (bfloat16 - plain).norm() < 0.02 * plain.norm()


def test_the_sigmoid_networks_see_images_from_0_to_1():
    network = fitted(replace(TINY, output="sigmoid"))
    images = noise(3).tensor()
    with torch.no_grad():
        first = network.conv_features(images / 255)[0]
    found = discriminator_features(network, name="d", layers=["conv1"], grid=8)(images)
    torch.testing.assert_close(found, first.flatten(1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "count"), [("svhn32", 7168), ("imagenet32", 28672)])
def test_counts_are_the_papers(name, count):
    extractor = discriminator_features(fitted(PRESETS[name]), name=name)
    assert extractor.dimensions == count
    assert extractor(noise(2, (3, 32, 32)).tensor()).shape == (2, count)


def test_slices_are_the_layers():
    network, images = fitted(PRESETS["imagenet32"]), noise(2, (3, 32, 32)).tensor()
    every = discriminator_features(network, name="d")
    assert {k: (s.start, s.stop) for k, s in every.slices.items()} == {
        "conv1": (0, 2048),
        "conv2": (2048, 4096),
        "conv3": (4096, 8192),
        "conv4": (8192, 12288),
        "conv5": (12288, 20480),
        "conv6": (20480, 28672),
    }
    some = discriminator_features(network, name="d", layers=["conv4", "conv2"])
    assert list(some.slices) == ["conv2", "conv4"]
    for layer in some.slices:
        assert torch.equal(some(images)[:, some.slices[layer]], every(images)[:, every.slices[layer]])


def test_reestimated_statistics_are_the_networks_own_reestimation():
    network, train, images = Discriminator(TINY), noise(300, seed=1), noise(4)
    initialise(network, torch.Generator().manual_seed(0))
    extractor = discriminator_features(network, name="d", batchnorm="reestimated", images=train)
    found = extractor(images.tensor())
    with pytest.raises(InputError, match="no BatchNorm statistics"):
        discriminator_features(network, name="d")
    reestimate_batchnorm(network, [scale_images(b, TINY) for b in train.batches(128)])
    np.testing.assert_allclose(found, numpy_features(network, images.tensor(), 4, "max"), atol=1e-5, rtol=1e-5)
    stored = discriminator_features(network, name="d")
    torch.testing.assert_close(stored(images.tensor()), found, atol=1e-5, rtol=1e-5)
    at_once = discriminator_features(network, name="d", batchnorm="reestimated", images=train, batchnorm_batch=train.n)
    assert not torch.allclose(at_once(images.tensor()), found, atol=1e-4)
    assert len({e.fingerprint for e in (extractor, stored, at_once)}) == 3
    assert "reestimated on 300 of noise by 128" in extractor.protocol
    assert "BatchNorm stored" in stored.protocol


def test_batch_statistics_are_those_of_fixed_groups():
    network, images = fitted(TINY), noise(21)
    extractor = discriminator_features(network, name="d", batchnorm="batch", batchnorm_batch=8)
    set_batchnorm_mode(network, "batch")
    with torch.no_grad():
        groups = [network.conv_features(scale_images(b, TINY))[1] for b in images.batches(8)]
    truth = torch.cat([nn.functional.max_pool2d(g, 1).flatten(1) for g in groups])
    for batch_size in (1, 5, 8, 12, 100):
        found = extract(extractor, images, run=Run(batch_size=batch_size))
        torch.testing.assert_close(found[:, extractor.slices["conv2"]], truth, atol=1e-5, rtol=1e-5)


def test_the_extractor_keeps_its_weights():
    network, images = fitted(TINY), noise(3).tensor()
    extractor = discriminator_features(network, name="d")
    before = extractor(images)
    later = discriminator_features(network, name="d")
    initialise(network, torch.Generator().manual_seed(9))
    assert torch.equal(extractor(images), before)
    assert torch.equal(later(images), before)


@pytest.fixture(scope="module")
def extractors():
    """One of each kind, all for images of 3x12x12."""
    train = noise(300, (3, 12, 12), seed=5)
    network = fitted(replace(TINY, image_channels=3, image_size=12))
    return {
        "stored": discriminator_features(network, name="disc:small"),
        "batch": discriminator_features(network, name="disc:small", batchnorm="batch", batchnorm_batch=16),
        "bfloat16": discriminator_features(network, name="disc:small", precision="bfloat16"),
        "pixels": pixel_features((3, 12, 12)),
        "kmeans": kmeans_features(train, 20, patches=2000, iterations=3),
        "torchvision": torchvision_features("shufflenet_v2_x0_5", weights="random"),
    }


KINDS = ["stored", "batch", "bfloat16", "pixels", "kmeans", "torchvision"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_batch_size_gives_the_same_features(extractors, kind):
    extractor, images = extractors[kind], noise(37, (3, 12, 12))
    whole = extract(extractor, images, run=Run(batch_size=64))
    assert whole.shape == (37, extractor.dimensions)
    assert whole.dtype == torch.float32
    assert whole.std() > 0
    tolerance = 2e-2 if kind == "bfloat16" else 2e-5
    for batch_size in (1, 7, 36):
        torch.testing.assert_close(
            extract(extractor, images, run=Run(batch_size=batch_size)), whole, atol=tolerance, rtol=tolerance
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_says_what_a_number_needs(extractors, kind):
    extractor = extractors[kind]
    assert len(extractor.fingerprint) == 64
    assert "\n" not in extractor.protocol
    assert ("bfloat16" if kind == "bfloat16" else "float32") in extractor.protocol
    stops = [0, *(columns.stop for columns in extractor.slices.values())]
    assert [columns.start for columns in extractor.slices.values()] == stops[:-1]
    assert stops[-1] == extractor.dimensions
    with pytest.raises(InputError, match="1x12x12") as error:
        extract(extractor, noise(2, (1, 12, 12)))
    assert "3x" in str(error.value)
    assert "\n" not in str(error.value)


def test_images_of_the_wrong_size_are_refused():
    extractor = discriminator_features(fitted(PRESETS["svhn32"]), name="disc:svhn32")
    with pytest.raises(InputError, match=r"disc:svhn32 takes images of 3x32x32 .*, but these are 3x28x28"):
        extract(extractor, noise(2, (3, 28, 28)))
    with pytest.raises(InputError, match="1x32x32"):
        extractor(noise(2, (1, 32, 32)).tensor())
    with pytest.raises(InputError, match="re-estimated from images of"):
        random_features("svhn32", noise(2, (3, 28, 28)))
    with pytest.raises(InputError, match="7x7"):
        kmeans_features(noise(200, (1, 6, 9)), 4)
    with pytest.raises(InputError, match="at least as many patches"):
        kmeans_features(noise(1, (1, 8, 8)), 10)


def test_what_a_discriminator_cannot_give_is_refused():
    network = fitted(TINY)
    with pytest.raises(InputError, match=r"no layer 'conv3'; did you mean"):
        discriminator_features(network, name="d", layers=["conv3"])
    with pytest.raises(InputError, match="needs a layer"):
        discriminator_features(network, name="d", layers=[])
    with pytest.raises(InputError, match="not none"):
        discriminator_features(network, name="d", batchnorm="reestimated")
    with pytest.raises(InputError, match="conditional"):
        discriminator_features(fitted(PRESETS["mnist28"]), name="d")
    with pytest.raises(InputError, match="did you mean 'svhn32'"):
        random_features("svhn23", noise(2, (3, 32, 32)))


def test_features_that_are_not_finite_are_refused():
    network = fitted(TINY)
    network.convs[1].linear.weight.data[0, 0, 0, 0] = torch.inf
    with pytest.raises(InputError, match="not finite"):
        extract(discriminator_features(network, name="d"), noise(2))


def test_random_networks_follow_their_seed():
    train, images = noise(64, (1, 8, 8), seed=1), noise(3)
    before = torch.get_rng_state()
    first, again, other = (random_features("digits", train, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first(images.tensor()), again(images.tensor()))
    assert not torch.allclose(first(images.tensor()), other(images.tensor()), atol=0.1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.name == "random:digits"
    assert first.protocol.endswith("seed 1")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_authors_discriminator_on_real_digits(data):
    network = checkpoint.load(data / "authors-svhn" / "200").discriminator
    assert network is not None
    images = open_images(str(data / "svhn-mini.npz"))
    extractor = discriminator_features(
        network, name="disc:svhn32", batchnorm="reestimated", images=images["train"], batchnorm_batch=554
    )
    train, test = (extract(extractor, images[split]).double() for split in ("train", "test"))
    assert train.shape == (554, 7168)
    # ridge regression on one-hot labels: 28 % with kernels unflipped and an SVM, 83 % from pixels
    x, mean = train - train.mean(0), train.mean(0)
    assert images["train"].labels is not None
    onehot = nn.functional.one_hot(images["train"].labels).double()
    dual = torch.linalg.solve(x @ x.T + 1000 * torch.eye(554), onehot - onehot.mean(0))
    scores = (test - mean) @ (x.T @ dual) + onehot.mean(0)
    assert (scores.argmax(1) != images["test"].labels).double().mean() < 0.28


# k-means


def test_lloyd_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(12, 5, generator=generator)
    x = (centres[:, None] + torch.randn(12, 80, 5, generator=generator)).flatten(0, 1)
    start = x[torch.randperm(len(x), generator=generator)[:12]]
    reference = KMeans(12, init=start.numpy(), n_init=1, tol=0, max_iter=300, algorithm="lloyd").fit(x.numpy())
    found = kmeans_module.lloyd(x, start, 300)
    objective = torch.cdist(x, found).min(1).values.square().sum()
    assert objective == pytest.approx(reference.inertia_, rel=1e-5)
    np.testing.assert_allclose(found, reference.cluster_centers_, atol=1e-4)


def test_a_centroid_without_patches_stays():
    x = torch.tensor([[0.0], [1.0]])
    assert kmeans_module.lloyd(x, torch.tensor([[0.4], [50.0]]), 10).tolist() == [[0.5], [50.0]]


def test_whitened_patches_are_white():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5000, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3
    mean, whiten = kmeans_module.zca(x)
    values = torch.linalg.eigvalsh(torch.cov(x.T))
    found = torch.linalg.eigvalsh(torch.cov(((x - mean) @ whiten).T))
    torch.testing.assert_close(found, values / (values + 0.1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(whiten, whiten.T)


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 7, 10)])
def test_the_encoding_is_coates_and_ngs(shape):
    images, units = noise(3, shape).tensor(), 7
    generator = torch.Generator().manual_seed(1)
    d = shape[0] * 36
    mean, whiten = torch.randn(d, generator=generator) / 10, torch.randn(d, d, generator=generator) / 10
    centroids = torch.randn(units, d, generator=generator)
    found = kmeans_module._encoder(mean, whiten, centroids)(images)
    rows, columns = shape[1] - 5, shape[2] - 5
    truth = np.zeros((3, 2, 2, units))
    for i, image in enumerate(images.double().numpy()):
        for y in range(rows):
            for x in range(columns):
                patch = image[:, y : y + 6, x : x + 6].ravel()
                patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 10)
                patch = (patch - mean.double().numpy()) @ whiten.double().numpy()
                z = np.sqrt(((patch - centroids.double().numpy()) ** 2).sum(1))
                truth[i, int(y >= (rows + 1) // 2), int(x >= (columns + 1) // 2)] += np.maximum(0, z.mean() - z)
    np.testing.assert_allclose(found, truth.reshape(3, -1), atol=1e-4, rtol=1e-4)


def test_kmeans_features_are_standardised_seeded_and_identified():
    train = noise(200, (1, 9, 9))
    first, again, other = (kmeans_features(train, 10, patches=1000, iterations=5, seed=s) for s in (0, 0, 1))
    features = extract(first, train)
    assert features.shape == (200, 40)
    assert features.mean(0).abs().max() < 1e-4
    variance = features.double().var(0, correction=0)  # v / (v + 0.01) of the sums' own
    assert 0.8 < variance.min() < variance.max() < 1
    assert torch.equal(features, extract(again, train))
    assert not torch.allclose(features, extract(other, train), atol=0.1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    renamed = kmeans_features(noise(200, (1, 9, 9), seed=2), 10, patches=1000, iterations=5)
    assert renamed.fingerprint != first.fingerprint


# pixels, torchvision


def test_pixels_are_scaled_and_flattened():
    images = torch.tensor([0, 51, 204, 255], dtype=torch.uint8).view(1, 1, 2, 2)
    torch.testing.assert_close(pixel_features((1, 2, 2))(images), torch.tensor([[-1.0, -0.6, 0.6, 1.0]]))


def test_a_torchvision_backbone_gives_what_its_last_layer_reads():
    images = noise(2, (3, 500, 300)).tensor()  # antialiasing shows where images shrink
    state = torch.get_rng_state()
    extractor = torchvision_features("resnet18", weights="random", seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert extractor.dimensions == 512
    assert "224x224" in extractor.protocol
    torch.manual_seed(3)
    model = torchvision.models.resnet18().eval()
    torch.set_rng_state(state)
    x = nn.functional.interpolate(images / 255, (224, 224), mode="bilinear", antialias=True)
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        logits = model(x)
        torch.testing.assert_close(model.fc(extractor(images)), logits, atol=1e-4, rtol=1e-4)
    assert torchvision_features("resnet18", weights="random", seed=3).fingerprint == extractor.fingerprint
    assert torchvision_features("resnet18", weights="random", seed=4).fingerprint != extractor.fingerprint


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "googlenet"])
def test_classifiers_of_several_layers_give_their_last_ones_input(name):
    extractor = torchvision_features(name, weights="random")
    assert extractor.dimensions == 1024
    assert extractor(noise(2, (3, 16, 16)).tensor()).shape == (2, 1024)


def test_torchvision_weights_come_from_the_hubs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "hub" / "checkpoints"
    with pytest.raises(InputError, match=r"no weights; download https://.*shufflenet.*\.pth and put it at") as error:
        torchvision_features("shufflenet_v2_x0_5")
    file = folder / str(error.value).rpartition("/")[2]
    assert str(file) in str(error.value)
    folder.mkdir(parents=True)
    model = torchvision.models.shufflenet_v2_x0_5()
    torch.save(model.state_dict(), file)
    with pytest.raises(InputError, match="SHA-256"):
        torchvision_features("shufflenet_v2_x0_5")
    with pytest.raises(InputError, match="no last linear layer"):
        torchvision_features("squeezenet1_1", weights="random")
    with pytest.raises(InputError, match="did you mean 'resnet18'"):
        torchvision_features("resnet81")


# the cache


class Counted:
    """Pixels that count the images they are computed from, and can fail before one."""

    def __init__(self, fail_at=None, before=None):
        self.rows = 0
        self.before = before
        self.fail_at = fail_at
        self.lock = threading.Lock()
        self.extractor = replace(pixel_features((1, 8, 8)), on=lambda device: self.function)

    def function(self, images):
        if self.before is not None:
            self.before()
        with self.lock:
            if self.fail_at is not None and self.rows + len(images) > self.fail_at:
                raise KeyboardInterrupt
            self.rows += len(images)
        return (images.float() / 127.5 - 1).flatten(1)


IMAGES = noise(50)
TRUTH = (IMAGES.tensor().float() / 127.5 - 1).flatten(1)


def files(folder):
    """What is there of features, besides the hashes of their pixels."""
    return sorted(path.suffix for path in folder.iterdir() if path.suffix != ".pixels")


def test_features_are_found_again(tmp_path):
    counted = Counted()
    for _ in range(2):
        found = extract(counted.extractor, IMAGES, run=Run(cache=tmp_path / "new" / "cache"))
        assert torch.equal(found, TRUTH)
        found += 1  # what the caller does to them stays with the caller
    assert counted.rows == 50
    assert files(tmp_path / "new" / "cache") == [".npy"]


def test_large_features_stay_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(extract_module, "IN_MEMORY", 1000)
    counted = Counted()
    for _ in range(2):
        found = extract(counted.extractor, IMAGES, run=Run(cache=tmp_path))
        assert torch.equal(found, TRUTH)
        found += 1
    assert counted.rows == 50


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:100],
        lambda content: b"",
        lambda content: content + b"x",
        lambda content: content.replace(b"(50, 64)", b"(25, 128)"[:8]),
        lambda content: content.replace(b"<f4", b"|O "),
    ],
)
def test_damaged_files_are_computed_again(tmp_path, damage, caplog):
    counted = Counted()
    extract(counted.extractor, IMAGES, run=Run(cache=tmp_path))
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(damage(file.read_bytes()))
    assert torch.equal(extract(counted.extractor, IMAGES, run=Run(cache=tmp_path)), TRUTH)
    assert counted.rows == 100
    assert "damaged" in caplog.text
    assert files(tmp_path) == [".npy"]


@pytest.mark.parametrize("cut", [0, 1, 255, 256, 3000, 10**6])
def test_an_interrupted_extraction_goes_on(tmp_path, cut):
    failing = Counted(fail_at=30)
    with pytest.raises(KeyboardInterrupt):
        extract(failing.extractor, IMAGES, run=Run(batch_size=8, cache=tmp_path))
    assert failing.rows == 24
    assert files(tmp_path) == [".partial"]
    (file,) = tmp_path.glob("*.partial")
    content = file.read_bytes()
    file.write_bytes(content[: max(0, len(content) - cut)])
    kept = max(0, 24 - -(-cut // 256))
    counted = Counted()
    assert torch.equal(extract(counted.extractor, IMAGES, run=Run(batch_size=11, cache=tmp_path)), TRUTH)
    assert counted.rows == 50 - kept
    assert files(tmp_path) == [".npy"]


def test_groups_stay_whole_when_an_extraction_goes_on(tmp_path):
    network = fitted(TINY)
    extractor = discriminator_features(network, name="d", batchnorm="batch", batchnorm_batch=8)
    whole = extract(extractor, IMAGES, run=Run(cache=tmp_path))
    (file,) = tmp_path.glob("*.npy")
    content = file.read_bytes()
    file.with_suffix(".partial").write_bytes(content[: len(content) - 11 * extractor.dimensions * 4])
    file.unlink()
    torch.testing.assert_close(extract(extractor, IMAGES, run=Run(cache=tmp_path)), whole)


def test_one_computes_and_the_others_wait(tmp_path):
    started, finish = threading.Event(), threading.Event()

    def wait():
        started.set()
        finish.wait(10)

    counted, results = Counted(before=wait), []
    threads = [
        threading.Thread(target=lambda: results.append(extract(counted.extractor, IMAGES, run=Run(cache=tmp_path))))
        for _ in range(3)
    ]
    threads[0].start()
    started.wait(10)
    for thread in threads[1:]:
        thread.start()
    finish.set()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert all(torch.equal(found, TRUTH) for found in results)
    assert counted.rows == 50
    assert files(tmp_path) == [".npy"]


def test_a_killed_process_leaves_no_lock(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract(Counted(fail_at=30).extractor, IMAGES, run=Run(batch_size=10, cache=tmp_path))
    (partial,) = tmp_path.iterdir()
    script = "import fcntl, sys, time; f = open(sys.argv[1], 'a+b'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); "
    arguments = [sys.executable, "-c", script + "f.write(b'x' * 100); f.flush(); time.sleep(60)", str(partial)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    counted = Counted()
    assert torch.equal(extract(counted.extractor, IMAGES, run=Run(cache=tmp_path)), TRUTH)
    assert counted.rows == 20


def test_the_key_is_weights_settings_and_images(tmp_path):
    network = fitted(TINY)
    base: dict[str, Any] = {"name": "d", "grid": 4, "precision": "float32", "layers": ("conv1", "conv2")}
    other = fitted(TINY)
    other.convs[1].norm.running_mean[0] += 1e-3
    varied: list[Extractor] = [
        discriminator_features(network, **base),
        discriminator_features(fitted(TINY, seed=1), **base),
        discriminator_features(other, **base),
        *(
            discriminator_features(network, **base | change)
            for change in (
                {"grid": 2},
                {"pooling": "mean"},
                {"precision": "bfloat16"},
                {"layers": ["conv2"]},
                {"batchnorm": "batch"},
                {"batchnorm": "batch", "batchnorm_batch": 64},
                {"batchnorm": "reestimated", "images": noise(30)},
                {"batchnorm": "reestimated", "images": noise(30, seed=1)},
                {"batchnorm": "reestimated", "images": noise(30), "batchnorm_batch": 10},
            )
        ),
    ]
    for count, extractor in enumerate(varied, 1):
        extract(extractor, IMAGES, run=Run(cache=tmp_path))
        assert len(files(tmp_path)) == count
    for images in (noise(50, seed=1), IMAGES.subset(range(49)), IMAGES.subset([1, 0])):
        extract(varied[0], images, run=Run(cache=tmp_path))
    assert len(files(tmp_path)) == count + 3
    # what a table prints, batch sizes, and the order in which layers are named change no feature
    extract(
        discriminator_features(fitted(TINY), **base | {"name": "e", "layers": ["conv2", "conv1"]}),
        IMAGES,
        run=Run(cache=tmp_path, batch_size=3),
    )
    assert len(files(tmp_path)) == count + 3


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="file"):
        extract(Counted().extractor, IMAGES, run=Run(cache=file))


def test_the_bar_is_on_standard_error(capsys):
    extract(Counted().extractor, IMAGES, run=Run(progress=True))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "pixels" in captured.err
    extract(Counted().extractor, IMAGES)
    assert capsys.readouterr().err == ""


def test_no_images_give_no_features(tmp_path):
    for cache in (None, tmp_path):
        assert extract(pixel_features((1, 8, 8)), IMAGES.subset([]), run=Run(cache=cache)).shape == (0, 64)


def test_batch_sizes_below_one_are_refused():
    for batch_size in (0, -1):
        with pytest.raises(InputError, match="at least 1"):
            extract(pixel_features((1, 8, 8)), IMAGES, run=Run(batch_size=batch_size))


def test_reading_ahead_keeps_order_and_errors():
    def batches():
        yield from IMAGES.batches(8)
        raise InputError("broken image")

    ahead = extract_module._ahead(batches())
    assert torch.equal(torch.cat([next(ahead) for _ in range(7)]), IMAGES.tensor())
    with pytest.raises(InputError, match="broken image"):
        next(ahead)


def test_a_fingerprint_tells_settings_names_types_and_shapes_apart():
    zeros = torch.zeros(2, 3)
    variants = [
        extract_module.fingerprint(settings, arrays)
        for settings, arrays in (
            ({}, {}),
            ({"a": 1}, {}),
            ({}, {"a": zeros}),
            ({}, {"b": zeros}),
            ({}, {"a": zeros.T}),
            ({}, {"a": zeros.int()}),
            ({}, {"a": zeros + 1}),
        )
    ]
    assert len(set(variants)) == len(variants)
    assert extract_module.fingerprint({}, {"a": zeros}) == variants[2]
