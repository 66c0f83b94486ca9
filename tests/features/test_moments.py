"""Means and covariances in files: ours, those of pytorch-fid and TTUR, and every fault."""

import hashlib
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_fid.fid_score import compute_statistics_of_path

from dcgan_eval.features.moments import Statistics, is_statistics, load_statistics, save_statistics
from dcgan_eval.metrics.frechet import fit, frechet_distance
from dcgan_eval.runtime.errors import InputError


def features(n=40, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 3


def saved(path, **changes):
    statistics = Statistics(fit(features()), "CIFAR-10:test", "ab" * 32, "cd" * 32, "pool; grey replicated ∞")
    save_statistics(path, statistics._replace(**changes))
    return statistics


def test_what_is_saved_is_loaded(tmp_path):
    before = saved(tmp_path / "s.npz")
    assert is_statistics(tmp_path / "s.npz")
    after = load_statistics(tmp_path / "s.npz")
    assert after[1:] == before[1:]
    assert after.gaussian.n == 40
    for a, b in zip(after.gaussian[1:], before.gaussian[1:], strict=True):
        assert a.dtype == torch.float64
        assert torch.equal(a, b)
    assert list(tmp_path.iterdir()) == [tmp_path / "s.npz"]


def test_pytorch_fid_reads_ours(tmp_path):
    before = saved(tmp_path / "s.npz")
    mu, sigma = compute_statistics_of_path(str(tmp_path / "s.npz"), None, 1, 6, "cpu")
    assert np.array_equal(mu, before.gaussian.mean)
    assert np.array_equal(sigma, before.gaussian.covariance)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8"])
@pytest.mark.parametrize("more", [{}, {"activations": np.zeros((40, 6))}])
def test_files_of_pytorch_fid_and_ttur(tmp_path, save, dtype, more):
    """np.cov of features, and nothing of the images or the network."""
    x = features().numpy()
    path = tmp_path / "cifar10.npz"
    save(path, mu=x.mean(0).astype(dtype), sigma=np.cov(x, rowvar=False).astype(dtype), **more)
    assert is_statistics(path)
    found = load_statistics(path)
    assert found.gaussian.n == 0
    assert (found.name, found.extractor) == ("cifar10", "")
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.protocol == "statistics of cifar10.npz, extractor not stated"
    assert found.gaussian.mean.dtype == found.gaussian.covariance.dtype == torch.float64
    other = fit(features(seed=1))
    assert frechet_distance(found.gaussian, other) == pytest.approx(frechet_distance(fit(features()), other), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "arrays", "expected"),
    [
        ("s.npz", {"mu": 0, "sigma": 0, "x": 0}, True),
        ("s.npz", {"mu": 0}, False),
        ("s.npz", {"x_train": 0, "y_train": 0}, False),
        ("s.zip", {"mu": 0, "sigma": 0}, False),
    ],
)
def test_images_are_told_from_statistics(tmp_path, name, arrays, expected):
    with open(tmp_path / name, "wb") as file:
        np.savez(file, **arrays)
    assert is_statistics(tmp_path / name) is expected


def test_what_is_no_archive_is_no_statistics(tmp_path):
    (tmp_path / "text.npz").write_text("mu.npy sigma.npy")
    (tmp_path / "folder.npz").mkdir()
    for name in ("text.npz", "folder.npz", "absent.npz"):
        assert not is_statistics(tmp_path / name)


@pytest.mark.parametrize("case", ["a damaged directory", "a name that is too long"])
def test_nor_is_what_cannot_be_opened(tmp_path, case):
    path = tmp_path / "s.npz"
    if case == "a damaged directory":
        saved(path)
        content = bytearray(path.read_bytes())
        content[content.rindex(b"PK\1\2")] = 0
        path.write_bytes(content)
    else:
        path = tmp_path / ("x" * 5000 + ".npz")
    assert not is_statistics(path)


EYE = np.eye(3)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "two dimensions": ({"mu": np.zeros((1, 3))}, r"mu float64 \(1, 3\) and sigma float64 \(3, 3\) are no mean"),
    "a number": ({"mu": np.float64(0)}, r"mu float64 \(\) and sigma"),
    "no dimension": ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, r"mu float64 \(0,\)"),
    "dimensions that differ": ({"mu": np.zeros(4)}, r"mu float64 \(4,\) and sigma float64 \(3, 3\)"),
    "a matrix that is not square": ({"sigma": EYE[:2]}, r"sigma float64 \(2, 3\)"),
    "a vector of variances": ({"sigma": np.ones(3)}, r"sigma float64 \(3,\)"),
    "integers": ({"mu": np.zeros(3, int)}, r"mu int64 \(3,\)"),
    "an integer matrix": ({"sigma": np.eye(3, dtype=int)}, r"sigma int64 \(3, 3\)"),
    "complex numbers": ({"sigma": EYE * 1j}, r"sigma complex128 \(3, 3\)"),
    "text": ({"mu": np.array(["a", "b", "c"])}, r"mu <U1 \(3,\)"),
    "NaN in the mean": ({"mu": np.array([0, np.nan, 0])}, "sigma is not symmetric, or values are not finite"),
    "an infinite mean": ({"mu": np.array([0, np.inf, 0])}, "not finite"),
    "NaN in the matrix": ({"sigma": np.where(EYE > 0, np.nan, 0)}, "not finite"),
    "not symmetric": ({"sigma": EYE + np.triu(np.full((3, 3), 0.1))}, "sigma is not symmetric"),
    "objects": ({"mu": np.array([{}, 1, 2], object)}, "cannot be read: Object arrays cannot be loaded"),
    "objects in the matrix": ({"sigma": np.array([[None]], object)}, "cannot be read: Object arrays"),
    "an object beside": ({"name": np.array({"a": 1}, object)}, "cannot be read: Object arrays"),
}  # fmt: skip


def check_refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        load_statistics(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_are_no_mean_and_covariance(tmp_path, case):
    changes, message = BAD[case]
    np.savez(tmp_path / "s.npz", **({"mu": np.zeros(3), "sigma": EYE} | changes))
    check_refused(tmp_path / "s.npz", message)


@pytest.mark.parametrize("sign", [1, -1])
def test_infinite_covariances(tmp_path, sign):
    np.savez(tmp_path / "s.npz", mu=np.zeros(3), sigma=np.where(EYE > 0, sign * np.inf, 0))
    check_refused(tmp_path / "s.npz", "not finite")


class Trap:
    """Unpickling this makes a folder."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_nothing_is_unpickled(tmp_path):
    array = np.empty(3, object)
    array[0] = Trap(tmp_path / "sprung")
    np.savez(tmp_path / "s.npz", mu=array, sigma=EYE)
    check_refused(tmp_path / "s.npz", "Object arrays")
    array.dump(tmp_path / "t.npz")
    check_refused(tmp_path / "t.npz", "cannot be read")
    assert not (tmp_path / "sprung").exists()
    with np.load(tmp_path / "s.npz", allow_pickle=True) as file:
        assert file["mu"].shape == (3,)
    assert (tmp_path / "sprung").exists()


def test_damaged_files(tmp_path):
    path = tmp_path / "s.npz"
    saved(path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        check_refused(path, "cannot be read")
    flipped = bytearray(whole)
    flipped[whole.index(b"NUMPY") + 150] ^= 1  # within the mean
    path.write_bytes(flipped)
    check_refused(path, "cannot be read: Bad CRC-32")
    np.save(tmp_path / "a.npy", EYE)
    check_refused(tmp_path / "a.npy", "cannot be read")
    check_refused(tmp_path / "absent.npz", "cannot be read")


@pytest.mark.parametrize("case", ["a mean that is not there", "a mean that claims petabytes"])
def test_other_damage(tmp_path, case):
    path = tmp_path / "s.npz"
    if case == "a mean that is not there":
        np.savez(path, sigma=EYE)
    else:
        header = "{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999999,)}\n"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                "mu.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"12"
            )
            archive.writestr("sigma.npy", b"")
    check_refused(path, None)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "s.npz"
    saved(path, name="before")
    before = path.read_bytes()

    def fail(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(InputError, match=re.escape(f"{path}: cannot be written: No space left on device")):
            saved(path, name="after")
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]
    saved(path, name="after")
    assert load_statistics(path).name == "after"


@pytest.mark.parametrize("name", ["absent/s.npz", "."])
def test_a_place_that_cannot_be_written_to(tmp_path, name):
    with pytest.raises(InputError, match=r"cannot be written: .*; choose another file"):
        saved(Path(tmp_path / name))
    assert [*tmp_path.iterdir()] == []
