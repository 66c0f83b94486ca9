import io

import numpy as np
import pytest
import torch
from PIL import Image

from dcgan_eval.figures import curves, grid


def opened(data):
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
