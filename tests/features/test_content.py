"""The hash of pixels: of the images alone, however they were read, and only of those that features came from."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch

from dcgan_eval.features import PixelHash, extract, feature_blocks, pixel_features
from dcgan_eval.images import from_tensor
from dcgan_eval.runtime.run import HERE, Run

X = torch.randint(0, 256, (300, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
EXTRACTOR = pixel_features((3, 4, 5))


def images(x=X, name="x"):
    return from_tensor(x, name=name)


def by_definition(x):
    total = 0
    for place, image in enumerate(x):
        digest = hashlib.sha256(place.to_bytes(8, "little") + image.numpy().tobytes()).digest()
        total += int.from_bytes(digest, "little")
    shape = json.dumps([len(x), *x.shape[1:]]).encode()
    return hashlib.sha256(shape + (total % 2**256).to_bytes(32, "little")).hexdigest()


def found(source, run=HERE, extractor=EXTRACTOR):
    seen = PixelHash()
    extract(extractor, source, run, seen)
    return seen.digest(source)


def unreadable(source):
    def read(rows):
        raise AssertionError("read again")

    return replace(source, read=read)


def changed(source):
    """The same files, as a decoder of another version reads them."""
    return replace(source, read=lambda rows: 255 - source.read(rows))


@pytest.mark.parametrize("batch_size", [1, 7, 256, 1000])
def test_it_is_the_definition(batch_size):
    assert found(images(), Run(batch_size=batch_size)) == by_definition(X)


def test_blocks_give_it_too(tmp_path):
    for run in (Run(batch_size=9), Run(cache=tmp_path)):
        seen, source = PixelHash(), images()
        for _ in feature_blocks(EXTRACTOR, source, run, seen):
            pass
        assert seen.digest(source) == by_definition(X)


def test_a_cache_keeps_it(tmp_path):
    source, run = images(), Run(cache=tmp_path)
    assert found(source, run) == found(unreadable(source), run) == by_definition(X)


def test_it_is_of_the_pixels_that_the_features_came_from(tmp_path):
    """One cache, and two decoders: each extractor's features keep the hash of what they were computed from."""
    source, run = images(), Run(cache=tmp_path)
    other = replace(EXTRACTOR, fingerprint="other")
    assert found(source, run) == by_definition(X)
    assert found(changed(source), run, other) == by_definition(255 - X)
    assert found(changed(source), run) == by_definition(X)
    assert found(source, run, other) == by_definition(255 - X)


def test_of_a_cache_without_it_it_is_not_known(tmp_path):
    source, run = images(), Run(cache=tmp_path)
    found(source, run)
    (kept,) = tmp_path.glob("*.pixels")
    for text in (None, "", "300 xyz", "299 0"):
        kept.unlink() if text is None else kept.write_text(text)
        assert found(source, run) == "-"


def test_of_an_extraction_that_was_resumed_it_is_not_known(tmp_path):
    source, run = images(), Run(batch_size=100, cache=tmp_path)

    def read(rows):
        if rows.start >= 200:
            raise KeyboardInterrupt
        return source.read(rows)

    with pytest.raises(KeyboardInterrupt):
        found(replace(source, read=read), run)
    assert found(source, run) == "-"


def test_damaged_features_lose_it(tmp_path):
    source, run = images(), Run(cache=tmp_path)
    found(source, run)
    (features,) = tmp_path.glob("*.npy")
    features.write_bytes(b"")
    assert found(changed(source), run) == by_definition(255 - X)


@pytest.mark.parametrize(
    "other",
    [X.flip(0), torch.cat([X, X[:1]]), X.flip(1), X.reshape(300, 3, 5, 4), torch.cat([X[:9], X[8:9], X[10:]])],
    ids=["order", "one more", "channels", "shape", "one image"],
)
def test_other_pixels_have_another(other):
    source = images(other, "y")
    assert found(source, extractor=pixel_features(source.shape)) == by_definition(other) != by_definition(X)


def test_a_share_of_the_rows_is_a_share_of_the_sum():
    whole, halves = PixelHash(), PixelHash()
    whole.add(X, 0)
    for start in (128, 0):
        part = PixelHash()
        part.add(X[start : start + 128 if start == 0 else None], start)
        halves.merge(part)
    assert halves.digest(images()) == whole.digest(images()) == by_definition(X)
