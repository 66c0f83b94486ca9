import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("DCGAN_EVAL_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data sets; tests that need it are skipped, with the reason, where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set DCGAN_EVAL_TEST_DATA to the folder that holds it")
    return DATA
