"""Two folders of Markdown tables, as `dcgan-eval report --format md` writes them: is every number in both the same?

    python -m benchmarks.same_tables BEFORE AFTER

Compares the numbers in the lines of each table, in order, and of the notes below it; words may differ. Exit 1 where a
table is missing or a number differs, each named.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

GRID = re.compile(r"@(\d+)x\1")  # part of the name of features, which say theirs since they may have several
NUMBER = re.compile(r"[−-]?\d[\d,]*(?:\.\d+)?(?:e[−-]?\d+)?")


def numbers(path: Path) -> tuple[list[list[str]], Counter[str]]:
    """Of every line of the tables, header included, and of the notes."""
    lines = GRID.sub("", path.read_text(encoding="utf-8")).splitlines()
    cells = [NUMBER.findall(line) for line in lines if line.startswith("|")]
    notes = Counter(found.replace(",", "") for line in lines if line.startswith("- ") for found in NUMBER.findall(line))
    return cells, notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    a = parser.parse_args()
    before, after = (
        {re.sub(r"-(\d+)x\1(?=-)", "", p.name): p for p in folder.glob("*.md")} for folder in (a.before, a.after)
    )
    wrong = [f"{name}: only in {a.before}" for name in sorted(before.keys() - after.keys())]
    wrong += [f"{name}: only in {a.after}" for name in sorted(after.keys() - before.keys())]
    count = 0
    for name in sorted(before.keys() & after.keys()):
        (cells, notes), (cells_after, notes_after) = (numbers(folder[name]) for folder in (before, after))
        count += sum(map(len, cells))
        wrong += [f"{name}: {x} became {y}" for x, y in zip(cells, cells_after, strict=False) if x != y]
        wrong += [f"{name}: {len(cells)} lines became {len(cells_after)}"] if len(cells) != len(cells_after) else []
        wrong += [f"{name}: notes: {x} is gone" for x in notes - notes_after]
        wrong += [f"{name}: notes: {x} is new" for x in notes_after - notes]
    print(*wrong, sep="\n")
    print(f"{len(before.keys() & after.keys())} tables with {count:,} numbers in both: {len(wrong)} differences")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
