"""Images made to fit a network, beside Pillow's conversions."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from dcgan_eval.features import extract, pixel_features
from dcgan_eval.images import fitted, fitting, from_tensor, min_resized, open_split
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.run import Run


def photographs(n, *shape):
    """Blots with noise, so that both smooth and sharp places are resized."""
    generator = torch.Generator().manual_seed(0)
    blots = functional.interpolate(torch.rand(n, shape[0], 4, 4, generator=generator), shape[1:], mode="bicubic")
    noise = torch.randn(n, *shape, generator=generator)
    return from_tensor((255 * blots + 30 * noise).clamp(0, 255).byte(), torch.arange(n), name="blots")


def by_pillow(images, change):
    pixels = [image.permute(1, 2, 0).squeeze(2).numpy() for image in images.tensor()]
    found = torch.from_numpy(np.stack([np.asarray(change(Image.fromarray(array))) for array in pixels]))
    return found.permute(0, 3, 1, 2) if found.ndim == 4 else found[:, None]


def largest(a, b):
    assert (a.shape, a.dtype, b.dtype) == (b.shape, torch.uint8, torch.uint8)
    return int((a.int() - b.int()).abs().max())


def test_nothing_is_done_where_nothing_need_be():
    images = photographs(2, 3, 8, 8)
    for shape in ((3, 8, 8), (3, None, None), (None, 8, None)):
        assert fitted(images, shape) == (images, "")


def test_grey_is_replicated():
    images = photographs(3, 1, 8, 9)
    found, what = fitted(images, (3, None, None))
    assert what == "grey replicated to RGB"
    assert found.shape == (3, 8, 9)
    assert torch.equal(found.tensor(), images.tensor().expand(3, 3, 8, 9))


def test_colour_becomes_its_luma():
    pixels = photographs(8, 3, 30, 40).tensor()
    for i, colour in ((5, [255, 0, 0]), (6, [255, 255, 255]), (7, [0, 0, 0])):
        pixels[i] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    images = from_tensor(pixels, name="colours")
    found, what = fitted(images, (1, None, None))
    assert what == "RGB made grey by its luma"
    grey, expected = found.tensor(), by_pillow(images, lambda image: image.convert("L"))
    assert largest(grey, expected) <= 1
    assert (grey == expected).float().mean() > 0.99
    assert [grey[i].unique().tolist() for i in (5, 6, 7)] == [[76], [255], [0]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (17, 5), (64, 30)])
def test_images_are_resized_as_pillow_does(channels, size):
    """Bilinear with antialiasing, which matters when they shrink, and rounded to uint8."""
    images = photographs(4, channels, 30, 20)
    found, what = fitted(images, (channels, *size))
    assert what == f"30x20 resized to {size[0]}x{size[1]}, bilinear, antialiased"
    assert found.shape == (channels, *size)
    expected = by_pillow(images, lambda image: image.resize(size[::-1], Image.Resampling.BILINEAR))
    assert largest(found.tensor(), expected) <= 1


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_both(before, after):
    images = photographs(4, before, 30, 20)
    found, what = fitted(images, (after, 12, 12))
    first = {3: "grey replicated to RGB", 1: "RGB made grey by its luma"}[after]
    assert what == f"{first}; 30x20 resized to 12x12, bilinear, antialiased"
    mode = {3: "RGB", 1: "L"}[after]
    expected = by_pillow(images, lambda image: image.convert(mode).resize((12, 12), Image.Resampling.BILINEAR))
    assert largest(found.tensor(), expected) <= 2


def test_one_side_may_be_free():
    found, what = fitted(photographs(1, 3, 16, 20), (None, 8, None))
    assert (found.shape, what) == ((3, 8, 20), "16x20 resized to 8x20, bilinear, antialiased")


def test_batches_and_subsets_of_fitted_images():
    images = photographs(7, 3, 30, 20)
    found, _ = fitted(images, (1, 8, 8))
    whole = found.tensor()
    assert found.labels is not None
    assert (found.name, found.n, found.labels.tolist()) == ("blots", 7, [*range(7)])
    for size in (1, 3, 10):
        assert torch.equal(torch.cat(list(found.batches(size))), whole)
    assert torch.equal(found.subset([5, 0]).tensor(), whole[[5, 0]])
    assert torch.equal(fitted(images.subset([5, 0]), (1, 8, 8))[0].tensor(), whole[[5, 0]])


def test_fitted_images_are_other_ones(tmp_path):
    """Their features are kept in a cache under their own name."""
    images = photographs(3, 3, 9, 8)
    shapes = ((3, 9, 8), (1, 9, 8), (3, 8, 8), (1, 8, 8), (3, 8, 9), (3, 12, 8))
    found = [fitted(images, shape)[0] for shape in shapes]
    found += [fitted(images.subset([0, 1, 2]), (1, 8, 8))[0], fitted(images.subset([0, 2, 1]), (1, 8, 8))[0]]
    assert len({some.fingerprint for some in found}) == len(found)
    assert {some.sha256 for some in found} == {images.sha256}
    assert fitted(images, (1, 8, 8))[0].fingerprint == found[3].fingerprint
    for some in found[1:5]:
        features = extract(pixel_features(some.shape), some, run=Run(cache=tmp_path))
        assert torch.equal(features, pixel_features(some.shape)(some.tensor()))


def test_fitted_files_are_not_surveyed_again(tmp_path):
    """What a survey says of shapes is of the files."""
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "PNG")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("0.png", file.getvalue())
    images = open_split(str(tmp_path / "z.zip"))
    assert images.survey is not None
    assert fitted(images, (3, 8, 8))[0].survey is None
    with pytest.raises(InputError, match=r"pixels takes images of 3x8x8 .* but these are 1x4x4"):
        extract(pixel_features((3, 8, 8)), images)


def test_the_images_are_left_alone():
    images = photographs(2, 3, 9, 9)
    before = images.tensor().clone()
    fitted(images, (1, 8, 8))[0].tensor()
    assert torch.equal(images.tensor(), before)


# the short side, and then the centre


def centred(image, side):
    """By Pillow: the whole image resized, the longer side rounded down; then its middle, rounded half to even."""
    w, h = image.size
    size = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in resized.size)
    return resized.crop((left, top, left + side, top + side))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(30, 20), (20, 30), (47, 47), (8, 8), (5, 9), (16, 40), (1, 3), (17, 16), (16, 19)])
def test_the_centre_after_the_short_side(channels, size):
    images = photographs(4, channels, *size)
    found = min_resized(images, 16)
    assert found.shape == (channels, 16, 16)
    assert largest(found.tensor(), by_pillow(images, lambda image: centred(image, 16))) <= 1


def test_images_of_that_size_are_left_as_they_are():
    images = photographs(2, 3, 16, 16)
    assert min_resized(images, 16) is images
    assert min_resized(images, 8) is not images


@pytest.mark.parametrize("size", [(16, 40), (40, 16)])
def test_where_one_side_fits_pixels_are_the_centres(size):
    images = photographs(2, 3, *size)
    top, left = ((length - 16) // 2 for length in size)
    expected = images.tensor()[:, :, top : top + 16, left : left + 16]
    assert torch.equal(min_resized(images, 16).tensor(), expected)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1024])
def test_batches_chunks_and_subsets_of_centres(chunk, monkeypatch):
    images = photographs(7, 3, 30, 20)
    whole = min_resized(images, 8).tensor()
    monkeypatch.setattr(fitting, "CHUNK", chunk)
    found = min_resized(images, 8)
    for size in (1, 3, 10):
        assert torch.equal(torch.cat(list(found.batches(size))), whole)
    assert torch.equal(found.read(torch.tensor([5, 0, 5])), whole[[5, 0, 5]])
    assert found.read(torch.tensor([], dtype=torch.int64)).shape == (0, 3, 8, 8)
    assert torch.equal(found.subset([5, 0]).tensor(), whole[[5, 0]])
    assert torch.equal(min_resized(images.subset([5, 0]), 8).tensor(), whole[[5, 0]])
    assert found.labels is not None
    assert (found.name, found.n, found.labels.tolist()) == ("blots", 7, [*range(7)])


def test_centres_of_images_that_were_grey():
    images = photographs(3, 1, 30, 20)
    found = min_resized(fitted(images, (3, None, None))[0], 8)
    assert torch.equal(found.tensor(), min_resized(images, 8).tensor().expand(-1, 3, -1, -1))


def test_centres_are_other_images_and_not_surveyed_again(tmp_path):
    images = photographs(3, 3, 20, 20)
    found = [images, min_resized(images, 8), min_resized(images, 10), fitted(images, (3, 8, 8))[0]]
    assert len({some.fingerprint for some in found}) == 4
    assert min_resized(images, 8).fingerprint == found[1].fingerprint
    Image.new("L", (9, 12)).save(tmp_path / "0.png")
    files = open_split(str(tmp_path))
    assert files.survey is not None
    assert min_resized(files, 8).survey is None
