"""From images and extractors to measured accuracies: extract, probe, and write down how."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from dcgan_eval import results
from dcgan_eval.errors import InputError
from dcgan_eval.features import Extractor, extract
from dcgan_eval.images import Images
from dcgan_eval.probe import ALL, Probe, Protocol, Split, knn_probe, linear_probe
from dcgan_eval.results import Row


def labelled(images: Images) -> Images:
    """Those images that have a label; InputError if none has."""
    if images.labels is None or not bool((images.labels >= 0).any()):
        raise InputError(f"{images.name}: has no labels; give folders by class, a labels.csv or an .npz with y")
    if bool((images.labels >= 0).all()):
        return images
    return images.subset(torch.nonzero(images.labels >= 0)[:, 0])


def classify(
    train: Images,
    test: Images,
    extractor: Extractor,
    *,
    valid: Images | None = None,
    protocol: Protocol = ALL,
    Cs: Sequence[float] | None = None,
    folds: int = 5,
    repeats: int = 10,
    knn: int | None = None,
    per_layer: bool = False,
    seed: int = 0,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    cache: Path | None = None,
    progress: bool = False,
    command: str = "",
) -> Iterator[Row]:
    """Accuracy and error, in %, of the paper's L2-SVM on the features of labelled images, a pair of rows at a time.

    knn: also of k-NN. per_layer: also of every layer's features alone. command: kept in the rows. The rest: see
    `linear_probe` and `extract`.
    Raises InputError for images without labels, sets that do not belong together, and what those two raise.
    """
    parts = [labelled(part) for part in (train, test, valid) if part is not None]
    for part in parts:
        extractor.check(part.shape)
        if part.classes != train.classes:
            raise InputError(
                f"{part.name} has the classes {_short(part.classes)}, but {train.name} {_short(train.classes)}"
            )
    start = time.perf_counter()
    splits = []
    for part in parts:
        X = extract(extractor, part, batch_size=batch_size, device=device, cache=cache, progress=progress)
        assert part.labels is not None
        splits.append(Split(X, part.labels))
    seconds = time.perf_counter() - start
    layers = {"all": slice(0, extractor.dimensions)}
    if per_layer and len(extractor.slices) > 1:
        layers |= extractor.slices
    for layer, columns in layers.items():
        some = [Split(split.X[:, columns], split.y) for split in splits]
        held_out = some[2] if len(some) > 2 else None
        probe = linear_probe(
            some[0],
            some[1],
            valid=held_out,
            protocol=protocol,
            Cs=Cs,
            folds=folds,
            repeats=repeats,
            seed=seed,
            device=device,
        )
        yield from _rows(probe, extractor, layer, some[1], parts, protocol, seed, seconds, device, command)
        if knn is not None:
            probe = knn_probe(some[0], some[1], k=knn, protocol=protocol, repeats=repeats, seed=seed)
            yield from _rows(probe, extractor, layer, some[1], parts, protocol, seed, seconds, device, command)


def _rows(
    probe: Probe,
    extractor: Extractor,
    layer: str,
    test: Split,
    parts: Sequence[Images],
    protocol: Protocol,
    seed: int,
    seconds: float,
    device: torch.device | str,
    command: str,
) -> Iterator[Row]:
    for metric, value in (("accuracy", probe.accuracy), ("error", 100 - probe.accuracy)):
        yield Row(
            task="classify",
            data=" + ".join(dict.fromkeys(part.name.partition(":")[0] for part in parts)),
            data_sha256=" ".join(dict.fromkeys(part.sha256 for part in parts)),
            features=extractor.name,
            features_sha256=extractor.fingerprint,
            features_protocol=extractor.protocol,
            layer=layer,
            dimensions=test.X.shape[1],
            protocol=str(protocol),
            probe=probe.protocol,
            metric=metric,
            value=value,
            unit="%",
            spread=probe.spread,
            spread_kind=probe.spread_kind,
            n=len(test),
            n_train=probe.n_train,
            C=probe.C,
            seed=seed,
            seconds_features=seconds,
            seconds=probe.seconds,
            device=str(device),
            versions=results.versions(),
            command=command,
            time=results.now(),
        )


def _short(classes: Sequence[str]) -> str:
    return ", ".join(classes[:3]) + (f" and {len(classes) - 3} more" if len(classes) > 3 else "")
