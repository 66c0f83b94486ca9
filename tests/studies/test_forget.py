import json

import numpy as np
import pytest
import torch
from PIL import Image

from dcgan_eval.models.architecture import preset
from dcgan_eval.models.networks import Generator
from dcgan_eval.options import ForgetOptions
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.studies import forget as study
from dcgan_eval.studies.forget import (
    activations,
    check_layer,
    forget_boxes,
    forget_class,
    inside,
    matched,
    random_sets,
    read_boxes,
    regression,
    second_highest,
    with_maps,
    without,
    write_samples,
)
from dcgan_eval.studies.judge import Attribute, brightness
from dcgan_eval.studies.model import apart


def test_the_papers_layer():
    assert second_highest(Generator(preset("lsun64"))) == "conv2"
    assert preset("lsun64").generator_channels[2] == 256  # of which 200 can be dropped
    assert second_highest(Generator(preset("svhn32"))) == "conv1"
    assert second_highest(Generator(preset("digits"))) == "project"
    assert with_maps(Generator(preset("mnist28"))) == ["project", "conv1"]
    assert second_highest(Generator(preset("mnist28"))) == "project"


@pytest.mark.parametrize("name", ["conv2", "dense1", "conv9", ""])
def test_a_layer_without_maps_is_refused_with_those_that_have_some(digits_model, name):
    with pytest.raises(InputError, match=r"known: project, conv1\)"):
        check_layer(digits_model.generator, name)


def test_activations_are_those_of_the_generator(digits_model):
    z = digits_model.z(70, 0)
    found = activations(digits_model, z, "conv1")
    with torch.no_grad():
        torch.testing.assert_close(found, digits_model.generator.hidden(z)[1])


def test_dropping(digits_model):
    z = digits_model.z(70, 0)
    for layer in ("project", "conv1"):
        maps = activations(digits_model, z, layer)
        kept = maps.clone()
        assert torch.equal(without(digits_model, maps, layer, []), digits_model.draw(z))
        gone = without(digits_model, maps, layer, [3])
        assert not torch.equal(gone, digits_model.draw(z))
        assert torch.equal(maps, kept)
        number = {"project": 0, "conv1": 1}[layer]

        def drop(module, inputs, out):
            out = out.clone()
            out[:, 3] = 0
            return out

        handle = digits_model.generator.layers[number].register_forward_hook(drop)
        try:
            assert torch.equal(digits_model.draw(z), gone)
        finally:
            handle.remove()


def test_the_regression_finds_the_maps_that_draw_an_object():
    g = torch.Generator().manual_seed(0)
    at = torch.rand(40, 4, 4, generator=g) < 0.3
    maps = torch.rand(40, 5, 4, 4, generator=g)
    maps[:, 1] += 2 * at
    maps[:, 3] -= 0.5 * at
    fitted = regression(maps, at)
    assert 1 in study._positive(fitted)
    assert 3 not in study._positive(fitted)
    assert fitted.coef_[0].argmax() == 1


@pytest.mark.parametrize("fill", [True, False])
def test_one_kind_of_place_teaches_nothing(fill):
    with pytest.raises(InputError, match="want some of both kinds"):
        regression(torch.rand(2, 3, 4, 4), torch.full((2, 4, 4), fill))


def test_places_whose_centre_is_in_a_box():
    found = inside([(0, 0, 4, 2.1)], 4, 8)  # centres at 1, 3, 5, 7
    assert found.int().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    both = inside([(0, 0, 2, 2), (6, 6, 8, 8)], 4, 8)
    assert both.nonzero().tolist() == [[0, 0], [3, 3]]
    assert inside([(0, 0, 8, 8)], 8, 8).all()


# boxes


def boxes(tmp_path, content):
    path = tmp_path / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_boxes_by_sample(tmp_path):
    path = boxes(tmp_path, {"3": [[0, 1, 4, 5], [2, 2, 8, 8]], "0": [[1, 1, 2, 2]], "5": []})
    assert read_boxes(path, 8, 10) == {3: [(0, 1, 4, 5), (2, 2, 8, 8)], 0: [(1, 1, 2, 2)]}


def test_boxes_of_coco(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "0007.png"}, {"id": 2, "file_name": "s/img_12.png"}, {"id": 4}],
        "categories": [{"id": 1, "name": "window"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 1, 3, 2]},
            {"id": 2, "image_id": 2, "category_id": 1, "bbox": [1, 1, 1, 1]},
            {"id": 3, "image_id": 1, "category_id": 1, "bbox": [4, 4, 4, 4]},
            {"id": 4, "image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1]},
        ],
    }
    found = read_boxes(boxes(tmp_path, content), 8, 13)
    assert found == {7: [(0, 1, 3, 3), (4, 4, 8, 8)], 12: [(1, 1, 2, 2)], 4: [(0, 0, 1, 1)]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ({"3": [[0, 0, 9, 4]]}, r"sample 3: box 0, 0, 9, 4 .* is not within an image of 8x8"),
        ({"3": [[-1, 0, 4, 4]]}, "not within"),
        ({"3": [[4, 0, 4, 4]]}, "not within"),
        ({"3": [[0, 0, float("nan"), 4]]}, "not within"),
        ({"20": [[0, 0, 4, 4]]}, r"sample 20: samples are numbered 0 to 19"),
        ({"-1": [[0, 0, 4, 4]]}, r"sample -1"),
        ({"3": [[0, 0, 4]]}, "want"),
        ({"three": [[0, 0, 4, 4]]}, "want"),
        ([1, 2], "want"),
        ({"annotations": [{"image_id": 1}], "images": []}, "want"),
        ('{"1": [[0, 0, 4, 4]], "01": [[1, 1, 2, 2]]}', "a sample stands there twice"),
        (
            {
                "images": [{"id": 1}],
                "annotations": [{"image_id": 1, "category_id": i, "bbox": [0, 0, 1, 1]} for i in "ab"],
            },
            "boxes of 2 categories",
        ),
    ],
)
def test_what_are_no_boxes(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_boxes(boxes(tmp_path, content), 8, 20)


def test_no_file_of_boxes(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_boxes(tmp_path / "none.json", 8, 20)


# random sets


@pytest.mark.parametrize(
    ("aim", "want"), [(0, 1), (1, 1), (10.1, 3), (12.6, 4), (16, 4), (18, 4), (360, 19), (361, 19), (1e9, 19)]
)
def test_bisection_finds_the_nearest_of_a_change_that_grows(aim, want):
    """Of 20 maps that change the square of their number."""
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
    tried = []

    def change(some):
        tried.append(len(some))
        return len(some) ** 2

    assert matched(change, order, aim) == order[:want]
    assert len(tried) <= 5


def test_bisection_takes_the_nearest_that_it_tried_of_a_change_that_does_not_grow():
    values = [0, 5, 1, 4, 2, 3]
    for aim in range(7):
        found = matched(lambda some: values[len(some)], range(6), aim)
        assert 1 <= len(found) <= 5
        assert found == list(range(len(found)))


def test_random_sets_change_images_as_much_as_the_given_maps(digits_model, monkeypatch):
    monkeypatch.setattr(study, "SETS", 12)
    z = digits_model.z(80, 0)
    maps = activations(digits_model, z, "conv1")
    plain = without(digits_model, maps, "conv1", [])
    given = list(range(0, 32, 3))
    sets = list(random_sets(digits_model, maps, "conv1", given, 5))
    assert len({tuple(some) for some in sets}) == 12

    def change(some):
        return float(apart(without(digits_model, maps, "conv1", some), plain)[:64].mean())

    for some in sets:
        assert len(set(some)) == len(some)
        assert abs(change(some) / change(given) - 1) < 0.15
    assert list(random_sets(digits_model, maps, "conv1", given, 5)) == sets
    assert list(random_sets(digits_model, maps, "conv1", given, 6)) != sets
    # next to no change is one map, never none
    assert {len(some) for some in random_sets(digits_model, maps, "conv1", [], 5)} == {1}


def test_a_layer_of_one_map_has_no_random_sets(digits_model):
    with pytest.raises(InputError, match="one map"):
        next(random_sets(digits_model, torch.ones(3, 1, 4, 4), "conv1", [0], 0))


# the study


def rows_of(found):
    return {(row.metric, row.condition.partition(",")[0]): row for row in found.rows if row.role == "value"}


def p_values(found):
    return {row.metric: row.value for row in found.rows if row.role == "p-value"}


@pytest.fixture
def few_sets(monkeypatch):
    monkeypatch.setattr(study, "SETS", 7)


def test_forgetting_a_class(digits_model, digit_class, few_sets):
    found = forget_class(digits_model, "1", [digit_class], options=ForgetOptions(num_samples=300, seed=0))
    assert found.layer == "project"
    by = rows_of(found)
    assert by["still there", "as drawn"].value == by["rest as before", "as drawn"].value == 100
    assert by["change", "as drawn"].value == 0
    n = by["still there", "as drawn"].n
    assert n + by["rest as before", "as drawn"].n == 300
    z = digits_model.z(600, 0)[300:]
    maps = activations(digits_model, z, "project")
    plain = digits_model.draw(z)
    had = digit_class.judge(plain).argmax(1) == 1
    assert n == int(had.sum())

    def still(drop):
        return 100 * float(
            (digit_class.judge(without(digits_model, maps, "project", drop)).argmax(1) == 1)[had].double().mean()
        )

    assert by["still there", "its maps dropped"].value == pytest.approx(still(found.dropped))
    sets = list(random_sets(digits_model, maps, "project", found.dropped, 0))
    each = [still(some) for some in sets]
    random = by["still there", "random maps dropped"]
    assert random.value == pytest.approx(sum(each) / 7)
    assert random.draws == pytest.approx(each)
    assert (random.spread, random.spread_n, random.spread_of) == (
        pytest.approx(float(np.std(each, ddof=1))), 7, "random sets",
    )  # fmt: skip
    assert random.low is None
    average = sum(map(len, sets)) / 7
    assert random.condition == f"random maps dropped, {average:.0f} of 64 on average"
    own, change = by["change", "its maps dropped"], by["change", "random maps dropped"]
    assert change.value == pytest.approx(own.value, rel=0.1)
    assert found.images.shape[:2] == (3, 8)
    assert (
        p_values(found)["still there"]
        == (1 + sum(value <= by["still there", "its maps dropped"].value for value in random.draws)) / 8
    )
    assert p_values(found)["rest as before"] == (
        1 + sum(
            value >= by["rest as before", "its maps dropped"].value
            for value in by["rest as before", "random maps dropped"].draws
        )
    ) / 8  # fmt: skip
    again = forget_class(digits_model, "1", [digit_class], options=ForgetOptions(num_samples=300, seed=0))
    assert [row.value for row in again.rows] == [row.value for row in found.rows]


def test_a_set_that_is_more_extreme_than_all_random_ones(digits_model, monkeypatch):
    """Maps that decide the value alone: without them it is gone, and without random ones it is there. By hand: what is
    drawn is whether map 0 is kept, which one sample in two has, beside one pixel for each map."""
    n = 64

    def activate(model, z, layer):
        maps = torch.ones(len(z), 32, 1, 1)
        maps[:, 0] = (torch.arange(len(z)) % 2).float()[:, None, None]
        return maps

    def drawn(model, maps, layer, drop):
        kept = maps.clone()
        kept[:, list(drop)] = 0
        kept[:, 0] *= 2  # so that random sets of two maps are as much
        return (100 * kept).to(torch.uint8).reshape(len(maps), 1, 4, 8)

    monkeypatch.setattr(study, "activations", activate)
    monkeypatch.setattr(study, "without", drawn)
    monkeypatch.setattr(study, "_positive", lambda fitted: [0])
    monkeypatch.setattr(study, "random_sets", lambda *args: ([1 + i % 31, 1 + (i + 1) % 31] for i in range(199)))

    def scores(images):
        there = images[:, 0, 0, 0].double() - 100
        return torch.stack([-there, there], 1)

    def chosen(images):
        return torch.stack([torch.arange(len(images)) % 2 == 0, torch.arange(len(images)) % 2 == 1], 1).double()

    attribute = Attribute("object", ("without", "with"), chosen, scores, None, "by hand")
    found = forget_class(digits_model, "with", [attribute], ForgetOptions(num_samples=n))
    by = rows_of(found)
    assert by["still there", "its maps dropped"].value == 0
    assert by["still there", "random maps dropped"].value == 100
    assert by["still there", "random maps dropped"].spread == 0
    assert p_values(found) == {"still there": 1 / 200, "rest as before": 1}  # of ties each counts
    assert by["still there", "random maps dropped"].condition == "random maps dropped, 2 of 32 on average"


def test_the_maps_of_a_thing_take_more_of_it_than_random_ones(digits_model, monkeypatch):
    monkeypatch.setattr(study, "SETS", 39)
    for seed in range(3):
        attributes = [brightness(digits_model.samples(256, seed))]
        found = forget_class(digits_model, "bright", attributes, options=ForgetOptions(layer="conv1", seed=seed))
        by = rows_of(found)
        own, random = by["still there", "its maps dropped"], by["still there", "random maps dropped"]
        assert own.value < random.value
        assert own.value < 30 < 70 < random.value
        assert p_values(found)["still there"] <= 0.25


def test_forgetting_what_every_sample_or_none_has(digits_model, digit_class):
    with pytest.raises(InputError, match=r"in 0 of 2 samples|in 2 of 2 samples"):
        forget_class(digits_model, "5", [digit_class], options=ForgetOptions(num_samples=2))


def where_dark_is_bright(model, num):
    """Boxes around the brightest 3x3 place of each sample."""
    images = model.draw(model.z(num, 0)).float()
    sums = torch.nn.functional.avg_pool2d(images, 3, 1)[:, 0]
    at = sums.flatten(1).argmax(1)
    tops, lefts = (at // sums.shape[2]).tolist(), (at % sums.shape[2]).tolist()
    pairs = zip(lefts, tops, strict=True)
    return {i: [(float(left), float(top), left + 3.0, top + 3.0)] for i, (left, top) in enumerate(pairs)}


def test_forgetting_what_is_in_boxes(digits_model, few_sets):
    found = forget_boxes(digits_model, where_dark_is_bright(digits_model, 120), options=ForgetOptions(layer="conv1"))
    by = rows_of(found)
    assert by["change in boxes", "as drawn"].value == by["change outside", "as drawn"].value == 0
    # the bright places are what is lost, more than by maps at random
    assert by["change in boxes", "its maps dropped"].value > by["change outside", "its maps dropped"].value
    own, random = by["change", "its maps dropped"], by["change", "random maps dropped"]
    assert random.value == pytest.approx(own.value, rel=0.1)
    assert by["change", "as drawn"].value == 0
    p = p_values(found)
    assert set(p) == {"change in boxes", "found in boxes"}
    for metric, sign in (("change in boxes", 1), ("found in boxes", -1)):
        own, random = by[metric, "its maps dropped"], by[metric, "random maps dropped"]
        assert p[metric] == (1 + sum(sign * value >= sign * own.value for value in random.draws)) / 8
    seen = by["found in boxes", "as drawn"].value
    assert seen > 2 * by["found outside", "as drawn"].value
    assert by["found in boxes", "its maps dropped"].value < min(seen, by["found in boxes", "random maps dropped"].value)
    assert "area under its ROC curve" in by["found in boxes", "as drawn"].method
    assert found.boxes == list(where_dark_is_bright(digits_model, 120).values())[1::2][:8]
    svg = study.picture(found, digits_model).render("svg").decode()
    assert "forgets what is in the boxes" in svg


def test_boxes_on_one_sample_are_too_few(digits_model):
    with pytest.raises(InputError, match="want 4 at least"):
        forget_boxes(digits_model, {i: [(0, 0, 4, 4)] for i in range(3)})


@pytest.mark.parametrize(("box", "word"), [((0, 0, 0.1, 0.1), "no"), ((0, 0, 8, 8), "every")])
def test_boxes_to_judge_by_hold_some_places(digits_model, box, word):
    boxes = {i: [box if i % 2 else (0.0, 0.0, 4.0, 4.0)] for i in range(6)}
    with pytest.raises(InputError, match=f"boxes to judge by hold {word} place"):
        forget_boxes(digits_model, boxes)


def test_a_discriminator_without_such_maps_is_no_detector(digits_model, few_sets):
    found = forget_boxes(digits_model, where_dark_is_bright(digits_model, 40), options=ForgetOptions(layer="project"))
    sides = digits_model.architecture.conv_sizes
    assert ("found in boxes" in {row.metric for row in found.rows}) == (4 in sides)


def test_samples_are_written_by_number(digits_model, tmp_path):
    write_samples(digits_model, 12, 4, tmp_path / "new")
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == [f"{i:04d}.png" for i in range(12)]
    with Image.open(files[7]) as image:
        assert (np.array(image) == digits_model.draw(digits_model.z(12, 4))[7, 0].numpy()).all()
