"""Sentences about a result, composed from its fields: the one place that says in words what fields hold."""

from dcgan_eval.results import Interval, Row, Spread
from dcgan_eval.results.paper import Quote


def labels(protocol: str) -> str:
    """'400 labels per class' for 'per-class:400', and so on; any other text as it is."""
    kind, _, number = protocol.partition(":")
    named = {"all": "all labels", "per-class": f"{number} labels per class", "labels": f"{number} labels"}
    return named.get(kind, protocol)


def spread(found: Row | Spread) -> str:
    """What the number after ± is: 'the standard deviation over 10 label draws'; '' where there is none."""
    over = f" over {found.spread_n:,} {found.spread_of}" if found.spread_n else ""
    return {"": "", "standard deviation": f"the standard deviation{over}", "not stated": "not stated by the paper"}[
        found.spread_kind
    ]


def interval(found: Row | Interval) -> str:
    """What the numbers in brackets are: 'the 95 % interval over 10,000 test images (Wilson)'; '' where none are."""
    of = f"{found.interval_n:,} {found.interval_of}"
    if found.interval == "jackknife":
        return f"the 95 % interval over other sets of as many images (jackknife of {of})"
    if found.interval == "U-statistic":
        return f"the 95 % interval over other sets of {of} (variance of a U-statistic)"
    return f"the 95 % interval over {of} ({found.interval})" if found.interval else ""


def uncertainty(row: Row) -> list[str]:
    """A note for each of the numbers that a cell shows beside its value."""
    notes = [f"± is {spread(row)}"] if row.spread is not None else []
    if row.low is not None and row.spread is None:
        notes.append(f"brackets: {interval(row)}")
    return notes


_METRICS = {
    "second at t = −1": "scored as TO at t = −1",
    "second at t = 1": "scored as TO at t = 1",
    "half of the gradient in": "smallest area with half of the gradient",
    "one class": "top images of one class",
    "still there": "object still present",
    "rest as before": "other samples unchanged",
}


def metric(row: Row) -> str:
    """What a table's column is called, for metrics whose names are short for a file."""
    return _METRICS.get(row.metric, row.metric)


def column(row: Row) -> str:
    """The column of a study's number: its metric, or 'p, ' and the metric that the p-value is of."""
    return f"p, {metric(row)}" if row.role == "p-value" else metric(row)


def method(row: Row) -> str:
    """How the number follows from the images' features."""
    classified = f"{row.classifier} on {labels(row.labels)}" if row.classifier else ""
    return ", ".join(part for part in (classified, row.method, row.remark) if part)


def cite(quote: Quote) -> str:
    """As in '82.8 accuracy on CIFAR-10 (paper, Table 1, DCGAN + L2-SVM)'."""
    row = quote.row
    spread = f" ± {row.spread:g}" if row.spread is not None else ""
    return f"{row.value:g}{spread} {row.metric} on {row.data} ({row.source}, {row.model})"
