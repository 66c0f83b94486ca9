import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dcgan_eval.models import checkpoint
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import Ranks
from tests.builders import pictures, recipe
from training.__main__ import main
from training.distributed import any_rank, check_share, mean_over
from training.loop import train

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SMALL = ("digits", "--generator-channels", "8,4", "--discriminator-channels", "4,8", "--z-dim", "4",
         "--batch-size", "32", "--device", "cpu", "--sample-epochs", "1000")  # fmt: skip
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "training")


def arrays(path):
    """Every parameter and BatchNorm statistic of both networks."""
    found = checkpoint.load(path)
    assert found.generator is not None
    assert found.discriminator is not None
    networks = {"generator": found.generator, "discriminator": found.discriminator}
    return {f"{name}.{key}": v for name, network in networks.items() for key, v in network.state_dict().items()}


@pytest.mark.parametrize(
    "flags",
    [
        ("--updates", "alternate", "--ema", "0", "--r1", "1", "--diffaugment", "color,translation,cutout"),
        ("--n-classes", "10", "--hidden-width", "6", "--label-smoothing", "0.1", "--ema", "0.5"),
    ],
    ids=["unconditional", "conditional"],
)
def test_two_ranks_end_where_one_does(flags, tmp_path):
    """28 images an epoch: 6 steps."""
    argv = (*SMALL, *flags, "--epochs", str(6 / 28))
    assert main([*argv, "--out", str(tmp_path / "one")]) == 0
    done = subprocess.run(
        [sys.executable, *TORCHRUN, *argv, "--out", str(tmp_path / "two")],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = (arrays(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key, wanted in one.items():
        distance = (two[key].double() - wanted.double()).norm() / wanted.double().norm().clamp(min=1e-30)
        assert distance < 1e-4, f"{key}: {distance:.2g}"
    # one of the two has written, once
    first, second = (
        [row.split(",")[0] for row in (tmp_path / name / "metrics.csv").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert first == second
    assert len(list((tmp_path / "two").glob("state-*"))) == 1


def test_a_network_that_differs_would_be_seen(tmp_path):
    """The tolerance above is far below what another seed, or one step, makes."""
    found = []
    for name, flags in {"a": ("--epochs", str(6 / 28)), "b": ("--epochs", str(5 / 28))}.items():
        assert main([*SMALL, *flags, "--ema", "0.5", "--out", str(tmp_path / name)]) == 0
        found.append(arrays(tmp_path / name / "last.safetensors"))
    for key, value in found[0].items():
        if value.ndim > 1:
            assert (found[1][key] - value).norm() / value.norm() > 2e-4, key


@pytest.mark.parametrize(("batch_size", "world"), [(16, 3), (17, 2), (2, 2), (4, 4)])
def test_a_batch_that_ranks_cannot_share_is_refused(batch_size, world, tmp_path):
    message = f"batch_size {batch_size} does not divide into {world} ranks with 2 images or more each"
    with pytest.raises(InputError, match=message):
        check_share(batch_size, Ranks(0, world))
    out = tmp_path / "out"
    with pytest.raises(InputError, match=message):
        train(recipe(batch_size=batch_size), pictures(), out, device=CPU, ranks=Ranks(world - 1, world))
    assert not out.exists()


@pytest.mark.parametrize(("batch_size", "world"), [(16, 1), (16, 2), (16, 8), (6, 3), (3, 1)])
def test_a_batch_that_ranks_can_share_is_taken(batch_size, world):
    check_share(batch_size, Ranks(0, world))


def test_one_rank_needs_no_group():
    alone = Ranks()
    assert alone.first
    assert [any_rank(flag, alone, CPU) for flag in (True, False)] == [True, False]
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(mean_over(values, alone), values)
