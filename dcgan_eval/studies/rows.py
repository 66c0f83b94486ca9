"""A study's numbers as rows of results."""

from typing import Any

from torch import Tensor

from dcgan_eval import results
from dcgan_eval.features import Extractor
from dcgan_eval.images import Images
from dcgan_eval.results import Row
from dcgan_eval.runtime.fast_ops import instruction_set

Z95 = 1.96


def row(
    task: str,
    metric: str,
    value: float,
    *,
    networks: str,
    data: Images | None = None,
    judge: Extractor | None = None,
    **fields: Any,
) -> Row:
    """networks: how they were made ready. judge: what the images are seen in, where it is an extractor.

    fields: the others of `Row`, those that have no default here. protocol: what the number is of, a line of the study's
    table.
    """
    known: dict[str, Any] = {
        "data": "" if data is None else data.name,
        "data_sha256": "" if data is None else data.sha256,
        "features": "" if judge is None else judge.name,
        "features_sha256": "" if judge is None else judge.fingerprint,
        "features_protocol": "; ".join([networks, *([] if judge is None else [judge.protocol])]),
        "dtype": "float32",
        "layer": "all",
        "dimensions": 0 if judge is None else judge.dimensions,
        "unit": "",
        "spread": None,
        "spread_kind": "",
        "n_reference": 0,
        "C": None,
        "gap": None,
        "seconds_features": 0.0,
        "instruction_set": instruction_set(),
        "versions": results.versions(),
        "time": results.now(),
    }
    return Row(task=task, metric=metric, value=value, **{**known, **fields})


def spread(values: Tensor, of: str) -> dict[str, Any]:
    """Half the 95 % interval of the mean of values (n,): the fields spread and spread_kind; none of a single value."""
    if len(values) < 2:
        return {}
    half = Z95 * float(values.double().std()) / len(values) ** 0.5
    return {"spread": half, "spread_kind": f"1.96 standard errors of the mean of {len(values)} {of}"}


def share(hits: int, n: int) -> dict[str, Any]:
    """A share of n in %, and half its 95 % interval (Wilson 1927): the fields value, unit, spread and spread_kind."""
    p = hits / n
    half = 100 * Z95 / (1 + Z95**2 / n) * (p * (1 - p) / n + Z95**2 / (4 * n**2)) ** 0.5
    return {"value": 100 * p, "unit": "%", "spread": half, "spread_kind": f"half of Wilson's 95 % interval of {n}"}
