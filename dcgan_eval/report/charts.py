"""From results to curves: each a query over rows, one protocol a panel."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from dcgan_eval import figures
from dcgan_eval.report import words
from dcgan_eval.report.tables import grouped
from dcgan_eval.results import MEASURED, Row, latest
from dcgan_eval.results.paper import UNSCALED

# metrics that 'Distance by number of samples' draws: their bias falls as samples grow
DISTANCES = ("FID", "FID∞", "Fréchet distance", "Fréchet distance∞")
Curve = tuple[str, figures.Picture]  # its title and itself


def charts(rows: Sequence[Row]) -> list[Curve]:
    """Every curve that measured numbers make: of two points or more, a panel per data and protocol."""
    measured = latest(row for row in rows if row.source == MEASURED)
    return [
        *_curves(
            "Accuracy by labels",
            "labels in all",
            "accuracy, %",
            [r for r in measured if _is_accuracy(r) and r.layer == "all" and r.labels != "all"],
            panel=lambda r: (f"{r.data}: {r.classifier}{_scaled(r)}", r.data_sha256, r.n),
            line=_features,
            x=lambda r: r.n_reference,
        ),
        *_curves(
            "Accuracy by C",
            "C",
            "accuracy, %",
            [r for r in measured if r.metric == "accuracy" and r.role in ("folds", "validation") and r.layer == "all"],
            panel=lambda r: (f"{r.data}, {words.labels(r.labels)}, on {r.role}{_scaled(r)}", r.data_sha256, r.n),
            line=_features,
            x=lambda r: r.C or 0.0,
        ),
        *_layers(measured),
        *_curves(
            "Distance by number of samples",
            "samples",
            "distance",
            [r for r in measured if r.metric in DISTANCES],
            panel=lambda r: (f"{r.metric}: {r.data}, {r.features}", r.data_sha256, r.features_sha256, r.n_reference),
            line=lambda r: r.model or "",
            x=lambda r: r.n,
        ),
        *_curves(
            "Error by images searched",
            "images searched",
            "test error, %",
            [r for r in measured if r.task == "table3" and r.metric == "error"],
            panel=lambda r: (r.data.partition(" ")[0], r.data_sha256, r.n),
            line=lambda r: r.model or "real images",
            x=lambda r: r.n_reference,
        ),
    ]


def _curves(
    title: str,
    xlabel: str,
    ylabel: str,
    rows: Sequence[Row],
    *,
    panel: Callable[[Row], tuple[object, ...]],
    line: Callable[[Row], str],
    x: Callable[[Row], float],
) -> Iterator[Curve]:
    """panel: its title, and what else sets it apart."""
    panels: dict[str, dict[str, figures.Line]] = {}
    for key, same in grouped(rows, panel).items():
        lines: dict[str, figures.Line] = {}
        for name, points in _apart(same, line):
            by_x = {x(row): row for row in points}  # the last of equals
            if len(by_x) > 1:
                lines[name] = _line([(at, by_x[at]) for at in sorted(by_x)])
        if lines:
            panels[_unused(str(key[0]), panels)] = lines
    if panels:
        yield title, figures.curves(_named(panels), xlabel, log_x=True, ylabel=ylabel)


def _layers(rows: Sequence[Row]) -> Iterator[Curve]:
    """Accuracy of each layer's features alone, in the order of the network, then of all together.

    A figure for each list of layers: another network's stand elsewhere.
    """
    some = [r for r in rows if _is_accuracy(r)]
    by_names: dict[tuple[str, ...], dict[str, dict[str, figures.Line]]] = {}
    for key, same in grouped(
        some, lambda r: (f"{r.data}, {words.labels(r.labels)}: {r.classifier}{_scaled(r)}", r.data_sha256, r.n)
    ).items():
        of_panel: dict[tuple[str, ...], dict[str, figures.Line]] = {}
        for name, points in _apart(same, _features):
            layers = {row.layer: row for row in points}
            if len(layers) > 1:
                names = (*(layer for layer in layers if layer != "all"), *(["all"] if "all" in layers else []))
                line = _line([(i, layers[layer]) for i, layer in enumerate(names)])
                of_panel.setdefault(names, {})[name] = line
        for names, lines in of_panel.items():
            panels = by_names.setdefault(names, {})
            panels[_unused(str(key[0]), panels)] = lines
    for names, panels in by_names.items():
        yield "Accuracy by layer", figures.curves(_named(panels), "layer", ylabel="accuracy, %", ticks=names)


def _named(panels: Mapping[str, dict[str, figures.Line]]) -> dict[str, dict[str, figures.Line]]:
    """With what a single line is of in the title, since it has no legend."""
    return {f"{title}, {next(iter(lines))}" if len(lines) == 1 else title: lines for title, lines in panels.items()}


def _apart(rows: Sequence[Row], label: Callable[[Row], str]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each line: of one network, seed and number of draws, which are named where the label does not.

    A line with a point that is not certified says so.
    """
    found = grouped(rows, lambda r: (label(r), r.model_sha256, r.features_sha256, r.seed, len(r.draws)))
    labels = [key[0] for key in found]
    for key, same in found.items():
        name, _, sha256, seed, draws = key
        several = labels.count(name) > 1
        full = f"{name}, {sha256[:8]}, seed {seed}, {draws or 1} draws" if several else name
        yield full if all(row.certified for row in same) else f"{full}, not certified", same


def _scaled(row: Row) -> str:
    """How features were scaled, where they were."""
    return "" if row.method in UNSCALED else f", {row.method}"


def _unused(name: str, panels: Mapping[str, object]) -> str:
    return name if name not in panels else f"{name} ({len(panels) + 1})"


def _line(points: Sequence[tuple[float, Row]]) -> figures.Line:
    at = [x for x, _ in points]
    values = [row.value for _, row in points]
    ends = [(row.draws_low, row.draws_high) if row.low is None else (row.low, row.high) for _, row in points]
    low = [end for end, _ in ends if end is not None]
    high = [end for _, end in ends if end is not None]
    return (at, values, low, high) if len(low) == len(high) == len(points) else (at, values)


def _is_accuracy(row: Row) -> bool:
    return (row.metric, row.role) == ("accuracy", "value")


def _features(row: Row) -> str:
    return row.features if row.dtype == "float32" else f"{row.features}, {row.dtype}"
