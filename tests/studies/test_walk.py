import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcgan_eval.images import from_tensor
from dcgan_eval.options import WalkOptions
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.studies import walk as study
from dcgan_eval.studies.walk import between, frames, invert, perceptual_distance, smoothness, spherical, straight, walk


@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_paths_begin_and_end_at_their_z(seed, n, steps):
    z = torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))
    for path in study.PATHS:
        way = between(z, steps, path)
        assert way.shape == (n - 1, steps, 12)
        torch.testing.assert_close(way[:, 0], z[:-1])
        torch.testing.assert_close(way[:, -1], z[1:])


def test_a_straight_path_has_equal_steps_and_a_spherical_one_equal_angles():
    a, b = torch.tensor([[2.0, 0, 0]]), torch.tensor([[0, 2.0, 0]])
    t = torch.linspace(0, 1, 5)[:, None]
    line = straight(a.expand(5, -1), b.expand(5, -1), t)
    assert torch.allclose(line.diff(dim=0).norm(dim=1), torch.full((4,), math.sqrt(8) / 4))
    arc = spherical(a.expand(5, -1), b.expand(5, -1), t)
    assert torch.allclose(arc.norm(dim=1), torch.full((5,), 2.0))
    assert torch.allclose(torch.atan2(arc[:, 1], arc[:, 0]), t[:, 0] * math.pi / 2, atol=1e-6)


def test_the_lengths_of_a_spherical_path_lie_between_those_of_its_ends():
    a, b = torch.tensor([[1.0, 0]]), 3 * torch.tensor([[-0.5, 0.75**0.5]])
    t = torch.linspace(0, 1, 11)[:, None]
    lengths = spherical(a.expand(11, -1), b.expand(11, -1), t).norm(dim=1)
    torch.testing.assert_close(lengths, 1 + 2 * t[:, 0])


def test_z_of_images_stay_where_z_are_drawn(digits_model):
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = invert(digits_model, images, steps=60)
    assert found.z.abs().max() == 1  # such noise would pull them out


@pytest.mark.parametrize("other", [1.0, -1.0, 3.0])
def test_the_spherical_path_of_z_that_point_one_way_is_the_straight_one(other):
    a = torch.tensor([[1.0, 2.0, -1.0]])
    t = torch.tensor([[0.25]])
    torch.testing.assert_close(spherical(a, other * a, t), straight(a, other * a, t))


def test_perceptual_distance_by_hand(digits_model):
    x, y = digits_model.paint(digits_model.z(2, 0)), digits_model.paint(digits_model.z(2, 1))
    found = perceptual_distance(digits_model.discriminator, x, y)
    for i in range(2):
        total = 0.0
        for a, b in zip(*(digits_model.discriminator.conv_features(images) for images in (x, y)), strict=True):
            a, b = a[i].double().numpy(), b[i].double().numpy()
            places = [(r, c) for r in range(a.shape[1]) for c in range(a.shape[2])]
            unit = [(a[:, r, c] / (a[:, r, c] ** 2).sum() ** 0.5, b[:, r, c] / (b[:, r, c] ** 2).sum() ** 0.5)
                    for r, c in places]  # fmt: skip
            total += sum(((p - q) ** 2).sum() for p, q in unit) / len(places)
        assert float(found[i]) == pytest.approx(total, rel=1e-4)
    assert perceptual_distance(digits_model.discriminator, x, x).abs().max() == 0


def test_path_lengths_hardly_depend_on_the_step(digits_model, monkeypatch):
    fine = smoothness(digits_model, 32, 0)
    monkeypatch.setattr(study, "EPSILON", 1e-4)
    for way, finer in smoothness(digits_model, 32, 0).items():
        before = fine[way].length
        if finer.length is not None and before is not None:
            assert float(before.mean()) == pytest.approx(float(finer.length.mean()), rel=0.02), way


def test_smoothness_does_not_depend_on_how_many_are_drawn_at_once(digits_model, monkeypatch):
    whole = smoothness(digits_model, 9, 0)
    monkeypatch.setattr(study, "AT_ONCE", 2)
    for way, parts in smoothness(digits_model, 9, 0).items():
        if parts.length is not None:
            torch.testing.assert_close(parts.length, whole[way].length, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(parts.logit, whole[way].logit, rtol=1e-4, atol=1e-4)


def test_blending_has_the_length_of_blending(digits_model):
    """By autograd: the square of the speed in features, which finite differences must come to."""
    found = smoothness(digits_model, 4, 3)["pixels blended"].length
    assert found is not None
    from dcgan_eval.models.networks import sample_z
    from dcgan_eval.runtime.random import stream

    rng = stream(3, "pairs")
    z = sample_z(digits_model.architecture, 8, rng)
    t = torch.rand(4, 1, generator=rng) * (1 - study.EPSILON)
    x, y = digits_model.paint(z[:4]).clone(), digits_model.paint(z[4:]).clone()
    for i in range(4):

        def features(at, i=i):
            maps = digits_model.discriminator.conv_features(torch.lerp(x[i : i + 1], y[i : i + 1], at))
            return [torch.nn.functional.normalize(m) for m in maps]

        _, speed = torch.autograd.functional.jvp(lambda at: tuple(features(at)), t[i], torch.ones(1))
        exact = sum(float(s.square().sum(1).mean()) for s in speed)
        assert float(found[i]) == pytest.approx(exact, rel=0.05)


def test_the_way_back_finds_samples_and_does_not_depend_on_company(digits_model):
    images = digits_model.draw(digits_model.z(4, 9))
    found = invert(digits_model, images, steps=150)
    start = invert(digits_model, images, steps=1)
    assert (found.error < start.error / 2).all()
    assert found.error.mean() < 12
    torch.testing.assert_close(
        digits_model.paint(found.z), digits_model.paint(invert(digits_model, images, steps=150).z)
    )
    alone = invert(digits_model, images[2:3], steps=20)
    together = invert(digits_model, images, steps=20)
    assert float(alone.error[0]) == pytest.approx(float(together.error[2]), rel=1e-2)
    x = digits_model.draw(found.z).double()
    by_hand = (x - images.double()).square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(found.error, by_hand, rtol=0.05, atol=0.5)  # x is rounded to whole levels


def test_a_walk(digits_model):
    found = walk(digits_model, options=WalkOptions(num_points=4, steps=5, pairs=4, seed=2))
    assert found.path.shape == (3, 5, 1, 8, 8)
    assert torch.equal(found.path[:, 0], digits_model.draw(digits_model.z(4, 2))[:3])
    assert torch.equal(found.path[1, 0], found.path[0, -1])
    assert torch.equal(found.ways[0], found.path[0])
    blended = found.ways[2].double()
    assert (blended[2] - (blended[0] + blended[4]) / 2).abs().max() <= 0.5
    ways = {"straight", "spherical", "pixels blended"}
    assert {row.condition for row in found.rows if row.metric == "path length"} == ways
    assert {row.condition for row in found.rows if row.metric == "logit"} == ways | {"samples"}
    assert all(row.n == 4 and row.seed == 2 and row.low is not None for row in found.rows)
    shown = list(frames(found))
    assert len(shown) == 13 + 11
    assert not any(torch.equal(a, b) for a, b in zip(shown, [*shown[1:], shown[0]], strict=True))
    assert torch.equal(walk(digits_model, options=WalkOptions(num_points=4, steps=5, pairs=4, seed=2)).path, found.path)


def test_a_walk_between_given_images_says_how_far_from_them_it_is(digits_model):
    images = from_tensor(digits_model.draw(digits_model.z(20, 1))[10:], name="given")
    found = walk(digits_model, options=WalkOptions(num_points=3, steps=3, inversion_steps=150), images=images)
    assert {row.metric for row in found.rows} == {"round trip error", "length of z"}
    assert found.given is not None
    assert torch.equal(found.given, images.tensor()[:3])
    assert "given" in study.picture(found, digits_model, "straight").render("svg").decode()
    errors = {row.condition: row.value for row in found.rows if row.metric == "round trip error"}
    assert set(errors) == {"images given", "its own samples"}
    ends = torch.stack([found.path[0, 0], found.path[1, 0], found.path[1, -1]]).double()
    given_ = images.tensor()[:3].double()
    assert (ends - given_).square().flatten(1).mean(1).sqrt().mean() == pytest.approx(errors["images given"], abs=0.5)


@pytest.mark.parametrize(("n", "steps"), [(1, 5), (3, 1)])
def test_a_walk_needs_two_of_everything(n, steps):
    with pytest.raises(InputError, match="at least 2"):
        between(torch.zeros(n, 4), steps)
