"""Arguments that several benchmarks take."""

import argparse
from pathlib import Path


def add_data_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="directory of the named datasets")
