"""What a GPU computes, beside the same on the CPU, in every precision that a GPU multiplies in.

Skipped without DCGAN_EVAL_TEST_GPU=1, or where there is none. What a command prints is compared to 2 in 1,000; what is
compared for order or equality, such as distances with ties, to the last bit.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dcgan_eval.evaluations.knn_probe import knn_probe
from dcgan_eval.evaluations.labels import Protocol, Split
from dcgan_eval.evaluations.linear_probe import linear_probe
from dcgan_eval.features import (
    Extractor,
    discriminator_features,
    extract,
    inception_features,
    kmeans_features,
    random_features,
)
from dcgan_eval.images import from_tensor, open_images
from dcgan_eval.linear import L2SVC, SquaredHinge, operators, solve_path
from dcgan_eval.linear import path as solver
from dcgan_eval.models.architecture import preset
from dcgan_eval.models.networks import Discriminator, initialise
from dcgan_eval.nearest.exact import inside_balls, k_nearest
from dcgan_eval.options import BatchNormMode, Classifier
from dcgan_eval.runtime.fast_ops import product_of_split, split
from dcgan_eval.runtime.precision import exact
from dcgan_eval.runtime.ranks import Ranks
from dcgan_eval.runtime.run import Run
from tests.builders import NEIGHBOR_PROBLEMS, STUDIES, between, normal, pictures, recipe, run, whole
from tests.svm_paths import path
from tests.svm_problems import drawn, objectives
from training.data import minibatches
from training.states import create, is_finite, restore, save, saved, set_learning_rates
from training.step import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and DCGAN_EVAL_TEST_GPU=1")
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(params=["ieee", "tf32"], autouse=True)
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the user has torch multiply and convolve float32 in: no number may show it."""
    backends: Any = torch.backends
    settings = backends.cuda.matmul, backends.cudnn.conv
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = request.param
    yield request.param
    for setting, value in zip(settings, before, strict=True):
        setting.fp32_precision = value


def photographs(n: int, channels: int = 3, side: int = 32) -> Tensor:
    """uint8, smooth as photographs are."""
    noise = torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return (255 * torch.nn.functional.interpolate(noise, (side, side), mode="bilinear")).byte()


# the SVM


@pytest.mark.parametrize("seed", range(40))
def test_every_precision_certifies_the_cpus_optimum(seed: int) -> None:
    problem = drawn(seed, most_rows=1500, most_columns=3000, most_values=2**19)
    weight = torch.ones_like(problem.signs)
    cpu = next(solve_path(problem.X, SquaredHinge(problem.signs, weight), [problem.C]))
    least = objectives(problem, cpu.coef, cpu.intercept)
    for name in ("as here", "float32", "float32, on the weights", "split bfloat16"):
        with path(name):
            gpu = next(solve_path(problem.X, SquaredHinge(problem.signs, weight), [problem.C], device=GPU))
        what = f"{name}: {problem.what}"
        values = objectives(problem, gpu.coef.cpu(), gpu.intercept.cpu())
        np.testing.assert_allclose(gpu.objective.cpu(), values, rtol=1e-9, err_msg=what)
        assert gpu.converged, what
        np.testing.assert_allclose(values, least, rtol=1e-6, err_msg=what)


def test_rows_that_do_not_fit_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = drawn(11, most_rows=1500, most_columns=3000, most_values=2**19)
    here = L2SVC(1e-2, device=GPU).fit(problem.X, problem.y)
    monkeypatch.setattr(solver, "place", lambda X, device: X)
    for name, size in (("BLOCK", 2**12), ("STREAM", 2**12), ("WIDTH", 100)):
        monkeypatch.setattr(operators, name, size)
    read: set[str] = set()
    blocks = operators.Primal.blocks

    def seen(self: operators.Primal, *arguments: Any) -> Any:
        read.add(self.X.device.type)
        return blocks(self, *arguments)

    monkeypatch.setattr(operators.Primal, "blocks", seen)
    with path("float32, on the weights"):
        streamed = L2SVC(1e-2, device=GPU).fit(problem.X, problem.y)
    assert read == {"cpu"}
    np.testing.assert_allclose(streamed.objective_, here.objective_, rtol=1e-6)
    np.testing.assert_array_equal(streamed.predict(problem.X), here.predict(problem.X))


def test_rows_may_lie_on_the_gpu() -> None:
    problem = drawn(12, most_rows=1500, most_columns=3000, most_values=2**19)
    cpu = L2SVC(1e-2).fit(problem.X, problem.y)
    gpu = L2SVC(1e-2).fit(problem.X.to(GPU), problem.y.numpy())
    np.testing.assert_allclose(gpu.objective_, cpu.objective_, rtol=1e-6)
    np.testing.assert_array_equal(gpu.predict(problem.X.to(GPU)), cpu.predict(problem.X))


def test_many_unbalanced_classes_after_relu() -> None:
    rng = np.random.default_rng(0)
    p = np.linspace(1, 12, 43)
    y = rng.choice(43, 3600, p=p / p.sum())
    z = rng.normal(size=(43, 60))[y] + 1.3 * rng.normal(size=(3600, 60))
    X = np.maximum(z @ rng.normal(size=(60, 6000)) / 7 + 0.3, 0).astype("f4")
    gpu = L2SVC(1e-3, device=GPU).fit(X, y)
    assert (gpu.gap_ <= 1e-6 * gpu.objective_).all()
    cpu = L2SVC(1e-3).fit(X, y)
    np.testing.assert_allclose(gpu.objective_, cpu.objective_, rtol=1e-6)
    assert (gpu.predict(X) == cpu.predict(X)).mean() > 0.9995


def test_split_products_are_as_precise_as_they_say() -> None:
    a, b = normal(200, 3000, 1), normal(300, 3000, 2)
    high, low = split(b.to(GPU))
    found = product_of_split(split(a.to(GPU)), (high.T, low.T)).cpu()
    wanted = a.double() @ b.double().T
    assert float((found - wanted).norm() / wanted.norm()) < 2**-15


def test_exact_products_are_exact(precision: str) -> None:
    a, b = normal(200, 3000, 1).to(GPU), normal(3000, 300, 2).to(GPU)
    wanted = a.double() @ b.double()
    with exact():
        assert float((a @ b - wanted).norm() / wanted.norm()) < 1e-6
    as_asked = float((a @ b - wanted).norm() / wanted.norm())
    assert as_asked < 1e-6 if precision == "ieee" else as_asked > 1e-5


@pytest.mark.parametrize("protocol", ["all", "per-class:10"])
def test_probes_find_the_same_accuracy(protocol: str) -> None:
    sets = open_images("digits")
    parts = []
    for images in sets["train"], sets["test"]:
        assert images.labels is not None
        parts.append(Split(images.tensor().flatten(1).float() / 16, images.labels))
    train, test = parts
    few = Protocol.parse(protocol)
    kinds: tuple[Classifier, ...] = ("svm", "logistic")
    for kind in kinds:
        cpu, gpu = (linear_probe(train, test, kind=kind, protocol=few, draws=3, device=device) for device in (CPU, GPU))
        assert (gpu.accuracies, gpu.C) == (cpu.accuracies, cpu.C)
    for weighted in (False, True):
        near = (
            knn_probe(train, test, weighted=weighted, protocol=few, draws=3, device=device) for device in (CPU, GPU)
        )
        assert len({found[0].accuracies for found in near}) == 1


# neighbours


@pytest.mark.parametrize("name", NEIGHBOR_PROBLEMS)
def test_neighbours_are_the_cpus_to_the_bit(name: str) -> None:
    queries, database = NEIGHBOR_PROBLEMS[name]()
    k = min(5, len(database))
    cpu = k_nearest(queries, database, k)
    gpu = k_nearest(queries.to(GPU), database.to(GPU), k)
    for found, wanted in zip(gpu, cpu, strict=True):
        assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("ties", [True, False])
def test_balls_are_the_cpus_to_the_bit(ties: bool) -> None:
    points, centres = (whole(300, 4, seed, high=4) if ties else normal(300, 40, seed) for seed in (1, 2))
    radii = k_nearest(centres, points, 5)[0][:, -1] if ties else between(points, centres, 5)
    cpu = inside_balls(points, centres, radii)
    gpu = inside_balls(points.to(GPU), centres.to(GPU), radii.to(GPU))
    assert torch.equal(gpu.counts.cpu(), cpu.counts)
    assert torch.equal(gpu.occupied.cpu(), cpu.occupied)


# features


def of_discriminator(batchnorm: BatchNormMode) -> Extractor:
    network = Discriminator(preset("svhn32"))
    initialise(network, torch.Generator().manual_seed(0))
    return discriminator_features(
        network, name="random", batchnorm=batchnorm, images=from_tensor(photographs(256), name="x")
    )


EXTRACTORS = {
    "discriminator": lambda: of_discriminator("reestimated"),
    "discriminator, statistics of each batch": lambda: of_discriminator("batch"),
    "imagenet32": lambda: random_features("imagenet32", from_tensor(photographs(256), name="x")),
    "k-means": lambda: kmeans_features(from_tensor(photographs(256), name="x"), units=40, patches=4000),
}


def differ(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", EXTRACTORS)
def test_features_are_the_cpus(name: str, precision: str) -> None:
    """1e-6 to 1e-5 apart on an H200; products in TF32, which a user may ask for, are 4e-4 to 1e-3."""
    extractor, images = EXTRACTORS[name](), from_tensor(photographs(300), name="y")
    cpu, gpu, other = (
        extract(extractor, images, run=Run(device=device, batch_size=size))
        for device, size in ((CPU, 256), (GPU, 256), (GPU, 128))
    )
    assert differ(gpu, cpu) < 2e-5
    assert differ(other, gpu) < 2e-6
    with torch.inference_mode():
        unguarded = extractor.on(GPU)(photographs(300).to(GPU)).cpu()
    assert (differ(unguarded, cpu) > 1e-4) == (precision == "tf32")


def test_inceptions_features_are_the_cpus(weights: Path, precision: str) -> None:
    """3e-5 apart on an H200, as its many layers make of float32's rounding; 3e-2 in TF32."""
    extractor, images = inception_features(weights=weights, logits=True), from_tensor(photographs(12), name="y")
    cpu, gpu = (extract(extractor, images, run=Run(device=device)) for device in (CPU, GPU))
    assert differ(gpu, cpu) < 1e-4
    with torch.inference_mode():
        unguarded = extractor.on(GPU)(photographs(12).to(GPU)).cpu()
    assert (differ(unguarded, cpu) > 1e-3) == (precision == "tf32")


# training


@pytest.mark.parametrize("options", [{}, {"updates": "both", "ema": 0.9, "spectral_norm": True, "r1": 1.0}])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_begins_as_on_the_cpu_and_its_state_is_read_back(
    options: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    config = recipe(precision=dtype, **options)
    seen = {}
    for device in (CPU, GPU):
        state = create(config, device)
        trainer = Trainer(state, device, Ranks())
        batches = minibatches(pictures(), config, range(6), device, Ranks())
        seen[device] = [{k: float(v) for k, v in trainer.step(*batch).items()} for batch in batches]
        assert is_finite(state)
        if device == GPU:
            save(state, tmp_path, pictures(), 2)
            again = restore(saved(tmp_path)[-1], config, GPU)
            for name, part in state.modules().items():
                for key, value in part.state_dict().items():
                    assert torch.equal(again.modules()[name].state_dict()[key], value), (name, key)
    # before the kernels are recorded
    for cpu, gpu in zip(seen[CPU][:2], seen[GPU][:2], strict=True):
        assert gpu == pytest.approx(cpu, rel=0.1 if dtype == "bfloat16" else 0.01)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"updates": "both", "ema": 0.9, "diffaugment": ("translation",)},
        {"updates": "both", "spectral_norm": True, "r1": 1.0},
        {"n_classes": 10},
    ],
)
def test_recorded_kernels_do_what_they_did(options: dict[str, Any]) -> None:
    config = recipe(**options)
    weights = []
    for recorded in (True, False):
        trainer = Trainer(create(config, GPU), GPU, Ranks())
        if not recorded:
            trainer.updates = {kind: update.update for kind, update in trainer.updates.items()}  # type: ignore[attr-defined]
        seen = []
        for step, batch in enumerate(minibatches(pictures(), config, range(12), GPU, Ranks())):
            set_learning_rates(trainer.state, {"generator": 1e-3 / (1 + step), "discriminator": 2e-3 / (1 + step)})
            seen.append(trainer.step(*batch))
        weights.append(torch.cat([p.flatten() for m in trainer.state.modules().values() for p in m.parameters()]))
        assert len({float(each["diversity"]) for each in seen}) == 12
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)


# commands

COMMANDS = {
    "classify": (
        "classify",
        "--features",
        "disc:digits",
        "--features",
        "pixels",
        "--probe",
        "svm,logistic,knn,weighted-knn",
        "--k",
        "5",
    ),
    "fid": ("fid", "--metrics", "fid,kid,prdc,fid-infinity", "--kid-subset-size", "200", "--features", "pixels"),
    "neighbors": ("neighbors", "--features", "pixels", "--features", "disc:digits"),
    **STUDIES,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_the_cpus_numbers(name: str) -> None:
    """To 2 in 1,000, or 0.2 % of images counted."""
    printed = {}
    for device in ("cpu", "cuda"):
        code, out, err = run(*COMMANDS[name], "--device", device, "--format", "json")
        assert code == 0, err
        printed[device] = json.loads(out)
    assert len(printed["cpu"]) == len(printed["cuda"]) > 0
    for cpu, gpu in zip(printed["cpu"], printed["cuda"], strict=True):
        assert (gpu["metric"], gpu["method"], gpu["n"]) == (cpu["metric"], cpu["method"], cpu["n"])
        assert gpu["value"] == pytest.approx(cpu["value"], rel=2e-3, abs=0.2 if cpu["unit"] == "%" else 1e-4), cpu


def test_a_row_says_which_device() -> None:
    code, out, err = run("classify", "--features", "pixels", "--C", "1e-3", "--format", "json")
    assert code == 0, err
    assert {row["device"] for row in json.loads(out)} == {"cuda"}


def test_presets_fit_and_train_in_bfloat16() -> None:
    """The paper's network at full width, steps of a small minibatch, recorded ones among them."""
    from training.config import preset as training_preset

    config = dataclasses.replace(training_preset("imagenet32"), precision="bfloat16", batch_size=16)
    trainer = Trainer(create(config, GPU), GPU, Ranks())
    for _ in range(8):
        trainer.step(photographs(16).to(GPU), None)
    assert is_finite(trainer.state)
