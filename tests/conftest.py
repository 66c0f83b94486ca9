import os
from pathlib import Path

import pytest
import torch

# threads gain nothing on problems this small, and wait for one another where other work has the cores; that of the
# processes that tests start, too
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

DATA = os.environ.get("DCGAN_EVAL_TEST_DATA", "")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data sets; tests that need it are skipped, with the reason, where it is absent."""
    if not Path(DATA).is_dir() or not DATA:
        pytest.skip(f"no real data at {DATA!r}; set DCGAN_EVAL_TEST_DATA to the folder that holds it")
    return Path(DATA)
