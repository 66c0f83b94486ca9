"""Codes of images and the pairs that are near, beside brute force, plain arithmetic, hashlib and imagehash."""

import hashlib
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imagehash import phash
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional

from dcgan_eval.nearest import hashing
from dcgan_eval.nearest.hashing import distinct, encode, exact_codes, fit_autoencoder, near, perceptual_codes, variants
from dcgan_eval.runtime.errors import InputError, UncertifiedError
from tests.builders import as_integers, photograph_pieces


def by_brute_force(queries, codes, radius):
    """(i, j, bits) in order."""
    a, b = as_integers(queries), as_integers(codes)
    apart = [(i, j, (x ^ y).bit_count()) for i, x in enumerate(a) for j, y in enumerate(b)]
    return [pair for pair in apart if pair[2] <= radius]


def pairs(queries, codes, radius):
    found = near(queries, codes, radius)
    assert {part.dtype for part in found} == {np.dtype(np.int64)}
    assert len(found.i) == len(found.j) == len(found.bits)
    return list(zip(*(part.tolist() for part in found), strict=True))


def code(*integers, words=2):
    """Codes of these integers."""
    data = b"".join(integer.to_bytes(8 * words, "little") for integer in integers)
    return np.frombuffer(data, np.uint64).reshape(-1, words)


@st.composite
def clusters(draw):
    """Queries and codes around few centres, as far from them as the radius, or a little farther; some equal."""
    words = draw(st.integers(1, 4))
    width = 64 * words
    radius = draw(st.one_of(st.integers(0, 8), st.integers(0, width - 1), st.just(width - 1)))
    centres = draw(st.lists(st.integers(0, 2**width - 1), min_size=1, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def some(n):
        out = []
        for _ in range(n):
            flips = rng.choice(width, min(width, int(rng.integers(0, radius + 3))), replace=False)
            out.append(int(rng.choice(len(centres))))
            out[-1] = centres[out[-1]] ^ sum(1 << int(bit) for bit in flips)
        return code(*out, words=words)

    return some(draw(st.integers(0, 12))), some(draw(st.integers(0, 12))), radius


@given(clusters())
@settings(max_examples=300, deadline=None)
def test_near_finds_every_pair_within_the_radius_in_order(drawn):
    assert pairs(*drawn) == by_brute_force(*drawn)


@given(clusters())
@settings(max_examples=100, deadline=None)
def test_a_set_with_itself_is_symmetric_and_holds_the_diagonal(drawn):
    codes, _, radius = drawn
    found = pairs(codes, codes, radius)
    assert found == by_brute_force(codes, codes, radius)
    assert {(j, i, bits) for i, j, bits in found} == set(found)
    assert {(i, i, 0) for i in range(len(codes))} <= set(found)


@given(st.integers(0, 2**32 - 1), st.integers(0, 127), st.integers(0, 20), st.booleans())
@settings(max_examples=100, deadline=None)
def test_bits_of_every_density(seed, radius, n, one_piece):
    """Units that are hardly ever active, and codes that differ in one piece of the code alone."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
    bits = rng.random((n, 128)) < share
    if one_piece:
        bits[:, : 128 - 128 // (radius + 1)] = False
    codes = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
    assert pairs(codes, codes[::2], radius) == by_brute_force(codes, codes[::2], radius)


@pytest.mark.parametrize("words", [1, 2, 4])
@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 5, 15, 16, 31, 62, 63])
def test_differences_as_evenly_spread_as_can_be(words, radius):
    """Found by the one piece that is left; with a bit more there is none."""
    width = 64 * words
    starts = [int(columns[0]) for columns in np.array_split(np.arange(width), radius + 1)]
    for left_out in range(radius + 1):
        flips = sum(1 << start for piece, start in enumerate(starts) if piece != left_out)
        assert pairs(code(0, words=words), code(flips, words=words), radius) == [(0, 0, radius)]
    every = sum(1 << start for start in starts)
    assert pairs(code(0, words=words), code(every, words=words), radius) == []


@pytest.mark.parametrize("radius", [0, 1])
def test_pieces_longer_than_a_word(radius):
    """Equal in the first 64 bits of each piece, and not beyond."""
    for bit in (64, 100, 127, 128, 255):
        expected = [(0, 0, 0)] + ([(0, 1, 1)] if radius else [])
        assert pairs(code(5, words=4), code(5, 5 ^ (1 << bit), words=4), radius) == expected


@pytest.mark.parametrize("radius", [0, 3, 127])
def test_none_one_and_all_alike(radius):
    none, one = code(), code(7)
    assert pairs(none, none, radius) == pairs(none, one, radius) == pairs(one, none, radius) == []
    assert pairs(one, one, radius) == [(0, 0, 0)]
    alike = code(*[7] * 30)
    assert pairs(alike, alike, radius) == [(i, j, 0) for i in range(30) for j in range(30)]


def test_codes_need_not_be_contiguous():
    codes = code(*range(20))
    assert pairs(codes[::3], codes[::-1], 2) == by_brute_force(codes[::3], codes[::-1], 2)
    columns = np.asfortranarray(code(*range(20)))
    assert pairs(columns, columns, 2) == by_brute_force(codes, codes, 2)


@pytest.mark.parametrize(
    ("words", "others", "radius"), [(1, 2, 0), (2, 1, 3), (1, 1, 64), (2, 2, 128), (2, 2, -1), (1, 1, 10**6)]
)
def test_codes_and_a_radius_that_do_not_fit(words, others, radius):
    with pytest.raises(ValueError, match="do not fit"):
        near(code(1, words=words), code(1, words=others), radius)


def test_a_hundred_thousand_codes_are_no_matter():
    """All pairs would be 10^10; 500 copies with 4 flips each are found among them."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**64, (100_000, 2), dtype=np.uint64)
    source, flips = np.arange(500), rng.permuted(np.tile(np.arange(128), (500, 1)), axis=1)[:, :4]
    for row, bits in zip(source, flips, strict=True):
        for bit in bits.tolist():
            codes[99_000 + row] = codes[row] if bit == bits[0] else codes[99_000 + row]
            codes[99_000 + row, bit // 64] ^= np.uint64(1 << bit % 64)
    i, j, apart = near(codes, codes, 4)
    others = i < j
    assert i[others].tolist() == source.tolist()
    assert j[others].tolist() == (source + 99_000).tolist()
    assert (apart[others] == 4).all()


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_distinct_codes_and_which_each_is(values, words):
    # differences in the first and in the last byte, and a zero byte at the end
    codes = code(*[(0, 1, 1 << (64 * words - 1), 256)[value] for value in values], words=words)
    found, which = distinct(codes)
    assert which.dtype == np.int64
    assert which.shape == (len(values),)
    np.testing.assert_array_equal(found[which], codes)
    assert len(found) == len(set(as_integers(found))) == len(set(values))


# images


def test_variants_are_the_image_its_mirror_and_moves_to_one_side_of_each_direction():
    images = photograph_pieces(3)[:, :, :30]
    found = list(variants(images))
    assert [name for name, _ in found] == ["as it is", "mirrored"] + ["moved"] * 4
    wide = np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    moves = [wide[:, :, 1 + y : 31 + y, 1 + x : 33 + x] for y, x in ((0, 1), (1, 0), (1, 1), (1, -1))]
    for (_, changed), expected in zip(found, [images.numpy(), images.numpy()[..., ::-1], *moves], strict=True):
        assert (changed.dtype, changed.shape) == (torch.uint8, images.shape)
        np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize("down", [-1, 0, 1])
@pytest.mark.parametrize("right", [-1, 0, 1])
def test_any_move_by_a_pixel_is_undone_by_a_variant_of_either_image(down, right):
    photograph = photograph_pieces(1, 64)
    one, two = (photograph[:, :, y : y + 32, x : x + 32] for y, x in ((9, 9), (9 + down, 9 + right)))

    def undone(a, b):
        return any(
            torch.equal(v[:, :, 1:-1, 1:-1], b[:, :, 1:-1, 1:-1]) for name, v in variants(a) if name != "mirrored"
        )

    assert undone(one, two) or undone(two, one)


def test_variants_keep_every_value_and_leave_the_images_alone():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    before = images.clone()
    assert all(set(changed.unique().tolist()) <= set(range(256)) for _, changed in variants(images))
    assert torch.equal(images, before)
    assert [set(changed.unique().tolist()) for _, changed in variants(images[..., :1, :1])] == [{0}] * 6


@pytest.fixture
def quick(monkeypatch):
    """Few and small steps: what is tested does not rest on how well it is fitted."""
    monkeypatch.setattr(hashing, "STEPS", 20)
    monkeypatch.setattr(hashing, "BATCH", 32)


def unpacked(codes):
    return np.array(
        [[integer >> bit & 1 for bit in range(64 * codes.shape[1])] for integer in as_integers(codes)], bool
    )


def standardised(images, each):
    """By NumPy: image by image, all channels having a mean of their own; then by what all images have in common."""
    x = images.numpy().astype(np.float64) / 255
    if each:
        x = x - x.mean((2, 3), keepdims=True)
        x = x / (x.std((1, 2, 3), ddof=1, keepdims=True) + hashing.FLOOR)
    x = x.reshape(len(x), -1)
    deviation = np.sqrt(np.mean((x - x.mean(0)) ** 2)) + hashing.FLOOR
    return (x - x.mean(0)) / deviation, x.mean(0), deviation


@pytest.mark.parametrize("each", [True, False])
def test_bits_are_the_active_units(each, quick):
    images = photograph_pieces(40)
    a = fit_autoencoder(images, each=each, seed=0)
    x, mean, deviation = standardised(images, each)
    np.testing.assert_allclose(a.mean, mean, rtol=1e-9, atol=1e-12)
    assert a.each == each
    assert a.deviation == pytest.approx(deviation, rel=1e-9)
    assert (a.weight.dtype, a.weight.shape, a.bias.shape) == (torch.float64, (128, 3072), (128,))
    z = x @ a.weight.numpy().T + a.bias.numpy()
    codes = encode(a, images)
    assert codes.dtype == np.uint64
    assert codes.shape == (40, 2)
    sure = np.abs(z) > 1e-9
    np.testing.assert_array_equal(unpacked(codes)[sure], (z > 0)[sure])
    assert sure.mean() > 0.99
    assert 0.1 < unpacked(codes).mean() < 0.9


@pytest.mark.parametrize("n", [1, 4095, 4097])
def test_means_do_not_depend_on_how_many_images_are_read_at_a_time(n, quick, monkeypatch):
    monkeypatch.setattr(hashing, "STEPS", 1)
    images = photograph_pieces(50).repeat(82, 1, 1, 1)[:n]
    a = fit_autoencoder(images, each=False, seed=0)
    x = images.flatten(1).double() / 255
    torch.testing.assert_close(a.mean, x.mean(0))
    assert a.deviation == pytest.approx(float((x - x.mean(0)).square().mean().sqrt()) + hashing.FLOOR, rel=1e-6)


@pytest.mark.parametrize("each", [True, False])
def test_an_autoencoder_depends_on_its_seed_alone(each, quick):
    images = photograph_pieces(20)
    torch.manual_seed(0)
    one = fit_autoencoder(images, each=each, seed=5)
    torch.manual_seed(1)
    same, other = (fit_autoencoder(images, each=each, seed=seed) for seed in (5, 6))
    assert torch.equal(one.weight, same.weight)
    assert torch.equal(one.bias, same.bias)
    assert not torch.equal(one.weight, other.weight)
    np.testing.assert_array_equal(encode(one, images), encode(same, images))
    assert not np.array_equal(encode(one, images), encode(other, images))


def test_fitting_leaves_the_global_generator_and_the_images_alone(quick):
    images = photograph_pieces(20)
    before = images.clone()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    fit_autoencoder(images, each=False, seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(images, before)


def test_an_autoencoder_learns_to_denoise(monkeypatch):
    """The code tells of the image: with linear decoding it explains most of what it is fitted to, untrained little."""

    def explained(steps):
        monkeypatch.setattr(hashing, "STEPS", steps)
        monkeypatch.setattr(hashing, "BATCH", 64)
        images = photograph_pieces(260)
        a = fit_autoencoder(images, each=True, seed=0)
        x = torch.from_numpy(standardised(images, True)[0])
        noisy = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        h = functional.relu(functional.linear(noisy, a.weight, a.bias))
        fit, rest = slice(0, 180), slice(180, 260)
        h = torch.cat([h, torch.ones(260, 1)], 1)
        penalty = 1e-2 * h[fit].square().mean() * 180 * torch.eye(129)
        out = torch.linalg.solve(h[fit].T @ h[fit] + penalty, h[fit].T @ x[fit])
        return float(1 - (h[rest] @ out - x[rest]).square().sum() / x[rest].square().sum())

    assert explained(150) > explained(1) + 0.1


@pytest.mark.parametrize("size", [1, 7, 40])
@pytest.mark.parametrize("each", [True, False])
def test_codes_do_not_depend_on_the_batch(size, each, quick):
    images = photograph_pieces(40)
    a = fit_autoencoder(images, each=each, seed=0)
    found = np.concatenate([encode(a, some) for some in torch.split(images, size)])
    np.testing.assert_array_equal(found, encode(a, images))


def differing(a, b):
    return (unpacked(a) ^ unpacked(b)).sum(1)


def test_brightness_contrast_and_cast_do_not_count_where_images_are_standardised_one_by_one(quick):
    images = photograph_pieces(60)
    a = fit_autoencoder(images, each=True, seed=0)
    dark = (images.double() * 0.7 + 30).round().to(torch.uint8)  # values in the middle: nothing is clipped below
    codes = encode(a, dark)
    cast = torch.tensor([20, 0, -20])[:, None, None]
    for changed in (dark + 40, (dark.int() + cast).to(torch.uint8)):
        np.testing.assert_array_equal(encode(a, changed), codes)
    assert differing(encode(a, images), codes).max() <= 12
    assert differing(encode(a, images), codes).mean() < 2
    np.fill_diagonal(between := (unpacked(codes)[:, None] ^ unpacked(codes)).sum(2), 128)
    assert between.min() > 12  # other images are farther
    b = fit_autoencoder(images, each=False, seed=0)
    assert differing(encode(b, dark + 40), encode(b, dark)).mean() > 4


def test_noise_on_flat_images_stays_noise(quick):
    """All have nearly one code, whatever their colour, though their pixels differ by chance."""
    images = photograph_pieces(20)
    a = fit_autoencoder(images, each=True, seed=0)
    flat = torch.randint(50, 200, (10, 3, 1, 1), generator=torch.Generator().manual_seed(0)).expand(10, 3, 32, 32)
    assert len(set(as_integers(encode(a, flat.to(torch.uint8))))) == 1


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("images", [torch.zeros(1, 3, 32, 32), torch.full((5, 3, 32, 32), 255)])
def test_flat_images_and_one_image_alone_make_finite_weights(each, images, quick):
    images = images.to(torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a = fit_autoencoder(images, each=each, seed=0)
    assert torch.isfinite(a.weight).all()
    assert torch.isfinite(a.bias).all()
    assert len(set(as_integers(encode(a, images)))) == 1


def shared_layout(n):
    """Real digits, whose strokes lie in the middle of all images, as 3 equal channels of 32 x 32."""
    x = torch.as_tensor(load_digits().images[:n, None] * 15)
    return (
        functional.interpolate(x, (32, 32), mode="bilinear").round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    )


@pytest.mark.parametrize("each", [True, False])
def test_units_do_not_die_where_images_resemble_one_another(each, monkeypatch):
    monkeypatch.setattr(hashing, "STEPS", 120)
    monkeypatch.setattr(hashing, "BATCH", 64)
    images = shared_layout(400)
    bits = unpacked(encode(fit_autoencoder(images, each=each, seed=0), images))
    share = bits.mean(0)
    assert np.minimum(share, 1 - share).mean() > 0.1
    assert len(np.unique(bits, axis=0)) > 390


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 5, 7), (3, 1, 1)])
def test_exact_codes_are_sha256_of_shape_and_pixels(shape):
    images = torch.randint(0, 256, (6, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = exact_codes(images)
    assert found.dtype == np.uint64
    assert found.shape == (6, 4)
    for row, image in zip(found, images.numpy(), strict=True):
        expected = hashlib.sha256(str(shape).encode() + bytes(image.ravel().tolist())).digest()
        assert row.tobytes() == expected
    assert exact_codes(images[:0]).shape == (0, 4)


def test_exact_codes_are_of_the_pixels_however_they_lie_in_memory():
    images = photograph_pieces(4)
    expected = exact_codes(images)
    np.testing.assert_array_equal(exact_codes(images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)), expected)
    grey = images[:, :1].expand(-1, 3, -1, -1)
    np.testing.assert_array_equal(exact_codes(grey), exact_codes(grey.contiguous()))
    assert len(set(as_integers(exact_codes(torch.cat([images, images.flip(3), images ^ 1]))))) == 12


def test_exact_codes_tell_shapes_apart():
    pixels = torch.zeros(1, 12, dtype=torch.uint8)
    shapes = ((3, 2, 2), (1, 2, 6), (1, 6, 2), (1, 3, 4), (3, 4, 1))
    assert len({exact_codes(pixels.reshape(1, *shape)).tobytes() for shape in shapes}) == len(shapes)


@pytest.mark.parametrize("channels", [1, 3])
def test_perceptual_codes_are_imagehashs(channels):
    images = photograph_pieces(10, 40)[:, :channels, :36]
    found = perceptual_codes(images)
    assert found.dtype == np.uint64
    assert found.shape == (10, 1)
    for row, image in zip(unpacked(found), images, strict=True):
        pixels = image.permute(1, 2, 0).numpy() if channels == 3 else image[0].numpy()
        np.testing.assert_array_equal(row, phash(Image.fromarray(np.ascontiguousarray(pixels))).hash.ravel())
    assert perceptual_codes(images[:0]).shape == (0, 1)


def test_bits_between_perceptual_codes_are_imagehashs_distance():
    images = photograph_pieces(30)
    hashes = [phash(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images]
    expected = [(i, j, a - b) for i, a in enumerate(hashes) for j, b in enumerate(hashes) if a - b <= 26]
    codes = perceptual_codes(images)
    assert pairs(codes, codes, 26) == expected
    assert len(expected) > 60


def test_perceptual_codes_without_the_package_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(InputError, match=r"package imagehash; pip install 'dcgan-eval\[dedup\]'"):
        perceptual_codes(photograph_pieces(1))


def test_an_autoencoder_that_diverges_has_no_codes(monkeypatch):
    monkeypatch.setattr(hashing, "RATE", 1e30)
    monkeypatch.setattr(hashing, "STEPS", 20)
    with pytest.raises(UncertifiedError, match="the autoencoder of near-duplicates diverged"):
        fit_autoencoder(photograph_pieces(300), each=False, seed=0)
