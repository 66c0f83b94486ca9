"""A study's numbers as rows of results."""

from dataclasses import asdict, fields
from typing import Any

from torch import Tensor

from dcgan_eval import results
from dcgan_eval.features import Extractor
from dcgan_eval.images import Images
from dcgan_eval.results import Measurement, Row
from dcgan_eval.results.intervals import of_mean, wilson
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
