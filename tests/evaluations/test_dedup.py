"""Duplicates planted among photographs, groups beside brute force, what is kept, and the files that say so."""

import csv
import io
import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.transforms.v2.functional import gaussian_blur

from dcgan_eval import figures, results
from dcgan_eval.evaluations import dedup
from dcgan_eval.evaluations.dedup import FORMAT, RADIUS, counts, find, groups_csv, kept, picture, rows, save_keep_list
from dcgan_eval.images import encoded, from_tensor, open_split
from dcgan_eval.nearest import hashing
from dcgan_eval.options import DuplicateMethod
from dcgan_eval.report import tables, text
from dcgan_eval.results import Row
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.run import Run
from tests.builders import as_integers, photograph_pieces

WIDER = 6  # bits, of weights that are not trained
METHODS: tuple[DuplicateMethod, ...] = ("autoencoder", "paper", "exact", "phash")
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One small step: random weights tell 40 photographs apart as well."""
    monkeypatch.setattr(hashing, "STEPS", 1)
    monkeypatch.setattr(hashing, "BATCH", 32)


def source(pixels, name="x", split="all", labels=None, classes=()):
    return from_tensor(pixels, labels, name=name, split=split, classes=classes)


def jpeg(image, quality=90):
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality, subsampling=0)
    return torch.tensor(np.array(Image.open(file))).permute(2, 0, 1)


def brightened(image):
    return (image.double() * 0.8 + 25).round().to(torch.uint8)


KINDS = {"equal": range(5), "jpeg": range(5, 10), "bright": range(10, 15), "mirrored": range(15, 20),
         "moved": range(20, 28)}  # fmt: skip
MOVES = [(y, x) for y in (0, 1, 2) for x in (0, 1, 2) if (y, x) != (1, 1)]


def smooth(n, side=32):
    """Photographs that random weights know again; half of them are negatives, so that they have no mean in common."""
    found = gaussian_blur(photograph_pieces(n, side), [9, 9], [1.2, 1.2])
    found[1::2] = 255 - found[1::2]
    return found


def planted():
    """40 photographs, and 28 duplicates of the first of them in the order of `KINDS`."""
    larger = smooth(40, 34)
    inner = larger[:, :, 1:33, 1:33]
    out = [*inner, *inner[:5]]
    out += [jpeg(inner[i], 98) for i in KINDS["jpeg"]]
    out += [brightened(inner[i]) for i in KINDS["bright"]]
    out += [inner[i].flip(2) for i in KINDS["mirrored"]]
    out += [larger[i, :, y : y + 32, x : x + 32] for i, (y, x) in zip(KINDS["moved"], MOVES, strict=True)]
    return torch.stack(out)


def grouped(*kinds):
    """The groups where these kinds are found, of `planted`."""
    out = list(range(68))
    for kind in kinds:
        for i in KINDS[kind]:
            out[40 + i] = i
    return out


def by_brute_force(n, edges):
    """The first row of each component."""
    first = list(range(n))
    changed = True
    while changed:
        changed = False
        for i, j in edges:
            low = min(first[i], first[j])
            changed = changed or first[i] != first[j]
            first[i] = first[j] = low
    return first


def apart(a, b):
    return (as_integers(a[None])[0] ^ as_integers(b[None])[0]).bit_count()


# what is found


def test_every_kind_of_duplicate_is_found_by_the_autoencoder_and_nothing_else():
    found = find(source(planted()), radius=WIDER)
    assert found.groups.tolist() == grouped(*KINDS)
    assert found.kept.tolist() == [*range(40)]
    assert counts(found) == {"duplicates": 28}
    for kind in ("mirrored", "moved"):
        for i in KINDS[kind]:
            assert found.links[i].variant == found.links[40 + i].variant == kind
            assert found.links[i].bits <= WIDER
    assert all(found.links[40 + i] == (0, "as it is") for i in KINDS["equal"])
    assert found.links.keys() == {*range(28), *range(40, 68)}


def test_exact_finds_equal_pixels_alone():
    found = find(source(planted()), method="exact")
    assert found.groups.tolist() == grouped("equal")
    assert found.links == dict.fromkeys((*range(5), *range(40, 45)), (0, "as it is"))


def test_phash_does_not_mind_encoding_nor_brightness():
    found = find(source(planted()), method="phash", radius=7)
    expected = grouped("equal", "jpeg", "bright")
    assert [found.groups[40 + i] for i in range(15)] == expected[40:55]
    assert not any(found.groups[40 + i] == i for i in KINDS["mirrored"])


def test_real_photographs(cifar10, monkeypatch):
    """CIFAR-10: planted among the first thousand training images, and found by default."""
    monkeypatch.setattr(hashing, "STEPS", 200)
    monkeypatch.setattr(hashing, "BATCH", 128)
    images = open_split("CIFAR-10:train", root=cifar10).subset(range(1000)).tensor()
    copies = [jpeg(images[3], 95), images[500].flip(2), brightened(images[700]), images[999]]
    found = find(source(torch.cat([images, torch.stack(copies)])))
    assert found.groups[1000:].tolist() == [3, 500, 700, 999]
    assert counts(found)["duplicates"] < 8


@every_method
def test_groups_are_the_components_of_near_codes(method):
    """By all pairs of codes, and the codes by one call each."""
    x = planted()
    found = find(source(x), method=method, seed=3)
    if method in ("autoencoder", "paper"):
        a = hashing.fit_autoencoder(x, each=method == "autoencoder", seed=3)
        codes = [(name, hashing.encode(a, changed)) for name, changed in hashing.variants(x)]
        codes = codes if method == "autoencoder" else codes[:1]
    else:
        codes = [("as it is", (hashing.exact_codes if method == "exact" else hashing.perceptual_codes)(x))]
    check_against_codes(found, codes, as_integers(hashing.exact_codes(x)), RADIUS[method])


def check_against_codes(found, codes, pixels, radius):
    """codes: by variant, the first as it is."""
    plain = codes[0][1]
    n = len(plain)
    distances: dict[tuple[int, int], int] = {}
    for _, code in codes:
        for i in range(n):
            for j in range(n):
                bits = apart(code[i], plain[j])
                if i != j and bits <= radius:
                    pair = (min(i, j), max(i, j))
                    distances[pair] = min(bits, distances.get(pair, bits))
    edges = set(distances) | {(i, j) for j in range(n) for i in range(j) if pixels[i] == pixels[j]}
    expected = by_brute_force(n, edges)
    assert found.groups.tolist() == expected
    assert found.links.keys() == {i for i in range(n) if expected.count(expected[i]) > 1}
    names = {name for name, _ in codes}
    for row, link in found.links.items():
        nearest = min(bits for pair, bits in distances.items() if row in pair) if not _equal(row, pixels) else 0
        assert link.bits == nearest
        assert link.variant in names
        exactly = [name for name, code in codes if any(
            min(apart(code[row], plain[j]), apart(code[j], plain[row])) == nearest
            for j in range(n) if j != row
        )]  # fmt: skip
        assert link.variant in exactly


def _equal(row, pixels):
    return pixels.count(pixels[row]) > 1


@st.composite
def chains(draw):
    """Codes of 64 bits, each some flips away from an earlier one; how many are held out; a radius."""
    radius = draw(st.integers(0, 7))
    out = [draw(st.integers(0, 2**64 - 1))]
    for _ in range(draw(st.integers(0, 14))):
        before = draw(st.sampled_from(out))
        flips = draw(st.sets(st.integers(0, 63), max_size=radius + 3))
        out.append(before ^ sum(1 << bit for bit in flips))
    return out, draw(st.integers(0, len(out) - 1)), radius


@given(chains(), st.integers(1, 16))
@settings(max_examples=150, deadline=None)
def test_chains_of_codes_are_one_group_whatever_the_split_and_the_batch(drawn, batch):
    """Grey images whose 8 pixels are their code."""
    integers, held_out, radius = drawn
    pixels = torch.tensor([list(code.to_bytes(8, "little")) for code in integers], dtype=torch.uint8)[:, None, None]
    codes = pixels.flatten(1).numpy().view(np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "perceptual_codes", lambda images: images[:, 0, 0].contiguous().numpy().view(np.uint64))
        against = source(pixels[:held_out], "held out") if held_out else None
        found = find(source(pixels[held_out:]), against, method="phash", radius=radius, batch_size=batch)
    check_against_codes(found, [("as it is", codes)], integers, radius)
    firsts = set(found.groups.tolist())
    assert found.kept.tolist() == [row - held_out for row in range(held_out, len(integers)) if row in firsts]
    said = counts(found)
    assert sum(said.values()) + len(found.kept) == len(integers) - held_out
    assert said.get("duplicates of held-out images", 0) == sum(
        group < held_out for group in found.groups[held_out:].tolist()
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 1), st.booleans()), min_size=1, max_size=10),
       st.integers(0, 4), st.integers(0, 9))  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_mirrored_and_moved_codes_are_one_group_too(drawn, radius, held_out):
    """Rows of few patterns, moved or mirrored, whose code is their middle."""
    patterns = torch.randint(0, 2, (4, 32), generator=torch.Generator().manual_seed(0)) * 255
    patterns[1] = patterns[0]
    patterns[1, 12] ^= 1  # one bit apart
    found_rows = [
        patterns[kind].roll(move).flip(0) if flip else patterns[kind].roll(move) for kind, move, flip in drawn
    ]
    x = torch.stack(found_rows).to(torch.uint8)[:, None, None].repeat(1, 3, 32, 1)
    x = x.contiguous()
    held_out = min(held_out, len(x) - 1)

    def encode(_, images):
        return images[:, 0, 16, 8:24].contiguous().numpy().view(np.uint64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "encode", encode)
        patch.setattr(hashing, "fit_autoencoder", lambda *_, **__: ())
        against = source(x[:held_out], "held out") if held_out else None
        found = find(source(x[held_out:]), against, radius=radius, batch_size=3)
    codes = [(name, encode(None, changed)) for name, changed in hashing.variants(x)]
    check_against_codes(found, codes, as_integers(hashing.exact_codes(x)), radius)


def test_the_paper_asks_for_equal_codes():
    x = planted()
    found = find(source(x), method="paper")
    codes = as_integers(hashing.encode(hashing.fit_autoencoder(x, each=False, seed=0), x))
    assert found.groups.tolist() == [codes.index(code) for code in codes]
    assert not any(found.groups[40 + i] == i for i in KINDS["mirrored"])


@every_method
def test_equal_pixels_are_found_by_every_method(method):
    x = torch.cat([photograph_pieces(20), photograph_pieces(5), photograph_pieces(3)])
    found = find(source(x), method=method)
    assert [found.groups[20 + i] == found.groups[i] for i in range(5)] == [True] * 5
    assert [found.groups[25 + i] == found.groups[i] for i in range(3)] == [True] * 3
    assert all(found.links[row].bits == 0 for row in range(20, 28))
    assert all(found.groups[row] <= row for row in range(28))


def test_a_change_of_order_changes_which_is_first_and_no_group():
    x = planted()
    order = torch.randperm(68, generator=torch.Generator().manual_seed(1))
    for method in ("exact", "phash"):
        one, other = (find(source(some), method=method).groups for some in (x, x[order]))
        sets = [frozenset(np.flatnonzero(one == group).tolist()) for group in np.unique(one)]
        moved = [frozenset(order[np.flatnonzero(other == group)].tolist()) for group in np.unique(other)]
        assert set(sets) == set(moved)
        assert all(other[row] == np.flatnonzero(other == other[row])[0] for row in range(68))


# images that are held out


def parts(**options):
    """Photographs and duplicates of them apart."""
    x = planted()
    return find(source(x[40:], "train"), source(x[:40], "held out"), **options)


def test_what_is_like_a_held_out_image_is_not_kept_and_counted_apart():
    found = parts(radius=WIDER)
    assert found.held_out == 40
    assert found.groups.tolist() == grouped(*KINDS)
    assert found.kept.tolist() == []
    assert counts(found) == {"duplicates": 0, "duplicates of held-out images": 28}
    found = parts(method="exact")
    assert found.kept.tolist() == [*range(5, 28)]
    assert counts(found) == {"duplicates": 0, "duplicates of held-out images": 5}


def test_both_counts_at_once():
    p = photograph_pieces(30)
    train, against = p[[0, 1, 2, 0, 3, 3, 10, 11, 10]], p[[20, 20, 3, 11]]
    found = find(source(train), source(against))
    # 0 and 10 repeat themselves; 3, twice, and 11 are held out
    assert found.kept.tolist() == [0, 1, 2, 6]
    assert counts(found) == {"duplicates": 2, "duplicates of held-out images": 3}


@every_method
def test_held_out_images_that_repeat_one_another_change_nothing(method):
    p = photograph_pieces(40)
    train = source(p[[0, 1, 2, 1]])
    expected = find(train, method=method)
    found = find(train, source(p[[30, 31, 30, 30]]), method=method)
    assert found.kept.tolist() == expected.kept.tolist() == [0, 1, 2]
    assert counts(found) == {"duplicates": 1, "duplicates of held-out images": 0}
    lines = list(csv.reader(groups_csv(found).splitlines()))[1:]
    assert [line[2] for line in lines] == ["1", "3"]
    assert Image.open(io.BytesIO(picture(found).render("png"))).format == "PNG"


def test_all_of_them_held_out_leaves_none():
    images = source(photograph_pieces(5), "a")
    found = find(images, source(photograph_pieces(8), "b"), method="exact")
    assert found.kept.tolist() == []
    assert counts(found) == {"duplicates": 0, "duplicates of held-out images": 5}


def test_held_out_images_of_another_size_and_colour():
    larger = smooth(10, 64)
    small = torch.nn.functional.avg_pool2d(larger.double(), 2).round().to(torch.uint8)
    found = find(source(larger), source(small[[4, 7]]), radius=WIDER)
    assert found.kept.tolist() == [0, 1, 2, 3, 5, 6, 8, 9]
    grey = small.double().mean(1, keepdim=True).round().to(torch.uint8)
    found = find(source(grey.expand(-1, 3, -1, -1)), source(grey[[4, 7]]))
    assert found.kept.tolist() == [0, 1, 2, 3, 5, 6, 8, 9]


# images of every kind


def write(folder, name, pixels, **options):
    """pixels (C, H, W)."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    array = pixels.permute(1, 2, 0).numpy()
    Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0]).save(path, **options)


def mixed(folder):
    """14 files of three sizes, RGB but for the last two; pairs of duplicates: 0 and 12, 4 and 9, 11 and 13."""
    p = photograph_pieces(12, 64)
    half = torch.nn.functional.avg_pool2d(p.double(), 2).round().to(torch.uint8)
    for i in range(12):
        pixels = half[i] if i % 3 == 1 else p[i, :, :, 8:56] if i % 3 == 2 else p[i]
        write(folder, f"{i:02}.png", pixels)
    write(folder, "09.png", half[4].flip(2))
    write(folder, "11.png", p[11, 1:2, :, 8:56].expand(3, -1, -1))
    write(folder, "12.png", p[0])
    write(folder, "13.png", p[11, 1:2, :, 8:56])
    return open_split(str(folder))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_folder_of_several_sizes_grey_and_in_colour(batch_size, tmp_path):
    images = mixed(tmp_path)
    found = find(images, batch_size=batch_size)
    expected = [*range(14)]
    expected[12], expected[9], expected[13] = 0, 4, 11
    assert found.groups.tolist() == expected
    assert found.links[9].variant == "mirrored"
    assert find(images, method="exact", batch_size=batch_size).groups[12] == 0
    assert find(images, method="phash", radius=0, batch_size=batch_size).groups[[12, 13]].tolist() == [0, 11]
    assert Image.open(io.BytesIO(picture(found).render("png"))).format == "PNG"
    lines = list(csv.reader(groups_csv(found).splitlines()))[1:]
    assert [(line[0], line[2]) for line in lines] == [
        ("0", "0"), ("0", "12"), ("1", "4"), ("1", "9"), ("2", "11"), ("2", "13"),
    ]  # fmt: skip


def test_grey_files_are_replicated_before_their_pixels_are_compared(tmp_path):
    """As everywhere else: such a source reads both as equal tensors."""
    grey = photograph_pieces(2)[:, :1]
    write(tmp_path, "0.png", grey[0].expand(3, -1, -1))
    write(tmp_path, "1.png", grey[0])
    write(tmp_path, "2.png", photograph_pieces(3)[2])
    images = open_split(str(tmp_path))
    pixels = images.tensor()
    assert torch.equal(pixels[0], pixels[1])
    assert find(images, method="exact").groups.tolist() == [0, 0, 2]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 1, 1), (3, 5, 40), (1, 32, 32), (1, 100, 33)])
@every_method
def test_images_of_any_shape(shape, method):
    x = torch.randint(0, 256, (12, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    if shape == (1, 1, 1):
        x = torch.arange(12, dtype=torch.uint8).reshape(12, 1, 1, 1) * 20
    x[7] = x[2]
    found = find(source(x), method=method, batch_size=5)
    assert found.groups[7] == found.groups[2]
    assert found.links[7].bits == 0
    if method == "exact":
        assert counts(found) == {"duplicates": 1}
    assert Image.open(io.BytesIO(picture(found).render("png"))).format == "PNG"


@every_method
def test_one_image(method):
    found = find(source(photograph_pieces(1)), method=method)
    assert (found.groups.tolist(), found.kept.tolist(), found.links) == ([0], [0], {})
    assert counts(found) == {"duplicates": 0}
    assert groups_csv(found) == "group,images,row,class,kept,bits,nearest is\n"


@every_method
def test_all_images_the_same(method):
    found = find(source(photograph_pieces(1).expand(300, -1, -1, -1)), method=method, batch_size=64)
    assert found.kept.tolist() == [0]
    assert counts(found) == {"duplicates": 299}
    assert found.links == dict.fromkeys(range(300), (0, "as it is"))
    assert groups_csv(found).count("\n") == 301
    assert Image.open(io.BytesIO(picture(found).render("png"))).format == "PNG"


@every_method
def test_flat_images(method):
    """Of two colours: equal ones are found, and nothing else goes wrong."""
    x = torch.tensor([0, 255, 0, 255, 0], dtype=torch.uint8)[:, None, None, None].expand(5, 3, 40, 40)
    found = find(source(x), method=method)
    assert [found.groups[row] == found.groups[row % 2] for row in range(5)] == [True] * 5
    assert len(found.kept) == (1 if method in ("autoencoder", "phash") else 2)


def test_real_digits_are_not_all_one(monkeypatch):
    monkeypatch.setattr(hashing, "STEPS", 120)
    monkeypatch.setattr(hashing, "BATCH", 64)
    x = torch.as_tensor(load_digits().images[:300, None] * 15).to(torch.uint8)
    assert counts(find(source(x)))["duplicates"] < 100


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (False, True),
        (True, False),
        (True, True),
    ],
)  # fmt: skip
def test_files_are_surveyed_once(progress, shown, tmp_path, monkeypatch):
    asked = []
    survey = encoded._survey

    def counted(*some):
        asked.append(some)
        return survey(*some)

    monkeypatch.setattr(encoded, "_survey", counted)
    found = find(mixed(tmp_path), progress=progress)
    if shown:
        picture(found)
    assert len(asked) == 1


def test_images_are_read_for_the_sample_and_once_for_the_codes():
    images, read = source(photograph_pieces(30, 40)), []

    def counted(some):
        read.append(len(some))
        return images.read(some)

    find(replace(images, read=counted), batch_size=10)
    assert sum(read) <= 60


def test_the_autoencoder_is_fitted_to_no_more_than_the_sample(monkeypatch):
    seen = []

    def fit(images, **options):
        seen.append((images, options))
        return fit_autoencoder(images, **options)

    fit_autoencoder = hashing.fit_autoencoder
    monkeypatch.setattr(hashing, "fit_autoencoder", fit)
    monkeypatch.setattr(dedup, "SAMPLE", 25)
    x = planted()
    for seed in (0, 0, 1):
        found = find(source(x), seed=seed)
        assert set(KINDS["equal"]) | set(range(40, 45)) <= found.links.keys()
    (one, _), (same, _), (other, _) = seen
    assert len(one) == len(other) == 25
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert all(x.eq(image).flatten(1).all(1).any() for image in one)
    assert [(options["seed"], options["each"]) for _, options in seen] == [(0, True), (0, True), (1, True)]


# what must not matter, and what is refused


@every_method
def test_results_do_not_depend_on_the_batch(method):
    x = planted()
    expected = find(source(x[40:]), source(x[:40]), method=method)
    for batch_size in (1, 7, 39, 40, 10**6):
        found = find(source(x[40:]), source(x[:40]), method=method, batch_size=batch_size)
        assert found.groups.tolist() == expected.groups.tolist()
        assert found.links == expected.links


@pytest.mark.parametrize("method", ["autoencoder", "paper"])
def test_equal_seeds_give_equal_groups_and_the_seed_is_said(method):
    x = planted()
    one, same, other = (find(source(x), method=method, radius=8, seed=seed) for seed in (0, 0, 1))
    assert one.groups.tolist() == same.groups.tolist()
    assert one.links == same.links
    assert one.links != other.links
    assert "seed 0" in one.protocol
    assert other.protocol == one.protocol.replace("seed 0", "seed 1")


def test_protocols_say_what_decides():
    images = source(photograph_pieces(4))
    said = {method: find(images, method=method).protocol for method in METHODS}
    assert said["exact"] == "equal pixels"
    assert said["phash"] == "perceptual hash of imagehash; codes of 64 bits, at most 4 differ"
    assert "equal codes of 128 bits" in said["paper"]
    assert "standardised by all" in said["paper"]
    assert "mirrored" not in said["paper"]
    for part in ("128 bits, at most 4 differ", "32x32", "one by one", "mirrored", "moved by a pixel"):
        assert part in said["autoencoder"]
    assert "at most 2 differ" in find(images, radius=2).protocol


@pytest.mark.parametrize(
    ("method", "radius", "largest"),
    [("autoencoder", -1, 15), ("autoencoder", 16, 15), ("paper", 16, 15), ("phash", 8, 7), ("exact", 32, 31)],
)
def test_a_radius_without_meaning(method: DuplicateMethod, radius, largest):
    with pytest.raises(InputError, match=f"^radius {radius}: want from 0 to {largest} of the \\d+ bits of {method}$"):
        find(source(photograph_pieces(2)), method=method, radius=radius)
    find(source(photograph_pieces(2)), method=method, radius=largest)


@every_method
def test_files_that_cannot_be_read_are_said_in_one_line(method, tmp_path):
    images = mixed(tmp_path)
    for i in range(1, 6):
        (tmp_path / f"{i:02}.png").write_bytes((tmp_path / f"{i:02}.png").read_bytes()[:60])
    images = open_split(str(tmp_path))
    with pytest.raises(InputError, match=r"5 of 14 files cannot be read: '01\.png' .*, …; remove them first") as caught:
        find(images, method=method)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"5 of 14 files cannot be read"):
        find(source(photograph_pieces(2)), images, method=method)


# numbers


@pytest.mark.parametrize("held_out", [False, True])
def test_rows_are_the_counts_with_their_protocol(held_out):
    p = photograph_pieces(12)
    train = source(torch.cat([p[:10], p[:2]]), "a", "train")
    against = source(p[9:], "b", "test") if held_out else None
    found = find(train, against)
    made = rows(found, run=Run(device="cpu", command="dcgan-eval dedup a"), seed=0)
    assert {row.metric: row.value for row in made} == counts(found)
    assert counts(found) == {"duplicates": 2} | ({"duplicates of held-out images": 1} if held_out else {})
    for row in made:
        assert (row.task, row.features, row.features_protocol) == ("dedup", "autoencoder", found.protocol)
        assert (row.n, row.n_reference, row.dimensions, row.unit) == (12, 3 if held_out else 0, 128, "images")
        assert (row.data, row.command) == ("a b" if held_out else "a", "dcgan-eval dedup a")
        assert row.data_sha256 == (f"{train.sha256} {against.sha256}" if against else train.sha256)
        assert (row.model, row.C, row.spread, row.seed, row.device) == (None, None, None, 0, "cpu")
        assert row.seconds == found.seconds > 0
    assert [field.name for field in fields(Row)] == list(results.frame(made))


def test_rows_are_a_table_with_several_methods():
    train, against = source(planted(), "a"), source(photograph_pieces(3), "b")
    made = [
        row for method in ("autoencoder", "exact")
        for row in rows(find(train, against, method=method), run=Run(device="cpu"), seed=0)
    ]  # fmt: skip
    lines = text(tables(made)).splitlines()[2:]
    assert lines[0].split() == ["found", "by", "images", "of", "held", "out"]
    shown = [line.split() for line in lines[1:5]]
    assert [line[0] for line in shown] == ["autoencoder", "autoencoder", "exact", "exact"]
    assert [line[-3:] for line in shown] == [[f"{row.value:.0f}", "68", "3"] for row in made]
    said = "\n".join(lines)
    for part in (made[0].features_protocol, "exact: equal pixels; ", "training and held-out images: a b, sha256",
                 train.sha256, "seed 0, on cpu"):  # fmt: skip
        assert part in said
    alone = text(tables(rows(find(train, method="exact"), run=Run(device="cpu"), seed=0)))
    assert "held out" not in alone.splitlines()[2]
    assert "training images: a, sha256" in alone


def test_rows_are_appended_and_read_again(tmp_path):
    made = rows(find(source(planted()), method="exact"), run=Run(device="cpu"), seed=0)
    results.append(tmp_path / "r.csv", made)
    results.append(tmp_path / "r.csv", made)
    lines = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [float(line["value"]) for line in lines] == [5, 5]


# keep lists


@pytest.fixture
def listed(tmp_path):
    """Images, and their keep list."""
    images = source(planted(), "planted", labels=torch.arange(68))
    found = find(images, method="exact")
    save_keep_list(tmp_path / "keep.json", found)
    return images, found, tmp_path / "keep.json"


def test_a_keep_list_keeps_the_images_that_it_names(listed):
    images, found, path = listed
    some = kept(images, path)
    expected = [*range(40), *range(45, 68)]
    assert found.kept.tolist() == expected
    assert some.n == 63
    assert torch.equal(some.tensor(), images.tensor()[expected])
    assert some.labels is not None
    assert some.labels.tolist() == expected
    assert some.fingerprint != images.fingerprint
    assert some.fingerprint == kept(images, path).fingerprint == images.subset(expected).fingerprint
    again = find(some, method="exact")
    assert counts(again) == {"duplicates": 0}


def test_a_keep_list_says_what_it_is_of(listed):
    images, found, path = listed
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record == {
        "format": FORMAT, "data": "planted", "data_sha256": images.sha256, "split": "all", "n": 68,
        "protocol": found.protocol, "against": None, "keep": found.kept.tolist(),
    }  # fmt: skip
    assert path.read_text(encoding="utf-8").endswith("}\n")
    against = find(images, source(photograph_pieces(3), "hëld out"), method="exact")
    save_keep_list(path, against)
    assert json.loads(path.read_text(encoding="utf-8"))["against"] == "hëld out"
    assert [file.name for file in path.parent.iterdir()] == ["keep.json"]


def test_a_keep_list_of_files_of_one_size_is_read_from_them(tmp_path):
    p = photograph_pieces(4)
    for i, image in enumerate([*p, p[1]]):
        write(tmp_path / "images", f"{i}.png", image)
    images = open_split(str(tmp_path / "images"))
    save_keep_list(tmp_path / "keep.json", find(images, method="exact"))
    assert torch.equal(kept(open_split(str(tmp_path / "images")), tmp_path / "keep.json").tensor(), p)
    write(tmp_path / "images", "5.png", p[0])
    with pytest.raises(InputError, match="is of other images"):
        kept(open_split(str(tmp_path / "images")), tmp_path / "keep.json")


OTHER = "is of other images \\(planted\\), not of planted"
ROWS = "keeps no images, or its rows are not integers"
ORDER = "do not ascend from 0 to 67"
CHANGES = {
    "another format": ({"format": "dcgan-eval keep list 2"}, "is not a keep list"),
    "no format": ({"format": None}, "is not a keep list"),
    "a list for a format": ({"format": [FORMAT]}, "is not a keep list"),
    "other pixels": ({"data_sha256": "0" * 64}, OTHER),
    "another split": ({"split": "test"}, OTHER),
    "fewer images": ({"n": 67}, OTHER),
    "n as text": ({"n": "68"}, OTHER),
    "nothing": ({"keep": []}, ROWS),
    "no rows": ({"keep": None}, ROWS),
    "rows as a text": ({"keep": "0123"}, ROWS),
    "rows by name": ({"keep": {"0": 1}}, ROWS),
    "floats": ({"keep": [0, 1.0]}, ROWS),
    "booleans": ({"keep": [False, True]}, ROWS),
    "texts": ({"keep": ["0"]}, ROWS),
    "null": ({"keep": [0, None]}, ROWS),
    "lists": ({"keep": [[0], [1]]}, ROWS),
    "descending": ({"keep": [1, 0]}, ORDER),
    "twice": ({"keep": [0, 1, 1]}, ORDER),
    "negative": ({"keep": [-1, 0]}, ORDER),
    "beyond the last": ({"keep": [0, 68]}, ORDER),
    "far beyond": ({"keep": [0, 10**30]}, ORDER),
}


@pytest.mark.parametrize("case", CHANGES)
def test_keep_lists_that_are_refused(case, listed):
    images, _, path = listed
    changes, message = CHANGES[case]
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes))
    with pytest.raises(InputError, match=message) as caught:
        kept(images, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"keep 1 2 3", b"\xff\xfe\x00", b"[1, 2]", b"1", b"null", b'"' + FORMAT.encode() + b'"', b"\0" * 9,
     b"[" * 100_000],
)  # fmt: skip
def test_files_that_are_no_keep_lists(content, listed):
    images, _, path = listed
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read as a keep list|is not a keep list"):
        kept(images, path)


def test_a_keep_list_that_is_not_there(listed):
    images, _, path = listed
    for wrong in (path.parent / "absent.json", path.parent):
        with pytest.raises(InputError, match="cannot be read as a keep list"):
            kept(images, wrong)


def test_the_last_and_the_first_row_may_be_kept(listed):
    images, _, path = listed
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"keep": [0, 67]}))
    assert torch.equal(kept(images, path).tensor(), images.tensor()[[0, 67]])


# sheets


def test_groups_csv_lists_every_member_of_every_group():
    p = photograph_pieces(10)
    train = source(p[[0, 1, 0, 2, 3, 2, 2]], "a,b", labels=torch.tensor([0, 1, 0, -1, 1, 1, 0]), classes=("cat", "dog"))
    against = source(p[[3, 9, 9]], "held out")
    found = find(train, against)
    lines = list(csv.DictReader(io.StringIO(groups_csv(found))))
    seen = [(line["group"], line["images"], int(line["row"]), line["class"], line["kept"]) for line in lines]
    assert seen == [
        ("0", "held out", 0, "", ""),
        ("0", "a,b", 4, "dog", "no"),
        ("1", "a,b", 0, "cat", "yes"),
        ("1", "a,b", 2, "cat", "no"),
        ("2", "a,b", 3, "", "yes"),
        ("2", "a,b", 5, "dog", "no"),
        ("2", "a,b", 6, "cat", "no"),
    ]
    assert {(line["bits"], line["nearest is"]) for line in lines} == {("0", "as it is")}


def test_groups_csv_is_the_groups():
    found = find(source(planted()), radius=WIDER)
    by_group: dict[str, list[int]] = {}
    for line in csv.DictReader(io.StringIO(groups_csv(found))):
        row = int(line["row"])
        by_group.setdefault(line["group"], []).append(row)
        assert (int(line["bits"]), line["nearest is"]) == found.links[row]
        assert line["kept"] == ("yes" if row in found.kept else "no")
    assert list(by_group.values()) == [[i, 40 + i] for i in range(28)]


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 50), (3, 8, 8)])
@pytest.mark.parametrize("method", ["autoencoder", "exact"])
def test_a_picture_with_and_without_duplicates(shape, method):
    x = torch.randint(0, 256, (6, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    without = picture(find(source(x), method=method)).render("png")
    repeated = find(source(torch.cat([x, x[:2]])), method=method)
    for png in (without, picture(repeated).render("png")):
        with Image.open(io.BytesIO(png)) as image:
            image.load()
            assert image.format == "PNG"
    assert picture(repeated).render("png") != without
    assert picture(repeated).render("png") == picture(repeated).render("png")


def told(found, monkeypatch, **options):
    """What the picture is made of."""
    heard = []

    def groups(*some):
        heard.append(some)
        return b""

    monkeypatch.setattr(figures, "groups", groups)
    picture(found, **options)
    return heard[0]


def test_a_picture_shows_the_doubtful_groups_first_and_only_so_many(monkeypatch):
    x = planted()
    found = find(source(x, "planted", "train"), radius=WIDER)
    tiles, titles, title = told(found, monkeypatch)
    assert len(tiles) == len(titles) == 28
    assert title.startswith("planted: autoencoder")
    pairs = [tuple(int(name.removeprefix("train ")) for name in group) for group in titles]
    assert sorted(pairs) == [(i, 40 + i) for i in range(28)]
    doubt = [max(found.links[row].bits for row in pair) for pair in pairs]
    assert doubt == sorted(doubt, reverse=True)
    for pair, shown in zip(pairs, tiles, strict=True):
        assert torch.equal(shown, x[list(pair)])
    assert len(told(found, monkeypatch, count=3)[0]) == 3
    same = find(source(photograph_pieces(1).expand(20, -1, -1, -1)), method="exact")
    assert [len(shown) for shown in told(same, monkeypatch)[0]] == [8]
    assert [len(shown) for shown in told(same, monkeypatch, members=3)[0]] == [3]


def test_a_picture_shows_files_of_every_size(tmp_path, monkeypatch):
    found = find(mixed(tmp_path))
    tiles, titles, _ = told(found, monkeypatch)
    assert {tuple(shown.shape) for shown in tiles} == {(2, 3, 32, 32)}
    shown = dict(zip(map(tuple, titles), tiles, strict=True))
    assert torch.equal(*shown["all 0", "all 12"])
    assert torch.equal(shown["all 11", "all 13"][1], shown["all 11", "all 13"][1][:1].expand(3, -1, -1))
    one, mirrored = shown["all 4", "all 9"]
    assert torch.equal(one, mirrored.flip(2))


@pytest.mark.parametrize("name", ["50% off_{x}", "a$b", "a $_$ b"])
def test_a_picture_of_images_of_any_name(name):
    p = photograph_pieces(2)
    found = find(source(p[[0, 1, 0]], name), method="exact")
    assert Image.open(io.BytesIO(picture(found).render("png"))).format == "PNG"
