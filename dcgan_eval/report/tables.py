"""From results to tables: each is a query over rows. A column never mixes numbers of unequal protocol."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import TypeVar

from dcgan_eval.report import words
from dcgan_eval.report.table import EMPTY, Cell, Table, between, number, table
from dcgan_eval.results import MEASURED, Row, latest
from dcgan_eval.results.differences import Difference, apart, difference, over_draws
from dcgan_eval.results.intervals import holm
from dcgan_eval.results.paper import QUOTES, UNSCALED, Quote, differs, quoted
from dcgan_eval.results.seeds import by_seeds, mean_over_seeds

FLAGGED = 0.01  # p-values below it are called out
WITHIN = "≈: the interval holds 0, so it may be chance"
APART = (
    "difference: measured less the paper's, where both agree in all that the paper states; brackets: its 95 % "
    f"interval, as of two independent samples of test images; {WITHIN}"
)

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def tables(rows: Sequence[Row]) -> list[Table]:
    """Every table that measured numbers make, each of one protocol, in the order of their first rows.

    Of numbers that were measured again the last counts.
    """
    measured = latest(row for row in rows if row.source == MEASURED)
    found = []
    for task, some in grouped(measured, lambda row: row.task).items():
        found += _MAKERS.get(task, _others)(some)
    return found


def paper_tables(rows: Sequence[Row]) -> list[Table]:
    """Tables 1, 2 and 3 of the paper: quoted numbers, those measured here, and their difference.

    One for each version of the paper's images that was measured; where none was, the quotes, and how to measure.
    """
    measured = latest(row for row in rows if row.source == MEASURED)
    return [
        *_classified(1, measured, "CIFAR-10", ("all", "per-class:400"), "accuracy"),
        *_classified(2, measured, "SVHN", ("labels:1000",), "error"),
        *_nearest(
            [row for row in measured if row.task == "table3"],
            "Table 3",
            [quote for quote in QUOTES if quote.table == 3],
        ),
    ]


def everything(rows: Sequence[Row]) -> list[Table]:
    """The paper's tables, then all others."""
    return [*paper_tables(rows), *tables([row for row in rows if row.task != "table3"])]


def _machine(row: Row) -> str:
    return row.device + (f" ({row.instruction_set})" if row.instruction_set else "")


# metrics of which less is better, and more; of a density neither is
_LOWER = ("FID", "Fréchet distance", "FID∞", "Fréchet distance∞", "KID", "kernel distance")
_HIGHER = ("IS", "classifier score", "precision", "recall", "coverage")

# of one task each


def _accuracies(rows: Sequence[Row]) -> list[Table]:
    """A table per data, labels and kind of classifier; a line per features and layer, the paper's beside it. Before
    them, where there are several classifiers, one of all of them."""
    found = _by_classifier(rows)
    for same in grouped(
        (row for row in rows if (row.metric, row.role) == ("accuracy", "value")),
        lambda row: (
            row.data_sha256, row.data, row.labels, row.classifier, row.method, row.n, row.n_reference, row.spread_n,
        ),
    ).values():  # fmt: skip
        first = same[0]
        whole = [row for row in same if row.layer == "all"]
        best = max(whole, key=lambda row: row.value, default=None)
        layered = any(row.layer != "all" for row in same)
        compared: list[tuple[str, Difference]] = []
        lines = []
        for row in same:
            quote = quoted(row)
            line = {"features": Cell(row.features)}
            if layered:
                line["layer"] = Cell(row.layer)
            for name, title in (("dtype", "dtype"), ("batchnorm", "BatchNorm"), ("C_by", "C by")):
                if len({getattr(other, name) for other in same} - {""}) > 1:
                    line[title] = Cell(getattr(row, name))
            line["trained on"] = Cell(row.trained_on)
            line |= _seed(row, same)
            line |= {
                "d": Cell(f"{row.dimensions}", row.dimensions),
                "C": Cell(f"{row.C:g}", row.C) if row.C is not None else EMPTY,
                "accuracy %": number(row),
                **_of_draws(row),
                "error %": Cell(f"{100 - row.value:.2f}", 100 - row.value, (row,)),
            }
            if best is not None and row.layer == "all" and len({r.features_sha256 for r in same}) > 1:
                line |= {"Δ vs best": Cell("best", None, (row,)), "Δ vs best, over draws": EMPTY}
                if row is not best:
                    found_by = [difference(row, best, len(whole)), over_draws(row, best, len(whole))]
                    for title, apart_by in zip(("Δ vs best", "Δ vs best, over draws"), found_by, strict=True):
                        if apart_by is not None:
                            line[title] = difference_cell(apart_by, (row, best))
                            compared.append((title, apart_by))
            line["seconds"] = Cell(f"{row.seconds_features:.1f} + {row.seconds:.1f}")
            if quote is not None:
                line |= {"paper": _cited(quote), "differs in": Cell("; ".join(differs(row, quote)))}
            lines.append(line)
        notes = [_features(row) for row in same]
        notes += [
            f"{row.features}{'' if row.layer == 'all' else f' {row.layer}'}: {words.method(row)}, seed {row.seed}"
            + (f"; within {row.gap:.0e} of the optimum" if row.gap is not None else "")
            for row in same
        ]
        notes += [note for row in same for note in words.uncertainty(row)]
        notes += [note for row in same for note in _about_draws(row)]
        notes += [f"{title}: {_about(apart_by, len(whole))}" for title, apart_by in compared]
        notes += [WITHIN] if any(apart_by.within for _, apart_by in compared) else []
        notes += [
            f"{first.n_reference:,} training and {first.n:,} test images",
            f"data: {first.data}, sha256 {first.data_sha256}",
            *(f"seconds are features + classifier, on {_machine(row)}; {row.versions}" for row in same),
        ]
        found.append(table(f"{first.data}, {words.labels(first.labels)}: {_classifier(first)}", lines, notes))
    return found


def _by_classifier(rows: Sequence[Row]) -> list[Table]:
    """A table per data and labels that several classifiers have: a line per features, a column per classifier."""
    found = []
    for same in grouped(
        (row for row in rows if (row.metric, row.role, row.layer) == ("accuracy", "value", "all")),
        lambda row: (row.data_sha256, row.data, row.labels, row.n, row.n_reference, row.spread_n),
    ).values():
        first, kinds = same[0], grouped(same, _classifier)
        if len(kinds) < 2:
            continue
        lines: dict[object, dict[str, Cell]] = {}
        for row in same:
            key = (row.features, row.features_sha256, row.seed)
            line = _free(lines, key, _classifier(row), {"features": Cell(row.features), **_seed(row, same)})
            line[_classifier(row)] = number(row)
        title = f"{first.data}, {words.labels(first.labels)}: accuracy by classifier"
        found.append(table(title, list(lines.values()), [note for row in same for note in words.uncertainty(row)]))
    return found


def _classifier(row: Row) -> str:
    """And how features are given to it, but for as they are."""
    return row.classifier + (f", {row.method}" if row.method not in UNSCALED else "")


def _comparisons(rows: Sequence[Row]) -> list[Table]:
    """A table per real images and features; a line per evaluated set, a column per metric and how it is found."""
    found = []
    for same in grouped(
        rows, lambda row: (row.data_sha256, row.data, row.features_sha256, row.n, row.n_reference)
    ).values():
        first = same[0]
        hows = grouped(same, lambda row: row.metric)
        lines: dict[object, dict[str, Cell]] = {}
        for row in same:
            alone = len({other.method for other in hows[row.metric]}) == 1
            column = row.metric if alone else f"{row.metric}, {row.method}"
            start = {"evaluated": Cell(row.model or ""), **_seed(row, same)}
            line = _free(lines, (row.model, row.model_sha256, row.seed), column, start)
            line[column] = number(row)
            line |= _of_draws(row, f", {column}")
        notes = ["; ".join([f"{row.metric}: {row.method}", *words.uncertainty(row)]) for row in same]
        notes += [f"{row.metric} of {row.model}: {row.remark}" for row in same if row.remark]
        notes += [note for row in same for note in _about_draws(row)]
        notes += [_features(row) for row in same]
        count = f"{first.n_reference:,}" if first.n_reference else "an unstated number of"
        notes.append(f"evaluated: {first.n:,} images each, against {count} of {first.data}, sha256 {first.data_sha256}")
        notes += [f"{row.model}: sha256 {row.model_sha256}" for row in same]
        notes += [
            f"seed {row.seed}; {row.seconds_features:.1f} s of features, on {_machine(row)}; {row.versions}"
            for row in same
        ]
        title = f"{first.data} in the features {first.features}: {first.n:,} images evaluated"
        found += [table(title, list(lines.values()), notes), *_to_the_best(title, same)]
    return found


def _to_the_best(title: str, same: Sequence[Row]) -> list[Table]:
    """A table of differences: a line per evaluated set, a column per metric and how it is found, where one is better;
    none where no interval of them is known."""
    lines: dict[object, dict[str, Cell]] = {}
    compared: list[tuple[str, Difference]] = []
    methods = grouped(same, lambda row: (row.metric, row.method, len(row.draws)))
    for (metric, method, _), rows in methods.items():
        if metric not in _HIGHER + _LOWER or len(rows) < 2:
            continue
        column = metric if sum(other == metric for other, *_ in methods) == 1 else f"{metric}, {method}"
        best = max(rows, key=lambda row: row.value if row.metric in _HIGHER else -row.value)
        found = {
            row: over_draws(row, best, len(rows)) or difference(row, best, len(rows)) for row in rows if row is not best
        }
        if all(apart_by.low is None for apart_by in found.values()):
            continue
        for row in rows:
            start = {"evaluated": Cell(row.model or ""), **_seed(row, same)}
            line = _free(lines, (row.model, row.model_sha256, row.seed), column, start)
            line[column] = Cell("best", None, (row,)) if row is best else difference_cell(found[row], (row, best))
        compared += [(f"{column}: {_about(each, len(rows), best.spread_of)}", each) for each in found.values()]
    if not lines:
        return []
    notes = [note for note, _ in compared]
    notes += [WITHIN] if any(each.within for _, each in compared) else []
    return [table(f"{title}, differences to the best", list(lines.values()), notes)]


def _copying(rows: Sequence[Row]) -> list[Table]:
    """A table per generator, seed and training images; a line per number, the held-out images' beside it, and p."""
    found = []
    for same in grouped(rows, lambda row: (row.model_sha256, row.model, row.data_sha256, row.seed)).values():
        lines: dict[object, dict[str, Cell]] = {}
        p_values = [row for row in same if row.role == "p-value"]
        adjusted = dict(zip(p_values, holm([row.value for row in p_values]), strict=True))
        for row in same:
            start = {"features": Cell(row.features), "": Cell(row.condition), "metric": Cell(row.metric)}
            column = "p" if row.role == "p-value" else row.role
            line = _free(lines, (row.features, row.features_sha256, row.condition, row.metric), column, start)
            if row.role == "p-value":
                p = adjusted[row]
                line["p"] = Cell(f"{row.value:.2g}", row.value, (row,))
                line["p, adjusted"] = Cell(f"{p:.2g}", p, (row,))
                line["verdict"] = Cell("nearer" if p < FLAGGED else "")
            else:
                shown = f"{row.value:.5g}{' ' * bool(row.unit) + row.unit}"
                line[column] = Cell(shown, row.value, (row,))
        order = ("features", "", "metric", "value", "held-out", "p", "p, adjusted", "verdict")
        first = same[0]
        notes = [f"{row.metric}: {words.method(row)}" for row in same if row.role == "value"]
        notes += [_features(row) for row in same]
        if any(row.role == "p-value" for row in same):
            notes.append(
                f"p, adjusted: for the {len(adjusted)} p-values of this table (Holm). verdict: where it is below "
                f"{FLAGGED}, held-out images would seldom be as close. Blurred samples, or those of little contrast, "
                "are closer to all images without copying any: look at the samples that are nearest"
            )
        notes += [
            f"{row.n:,} samples of {row.model}, sha256 {row.model_sha256}; {row.n_reference:,} training images"
            for row in same
            if (row.metric, row.role) == ("nearest distance", "value")
        ]
        notes += [
            f"training and held-out images: {first.data}, sha256 {first.data_sha256}",
            f"seed {first.seed}, on {_machine(first)}; {first.versions}",
        ]
        ordered = [{name: line.get(name, EMPTY) for name in order} for line in lines.values()]
        found.append(table(f"Does {first.model} copy {first.data.partition(' ')[0]}?", ordered, notes))
    return found


def _duplicates(rows: Sequence[Row]) -> list[Table]:
    """A table per set of images; a line per count."""
    found = []
    for same in grouped(rows, lambda row: (row.data, row.data_sha256)).values():
        first = same[0]
        lines = [
            {
                "found by": Cell(row.features),
                "": Cell(row.metric),
                "images": Cell(f"{row.value:,.0f}", row.value, (row,)),
                "of": Cell(f"{row.n:,}", row.n),
                "held out": Cell(f"{row.n_reference:,}", row.n_reference) if row.n_reference else EMPTY,
            }
            for row in same
        ]
        notes = [f"{_features(row)}; {row.seconds:.1f} s" for row in same]
        notes += [
            first.method,
            f"training{' and held-out' if first.n_reference else ''} images: {first.data}, sha256 {first.data_sha256}",
            f"seed {first.seed}, on {_machine(first)}; {first.versions}",
        ]
        found.append(table(f"Duplicates in {first.data}", lines, notes))
    return found


def _nearest(rows: Sequence[Row], title: str = "Nearest neighbour", quotes: Sequence[Quote] = ()) -> list[Table]:
    """A table per set; a line per images searched and their number, then those of `quotes` that stand beside none."""
    found = []
    for same in grouped(rows, lambda row: (row.data_sha256, row.data, row.n, row.seed)).values() or [[]]:
        lines: dict[tuple[str | None, int], dict[str, Cell]] = {}
        used = []
        for row in same:
            line = lines.setdefault(
                (row.model_sha256, row.n_reference),
                {"images searched": Cell(row.model or "real"), "number": Cell(f"{row.n_reference:,}", row.n_reference)},
            )
            if row.metric == "error":
                line["error %"] = number(row)
                line |= _beside(row)
                used.append(quoted(row))
            else:
                line["mean distance"] = Cell(f"{row.value:.1f}", row.value, (row,))
        more = [
            {
                "images searched": Cell(f"{quote.row.model}, of the paper"),
                "number": Cell(f"{quote.row.n_reference:,}", quote.row.n_reference),
                **_quote(quote),
            }
            for quote in quotes
            if quote not in used
        ]
        order = ("images searched", "number", "error %", "paper %", "difference", "differs in", "mean distance")
        ordered = [{name: line.get(name, EMPTY) for name in order} for line in [*lines.values(), *more]]
        notes = [
            "; ".join([row.method, row.features_protocol, *words.uncertainty(row)])
            for row in same
            if row.metric == "error"
        ]
        notes += [f"{row.model}: sha256 {row.model_sha256}" for row in same if row.model is not None]
        notes += [f"data: {row.data}, sha256 {row.data_sha256}" for row in same]
        notes += [APART] if any(line["difference"].text for line in ordered) else []
        notes += [f"{max(r.seconds for r in same):.0f} s on {_machine(same[0])}; {same[0].versions}"] if same else []
        if not same:
            notes.append("not measured: dcgan-eval reproduce table3 says what it needs")
        data = same[0].data.partition(":")[0] if same else "MNIST"
        found.append(table(f"{title}: {data} test digits by the nearest of more and more digits", ordered, notes))
    return found


def _others(rows: Sequence[Row]) -> list[Table]:
    """Numbers of a study, or of a task that has no table of its own: one table per question, a line per condition, a
    column per metric, and one per metric with p-values."""
    found = []
    for (asked, *_), same in grouped(
        rows, lambda row: (row.question, row.model, row.model_sha256, row.data, row.layer, row.seed)
    ).items():
        first = same[0]
        lines: dict[object, dict[str, Cell]] = {}
        p_values = [row for row in same if row.role == "p-value"]
        adjusted = dict(zip(p_values, holm([row.value for row in p_values]), strict=True))
        for row in same:
            column = f"{words.column(row)} {row.unit}".strip()
            column += ", adjusted" if row in adjusted and len(adjusted) > 1 else ""
            line = _free(lines, (row.condition, row.command), column, {"": Cell(row.condition)})
            line[column] = Cell(f"{adjusted[row]:.2g}", adjusted[row], (row,)) if row in adjusted else _whole(row)
        notes = [
            f"{', '.join(dict.fromkeys(words.column(row) for row in some))}: {how}"
            for how, some in grouped(same, words.method).items()
        ]
        notes += [note for row in same for note in words.uncertainty(row)]
        notes += [f"brackets: {words.interval(row)}" for row in same if row.interval]
        if len(p_values) > 1:
            notes.append(
                f"p-values are adjusted for the {len(p_values)} of this table (Holm); as computed: "
                + ", ".join(f"{words.metric(row)} {row.value:.2g}" for row in p_values)
            )
        notes += [_features(row) if row.features else row.features_protocol for row in same]
        notes += [f"{first.model}: sha256 {first.model_sha256}"] if first.model else []
        notes += [f"data: {first.data}, sha256 {first.data_sha256}"] if first.data else []
        counts = ", ".join(dict.fromkeys(f"{row.n:,}" for row in same))
        by = f", against {first.n_reference:,}" if first.n_reference else ""
        notes.append(f"{counts} evaluated{by}; seed {first.seed}, on {_machine(first)}; {first.versions}")
        layer = f" at {first.layer}" if first.layer != "all" else ""
        title = ", ".join(part for part in (f"{first.task}: {first.model}{layer}", asked, first.data) if part)
        found.append(table(title, list(lines.values()), notes))
    return found


def _whole(row: Row) -> Cell:
    """The value, its spread and its interval, where it has them."""
    cell = number(row)
    if row.spread is None or row.low is None or row.high is None:
        return cell
    return replace(cell, text=f"{cell.text} {between(row.low, row.high, row.unit)}")


_MAKERS: dict[str, Callable[[Sequence[Row]], list[Table]]] = {
    "classify": _accuracies,
    "fid": _comparisons,
    "neighbors": _copying,
    "dedup": _duplicates,
    "table3": _nearest,
}


def _classified(which: int, rows: Sequence[Row], data: str, labels: Sequence[str], metric: str) -> list[Table]:
    """Of a table of the paper: a line per model; by labels the measured number, the paper's and their difference."""
    quotes = [quote for quote in QUOTES if quote.table == which]
    ours = [
        row
        for row in rows
        if (row.task, row.metric, row.role, row.layer) == ("classify", metric, "value", "all")
        and row.labels in labels
        and row.data == data
    ]
    suffix = {some: f", {words.labels(some)}" if len(labels) > 1 else "" for some in labels}
    found = []
    for same in list(grouped(ours, lambda row: row.data_sha256).values()) or [list[Row]()]:
        lines: dict[object, dict[str, Cell]] = {}
        shown = [(mean_over_seeds(some), some) for some in by_seeds(same)]
        alone = [row for row, some in shown if len(some) == 1]
        of_seeds = []
        for row, some in shown:
            quote = quoted(row)
            model = f"{row.features} + {_classifier(row)}"
            model += f", {len(some)} seeds" if len(some) > 1 else ""
            start = {
                "model": Cell(model),
                "paper's model": Cell(quote.row.model or "") if quote is not None else EMPTY,
                "trained on": Cell(row.trained_on),
                **(_seed(row, alone) if len(some) == 1 else {}),
                "d": Cell(f"{row.dimensions}", row.dimensions),
            }
            column = f"{metric} %{suffix[row.labels]}"
            line = _free(lines, (model, len(some) > 1 or (row.features_sha256, row.seed)), column, start)
            line[column] = replace(number(row), rows=tuple(some))
            if len(some) > 1:
                of_seeds.append(
                    f"{model}{suffix[row.labels]}: brackets: the 95 % interval of the mean over {len(some)} seeds "
                    "(Student's t), which draw weights, labels and folds; it speaks of these test images"
                )
                continue
            line |= _of_draws(row, suffix[row.labels])
            line |= _beside(row, suffix[row.labels])
        named = {line["paper's model"].text for line in lines.values()}
        models = dict.fromkeys(quote.row.model or "" for quote in quotes)
        lines |= {model: {"paper's model": Cell(model)} for model in models if model not in named}
        for line in lines.values():  # the paper's numbers also where no measured one stands beside them
            for quote in quotes:
                if quote.row.model == line["paper's model"].text:
                    line |= _quote(quote, suffix[quote.row.labels])
                    if quote.units is not None:
                        line["paper's feature units"] = Cell(str(quote.units), quote.units, quoted=True)
        order = ["model", "paper's model", "trained on", "seed", "d"]
        for after in suffix.values():
            order += [f"{name}{after}" for name in (f"{metric} %", MEAN, IMAGES, "paper %", "difference", "differs in")]
        order += ["paper's feature units"]
        ordered = [{name: line.get(name, EMPTY) for name in order} for line in lines.values()]
        notes = [f"the paper's numbers are quoted, and of {data}"]
        if same:
            used = {name for line in ordered for name, cell in line.items() if cell.text}
            notes += [APART] if any(name.startswith("difference") for name in used) else []
            notes += [f"measured: {note}" for row in alone for note in words.uncertainty(row)]
            notes += [note for row in alone for note in _about_draws(row)] + of_seeds
            notes += [f"{quote.row.model}: {quote.row.remark}" for quote in quotes if quote.row.remark]
            notes += [_features(row) for row in same]
            notes += [f"{row.features}: {words.method(row)}, seed {row.seed}" for row in same]
            notes.append(f"data: {data}, sha256 {same[0].data_sha256}")
            notes += [f"on {_machine(row)}; {row.versions}" for row in same]
        else:
            notes.append(f"not measured: dcgan-eval reproduce table{which} says what it needs")
        found.append(table(f"Table {which}: {data}, {metric}", ordered, notes))
    return found


# cells


def _free(lines: dict[object, dict[str, Cell]], key: Hashable, column: str, start: dict[str, Cell]) -> dict[str, Cell]:
    """The first line of the key whose column is free, begun by `start`: no number is set over another."""
    for repeat in count():
        line = lines.setdefault((key, repeat), dict(start))
        if column not in line:
            return line
    raise AssertionError


def _seed(row: Row, same: Sequence[Row]) -> dict[str, Cell]:
    """Where the lines of a table are of several."""
    several = len({other.seed for other in same}) > 1
    return {"seed": Cell(f"{row.seed}", row.seed)} if several else {}


def _beside(row: Row, suffix: str = "") -> dict[str, Cell]:
    """The paper's number, and either the difference to it or in what it differs otherwise, where there is one."""
    quote = quoted(row)
    if quote is None:
        return {}
    unlike = differs(row, quote)
    if unlike:
        return {**_quote(quote, suffix), f"differs in{suffix}": Cell("; ".join(unlike))}
    return {**_quote(quote, suffix), f"difference{suffix}": difference_cell(apart(row, quote.row), (row, quote.row))}


MEAN, IMAGES = "mean over label draws", "over test images"  # columns: what an interval is of


def _of_draws(row: Row, suffix: str = "") -> dict[str, Cell]:
    """The intervals of a number whose cell shows a spread: of the mean over draws or sets, and over the images."""
    mean, over = f"mean over {row.spread_of}", f"over {row.interval_of}"
    ends = {mean: (row.draws_low, row.draws_high), over: (row.low, row.high)} if row.spread_n else {}
    return {
        f"{name}{suffix}": Cell(between(low, high, row.unit), low, (row,))
        for name, (low, high) in ends.items()
        if low is not None and high is not None
    }


def _about_draws(row: Row) -> list[str]:
    of = f"{row.spread_n} {row.spread_of}"
    mean = f"mean over {row.spread_of}: the 95 % interval of the mean over {of} (Student's t)"
    over = f"over {row.interval_of}: {words.interval(row)}"
    shown = {mean: row.draws_low, over: row.low if row.spread_n else None}
    return [note for note, low in shown.items() if low is not None]


def _about(found: Difference, models: int, draws_of: str = "label draws") -> str:
    """What the interval of a difference to the best of so many models is. draws_of: what a draw is of."""
    by = "Bonferroni" if found.over == "paired by draw" else "Tukey"
    at_once = f", which holds for all differences between the {models} models at once ({by})" if models > 2 else ""
    how = {
        "paired by image": "the 95 % interval over test images, paired image by image",
        "paired by draw": f"the 95 % interval over {draws_of}, paired draw by draw",
        "independent sets": "the 95 % interval over other generated sets, from those of both (Zou and Donner)",
        "not paired": "the 95 % interval over test images, as of two independent samples (Newcombe): at least one "
        "model's outcomes by image are not kept, so it is too wide",
        "": "of at least one model too little is kept for an interval",
    }[found.over]
    return how + (at_once if found.over else "")


def _cited(quote: Quote) -> Cell:
    return Cell(words.cite(quote), quote.row.value, (quote.row,), quoted=True)


def _quote(quote: Quote, suffix: str = "") -> dict[str, Cell]:
    row = quote.row
    spread = f" ± {row.spread:g}" if row.spread is not None else ""
    # as the paper prints it: 82.0 and not 82.00
    places = 2 if round(row.value, 1) != row.value else 1
    return {f"paper %{suffix}": Cell(f"{row.value:.{places}f}{spread}", row.value, (row,), quoted=True)}


def difference_cell(found: Difference, rows: tuple[Row, ...]) -> Cell:
    """As '≈ −0.03 [−0.09, +0.03]'; rows: those that it is of."""
    unit = rows[0].unit
    ends = "" if found.low is None or found.high is None else f" {between(found.low, found.high, unit, '+')}"
    sign = "−" if found.value < 0 else "+"
    value = f"{abs(found.value):.2f}" if unit == "%" else f"{abs(found.value):.4g}"
    return Cell(f"{'≈ ' if found.within else ''}{sign}{value}{ends}", found.value, rows)


def _features(row: Row) -> str:
    seen = f"; trained on {row.trained_on}" if row.trained_on else ""
    return f"{row.features}: {row.features_protocol}{seen}"


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """In the order of their first ones."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
