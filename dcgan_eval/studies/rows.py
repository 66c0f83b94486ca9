"""A study's numbers as rows of results."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from torch import Tensor

from dcgan_eval import results
from dcgan_eval.features import Extractor
from dcgan_eval.images import Images
from dcgan_eval.results import Measurement, Row
from dcgan_eval.results.intervals import of_clusters, of_mean, spread, wilson
from dcgan_eval.runtime.run import Run

_MEASUREMENT = {field.name for field in fields(Measurement)}


def row(
    task: str,
    metric: str,
    value: float,
    *,
    run: Run,
    networks: str,
    data: Images | None = None,
    judge: Extractor | None = None,
    **known: Any,
) -> Row:
    """A row of a study.

    run: that measured it.
    networks: how they were made ready.
    judge: what the images are seen in, where it is an extractor.
    known: the other fields of `Row`.
    """
    source: dict[str, Any] = {"dtype": "float32", "features_protocol": networks}
    if data is not None:
        source |= {"data": data.name, "data_sha256": data.sha256}
    if judge is not None:
        source |= {
            "features": judge.name,
            "features_sha256": judge.fingerprint,
            "features_protocol": f"{networks}; {judge.protocol}",
            "dimensions": judge.dimensions,
            "batchnorm": judge.batchnorm,
            "trained_on": judge.trained_on,
        }
    source |= {name: value for name, value in known.items() if name not in _MEASUREMENT}
    measured = {name: value for name, value in known.items() if name in _MEASUREMENT}
    return results.stamp(
        Measurement(task=task, metric=metric, value=value, **measured), results.provenance(run, **source)
    )


def mean(values: Tensor, of: str) -> dict[str, Any]:
    """The mean of values (n,), and its 95 % interval: the fields value and those of `Interval`."""
    return {"value": float(values.double().mean()), **asdict(of_mean(values.double().numpy(), of))}


def share(hits: int, n: int, of: str) -> dict[str, Any]:
    """A share of n in %, and its 95 % interval: the fields value, unit and those of `Interval`."""
    return {"value": 100 * hits / n, "unit": "%", **asdict(wilson(hits / n, n, of))}


def repeated(values: Sequence[float], of: str) -> dict[str, Any]:
    """The mean of repeated values and their standard deviation: the fields value, draws and those of `Spread`."""
    return {"value": sum(values) / len(values), "draws": tuple(values), **asdict(spread(values, of))}


def clustered(shares: Sequence[float], each: int, of: str) -> dict[str, Any]:
    """The mean of fractions of clusters, 0 to 1, in %, their standard deviation, and its 95 % interval over clusters.

    each: trials in a cluster.
    Returns the fields of `repeated`, unit and those of `Interval`.
    """
    return {
        "unit": "%",
        **repeated([100 * share for share in shares], of),
        **asdict(of_clusters(shares, each, of)),
    }
