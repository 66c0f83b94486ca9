"""Sentences about a result, composed from its fields: the one place that says in words what fields hold."""

from dcgan_eval.results import Row, Spread
from dcgan_eval.results.paper import Quote


def labels(protocol: str) -> str:
    """'400 labels per class' for 'per-class:400', and so on; any other text as it is."""
    kind, _, number = protocol.partition(":")
    named = {"all": "all labels", "per-class": f"{number} labels per class", "labels": f"{number} labels"}
    return named.get(kind, protocol)


def spread(found: Row | Spread) -> str:
    """What the number after ± is: '1.96 standard deviations over 10 label draws', and so on; '' where there is none."""
    over = f" over {found.spread_n:,} {found.spread_of}" if found.spread_n else ""
    return {
        "": "",
        "standard deviation": f"the standard deviation{over}",
        "1.96 standard deviations": f"1.96 standard deviations{over}",
        "1.96 standard errors": f"1.96 standard errors{over}",
        "95 % Wilson interval": f"half the width of the 95 % Wilson interval{over}",
        "not stated": "not stated by the paper",
    }[found.spread_kind]


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


def method(row: Row) -> str:
    """How the number follows from the images' features."""
    classified = f"{row.classifier} on {labels(row.labels)}" if row.classifier else ""
    return ", ".join(part for part in (classified, row.method, row.remark) if part)


def cite(quote: Quote) -> str:
    """As in '82.8 accuracy on CIFAR-10 (paper, Table 1, DCGAN + L2-SVM)'."""
    row = quote.row
    spread = f" ± {row.spread:g}" if row.spread is not None else ""
    return f"{row.value:g}{spread} {row.metric} on {row.data} ({row.source}, {row.model})"
