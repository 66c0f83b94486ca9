import pytest
import torch
from scipy.stats import t

from dcgan_eval.images import open_images
from dcgan_eval.inputs import open_extractor
from dcgan_eval.options import FeatureOptions, TurnOptions
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.studies import turn as study
from dcgan_eval.studies.judge import brightness
from dcgan_eval.studies.turn import Curve, Groups, direction, named, numbered, turn


def curve(*scores):
    return Curve(torch.linspace(-1, 1, len(scores[0])), torch.tensor(scores, dtype=torch.float64))


def test_a_line_is_straight_and_a_parabola_is_not():
    t = torch.linspace(-1, 1, 9).double()
    found = curve((3 + 2 * t).tolist(), t.square().tolist(), [1.0] * 9, (t + t**3).tolist())
    torch.testing.assert_close(found.slopes[:3], torch.tensor([2.0, 0, 0]).double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(found.straight[:3], torch.tensor([1.0, 0, 0]).double(), rtol=0, atol=1e-7)
    assert 0.9 < found.straight[3] < 1


def test_r2_is_scipys():
    from scipy.stats import linregress

    scores = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)).double()
    found = curve(*scores.tolist())
    for i, values in enumerate(scores.numpy()):
        by = linregress(found.t.double().numpy(), values)
        assert float(found.straight[i]) == pytest.approx(by.rvalue**2)


def test_a_slope_is_half_of_the_change_from_end_to_end():
    scores = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0)).double()
    found = Curve(torch.linspace(-1, 1, 7), scores)
    assert torch.equal(found.slopes, (scores[:, :, 6] - scores[:, :, 0]) / 2)
    assert torch.equal(Curve(found.t[[0, -1]], scores[:, :, [0, -1]]).slopes, found.slopes)
    assert found.straight.shape == (2, 4)


def groups(start, end):
    return Groups(torch.tensor(start), torch.tensor(end), lambda images: images, ("a", "b"), "")


def test_directions_by_hand():
    z = torch.tensor([[0.0, 0, 0], [0, 2, 0], [4, 0, 0], [4, 2, 0]])
    assert direction(z, groups([0, 1], [2, 3]), "mean").tolist() == [4, 0, 0]
    assert torch.allclose(direction(z, groups([0, 1], [2, 3]), "svm"), torch.tensor([4.0, 0, 0]), atol=1e-3)
    # the svm's goes across the plane between them, however they are spread along it
    z = torch.tensor([[0.0, 0, 0], [0, 1, 0], [4, 9, 0], [4, 8, 0], [0, 10, 0], [4, 0, 0]])
    found = direction(z, groups([0, 1, 4], [2, 3, 5]), "svm")
    assert abs(float(found[1])) < 0.05 * float(found[0])


def test_a_turn_by_names(digits_model, digit_class):
    found_groups = named(digits_model, ["1"], ["7"], [digit_class], TurnOptions())
    images = digits_model.draw(digits_model.z(256, 0))
    assert digit_class.choose(images[found_groups.start]).argmax(1).tolist() == [1] * 4
    assert digit_class.choose(images[found_groups.end]).argmax(1).tolist() == [7] * 4
    found = turn(digits_model, found_groups, options=TurnOptions(starts=20, steps=5))
    z = digits_model.z(276, 0)
    d = z[found_groups.end].mean(0) - z[found_groups.start].mean(0)
    assert torch.equal(found.images[0, 0], digits_model.draw(z[256:257] - d)[0])
    assert torch.equal(found.images[3, 4], digits_model.draw(z[259:260] + d)[0])
    assert found.images.shape == (8, 5, 1, 8, 8)
    *values, last = found.rows
    assert (last.metric, last.role, last.condition) == ("slope", "p-value", values[0].condition)
    rows, p = {(row.metric, row.condition): row for row in values}, last.value
    by = {key: row.value for key, row in rows.items()}
    made = "difference of the means of 4 and 4 samples"
    assert by["slope", made] > 2 * by["slope", "random directions"]
    assert rows["slope", "random directions"].spread_n == study.DIRECTIONS == 199
    assert p == 1 / 200
    assert by["second at t = 1", made] > by["second at t = −1", made] + 50
    slopes = found.curve.slopes
    assert by["slope", made] == pytest.approx(float(slopes.mean()))
    slope = rows["slope", made]
    assert (slope.low, slope.high) == pytest.approx(t.interval(0.95, 19, slopes.mean(), slopes.std() / 20**0.5))
    assert by["R²", made] == pytest.approx(float(found.curve.straight.mean()))
    assert found.curve.score.shape == (20, 5)
    assert [row.value for row in turn(digits_model, found_groups, options=TurnOptions(starts=20, steps=5)).rows] == [
        *by.values(),
        p,
    ]


def moved(model, monkeypatch, score, starts=6):
    """A turn from sample 0 to 1 whose images are the z themselves, and every z that was drawn."""
    drawn = []

    def draw(self, z):
        drawn.append(z)
        return z

    monkeypatch.setattr(type(model), "draw", draw)
    some = Groups(torch.tensor([0]), torch.tensor([1]), lambda z: score(z).double(), ("a", "b"), "")
    found = turn(model, some, options=TurnOptions(num_samples=4, starts=starts, steps=3))
    return found, drawn, direction(model.z(4, 0), some, "mean")


def test_random_directions_are_many_and_as_long_and_move_every_z(digits_model, monkeypatch):
    found, drawn, d = moved(digits_model, monkeypatch, lambda z: z[:, 0])
    z = digits_model.z(10, 0)[4:]
    along, *others = (some.reshape(6, -1, z.shape[1]) - z[:, None] for some in drawn)
    torch.testing.assert_close(along, torch.stack([-d, 0 * d, d]).expand(6, 3, -1))
    assert [some.shape[1] for some in others] == [3] * 16 + [2] * 183
    ends = torch.stack([some[:, -1] for some in others])
    torch.testing.assert_close(ends, ends[:, :1].expand(-1, 6, -1))
    torch.testing.assert_close(ends.norm(dim=2), d.norm().expand(199, 6))
    assert torch.linalg.matrix_rank(ends[:, 0]) == z.shape[1]
    assert found.random.score.shape == (199, 6, 2)
    assert found.between.score.shape == (16, 6, 3)


def test_random_directions_point_to_where_the_score_rises(digits_model, monkeypatch):
    """A score that is linear in z has the slope of a direction's first coordinate, up or down."""
    found, drawn, d = moved(digits_model, monkeypatch, lambda z: z[:, 0])
    steep = torch.stack([(some[-1, 0] - some[-len(some) // 6, 0]) / 2 for some in drawn[1:]]).abs().double()
    torch.testing.assert_close(found.random.slopes, steep[:, None].expand(-1, 6), rtol=1e-4, atol=1e-5)
    rows = {(row.metric, row.condition, row.role): row for row in found.rows}
    row = rows["slope", "random directions", "value"]
    assert row.value == pytest.approx(float(steep.mean()), rel=1e-4)
    assert row.draws == pytest.approx(steep.tolist(), rel=1e-4, abs=1e-5)
    assert (row.spread, row.spread_n) == (pytest.approx(float(steep.std()), rel=1e-4), 199)
    assert row.low is None
    made = "difference of the means of 1 and 1 samples"
    assert rows["slope", made, "value"].value == pytest.approx(float(d[0]), rel=1e-4)
    assert rows["slope", made, "p-value"].value == (1 + int((steep >= abs(float(d[0]))).sum())) / 200
    assert rows["R²", "random directions", "value"].value == pytest.approx(1)
    assert rows["R²", "random directions", "value"].spread_n == 16
    z = digits_model.z(10, 0)[4:, 0]
    shares = 100 * (z + steep[:, None] > 0).double().mean(1)
    row = rows["second at t = 1", "random directions", "value"]
    assert (row.value, row.unit) == (pytest.approx(float(shares.mean())), "%")
    assert row.draws == pytest.approx(shares.tolist())


def test_a_direction_that_changes_nothing_or_more_than_all_random_ones(digits_model, monkeypatch):
    z = digits_model.z(2, 0)
    d = (z[1] - z[0]) / (z[1] - z[0]).norm()
    found, *_ = moved(digits_model, monkeypatch, lambda z: -(z @ d))  # down as steeply as it gets
    assert found.rows[-1].value == 1 / 200
    found, *_ = moved(digits_model, monkeypatch, lambda z: torch.zeros(len(z)))
    assert found.rows[-1].value == 1


def test_by_an_svm_in_z(digits_model):
    """Brightness is spread over all samples: the plane between its halves is a better direction than eight samples."""
    attributes = [brightness(digits_model.draw(digits_model.z(512, 0)))]
    slopes = {}
    for by in ("mean", "svm"):
        found = turn(
            digits_model,
            named(digits_model, ["dark"], ["bright"], attributes, TurnOptions(method=by, num_samples=512)),
            options=TurnOptions(method=by, num_samples=512, starts=40),
        )
        slopes[by] = float(found.curve.slopes.mean() / direction(digits_model.z(512, 0), found.groups, by).norm())
        assert found.curve.slopes.mean() > 1.5 * found.random.slopes.mean()
    assert slopes["svm"] > slopes["mean"]


def test_groups_by_number_are_the_ends_of_their_score(digits_model):
    judge = open_extractor("disc:digits", FeatureOptions())(open_images("digits")["train"])
    found = numbered(digits_model, [3, 4, 5], [6, 7, 8], judge, TurnOptions(num_samples=100))
    images = digits_model.draw(digits_model.z(100, 0))
    low, high = (float(found.score(images[some]).mean()) for some in (found.start, found.end))
    assert low == pytest.approx(-high, rel=1e-4)
    assert high > 0
    assert float(found.score(images).std()) == pytest.approx(1, rel=1e-4)
    assert turn(digits_model, found, options=TurnOptions(num_samples=100)).rows[0].value > 0


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ([], [1], "FROM: is empty"),
        ([1], [], "TO: is empty"),
        ([1], [50], "TO: sample 50: samples are numbered 0 to 49"),
        ([1, 1], [2], "FROM: 1, 1: names a sample twice"),
        ([1, 2], [2, 3], "samples 2 are in both groups"),
    ],
)
def test_groups_by_number_that_are_none(digits_model, start, end, message):
    judge = open_extractor("disc:digits", FeatureOptions())(open_images("digits")["train"])
    with pytest.raises(InputError, match=message):
        numbered(digits_model, start, end, judge, TurnOptions(num_samples=50))


@pytest.mark.parametrize(
    ("start", "end"), [(["1"], ["1"]), (["1"], ["dark"]), (["1", "dark"], ["7", "bright"]), (["1"], ["1", "dark"])]
)
def test_groups_by_name_differ_in_one_thing(digits_model, digit_class, start, end):
    attributes = [digit_class, brightness(digits_model.draw(digits_model.z(64, 0)))]
    with pytest.raises(InputError, match="two values of one thing"):
        named(digits_model, start, end, attributes, TurnOptions(num_samples=64))


def test_steps_are_three_at_least(digits_model):
    with pytest.raises(InputError, match="`steps` 2: want 3 or more"):
        turn(digits_model, groups([0], [1]), options=TurnOptions(steps=2))


def test_a_picture_has_its_curve(digits_model):
    attributes = [brightness(digits_model.draw(digits_model.z(64, 0)))]
    found = turn(
        digits_model,
        named(digits_model, ["dark"], ["bright"], attributes, TurnOptions(num_samples=64)),
        options=TurnOptions(num_samples=64, starts=3),
    )
    svg = study.picture(found, digits_model).render("svg").decode()
    for words in ("Turning gen:digits from dark to bright", "this direction", "random ones of its length", "R²"):
        assert words in svg
