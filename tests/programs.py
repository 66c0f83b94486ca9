"""Programs beside Python that tests need."""

import os
from pathlib import Path

import pytest


def needed(*paths: Path | str, packages: str) -> None:
    """Skips the test where a program is absent, but fails it in CI, which installs what it needs."""
    for path in paths:
        if not Path(path).exists():
            refuse = pytest.fail if os.environ.get("CI") else pytest.skip
            refuse(f"no {path}: apt-get install {packages}")
