import copy
import csv
import errno
import hashlib
import io
import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.nn import functional

from dcgan_eval import figures
from dcgan_eval.evaluations.linear_probe import linear_probe
from dcgan_eval.features import inception_features
from dcgan_eval.images import from_tensor, open_images
from dcgan_eval.metrics.frechet import frechet_distance_of_features
from dcgan_eval.models import checkpoint
from dcgan_eval.models.networks import Discriminator, Generator, has_statistics, initialise
from dcgan_eval.runtime.errors import InputError, UncertifiedError
from dcgan_eval.runtime.files import write_whole
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.ranks import Ranks
from tests.builders import advance, equal, pictures, recipe, reloaded, trained_state, training_digits
from training import data, evaluate, monitor, states
from training import step as stepping
from training.__main__ import main
from training.evaluate import PROBE, Evaluation, Measurement
from training.loop import CHECK, train
from training.monitor import samples
from training.states import create, is_finite, plain, saved
from training.step import DiscriminatorLoss, Trainer

CURVES = figures.curves
ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """They take longer to draw than these runs do."""
    monkeypatch.setattr(figures, "curves", lambda panels, xlabel: figures.Picture(Figure()))


# one step


def parameters(network):
    return [p.detach().clone() for p in network.parameters()]


def unchanged(before, network):
    return all(map(torch.equal, before, network.parameters()))


@pytest.mark.parametrize("updates", ["alternate", "both"])
def test_who_is_updated_when(updates):
    state = create(recipe(updates=updates), CPU)
    for step in range(4):
        g, d = parameters(state.generator), parameters(state.discriminator)
        advance(state, 1)
        assert state.step == step + 1
        assert unchanged(g, state.generator) == (updates == "alternate" and step % 2 == 1)
        assert unchanged(d, state.discriminator) == (updates == "alternate" and step % 2 == 0)


@pytest.mark.parametrize("updates", ["alternate", "both"])
def test_what_a_step_tells(updates):
    state = create(recipe(updates=updates), CPU)
    trainer = Trainer(state, CPU, Ranks())
    batches = data.minibatches(pictures(), state.config, range(2), CPU, Ranks())
    of_d, both = {"loss_d", "d_real", "d_fake"}, updates == "both"
    for told, (x, y) in zip(
        (of_d | {"loss_g"} if both else {"loss_g"}, of_d | ({"loss_g"} if both else set())), batches, strict=True
    ):
        seen = trainer.step(x, y)
        assert seen.keys() == told | {"diversity"}
        assert all(v.ndim == 0 and v.dtype == torch.float32 and not v.requires_grad for v in seen.values())
        assert all(0 < seen[name] < 1 for name in ("d_real", "d_fake") if name in seen)


def reference(config, steps):
    """The same steps in plain torch, written by hand from the paper: (generator, discriminator)."""
    a = config.architecture
    g, d = Generator(a), Discriminator(a)
    initialise(g, stream(config.seed, "generator"))
    initialise(d, stream(config.seed, "discriminator"))
    optimizers = [
        torch.optim.Adam(n.parameters(), lr, (0.5, 0.999), weight_decay=config.weight_decay, fused=False, foreach=False)
        for n, lr in ((g, config.learning_rate_g), (d, config.learning_rate_d))
    ]

    def update(optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def judged(logits, target):
        return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))

    pixels = pictures().tensor().float() / 127.5 - 1
    for step in range(steps):
        order = torch.randperm(64, generator=stream(config.seed, "order", step // 4))
        real = pixels[order[step % 4 * 16 :][:16]]
        z = torch.rand(16, 4, generator=stream(config.seed, "z", step)) * 2 - 1
        if config.updates == "both" or step % 2:
            update(optimizers[1], judged(d(real), 1.0) + judged(d(g(z).detach()), 0.0))
        if config.updates == "both" or step % 2 == 0:
            update(optimizers[0], judged(d(g(z)), 1.0))
    return g, d


@pytest.mark.parametrize(("updates", "steps"), [("both", 1), ("both", 3), ("alternate", 1), ("alternate", 4)])
def test_steps_are_those_of_plain_torch(updates, steps):
    config = recipe(updates=updates, weight_decay=1e-3, learning_rate_d=4e-4)
    state = advance(create(config, CPU), steps)
    for found, wanted in zip((state.generator, state.discriminator), reference(config, steps), strict=True):
        for (name, a), b in zip(found.named_parameters(), wanted.parameters(), strict=True):
            assert (a - b).abs().max() <= 1e-6, name


@pytest.mark.parametrize("updates", ["alternate", "both"])
def test_no_gradients_are_left_over(updates):
    state = create(recipe(updates=updates), CPU)
    for _ in range(4):
        advance(state, 1)
        for part in (state.generator, state.discriminator):
            assert all(p.grad is None and p.requires_grad for p in part.parameters())


@pytest.mark.parametrize("updates", ["alternate", "both"])
@pytest.mark.parametrize("of", ["generator", "discriminator"])
def test_the_averages_follow_their_recursion(updates, of):
    state = create(recipe(updates=updates, ema=0.9, ema_d=0.9, learning_rate_g=0.01, learning_rate_d=0.01), CPU)
    network = getattr(state, of)
    average = state.average if of == "generator" else state.average_d
    assert average is (state.drawn_from if of == "generator" else state.read_from)
    wanted = parameters(network)
    for step in range(5):
        advance(state, 1)
        if updates == "both" or (step % 2 == 0) == (of == "generator"):
            wanted = [0.9 * a + 0.1 * w for a, w in zip(wanted, parameters(network), strict=True)]
        for found, a in zip(parameters(average), wanted, strict=True):
            torch.testing.assert_close(found, a, rtol=1e-6, atol=1e-8)
    assert not unchanged(wanted, network)


OPTIONS: dict[str, dict[str, Any]] = {
    "hinge": {"loss": "hinge"},
    "r1": {"r1": 10.0},
    "label_smoothing": {"label_smoothing": 0.1},
    "spectral_norm": {"spectral_norm": True},
    "color": {"diffaugment": ("color",)},
    "translation": {"diffaugment": ("translation",)},
    "cutout": {"diffaugment": ("cutout",)},
    "ema": {"ema": 0.9},
    "ema_d": {"ema_d": 0.9},
    "bfloat16": {"precision": "bfloat16"},
    "learning_rate_d": {"learning_rate_d": 4e-4},
    "learning_rate_g": {"learning_rate_g": 4e-4},
    "beta1": {"beta1": 0.0},
    "weight_decay": {"weight_decay": 0.1},
    "updates": {"updates": "alternate"},
    "conditional": {"n_classes": 10},
    "seed": {"seed": 1},
    "all": {
        "label_smoothing": 0.1, "r1": 10.0, "spectral_norm": True, "diffaugment": ("color", "translation", "cutout"),
        "ema": 0.9, "ema_d": 0.9, "precision": "bfloat16", "learning_rate_d": 4e-4, "n_classes": 10,
    },
}  # fmt: skip


def evaluated(network):
    """What would be exported of it."""
    return plain(network).state_dict()


def last(generator):
    """The weight that draws the image."""
    return generator.layers[-1].linear.weight


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_runs_and_matters(option):
    config = recipe(**{"updates": "both", **OPTIONS[option]})
    state, trainer_state = trained_state(6, updates="both"), create(config, CPU)
    trainer = Trainer(trainer_state, CPU, Ranks())
    for x, y in data.minibatches(pictures(), config, range(6), CPU, Ranks()):
        assert all(torch.isfinite(value) for value in trainer.step(x, y).values())
    assert is_finite(trainer_state)
    for found, before in (
        (trainer_state.drawn_from, state.drawn_from),
        (trainer_state.read_from, state.read_from),
    ):
        weight = [evaluated(network) for network in (found, before)]
        if (option, found) in (("ema", trainer_state.read_from), ("ema_d", trainer_state.drawn_from)):
            assert equal(*weight)  # what is averaged has no say in the training
        else:
            assert not equal(*weight)
    assert all(p.dtype == torch.float32 for p in trainer_state.generator.parameters())


def test_both_networks_learn_from_augmented_images(monkeypatch):
    """Were all of them erased, D could not tell them apart and G would not learn."""
    monkeypatch.setattr(stepping, "augment", lambda images, names, draws: 0 * images)
    state = create(recipe(updates="both", weight_decay=0.0), CPU)
    g, d = parameters(state.generator), parameters(state.discriminator)
    x, y = next(data.minibatches(pictures(), state.config, range(1), CPU, Ranks()))
    seen = Trainer(state, CPU, Ranks()).step(x, y)
    assert seen["d_real"] == seen["d_fake"]
    assert unchanged(g, state.generator)
    monkeypatch.undo()
    advance(state, 1)
    assert not unchanged(g, state.generator)
    assert not unchanged(d, state.discriminator)


@pytest.mark.parametrize("option", ["hinge", "label_smoothing", "spectral_norm", "all", "bfloat16"])
def test_r1_adds_its_penalty_and_nothing_else(option):
    config = recipe(**{**OPTIONS[option], "r1": 0.0, "ema": 0.0, "ema_d": 0.0, "precision": "float32"})
    x, fake = (torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in (0, 1))
    y = torch.arange(16) % 10 if config.architecture.n_classes else None

    def loss(r1):
        d = create(config, CPU).discriminator
        return DiscriminatorLoss(d, replace(config, r1=r1))(x.clone(), fake, y)[0]

    d = create(config, CPU).discriminator
    real = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(d(real, y).sum(), real)
    penalty = slope.square().sum() / 2 / 16
    assert penalty > 0
    torch.testing.assert_close(loss(1e4) - loss(0.0), 1e4 * penalty, rtol=1e-3, atol=0)
    assert loss(0.0) < loss(10.0)


# the run


def fit(out, images=None, *, sample_epochs=1000.0, options=None, resume=False, **changes):
    options = {"device": CPU, "sample_epochs": sample_epochs, "resume": resume, **(options or {})}
    return train(recipe(**changes), images or pictures(), out, **options)


def after(monkeypatch, actions):
    """Do something right after a step, by its number."""
    step = Trainer.step

    def counted(self, images, y):
        seen = step(self, images, y)
        actions.get(self.state.step, lambda: None)()
        return seen

    monkeypatch.setattr(Trainer, "step", counted)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def result(out):
    """All that must not depend on how often a run was stopped: the checkpoint, and what the losses were."""
    content = (out / "last.safetensors").read_bytes()
    losses = [(row["images"], row["loss_d"], row["loss_g"]) for row in table(out / "metrics.csv")]
    return hashlib.sha256(content).hexdigest(), len(content), losses


def warnings(text):
    """Lines on stderr, but for what is said of young generators."""
    return [line for line in text.splitlines() if "draws nearly one picture" not in line]


def names(out):
    return [int(path.name[6:15]) for path in saved(out)]


RUNS: dict[str, dict[str, Any]] = {
    "alternate": {},
    "decay": {"decay_epochs": 10.0, "learning_rate_g": 0.01},
    "both": {"updates": "both", "ema": 0.9},
    "bfloat16": {"updates": "both", "precision": "bfloat16"},
    "all": {**OPTIONS["all"], "updates": "both", "precision": "float32", "hidden_width": 6},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted run ends with, by its name in RUNS."""
    found = {}

    def ends(name):
        if name not in found:
            out = tmp_path_factory.mktemp("whole")
            assert fit(out, **RUNS[name])
            found[name] = result(out)
        return found[name]

    return ends


def test_a_run_writes_what_it_says(tmp_path, capsys):
    out = tmp_path / "a" / "run"
    assert fit(out, sample_epochs=5.0)
    written = {p.name for p in out.iterdir()}
    assert written >= {"last.safetensors", "metrics.csv", "samples", "state-000000060.safetensors"}
    assert not written & {"evaluation.csv", "best.safetensors"}
    assert not [name for name in written if name.startswith(".")]
    rows = table(out / "metrics.csv")
    assert tuple(rows[0]) == monitor.METRICS
    assert [(row["images"], row["epoch"]) for row in rows] == [
        ("320", "5.0000"),
        ("640", "10.0000"),
        ("960", "15.0000"),
    ]
    for row in rows:
        assert all(float(value) > 0 for value in row.values())
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    out, err = capsys.readouterr()
    assert out == ""
    assert all("the generator draws nearly one picture" in line for line in err.splitlines())


def test_metrics_are_means_of_what_the_steps_told(tmp_path, monkeypatch):
    told = []
    step = Trainer.step

    def listened(self, images, y):
        seen = step(self, images, y)
        told.append(seen)
        return seen

    monkeypatch.setattr(Trainer, "step", listened)
    fit(tmp_path, epochs=12.5)  # 50 steps: the last line is of 10
    rows = table(tmp_path / "metrics.csv")
    assert [row["images"] for row in rows] == ["320", "640", "800"]
    for row, steps in zip(rows, (told[:20], told[20:40], told[40:]), strict=True):
        for name in ("loss_d", "loss_g", "d_real", "d_fake", "diversity"):
            values = [float(seen[name]) for seen in steps if name in seen]
            assert float(row[name]) == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_what_is_exported_is_the_end_of_the_run(tmp_path):
    fit(tmp_path, **RUNS["all"])
    state = reloaded(saved(tmp_path)[-1], CPU)
    assert state.step == 60
    found = checkpoint.load(tmp_path / "last.safetensors")
    assert found.generator is not None
    assert found.discriminator is not None
    assert state.average is not None
    # read by the suite with no trace of spectral normalisation, and the average for the generator
    for network, wanted in ((found.generator, state.drawn_from), (found.discriminator, plain(state.read_from))):
        assert has_statistics(network)
        for a, b in zip(network.parameters(), wanted.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(parameters(state.average)[0], parameters(state.generator)[0])
    assert found.metadata["images"] == 960
    assert found.metadata["data_fingerprint"] == pictures().fingerprint


def test_rates_fall_as_they_should(tmp_path, monkeypatch):
    rates = []
    step = Trainer.step

    def watched(self, images, y):
        rates.append([o.param_groups[0]["lr"] for o in self.state.optimizers.values()])
        return step(self, images, y)

    monkeypatch.setattr(Trainer, "step", watched)
    fit(tmp_path, decay_epochs=10.0, learning_rate_g=0.1, learning_rate_d=0.2)
    factors = [1.0] * 20 + [(40 - i) / 40 for i in range(40)]
    assert rates == [pytest.approx([0.1 * f, 0.2 * f]) for f in factors]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_interrupted_ends_as_if_it_had_not(name, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        after(patch, {CHECK: interrupt})
        assert fit(tmp_path, **RUNS[name]) is False
    assert names(tmp_path) == [CHECK]
    assert checkpoint.load(tmp_path / "last.safetensors").metadata["images"] == CHECK * 16
    assert fit(tmp_path, resume=True, **RUNS[name]) is True
    assert result(tmp_path) == whole(name)


@pytest.mark.parametrize("steps", [(1,), (27,), (59,), (3, 20, 21, 45)], ids=str)
def test_it_does_not_matter_where_or_how_often(steps, tmp_path, monkeypatch, whole):
    for step in steps:
        with monkeypatch.context() as patch:
            after(patch, {step: interrupt})
            assert fit(tmp_path, resume=step > steps[0]) is False
        assert names(tmp_path)[-1] == step
    assert fit(tmp_path, resume=True)
    assert result(tmp_path)[:2] == whole("alternate")[:2]


@pytest.mark.parametrize("step", [1, 27, 59])
def test_metrics_do_not_tell_where_a_run_was_stopped(step, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        after(patch, {step: interrupt})
        fit(tmp_path)
    assert fit(tmp_path, resume=True)
    assert result(tmp_path) == whole("alternate")


def test_a_signal_at_the_last_step_changes_nothing(tmp_path, monkeypatch, whole):
    after(monkeypatch, {60: interrupt})
    assert fit(tmp_path) is True
    assert result(tmp_path) == whole("alternate")


def test_signals_are_handled_as_before_once_a_run_is_over(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    fit(tmp_path, epochs=0.5)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_does_not_wait(tmp_path, monkeypatch):
    def twice():
        interrupt()
        interrupt()

    after(monkeypatch, {5: twice})
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path)


def test_a_finished_run_resumes_to_itself(tmp_path, whole):
    assert fit(tmp_path)
    (tmp_path / "last.safetensors").unlink()
    assert fit(tmp_path, resume=True)
    assert result(tmp_path) == whole("alternate")


def test_a_run_stopped_before_its_first_state_begins_anew(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        after(patch, {25: lambda: 1 / 0})
        with pytest.raises(ZeroDivisionError):
            fit(tmp_path)
    assert names(tmp_path) == []
    assert len(table(tmp_path / "metrics.csv")) == 1
    assert fit(tmp_path, resume=True)
    assert result(tmp_path) == whole("alternate")


def test_states_are_saved_by_the_clock_and_the_last_are_kept(tmp_path):
    fit(tmp_path / "a", options={"save_minutes": 0.0})
    assert names(tmp_path / "a") == [40, 60]
    fit(tmp_path / "b", options={"save_minutes": 0.0, "keep": 3})
    assert names(tmp_path / "b") == [20, 40, 60]
    fit(tmp_path / "c", options={"save_minutes": 60.0, "keep": 3})
    assert names(tmp_path / "c") == [60]


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        after(patch, {45: lambda: 1 / 0})
        with pytest.raises(ZeroDivisionError):
            fit(tmp_path, options={"save_minutes": 0.0})
    (tmp_path / "state-000000040.safetensors").unlink()
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text() + "9")
    assert fit(tmp_path, resume=True)
    assert result(tmp_path) == whole("alternate")


@pytest.mark.parametrize("cut", [0, 1000])
def test_a_damaged_state_is_named_and_the_one_before_it_does(cut, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        after(patch, {47: interrupt})
        fit(tmp_path, options={"save_minutes": 0.0})
    newest = saved(tmp_path)[-1]
    assert names(tmp_path) == [40, 47]
    newest.write_bytes(newest.read_bytes()[:cut])
    with pytest.raises(InputError, match=rf"{newest.name}: damaged.* remove it to go on from the one before"):
        fit(tmp_path, resume=True)
    newest.unlink()
    assert fit(tmp_path, resume=True)
    assert result(tmp_path) == whole("alternate")


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    fit(tmp_path, epochs=1.0)
    before = content(tmp_path)
    with pytest.raises(InputError, match=r"holds a run already .*; go on by --resume, or choose another --out"):
        fit(tmp_path, epochs=1.0)
    assert content(tmp_path) == before


def test_a_folder_without_a_run_is_not_resumed(tmp_path):
    for out in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="holds no run to go on with"):
            fit(out, resume=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "another seed;"),
        ({"epochs": 2.0, "decay_epochs": 1.0}, "another epochs, decay_epochs;"),
        ({"r1": 1.0, "batch_size": 8}, "another batch_size, r1;"),
        ({"diffaugment": ("color",)}, "another diffaugment;"),
        ({"z_dim": 5}, "another architecture;"),
    ],
)
def test_a_run_is_not_resumed_with_another_recipe(change, named, tmp_path):
    fit(tmp_path, epochs=1.0)
    before = content(tmp_path)
    with pytest.raises(InputError, match=named):
        fit(tmp_path, resume=True, **{"epochs": 1.0, **change})
    assert content(tmp_path) == before


def test_a_run_goes_on_longer_as_if_it_had_been_meant_to(tmp_path, whole):
    fit(tmp_path, epochs=9.0)
    assert fit(tmp_path, resume=True)
    assert result(tmp_path)[:1] == whole("alternate")[:1]


def test_a_run_goes_on_with_a_repaired_image(tmp_path, monkeypatch, caplog):
    fit(tmp_path, epochs=1.0)
    repaired = replace(pictures(), digest=lambda: "0" * 64)
    assert fit(tmp_path, repaired, epochs=2.0, resume=True)
    assert "not the same bytes" in caplog.text


@pytest.mark.parametrize("rows", [range(65), range(1, 65), range(63, -1, -1)], ids=str)
def test_a_run_is_not_resumed_with_other_images(rows, tmp_path):
    fit(tmp_path, epochs=1.0)
    before = content(tmp_path)
    with pytest.raises(InputError, match="was trained on other images, 64 of digits:train; give the same --data"):
        fit(tmp_path, training_digits().subset(rows), epochs=1.0, resume=True)
    assert content(tmp_path) == before


# processes that are killed

FLAGS = ("--generator-channels", "8,4", "--discriminator-channels", "4,8", "--z-dim", "4", "--batch-size", "16",
         "--epochs", "5", "--save-minutes", "0", "--sample-epochs", "1000", "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    assert main(["digits", *FLAGS, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_a_process_that_is_killed_goes_on_to_the_same_bytes(number, tmp_path, finished, capsys):
    process = subprocess.Popen(
        [sys.executable, "-m", "training", "digits", *FLAGS, "--out", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not saved(tmp_path) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert saved(tmp_path)
    assert (tmp_path / "last.safetensors").exists() == (number == signal.SIGTERM)
    assert out == ""
    lines = warnings(err)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert lines == []
    else:
        assert process.returncode == 130
        assert lines == [f"{tmp_path}: stopped and saved; go on with --resume"]
    reached = names(tmp_path)[-1]
    assert 0 < reached < 280
    assert main(["digits", *FLAGS, "--out", str(tmp_path), "--resume"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"{tmp_path}: wrote {tmp_path / 'last.safetensors'}"
    assert result(tmp_path)[:2] == result(finished)[:2]
    if number == signal.SIGKILL:
        assert result(tmp_path) == result(finished)


def test_ctrl_c_is_one_line_that_says_how_to_go_on(tmp_path, monkeypatch, finished, capsys):
    capsys.readouterr()
    with monkeypatch.context() as patch:
        after(patch, {33: lambda: os.kill(os.getpid(), signal.SIGINT)})
        assert main(["digits", *FLAGS, "--out", str(tmp_path)]) == 130
    out, err = capsys.readouterr()
    assert (out, warnings(err)) == ("", [f"{tmp_path}: stopped and saved; go on with --resume"])
    assert names(tmp_path) == [20, 33]
    assert main(["digits", *FLAGS, "--out", str(tmp_path), "--resume"]) == 0
    assert result(tmp_path)[:2] == result(finished)[:2]


# what goes wrong


def spoil(monkeypatch, name, call, change):
    """Change what a loss returns at one call, of one a step."""
    real, calls = getattr(stepping, name), itertools.count(1)

    def spoilt(*arguments):
        loss = real(*arguments)
        return change(loss) if next(calls) == call else loss

    monkeypatch.setattr(stepping, name, spoilt)


@pytest.mark.parametrize(("name", "value"), [("discriminator_loss", float("nan")), ("generator_loss", float("inf"))])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_state_before(name, value, tmp_path, monkeypatch, whole):
    message = rf"loss_{name[0]} .*not finite .*the last state before is state-000000020\.safetensors"
    with monkeypatch.context() as patch:
        spoil(patch, name, 25, lambda loss: loss * value)
        with pytest.raises(InputError, match=message) as caught:
            fit(tmp_path, options={"save_minutes": 0.0}, **RUNS["both"])
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == [20]
    assert [row["images"] for row in table(tmp_path / "metrics.csv")] == ["320"]
    assert fit(tmp_path, resume=True, **RUNS["both"])
    assert result(tmp_path) == whole("both")


def test_a_loss_that_is_not_finite_before_the_first_state(tmp_path, monkeypatch):
    spoil(monkeypatch, "discriminator_loss", 3, lambda loss: loss * torch.nan)
    with pytest.raises(InputError, match="no state was saved before"):
        fit(tmp_path, updates="both")
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["discriminator_loss", "generator_loss"])
def test_weights_that_are_not_finite_are_never_saved(name, tmp_path, monkeypatch):
    """A gradient may overflow where the loss does not: the loss of the next step is the first to tell."""
    spoil(monkeypatch, name, 20, lambda loss: loss + (0 * loss).sqrt())
    with pytest.raises(InputError, match="not finite"):
        fit(tmp_path, updates="both", options={"save_minutes": 0.0})
    assert all(is_finite(reloaded(path, CPU)) for path in saved(tmp_path))


def full(monkeypatch, calls):
    """No room for the states of these turns."""
    count = itertools.count(1)

    def written(path, content):
        if next(count) in calls:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_whole(path, content)

    monkeypatch.setattr(states, "write_whole", written)


def test_a_full_disk_is_told_and_survived(tmp_path, monkeypatch, capsys, whole):
    with monkeypatch.context() as patch:
        full(patch, {2})
        after(patch, {55: lambda: 1 / 0})
        with pytest.raises(ZeroDivisionError):
            fit(tmp_path, options={"save_minutes": 0.0})
    said = f"{tmp_path}: cannot write the state at 640 images: No space left on device; make room"
    assert warnings(capsys.readouterr().err) == [said]
    assert names(tmp_path) == [20]
    assert reloaded(saved(tmp_path)[0], CPU).step == 20
    assert fit(tmp_path, resume=True, options={"save_minutes": 0.0})
    assert names(tmp_path) == [40, 60]
    assert result(tmp_path) == whole("alternate")


@pytest.fixture
def largest():
    """Sets the size that no file may grow beyond: as on a full disk, writing fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_room_for_all_but_the_states(tmp_path, largest, capsys, finished):
    largest(saved(finished)[-1].stat().st_size - 100)  # what is told of a state takes a few bytes more or less
    assert main(["digits", *FLAGS, "--out", str(tmp_path)]) == 0
    lines = warnings(capsys.readouterr().err)
    assert len([line for line in lines if "cannot write the state at" in line]) == 14
    assert all("make room" in line for line in lines[:-1])
    assert lines[-1] == f"{tmp_path}: wrote {tmp_path / 'last.safetensors'}"
    assert names(tmp_path) == []
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert result(tmp_path) == result(finished)


def test_no_room_at_all_for_a_while(tmp_path, largest, monkeypatch, capsys, whole):
    """Neither for metrics nor for samples nor for states, from step 30 to 50."""
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    after(monkeypatch, {30: lambda: largest(0), 50: lambda: largest(soft)})
    assert fit(tmp_path, sample_epochs=5.0, options={"save_minutes": 0.0})
    assert warnings(capsys.readouterr().err)
    assert result(tmp_path)[:2] == whole("alternate")[:2]
    assert names(tmp_path) == [20, 60]
    assert fit(tmp_path, resume=True)


def test_what_was_not_saved_is_not_said_to_be(tmp_path, monkeypatch, capsys):
    full(monkeypatch, range(100))
    after(monkeypatch, {30: interrupt})
    assert main(["digits", *FLAGS, "--out", str(tmp_path)]) != 0
    err = capsys.readouterr().err
    assert "cannot write the state at" in err
    assert "stopped and saved" not in err


def test_a_broken_image_in_mid_run_loses_nothing(tmp_path, monkeypatch, whole):
    monkeypatch.setattr(data, "RESIDENT_SHARE", 0)
    reads = itertools.count()

    def read(rows):
        if next(reads) == 33:
            raise InputError("digits: '7.png' cannot be read: cut short; replace it")
        return pictures().read(rows)

    with pytest.raises(InputError, match=r"'7\.png' cannot be read"):
        fit(tmp_path, replace(pictures(), read=read))
    assert names(tmp_path) == [33]
    assert not (tmp_path / "last.safetensors").exists()
    assert fit(tmp_path, resume=True)
    assert result(tmp_path)[:2] == whole("alternate")[:2]


def collapsed(config, device):
    state = create(config, device)
    with torch.no_grad():
        last(state.generator).zero_()
    return state


def test_a_collapsed_generator_is_told_once(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(states, "create", collapsed)
        fit(tmp_path / "a", learning_rate_g=0.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("at 320 images the generator draws nearly one picture: its samples vary 0.0% as much")
    assert len(table(tmp_path / "a" / "metrics.csv")) == 3


@pytest.mark.parametrize(("diversity", "lines"), [(0.09, 1), (0.11, 0)])
def test_a_tenth_of_the_real_images_diversity_is_enough(diversity, lines, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stepping, "_diversity", lambda real, fake: torch.tensor(diversity))
    fit(tmp_path)
    assert len(capsys.readouterr().err.splitlines()) == lines


# what is seen


TILE = figures.SHORTEST  # of an image in a sheet
STEP = TILE + 2


@pytest.mark.parametrize(("classes", "columns", "rows"), [(0, 8, 8), (10, 10, 6)])
def test_samples_can_be_opened_and_are_of_one_size(classes, columns, rows, tmp_path):
    fit(tmp_path, epochs=3.0, sample_epochs=1.0, n_classes=classes, updates="both", ema=0.5, learning_rate_g=0.05)
    pictures = sorted((tmp_path / "samples").iterdir())
    assert [p.name for p in pictures] == ["000000064.png", "000000128.png", "000000192.png"]
    for path in pictures:
        with Image.open(path) as image:
            image.load()
            assert (image.size, image.mode) == ((columns * STEP - 2, rows * STEP - 2), "L")
    assert len({p.read_bytes() for p in pictures}) == 3


def test_samples_are_of_the_same_z_at_every_call():
    config = recipe()
    g = plain(create(config, CPU).generator)
    assert samples(g, config) == samples(g, config)
    other = replace(config, seed=1)
    assert samples(g, config) != samples(g, other)


def test_conditional_samples_have_a_column_for_each_class():
    """A generator that paints class k in the grey of (k - 5) / 10."""
    config = recipe(n_classes=10)
    g = plain(create(config, CPU).generator)
    with torch.no_grad():
        weight = last(g).zero_()
        weight[-10:, 0, 1, 1] = torch.arange(-5, 5) / 10
    with Image.open(io.BytesIO(samples(g, config))) as image:
        sheet = torch.from_numpy(np.array(image))
    wanted = ((torch.arange(-5, 5) / 10).tanh() + 1) * 127.5
    for k in range(10):
        for row in range(6):
            tile = sheet[STEP * row :, STEP * k :][:TILE, :TILE]
            assert (tile == tile[0, 0]).all()
            assert abs(tile[0, 0] - wanted[k]) <= 0.5


def test_more_classes_than_a_minibatch_have_their_columns():
    config = recipe(n_classes=100)
    with Image.open(io.BytesIO(samples(plain(create(config, CPU).generator), config))) as image:
        assert image.size[0] == 100 * STEP - 2


def test_curves_can_be_opened_however_short_a_run_was(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "curves", CURVES)
    fit(tmp_path / "one", epochs=0.25)  # a step of G, none of D
    after(monkeypatch, {3: interrupt})
    fit(tmp_path / "three")
    for name in ("one", "three"):
        with Image.open(tmp_path / name / "curves.png") as image:
            assert np.array(image).std() > 0


def test_curves_are_of_the_whole_run(tmp_path, monkeypatch):
    drawn = []

    def curves(panels, xlabel):
        drawn.append(panels)
        return figures.Picture(Figure())

    monkeypatch.setattr(figures, "curves", curves)
    with monkeypatch.context() as patch:
        after(patch, {30: interrupt})
        fit(tmp_path)
    fit(tmp_path, resume=True)
    assert [panels["loss"]["D"][0] for panels in drawn] == [[320.0], [320.0, 640.0, 960.0]]


# evaluation


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(evaluate, "SAMPLES", 100)
    monkeypatch.setattr(evaluate, "LABELLED", 100)
    monkeypatch.setattr(evaluate, "STATISTICS", 256)
    monkeypatch.setattr(evaluate, "HELD_OUT", 50)
    monkeypatch.setattr(evaluate, "FEWEST", 1)


def test_evaluations_are_written_down(few, tmp_path, monkeypatch):
    held_out = open_images("digits")["test"]
    options = {"evaluate_epochs": 0.25, "held_out": held_out}
    changes = {"epochs": 0.5, "updates": "both", "ema": 0.5}
    fit(tmp_path / "a", training_digits(), options=options, **changes)
    rows = table(tmp_path / "a" / "evaluation.csv")
    assert [(row["images"], row["metric"]) for row in rows] == [
        (images, metric)
        for images in ("0", "224", "448")
        for metric in ("probe accuracy", "nearest sample", "Fréchet distance")
    ]
    for row in rows:
        if row["metric"] == PROBE:
            assert "100 training images, judged on 100 others" in row["protocol"]
            assert 20 < float(row["value"]) < 100
            assert 0 < float(row["low"]) < float(row["value"]) < float(row["high"]) < float(row["low"]) + 30
        elif row["metric"] == "Fréchet distance":
            assert "50 images of digits:test and as many samples; D with random weights: conv1+conv2" in row["protocol"]
            assert float(row["value"]) > 0
        else:
            assert "50 images of digits:test to the nearest of 100 samples" in row["protocol"]
            # digits of 64 pixels: no farther apart than black from white
            assert 100 < float(row["value"]) < 64**0.5 * 255
            assert (row["low"], row["high"]) == ("", "")
    best = max(rows[3::3], key=lambda row: float(row["value"]))  # the first of equals, random weights aside
    found = checkpoint.load(tmp_path / "a" / "best.safetensors")
    assert found.metadata["images"] == int(best["images"])
    # to look does not change what is seen
    fit(tmp_path / "b", training_digits(), **changes)
    assert result(tmp_path / "b") == result(tmp_path / "a")
    # nor does a stop
    with monkeypatch.context() as patch:
        after(patch, {20: interrupt})
        fit(tmp_path / "c", training_digits(), options=options, **changes)
    fit(tmp_path / "c", training_digits(), options=options, resume=True, **changes)
    assert table(tmp_path / "c" / "evaluation.csv") == rows
    assert (tmp_path / "c" / "best.safetensors").read_bytes() == (tmp_path / "a" / "best.safetensors").read_bytes()


def test_the_probe_is_fitted_and_judged_on_other_training_images(few):
    images = from_tensor(
        torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous(),
        torch.arange(100) % 10,
        name="numbered",
    )
    found = Evaluation(recipe(), images, None)
    rows = [set(part.tensor()[:, 0, 0, 0].tolist()) for part in found.probe or ()]
    assert [len(r) for r in rows] == [50, 50]
    assert not rows[0] & rows[1]


def test_fid_while_training_is_that_of_any_set(weights):
    """Grey digits are made RGB; the number is that of `frechet_distance_of_features`, in Inception's features."""
    extractor = inception_features(weights=weights)
    evaluation = Evaluation(recipe(), training_digits(), open_images("digits")["test"].subset(range(12)), extractor)
    samples = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = evaluation._frechet_distance(samples, extractor, CPU)
    assert evaluation.held_out is not None
    real, fake = (extractor(x.expand(-1, 3, -1, -1)) for x in (evaluation.held_out.tensor(), samples))
    assert found.value == pytest.approx(frechet_distance_of_features(real, fake), rel=1e-4)
    assert found.metric == "FID-like"
    assert "inception-like: pool of Inception 2015-12-05" in found.protocol
    published = evaluation._frechet_distance(samples, replace(extractor, name="inception"), CPU)
    assert published.metric == "FID"
    with pytest.raises(InputError, match="held-out images"):
        Evaluation(recipe(), training_digits(), None, extractor)


def test_the_best_is_the_first_of_the_highest_however_often_a_run_is_stopped(few, tmp_path, monkeypatch):
    scores = {0: 45.0, 10: 50.0, 20: 70.0, 30: 60.0, 40: 70.0, 50: 69.0, 60: 10.0}
    monkeypatch.setattr(
        Evaluation, "measure", lambda self, state: [Measurement(PROBE, scores[state.step], None, None, "")]
    )
    options = {"evaluate_epochs": 2.5}
    with monkeypatch.context() as patch:
        after(patch, {25: interrupt})
        fit(tmp_path, options=options)
    assert fit(tmp_path, options=options, resume=True)
    assert [float(row["value"]) for row in table(tmp_path / "evaluation.csv")] == list(scores.values())
    assert checkpoint.load(tmp_path / "best.safetensors").metadata["images"] == 20 * 16


def test_a_probe_without_certificate_leaves_its_cell_empty(tmp_path, monkeypatch, capsys):
    """It ends no training, is not the best, also not of a run that goes on, and curves are drawn without it."""
    monkeypatch.setattr(figures, "curves", CURVES)
    calls = itertools.count()

    def probe(*parts, **options):
        call = next(calls)
        if call == 1:
            raise UncertifiedError("the L2-SVM has no finite solution:\nscale the features")
        found = linear_probe(*parts, **options)
        return replace(found, gap={2: 1e-3, 3: float("nan")}.get(call, found.gap))

    monkeypatch.setattr(evaluate, "LABELLED", 100)
    monkeypatch.setattr(evaluate, "STATISTICS", 256)
    monkeypatch.setattr(evaluate, "linear_probe", probe)
    options = {"evaluate_epochs": 0.125}
    with monkeypatch.context() as patch:
        after(patch, {25: interrupt})
        fit(tmp_path, training_digits(), options=options, epochs=0.5)
    assert fit(tmp_path, training_digits(), options=options, resume=True, epochs=0.5)
    rows = table(tmp_path / "evaluation.csv")
    assert [row["images"] for row in rows] == ["0", "112", "224", "336", "448"]
    assert [bool(row["value"]) for row in rows] == [bool(row["low"]) for row in rows] == [True, *[False] * 3, True]
    assert "within 1.0e-03 of its optimum, not within 1e-06" in rows[2]["protocol"]
    assert checkpoint.load(tmp_path / "best.safetensors").metadata["images"] == 448
    assert (tmp_path / "curves.png").stat().st_size
    said = [line for line in capsys.readouterr().err.splitlines() if PROBE in line]
    assert said[0] == "at 112 images there is no probe accuracy: the L2-SVM has no finite solution: scale the features"
    assert len(said) == 3


def test_a_best_beyond_the_state_is_found_again(few, tmp_path, monkeypatch):
    """Killed after an evaluation and before the state: its line is dropped and made anew."""
    scores = {0: 45.0, 10: 50.0, 20: 60.0, 30: 70.0, 40: 65.0, 50: 40.0, 60: 10.0}
    monkeypatch.setattr(
        Evaluation, "measure", lambda self, state: [Measurement(PROBE, scores[state.step], None, None, "")]
    )
    options = {"evaluate_epochs": 2.5, "save_minutes": 0.0}
    with monkeypatch.context() as patch:
        after(patch, {35: lambda: 1 / 0})
        with pytest.raises(ZeroDivisionError):
            fit(tmp_path, options=options)
    assert names(tmp_path) == [20]
    assert fit(tmp_path, options=options, resume=True)
    assert [float(row["value"]) for row in table(tmp_path / "evaluation.csv")] == list(scores.values())
    assert checkpoint.load(tmp_path / "best.safetensors").metadata["images"] == 30 * 16


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (None, 0, "needs a label on every image"),
        (torch.arange(64) % 10 - 1, 0, "needs a label on every image"),
        (torch.arange(64) % 10, 10, "a conditional network is judged by held-out images, and --data has none"),
    ],
    ids=["none", "some", "conditional"],
)
def test_what_cannot_be_evaluated_is_told_before_anything_is_written(labels, classes, message, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=message):
        fit(out, replace(pictures(), labels=labels), options={"evaluate_epochs": 1.0}, n_classes=classes)
    assert not out.exists()


def test_few_images_are_enough_to_be_held_out(few, tmp_path):
    """Nothing is drawn from them by the minibatch."""
    held_out = open_images("digits")["test"].subset(range(10))
    fit(tmp_path, training_digits(), epochs=0.1, options={"evaluate_epochs": 1.0, "held_out": held_out})
    assert [row["metric"] for row in table(tmp_path / "evaluation.csv")] == [
        "probe accuracy",
        "nearest sample",
        "Fréchet distance",
    ] * 2


def test_nearest_samples_are_near_where_the_generator_knows_the_images(few):
    """A generator that paints nothing but black, and one held-out image that is black, one that is white."""
    config = recipe()
    state = copy.deepcopy(create(config, CPU))
    with torch.no_grad():
        last(state.generator).fill_(-100.0)
        for name, parameter in state.generator.named_parameters():
            if name.endswith("norm.bias"):
                parameter.fill_(50.0)
    pixels = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    pixels = pixels.repeat(8, 1, 1, 1)
    evaluation = Evaluation(config, pictures(), from_tensor(pixels, name="two"))
    found = evaluation._nearest_sample(evaluation._samples(state), CPU)
    assert found.value == pytest.approx(255 * 8 / 2)
