"""Sources of images: what they hold, that all kinds agree, and every fault of the input."""

import hashlib
import io
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from dcgan_eval.images import Images, fitted, from_tensor, generated, open_images, open_split
from dcgan_eval.images import encoded as module
from dcgan_eval.runtime.errors import InputError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)  # NHWC, h != w so that a transposition shows
GREY = RGB[..., 0]


def png(pixels: np.ndarray) -> bytes:
    return encode(Image.fromarray(pixels))


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bare_png(depth: int, color: int, width: int, height: int) -> bytes:
    """A PNG of zeros that Pillow cannot write: 16-bit colour, or a size that the content does not have."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def fill_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def fill_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


# Splits of 8 and 4 images, classes a, b, c in turn, but stored with the class as folder: sorted by class
TRAIN, TEST = np.argsort(np.arange(8) % 3, kind="stable"), 8 + np.argsort(np.arange(4) % 3, kind="stable")
SPLIT_FILES = {f"{'train' if i < 8 else 'test'}/{'abc'[(i % 8) % 3]}/{i:02}.png": png(RGB[i]) for i in range(12)}


# The real sets


@pytest.mark.parametrize(
    ("file", "split", "name", "n", "shape", "first", "classes"),
    [
        ("svhn-mini.npz", "train", "svhn-mini:train", 554, (3, 32, 32), [1, 9, 2, 3], tuple("0123456789")),
        ("svhn-mini.npz", "test", "svhn-mini:test", 486, (3, 32, 32), [5, 2, 1, 0], tuple("0123456789")),
        ("mnist.npz", "train", "mnist:train", 60000, (1, 28, 28), [5, 0, 4, 1], tuple("0123456789")),
        ("mnist.npz", "test", "mnist:test", 10000, (1, 28, 28), [7, 2, 1, 0], tuple("0123456789")),
        ("faces64-gray.zip", "all", "faces64-gray", 13233, (1, 64, 64), [-1, -1, 1, 1], ("female", "male")),
        (
            "rooms64.zip", "all", "rooms64", 2140, (3, 64, 64), [0, 1, 2, 3],
            ("bathroom", "bedroom", "frontal", "kitchen"),
        ),
    ],
)  # fmt: skip
def test_real_sets(data: Path, file, split, name, n, shape, first, classes):
    images = open_images(str(data / file))[split]
    assert (images.name, images.n, images.shape, images.classes) == (name, n, shape, classes)
    assert images.labels is not None
    assert images.labels[:4].tolist() == first
    assert images.sha256 == hashlib.sha256((data / file).read_bytes()).hexdigest()
    rows = images.subset([n - 1, 0, 7])
    batch = rows.tensor()
    assert batch.shape == (3, *shape)
    assert batch.dtype == torch.uint8
    assert batch.float().std() > 10


def test_real_pixels(data: Path):
    with np.load(data / "svhn-mini.npz") as file:
        expected = torch.from_numpy(file["x_train"]).permute(0, 3, 1, 2)
    assert torch.equal(open_split(f"{data / 'svhn-mini.npz'}:train").tensor(), expected)
    with zipfile.ZipFile(data / "rooms64.zip") as archive:
        room = np.array(Image.open(io.BytesIO(archive.read("bedroom/001.jpg"))))
    assert np.array_equal(open_split(str(data / "rooms64.zip")).subset([1]).tensor()[0].permute(1, 2, 0), room)


def test_cifar10_is_what_torchvision_reads(cifar10: Path):
    found = open_images("CIFAR-10", root=cifar10)
    assert [(i.name, i.n) for i in found.values()] == [("CIFAR-10:train", 50000), ("CIFAR-10:test", 10000)]
    for split, images in found.items():
        peer = datasets.CIFAR10(cifar10, train=split == "train")  # unpickles the official files
        check(images, f"CIFAR-10:{split}", peer.data.transpose(0, 3, 1, 2), peer.targets)
        assert images.classes == tuple(peer.classes)
        assert images.labels is not None
        assert images.labels.bincount().tolist() == [images.n // 10] * 10


def test_a_zip_of_many_photographs_by_class(cifar10: Path, tmp_path: Path):
    """Training images of CIFAR-10 as PNGs, which the zip sorts by class."""
    official = open_split("CIFAR-10:train", root=cifar10).subset(range(6000))
    assert official.labels is not None
    files = {
        f"{'train' if i < 5000 else 'test'}/{official.classes[label]}/{i:05}.png": png(image)
        for i, (image, label) in enumerate(
            zip(official.tensor().permute(0, 2, 3, 1).numpy(), official.labels.tolist(), strict=True)
        )
    }
    found = open_images(str(fill_zip(tmp_path / "cifar.zip", files)))
    assert [(i.name, i.n) for i in found.values()] == [("cifar:train", 5000), ("cifar:test", 1000)]
    for images, start in ((found["train"], 0), (found["test"], 5000)):
        labels = official.labels[start : start + images.n]
        rows = labels.argsort(stable=True)
        assert images.classes == official.classes
        assert images.labels is not None
        assert images.labels.tolist() == labels[rows].tolist()
        assert torch.equal(images.tensor(), official.subset(start + rows).tensor())
        few = images.subset(range(0, images.n, 40))
        assert torch.equal(few.tensor(), official.subset(start + rows[::40]).tensor())
        assert few.labels is not None
        assert few.labels.tolist() == labels[rows][::40].tolist()


# The contract


def every_kind(tmp: Path) -> list[str]:
    np.savez(tmp / "n.npz", x_train=RGB[TRAIN], y_train=TRAIN % 3, x_test=RGB[TEST], y_test=(TEST - 8) % 3)
    np.savez_compressed(tmp / "c.npz", x_train=RGB[TRAIN].transpose(0, 3, 1, 2), y_train=(TRAIN % 3)[:, None])
    table = "file,label,split,more\n" + "".join(
        f"{i:02}.png,{(i % 8) % 3},{'train' if i < 8 else 'test'},{i}\n" for i in [*TRAIN, *TEST]
    )
    listed = {f"{i:02}.png": png(RGB[i]) for i in range(12)} | {"labels.csv": table.encode()}
    return [
        f"{fill_folder(tmp / 'folder', SPLIT_FILES)}:train",
        f"{fill_folder(tmp / 'listed', listed)}:train",
        f"{fill_zip(tmp / 'zip.zip', SPLIT_FILES)}:train",
        f"{fill_zip(tmp / 'back.zip', dict(reversed(SPLIT_FILES.items())))}:train",
        f"{fill_zip(tmp / 'top.zip', {f'top/{n}': b for n, b in SPLIT_FILES.items()})}:train",
        f"{fill_zip(tmp / 'listed.zip', listed)}:train",
        f"{fill_zip(tmp / 'top-listed.zip', {f'top/{n}': b for n, b in listed.items()})}:train",
        f"{tmp / 'n.npz'}:train",
        f"{tmp / 'c.npz'}:train",
    ]


def test_every_kind_of_source_agrees(tmp_path: Path):
    for spec in every_kind(tmp_path):
        images = open_split(spec)
        assert torch.equal(images.tensor(), torch.from_numpy(RGB[TRAIN]).permute(0, 3, 1, 2)), spec
        assert images.labels is not None
        assert images.labels.tolist() == (TRAIN % 3).tolist(), spec
        assert images.labels.dtype == torch.int64
        assert images.shape == (3, 6, 5)


def test_batches_and_subsets_agree_with_the_tensor(tmp_path: Path):
    sources = [open_split(spec) for spec in every_kind(tmp_path)]
    sources.append(generated(draw, 300, name="gen:x", sha256="0", shape=(1, 2, 2)))
    for images in sources:
        whole = images.tensor()
        assert whole.dtype == torch.uint8
        assert whole.shape == (images.n, *images.shape)
        for size in (1, 3, 7, images.n, images.n + 1):
            batches = list(images.batches(size))
            assert torch.equal(torch.cat(batches), whole)
            assert [len(b) for b in batches[:-1]] == [size] * (len(batches) - 1)
        rows = torch.tensor([5, 0, 5, images.n - 1, 2])
        part = images.subset(rows)
        assert torch.equal(part.tensor(), whole[rows])
        assert torch.equal(torch.cat(list(part.batches(2))), whole[rows])
        assert images.labels is None or (part.labels is not None and torch.equal(part.labels, images.labels[rows]))
        assert torch.equal(part.subset([1, 4]).tensor(), whole[[0, 2]])
        assert len(list(images.subset([]).batches(2))) == 0


@pytest.mark.parametrize("rows", [[-1], [8], [0.5], [True, False], [[0]]])
def test_subset_refuses(tmp_path: Path, rows):
    with pytest.raises(IndexError):
        open_split(every_kind(tmp_path)[0]).subset(rows)


def test_subset_does_not_decode_the_rest(tmp_path: Path):
    folder = fill_folder(tmp_path / "f", {"a.png": png(GREY[0]), "b.png": b"broken", "c.png": png(GREY[2])})
    images = open_split(str(folder))
    assert torch.equal(images.subset([0, 2]).tensor()[:, 0], torch.from_numpy(GREY[[0, 2]]))
    with pytest.raises(InputError, match=r"'b\.png' cannot be read"):
        images.tensor()


def test_many_images_are_decoded_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "THREADS", 4)
    pixels = np.arange(2500, dtype=np.uint16).view(np.uint8).reshape(2500, 1, 2)
    images = open_split(str(fill_zip(tmp_path / "z.zip", {f"{i:04}.png": png(pixels[i]) for i in range(2500)})))
    assert torch.equal(images.tensor()[:, 0], torch.from_numpy(pixels))
    assert images.labels is None
    assert images.classes == ()


def test_identities(tmp_path: Path):
    spec = str(fill_zip(tmp_path / "z.zip", SPLIT_FILES))
    train, test = open_images(spec).values()
    assert train.sha256 == test.sha256 == hashlib.sha256(Path(spec).read_bytes()).hexdigest()
    part = train.subset([0, 1])
    different = [train, test, part, train.subset([1, 0]), part.subset([0, 1]), train.subset(range(8))]
    assert len({i.fingerprint for i in different}) == len(different)
    assert part.fingerprint == open_split(f"{spec}:train").subset(torch.tensor([0, 1])).fingerprint
    moved = fill_zip(tmp_path / "elsewhere.zip", SPLIT_FILES)
    moved.write_bytes(Path(spec).read_bytes())
    assert open_split(f"{moved}:train").fingerprint == train.fingerprint
    one, two = (open_split(f"{fill_folder(tmp_path / n, SPLIT_FILES)}:test") for n in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    fill_folder(tmp_path / "two", {"train/a/00.png": png(RGB[1])})
    assert one.sha256 != open_split(f"{tmp_path / 'two'}:test").sha256


def test_names_and_splits(tmp_path: Path):
    files = {f"{s}/c/{i}.png": png(GREY[i]) for s in ("Validation", "test", "train") for i in range(2)}
    found = open_images(str(fill_folder(tmp_path / "my.set", files)))
    assert [(s, i.name) for s, i in found.items()] == [
        ("train", "my.set:train"), ("valid", "my.set:valid"), ("test", "my.set:test"),
    ]  # fmt: skip
    assert list(open_images(f"{tmp_path / 'my.set'}:val")) == ["valid"]
    assert open_split(f"{tmp_path / 'my.set'}:VAL").name == "my.set:valid"
    odd = fill_folder(tmp_path / "a:test", {"x/1.png": png(GREY[0]), "y/1.png": png(GREY[1])})
    assert open_split(str(odd)).name == "a:test"
    assert open_split(f"{odd}:all").classes == ("x", "y")
    flat = {"train/1.png": png(GREY[0]), "test/1.png": png(GREY[1])}
    assert [i.labels for i in open_images(str(fill_zip(tmp_path / "flat.zip", flat))).values()] == [None, None]
    vehicles = {"train/1.png": png(GREY[0]), "plane/1.png": png(GREY[1])}  # not all are splits: none is
    assert open_split(str(fill_zip(tmp_path / "vehicles.zip", vehicles))).classes == ("plane", "train")
    with pytest.raises(InputError, match="has the splits train, test; say which"):
        open_split(str(tmp_path / "flat.zip"))


def test_order_is_sorted_and_other_files_are_passed_over(tmp_path: Path):
    jpeg = encode(Image.fromarray(GREY[0]), "JPEG")
    files = {"b/2.PNG": png(GREY[3]), "b/10.jpeg": jpeg, "a-b/x.png": png(GREY[1]), "a/x.png": png(GREY[0])}
    files |= dict.fromkeys(["readme.txt", "a/.x.png", "__MACOSX/a/x.png", ".git/x.png", ".git/1/2/3/4/5/6/7/x"], b"")
    for spec in (fill_folder(tmp_path / "f", files), fill_zip(tmp_path / "z.zip", files)):
        images = open_split(str(spec))
        assert images.classes == ("a", "a-b", "b")
        assert torch.equal(images.tensor()[[0, 1, 3], 0], torch.from_numpy(GREY[[0, 1, 3]]))


def test_labels_csv(tmp_path: Path):
    files = {f"{n}.png": png(GREY[i]) for i, n in enumerate("abcd")}

    def labelled(rows: list[str]) -> Images:
        table = "\ufefffile,label\r\n" + "".join(f"{n}.png,{r}\r\n" for n, r in zip("dcba", rows, strict=True))
        return open_split(str(fill_zip(tmp_path / "z.zip", files | {"labels.csv": table.encode()})))

    named = labelled(["dog", "", "cat", "dog"])
    assert named.classes == ("cat", "dog")
    assert named.labels is not None
    assert named.labels.tolist() == [1, -1, 0, 1]
    assert torch.equal(named.tensor()[:, 0], torch.from_numpy(GREY[[3, 2, 1, 0]]))  # the order of the table
    numbers = labelled(["3", "1", "", "3"])
    assert numbers.classes == ("0", "1", "2", "3")
    assert numbers.labels is not None
    assert numbers.labels.tolist() == [3, 1, -1, 3]
    nothing = labelled(["", "", "", ""])
    assert nothing.labels is None
    assert nothing.classes == ()


@pytest.mark.parametrize(
    ("mode", "kind", "pixels"),
    [
        ("1", "PNG", np.where(GREY[0] > 127, np.uint8(255), np.uint8(0))),
        ("LA", "PNG", GREY[0]),
        ("P", "PNG", RGB[0]),
        ("RGBA", "PNG", RGB[0]),
        ("RGB", "BMP", RGB[0]),
        ("RGB", "TIFF", RGB[0]),
        ("RGB", "WEBP", RGB[0]),
    ],
)
def test_lossless_modes(tmp_path: Path, mode: str, kind: str, pixels: np.ndarray):
    image = Image.fromarray(pixels)
    image = image.quantize(256) if mode == "P" else image.convert(mode)
    content = encode(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    read = open_split(str(fill_folder(tmp_path / "f", {f"a.{kind}": content}))).tensor()[0]
    assert np.array_equal(read, pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def test_grey_is_replicated_in_an_rgb_source(tmp_path: Path):
    folder = fill_folder(tmp_path / "f", {"a.png": png(RGB[0]), "b.png": png(GREY[1])})
    assert torch.equal(open_split(str(folder)).tensor()[1], torch.from_numpy(GREY[1]).expand(3, 6, 5))


@pytest.mark.parametrize(
    ("arrays", "splits", "shape"),
    [
        ({"x": GREY}, {"all": 12}, (1, 6, 5)),
        ({"x": GREY[:, None]}, {"all": 12}, (1, 6, 5)),
        ({"x": np.asfortranarray(RGB), "y": np.arange(12)}, {"all": 12}, (3, 6, 5)),
        ({"images": RGB, "labels": np.arange(12)}, {"all": 12}, (3, 6, 5)),
        ({"arr_0": RGB, "other": np.zeros(3)}, {"all": 12}, (3, 6, 5)),
        ({"x_val": RGB[:2], "x_train": RGB, "y_train": np.full(12, -1)}, {"train": 12, "valid": 2}, (3, 6, 5)),
    ],
)
def test_npz_layouts(tmp_path: Path, arrays: dict[str, np.ndarray], splits: dict[str, int], shape):
    np.savez(tmp_path / "f.npz", **arrays)  # type: ignore[arg-type]
    found = open_images(str(tmp_path / "f.npz"))
    assert {s: i.n for s, i in found.items()} == splits
    assert list(found) == list(splits)
    for images in found.values():
        assert images.shape == shape
        expected = RGB if shape[0] == 3 else GREY[..., None]
        assert torch.equal(images.tensor(), torch.from_numpy(expected[: images.n]).permute(0, 3, 1, 2))
        assert (images.labels is not None) == ("y" in arrays or "labels" in arrays)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_reads_only_the_split_it_needs(tmp_path: Path, save):
    noise = RNG.integers(0, 256, (2000, 6, 5, 3), dtype=np.uint8)
    save(tmp_path / "f.npz", x_train=noise, x_test=RGB)
    content = bytearray((tmp_path / "f.npz").read_bytes())
    content[100000] ^= 1  # in the middle of x_train, which no longer has its checksum
    (tmp_path / "f.npz").write_bytes(content)
    found = open_images(str(tmp_path / "f.npz"))
    assert found["test"].tensor().shape == (12, 3, 6, 5)
    with pytest.raises(InputError, match="x_train cannot be read"):
        found["train"].tensor()


# A generator's samples


def draw(start: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(start)  # as a network's, the values depend on the block
    return torch.randint(0, 256, (count, 1, 2, 2), generator=generator, dtype=torch.uint8)


def test_generated_images_depend_on_nothing_but_their_index():
    def make(n: int) -> Images:
        return generated(draw, n, name="gen:x", sha256="abc", shape=(1, 2, 2))

    few, many = make(130), make(1000)
    assert torch.equal(many.tensor()[:130], few.tensor())
    assert torch.equal(many.subset([999, 3, 500]).tensor(), many.tensor()[[999, 3, 500]])
    assert len(torch.unique(many.tensor().flatten(1), dim=0)) == 1000
    assert few.sha256 == many.sha256 == "abc"
    assert few.fingerprint != many.fingerprint
    with pytest.raises(ValueError, match="expected uint8"):
        generated(draw, 3, name="gen:x", sha256="abc", shape=(3, 2, 2)).tensor()


def metadata(images: Images) -> dict[str, list[int]]:
    return {name: read().tolist() for name, read in images.metadata.items()}


def test_further_arrays_of_an_npz_are_metadata_by_split(tmp_path: Path):
    src, kind = (
        np.array([9, 9, 4, -1, 700, 4, *[5] * 6]),
        np.array(
            [
                ["b"],
                ["a"],
                [
                    "",
                ],
                ["b"],
            ]
        ),
    )
    arrays = {"x_train": RGB, "y_train": np.arange(12), "src_train": src, "x_test": RGB[:4], "kind_test": kind}
    np.savez(tmp_path / "f.npz", **arrays, about=np.array("free text"))  # type: ignore[arg-type]
    found = open_images(str(tmp_path / "f.npz"))
    # equal numbers for equal values, in their order; none for -1 and empty texts
    assert metadata(found["train"]) == {"src": [3, 3, 1, -1, 4, 1, *[2] * 6]}
    assert metadata(found["test"]) == {"kind": [2, 1, -1, 2]}
    assert all(read().dtype == torch.int64 for read in found["train"].metadata.values())
    np.savez(tmp_path / "g.npz", x=RGB, y=np.arange(12), src=src, y_test=src, x_test=RGB, src_test=-src)
    found = open_images(str(tmp_path / "g.npz"))
    assert metadata(found["all"]) == {"src": [3, 3, 1, -1, 4, 1, *[2] * 6]}
    assert set(found["test"].metadata) == {"src"}


def test_metadata_is_read_only_where_it_is_asked_for(tmp_path: Path):
    arrays = {"x": RGB, "short": np.arange(11), "values": np.arange(12.0), "objects": np.array([None] * 12)}
    np.savez(tmp_path / "f.npz", **arrays)  # type: ignore[arg-type]
    images = open_split(str(tmp_path / "f.npz"))
    assert images.tensor().shape == (12, 3, 6, 5)
    for name, message in (
        ("short", r"f\.npz: short is int64 of shape \(11,\); save integers or texts of shape \(12,\), one for each"),
        ("values", r"values is float64 of shape \(12,\); save integers or texts"),
        ("objects", "objects holds Python objects, which are never unpickled"),
    ):
        with pytest.raises(InputError, match=message):
            images.metadata[name]()


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_further_columns_of_labels_csv_are_metadata_in_its_order(tmp_path: Path, kind: str):
    files = {f"{n}.png": png(GREY[i]) for i, n in enumerate("abcd")}
    text = "file,person,label,split\nd.png,Zoe,1,train\nb.png,,0,train\na.png,Al,0,test\nc.png, Al ,1,train\n"
    files |= {"labels.csv": text.encode()}
    path = fill_folder(tmp_path / "f", files) if kind == "folder" else fill_zip(tmp_path / "f.zip", files)
    found = open_images(str(path))
    assert metadata(found["train"]) == {"person": [2, -1, 1]}
    assert metadata(found["test"]) == {"person": [0]}


def test_metadata_goes_with_the_images_and_is_no_part_of_their_identity(tmp_path: Path):
    src = torch.tensor([7, 7, 3, 3, 3, 1, 1, 2, 2, 2, 2, 5])
    pixels = torch.from_numpy(GREY[:, None])
    bare, images = from_tensor(pixels, name="mine"), from_tensor(pixels, name="mine", metadata={"src": src})
    part = images.subset([11, 2, 0, 4]).subset([3, 2, 1])
    assert metadata(part) == {"src": [3, 7, 3]}
    assert metadata(fitted(images, (3, 4, 4))[0]) == {"src": src.tolist()}
    assert (images.sha256, images.fingerprint) == (bare.sha256, bare.fingerprint)
    assert part.fingerprint == bare.subset([11, 2, 0, 4]).subset([3, 2, 1]).fingerprint
    with pytest.raises(
        InputError, match=r"mine: the metadata 'src' is torch\.int64 of shape \(11,\); want int64 \(12,\)"
    ):
        from_tensor(pixels, name="mine", metadata={"src": src[:11]})


def test_from_tensor():
    pixels = torch.from_numpy(GREY[:, None])
    images = from_tensor(pixels, torch.arange(12), name="mine", classes=tuple("abcdefghijkl"))
    assert (images.name, images.n, images.shape) == ("mine", 12, (1, 6, 5))
    assert images.tensor().data_ptr() == pixels.data_ptr()
    others = [from_tensor(pixels, name="mine"), from_tensor(pixels.mT, name="mine"), from_tensor(pixels + 1, name="m")]
    assert len({i.sha256 for i in [images, *others]}) == 4


# Bad input: (files of a folder, or the arrays of a .npz), the split to read, the message

OK = {"a/1.png": png(RGB[0]), "b/1.png": png(RGB[1])}


def table(text: str) -> dict[str, bytes]:
    return {"1.png": png(GREY[0]), "2.png": png(GREY[1]), "labels.csv": text.encode()}


BAD_FILES: dict[str, tuple[dict[str, bytes], str]] = {
    "no image": ({"readme.txt": b"hello"}, "holds no images"),
    "mixed sizes": (OK | {"b/2.png": png(RGB[0, :4])}, r"'b/2\.png' is 4x5, but 'a/1\.png' is 6x5"),
    "RGB among grey": ({"1.png": png(GREY[0]), "2.png": png(RGB[0])}, r"'2\.png' is RGB, but '1\.png' is grey"),
    "16-bit grey": ({"1.png": bare_png(16, 0, 5, 6)}, r"'1\.png' has mode I;16"),
    "16-bit RGB": ({"1.png": bare_png(16, 2, 5, 6)}, r"'1\.png' has mode RGB or 16 bits"),
    "CMYK": ({"1.jpg": encode(Image.new("CMYK", (4, 4)), "JPEG")}, r"'1\.jpg' has mode CMYK"),
    "floats": ({"1.tif": encode(Image.new("F", (4, 4)), "TIFF")}, r"'1\.tif' has mode F"),
    "alpha": ({"1.png": encode(Image.new("RGBA", (4, 4), (1, 2, 3, 254)))}, r"'1\.png' has transparent pixels"),
    "transparent colour": (
        {"1.png": encode(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))},
        r"'1\.png' has transparent pixels",
    ),
    "transparent palette": (
        {"1.png": encode(Image.new("P", (4, 4)), transparency=0)},
        r"'1\.png' has transparent pixels",
    ),
    "animation": (
        {"1.png": encode(Image.fromarray(GREY[0]), save_all=True, append_images=[Image.fromarray(GREY[1])])},
        r"'1\.png' holds 2 frames",
    ),
    "truncated": (OK | {"b/2.png": png(RGB[0])[:-30]}, r"'b/2\.png' cannot be read"),
    "truncated JPEG": (
        {"1.jpg": encode(Image.effect_noise((64, 64), 50), "JPEG")[:-400]},
        r"'1\.jpg' cannot be read",
    ),
    "not an image": ({"1.png": b"GIF89a"}, r"'1\.png' cannot be read"),
    "empty file": ({"1.png": b""}, r"'1\.png' cannot be read"),
    "pixel bomb": ({"1.png": bare_png(8, 0, 5000, 5000)}, r"'1\.png' is 5000x5000, more than 16,777,216 pixels"),
    "larger bomb": ({"1.png": bare_png(8, 0, 60000, 60000)}, r"'1\.png' cannot be read: .* decompression bomb"),
    "mixed depth": (OK | {"3.png": png(RGB[0])}, r"no layout fits '3\.png' and 'a/1\.png'"),
    "too deep": ({"x/y/1.png": png(RGB[0]), "z/y/1.png": png(RGB[0])}, r"no layout fits 'x/y/1\.png'"),
    "table without label": (table("file,class\n1.png,1\n"), "needs the columns file and label"),
    "empty table": (table(""), "needs the columns file and label"),
    "missing file": (table("file,label\n1.png,0\n3.png,1\n"), r"row 3: '3\.png' is no image here"),
    "file outside": (table("file,label\n../1.png,0\n"), r"row 2: '\.\./1\.png' is no image here"),
    "listed twice": (table("file,label\n1.png,0\n1.png,1\n"), r"row 3: '1\.png' is listed twice"),
    "short row": (table("file,label\n1.png\n"), r"row 2: '1\.png' has no label column"),
    "not listed": (table("file,label\n1.png,0\n"), r"1 images are not listed, such as '2\.png'"),
    "huge label": (table("file,label\n1.png,0\n2.png,999999999\n"), "a label is 999999999"),
    "not text": (OK | {"labels.csv": b"\xff\xfe\x00"}, r"labels\.csv cannot be read"),
}


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path: Path, kind: str, case: str):
    files, message = BAD_FILES[case]
    path = fill_folder(tmp_path / "f", files) if kind == "folder" else fill_zip(tmp_path / "f.zip", files)
    with pytest.raises(InputError, match=message) as caught:
        open_split(str(path)).tensor()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def member(name: str, **attributes) -> Callable[[zipfile.ZipFile], None]:
    def write(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = info.orig_filename = name
        for key, value in attributes.items():
            setattr(info, key, value)
        archive.writestr(info, png(GREY[0]))

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (member("/etc/1.png"), "hostile member name '/etc/1.png'"),
        (member("a/../../1.png"), "hostile member name"),
        (member("a\\1.png"), "hostile member name"),
        (member("C:1.png"), "hostile member name"),
        (member("1.png", create_system=3, external_attr=0o120777 << 16), "'1.png' is a symbolic link"),
        (lambda archive: (member("1.png")(archive), member("1.png")(archive)), "holds '1.png' twice"),
        (lambda archive: archive.mkdir("b"), "the folder 'b' holds no image"),
        (lambda archive: [archive.writestr(f"{i}.txt", b"") for i in range(4)], "holds more than 4 members"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write, message: str):
    monkeypatch.setattr(module, "MAX_MEMBERS", 4)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a/1.png", png(GREY[0]))
        write(archive)
    with pytest.raises(InputError, match=re.escape(message)):
        open_split(str(tmp_path / "z.zip"))


def test_encrypted_zip(tmp_path: Path):
    path = fill_zip(tmp_path / "z.zip", {"1.png": png(GREY[0])})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is encrypted"):
        open_split(str(path))


def test_bombs_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "RATIO_FROM", 1 << 20)
    with pytest.raises(InputError, match="refused as a bomb"):
        open_split(str(fill_zip(tmp_path / "z.zip", {"1.png": bytes(4 << 20)})))
    np.savez_compressed(tmp_path / "f.npz", x=np.zeros((4, 1024, 1024), np.uint8))
    with pytest.raises(InputError, match="refused as a bomb"):
        open_split(str(tmp_path / "f.npz"))
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    for path in (
        fill_zip(tmp_path / "y.zip", {"1.png": bytes(1001)}),
        fill_folder(tmp_path / "f", {"1.png": bytes(1001)}),
    ):
        with pytest.raises(InputError, match=r"'1\.png' is larger than"):
            open_split(str(path))


BAD_ARRAYS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "no images": ({"z": RGB}, "no x_train, x_test, x, images or arr_0 in it, but z"),
    "floats in [0, 1]": ({"x": RGB / 255}, r"x is float64 in \[0, 1\]; save np.uint8\(np.round\(x \* 255\)\)"),
    "floats in [-1, 1]": ({"x": (RGB / 127.5 - 1).astype(np.float32)}, r"in \[-1, 1\]; save .*\(x \+ 1\) \* 127\.5"),
    "integers": ({"x": RGB.astype(np.int64)}, r"x is int64 in \[0, 255\]; save np.uint8\(np.round\(x\)\)"),
    "pickle": ({"x": np.array([{"a": 1}], object)}, "x holds Python objects, which are never unpickled"),
    "pickled labels": ({"x": RGB, "y": np.array(["a"] * 12, object)}, "y holds Python objects"),
    "ambiguous": ({"x": RGB.transpose(0, 3, 1, 2)[:, :, :, :3]}, r"shape \(12, 3, 6, 3\) could be NHWC or NCHW"),
    "no channels": ({"x": RGB[:, :5, :5, :2]}, r"shape \(12, 5, 5, 2\) is not NHWC, NCHW or NHW"),
    "flat": ({"x": RGB.reshape(12, -1)}, "is not NHWC, NCHW or NHW"),
    "no image": ({"x": RGB[:0]}, "n > 0"),
    "fewer labels": ({"x": RGB, "y": np.arange(11)}, r"y is int64 of shape \(11,\); save integers of shape \(12,\)"),
    "one-hot labels": ({"x": RGB, "y": np.eye(12, dtype=int)}, r"y is int64 of shape \(12, 12\)"),
    "float labels": ({"x": RGB, "y": np.arange(12.0)}, "y is float64"),
    "negative labels": ({"x": RGB, "y": np.arange(12) - 2}, "a label is -2"),
    "huge labels": ({"x": RGB, "y": np.arange(12) + 10**6}, "a label is 1000011"),
    "two of a split": ({"x_val": RGB, "x_valid": RGB}, "'x_val' and 'x_valid' are both the split 'valid'"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_npz(tmp_path: Path, case: str):
    arrays, message = BAD_ARRAYS[case]
    np.savez(tmp_path / "f.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message) as caught:
        open_images(str(tmp_path / "f.npz"))
    assert "\n" not in str(caught.value)


def npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            npy("{'descr': '|u1', 'fortran_order': False, 'shape': (999999999, 999, 999, 3)}\n", b"12"),
            "but holds 2 bytes",
        ),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 1, 1, 1)}\n", b"1"), "claims uint8"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (__import__('os'),)}\n"), "cannot be read"),
        (b"\x80\x04N.", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_hostile_npy(tmp_path: Path, content: bytes, message: str):
    with pytest.raises(InputError, match=message):
        open_images(str(fill_zip(tmp_path / "f.npz", {"x.npy": content})))


def test_truncated_archives(tmp_path: Path):
    np.savez(tmp_path / "f.npz", x=RGB)
    fill_zip(tmp_path / "f.zip", OK)
    for name in ("f.npz", "f.zip"):
        whole = (tmp_path / name).read_bytes()
        for size in (0, 10, len(whole) // 2, len(whole) - 3):
            (tmp_path / name).write_bytes(whole[:size])
            with pytest.raises(InputError, match="cannot be read"):
                open_images(str(tmp_path / name))


def test_empty_class_in_a_folder(tmp_path: Path):
    folder = fill_folder(tmp_path / "f", OK)
    (folder / "c").mkdir()
    with pytest.raises(InputError, match="the folder 'c' holds no image"):
        open_images(str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        open_images(str(tmp_path / "empty"))


def test_folders_in_a_circle(tmp_path: Path):
    folder = fill_folder(tmp_path / "f", OK)
    (folder / "a" / "again").symlink_to(folder)
    with pytest.raises(InputError, match="nested too deeply"):
        open_images(str(folder))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "'' is not a data set"),
        ("gen:model", "'gen:model' is not a data set"),
        ("svnh", "no such file or folder, nor a data set; did you mean 'svhn'"),
        ("nowhere/x.npz:train", "'nowhere/x.npz:train': no such file or folder"),
        ("a\0b", r"'a\x00b'"),
        ("x" * 5000, "xxx"),
        ("digits:valid", "digits: no split 'valid' (known: train, test)"),
        ("{tmp}/f.txt", "f.txt: not a folder, .zip or .npz"),
        ("{tmp}/f.npz:tset", "f.npz: no split 'tset'; did you mean 'test'? (known: train, test)"),
        ("cifar10", "CIFAR-10: not in {tmp}, or not whole; name the right folder with `data_root`, or"),
        ("MNIST:test", "`download`"),
        ("fashion-mnist", "`download`"),
        ("SVHN:extra", "`download`"),
        ("stl10:unlabeled", "`download`"),
        ("celeba", "`download`"),
        ("lsun", "no category '', as in LSUN:bedroom_train"),
        ("lsun:tower_val", "no category 'tower_val'"),
    ],
)
def test_bad_specs(tmp_path: Path, spec: str, message: str):
    (tmp_path / "f.txt").write_text("")
    np.savez(tmp_path / "f.npz", x_train=RGB, x_test=RGB)
    with pytest.raises(InputError, match=re.escape(message.format(tmp=tmp_path))) as caught:
        open_images(spec.format(tmp=tmp_path), root=tmp_path)
    assert "\n" not in str(caught.value)


# Named sets: small files in the real formats. They have not the published checksums, so these checks are set aside.


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(path: str, md5: str | None = None) -> bool:
        return Path(path).is_file()

    for name in ("utils", "svhn", "stl10", "celeba", "mnist"):
        monkeypatch.setattr(f"torchvision.datasets.{name}.check_integrity", exists)


def check(images: Images, name: str, pixels: np.ndarray, labels: list[int] | None) -> None:
    assert images.name == name
    assert torch.equal(images.tensor(), torch.from_numpy(np.ascontiguousarray(pixels)))
    assert images.shape == pixels.shape[1:]
    assert (images.labels.tolist() if images.labels is not None else None) == labels
    assert re.fullmatch("[0-9a-f]{64}", images.sha256)


def test_digits_need_no_file():
    train, test = open_images("digits").values()
    assert (train.n, test.n, train.shape) == (898, 899, (1, 8, 8))
    assert train.labels is not None
    assert train.labels[:11].tolist() == [*range(10), 0]
    whole = torch.cat([train.tensor(), test.tensor()])
    assert whole.max() == 255
    assert whole[0, 0, 0, :4].tolist() == [0, 0, 80, 207]  # 0, 0, 5, 13 of 16
    assert open_split("Digits:train").fingerprint == train.fingerprint != test.fingerprint


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_mnist(tmp_path: Path, name: str):
    raw = tmp_path / name / "raw"
    raw.mkdir(parents=True)
    for split, n in (("train", 7), ("t10k", 5)):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, n, 6, 5) + GREY[:n].tobytes())
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + bytes(range(n)))
    found = open_images(name.lower(), root=tmp_path)
    check(found["train"], f"{name}:train", GREY[:7, None], [*range(7)])
    check(found["test"], f"{name}:test", GREY[:5, None], [*range(5)])
    assert len(found["test"].classes) == 10
    (raw / "train-images-idx3-ubyte").write_bytes(b"\0\0")
    with pytest.raises(InputError, match="not whole"):
        open_images(f"{name}:train", root=tmp_path)


@pytest.mark.usefixtures("unchecked")
def test_svhn(tmp_path: Path):
    from scipy.io import savemat

    pixels = RNG.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    for split in ("train", "test", "extra"):
        labels = np.array([[10], [1], [9], [2]], np.uint8)
        savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels.transpose(2, 3, 1, 0), "y": labels})
    found = open_images("SVHN", root=tmp_path)
    assert list(found) == ["train", "test"]
    check(found["test"], "SVHN:test", pixels, [0, 1, 9, 2])
    check(open_split("svhn:extra", root=tmp_path), "SVHN:extra", pixels, [0, 1, 9, 2])


@pytest.mark.usefixtures("unchecked")
def test_stl10(tmp_path: Path):
    folder = tmp_path / "stl10_binary"
    pixels = RNG.integers(0, 256, (3, 3, 96, 96), dtype=np.uint8)
    names = [f"class {i}" for i in range(10)]
    files = {f"{s}_X.bin": pixels.transpose(0, 1, 3, 2).tobytes() for s in ("train", "test", "unlabeled")}
    files |= {f"{s}_y.bin": bytes([1, 10, 3]) for s in ("train", "test")}
    fill_folder(folder, files | {"class_names.txt": "\n".join(names).encode()})
    found = open_images("stl10", root=tmp_path)
    check(found["train"], "STL-10:train", pixels, [0, 9, 2])
    assert found["test"].classes == tuple(names)
    check(open_split("STL-10:unlabeled", root=tmp_path), "STL-10:unlabeled", pixels, None)


def cpickle(fields: Mapping[str, object]) -> bytes:
    """A dict as Python 2's cPickle wrote it with protocol 2, byte strings, memo and all."""
    memo = iter(range(10**6))

    def put() -> bytes:
        return b"r" + struct.pack("<I", next(memo))

    def item(value: object) -> bytes:
        if isinstance(value, str):
            return b"U" + bytes([len(value)]) + value.encode() + put()
        if isinstance(value, int):
            return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)
        if isinstance(value, list):
            return b"]" + put() + b"(" + b"".join(map(item, value)) + b"e"
        assert isinstance(value, np.ndarray)
        dtype = b"cnumpy\ndtype\n" + put() + b"U\x02u1" + put() + b"K\0K\1\x87" + put() + b"R" + put()
        dtype += b"(K\3U\1|" + put() + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t" + put() + b"b"
        shape = b"".join(item(size) for size in value.shape) + b"\x86" + put()
        start = b"cnumpy.core.multiarray\n_reconstruct\n" + put() + b"cnumpy\nndarray\n" + put() + b"K\0\x85" + put()
        state = b"(K\1" + shape + dtype + b"\x89T" + struct.pack("<I", value.nbytes) + value.tobytes() + put()
        return start + b"U\1b" + put() + b"\x87" + put() + b"R" + put() + state + b"t" + put() + b"b"

    body = b"".join(item(key) + item(value) for key, value in fields.items())
    return b"\x80\x02}" + put() + b"(" + body + b"u."


PIXELS = RNG.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)


def write_cifar10(root: Path) -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    files = {"batches.meta": cpickle({"num_cases_per_batch": 10, "label_names": names, "num_vis": 3072})}
    for i, name in enumerate(
        ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    ):
        fields = {
            "batch_label": f"training batch {i} of 5",
            "labels": [(i + k) % 10 for k in range(10)],
            "data": PIXELS[10 * i : 10 * i + 10].reshape(10, 3072),
            "filenames": [f"labels_s_{k:06}.png" for k in range(10)],
        }
        files[name] = cpickle(fields)
    fill_folder(root / "cifar-10-batches-py", files)


@pytest.mark.usefixtures("unchecked")
def test_cifar10(tmp_path: Path):
    write_cifar10(tmp_path)
    found = open_images("cifar_10", root=tmp_path)
    check(found["train"], "CIFAR-10:train", PIXELS[:50], [(i + k) % 10 for i in range(5) for k in range(10)])
    check(found["test"], "CIFAR-10:test", PIXELS[50:], [(5 + k) % 10 for k in range(10)])
    assert found["test"].classes[:2] == ("airplane", "automobile")


def test_cifar10_must_be_the_published_files(tmp_path: Path):
    write_cifar10(tmp_path)
    with pytest.raises(InputError, match="data_batch_1 is missing or not the published file"):
        open_images("cifar10", root=tmp_path)


@pytest.mark.usefixtures("unchecked")
def test_cifar100(tmp_path: Path):
    names = [f"name {i}" for i in range(100)]
    fields = {"fine_labels": [*range(90, 100)], "coarse_labels": [0] * 10, "data": PIXELS[:10].reshape(10, 3072)}
    test = cpickle({"filenames": ["a.png"] * 10, "batch_label": "testing batch 1 of 1", **fields})
    meta = cpickle({"fine_label_names": names, "coarse_label_names": names[:20]})
    fill_folder(tmp_path / "cifar-100-python", {"train": test, "test": test, "meta": meta})
    images = open_split("CIFAR100:test", root=tmp_path)
    check(images, "CIFAR-100:test", PIXELS[:10], [*range(90, 100)])
    assert images.classes == tuple(names)


@pytest.mark.usefixtures("unchecked")
def test_cifar_files_are_never_unpickled(tmp_path: Path):
    marker = tmp_path / "executed"
    write_cifar10(tmp_path)
    file = tmp_path / "cifar-10-batches-py" / "test_batch"
    attack = b"cos\nsystem\nU" + bytes([len(f"touch {marker}")]) + f"touch {marker}".encode() + b"\x85R0"
    file.write_bytes(b"\x80\x02" + attack + file.read_bytes()[2:])
    open_images("cifar10:test", root=tmp_path)
    assert not marker.exists()
    subprocess.run(
        [sys.executable, "-c", "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))", file], check=False
    )
    assert marker.exists()  # so the file really attacks


@pytest.mark.usefixtures("unchecked")
def test_celeba(tmp_path: Path):
    names = [f"{i:06}.png" for i in range(1, 7)]
    rows = {"list_eval_partition.txt": "0", "identity_CelebA.txt": "7", "list_attr_celeba.txt": "-1 1"}
    rows |= {"list_bbox_celeba.txt": "1 2 3 4", "list_landmarks_align_celeba.txt": "1 2"}
    headed = ("list_attr_celeba.txt", "list_bbox_celeba.txt", "list_landmarks_align_celeba.txt")
    files = {
        file: (("4\nsome names\n" if file in headed else "") + "".join(f"{n} {row}\n" for n in names)).encode()
        for file, row in rows.items()
    }
    files["list_eval_partition.txt"] = "".join(f"{n} {k}\n" for n, k in zip(names, "001122", strict=True)).encode()
    files |= {f"img_align_celeba/{n}": png(RGB[i]) for i, n in enumerate(names)}
    fill_folder(tmp_path / "celeba", files)
    found = open_images("celeba", root=tmp_path)
    assert {s: i.n for s, i in found.items()} == {"train": 2, "valid": 2, "test": 2}
    check(found["train"], "CelebA:train", RGB[:2].transpose(0, 3, 1, 2), None)
    check(open_split("CelebA:all", root=tmp_path), "CelebA:all", RGB[:6].transpose(0, 3, 1, 2), None)
    (tmp_path / "celeba" / "img_align_celeba" / names[3]).unlink()
    with pytest.raises(InputError, match="000004"):
        open_images("celeba:all", root=tmp_path)


def test_lsun(tmp_path: Path):
    lmdb = pytest.importorskip("lmdb")
    tall, wide = (RNG.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((300, 256), (256, 341)))
    with lmdb.open(str(tmp_path / "tower_val_lmdb")) as database, database.begin(write=True) as edit:
        edit.put(b"b" * 40, encode(Image.fromarray(wide), "WEBP", lossless=True))
        edit.put(b"a" * 40, encode(Image.fromarray(tall), "WEBP", lossless=True))
    images = open_split("lsun:tower_val", root=tmp_path)
    check(images, "LSUN:tower_val", np.stack([tall[22:278], wide[:, 42:298]]).transpose(0, 3, 1, 2), None)


def test_lsun_names_the_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    (tmp_path / "tower_val_lmdb").mkdir()
    with pytest.raises(InputError, match="needs the package lmdb; run pip install lmdb"):
        open_images("LSUN:tower_val", root=tmp_path)


def test_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network,\nnone at all")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", offline)
    with pytest.raises(InputError, match=r"could not be downloaded into .*: no network, none at all$"):
        open_images("cifar10", root=tmp_path, download=True)


# Surveys: which files are broken, and which have another shape


NOISE = Image.effect_noise((5, 6), 50)  # of the size of RGB[i]
BROKEN = {
    "empty": b"",
    "garbage": b"\x89PNG\r\n\x1a\nnot really",
    "text": b"hello",
    "truncated": png(RGB[3])[:-30],
    "cut short": png(RGB[3])[:20],
    "truncated JPEG": encode(Image.effect_noise((64, 64), 50), "JPEG")[:-400],
}


def open_kind(tmp_path: Path, kind: str, files: dict[str, bytes]) -> Images:
    path = fill_folder(tmp_path / "f", files) if kind == "folder" else fill_zip(tmp_path / "f.zip", files)
    return open_split(str(path))


def survey(images: Images) -> tuple[dict[tuple[int, int, int], list[int]], list[str]]:
    """Rows by shape, after checking that the parts hold what they say."""
    assert images.survey is not None
    found = images.survey(False)
    rows = torch.cat([torch.empty(0, dtype=torch.int64), *(rows for rows, _ in found.parts)])
    assert rows.dtype == torch.int64
    assert len(rows) == len(set(rows.tolist())) == images.n - len(found.broken)
    for rows, part in found.parts:
        assert part.n == len(rows)
        assert part.tensor().shape == (part.n, *part.shape)
    return {part.shape: rows.tolist() for rows, part in found.parts}, found.broken


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_survey_of_whole_files_is_one_part(tmp_path: Path, kind: str):
    images = open_kind(tmp_path, kind, {f"{i}.png": png(RGB[i]) for i in range(5)})
    assert images.survey is not None
    [(rows, part)], broken = images.survey(False)
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert broken == []
    assert part.fingerprint == images.fingerprint  # so that features in a cache are found again
    assert torch.equal(part.tensor(), images.tensor())


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_survey_names_broken_files(tmp_path: Path, kind: str, case: str, place: int):
    files = {f"{i}.png": png(RGB[i]) for i in range(5)} | {f"{place}.png": BROKEN[case]}
    images = open_kind(tmp_path, kind, files)
    assert (images.n, images.shape) == (5, (3, 6, 5))
    kept = [i for i in range(5) if i != place]
    shapes, broken = survey(images)
    assert shapes == {(3, 6, 5): kept}
    [what] = broken
    assert re.fullmatch(rf"'{place}\.png' \(.+\)", what)
    assert images.survey is not None
    [(_, part)], _ = images.survey(False)
    assert torch.equal(part.tensor(), torch.from_numpy(RGB[kept]).permute(0, 3, 1, 2))
    assert part.fingerprint == images.subset(kept).fingerprint != images.fingerprint
    with pytest.raises(InputError, match=rf"'{place}\.png' cannot be read"):
        images.tensor()


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_survey_tells_shapes_apart(tmp_path: Path, kind: str):
    """Grey among RGB counts as grey, although reading all at once would replicate it."""
    pixels = [RGB[0], GREY[1], RGB[2, :4], b"", RGB[4], GREY[5, :4], GREY[6]]
    files = {f"{i}.png": p if isinstance(p, bytes) else png(p) for i, p in enumerate(pixels)}
    images = open_kind(tmp_path, kind, files)
    shapes, broken = survey(images)
    assert shapes == {(3, 6, 5): [0, 4], (1, 6, 5): [1, 6], (3, 4, 5): [2], (1, 4, 5): [5]}
    assert [line.split()[0] for line in broken] == ["'3.png'"]
    assert images.survey is not None
    for rows, part in images.survey(False).parts:
        for i, image in zip(rows.tolist(), part.tensor(), strict=True):
            expected = pixels[i]
            assert isinstance(expected, np.ndarray)
            assert np.array_equal(
                image.permute(1, 2, 0).squeeze(2) if part.shape[0] == 1 else image.permute(1, 2, 0), expected
            )
        halves = torch.cat(list(part.batches(1)))
        assert torch.equal(halves, part.tensor())
    assert len({part.fingerprint for _, part in images.survey(False).parts}) == 4


def test_a_survey_says_the_same_every_time(tmp_path: Path):
    """It becomes part of a protocol."""
    images = open_kind(tmp_path, "folder", {"0.png": png(RGB[0]), "1.png": b"hello"})
    assert images.survey is not None
    first, second = (images.survey(False).broken for _ in range(2))
    assert first == second
    assert "0x" not in first[0]


def test_labels_stay_with_their_images(tmp_path: Path):
    files = {"a/0.png": b"", "a/1.png": png(RGB[1]), "b/0.png": png(GREY[2]), "b/1.png": png(RGB[3])}
    images = open_kind(tmp_path, "zip", files)
    assert images.survey is not None
    found = {part.shape[0]: part for _, part in images.survey(False).parts}
    for channels, labels in ((3, [0, 1]), (1, [1])):
        part = found[channels]
        assert part.labels is not None
        assert part.labels.tolist() == labels
        assert part.classes == ("a", "b")


def test_a_split_of_another_size_than_the_first(tmp_path: Path):
    files = {f"train/{i}.png": png(RGB[i]) for i in range(2)} | {f"test/{i}.png": png(RGB[i, :4]) for i in range(3)}
    images = open_images(str(fill_folder(tmp_path / "f", files)))["test"]
    assert survey(images) == ({(3, 4, 5): [0, 1, 2]}, [])
    assert images.survey is not None
    [(_, part)], _ = images.survey(False)
    assert torch.equal(part.tensor(), torch.from_numpy(RGB[:3, :4]).permute(0, 3, 1, 2))


def test_many_files_are_surveyed_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """More than a wave of them, by several threads."""
    monkeypatch.setattr(module, "THREADS", 4)
    pixels = np.arange(700, dtype=np.uint16).view(np.uint8).reshape(700, 1, 2)
    files = {f"{i:03}.png": png(pixels[i] if i % 3 else pixels[i].reshape(2, 1)) for i in range(700)}
    files |= dict.fromkeys(["100.png", "255.png", "256.png", "699.png"], b"no image")
    shapes, broken = survey(open_kind(tmp_path, "zip", files))
    bad = [100, 255, 256, 699]
    assert shapes == {
        (1, 2, 1): [i for i in range(700) if i % 3 == 0 and i not in bad],
        (1, 1, 2): [i for i in range(700) if i % 3 and i not in bad],
    }
    assert [line.split()[0] for line in broken] == [f"'{i}.png'" for i in bad]


def test_a_wrong_checksum_in_a_zip_is_a_broken_file(tmp_path: Path):
    """The image itself may decode all the same."""
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i in range(3):
            archive.writestr(f"{i}.bmp", encode(Image.fromarray(RGB[i]), "BMP"))
    content = bytearray(path.read_bytes())
    content[content.index(encode(Image.fromarray(RGB[1]), "BMP")) + 60] ^= 1
    path.write_bytes(content)
    images = open_split(str(path))
    shapes, broken = survey(images)
    assert shapes == {(3, 6, 5): [0, 2]}
    assert len(broken) == 1
    assert re.match(r"'1\.bmp' \(Bad CRC-32", broken[0])


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    "case", ["16-bit grey", "16-bit RGB", "CMYK", "floats", "alpha", "transparent colour", "animation", "pixel bomb"]
)
def test_images_of_a_kind_that_is_refused_are_not_merely_broken(tmp_path: Path, kind: str, case: str):
    (bad,), message = BAD_FILES[case][0].items(), BAD_FILES[case][1]
    images = open_kind(tmp_path, kind, {"0.png": png(RGB[0]), bad[0]: bad[1]})
    assert images.survey is not None
    with pytest.raises(InputError, match=message) as caught:
        images.survey(False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_nothing_but_broken_files(tmp_path: Path, kind: str):
    with pytest.raises(InputError, match=r"'0\.png' cannot be read"):
        open_kind(tmp_path, kind, {"0.png": b"", "1.png": b"x"})
    files = {"train/0.png": png(RGB[0]), "test/0.png": b"", "test/1.png": b"x"}
    path = fill_folder(tmp_path / "g", files) if kind == "folder" else fill_zip(tmp_path / "g.zip", files)
    shapes, broken = survey(open_split(f"{path}:test"))
    assert shapes == {}
    assert [line.split()[0] for line in broken] == ["'test/0.png'", "'test/1.png'"]


def test_only_whole_splits_of_files_are_surveyed(tmp_path: Path):
    folder = open_kind(tmp_path, "folder", {f"{i}.png": png(RGB[i]) for i in range(3)})
    assert folder.survey is not None
    assert folder.subset([0, 1, 2]).survey is None
    np.savez(tmp_path / "f.npz", x=RGB)
    assert open_split(str(tmp_path / "f.npz")).survey is None
    assert open_split("digits:train").survey is None
    assert generated(draw, 3, name="gen:x", sha256="abc", shape=(1, 2, 2)).survey is None


def test_a_survey_shows_a_bar_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for asked in (False, True):
        images = open_kind(tmp_path, "folder", {f"{i}.png": png(RGB[i]) for i in range(3)})
        assert images.survey is not None
        found = images.survey(asked)
        assert ("checking f" in capsys.readouterr().err) == asked
        assert images.survey(True) is found  # it is kept, and no file read again
        assert capsys.readouterr().err == ""
