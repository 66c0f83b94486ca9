"""Builders that several test modules share: networks, features, images, results, and commands run in this process."""

import contextlib
import io
import re
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits, load_sample_images
from sklearn.model_selection import StratifiedGroupKFold
from torch.nn import functional

from dcgan_eval import cli
from dcgan_eval.evaluations.labels import Split
from dcgan_eval.features import Extractor
from dcgan_eval.images import from_tensor, open_images
from dcgan_eval.models.architecture import PRESETS, Architecture
from dcgan_eval.models.checkpoint import load
from dcgan_eval.models.networks import Discriminator, Generator, initialise, sample_z
from dcgan_eval.models.sampling import samples
from dcgan_eval.results import Row
from dcgan_eval.runtime.ranks import Ranks
from training import states
from training.config import TrainConfig, override
from training.data import minibatches
from training.states import create, read_header, restore
from training.step import Trainer


def run(*argv):
    """Exit code, standard output, standard error of the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        cli.main([str(word) for word in argv])
    return caught.value.code, out.getvalue(), err.getvalue()


def fails(result, message, notes=()):
    """Exit 2 and one line, below the notes about what was under way."""
    code, out, err = result
    lines = err.splitlines()
    assert code == 2, err
    assert out == ""
    assert [line for line in lines[:-1] if line not in notes] == []
    assert lines[-1].startswith("dcgan-eval: ")
    assert re.search(message, lines[-1]), lines[-1]
    assert "Traceback" not in err


SMALL_ARCHITECTURE = replace(PRESETS["digits"], generator_channels=(8, 4), discriminator_channels=(4, 8), z_dim=4)


def recipe(**changes):
    """A run of 15 epochs of 4 steps on `pictures()`, of networks that take a second."""
    return override(TrainConfig(SMALL_ARCHITECTURE, epochs=15.0, batch_size=16), changes)


@cache
def training_digits():
    return open_images("digits")["train"]


@cache
def pictures(n=64):
    """The first n digits, grey, 8 by 8, labelled."""
    return training_digits().subset(range(n))


RESULT = Row(
    task="classify",
    data="CIFAR-10",
    data_sha256="ab" * 32,
    model=None,
    model_sha256=None,
    features="disc:svhn32",
    features_sha256="cd" * 32,
    features_protocol='conv1, "as is"; float32',
    batchnorm="stored",
    trained_on="imagenet, without labels",
    dtype="float32",
    layer="all",
    dimensions=28672,
    classifier="L2-SVM",
    labels="all",
    method="features unscaled",
    remark="C 0.001 given",
    metric="accuracy",
    value=74.28 + 1e-13,
    unit="%",
    low=70.2 + 1 / 3e9,
    high=77.95,
    interval="Wilson",
    interval_n=486,
    interval_of="test images",
    n=486,
    n_reference=554,
    C=1e-4,
    C_by="given",
    gap=3e-7,
    seed=0,
    seconds_features=1.5,
    seconds=0.25,
    device="cpu",
    instruction_set="AVX2",
    versions="python 3",
    command="dcgan-eval classify --data 'é ü.zip'",
    time="2025-01-01T00:00:00Z",
)


KNN_RESULT = replace(
    RESULT,
    classifier="5-NN",
    remark="",
    C=None,
    C_by="",
    low=None,
    high=None,
    interval="",
    interval_n=0,
    interval_of="",
)


CONDITIONAL = Architecture(
    image_size=8,
    image_channels=3,
    z_dim=4,
    kernel_size=3,
    generator_channels=(4, 3),
    generator_strides=(2, 2),
    discriminator_channels=(2, 3),
    discriminator_strides=(1, 2),
    n_classes=3,
)


def conditional():
    network = Generator(CONDITIONAL)
    initialise(network, torch.Generator().manual_seed(0))
    return network


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def whole(n, d, seed=0, low=0, high=256):
    """Integers: their squared distances are exact, in float64 at least."""
    return torch.randint(low, high, (n, d), generator=torch.Generator().manual_seed(seed)).float()


def between(points, centres, k):
    """Radii halfway between distances to the k-th and the next of the points: rounding decides nothing."""
    distances = np.sort(cdist(centres.double(), points.double()), 1)
    return torch.from_numpy((distances[:, k - 1] + (distances[:, k] if k < len(points) else 0)) / 2)


def noise():
    """All distances of a query within a per cent of one another: the bound of bfloat16 proves little."""
    return 10 * normal(20, 2048, 1), normal(500, 2048, 2)


def outlier():
    database = normal(900, 24, 2) * normal(900, 1, 3).exp()
    database[7] *= 1e4
    return torch.cat([normal(30, 24, 1), database[:20]]), database


def copies():
    """Many more of one row than candidates are kept."""
    database = normal(600, 16, 2)
    database[50:500:5] = database[3]
    return torch.cat([database[:9], database[3:4] + 1e-3 * normal(5, 16)]), database


def near_copies():
    """Each query has a copy and rows that differ from it by 1e-6 in one value of 512."""
    database = normal(300, 512, 2).clamp(-2, 2)
    for i in range(8):
        database[100 + 20 * i : 120 + 20 * i] = database[i]
        database[torch.arange(100 + 20 * i, 119 + 20 * i), torch.arange(19)] += 1e-6
    return database[:8].clone(), database


def cluster():
    base = normal(1, 256) + 5
    database = torch.cat([base + 0.01 * normal(200, 256, 1), normal(400, 256, 2)])
    return database[:40].clone(), database


def constant_columns():
    queries, database = normal(9, 12, 1), normal(400, 12, 2)
    queries[:, 4:], database[:, 4:] = 1e3, 1e3
    return queries, database


def stripes():
    """Two sets on the far ends of one axis; the centre lies between, where nothing is."""
    database = normal(800, 8, 2)
    database[:, 0] += torch.where(torch.arange(800) < 400, 3e4, -3e4)
    return database[380:420].clone(), database


NEIGHBOR_PROBLEMS = {
    "normal": lambda: (normal(150, 8, 1), normal(700, 8, 2)),
    "noise": noise,
    "far": lambda: (normal(40, 32, 1) + 1000, normal(600, 32, 2) + 1000),
    "very far": lambda: (normal(40, 32, 1) + 1e6, normal(600, 32, 2) + 1e6),
    "queries far from the database": lambda: (normal(30, 32, 1) - 500, normal(600, 32, 2) + 500),
    "outlier": outlier,
    "norms": lambda: (normal(30, 8, 1), normal(700, 8, 2) * 10 ** (3 * normal(700, 1, 3))),
    "pixels": lambda: (whole(40, 192, 1), torch.cat([whole(500, 192, 2), whole(40, 192, 1)])),
    "black and white": lambda: (whole(30, 3072, 1, high=2) * 255, whole(300, 3072, 2, high=2).sort(0).values * 255),
    "pixels with many ties": lambda: (whole(60, 4, 1, high=4), whole(500, 4, 2, high=4)),
    "copies": copies,
    "near copies": near_copies,
    "all the same": lambda: (normal(1, 8).repeat(5, 1), normal(1, 8).repeat(200, 1)),
    "cluster": cluster,
    "constant columns": constant_columns,
    "stripes": stripes,
    "one dimension": lambda: (normal(50, 1, 1), normal(800, 1, 2)),
    "one query": lambda: (normal(1, 300, 1).abs(), normal(900, 300, 2).abs()),
    "one row": lambda: (normal(40, 300, 1).abs(), normal(1, 300, 2).abs()),
    "fewer rows than are kept": lambda: (normal(40, 5, 1), normal(20, 5, 2)),
    "large": lambda: (normal(20, 3, 1) * 1e18, normal(300, 3, 2) * 1e18),
    "small": lambda: (normal(20, 64, 1) * 1e-15, normal(300, 64, 2) * 1e-15),
}


def features(seed, n, d, *, dtype=torch.float32):
    """Correlated, off zero, with a decaying spectrum, as the features of a network are."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64) / (1 + torch.arange(d)) ** 0.5
    return (torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix + seed).to(dtype)


def frechet_by_definition(x, y):
    """Heusel et al. 2017, eq. 6, by SciPy's square root of the product."""
    a, b = (f.double().numpy() for f in (x, y))
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(s @ t)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * root.real))


CPU = torch.device("cpu")


# every option that adds to a state, and every kind of layer
STATE_KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema": {"updates": "both", "ema": 0.9},
    "spectral_norm": {"updates": "both", "spectral_norm": True, "hidden_width": 6},
    "all": {"ema": 0.9, "spectral_norm": True, "n_classes": 10, "hidden_width": 6, "r1": 1.0},
    "unaffine": {"batchnorm_affine": False, "batchnorm_per_unit": False},
}


def reloaded(path, device):
    """What the loop makes of a state whose recipe has not changed."""
    return restore(path, TrainConfig.from_json_dict(read_header(path)["config"]), device)


def advance(state, steps=3):
    """Steps on the digits, as the loop makes them."""
    trainer = Trainer(state, CPU, Ranks())
    for x, y in minibatches(pictures(), state.config, range(state.step, state.step + steps), CPU, Ranks()):
        trainer.step(x, y)
    return state


def trained_state(steps=3, **changes):
    """A state of training after some steps."""
    return advance(create(recipe(**changes), CPU), steps)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@cache
def written_state():
    """Arrays and header of a state, to be damaged."""
    with tempfile.TemporaryDirectory() as folder:
        path = states.save(trained_state(**STATE_KINDS["all"]), Path(folder), pictures(), keep=2)
        with safe_open(path, framework="pt") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return arrays, file.metadata()[states.HEADER], path.read_bytes()


def first_state(prefix):
    return next(key for key in written_state()[0] if key.startswith(prefix))


STUDIES = {
    "walk": ("walk", "digits", "--num-points", "3", "--steps", "3", "--pairs", "4"),
    "arithmetic": ("arithmetic", "digits", "3,4,5 - 7,8,9 + 10,11,12", "--num-samples", "16"),
    "turn": ("turn", "digits", "dark", "bright", "--num-samples", "16", "--starts", "3", "--steps", "3"),
    "filters": ("filters", "digits", "digits:test", "--num-images", "40", "--filters", "0,1"),
    "forget": ("forget", "digits", "dark", "--num-samples", "32"),
}


def source(pixels, labels=None, name="x"):
    """Images of one row of pixels each."""
    images = torch.as_tensor(pixels).to(torch.uint8)[:, None, None]
    return from_tensor(images, None if labels is None else torch.as_tensor(labels), name=name)


def digit_images(rows, labelled=True):
    x, y = load_digits(return_X_y=True)
    return source(x[rows] * 15, y[rows] if labelled else None, "digits")


def drawn_digits(n):
    checkpoint = load("digits")
    assert checkpoint.generator is not None
    return samples(checkpoint.generator, n, seed=0, name="gen:digits", sha256=checkpoint.sha256)


def of_size(images, *size):
    return functional.interpolate(images.float(), size, mode="bilinear").round().byte()


def photograph_pieces(n, side=32):
    """uint8 (n, 3, side, side): pieces of two photographs, of the half with more contrast, at random."""
    found = [
        torch.tensor(image).permute(2, 0, 1).unfold(1, side, side).unfold(2, side, side).flatten(1, 2).transpose(0, 1)
        for image in load_sample_images().images
    ]
    pieces = torch.cat(found)
    order = pieces.double().flatten(1).std(1).argsort(descending=True)[: len(pieces) // 2]
    return pieces[order[torch.randperm(len(order), generator=torch.Generator().manual_seed(0))[:n]]].contiguous()


def as_integers(rows):
    """Codes (n, w) as Python's integers."""
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def toy(name="toy", d=12, classes=5, seed=0):
    """Features and logits of RGB images of 8x8, laid out as Inception's."""
    generator = torch.Generator().manual_seed(seed)
    weight, head = torch.randn(192, d, generator=generator), torch.randn(d, classes, generator=generator)

    def function(images):
        pool = torch.relu((images.float() / 255 - 0.5).flatten(1) @ weight)
        return torch.cat([pool, pool @ head / 4], 1)

    slices = {"pool": slice(0, d), "logits": slice(d, d + classes)} if classes else {"all": slice(0, d)}
    return Extractor(name, f"toy of seed {seed}", f"{name} {seed}", (3, 8, 8), slices, lambda device: function)


DIGITS_FILE = PRESETS["digits"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def networks(architecture=DIGITS_FILE, seed=0):
    g, d = Generator(architecture), Discriminator(architecture)
    initialise(g, seeded(seed))
    initialise(d, seeded(seed + 1))
    return g, d


def trained(seed=0):
    """Networks whose BatchNorm has seen two batches in training."""
    g, d = networks(seed=seed)
    for i in range(2):
        d.train()(g.train()(sample_z(DIGITS_FILE, 8, seeded(i))))
    return g.eval(), d.eval()


def assert_equal_weights(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key


def write_authors(folder, generator, discriminator, prefix="7"):
    """The authors' files as joblib 0.8 left them: plain arrays beside a pickle that names them."""
    for network, name in ((generator, f"{prefix}_gen_params.jl"), (discriminator, f"{prefix}_discrim_params.jl")):
        files = []
        for i, parameter in enumerate(network.parameters(), 1):
            array = parameter.detach().numpy()
            array = array.T if array.ndim == 2 else np.flip(array, (2, 3)) if array.ndim == 4 else array
            files.append(f"{name}_{i:02d}.npy")
            np.save(folder / files[-1], array)
        (folder / name).write_bytes(
            b"\x80\x02]q\x00(" + b"".join(b"U" + file.encode() + b"q" for file in files) + b"e."
        )
    return folder / prefix


def resized(n, labelled=True, start=0):
    """Digits of the shape and with the classes of the conditional network."""
    network = conditional()
    images = samples(network, start + n, seed=3, name="real", sha256="real").subset(range(start, start + n))
    return images if labelled else from_tensor(images.tensor(), name="unlabelled")


def blobs(n, classes=3, d=6, seed=0, noise=1.0, scale=1.0):
    """Overlapping Gaussian classes, in random order, as unequal in size as chance makes them."""
    generator = torch.Generator().manual_seed(1000 + classes)
    centres = torch.randn(classes, d, generator=generator)
    generator.manual_seed(seed)
    y = torch.randint(classes, (n,), generator=generator)
    return Split(scale * (centres[y] + noise * torch.randn(n, d, generator=generator)), y)


def sklearn_folds(y, of, k, rng):
    """The fold of each row by StratifiedGroupKFold, groups `of` kept whole."""
    fold = np.full(len(y), -1)
    splitter = StratifiedGroupKFold(k, shuffle=True, random_state=int(rng.integers(2**32)))
    for i, (_, held_out) in enumerate(splitter.split(y, y, of)):
        fold[held_out] = i
    return fold
