import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# tests of the command line say nothing of a device, and mean the CPU; torch looks when it first needs to know
if os.environ.get("DCGAN_EVAL_TEST_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torch.nn import functional

from dcgan_eval.images import open_images, open_split
from dcgan_eval.inputs import open_extractor
from dcgan_eval.models.checkpoint import load, save
from dcgan_eval.studies.judge import learnt
from dcgan_eval.studies.model import ready

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


@pytest.fixture(scope="session")
def cifar10(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root folder of CIFAR-10's official files, which the data folder's own unpacker writes once per test run."""
    archives, unpacker = [data / f"cifar10-{part}.zip" for part in "ab"], data / ".." / "tools" / "cifar10.py"
    if missing := [path.name for path in archives if not path.is_file()]:
        pytest.skip(f"no CIFAR-10: {data} has no {' and no '.join(missing)}")
    if not unpacker.is_file():
        pytest.skip(f"no CIFAR-10: {unpacker}, the data folder's own unpacker, does not exist")
    base = tmp_path_factory.getbasetemp()
    # each worker of pytest-xdist has a folder of its own, inside the one of the run
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root, partial = shared / "cifar10", shared / "cifar10-partial"
    with FileLock(shared / "cifar10.lock"):
        if not root.exists():  # renamed when it is whole, so that what a killed worker leaves is not taken for it
            subprocess.run([sys.executable, unpacker, partial], check=True)
            partial.rename(root)
    return root


@pytest.fixture(scope="session")
def photographs(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    """photographs(n, start=0): training images of CIFAR-10, uint8 (n, 3, 32, 32); blots of that size without data."""
    try:
        images = open_split("CIFAR-10:train", root=request.getfixturevalue("cifar10")).subset(range(1000)).tensor()
    except pytest.skip.Exception:
        noise = 255 * torch.rand(1000, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        images = functional.interpolate(noise, (32, 32), mode="bilinear").byte()

    def some(n: int, start: int = 0) -> Tensor:
        assert start + n <= len(images)
        return images[start : start + n].clone()

    return some


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, photographs: Callable[..., Tensor]) -> Path:
    """A file of Inception's weights in torch-fidelity's layout, of a seed."""
    from tests.inception import write_weights  # takes seconds, and few tests need it

    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    write_weights(path, photographs(16))
    return path


@pytest.fixture(scope="session")
def digits_model():
    """The digits generator inside the package, ready to be studied."""
    return ready(load("digits"), name="gen:digits")


@pytest.fixture(scope="session")
def digit_class():
    """The class of a digit, by the digits discriminator's features."""
    train = open_images("digits")["train"]
    return learnt(train, open_extractor("disc:digits")(train))


@pytest.fixture(scope="session")
def table3_files(tmp_path_factory):
    """Labelled images with two splits, and a conditional generator's checkpoint."""
    from tests.builders import conditional, resized

    folder = tmp_path_factory.mktemp("table3")
    test, train = resized(20), resized(60, start=20)
    np.savez(
        folder / "x.npz",
        x_train=train.tensor().permute(0, 2, 3, 1).numpy(),
        y_train=train.labels.numpy(),
        x_test=test.tensor().permute(0, 2, 3, 1).numpy(),
        y_test=test.labels.numpy(),
    )
    save(folder / "netG.safetensors", generator=conditional())
    return folder
