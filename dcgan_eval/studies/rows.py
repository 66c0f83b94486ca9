"""A study's numbers as rows of results."""

from typing import Any

from dcgan_eval import results
from dcgan_eval.features import Extractor
from dcgan_eval.images import Images
from dcgan_eval.results import Row
from dcgan_eval.studies.model import Model

Z95 = 1.96


def row(
    task: str,
    model: Model,
    metric: str,
    value: float,
    *,
    protocol: str,
    method: str,
    n: int,
    seed: int,
    command: str,
    data: Images | None = None,
    judge: Extractor | None = None,
    features: str = "",
    **more: Any,
) -> Row:
    """protocol: what the number is of, a line of the study's table. judge: or, by name, what the images are seen in.

    more: other fields of `Row`.
    """
    fields: dict[str, Any] = {
        "layer": "all",
        "dimensions": 0 if judge is None else judge.dimensions,
        "unit": "",
        "spread": None,
        "spread_kind": "",
        "n_reference": 0,
        "seconds_features": 0.0,
        "seconds": 0.0,
        **more,
    }
    return Row(
        task=task,
        data="" if data is None else data.name,
        data_sha256="" if data is None else data.sha256,
        model=model.name,
        model_sha256=model.sha256,
        features=features if judge is None else judge.name,
        features_sha256="" if judge is None else judge.fingerprint,
        features_protocol="; ".join([model.protocol, *([] if judge is None else [judge.protocol])]),
        dtype="float32",
        protocol=protocol,
        method=method,
        metric=metric,
        value=value,
        n=n,
        C=None,
        gap=None,
        seed=seed,
        device=str(model.device),
        versions=results.versions(),
        command=command,
        time=results.now(),
        **fields,
    )


def share(hits: int, n: int) -> dict[str, Any]:
    """A share of n in %, and half its 95 % interval: the fields value, unit, spread and spread_kind."""
    p = hits / n
    half = 100 * Z95 * (p * (1 - p) / n) ** 0.5
    return {"value": 100 * p, "unit": "%", "spread": half, "spread_kind": f"1.96 standard errors of a share of {n}"}
