from dataclasses import replace

import pytest
import torch

from dcgan_eval.features import pixel_features
from dcgan_eval.images import from_tensor, open_images
from dcgan_eval.linear import solve_path
from dcgan_eval.runtime.errors import InputError, UncertifiedError
from dcgan_eval.runtime.random import stream
from dcgan_eval.studies.judge import (
    Attribute,
    attribute_of,
    brightness,
    certain,
    certified_svm,
    chosen_scores,
    judged,
    learnt,
)


def test_the_judge_is_right_on_images_that_it_was_not_fitted_to(digit_class):
    test = open_images("digits")["test"]
    said = digit_class.judge(test.tensor()).argmax(1)
    right = 100 * float((said == test.labels).double().mean())
    assert right > 90
    # the accuracy is the judge's, on the half that the chooser was fitted to, where the chooser is nearly never wrong
    train = open_images("digits")["train"]
    assert train.labels is not None
    order = torch.randperm(train.n, generator=stream(0, "halves"))
    half = train.subset(order[0::2].sort().values)
    by = {
        name: 100 * float((scores(half.tensor()).argmax(1) == half.labels).double().mean())
        for name, scores in (("judge", digit_class.judge), ("chooser", digit_class.choose))
    }
    assert digit_class.accuracy == pytest.approx(by["judge"])
    assert by["chooser"] > by["judge"]
    assert digit_class.values == tuple("0123456789")


def test_chooser_and_judge_are_two(digit_class):
    some = open_images("digits")["test"].tensor()
    a, b = digit_class.choose(some), digit_class.judge(some)
    assert not torch.equal(a, b)
    assert (a.argmax(1) == b.argmax(1)).double().mean() > 0.9


def test_scores_do_not_depend_on_company(digit_class):
    some = open_images("digits")["test"].tensor()[:5]
    torch.testing.assert_close(digit_class.judge(some)[2:3], digit_class.judge(some[2:3]), rtol=1e-4, atol=1e-5)


def test_two_classes_have_two_scores():
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 100, (80, 1, 8, 8), dtype=torch.uint8, generator=g)
    labels = torch.arange(80) % 2
    images[labels == 1] += 100
    found = learnt(from_tensor(images, labels, name="two", classes=("low", "high")), pixel_features((1, 8, 8)))
    scores = found.judge(images)
    assert scores.shape == (80, 2)
    assert torch.equal(scores.argmax(1), labels)
    assert judged(["high"], images, [found])["high"].tolist() == (labels == 1).tolist()
    assert found.accuracy == 100


def test_unlabelled_images_cannot_teach():
    with pytest.raises(InputError, match="no labels"):
        learnt(from_tensor(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), name="x"), pixel_features((1, 8, 8)))


def test_brightness_halves_its_samples():
    images = torch.arange(101, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    found = brightness(images)
    assert found.judge(images).argmax(1).tolist() == [0] * 51 + [1] * 50
    assert found.accuracy is None


def ramp():
    """An attribute whose score is the first pixel."""

    def scores(images):
        x = images[:, 0, 0, 0].double() - 50
        return torch.stack([-x, x], 1)

    return Attribute("ramp", ("low", "high"), scores, scores, None, "ramp")


def certain_of(values, least):
    images = values.to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    return certain(["high"], chosen_scores(["high"], images, [ramp()]), [ramp()], least)


def test_certain_takes_the_surer_half_surest_first():
    values = torch.arange(101)[torch.randperm(101, generator=torch.Generator().manual_seed(0))]
    assert values[certain_of(values, 3)].tolist() == list(range(100, 75, -1))


def test_too_few_are_said():
    with pytest.raises(InputError, match=r"of 3 samples 1 are high; .* must be 3 at least; draw more by `num_samples`"):
        certain_of(torch.tensor([1, 2, 90]), 3)


def test_unknown_values_are_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"'hihg'.*did you mean 'high'.*low, high"):
        attribute_of("hihg", [ramp()])


def test_an_svm_that_is_not_certified_judges_nothing(monkeypatch):
    monkeypatch.setattr("dcgan_eval.linear.estimator.solve_path", unfinished(solve_path))
    X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UncertifiedError, match="not certified: L2SVC at C=1 stopped") as caught:
        certified_svm(X, torch.arange(20) % 2, 1.0)
    assert "\n" not in str(caught.value)


def unfinished(solve):
    """Solutions as after too few steps."""
    return lambda *args, **options: (replace(found, converged=False) for found in solve(*args, **options))


def test_a_judge_says_what_its_features_have_seen(digit_class):
    assert digit_class.extractor is not None
    assert digit_class.about.endswith(f"; features trained on {digit_class.extractor.trained_on}")
    seen = replace(pixel_features((1, 8, 8)), trained_on="SVHN, without labels")
    images = torch.arange(80, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    found = learnt(from_tensor(images, (torch.arange(80) > 40).long(), name="two", classes=("low", "high")), seen)
    assert found.about.endswith(" % right on the other; features trained on SVHN, without labels")
