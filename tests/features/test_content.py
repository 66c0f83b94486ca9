"""The hash of decoded pixels: of the images alone, wherever they come from and however they are read."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch

from dcgan_eval.features import extract, pixel_features, pixel_hash, share
from dcgan_eval.features.content import hashed, remember
from dcgan_eval.images import from_tensor
from dcgan_eval.runtime.run import HERE, Run

X = torch.randint(0, 256, (300, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def images(x=X, name="x"):
    return from_tensor(x, name=name)


def by_definition(x):
    total = 0
    for place, image in enumerate(x):
        digest = hashlib.sha256(place.to_bytes(8, "little") + image.numpy().tobytes()).digest()
        total += int.from_bytes(digest, "little")
    shape = json.dumps([len(x), *x.shape[1:]]).encode()
    return hashlib.sha256(shape + (total % 2**256).to_bytes(32, "little")).hexdigest()


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr("dcgan_eval.features.content._seen", {})


def found(source, run=HERE):
    return pixel_hash(source, range(source.n), run)


def unreadable(source):
    def read(rows):
        raise AssertionError("read again")

    return replace(source, read=read)


def test_it_is_the_definition():
    assert found(images()) == by_definition(X)


@pytest.mark.parametrize("batch_size", [1, 7, 256, 1000])
def test_extraction_finds_it_without_reading_again(batch_size):
    source = images()
    extract(pixel_features(source.shape), source, Run(batch_size=batch_size))
    assert found(unreadable(source)) == by_definition(X)


def test_a_cache_keeps_it(tmp_path, monkeypatch):
    source, run = images(), Run(cache=tmp_path)
    extract(pixel_features(source.shape), source, run)
    found(source, run)
    monkeypatch.setattr("dcgan_eval.features.content._seen", {})
    extract(pixel_features(source.shape), unreadable(source), run)
    assert found(unreadable(source), run) == by_definition(X)


def test_a_cache_without_it_reads_once(tmp_path, monkeypatch):
    source, run = images(), Run(cache=tmp_path)
    extract(pixel_features(source.shape), source, run)
    monkeypatch.setattr("dcgan_eval.features.content._seen", {})
    assert found(source, run) == by_definition(X)
    monkeypatch.setattr("dcgan_eval.features.content._seen", {})
    assert found(unreadable(source), run) == by_definition(X)


@pytest.mark.parametrize(
    "other",
    [X.flip(0), torch.cat([X, X[:1]]), X.flip(1), X.reshape(300, 3, 5, 4), torch.cat([X[:9], X[8:9], X[10:]])],
    ids=["order", "one more", "channels", "shape", "one image"],
)
def test_other_pixels_have_another(other):
    assert found(images(other, "y")) == by_definition(other) != by_definition(X)


def test_parts_of_it_are_of_several_extractions():
    """An extraction that was stopped, and went on: two runs over rows of one set."""
    source = images()
    for rows in (range(120), range(120, 300)):
        part = source.read(rows)
        remember(source, rows, hashed(part, rows.start))
    assert found(unreadable(source)) == by_definition(X)


def test_a_share_of_the_rows_is_a_share_of_the_sum():
    source, extractor = images(), pixel_features((3, 4, 5))
    assert share(extractor, source, HERE.ranks) == range(300)
    halves = [hashed(X[:128], 0), hashed(X[128:], 128)]
    assert sum(halves) % 2**256 == hashed(X, 0)
