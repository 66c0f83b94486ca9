"""The accuracy that a discriminator's features reach, by how many images it has seen, of several trainings.

    python -m benchmarks.probe_curve reports/training/imagenet32-probe.csv reports/figures/imagenet32-probe.png

The table has a line per saved state: run, weights ('as they are', or averaged), images seen, accuracy in %.
"""

import argparse
import csv
from pathlib import Path

from dcgan_eval import figures

TITLE = "accuracy of the L2-SVM on training images of CIFAR-10 that were held out, %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("figure", type=Path)
    a = parser.parse_args()
    with a.table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["weights"] == "as they are"]
    lines: dict[str, figures.Line] = {}
    for run in dict.fromkeys(row["run"] for row in rows):
        some = [row for row in rows if row["run"] == run]
        lines[run] = [float(row["images"]) / 1e6 for row in some], [float(row["accuracy"]) for row in some]
    figures.curves({TITLE: lines}, "million images seen").save(a.figure)


if __name__ == "__main__":
    main()
