import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from PIL import Image

from dcgan_eval.figures import Panel, Tiles, animation, curves, grid, groups, numbered, sheet


def opened(picture):
    data = picture if isinstance(picture, bytes) else picture.render("png")
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_image_where_it_belongs(channels):
    images = torch.randint(0, 255, (7, channels, 64, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sheet = opened(grid(images, 3, margin=2))
    assert sheet.shape[:2] == (3 * 64 + 4, 3 * 70 + 4)
    sheet = sheet.reshape(*sheet.shape[:2], channels)
    left = np.ones(sheet.shape[:2], bool)
    for i, image in enumerate(images):
        place = (slice(i // 3 * 66, i // 3 * 66 + 64), slice(i % 3 * 72, i % 3 * 72 + 70))
        assert (sheet[place] == image.permute(1, 2, 0).numpy()).all()
        left[place] = False
    assert (sheet[left] == 255).all()


def test_small_images_are_enlarged_by_whole_pixels():
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    sheet = opened(grid(image, 1))
    assert sheet.shape == (64, 64)
    assert (sheet.reshape(8, 8, 8, 8) == image[0, 0].numpy()[:, None, :, None]).all()


def test_a_grid_is_the_same_bytes_each_time():
    images = torch.randint(0, 255, (4, 3, 8, 8), dtype=torch.uint8)
    assert grid(images, 2) == grid(images, 2)


def test_curves_are_as_many_panels_as_asked_for():
    one = opened(curves({"loss": {"D": ([1, 2], [3, 4])}}, "images"))
    two = opened(curves({"loss": {"D": ([1, 2], [3, 4]), "G": ([1], [2])}, "empty": {"": ([], [])}}, "images"))
    assert two.shape[1] == one.shape[1]
    assert two.shape[0] == pytest.approx(2 * one.shape[0], abs=2)
    assert one.std() > 0


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 255), (0, 255, 255), (255, 255, 0)]


def flat(colours):
    return torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 8, 8)


def boxes(sheet):
    """(left, top, right, bottom) of all pixels of each colour."""
    out = {}
    for colour in COLOURS:
        y, x = np.nonzero((sheet[..., :3] == colour).all(-1))
        if len(x):
            out[colour] = (x.min(), y.min(), x.max() + 1, y.max() + 1)
    return out


def test_groups_stand_apart_and_their_images_side_by_side():
    tiles = [flat(COLOURS[:2]), flat(COLOURS[2:5])]
    sheet = opened(groups(tiles, [["a", "b"], ["c", "d", "e"]], "title"))
    found = boxes(sheet)
    assert list(found) == COLOURS[:5]
    side = 0.7 * 150 * 0.98
    for left, top, right, bottom in found.values():
        assert right - left == pytest.approx(side, abs=3)
        assert bottom - top == pytest.approx(side, abs=4)
    places = [found[colour] for colour in COLOURS[:5]]
    gaps = [after[0] - before[2] for before, after in pairwise(places)]
    assert min(gaps) > 0
    assert gaps[1] > 2 * max(gaps[0], gaps[2], gaps[3])
    assert {place[1] for place in places} == {places[0][1]}


def test_lines_hold_ten_images_and_a_group_is_not_broken():
    pairs = [flat([COLOURS[i % 5]] * 2) for i in range(5)] + [flat([COLOURS[5]] * 2)]
    five, six = (opened(groups(pairs[:n], [["", ""]] * n, "")) for n in (5, 6))
    assert six.shape[1] == five.shape[1]
    assert six.shape[0] - five.shape[0] == pytest.approx(0.7 * 1.4 * 150, abs=2)
    found = boxes(six)
    assert found[COLOURS[5]][1] > found[COLOURS[4]][3]
    assert found[COLOURS[5]][0] == pytest.approx(found[COLOURS[0]][0], abs=1)
    assert found[COLOURS[4]][2] <= six.shape[1]
    large = [flat([COLOURS[0]] * 8), flat([COLOURS[1]] * 8)]
    found = boxes(opened(groups(large, [[""] * 8] * 2, "")))
    assert found[COLOURS[1]][1] > found[COLOURS[0]][3]


def test_pixels_of_groups_are_upright_and_as_they_are():
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[0, :, :4, :4] = torch.tensor(COLOURS[0])[:, None, None]
    image[0, :, 4:, 4:] = torch.tensor(COLOURS[1])[:, None, None]
    found = boxes(opened(groups([image], [["a"]], "title")))
    red, green = found[COLOURS[0]], found[COLOURS[1]]
    assert red[2] == pytest.approx(green[0], abs=2)
    assert red[3] == pytest.approx(green[1], abs=2)


def test_titles_of_groups_are_written():
    tiles = [flat(COLOURS[:1])]
    plain, named, titled = (
        opened(groups(tiles, [[name]], title)) for name, title in (("", ""), ("train 7", ""), ("", "x"))
    )
    assert plain.shape == named.shape == titled.shape
    changed = [np.nonzero((other != plain).any(-1))[0] for other in (named, titled)]
    assert all(len(rows) for rows in changed)
    # the title above the names, and they above the images
    assert changed[1].max() < changed[0].min()
    assert changed[0].max() < boxes(plain)[COLOURS[0]][3]


def test_no_groups_are_a_sheet_that_says_so():
    empty = opened(groups([], [], "title"))
    assert empty.std() > 0
    assert (empty != opened(groups([], [], "other"))).any()
    assert groups([], [], "title").render("png") == groups([], [], "title").render("png")


# sheets and animations


def tiles(high, wide, channels=3, **names):
    g = torch.Generator().manual_seed(high)
    images = torch.randint(0, 255, (high, wide, channels, 8, 8), dtype=torch.uint8, generator=g)
    return Tiles(f"{high} by {wide}", images, **names)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_sheet_is_of_a_pages_width_and_the_same_bytes_each_time(kind):
    def drawn():
        strips = [tiles(2, 5, rows=["a", "b"]), [tiles(1, 3), tiles(2, 2, 1)]]
        panel = Panel(
            "straight?", {"with": ([0, 1, 2], [1, 2, 3], [0.1, 0.1, 0.1]), "line": ([0, 2], [1, 3])}, "t", "y"
        )
        return sheet(strips, "a title", panel)

    first = drawn()
    assert first.figure.get_size_inches()[0] == 7
    assert first.render(kind) == drawn().render(kind)


def test_a_sheet_names_everything():
    picture = sheet([tiles(2, 3, rows=["first", "second"], columns=["x", "y", "z"])], "title $5 & more")
    svg = picture.render("svg").decode()
    for words in ("title $5 &amp; more", "2 by 3", "first", "second", ">x<", ">y<", ">z<"):
        assert words in svg
    assert len(picture.figure.axes[0].images) == 6


def test_tiles_of_a_sheet_lie_in_the_page_and_apart():
    picture = sheet([tiles(3, 12, rows=["a name of some length"] * 3), [tiles(2, 6), tiles(1, 5)]], "title")
    ax = picture.figure.axes[0]
    boxes = [image.get_extent() for image in ax.images]
    assert len(boxes) == 36 + 12 + 5
    width, height = picture.figure.get_size_inches()
    for left, right, bottom, top in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert right - left == pytest.approx(bottom - top)
    for i, (left, right, bottom, top) in enumerate(boxes):
        for other_left, other_right, other_bottom, other_top in boxes[:i]:
            assert right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top


def test_boxes_are_drawn_where_they_are():
    picture = sheet([tiles(1, 2, boxes=[(1, 2, 4, 6, 8)])], "title")
    (box,) = picture.figure.axes[0].patches
    assert isinstance(box, Rectangle)
    left, right, bottom, top = picture.figure.axes[0].images[1].get_extent()
    pixel = (right - left) / 8
    assert box.get_x() == pytest.approx(left + 2 * pixel)
    assert box.get_y() == pytest.approx(top + 4 * pixel)
    assert box.get_width() == pytest.approx(4 * pixel)
    assert box.get_height() == pytest.approx(4 * pixel)
    assert bottom > top


def test_a_contact_sheet_numbers_every_image():
    images = torch.zeros(14, 1, 8, 8, dtype=torch.uint8)
    picture = numbered(images, "samples", columns=6)
    assert len(picture.figure.axes[0].images) == 14
    words = [text.get_text() for text in picture.figure.axes[0].texts]
    assert [word for word in words if word.isdigit()] == [str(i) for i in range(14)]


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_an_animation_holds_every_frame_and_loops(kind):
    frames = [torch.full((1, 8, 8), 25 * i, dtype=torch.uint8) for i in range(10)]
    with Image.open(io.BytesIO(animation(frames, kind))) as film:
        assert film.format == kind.upper()
        assert getattr(film, "n_frames", 1) == 10
        assert film.info["loop"] == 0
        for i in range(10):
            film.seek(i)
            pixels = np.array(film.convert("L"))
            assert pixels.shape == (256, 256)
            assert np.abs(pixels.astype(int) - 25 * i).max() <= 1
