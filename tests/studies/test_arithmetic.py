import re
from dataclasses import replace
from typing import get_type_hints

import pytest
import torch

from dcgan_eval.options import ArithmeticOptions
from dcgan_eval.results.intervals import of_clusters
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.studies import arithmetic as study
from dcgan_eval.studies.arithmetic import NOISE, arithmetic, around, combined, expected, parse
from dcgan_eval.studies.judge import Attribute, brightness


def test_terms_of_numbers():
    terms = parse(" 3,17, 40 - 5,8 + 2 ", named=False)
    assert [(t.sign, t.exemplars) for t in terms] == [(1, (3, 17, 40)), (-1, (5, 8)), (1, (2,))]
    assert [str(t) for t in terms] == ["3, 17, 40", "5, 8", "2"]


def test_terms_of_names_may_hold_hyphens():
    terms = parse("well-lit & 7 - 7 & x+y + 2", named=True)
    assert [(t.sign, t.names) for t in terms] == [(1, ("well-lit", "7")), (-1, ("7", "x+y")), (1, ("2",))]


@pytest.mark.parametrize("text", ["", "3,4", "3 -", "3,,4 - 5", "3 - a", "3 - -4", "1.5 - 2", "3-4"])
def test_what_is_no_expression_of_numbers(text):
    with pytest.raises(InputError, match="expression"):
        parse(text, named=False)


def test_what_names_come_to():
    assert expected(parse("7 & dark - 7 & bright + 2 & bright", named=True)) == ("dark", "2")
    assert expected(parse("female - male + male", named=True)) == ("female",)


@pytest.mark.parametrize("text", ["a - b", "a - a", "a + a - b + b", "a & b - b & a"])
def test_what_names_cannot_come_to(text):
    with pytest.raises(InputError, match="want each result once"):
        expected(parse(text, named=True))


def test_combined_by_hand():
    z = torch.arange(12.0).reshape(6, 2)
    groups = [torch.tensor([0, 2]), torch.tensor([1]), torch.tensor([5, 4])]
    assert combined(z, groups, [1, -1, 1]).tolist() == [2 - 2 + 9, 3 - 3 + 10]


def test_noise_is_around_the_middle():
    z = torch.randn(50, generator=torch.Generator().manual_seed(0))
    grid = around(z, 1)
    assert torch.equal(grid[4], z)
    away = (grid - z).abs()
    assert away.max() <= NOISE
    assert (away[[0, 1, 2, 3, 5, 6, 7, 8]].mean() - NOISE / 2).abs() < 0.02
    assert torch.equal(grid, around(z, 1))
    assert not torch.equal(grid, around(z, 2))


def test_of_numbers(digits_model):
    found = arithmetic(digits_model, "3,4,5 - 7,8,9 + 10,11,12", options=ArithmeticOptions(num_samples=20, seed=1))
    z = digits_model.z(20, 1)
    y = z[3:6].mean(0) - z[7:10].mean(0) + z[10:13].mean(0)
    assert torch.equal(found.mean[4], digits_model.draw(y[None])[0])
    assert torch.equal(found.single[4], digits_model.draw((z[3] - z[7] + z[10])[None])[0])
    images = digits_model.draw(z).double()
    pixels = images[3:6].mean(0) - images[7:10].mean(0) + images[10:13].mean(0)
    assert (found.pixels.double() - pixels.clamp(0, 255)).abs().max() <= 0.5
    assert torch.equal(found.exemplars[1][:3], digits_model.draw(z)[7:10])
    assert torch.equal(found.exemplars[1][3], digits_model.draw(z[7:10].mean(0, keepdim=True))[0])
    assert [row.metric for row in found.rows] == ["change by noise"] * 2
    assert all(0 < row.value < 200 for row in found.rows)


def test_exemplars_out_of_range(digits_model):
    with pytest.raises(InputError, match=r"exemplar 20: samples are numbered 0 to 19"):
        arithmetic(digits_model, "3 - 20", options=ArithmeticOptions(num_samples=20))


@pytest.fixture
def three_seeds(monkeypatch):
    monkeypatch.setattr(study, "SEEDS", 3)


def test_of_names_judged_over_draws_and_seeds(digits_model, digit_class, three_seeds):
    attributes = [digit_class, brightness(digits_model.draw(digits_model.z(600, 0)))]
    options = ArithmeticOptions(num_samples=600, draws=10)
    found = arithmetic(digits_model, "1 - 1 + 7", attributes, options)
    assert found.wanted == ("7",)
    values = {row.condition: row for row in found.rows if row.metric == "7"}
    assert set(values) == {"mean of 3", "one exemplar", "mean of 3, in pixels", "the last term alone", "samples"}
    # 1 less another 1 leaves a 7 more often than samples are 7
    assert values["mean of 3"].value > 2 * values["samples"].value
    assert values["the last term alone"].value > 80
    assert values["mean of 3"].n == 30
    assert values["samples"].n == 1800
    by_judge = [
        100 * float((digit_class.judge(digits_model.draw(digits_model.z(600, seed))).argmax(1) == 7).double().mean())
        for seed in range(3)
    ]
    row = values["samples"]
    assert row.draws == pytest.approx(by_judge)
    assert row.value == pytest.approx(sum(by_judge) / 3)
    assert row.spread == pytest.approx(torch.tensor(by_judge).std())
    found_again = of_clusters([share / 100 for share in by_judge], 600, "seeds of z")
    assert (row.low, row.high) == pytest.approx((found_again.low, found_again.high))
    assert (row.interval, row.interval_n, row.interval_of) == ("Wilson, clustered", 3, "seeds of z")
    assert (row.spread_n, row.spread_of) == (3, "seeds of z")
    again = arithmetic(digits_model, "1 - 1 + 7", attributes, options)
    assert [row.value for row in again.rows] == [row.value for row in found.rows]
    other = arithmetic(digits_model, "1 - 1 + 7", attributes, replace(options, seed=1))
    assert [row.value for row in other.rows] != [row.value for row in found.rows]


def test_the_option_says_how_many_seeds_there_are():
    hints = get_type_hints(ArithmeticOptions, include_extras=True)
    assert f"for each of {study.SEEDS} seeds of z" in hints["draws"].__metadata__[0].help


def test_a_seed_alone_is_that_of_several(digits_model, digit_class, three_seeds, monkeypatch):
    """Classifiers stay, and samples, pools and draws are each seed's own."""
    options = ArithmeticOptions(num_samples=600, draws=10)
    found = arithmetic(digits_model, "1 - 1 + 7", [digit_class], options)
    monkeypatch.setattr(study, "SEEDS", 2)
    others = arithmetic(digits_model, "1 - 1 + 7", [digit_class], replace(options, seed=1))
    for row, other in zip(found.rows, others.rows, strict=True):
        assert row.draws[1:] == other.draws
    first = arithmetic(digits_model, "1 - 1 + 7", [digit_class], options)
    assert torch.equal(first.mean, found.mean)


def test_a_share_that_is_fixed_has_no_interval(digits_model, digit_class, three_seeds):
    """Half of the samples are dark, since they are cut at their median; of results nobody knows before."""
    attributes = [digit_class, brightness(digits_model.samples(600, 0))]
    options = ArithmeticOptions(num_samples=600, draws=4)
    found = arithmetic(digits_model, "1 & dark - 1 & bright + 7 & bright", attributes, options)
    rows = {(row.metric, row.condition): row for row in found.rows if row.metric != "change by noise"}
    fixed = {key for key, row in rows.items() if not row.interval}
    assert fixed == {("dark", "samples")}
    row = rows["dark", "samples"]
    assert (row.low, row.high) == (None, None)
    assert row.draws[0] == 50
    assert row.unit == "%"
    measured = replace(attributes[1], by_median=False)
    assert isinstance(measured, Attribute)
    again = arithmetic(digits_model, "dark - dark + bright", [measured], options)
    assert all(row.interval for row in again.rows if row.condition == "samples")


def test_a_seed_with_too_few_samples_is_named(digits_model, digit_class, monkeypatch):
    seen = []

    def certain(names, scores, attributes, least):
        seen.append(names)
        if len(seen) > 3:  # the second seed
            raise InputError("too few")
        return torch.arange(12)

    monkeypatch.setattr(study, "certain", certain)
    with pytest.raises(InputError, match="seed 6: too few"):
        arithmetic(digits_model, "1 - 1 + 7", [digit_class], ArithmeticOptions(num_samples=30, draws=1, seed=5))


def test_every_value_is_judged_by_itself_too(digits_model, digit_class, three_seeds):
    attributes = [digit_class, brightness(digits_model.draw(digits_model.z(1000, 0)))]
    found = arithmetic(
        digits_model,
        "1 & dark - 1 & bright + 7 & bright",
        options=ArithmeticOptions(num_samples=1000, draws=10),
        attributes=attributes,
    )
    assert {row.metric for row in found.rows} == {"dark & 7", "dark", "7", "change by noise"}
    by = {(row.metric, row.condition): row.value for row in found.rows}
    for (metric, way), value in by.items():
        if metric == "dark & 7":
            assert value <= min(by["dark", way], by["7", way])


def test_no_exemplar_counts_twice_in_a_draw():
    """However terms are spelt, and whatever they share."""
    terms = parse("a & b - b & a + b", named=True)
    pools = [torch.arange(9), torch.arange(9).flip(0), torch.arange(12)]
    for draw in range(20):
        assert len(set(torch.cat(study._pick(terms, pools, 0, draw)).tolist())) == 9
    several = {tuple(study._pick(terms, pools, 0, draw)[0].tolist()) for draw in range(20)}
    assert len(several) > 15
    with pytest.raises(InputError, match="too few for terms that share them"):
        study._pick(terms, [torch.arange(4)] * 3, 0, 0)


def test_pools_that_a_draw_would_exhaust_are_refused(digits_model, digit_class):
    with pytest.raises(
        InputError, match=r"exemplars are of the surer half, which must be 9 at least; draw more by `num_samples`"
    ):
        arithmetic(digits_model, "1 - 1 + 7", options=ArithmeticOptions(num_samples=60), attributes=[digit_class])


def test_terms_of_several_sizes_are_called_so(digits_model):
    found = arithmetic(digits_model, "2 - 3,4,5", options=ArithmeticOptions(num_samples=20))
    assert found.way == "means of 1 and 3"
    assert {row.condition for row in found.rows} == {"means of 1 and 3", "one exemplar"}
    assert "= means of 1 and 3" in study.picture(found, digits_model).render("svg").decode()


def test_rows_name_the_classifier_only_where_it_has_a_say(digits_model, digit_class, three_seeds):
    attributes = [digit_class, brightness(digits_model.draw(digits_model.z(200, 0)))]
    found = arithmetic(
        digits_model, "dark - dark + bright", options=ArithmeticOptions(num_samples=200, draws=4), attributes=attributes
    )
    assert {(row.features, row.data) for row in found.rows} == {("", "")}
    of = r"\(\d+ to \d+\)"
    assert re.search(
        rf"4 draws of exemplars for each of 3 seeds of z; .*: dark {of}, dark {of}, bright {of};", found.rows[0].method
    )
