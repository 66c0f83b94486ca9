"""From images and extractors to measured accuracies: extract, probe, and write down how."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from dcgan_eval import results
from dcgan_eval.evaluations.knn_probe import knn_probe
from dcgan_eval.evaluations.labels import Groups, Protocol, Split, check_groups, draw_size
from dcgan_eval.evaluations.linear_probe import linear_probe
from dcgan_eval.evaluations.probe import Probe
from dcgan_eval.features import Extractor, PixelHash, extract, share
from dcgan_eval.images import Images
from dcgan_eval.options import KS, ClassifyOptions, ProbeName
from dcgan_eval.results import Interval, Measurement, Role, Row, Spread
from dcgan_eval.runtime.errors import InputError, nearest
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.run import HERE, Run


def labelled(images: Images) -> Images:
    """Those images that have a label; InputError if none has."""
    if images.labels is None or not bool((images.labels >= 0).any()):
        raise InputError(f"{images.name}: has no labels; give folders by class, a labels.csv or an .npz with y")
    if bool((images.labels >= 0).all()):
        return images
    return images.subset(torch.nonzero(images.labels >= 0)[:, 0])


def aside(train: Images, n: int, seed: int) -> tuple[Images, Images]:
    """The training images without n of them, and those, drawn by the seed; both in their order.

    Raises InputError unless some are left of each.
    """
    if not 0 < n < train.n:
        raise InputError(
            f"{train.name}: cannot set {n} of {train.n} images aside for validation; want fewer, at least 1"
        )
    order = torch.randperm(train.n, generator=stream(seed, "validation"))
    return train.subset(order[n:].sort().values), train.subset(order[:n].sort().values)


def grouping(train: Images, options: ClassifyOptions, valid: Images | None = None) -> Groups | None:
    """The groups of labelled training images by `options.group_by`; None where it is None.

    train: images with labels only, see `labelled`. valid: images that C is chosen by in place of folds.
    Raises InputError where there are no folds to group, the images have no such metadata or lack it in part, or their
    groups cannot be folds.
    """
    name = options.group_by
    if name is None:
        return None
    where = f"`group_by` {name!r}"
    if _single(options):
        raise InputError(f"{where}: applies only to folds, but C is given; leave one of them out")
    if valid is not None:
        by = f"{valid.n} validation images of {valid.name}"
        raise InputError(f"{where}: applies only to folds, but C is chosen by {by}; leave one of them out")
    if name not in train.metadata:
        known = nearest(name, list(train.metadata)) if train.metadata else ", nor any other"
        raise InputError(f"{where}: {train.name} has no array or column of that name{known}")
    of = train.metadata[name]()
    if missing := int((of < 0).sum()):
        raise InputError(f"{where}: {missing} of {train.n} images of {train.name} have none; give each image a group")
    groups = Groups(name, of)
    assert train.labels is not None
    y = train.labels.numpy()
    # of draws, which are smaller, what folds they can have is known when they are drawn
    check_groups(y, groups, min(options.folds, *np.bincount(y)[np.unique(y)]) if options.protocol == "all" else 2)
    return groups


def _single(options: ClassifyOptions) -> bool:
    """Whether one C is given, so that none is chosen."""
    return options.C is not None and len(set(options.C)) == 1


def classify(
    train: Images,
    test: Images,
    extractor: Extractor,
    options: ClassifyOptions = ClassifyOptions(),
    run: Run = HERE,
    *,
    valid: Images | None = None,
    seconds_fit: float = 0.0,
) -> Iterator[Row]:
    """Accuracy and error, in %, of classifiers of the features of labelled images, a row each.

    Where C is chosen, also the accuracy on folds or validation images at every C that was tried.

    options: how many labels, how C is chosen, and what is classified by besides; see `linear_probe`.
    run: see `extract`.
    valid: images to choose C by in place of folds; no features of them are needed for a single C.
    seconds_fit: what making the extractor took.
    Raises InputError for images without labels, sets that do not belong together or are the same, and what
    `grouping`, `linear_probe` and `extract` raise.
    """
    protocol = Protocol.parse(options.protocol)
    parts = [labelled(part) for part in (train, test, valid) if part is not None]
    for part in parts:
        extractor.check(part.shape)
        if part.classes != train.classes:
            raise InputError(
                f"{part.name} has the classes {_short(part.classes)}, but {train.name} {_short(train.classes)}"
            )
    if len({part.fingerprint for part in parts}) < len(parts):
        names = ", ".join(part.name for part in parts)
        raise InputError(f"{names}: two of these are the same images; train, test and validation must differ")
    groups = grouping(parts[0], options, valid)
    _check_k(options, parts[0])  # before features are extracted
    if _single(options):
        parts = parts[:2]
    start = time.perf_counter()
    splits, pixels = [], []
    for part in parts:
        seen = PixelHash()
        X = extract(extractor, part, run, seen)
        assert part.labels is not None
        here = share(extractor, part, run.ranks)
        splits.append(Split(X, part.labels[here.start : here.stop]))
        if groups is not None and part is parts[0]:
            groups = replace(groups, of=groups.of[here.start : here.stop])
        pixels.append(seen.digest(part, run.ranks))
    seconds = seconds_fit + time.perf_counter() - start

    def rows(probe: Probe, layer: str, dimensions: int) -> Iterator[Row]:
        source = results.provenance(
            run,
            data=" + ".join(dict.fromkeys(part.name.partition(":")[0] for part in parts)),
            data_sha256=" ".join(dict.fromkeys(map(_content, parts))),
            pixels_sha256=" ".join(pixels),
            features=extractor.name,
            features_sha256=extractor.fingerprint,
            features_protocol=extractor.protocol,
            batchnorm=extractor.batchnorm,
            trained_on=extractor.trained_on,
            dtype=extractor.dtype,
            layer=layer,
            dimensions=dimensions,
            seed=options.seed,
            seconds_features=seconds,
            seconds=probe.seconds,
        )
        accuracy = Measurement(
            task="classify",
            metric="accuracy",
            value=probe.accuracy,
            unit="%",
            draws=_several(probe.accuracies),
            draws_low=probe.of_draws.low,
            draws_high=probe.of_draws.high,
            n=parts[1].n,
            n_reference=probe.n_train,
            classifier=probe.classifier,
            labels=str(protocol),
            C=probe.C,
            C_by=probe.C_by,
            gap=probe.gap,
            outcomes=probe.outcomes,
            method=probe.method,
            remark=probe.remark,
            **asdict(probe.interval),
            **asdict(probe.spread),
        )
        yield results.stamp(accuracy, source)
        yield results.stamp(as_error(accuracy), source)
        role: Role = "validation" if len(splits) > 2 else "folds"
        n = parts[2].n if len(splits) > 2 else probe.n_train
        for C, value in probe.curve:
            # the gap of the probe is the largest of all fits, these included
            alone: dict[str, Any] = {"draws": (), "draws_low": None, "draws_high": None, "outcomes": None}
            alone |= asdict(Interval()) | asdict(Spread())
            tried = replace(accuracy, role=role, value=value, n=n, C=C, **alone)
            yield results.stamp(tried, source)

    layers = {"all": extractor.features}
    if options.per_layer and len(extractor.slices) > 1:
        layers |= extractor.slices
    for layer, columns in layers.items():
        some = [Split(split.X[:, columns], split.y) for split in splits]
        for name in dict.fromkeys(options.probe):
            for probe in _probes(name, some, options, groups, run):
                yield from rows(probe, layer, some[0].X.shape[1])


def _check_k(options: ClassifyOptions, train: Images) -> None:
    """Raises InputError where more neighbours are asked for than a draw has labels."""
    assert train.labels is not None
    most = draw_size(train.labels, Protocol.parse(options.protocol))
    asked = {name: options.k or KS[name][:1] for name in options.probe if name in KS}
    for k in (k for ks in asked.values() for k in ks):
        if k > most:
            raise InputError(f"`k` {k}: a draw has {most} labels; want a k from 1 to {most}")


def _probes(
    name: ProbeName, splits: Sequence[Split], options: ClassifyOptions, groups: Groups | None, run: Run
) -> list[Probe]:
    """splits: training and test images, and validation ones if there are any."""
    shared: dict[str, Any] = {
        "protocol": Protocol.parse(options.protocol), "draws": options.draws, "scaling": options.scaling,
        "seed": options.seed, "device": run.device, "ranks": run.ranks,
    }  # fmt: skip
    if name == "knn" or name == "weighted-knn":
        most = draw_size(run.ranks.gathered(splits[0].y), Protocol.parse(options.protocol))
        ks = tuple(k for k in KS[name] if k <= most) if options.k is None else options.k
        return knn_probe(splits[0], splits[1], ks=ks, weighted=name == "weighted-knn", **shared)
    return [
        linear_probe(
            splits[0],
            splits[1],
            kind=name,
            valid=splits[2] if len(splits) > 2 else None,
            Cs=options.C,
            folds=options.folds,
            groups=groups,
            C_from=options.C_from,
            **shared,
        )
    ]


def as_error(accuracy: Measurement) -> Measurement:
    """The error, 100 less the accuracy, with what is known of it."""

    def less(value: float | None) -> float | None:
        return None if value is None else 100 - value

    return replace(
        accuracy,
        metric="error",
        value=100 - accuracy.value,
        low=less(accuracy.high),
        high=less(accuracy.low),
        draws=tuple(100 - value for value in accuracy.draws),
        draws_low=less(accuracy.draws_high),
        draws_high=less(accuracy.draws_low),
    )


def _several(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(values) if len(values) > 1 else ()


def _content(images: Images) -> str:
    """The SHA-256 of where they are from, the split, and which of it there are, if not all: others are other images."""
    split = "" if images.split == "all" else f":{images.split}"
    return f"{images.sha256}{split}" + (f"/{images.selection[:16]}" if images.selection else "")


def _short(classes: Sequence[str]) -> str:
    return ", ".join(classes[:3]) + (f" and {len(classes) - 3} more" if len(classes) > 3 else "")
