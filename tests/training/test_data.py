import threading
from dataclasses import replace

import pytest
import torch

from dcgan_eval.images import from_tensor
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import Ranks
from tests.builders import recipe
from training import data
from training.data import minibatches, prepared, steps_per_epoch

CPU = torch.device("cpu")


def numbered(n=70, size=(8, 8), channels=1, labels=True):
    """Image i is i all over, and of class i % 10."""
    i = torch.arange(n)
    pixels = i.to(torch.uint8)[:, None, None, None].expand(n, channels, *size).contiguous()
    return from_tensor(pixels, i % 10 if labels else None, name="numbered")


def order(steps, ranks=None, images=None, **changes):
    """Which images the minibatch of each step holds."""
    batches = minibatches(images or numbered(), recipe(**changes), steps, CPU, ranks or Ranks())
    return [x[:, 0, 0, 0].long() for x, _ in batches]


@pytest.fixture(params=["resident", "streamed"])
def path(request, monkeypatch):
    if request.param == "streamed":
        monkeypatch.setattr(data, "RESIDENT_SHARE", 0)
    return request.param


def same(first, second):
    return len(first) == len(second) and all(map(torch.equal, first, second))


def test_an_epoch_is_a_permutation_and_its_rest_is_left_out(path):
    assert steps_per_epoch(numbered(), recipe()) == 4
    whole = torch.cat(order(range(4), images=numbered(64)))
    assert not torch.equal(whole, torch.arange(64))
    assert torch.equal(whole.sort().values, torch.arange(64))
    assert len(torch.cat(order(range(4))).unique()) == 64


def test_the_rest_differs_between_epochs():
    epochs = torch.cat(order(range(40))).reshape(10, 64)
    assert all(len(epoch.unique()) == 64 for epoch in epochs)
    assert len(epochs.unique()) == 70


def test_order_depends_on_epoch_and_seed_alone(path):
    first, second = order(range(4), seed=1), order(range(4, 8), seed=1)
    assert not same(first, second)
    assert not same(first, order(range(4), seed=2))
    assert same(first + second, order(range(8), seed=1))
    torch.manual_seed(0)
    assert same(first, order(range(4), seed=1))
    # nor on what is done with the images
    assert same(first, order(range(4), seed=1, r1=1.0, updates="both", learning_rate_g=0.0))


def test_streamed_batches_are_the_resident_ones(monkeypatch):
    config, both = recipe(n_classes=10), []
    for share in (1.0, 0.0):
        monkeypatch.setattr(data, "RESIDENT_SHARE", share)
        both.append(list(minibatches(numbered(), config, range(11), CPU, Ranks())))
    assert len(both[0]) == len(both[1]) == 11
    for (x, y), (streamed_x, streamed_y) in zip(*both, strict=True):
        assert x.shape == (16, 1, 8, 8)
        assert x.dtype == torch.uint8
        assert torch.equal(x, streamed_x)
        assert torch.equal(y, streamed_y)


def test_each_path_reads_as_it_says(path):
    """Whole, or no more than a minibatch at a time."""
    images, sizes = numbered(), []

    def read(rows):
        sizes.append(len(rows))
        return images.read(rows)

    list(minibatches(replace(images, read=read), recipe(), range(6), CPU, Ranks()))
    assert sizes == ([70] if path == "resident" else [16] * 6)
    sizes.clear()
    batches = minibatches(replace(images, read=read), recipe(), range(1000), CPU, Ranks())
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(sizes) <= data.AHEAD + 1


def test_labels_go_with_their_images_where_the_network_asks_for_them(path):
    for x, y in minibatches(numbered(), recipe(n_classes=10), range(6), CPU, Ranks()):
        assert y is not None
        assert y.dtype == torch.int64
        assert torch.equal(x[:, 0, 0, 0].long() % 10, y)
    assert all(y is None for _, y in minibatches(numbered(), recipe(), range(6), CPU, Ranks()))


@pytest.mark.parametrize("world", [2, 4])
def test_the_shares_of_ranks_make_the_minibatch(world, path):
    shares = [order(range(6), Ranks(rank, world)) for rank in range(world)]
    assert same([torch.cat(parts) for parts in zip(*shares, strict=True)], order(range(6)))


@pytest.mark.parametrize("k", [1, 4, 7])
def test_starting_at_a_step_is_as_if_all_before_had_been(k, path):
    assert same(order(range(k, 10)), order(range(10))[k:])


def test_no_steps_are_no_batches(path):
    assert order(range(5, 5)) == []


@pytest.mark.parametrize(
    ("images", "changes", "message"),
    [
        (numbered(size=(16, 16)), {}, "numbered is 1x16x16, the network wants 1x8x8; add --fit"),
        (numbered(size=(8, 10)), {}, "numbered is 1x8x10, the network wants 1x8x8; add --fit"),
        (numbered(size=(4, 4)), {}, "numbered is 1x4x4, .*override --image-size"),
        (numbered(size=(4, 10)), {}, "numbered is 1x4x10, .*override --image-size"),
        (numbered(channels=3), {}, "numbered is 3x8x8, .*add --image-channels 3"),
        (numbered(channels=3, size=(16, 16)), {"fit": True}, "numbered is 3x8x8, .*add --image-channels 3"),
        (numbered(size=(6, 20)), {"fit": True}, "images of 6x20, smaller than 8x8"),
        (numbered(15), {}, "numbered has 15 images, fewer than a minibatch; lower --batch-size"),
        (numbered(labels=False), {"n_classes": 10}, "wants labels from 0 to 9 on all images"),
        (numbered(), {"n_classes": 9}, "wants labels from 0 to 8 on all images"),
        (replace(numbered(), labels=torch.arange(70) % 10 - 1), {"n_classes": 10}, "labels from 0 to 9 on all images"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_advice(images, changes, message):
    config = recipe(**changes)
    with pytest.raises(InputError, match=message) as caught:
        steps_per_epoch(prepared(images, config), config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{}, {"fit": True}, {"n_classes": 10}, {"batch_size": 70}])
def test_images_that_fit_are_left_as_they_are(change):
    images = numbered()
    assert prepared(images, recipe(**change)) is images


@pytest.mark.parametrize("turned", [False, True])
def test_fit_takes_the_centre_of_what_the_short_side_makes(turned):
    """16 by 24 becomes 8 by 12, of which columns 2 to 9 are those from 4 to 19 before."""
    pixels = torch.full((20, 3, 16, 24), 255, dtype=torch.uint8)
    pixels[:, :, :, 4:12] = 40
    pixels[:, :, :, 12:20] = 80
    images = from_tensor(pixels.transpose(2, 3).contiguous() if turned else pixels, name="wide")
    config = recipe(fit=True, image_channels=3)
    found = prepared(images, config)
    assert found.shape == (3, 8, 8)
    assert (found.n, found.name) == (20, "wide")
    x = found.tensor()
    assert x.dtype == torch.uint8
    assert x.shape == (20, 3, 8, 8)
    x = x.transpose(2, 3) if turned else x
    # a border is blurred over the pixels beside it
    assert (x[..., 1:3] == 40).all()
    assert (x[..., 5:7] == 80).all()
    assert (x[..., 0] < 150).all()
    assert (x[..., 7] < 150).all()
    assert torch.equal(found.read(torch.tensor([3, 1])), found.tensor()[[3, 1]])


def test_fitted_images_are_others_and_are_fitted_once():
    images = numbered(size=(16, 16))
    found = prepared(images, recipe(fit=True))
    assert prepared(found, recipe(fit=True)) is found
    assert found.fingerprint != images.fingerprint
    again = prepared(numbered(size=(16, 16)), recipe(fit=True))
    assert found.fingerprint == again.fingerprint


def broken(images, row):
    """Images of which one cannot be read."""

    def read(rows):
        if row in (rows if isinstance(rows, range) else rows.tolist()):
            raise InputError(f"numbered: image {row} cannot be read: cut short; replace it")
        return images.read(rows)

    return replace(images, read=read)


def test_an_image_that_cannot_be_read_is_told_when_its_turn_comes(monkeypatch):
    monkeypatch.setattr(data, "RESIDENT_SHARE", 0)
    wanted = order(range(8))
    row = int(wanted[2][5])
    batches = minibatches(broken(numbered(), row), recipe(), range(8), CPU, Ranks())
    for rows in wanted[:2]:
        assert torch.equal(next(batches)[0][:, 0, 0, 0].long(), rows)
    with pytest.raises(InputError, match=f"image {row} cannot be read"):
        next(batches)


def test_an_image_that_cannot_be_read_is_told_at_once_where_all_are_held():
    with pytest.raises(InputError, match="image 69 cannot be read"):
        order(range(1), images=broken(numbered(), 69))


def test_who_stops_early_leaves_no_thread_behind(monkeypatch):
    monkeypatch.setattr(data, "RESIDENT_SHARE", 0)
    before = threading.active_count()
    batches = minibatches(numbered(), recipe(), range(1000), CPU, Ranks())
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
