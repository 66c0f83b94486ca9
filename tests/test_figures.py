import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from dcgan_eval.figures import curves, grid, groups


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
