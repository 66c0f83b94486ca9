import itertools

import pytest
import torch
from torch.nn import functional

from tests.builders import recipe
from training.augment import COLUMNS, augment
from training.config import AUGMENTATIONS
from training.losses import discriminator_loss, generator_loss, gradient_penalty

SETS = [*((name,) for name in AUGMENTATIONS), AUGMENTATIONS]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(names, n, seed=0, share=slice(None)):
    columns = sum(COLUMNS[name] for name in names)
    return iter(torch.rand(n, columns, generator=seeded(seed))[share].unbind(1))


def augmented(x, names, seed=0):
    return augment(x, names, draws(names, len(x), seed))


def logits(seed=0, n=9):
    return (3 * torch.randn(n, generator=seeded(seed))).requires_grad_()


def cross_entropy(logits, target):
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_discriminator_loss_is_the_cross_entropy_with_smooth_targets(smoothing):
    config = recipe(label_smoothing=smoothing)
    real, fake = logits(0), logits(1, n=7)
    found = discriminator_loss(config, real, fake)
    wanted = cross_entropy(real, 1 - smoothing) + cross_entropy(fake, 0.0)
    torch.testing.assert_close(found, wanted)
    for a, b in zip(*(torch.autograd.grad(loss, (real, fake)) for loss in (found, wanted)), strict=True):
        torch.testing.assert_close(a, b)


def test_generator_loss_does_not_saturate():
    """−log D(G(z)), whose slope is 1 where D is sure of itself, and not log(1 − D(G(z))), whose slope is 0 there."""
    fake = logits()
    torch.testing.assert_close(generator_loss(recipe(), fake), cross_entropy(fake, 1.0))
    sure = torch.full((4,), -80.0).requires_grad_()
    (gradient,) = torch.autograd.grad(generator_loss(recipe(), sure), sure)
    torch.testing.assert_close(gradient, torch.full((4,), -0.25))


def test_hinge_is_its_formula():
    config = recipe(loss="hinge")
    real, fake = torch.tensor([-2.0, 0.5, 1.0, 3.0]), torch.tensor([-3.0, -1.0, 0.5])
    # max(0, 1 - x): 3, 0.5, 0, 0; max(0, 1 + x): 0, 0, 1.5
    assert discriminator_loss(config, real, fake).item() == pytest.approx(3.5 / 4 + 1.5 / 3)
    assert generator_loss(config, fake).item() == pytest.approx(3.5 / 3)


@pytest.mark.parametrize("loss", ["bce", "hinge"])
def test_losses_are_finite_and_float32_whatever_the_logits(loss):
    config = recipe(loss=loss)
    x = torch.tensor([-3e4, 3e4])
    for sign in (1, -1):
        assert torch.isfinite(discriminator_loss(config, sign * x, x))
        assert torch.isfinite(generator_loss(config, sign * x))
    coarse = [logits(seed).detach().bfloat16() for seed in (0, 1)]
    found = discriminator_loss(config, *coarse)
    assert found.dtype == torch.float32
    assert torch.equal(found, discriminator_loss(config, *(x.float() for x in coarse)))


def test_gradient_penalty_of_a_quadratic_function():
    """f(x) = ½ xᵀAx + bx has the gradient Ax + b, and the penalty ½ E‖Ax + b‖² the gradient E(Ax + b) in b."""
    root = torch.randn(12, 12, generator=seeded(1))
    A, b = root + root.T, torch.randn(12, generator=seeded(2)).requires_grad_()
    images = torch.randn(5, 3, 2, 2, generator=seeded(3)).requires_grad_()
    x = images.flatten(1)
    penalty = gradient_penalty((x @ A * x).sum(1) / 2 + x @ b, images)
    slope = (x @ A + b).detach()
    torch.testing.assert_close(penalty, slope.square().sum(1).mean() / 2)
    (found,) = torch.autograd.grad(penalty, b)
    torch.testing.assert_close(found, slope.mean(0))


# augmentation


@pytest.mark.parametrize("names", SETS, ids="+".join)
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_keeps_the_shape_and_is_a_function_of_the_seed(names, channels):
    x = torch.randn(6, channels, 8, 8, generator=seeded())
    before = x.clone()
    first, again, other = (augmented(x, names, seed) for seed in (1, 1, 2))
    assert first.shape == x.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(x, before)


def test_flip_exchanges_left_and_right_of_half_of_the_images():
    x = torch.randn(400, 3, 8, 8, generator=seeded())
    found = augmented(x, ["flip"])
    flipped = (found != x).flatten(1).any(1)
    assert torch.equal(found[flipped], x[flipped].flip(3))
    assert 150 < flipped.sum() < 250


def test_without_names_nothing_changes_and_nothing_is_drawn():
    x = torch.randn(2, 1, 8, 8, generator=seeded())
    assert torch.equal(augment(x, (), iter(())), x)


@pytest.mark.parametrize("name", COLUMNS)
def test_an_augmentation_takes_the_numbers_it_says(name):
    taken = draws([name], 3)
    augment(torch.randn(3, 3, 8, 8, generator=seeded()), [name], taken)
    assert next(taken, None) is None


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_augmentation_lets_gradients_through(names):
    """Each is affine in the image, so that the gradient tells any difference exactly."""
    x, weight, step = (torch.randn(6, 3, 8, 8, generator=seeded(seed), dtype=torch.float64) for seed in (0, 1, 2))

    def value(x):
        return (weight * augmented(x, names, 5)).sum()

    (gradient,) = torch.autograd.grad(value(x.requires_grad_()), x)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
    torch.testing.assert_close((gradient * step).sum(), (value(x + step) - value(x)).detach())


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_the_shares_of_ranks_make_the_minibatch(names):
    x = torch.randn(6, 3, 8, 8, generator=seeded())
    parts = [augment(x[share], names, draws(names, 6, 1, share)) for share in (slice(0, 2), slice(2, 6))]
    assert torch.equal(torch.cat(parts), augmented(x, names, 1))


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_each_image_is_changed_in_its_own_way(names):
    same = torch.randn(1, 3, 8, 8, generator=seeded()).expand(32, -1, -1, -1)
    different = len(torch.unique(augmented(same, names, 1), dim=0))
    assert different == 2 if names == ("flip",) else different > 4


@pytest.mark.parametrize("side", [8, 16, 32])
def test_translation_moves_by_at_most_an_eighth(side):
    at = (side // 2, side // 2 - 1)  # rows and columns apart, so that a transposition shows
    x = torch.zeros(2000, 3, side, side)
    x[:, :, at[0], at[1]] = torch.tensor([0.2, 0.5, 0.9])
    moved = augmented(x, ("translation",))
    lit = moved.nonzero()
    assert len(lit) == 2000 * 3
    assert torch.equal(moved.sum((2, 3)), x.sum((2, 3)))
    steps = {(row - at[0], column - at[1]) for row, column in lit[:, 2:].tolist()}
    reach = side // 8
    assert steps == set(itertools.product(range(-reach, reach + 1), repeat=2))


def test_translation_leaves_zeros_behind():
    moved = augmented(torch.ones(200, 1, 8, 8), ("translation",))
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    # one row, one column, or both are gone
    assert set(moved.sum((1, 2, 3)).tolist()) == {64.0, 56.0, 49.0}


@pytest.mark.parametrize("side", [8, 28, 32])
def test_cutout_zeroes_a_square_of_at_most_a_quarter(side):
    x = 1 + torch.rand(500, 3, side, side, generator=seeded())
    cut = augmented(x, ("cutout",), 1)
    gone = cut == 0
    assert torch.equal(cut[~gone], x[~gone])
    assert torch.equal(gone, gone[:, :1].expand_as(gone))
    holes = gone[:, 0]
    rows, columns = holes.any(2).sum(1), holes.any(1).sum(1)
    areas = holes.sum((1, 2))
    assert torch.equal(areas, rows * columns)  # a rectangle
    assert areas.max() == side * side // 4
    assert areas.min() > 0
    assert {rows.max().item(), columns.max().item()} == {side // 2}


def test_color_keeps_grey_images_grey():
    grey = torch.randn(50, 1, 8, 8, generator=seeded()).expand(-1, 3, -1, -1)
    found = augmented(grey, ("color",), 1)
    torch.testing.assert_close(found, found[:, :1].expand_as(found))


def moments(x):
    """Of each image: its mean, the spread of its grey levels, and of what colours differ from them."""
    grey = x.mean(1, keepdim=True)
    return x.mean((1, 2, 3)), grey.flatten(1).std(1), (x - grey).flatten(1).std(1)


def test_color_stays_in_its_ranges():
    x = torch.randn(4000, 3, 4, 4, generator=seeded(), dtype=torch.float64)
    before, after = moments(x), moments(augmented(x, ("color",), 1))
    contrast = after[1] / before[1]
    for values, low, high in (
        (after[0] - before[0], -0.5, 0.5),
        (contrast, 0.5, 1.5),
        (after[2] / before[2] / contrast, 0.0, 2.0),
    ):
        near = 0.02 * (high - low)
        assert low - 1e-9 <= values.min() < low + near
        assert high - near < values.max() <= high + 1e-9
        assert abs(values.mean() - (low + high) / 2) < near  # uniform: the standard error is a fifth of this
