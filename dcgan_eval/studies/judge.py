"""What an image is of, said by classifiers: one chooses exemplars, another, fitted to other images, judges results."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from dcgan_eval.evaluations.classify import labelled
from dcgan_eval.evaluations.labels import Split
from dcgan_eval.evaluations.linear_probe import linear_probe
from dcgan_eval.features import Extractor, extract
from dcgan_eval.images import Images, fitted, from_tensor
from dcgan_eval.linear import L2SVC
from dcgan_eval.runtime.errors import InputError, UncertifiedError, nearest
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.ranks import ALONE
from dcgan_eval.runtime.run import HERE, Run

Scores = Callable[[Tensor], Tensor]  # uint8 (n, C, H, W) → float64 (n, values): the highest is what the image is


@dataclass(frozen=True, eq=False)
class Attribute:
    """Something an image has one value of, such as its class.

    choose, judge: scores of every value by two classifiers that share no training image. accuracy: the judge's, in %,
    on images that it was not fitted to; None where the value is measured, not learnt. about: how it is found, and what
    its features were trained on. data, extractor: what it was learnt from. by_median: whether its values are below and
    above the median of samples, so that half of all samples have each, whatever the generator draws.
    """

    name: str
    values: tuple[str, ...]
    choose: Scores
    judge: Scores
    accuracy: float | None
    about: str
    data: Images | None = None
    extractor: Extractor | None = None
    by_median: bool = False


@exact()
def learnt(
    data: Images,
    extractor: Extractor,
    run: Run = HERE,
    *,
    seed: int = 0,
) -> Attribute:
    """The class, by an L2-SVM on features of each half of labelled images, drawn by the seed.

    The judge's accuracy is that on the half that the chooser is fitted to. Raises InputError for unlabelled images, or
    one class, and UncertifiedError.
    """
    ready = labelled(fitted(data, extractor.input_shape)[0])
    assert ready.labels is not None
    run = replace(run, ranks=ALONE, cache=None)  # images are seen whole, and drawn ones are no use to others
    X = extract(extractor, ready, run)[:, extractor.features]
    order = torch.randperm(ready.n, generator=stream(seed, "halves"))
    halves = [Split(X[some], ready.labels[some]) for some in (order[0::2].sort().values, order[1::2].sort().values)]

    def score(half: Split, other: Split) -> tuple[Scores, float]:
        probe = linear_probe(half, other, seed=seed, device=run.device)
        assert probe.C is not None
        svm = certified_svm(half.X, half.y, probe.C, run.device)
        if len(svm.classes_) < len(ready.classes):
            raise InputError(f"{data.name}: half of it lacks images of some class; give more of each")

        def scores(images: Tensor) -> Tensor:
            few = fitted(from_tensor(images, name="samples"), extractor.input_shape)[0]
            seen = extract(extractor, few, replace(run, progress=False))[:, extractor.features]
            values = torch.from_numpy(svm.decision_function(seen))
            return torch.stack([-values, values], 1) if values.ndim == 1 else values

        return scores, probe.accuracy

    (choose, _), (judge, accuracy) = score(halves[0], halves[1]), score(halves[1], halves[0])
    about = (
        f"class by an L2-SVM on {extractor.name} of half of {data.name}, {accuracy:.1f} % right on the other; "
        f"features trained on {extractor.trained_on}"
    )
    return Attribute("class", ready.classes, choose, judge, accuracy, about, data=data, extractor=extractor)


def certified_svm(X: Tensor, y: Tensor, C: float, device: torch.device | str = "cpu") -> L2SVC:
    """Fitted to X (n, d) and int64 labels y (n,). Raises UncertifiedError where its optimum is not certified."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return L2SVC(C, device=device).fit(X, y.numpy())
        except ConvergenceWarning as e:
            raise UncertifiedError(f"no result rests on an SVM that is not certified: {e}") from None


def brightness(typical: Tensor) -> Attribute:
    """'dark' or 'bright': the mean of all pixels, below or above the median of typical images, uint8 (n, C, H, W)."""

    def mean(images: Tensor) -> Tensor:
        return images.flatten(1).double().mean(1)

    middle = mean(typical).median()

    def scores(images: Tensor) -> Tensor:
        above = mean(images) - middle
        return torch.stack([-above, above], 1)

    return Attribute(
        "brightness", ("dark", "bright"), scores, scores, None, "brightness by the mean of all pixels, against the "
        f"median of {len(typical)} samples", by_median=True,
    )  # fmt: skip


def attribute_of(name: str, attributes: Sequence[Attribute]) -> Attribute:
    """The one that has this value. Raises InputError, with the known values, for a name that none has."""
    for attribute in attributes:
        if name in attribute.values:
            return attribute
    classes = (
        "" if any(attribute.data for attribute in attributes) else "; classes come from labelled images, by `data`"
    )
    raise InputError(f"{name!r} is no value known{nearest(name, [v for a in attributes for v in a.values])}{classes}")


def chosen_scores(names: Sequence[str], images: Tensor, attributes: Sequence[Attribute]) -> dict[str, Tensor]:
    """Of every attribute that these values are of, by its name, the chooser's scores."""
    used = dict.fromkeys(attribute_of(name, attributes) for name in names)
    return {attribute.name: attribute.choose(images) for attribute in used}


def judged(names: Sequence[str], images: Tensor, attributes: Sequence[Attribute]) -> dict[str, Tensor]:
    """Whether the judges find each of these values in an image, bool (n,)."""
    owners = {name: attribute_of(name, attributes) for name in names}
    said = {attribute.name: attribute.judge(images).argmax(1) for attribute in dict.fromkeys(owners.values())}
    return {name: said[of.name] == of.values.index(name) for name, of in owners.items()}


def certain(names: Sequence[str], scores: Mapping[str, Tensor], attributes: Sequence[Attribute], least: int) -> Tensor:
    """Rows of the images that the choosers find all of these values in, the surer half of them, surest first, int64.

    scores: see `chosen_scores`. Sure is how far the value's score lies above the next, in standard deviations of that
    over all images; of several values the least sure one counts. Raises InputError for fewer than `least` rows.
    """
    n = len(next(iter(scores.values())))
    sure = torch.full((n,), torch.inf, dtype=torch.float64)
    for name in names:
        attribute = attribute_of(name, attributes)
        of, i = scores[attribute.name], attribute.values.index(name)
        others = of.clone()
        others[:, i] = -torch.inf
        margin = of[:, i] - others.max(1).values
        sure = torch.minimum(sure, margin / margin.std().clamp_min(1e-12))
    order = sure.argsort(descending=True, stable=True)
    found = order[sure[order] > 0]
    half = found[: (len(found) + 1) // 2]
    if len(half) < least:
        raise InputError(
            f"of {n} samples {len(found)} are {' & '.join(names)}; exemplars are of the surer half, which must be "
            f"{least} at least; draw more by `num_samples`"
        )
    return half
