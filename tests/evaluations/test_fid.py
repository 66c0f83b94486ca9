"""Two sets of images → numbers: beside torch-fidelity, torchmetrics and prdc, and what must not change them."""

import io
import math
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from prdc import compute_prdc
from torch import nn
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from dcgan_eval.evaluations import fid as evaluation
from dcgan_eval.evaluations.fid import fid
from dcgan_eval.features import extract, inception_features, pixel_features
from dcgan_eval.features.moments import Statistics, load_statistics, save_statistics
from dcgan_eval.images import fitted, from_tensor, open_split
from dcgan_eval.metrics import extrapolation
from dcgan_eval.metrics.extrapolation import frechet_distance_at_infinity
from dcgan_eval.metrics.frechet import Gaussian, fit, frechet_distance
from dcgan_eval.models.checkpoint import load
from dcgan_eval.models.sampling import samples
from dcgan_eval.options import FidOptions, MetricName
from dcgan_eval.results.intervals import jackknife
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.run import HERE, Run
from tests.builders import features, frechet_by_definition, of_size, toy


@pytest.fixture(autouse=True)
def little(monkeypatch):
    """Sets of 20 to 50 images are enough to extrapolate: 12 features would want 60."""
    monkeypatch.setattr(extrapolation, "PER_FEATURE", 0.5)


EVERYTHING: tuple[MetricName, ...] = ("fid", "is", "kid", "prdc", "fid-infinity")
QUICK = FidOptions(EVERYTHING, kid_subsets=3, kid_subset_size=15, is_splits=4, prdc_k=3)


@pytest.fixture(scope="module")
def reals(photographs):
    return from_tensor(of_size(photographs(50), 8, 8), name="photographs:test")


@pytest.fixture(scope="module")
def fakes(photographs):
    """Less contrast, so that no side of a number can be taken for the other."""
    return from_tensor((of_size(photographs(40, start=500), 8, 8) * 0.8).byte(), name="gen:toy")


def numbers(real, fake, extractor=None, settings=QUICK, run=HERE, **options):
    """Rows by metric, of one set of fakes or several."""
    several = fake if isinstance(fake, list) else [fake]
    found = list(fid(real, several, extractor or toy(), settings, run, **options))
    assert len({row.metric for row in found}) == len(found)
    return {row.metric: row for row in found}


def values(found):
    return {name: row.value for name, row in found.items()}


def check_equal(found, expected, relative=1e-6):
    assert values(found) == pytest.approx(values(expected), rel=relative, abs=1e-9)


# with Inception


class Tensors(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i]


INCEPTION = FidOptions(("fid", "is", "kid", "prdc"), seed=7, kid_subsets=5, kid_subset_size=20, is_splits=10, prdc_k=3)


@pytest.fixture(scope="module")
def photos(photographs):
    """CIFAR-10 as it is, and others with less contrast: 40 reals, 32 fakes."""
    return photographs(40, start=200), (photographs(32, start=300) * 0.8 + 20).byte()


@pytest.fixture(scope="module")
def of_inception(photos, weights):
    extractor = inception_features(weights=weights, logits=True)
    real, fake = (from_tensor(images, name=name) for images, name in zip(photos, ("real", "fake"), strict=True))
    return numbers(real, fake, extractor, INCEPTION)


@pytest.fixture(scope="module")
def of_torch_fidelity(photos, weights, tmp_path_factory):
    """Its numbers, and the features that they came from."""
    cache = tmp_path_factory.mktemp("fidelity")
    found = calculate_metrics(
        input1=Tensors(photos[1]), input2=Tensors(photos[0]), input1_cache_name="fake", input2_cache_name="real",
        cache_root=str(cache), isc=True, fid=True, kid=True, prc=True, feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights), isc_splits=10, kid_subsets=5,
        kid_subset_size=20, prc_neighborhood=3, rng_seed=7, batch_size=8, cuda=False, save_cpu_ram=True, verbose=False,
    )  # fmt: skip
    return found, [torch.load(cache / f"{side}-inception-v3-compat-features-2048.pt") for side in ("real", "fake")]


def test_numbers_are_those_of_torch_fidelity(of_inception, of_torch_fidelity):
    peer, (real, fake) = of_torch_fidelity
    assert of_inception["Fréchet distance"].value == pytest.approx(peer["frechet_inception_distance"], rel=1e-4)
    assert of_inception["Fréchet distance"].value > 1
    score = of_inception["classifier score"]
    assert (score.value, score.spread) == pytest.approx(
        (peer["inception_score_mean"], peer["inception_score_std"]), rel=1e-4
    )
    assert score.value > 1.001
    for name in ("precision", "recall"):
        assert of_inception[name].value == pytest.approx(peer[name], abs=1e-6)
    assert len({0, of_inception["precision"].value, of_inception["recall"].value, 1}) == 4
    expected = compute_prdc(real.numpy(), fake.numpy(), 3)
    for name, value in expected.items():
        assert of_inception[name].value == pytest.approx(value, rel=1e-6)


def kid_of_peer(first, second):
    found = kid_features_to_metric(first, second, kid_subsets=5, kid_subset_size=20, rng_seed=7, verbose=False)
    return found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"]


def test_subsets_are_those_of_torch_fidelity(of_inception, of_torch_fidelity):
    peer, (real, fake) = of_torch_fidelity
    mean, std = kid_of_peer(fake, real)
    assert (mean, std) == (peer["kernel_inception_distance_mean"], peer["kernel_inception_distance_std"])
    found = of_inception["kernel distance"]
    assert (found.value, found.spread) == pytest.approx((mean, std), rel=1e-4, abs=1e-5)


def test_the_kernel_distance_is_torch_fidelitys_one_way_round(of_inception, of_torch_fidelity):
    """Its tolerance is that of products in single precision, of values up to 5³."""
    _, (real, fake) = of_torch_fidelity
    found = of_inception["kernel distance"]
    ways = [kid_of_peer(real, fake), kid_of_peer(fake, real)]
    assert any((found.value, found.spread) == pytest.approx(way, rel=1e-4, abs=1e-5) for way in ways)
    assert found.value > 1e-3


def test_rows_carry_their_protocol(of_inception, weights):
    fingerprint = inception_features(weights=weights, logits=True).fingerprint
    for row in of_inception.values():
        assert (row.task, row.data, row.model, row.features) == ("fid", "real", "fake", "inception-like")
        assert (row.n, row.n_reference) == (32, 40)
        assert (row.features_sha256, row.layer, row.unit, row.seed) == (fingerprint, "all", "", 7)
        assert "resized to 299x299, bilinear as TensorFlow 1" in row.features_protocol
        assert "weights " in row.features_protocol
        assert row.features_protocol.endswith("float32")
        assert row.data_sha256 != row.model_sha256
        assert min(row.seconds_features, row.seconds) > 0
        assert (row.C, row.gap, row.device) == (None, None, "cpu")
        assert "torch-fidelity " in row.versions
    dimensions = {name: row.dimensions for name, row in of_inception.items() if row.dimensions != 2048}
    assert dimensions == {"classifier score": 1008}
    assert of_inception["Fréchet distance"].method == "Fréchet distance of Gaussians, covariances over n - 1"
    assert of_inception["kernel distance"].method == "unbiased MMD², kernel (x·y/d + 1)³, 5 subsets of 20, seed 7"
    assert of_inception["kernel distance"].spread_n == 5
    assert of_inception["classifier score"].method == "exp KL(p(y|x), p(y)), 10 splits, shuffled with seed 7"
    assert of_inception["classifier score"].spread_n == 10
    assert of_inception["coverage"].method == "balls to the 3-th nearest neighbour, open"
    assert list(of_inception) == [
        "Fréchet distance", "classifier score", "kernel distance", "precision", "recall", "density", "coverage",
    ]  # fmt: skip


# with a toy


def test_numbers_are_their_definitions(reals, fakes):
    extractor = toy()
    real, fake = (extract(extractor, images)[:, :12] for images in (reals, fakes))
    found = numbers(reals, fakes, extractor)
    assert found["Fréchet distance"].value == pytest.approx(frechet_by_definition(real, fake), rel=1e-6)
    logits = extract(extractor, fakes)[:, 12:]
    score = isc_features_to_metric(logits, 4, rng_seed=0)
    assert found["classifier score"].value == pytest.approx(score["inception_score_mean"], rel=1e-6)
    assert found["classifier score"].spread == pytest.approx(score["inception_score_std"], rel=1e-5)
    shares = compute_prdc(real.numpy(), fake.numpy(), 3)
    assert {name: found[name].value for name in shares} == pytest.approx(shares)
    assert len(set(shares.values())) == 4
    line = frechet_distance_at_infinity(fit(real), fake, seed=0)
    assert found["Fréchet distance∞"].value == pytest.approx(line.intercept, rel=1e-6)
    assert found["Fréchet distance∞"].spread is None


def test_a_subset_of_all_is_no_matter_of_chance(reals, fakes):
    few = reals.subset(range(40))
    settings = FidOptions(("kid",), kid_subsets=2, kid_subset_size=40)
    real, fake = (extract(toy(), images)[:, :12].double() for images in (few, fakes))
    peer = kid_features_to_metric(fake, real, kid_subsets=1, kid_subset_size=40, verbose=False)
    found = numbers(few, fakes, settings=settings)["kernel distance"]
    assert found.value == pytest.approx(peer["kernel_inception_distance_mean"], rel=1e-6)
    assert found.spread == pytest.approx(0, abs=1e-9)


class Features(nn.Module):
    num_features = 12

    def forward(self, images):
        return toy()(images)[:, :12]


def test_the_distance_is_that_of_torchmetrics(reals, fakes):
    peer = FrechetInceptionDistance(feature=Features(), antialias=False)
    for images, is_real in ((reals, True), (fakes, False)):
        for batch in images.batches(16):
            peer.update(batch, real=is_real)
    assert numbers(reals, fakes)["Fréchet distance"].value == pytest.approx(float(peer.compute()), rel=1e-5)


def test_a_set_against_itself(reals):
    found = values(numbers(reals, reals))
    assert found["Fréchet distance"] == pytest.approx(0, abs=1e-6)
    assert found["precision"] == found["recall"] == found["coverage"] == 1


def test_batches_change_nothing(reals, fakes):
    expected = numbers(reals, fakes)
    for size in (1, 7, 1000):
        check_equal(numbers(reals, fakes, run=Run(batch_size=size)), expected, 1e-5)


def test_a_cache_changes_nothing_and_saves_the_extraction(reals, fakes, tmp_path):
    expected = numbers(reals, fakes)
    assert values(numbers(reals, fakes, run=Run(cache=tmp_path))) == values(expected)
    assert len(list(tmp_path.glob("*.npy"))) == 2

    def fail(device):
        raise AssertionError("extracted again")

    broken = replace(toy(), on=fail)
    assert values(numbers(reals, fakes, broken, run=Run(cache=tmp_path))) == values(expected)
    check_equal(numbers(reals, fakes, broken, run=Run(cache=tmp_path, batch_size=7)), expected)
    with pytest.raises(AssertionError):
        numbers(reals, fakes, broken)


def test_the_seed_decides_draws_only(reals, fakes):
    first, second = (numbers(reals, fakes, settings=replace(QUICK, seed=seed)) for seed in (0, 1))
    drawn = {"kernel distance", "classifier score", "Fréchet distance∞"}
    assert {name for name in first if first[name].value != second[name].value} == drawn
    assert {row.seed for row in second.values()} == {1}


def test_sums_are_all_that_is_kept_where_they_suffice(reals, fakes, monkeypatch):
    kept, measure = [], evaluation._measure

    def looking(metric, real, fake, *rest):
        kept.append((metric, real.features is not None, fake.features is not None))
        return measure(metric, real, fake, *rest)

    monkeypatch.setattr(evaluation, "_measure", looking)
    for metrics in (("fid", "is"), ("kid",), ("prdc",), ("fid-infinity",)):
        numbers(reals, fakes, settings=replace(QUICK, metrics=metrics))
    assert kept == [
        ("fid", False, False),
        ("is", False, False),
        ("kid", True, True),
        ("prdc", True, True),
        ("fid-infinity", False, True),
    ]


def test_every_side_is_read_once(reals, fakes):
    read = []

    def counting(images):
        def look(rows):
            read.extend(rows)
            return images.read(rows)

        return replace(images, read=look)

    numbers(counting(reals), counting(fakes), run=Run(batch_size=16))
    assert read == [*range(50), *range(40)]


# files


def png(pixels):
    file = io.BytesIO()
    array = pixels.permute(1, 2, 0).numpy()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(file, "PNG")
    return file.getvalue()


def write_zip(path, files, backwards=False, split=""):
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files, reverse=backwards):
            archive.writestr(name, files[name])
    return open_split(f"{path}{split}")


def encoded(images):
    return {f"{i:03}.png": png(image) for i, image in enumerate(images.tensor())}


def test_files_give_what_tensors_give_in_whatever_order_they_are_stored(reals, fakes, tmp_path):
    expected = numbers(reals, fakes)
    for backwards in (False, True):
        images = write_zip(tmp_path / "z.zip", encoded(fakes), backwards)
        assert values(numbers(reals, images)) == values(expected)


def test_the_order_of_images_matters_to_draws_only(reals, fakes):
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    settings = replace(QUICK, metrics=("fid", "prdc"))
    check_equal(
        numbers(reals.subset(torch.arange(49, -1, -1)), fakes.subset(order), settings=settings),
        numbers(reals, fakes, settings=settings),
        1e-9,
    )


def test_images_of_several_sizes_are_fitted_each_and_counted_in_their_order(reals, fakes, tmp_path):
    """Shuffles and subsets go by the order of the files, not by that of the sizes."""
    files, expected = encoded(fakes), fakes.tensor().clone()
    for i, image in enumerate(fakes.tensor()[:, None]):
        if i % 3 == 1:
            image = of_size(image, 12, 9)
        elif i % 3 == 2:
            image = image[:, 1:2]
        files[f"{i:03}.png"] = png(image[0])
        expected[i] = fitted(from_tensor(image, name="one"), (3, 8, 8))[0].tensor()[0]
    found = numbers(reals, write_zip(tmp_path / "z.zip", files), run=Run(batch_size=5))
    check_equal(found, numbers(reals, from_tensor(expected, name="all")), 1e-5)
    assert values(found) != values(numbers(reals, fakes))
    for row in found.values():
        assert row.features_protocol == (
            "toy of seed 0; "
            "z: 13 images 12x9 resized to 8x8, bilinear, antialiased; z: 13 images grey replicated to RGB"
        )
        assert row.n == 40
    cached = numbers(reals, write_zip(tmp_path / "z.zip", files), run=Run(cache=tmp_path / "cache"))
    check_equal(cached, found)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 4


def test_grey_and_larger_reals_are_fitted_too(reals, fakes):
    grey = from_tensor(of_size(reals.tensor()[:, :1], 10, 10), name="grey")
    for row in numbers(grey, fakes).values():
        assert row.features_protocol == (
            "toy of seed 0; grey: grey replicated to RGB; 10x10 resized to 8x8, bilinear, antialiased"
        )


def corrupted(files, broken):
    return files | {f"{i:03}.png": b"\x89PNG\r\n\x1a\nno" for i in broken}


@pytest.mark.parametrize("broken", [[0], [39], [3, 4, 17, 25]])
def test_corrupt_files_are_left_out_if_asked(reals, fakes, tmp_path, broken):
    images = write_zip(tmp_path / "z.zip", corrupted(encoded(fakes), broken))
    kept = fakes.subset([i for i in range(40) if i not in broken])
    found = numbers(reals, images, run=Run(batch_size=7), skip_corrupt=True)
    check_equal(found, numbers(reals, kept), 1e-5)
    named = ", ".join(rf"'{i:03}.png' \(.+?\)" for i in broken[:3]) + ", …" * (len(broken) > 3)
    for row in found.values():
        assert (row.n, row.n_reference) == (kept.n, 50)
        note = row.features_protocol.partition("; ")[2]
        assert re.fullmatch(rf"z: {len(broken)} of 40 files cannot be read: {named}; left out", note)
    message = rf"z: {len(broken)} of 40 files cannot be read: {named}; replace them, or .* with `skip_corrupt`"
    for sides in ((reals, images), (images, fakes)):
        with pytest.raises(InputError, match=message) as caught:
            numbers(*sides)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "left", "message"),
    [
        ("kid", 14, "z: 14 images are too few for kid: a subset of 15 needs 15; the largest possible"),
        ("prdc", 3, "z: 3 images are too few for prdc: the 3-th neighbour needs 4; the largest possible `prdc_k` is 2"),
        ("is", 3, "z: 3 images are too few for is: 4 splits need 4; the largest possible `is_splits` is 3"),
        ("fid", 1, "z: a covariance needs at least two images, not 1"),
        ("fid-infinity", 19, "z: 19 images are too few for fid-infinity: the extrapolation needs subsets of 0.5 "
         "samples for each of 12 features, and so 20 samples"),
    ],
)  # fmt: skip
def test_what_is_left_must_suffice(reals, fakes, tmp_path, metric, left, message):
    images = write_zip(tmp_path / "z.zip", corrupted(encoded(fakes), range(left, 40)))
    with pytest.raises(InputError, match=message):
        numbers(reals, images, settings=replace(QUICK, metrics=(metric,)), skip_corrupt=True)


def test_nothing_left(reals, tmp_path):
    files = {"train/0.png": png(reals.tensor()[0])} | {f"test/{i}.png": b"no" for i in range(3)}
    images = write_zip(tmp_path / "z.zip", files, split=":test")
    with pytest.raises(InputError, match="z:test: a covariance needs at least two images, not 0"):
        numbers(reals, images, settings=FidOptions(("fid",)), skip_corrupt=True)


# statistics


def saved(images, extractor=None, **options):
    kept: list[Statistics] = []
    assert list(fid(images, [], extractor or toy(), FidOptions(("fid",)), save=kept.append, **options)) == []
    return kept[0]


def test_rows_have_a_hash_of_the_pixels_of_both_sets(reals, fakes):
    hashes = {row.pixels_sha256 for row in numbers(reals, fakes).values()}
    ((real, fake),) = (found.split() for found in hashes)
    assert real != fake
    assert {len(real), len(fake)} == {64}
    both = numbers(reals, fakes, settings=FidOptions(("is",)), classifier=toy())  # one network for both
    assert both["classifier score"].pixels_sha256 == f"{real} {fake}"
    known = numbers(saved(reals), fakes, settings=FidOptions(("fid",)))["Fréchet distance"]
    assert known.pixels_sha256 == f"- {fake}"


def test_statistics_stand_for_images(reals, fakes, tmp_path):
    settings = replace(QUICK, metrics=("fid", "is", "fid-infinity"))
    expected = numbers(reals, fakes, settings=settings)
    kept = saved(reals)
    assert (kept.name, kept.sha256, kept.gaussian.n) == (reals.name, reals.sha256, 50)
    assert (kept.extractor, kept.protocol) == (toy().fingerprint, toy().protocol)
    save_statistics(tmp_path / "s.npz", kept)
    for statistics in (kept, load_statistics(tmp_path / "s.npz")):
        found = numbers(statistics, fakes, settings=settings)
        check_equal(found, expected, 1e-9)
        for name, row in found.items():
            assert (row.data, row.data_sha256, row.n_reference) == (reals.name, reals.sha256, 50)
            assert (row.model_sha256, row.method) == (expected[name].model_sha256, expected[name].method)
            assert row.features_protocol.startswith("toy of seed 0")
    fid = FidOptions(("fid",))
    backwards = numbers(reals, saved(fakes), settings=fid)["Fréchet distance"]
    assert backwards.value == pytest.approx(expected["Fréchet distance"].value, rel=1e-9)
    assert (backwards.model, backwards.n) == ("gen:toy", 40)


def test_the_extractor_is_said_once(reals, fakes):
    row = numbers(saved(reals), fakes, settings=FidOptions(("fid",)))["Fréchet distance"]
    assert row.features_protocol == "toy of seed 0"


def test_statistics_say_what_was_done_to_the_images(reals):
    grey = from_tensor(of_size(reals.tensor()[:, :1], 10, 10), name="grey")
    kept = saved(grey)
    assert kept.protocol == "toy of seed 0; grey: grey replicated to RGB; 10x10 resized to 8x8, bilinear, antialiased"
    assert kept.extractor == toy().fingerprint  # so that they fit images of any size


def test_statistics_of_others_are_taken_at_their_word(fakes):
    """They state neither images nor extractor."""
    foreign = Statistics(fit(features(1, 30, 12))._replace(n=0), "cifar10", "ab", "", "statistics of cifar10.npz")
    row = numbers(foreign, fakes, settings=FidOptions(("fid",)))["Fréchet distance"]
    assert (row.n, row.n_reference) == (40, 0)
    assert row.features_protocol == "toy of seed 0; statistics of cifar10.npz"
    row = numbers(fakes, foreign, settings=FidOptions(("fid",)))["Fréchet distance"]
    assert (row.n, row.model, row.n_reference) == (0, "cifar10", 40)


def test_statistics_that_are_none(fakes):
    broken = Statistics(Gaussian(30, torch.zeros(12).double(), -torch.eye(12).double()), "cifar10", "ab", "", "x")
    with pytest.raises(InputError, match="fid of gen:toy and cifar10: not a covariance") as caught:
        numbers(broken, fakes, settings=FidOptions(("fid",)))
    assert "\n" not in str(caught.value)


# several seeds


def test_every_number_of_one_set_has_an_interval_of_a_named_kind(reals, fakes):
    found = numbers(reals, fakes)
    kinds = {name: (row.interval, row.interval_n, row.interval_of) for name, row in found.items()}
    generated = (fakes.n, "generated images")
    assert kinds == {
        "Fréchet distance": ("jackknife", 10, "blocks of generated images"),
        "Fréchet distance∞": ("", 0, ""),
        "kernel distance": ("U-statistic", *generated),
        "classifier score": ("Student's t", found["classifier score"].spread_n, "splits"),
        "precision": ("Wilson", *generated),
        "recall": ("Wilson", reals.n, "real images, for this generated set"),
        "density": ("Student's t", *generated),
        "coverage": ("jackknife", 10, "blocks of generated images"),
    }
    assert all(row.low < row.value < row.high for row in found.values() if row.interval)
    assert found["Fréchet distance"].remark == "bias not known: fewer than 6 generated images per feature"
    many = from_tensor(torch.cat([fakes.tensor()] * 2), name="twice")
    assert "bias of about" in numbers(reals, many)["Fréchet distance"].remark
    assert numbers(fakes, reals)["Fréchet distance"].low != found["Fréchet distance"].low


def test_the_interval_of_a_distance_is_the_jackknife_of_random_blocks(reals, fakes):
    row = numbers(reals, fakes, settings=replace(QUICK, metrics=("fid",)))["Fréchet distance"]
    x, y = (extract(toy(), images)[:, :12] for images in (reals, fakes))
    blocks = evaluation.random_blocks(fakes.n, QUICK.seed)
    assert torch.cat(blocks).sort().values.tolist() == list(range(fakes.n))
    without = []
    for some in blocks:
        kept = torch.ones(fakes.n, dtype=torch.bool)
        kept[some] = False
        without.append(frechet_distance(fit(x), fit(y[kept])))
    expected = jackknife(row.value, without, "")[0]
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))


def test_where_no_interval_is_known_there_is_none(reals, fakes, monkeypatch):
    def kinds(real, fake, **changes):
        return {name: row.interval for name, row in numbers(real, fake, settings=replace(QUICK, **changes)).items()}

    assert kinds(reals, fakes.subset(range(19)), metrics=("fid",))["Fréchet distance"] == ""
    assert kinds(reals, fakes, metrics=("is",), is_splits=1)["classifier score"] == ""
    assert kinds(reals, fakes, metrics=("kid",), kid_subset_size=3)["kernel distance"] == ""
    monkeypatch.setattr(evaluation, "WIDEST", 1)
    assert kinds(reals, fakes, metrics=("fid",))["Fréchet distance"] == ""


def test_several_seeds_give_a_mean_and_a_spread(reals):
    checkpoint = load("digits")
    assert checkpoint.generator is not None
    drawn = [samples(checkpoint.generator, 40, seed=seed, name="gen:digits", sha256="abc") for seed in range(3)]
    real = open_split("digits:test").subset(range(50))
    extractor = replace(toy(), protocol="toy")
    single = [numbers(real, one, extractor) for one in drawn]
    found = numbers(real, drawn, extractor)
    for name, row in found.items():
        each = np.array([one[name].value for one in single])
        assert row.value == pytest.approx(each.mean(), rel=1e-9)
        assert row.spread == pytest.approx(each.std(ddof=1), rel=1e-9)
        assert (row.spread_kind, row.spread_n, row.spread_of) == ("standard deviation", 3, "sample sets")
        assert row.draws_low is not None
        assert row.draws_high is not None
        assert row.draws_low < row.value < row.draws_high
        assert row.draws == tuple(each)
        assert row.model_sha256 == "abc"
        assert (row.model, row.n, row.method) == ("gen:digits", 40, single[0][name].method)
        assert single[0][name].spread_of != row.spread_of
        assert single[0][name].draws_low is None
    assert single[0]["Fréchet distance"].spread is None
    assert found["Fréchet distance"].spread > 0


# a classifier


def test_a_classifier_gives_the_score(reals, fakes):
    judge = toy("judge", d=7, classes=0, seed=3)
    found = numbers(reals, fakes, classifier=judge)
    plain = numbers(reals, fakes)
    expected = isc_features_to_metric(extract(judge, fakes), 4, rng_seed=0)
    row = found.pop("classifier score")
    assert row.value == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    assert (row.features, row.features_sha256, row.dimensions) == ("judge", judge.fingerprint, 7)
    assert row.features_protocol == "toy of seed 3"
    assert plain.pop("classifier score").value != row.value
    assert values(found) == values(plain)
    assert {other.features for other in found.values()} == {"toy"}


def test_a_classifier_sees_images_of_its_own_shape(reals, fakes, tmp_path):
    """Beside features of another; with corrupt files, in the order of those that are left."""
    judge = pixel_features((1, 4, 4))
    images = write_zip(tmp_path / "z.zip", corrupted(encoded(fakes), [0, 5]))
    settings = replace(QUICK, metrics=("is", "fid"))
    found = numbers(reals, images, settings=settings, classifier=judge, skip_corrupt=True)
    kept = fakes.subset([i for i in range(40) if i not in (0, 5)])
    check_equal(found, numbers(reals, kept, settings=settings, classifier=judge), 1e-6)
    assert "z: RGB made grey by its luma; 8x8 resized to 4x4, bilinear" in found["classifier score"].features_protocol
    assert found["classifier score"].features == "pixels"


# names


INCEPTIONS = {"FID", "IS", "KID", "FID∞"}


@pytest.mark.parametrize("name", ["toy", "inception-like", "Inception", "module:inception", "disc:inception", "pixels"])
def test_only_inceptions_numbers_have_its_names(reals, fakes, name):
    found = numbers(reals, fakes, toy(name))
    assert not INCEPTIONS & set(found)
    assert not any(word in str(row.method) for row in found.values() for word in INCEPTIONS)
    published = numbers(reals, fakes, replace(toy(name), name="inception"))
    assert set(published) - {"precision", "recall", "density", "coverage"} == INCEPTIONS
    assert [*values(published).values()] == [*values(found).values()]
    judged = numbers(reals, fakes, replace(toy(name), name="inception"), classifier=toy("judge", classes=0))
    assert INCEPTIONS - set(judged) == {"IS"}  # another classifier than Inception


# what cannot be


def unreadable(n):
    def read(rows):
        raise AssertionError("an image was read")

    return replace(from_tensor(torch.zeros(n, 3, 8, 8, dtype=torch.uint8), name=f"{n} images"), read=read)


def statistics(d=12, extractor="toy 0"):
    return Statistics(fit(features(1, 30, d)), "stats", "ab", extractor, "toy of another seed")


MANY = unreadable(100)
PLAIN = toy(classes=0)
WRONG = {
    "no logits": (MANY, [MANY], PLAIN, ("is",), r"metric 'is' needs class probabilities, which toy has not; name one"),
    "no logits among others": (MANY, [MANY], PLAIN, EVERYTHING, "needs class probabilities"),
    "one real": (unreadable(1), [MANY], toy(), ("fid",), "1 images: a covariance needs at least two images, not 1"),
    "one fake": (MANY, [unreadable(1)], toy(), ("fid",), "1 images: a covariance needs at least two images, not 1"),
    "no fake": (MANY, [unreadable(0)], toy(), ("is",), "0 images: a covariance needs at least two images, not 0"),
    "few reals for kid": (
        unreadable(14), [MANY], toy(), ("fid", "kid"),
        "14 images: 14 images are too few for kid: .* the largest possible `kid_subset_size` is 14$",
    ),
    "few fakes for kid": (MANY, [unreadable(14)], toy(), ("kid",), "too few for kid: a subset of 15 needs 15; "),
    "few reals for prdc": (
        unreadable(3), [MANY], toy(), ("prdc",),
        "3 images are too few for prdc: the 3-th neighbour needs 4; the largest possible `prdc_k` is 2$",
    ),
    "few fakes for prdc": (MANY, [unreadable(3)], toy(), ("prdc",), "3 images are too few for prdc"),
    "few fakes for is": (
        MANY, [unreadable(3)], toy(), ("is",),
        "3 images are too few for is: 4 splits need 4; the largest possible `is_splits` is 3$",
    ),
    "few fakes for fid-infinity": (
        MANY, [unreadable(19)], toy(), ("fid-infinity",), "19 images are too few for fid-infinity: .* so 20 samples$",
    ),
    "few in a second sample": (MANY, [MANY, unreadable(3)], toy(), ("prdc",), "3 images are too few for prdc"),
    "kid of statistics": (statistics(), [MANY], toy(), ("kid",), "stats: holds statistics only, but kid needs its ima"),
    "more of statistics": (statistics(), [MANY], toy(), ("fid", "kid", "prdc"), "statistics only, but kid, prdc needs"),
    "is of fake statistics": (MANY, [statistics()], toy(), ("is", "fid-infinity"), "only, but is, fid-infinity needs"),
    "statistics of other dimensions": (
        statistics(d=17), [MANY], toy(), ("fid",),
        "stats: statistics of 17 dimensions, but toy has 12; save them with the same features",
    ),
    "statistics of another extractor": (
        statistics(extractor="toy 1"), [MANY], toy(), ("fid",),
        r"stats: statistics of another extractor \(toy of another seed\), not of toy \(toy of seed 0\); save them",
    ),
    "fakes of another extractor": (MANY, [statistics(extractor="toy 1")], toy(), ("fid",), "of another extractor"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_known_to_fail_is_said_before_an_image_is_read(case):
    real, several, extractor, metrics, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        next(fid(real, several, extractor, replace(QUICK, metrics=metrics)))
    assert "\n" not in str(caught.value)


def test_what_is_enough(reals, fakes):
    """The counts that the messages name."""
    few = FidOptions(EVERYTHING, kid_subsets=1, kid_subset_size=20, is_splits=20, prdc_k=19)
    assert math.isfinite(sum(values(numbers(reals.subset(range(20)), fakes.subset(range(20)), settings=few)).values()))
    fewer = FidOptions(("fid", "is", "kid", "prdc"), kid_subsets=1, kid_subset_size=2, is_splits=2, prdc_k=1)
    numbers(reals.subset(range(2)), fakes.subset(range(2)), settings=fewer)
    settings = FidOptions(("is", "fid-infinity"))  # which need no more of the reals
    numbers(reals.subset(range(2)), fakes, settings=settings)
    numbers(reals.subset(range(2)), fakes, settings=settings, classifier=toy("judge", classes=0))


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (("fdi",), "`metrics` 'fdi': unknown; did you mean 'fid'"),
        (("fid", "FID"), "`metrics` 'FID': unknown"),
        (("",), "`metrics` '': unknown"),
        ((), r"`metrics` '': name each once, of fid, is, kid, prdc, fid-infinity"),
        (("fid", "kid", "fid"), "`metrics` 'fid,kid,fid': name each once"),
    ],
)
def test_settings(metrics, message):
    with pytest.raises(InputError, match=message):
        FidOptions(metrics)


def test_a_subset_of_one(reals, fakes):
    with pytest.raises(InputError, match="`kid_subset_size` 1: want 2 or more"):
        numbers(reals, fakes, settings=FidOptions(("kid",), kid_subset_size=1))


def test_features_that_are_not_finite(reals, fakes):
    def function(images):
        return torch.full((len(images), 17), torch.nan)

    with pytest.raises(InputError, match="toy: features of photographs:test are not finite; its weights have diverged"):
        numbers(reals, fakes, replace(toy(), on=lambda device: function))


def test_the_distance_of_a_constant_set(reals):
    """A generator that collapsed: no error, but a number."""
    same = from_tensor(reals.tensor()[:1].expand(40, 3, 8, 8).contiguous(), name="collapsed")
    found = values(numbers(reals, same))
    real, point = extract(toy(), reals)[:, :12].double(), extract(toy(), same)[:1, :12].double()
    expected = float((real.mean(0) - point).square().sum() + torch.cov(real.T).trace())
    assert found["Fréchet distance"] == pytest.approx(expected, rel=1e-6)
    assert found["classifier score"] == pytest.approx(1)


def test_few_samples_of_many_features_are_not_extrapolated(reals, fakes, monkeypatch):
    monkeypatch.setattr(extrapolation, "PER_FEATURE", 2.5)
    message = (
        "gen:toy: 40 images are too few for fid-infinity: .* 2.5 samples for each of 12 features, and so 60 samples$"
    )
    with pytest.raises(InputError, match=message):
        numbers(reals, fakes, settings=FidOptions(("fid-infinity",)))
