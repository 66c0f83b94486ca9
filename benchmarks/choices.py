"""What the accuracy of Table 1 depends on that the paper leaves open, one choice after another.

    python -m benchmarks.choices disc:CHECKPOINT,random:PRESET,… [--data-root data] [--protocols all,per-class:400]
        [--out reports/benchmarks/choices.csv] [--cache DIR]
    python -m benchmarks.choices --table [--out reports/benchmarks/choices.csv]

Each of `CHOICES` changes one thing of what `dcgan-eval classify --data CIFAR-10` does by default, and is measured as
that command would. A number that the file has already is not measured again; a network is known by its name. `--table`
prints the tables of docs/table1.md: accuracies, and differences to the default, paired by test image, and by draw where
the same labels were drawn, as they are but where images were set aside.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.arguments import add_data_root
from dcgan_eval import report, results
from dcgan_eval.evaluations.classify import aside, classify
from dcgan_eval.images import Images, open_images
from dcgan_eval.inputs import open_extractor
from dcgan_eval.options import BatchNormChoice, ClassifyOptions, FeatureOptions
from dcgan_eval.report import words
from dcgan_eval.report.table import EMPTY, Cell, Table, number, table
from dcgan_eval.report.tables import difference_cell
from dcgan_eval.results import Row
from dcgan_eval.results.differences import difference, over_draws
from dcgan_eval.runtime.run import Run

DRAWN = "per-class:400"
VALIDATION = 10_000  # training images


@dataclass(frozen=True)
class Choice:
    """options: of `ClassifyOptions`, besides the protocol. pooled: what follows the features' name. valid: training
    images that are set aside to choose C by. protocols: that it is measured under."""

    what: str
    title: str
    options: dict[str, Any] = field(default_factory=dict)
    batchnorm: BatchNormChoice = "auto"
    batchnorm_images: int = FeatureOptions.batchnorm_images
    pooled: str = ""
    valid: int = 0
    protocols: tuple[str, ...] = ("all", DRAWN)


DEFAULT = Choice("", "default: C by 5 folds, unscaled, 4x4, max")
CHOICES = (
    DEFAULT,
    Choice("BatchNorm", "re-estimated from all training images", batchnorm="reestimated", batchnorm_images=0),
    Choice("BatchNorm", "re-estimated from 12,800", batchnorm="reestimated"),
    Choice("BatchNorm", "of each batch of 128", batchnorm="batch"),
    Choice("C", "by 10,000 validation images", valid=VALIDATION),
    Choice("C", "1, liblinear's default", {"C": (1.0,)}, protocols=(DRAWN,)),
    Choice("scaling", "standardised", {"scaling": "standardised"}),
    Choice("scaling", "unit norm", {"scaling": "unit-norm"}),
    Choice("pooling", "4x4, mean", pooled="@4x4mean"),
    Choice("pooling", "2x2, max", pooled="@2x2"),
    Choice("pooling", "2x2, mean", pooled="@2x2mean"),
    Choice("pooling", "1x1, max", pooled="@1x1"),
)


def applies(choice: Choice, spec: str, stored: bool) -> bool:
    """Whether the choice differs from the default for these features. stored: whether BatchNorm statistics come from
    the network's file."""
    again = choice.batchnorm == "reestimated" and choice.batchnorm_images == FeatureOptions.batchnorm_images
    random = spec.startswith("random:") and choice.what == "BatchNorm" and choice.batchnorm_images
    return not random and (stored or not again)


def measured(
    choice: Choice, spec: str, data: dict[str, Images], protocol: str, run: Run, seed: int = 0
) -> Iterator[Row]:
    """Its rows, told apart from those of other choices by their condition."""
    train, valid = data["train"], None
    if choice.valid:
        train, valid = aside(train, choice.valid, seed)
    disc = spec.startswith("disc:")
    features = FeatureOptions(
        batchnorm=choice.batchnorm if disc else "auto", batchnorm_images=choice.batchnorm_images, seed=seed
    )
    extractor = open_extractor(spec + choice.pooled, features)(train)
    options = ClassifyOptions(protocol=protocol, seed=seed, **choice.options)
    for row in classify(train, data["test"], extractor, options, run, valid=valid):
        yield replace(row, condition=named(choice))


def named(choice: Choice) -> str:
    return f"{choice.what}: {choice.title}" if choice.what else choice.title


def tables(rows: Sequence[Row]) -> list[Table]:
    """One of each network: a line per choice, beside the default the differences to it."""
    values = [row for row in results.latest(rows) if (row.metric, row.role) == ("accuracy", "value")]
    titles = {named(choice): choice for choice in CHOICES}
    found = []
    for network in dict.fromkeys(row.features.partition("@")[0] for row in values):
        of = {
            (row.condition, row.labels): row
            for row in values
            if row.features.partition("@")[0] == network and row.condition in titles
        }
        lines = []
        notes: list[str] = []
        for condition, choice in titles.items():
            some = {labels: of[condition, labels] for labels in ("all", DRAWN) if (condition, labels) in of}
            if not some:
                continue
            line = {"": Cell(choice.what), "choice": Cell(choice.title)}
            line["d"] = Cell(f"{next(iter(some.values())).dimensions:,}")
            for labels in ("all", DRAWN):
                suffix = f", {words.labels(labels)}"
                row, usual = some.get(labels), of.get((named(DEFAULT), labels))
                line[f"C{suffix}"] = EMPTY if row is None else Cell(f"{row.C:g}", row.C)
                line[f"%{suffix}"] = EMPTY if row is None else number(row)
                line[f"Δ{suffix}"] = EMPTY
                if row is not None and usual is not None and row is not usual:
                    # pipelines are compared, of the same test images: what else differs is the choice
                    alike = replace(
                        usual, method=row.method, condition=row.condition, n_reference=row.n_reference,
                        data_sha256=row.data_sha256,
                    )  # fmt: skip
                    line[f"Δ{suffix}"] = difference_cell(difference(row, alike), (row, usual))
                    if not choice.valid and (drawn := over_draws(row, alike)) is not None:
                        line[f"Δ{suffix}, by draw"] = difference_cell(drawn, (row, usual))
            lines.append(line)
            notes += [note for row in some.values() for note in words.uncertainty(row)]
        notes += [
            "Δ: less the default, with its 95 % interval over test images, paired image by image; by draw: over label "
            "draws, paired draw by draw; ≈: the interval holds 0"
        ]
        found.append(table(f"{network}, CIFAR-10", lines, notes))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", nargs="?", default="", help="separated by commas")
    add_data_root(parser)
    parser.add_argument("--protocols", default=f"all,{DRAWN}")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks/choices.csv"))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--table", action="store_true")
    a = parser.parse_args()
    if a.table:
        print(report.markdown(tables(results.read(a.out))), end="")
        return
    data = open_images("CIFAR-10", root=a.data_root)
    command = results.command(["python", "-m", "benchmarks.choices", *sys.argv[1:]]).removeprefix("dcgan-eval ")
    run = Run(device="cpu", cache=a.cache, command=command)
    there = results.read(a.out) if a.out.exists() else []
    done = {(row.features.partition("@")[0], row.condition, row.labels) for row in there}
    for protocol in a.protocols.split(","):
        for spec in a.features.split(","):
            if "@" in spec:
                parser.error(f"{spec}: pooling is one of the choices; leave it out")
            name, stored = opened(spec, data["train"])
            for choice in CHOICES:
                if not applies(choice, spec, stored) or protocol not in choice.protocols:
                    continue
                if (name, named(choice), protocol) not in done:
                    rows = list(measured(choice, spec, data, protocol, run))
                    results.append(a.out, rows)
                    print(f"{name}, {protocol}, {named(choice)}: {rows[0].value:.2f} %", flush=True)


def opened(spec: str, train: Images) -> tuple[str, bool]:
    """What results call the features, and whether their BatchNorm statistics are those of a file."""
    extractor = open_extractor(spec)(train)
    return extractor.name, extractor.batchnorm == "stored"


if __name__ == "__main__":
    main()
