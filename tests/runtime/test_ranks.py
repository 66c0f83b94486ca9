"""Several processes on Gloo end where one does; where one of them is gone, the others stop and say so."""

import gc
import json
import os
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dcgan_eval.runtime.errors import InputError, RankLostError
from dcgan_eval.runtime.ranks import ALONE, Ranks, joined
from tests.builders import run
from tests.over_ranks import work

ROOT = Path(__file__).resolve().parents[2]
EXACT = ("neighbours", "balls", "features", "ranks", "bytes", "agreed")


def torchrun(world, module, *words, env=None):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world), "-m"]
    return subprocess.run(
        [*command, module, *map(str, words)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return work(ALONE, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module", params=[2, 4])
def together(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    done = torchrun(request.param, "tests.over_ranks", folder)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(request.param)]


def test_every_rank_gets_the_same(together):
    for other in together[1:]:
        assert other == together[0]


def test_several_ranks_end_where_one_does(together, alone):
    """To the digit, but for rounding of sums of float64."""
    found = together[0]
    assert found.keys() == alone.keys()
    for name, expected in alone.items():
        if name.startswith("svm") or name == "the same":
            continue
        tolerance = 0 if name.startswith(EXACT) else 1e-9
        np.testing.assert_allclose(found[name], expected, rtol=tolerance, atol=tolerance, err_msg=name)


def test_ranks_that_work_on_different_things_say_so(together, alone):
    assert alone["the same"] == [1]
    assert together[0]["the same"] == [1 if len(together) == 2 else 0]


def test_linear_classifiers_are_those_of_one_process(together, alone):
    """Objectives to the tolerance that both certify; weights and decisions, solved far beyond it, to 1e-6."""
    names = [name for name in alone if name.startswith("svm")]
    assert len(names) == 8 + 3 * 5 + 3 * 8
    for name in names:
        expected = np.array(alone[name])
        scale = 1e-6 * (np.abs(expected) if "objective" in name else np.abs(expected).max())
        assert np.all(np.abs(np.array(together[0][name]) - expected) <= scale), name


def test_the_work_of_ranks_would_not_be_alike_by_chance(alone):
    """What one process finds depends on every part that is exchanged: no number is trivial."""
    assert 0.5 < alone["manifold"][0] < 1
    assert len(set(alone["neighbours euclidean"])) > 100
    assert len({tuple(values) for name, values in alone.items() if name.startswith("classify")}) > 10


@pytest.mark.parametrize(
    ("n", "whole", "world"), [(10, 1, 3), (100, 32, 4), (5, 8, 2), (0, 4, 3), (7, 1, 7), (64, 32, 2)]
)
def test_shares_are_all_rows_once_in_whole_blocks(n, whole, world):
    shares = [Ranks(rank, world).share(n, whole) for rank in range(world)]
    assert [row for share in shares for row in share] == list(range(n))
    assert all(share.start % whole == 0 or share.start == n for share in shares)
    blocks = [-(-len(share) // whole) for share in shares]
    assert max(blocks) - min(blocks) <= 1


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with joined("cpu") as (here, device):
        assert (here, device.type) == (ALONE, "cpu")
    assert ALONE.first
    assert (ALONE.on("cpu"), Ranks(0, 8).on("cuda:3")) == ("cpu", "8 × cuda")


def test_networks_on_ranks_are_freed_before_their_group(monkeypatch):
    """Freed after it, they end it themselves, and may hang the process at its exit."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    gc.disable()  # by chance it would come in time
    try:
        with joined("cpu"):
            network = DistributedDataParallel(nn.Linear(2, 2))
            network(torch.ones(1, 2)).sum().backward()
            network.itself, found = network, weakref.ref(network)
            del network
            assert found() is not None
        assert found() is None
    finally:
        gc.enable()


def test_devices_that_ranks_cannot_have_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="3 or more ranks on a machine with 2 GPUs"), joined("cuda"):
        pass
    with pytest.raises(InputError, match="want cuda"), joined("cuda:0"):
        pass
    with pytest.raises(InputError, match="torchrun needs CUDA devices"), joined("mps"):
        pass


def test_what_ranks_cannot_do_is_refused(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    code, out, err = run("walk", "digits")
    assert (code, out) == (2, "")
    assert err == "dcgan-eval: walk: runs in one process; torchrun is for classify, fid, neighbors\n"
    code, _, err = run("classify", "--download")
    assert code == 2
    assert "run it once without torchrun first" in err


SAID = "another rank is gone, or all were told to stop; what is finished is kept: run the same command again"


def finished(log):
    """How many rows were computed, by file."""
    return {line.split()[0]: int(line.split()[1]) for line in log.read_text().splitlines()}


def killed(world, where, folder, *words):
    """All others say so, and soon; no rows are written. The files of features that are whole."""
    start = time.monotonic()
    done = torchrun(world, "tests.killed_rank", where, folder / "before", *words, folder / "rows.csv")
    assert done.returncode == 1
    assert "Signal 9 (SIGKILL)" in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("dcgan-eval: ")]
    others = {f"dcgan-eval: rank {rank} of {world}: {SAID}" for rank in range(world) if rank != 1}
    assert {line.partition(" (")[0] for line in said} == others, done.stderr
    assert "SIGTERM death signal" not in done.stderr  # after 30 seconds of grace
    assert time.monotonic() - start < 200
    assert not (folder / "rows.csv").exists()
    kept = {path.name for path in (folder / "cache").glob("*.npy")}
    assert kept == finished(folder / "before").keys()
    return kept


def classification(folder):
    words = ("classify", "--features", "random:digits", "--C", "0.01", "--batch-size", "16")
    return *words, "--cache", folder / "cache", "--results"


def test_a_rank_killed_in_extraction_stops_the_others_and_what_was_finished_is_kept(tmp_path):
    """Rank 1 of 4 is killed in the middle of its second file; two ranks go on, and compute what is missing once."""
    words = classification(tmp_path)
    kept = killed(4, "extraction", tmp_path, *words)
    assert set(finished(tmp_path / "before").values()) == {32}
    half = {
        path.with_suffix(".npy").name for path in (tmp_path / "cache").glob("*.partial") if path.stat().st_size > 200
    }
    again = torchrun(2, "tests.killed_rank", "nowhere", tmp_path / "after", *words, tmp_path / "rows.csv")
    assert again.returncode == 0, again.stderr
    after = finished(tmp_path / "after")
    assert not after.keys() & kept
    assert kept | after.keys() == {path.name for path in (tmp_path / "cache").glob("*.npy")}
    assert 16 in {after[name] for name in half}
    rows = 898 + 899  # of both splits
    assert sum(after.values()) < rows - 32 * len(kept)

    # one process takes what ranks have left, and makes a file for each set of it
    code, _, err = run(*map(str, words), str(tmp_path / "alone.csv"), "--device", "cpu")
    assert code == 0, err
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2
    first, second = (pd.read_csv(tmp_path / name) for name in ("rows.csv", "alone.csv"))
    assert set(first["device"]) == {"2 × cpu"}
    columns = ["metric", "value", "spread", "n"]
    pd.testing.assert_frame_equal(first[columns], second[columns])


def test_a_rank_killed_while_others_wait_for_its_sums_stops_them(tmp_path):
    words = classification(tmp_path)
    assert killed(2, "collective", tmp_path, *words)
    again = torchrun(2, "tests.killed_rank", "nowhere", tmp_path / "after", *words, tmp_path / "rows.csv")
    assert again.returncode == 0, again.stderr
    assert not (tmp_path / "after").exists()  # every feature was there


def test_a_failure_of_another_kind_is_no_lost_rank(monkeypatch):
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **__: None)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match="shapes differ"), joined("cpu"):
        raise RuntimeError("shapes differ")
    with pytest.raises(RankLostError, match="rank 0 of 2"), joined("cpu"):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer")
