"""Every claim about speed that this machine can measure, beside its peers, its limit, and its growth.

    python -m benchmarks CIFAR-10 [CLAIM ...] [--data-root data] [--device cpu] [--out reports/benchmarks]

The source: labelled images of 32×32 in RGB, at least 5,000, with the splits train and test. Writes OUT/speed.csv, a row
for every size beside every peer, and OUT/speed.md, the table of the largest sizes. Claims named alone replace their own
rows only.
"""

import argparse
import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from benchmarks import features, frechet, inception, manifold, neighbors, startup, svm, training_throughput
from benchmarks.arguments import add_data_root
from benchmarks.measure import Case, Limits, Measured, header, limits, measure
from dcgan_eval.images import open_images
from dcgan_eval.runtime import devices
from dcgan_eval.runtime.files import write_whole

NAMES = {
    "help": "start: `dcgan-eval --help`",
    "imports": "start: what `classify` imports",
    "svm": "L2-SVM, rows of 28,672 features, ten classes, C = 0.001",
    "features": "features of images, imagenet32 (28,672)",
    "inception": "Inception's features, images",
    "resize": "resizing as clean-fid, images",
    "frechet": "Fréchet distance, features",
    "neighbors": "5 nearest of 2,500 queries, rows of 3,072 pixels",
    "manifold": "precision, recall, density, coverage, features of 2,048 on each side",
    "training": "a step of training, 64×64, float32, minibatch",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("claims", nargs="*", help=f"of {', '.join(NAMES)} [default: all]")
    add_data_root(parser)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="of features that the SVM is given")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    a = parser.parse_args()
    if unknown := set(a.claims) - NAMES.keys():
        parser.error(f"no claim {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    device = devices.choose(a.device)
    print(header())
    found = limits(device)
    print(f"limits of {device}: {found}")
    on_cpu = found if device == "cpu" else limits("cpu")
    works: dict[str, tuple[Callable[[], Iterable[Case]], Limits, str]] = {
        "help": (lambda: startup.cases(startup.HELP), on_cpu, "cpu"),
        "imports": (lambda: startup.cases(startup.CLASSIFY), on_cpu, "cpu"),
        "svm": (lambda: svm.cases(open_images(a.data, root=a.data_root), a.cache, device), found, device),
        "features": (lambda: features.cases("imagenet32", device), found, device),
        "inception": (lambda: inception.cases(device), found, device),
        "resize": (lambda: inception.resizing(on_cpu), on_cpu, "cpu"),
        "frechet": (lambda: frechet.cases(on_cpu), on_cpu, "cpu"),
        "neighbors": (lambda: neighbors.cases(open_images(a.data, root=a.data_root)), on_cpu, "cpu"),
        "manifold": (manifold.cases, on_cpu, "cpu"),
        "training": (lambda: training_throughput.cases(device), found, device),
    }
    for claim in a.claims or NAMES:
        cases, limit, where = works[claim]
        write(a.out, claim, measure(NAMES[claim], cases(), limit, where), f"{header()}; {limit}")


def write(out: Path, claim: str, rows: list[Measured], machine: str) -> None:
    """Replaces the rows of this claim, and makes the table anew."""
    path = out / "speed.csv"
    kept = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []
    fresh = [{"name": claim, **{k: str(v) for k, v in asdict(row).items()}, "machine": machine} for row in rows]
    order = list(NAMES)
    every = [row for row in kept if row["name"] != claim] + fresh
    every.sort(key=lambda row: order.index(row["name"]))
    text = io.StringIO()
    lines = csv.DictWriter(text, list(fresh[0]), lineterminator="\n")
    lines.writeheader()
    lines.writerows(every)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue())
    write_whole(out / "speed.md", table(every))


def table(rows: list[dict[str, str]]) -> str:
    """Of each claim the largest size, and the growth up to it; machines below."""
    largest = {name: max(int(row["n"]) for row in rows if row["name"] == name) for name in {r["name"] for r in rows}}
    shown = [
        [
            row["claim"],
            f"{int(row['n']):,}",
            f"{float(row['ours']):.3g}",
            row["peer"],
            f"{float(row['theirs']):.3g}",
            f"{float(row['theirs']) / float(row['ours']):.1f}",
            f"{100 * float(row['limit']) / float(row['ours']):.0f} %",
            "" if row["growth"] == "None" else f"n^{float(row['growth']):.2f}",
        ]
        for row in rows
        if int(row["n"]) == largest[row["name"]]
    ]
    titles = ["work", "n", "ours, s", "peer", "peer, s", "times faster", "of the limit", "growth"]
    machines = "".join(f"- {machine}\n" for machine in dict.fromkeys(row["machine"] for row in rows))
    lines = [titles, ["---"] * len(titles), *shown]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{machines}"


if __name__ == "__main__":
    main()
