import dataclasses
import json
from dataclasses import replace
from typing import Literal, get_origin

import pytest

from dcgan_eval.models import architecture
from dcgan_eval.models.architecture import Architecture
from dcgan_eval.runtime.errors import InputError
from tests.builders import SMALL_ARCHITECTURE, recipe
from training.config import PRESETS, TrainConfig, options, override, preset

DIGITS = PRESETS["digits"]
PAPERS = ("mnist28", "cifar32", "svhn32", "imagenet32", "lsun64", "faces64")


@pytest.mark.parametrize("name", PRESETS)
def test_recipe_survives_json(name):
    written = json.dumps(PRESETS[name].to_json_dict())
    assert TrainConfig.from_json_dict(json.loads(written)) == PRESETS[name]


def test_every_field_survives_json():
    config = recipe(
        epochs=1.5, batch_size=8, updates="both", learning_rate_g=0.1, learning_rate_d=0.2, beta1=0.3, beta2=0.4,
        weight_decay=0.5, decay_epochs=0.5, label_smoothing=0.25, r1=2.0, spectral_norm=True,
        diffaugment=("color", "cutout"), ema=0.75, ema_d=0.5, precision="bfloat16", fit=True, seed=(1 << 63) - 1,
    )  # fmt: skip
    plain = TrainConfig(SMALL_ARCHITECTURE)
    same = {f.name for f in dataclasses.fields(config) if getattr(config, f.name) == getattr(plain, f.name)}
    assert same == {"architecture", "loss"}  # the hinge knows no smoothing
    for each in (config, replace(config, loss="hinge", label_smoothing=0.0)):
        assert each.to_json_dict() == json.loads(json.dumps(each.to_json_dict()))  # a resumption compares the two
        assert TrainConfig.from_json_dict(json.loads(json.dumps(each.to_json_dict()))) == each


@pytest.mark.parametrize("name", PAPERS)
def test_presets_are_the_papers(name):
    config = PRESETS[name]
    assert config.architecture == architecture.PRESETS[name]
    assert (config.learning_rate_g, config.learning_rate_d, config.beta1, config.beta2) == (2e-4, 2e-4, 0.5, 0.999)
    assert (config.batch_size, config.updates, config.loss, config.precision) == (128, "alternate", "bce", "float32")
    decay, l2 = (100.0, 2.5e-5) if name == "mnist28" else (0.0, 1e-5)
    assert (config.decay_epochs, config.weight_decay) == (decay, l2)
    # what the paper does not have
    assert (config.label_smoothing, config.r1, config.spectral_norm, config.ema) == (0.0, 0.0, False, 0.0)
    assert (config.diffaugment, config.fit) == ((), False)


def test_mnist_is_trained_as_by_the_authors():
    """niter = 100 and niter_decay = 100 of mnist/train_cond_dcgan.py."""
    assert (PRESETS["mnist28"].epochs, PRESETS["mnist28"].decay_epochs) == (200.0, 100.0)
    assert PRESETS["mnist28"].architecture.n_classes == 10


def test_every_architecture_has_its_recipe():
    assert PRESETS.keys() == architecture.PRESETS.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0.0}, "epochs must be more than 0"),
        ({"epochs": -1.0}, "epochs must be from 0"),
        ({"epochs": float("nan")}, "epochs must be"),
        ({"epochs": float("inf")}, "epochs must be"),
        ({"learning_rate_g": -1e-9}, "learning_rate_g must be from 0 to 1"),
        ({"learning_rate_g": 1.1}, "learning_rate_g"),
        ({"learning_rate_d": -1e-9}, "learning_rate_d must be from 0 to 1"),
        ({"learning_rate_d": float("nan")}, "learning_rate_d"),
        ({"beta1": 1.0}, "beta1 and beta2 less than 1"),
        ({"beta1": -0.1}, "beta1"),
        ({"beta2": 1.0}, "beta1 and beta2 less than 1"),
        ({"beta2": 1.5}, "beta2"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"decay_epochs": 16.0}, "decay_epochs must be from 0 to 15, not 16"),
        ({"decay_epochs": -1.0}, "decay_epochs"),
        ({"label_smoothing": 0.6}, "label_smoothing must be from 0 to 0.5"),
        ({"label_smoothing": 0.1, "loss": "hinge"}, "label_smoothing is of the bce loss"),
        ({"r1": -1.0}, "r1"),
        ({"r1": float("inf")}, "r1"),
        ({"ema": 1.0}, "ema must be from 0 to 0.999999, not 1"),
        ({"ema": -0.5}, "ema"),
        ({"ema_d": 1.0}, "ema_d must be from 0 to 0.999999, not 1"),
        ({"batch_size": 1}, "BatchNorm needs a batch"),
        ({"batch_size": 1 << 21}, "batch_size must be from 2"),
        ({"seed": -1}, "seed must be a non-negative integer"),
        ({"seed": 1 << 63}, "seed must be"),
        ({"updates": "alternat"}, "did you mean 'alternate'"),
        ({"loss": "hinges"}, "did you mean 'hinge'"),
        ({"precision": "bfloat"}, "did you mean 'bfloat16'"),
        ({"diffaugment": ("color", "cutuot")}, "did you mean 'cutout'"),
        ({"z_dim": 0}, "z_dim"),
        ({"generator_channels": (8,)}, "1 channels but 2 strides"),
    ],
)
def test_values_out_of_range_are_refused(change, message):
    with pytest.raises(InputError, match=message) as caught:
        recipe(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": "many"},
        {"epochs": None},
        {"r1": [1.0]},
        {"batch_size": 12.5},
        {"seed": 0.5},
        {"spectral_norm": "yes"},
        {"fit": 1},
        {"updates": 3},
        {"diffaugment": 3},
        {"diffaugment": "color"},
        {"diffaugment": [1]},
        {"architecture": None},
        {"architecture": "digits"},
    ],
    ids=str,
)
def test_json_of_other_kinds_is_refused(change):
    """A state's header is a file's word: it must not end in a traceback, nor in a run of 12.5 images."""
    with pytest.raises(InputError) as caught:
        TrainConfig.from_json_dict({**DIGITS.to_json_dict(), **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [None, [], {}, {**DIGITS.to_json_dict(), "dropout": 0.5}], ids=["0", "1", "2", "3"])
def test_json_of_other_fields_is_refused(values):
    with pytest.raises(InputError, match="differs in the fields"):
        TrainConfig.from_json_dict(values)


def test_preset_by_name_and_its_nearest():
    assert preset("svhn32") is PRESETS["svhn32"]
    with pytest.raises(InputError, match="did you mean 'svhn32'"):
        preset("svhn23")


def test_override_reaches_both_records_and_leaves_the_rest():
    found = override(DIGITS, {"z_dim": 7, "generator_channels": (16, 8), "epochs": 3.0, "diffaugment": ("color",)})
    architecture = replace(DIGITS.architecture, z_dim=7, generator_channels=(16, 8))
    assert found == replace(DIGITS, architecture=architecture, epochs=3.0, diffaugment=("color",))
    assert override(DIGITS, {}) == DIGITS


def test_every_field_has_one_flag_that_can_be_read():
    names = [option.name for option in options()]
    fields = [f.name for record in (TrainConfig, Architecture) for f in dataclasses.fields(record)]
    assert sorted(names) == sorted(set(fields) - {"architecture"})
    for option in options():
        assert option.kind in (int, float, bool) or get_origin(option.kind) in (Literal, tuple), option
        assert option.help
