import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dcgan_eval.models.networks import set_batchnorm_mode
from dcgan_eval.runtime.errors import InputError
from tests.builders import (
    CPU,
    STATE_KINDS,
    advance,
    equal,
    first_state,
    pictures,
    recipe,
    reloaded,
    trained_state,
    written_state,
)
from training import states
from training.config import TrainConfig
from training.export import export
from training.states import State, create, is_finite, learning_rates, plain, read_header, save, saved

kinds = pytest.mark.parametrize("kind", STATE_KINDS)


def weights(state):
    """Every parameter and buffer, by network and name, apart from the state."""
    return {
        f"{name}.{key}": value.clone()
        for name, part in state.modules().items()
        for key, value in part.state_dict().items()
    }


def moments(state):
    """(parameter, its moments) of both optimisers."""
    return [(p, o.state[p]) for o in state.optimizers.values() for p in o.param_groups[0]["params"]]


# files


@kinds
def test_what_is_saved_is_restored_exactly(kind, tmp_path):
    state = trained_state(**STATE_KINDS[kind])
    found = reloaded(save(state, tmp_path, pictures(), keep=2), CPU)
    assert (found.config, found.step, found.images) == (state.config, 3, 48)
    assert equal(weights(found), weights(state))
    assert found.modules().keys() == state.modules().keys()
    assert ("average" in found.modules()) == bool(state.config.ema)
    assert ("average_d" in found.modules()) == bool(state.config.ema_d)
    pairs = list(zip(moments(found), moments(state), strict=True))
    assert len(pairs) == sum(len(list(part.parameters())) for part in (state.generator, state.discriminator))
    for (parameter, here), (like, there) in pairs:
        assert here.keys() == there.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert equal(here, there)
        # the fused kernel walks through all of them side by side
        assert parameter.stride() == like.stride()
        assert here["exp_avg"].stride() == here["exp_avg_sq"].stride() == parameter.stride()
    for name, optimizer in found.optimizers.items():
        ours, theirs = (o.param_groups[0] for o in (optimizer, state.optimizers[name]))
        assert {k: v for k, v in ours.items() if k != "params"} == {k: v for k, v in theirs.items() if k != "params"}


@kinds
def test_what_is_restored_goes_on_to_the_bit(kind, tmp_path):
    state = trained_state(**STATE_KINDS[kind])
    path = save(state, tmp_path, pictures(), keep=2)
    advance(state, 4)
    found = advance(reloaded(path, CPU), 4)
    assert equal(weights(found), weights(state))
    for (_, here), (_, there) in zip(moments(found), moments(state), strict=True):
        assert equal(here, there)


def test_a_state_before_the_first_step_is_restored(tmp_path):
    state = create(recipe(ema=0.9), CPU)
    found = reloaded(save(state, tmp_path, pictures(), keep=2), CPU)
    assert found.step == 0
    assert equal(weights(found), weights(state))
    assert [m for _, m in moments(found) if m] == []
    assert equal(weights(advance(found)), weights(advance(state)))


def test_saving_changes_nothing(tmp_path):
    state, other = trained_state(**STATE_KINDS["all"]), trained_state(**STATE_KINDS["all"])
    save(state, tmp_path, pictures(), keep=2)
    assert equal(weights(advance(state)), weights(advance(other)))


def test_a_state_tells_what_it_is_of(tmp_path):
    header = read_header(save(trained_state(seed=7), tmp_path, pictures(), keep=2))
    assert header["step"] == 3
    assert TrainConfig.from_json_dict(header["config"]) == recipe(seed=7)
    images = pictures()
    assert header["data"] == {
        "name": "digits:train", "n": 64, "selection": images.selection, "sha256": images.sha256,
    }  # fmt: skip


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_keep_removes_the_oldest_and_nothing_else(keep, tmp_path):
    others = ["state-1.safetensors", "state-final.safetensors", "best.safetensors", "state-000000001.safetensors.old"]
    for name in others:
        (tmp_path / name).write_text("mine")
    state = create(recipe(), CPU)
    for step in (5, 20, 100, 1000):
        state.step = step
        path = save(state, tmp_path, pictures(), keep)
        assert path == tmp_path / f"state-{step:09d}.safetensors"
        assert saved(tmp_path)[-1] == path
    names = [f"state-{step:09d}.safetensors" for step in (5, 20, 100, 1000)][-keep:]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names + others)
    assert [p.name for p in saved(tmp_path)] == names


def test_a_state_that_cannot_be_written_leaves_the_others(tmp_path, monkeypatch):
    first_state = save(trained_state(), tmp_path, pictures(), keep=1)
    content = first_state.read_bytes()

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(states, "write_whole", full)
    with pytest.raises(OSError, match="No space"):
        save(trained_state(4), tmp_path, pictures(), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == [first_state.name]
    assert first_state.read_bytes() == content


NAME = "state-000000003.safetensors"


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 100, 0.5, -100, -1])
def test_truncated_states_are_named(cut, tmp_path):
    content = written_state()[2]
    path = tmp_path / NAME
    path.write_bytes(content[: int(len(content) * cut) if isinstance(cut, float) else cut])
    with pytest.raises(InputError, match=f"{NAME}: damaged") as caught:
        reloaded(path, CPU)
    assert "\n" not in str(caught.value)


CHANGES = {
    "a weight is missing": lambda arrays: arrays.pop(first_state("generator.")),
    "the average is missing": lambda arrays: [arrays.pop(key) for key in list(arrays) if key.startswith("average.")],
    "a singular vector is missing": lambda arrays: arrays.pop(next(key for key in arrays if key.endswith("._u"))),
    "a weight too many": lambda arrays: arrays.update({"discriminator.other": torch.zeros(3)}),
    "a weight of another shape": lambda arrays: arrays.update({first_state("generator."): torch.zeros(3)}),
    "a moment is missing": lambda arrays: arrays.pop(first_state("adam generator.0.exp_avg")),
    "a parameter's moments are missing": lambda arrays: [
        arrays.pop(key) for key in list(arrays) if key.startswith("adam generator.0.")
    ],
    "a moment of another shape": lambda arrays: arrays.update({"adam generator.0.exp_avg": torch.zeros(3)}),
    "moments of no parameter": lambda arrays: arrays.update({"adam generator.99.exp_avg": torch.zeros(3)}),
    "moments of no number": lambda arrays: arrays.update({"adam generator.one.exp_avg": torch.zeros(3)}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_states_of_other_arrays_are_refused(change, tmp_path):
    arrays, header, _ = written_state()
    arrays = dict(arrays)
    CHANGES[change](arrays)
    save_file(arrays, tmp_path / NAME, {states.HEADER: header})
    with pytest.raises(InputError, match=NAME) as caught:
        reloaded(tmp_path / NAME, CPU)
    assert "\n" not in str(caught.value)


def test_the_state_that_is_damaged_below_was_whole(tmp_path):
    arrays, header, _ = written_state()
    save_file(arrays, tmp_path / NAME, {states.HEADER: header})
    assert reloaded(tmp_path / NAME, CPU).step == 3


HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "another version": ({"version": 99}, "version 99"),
    "no version": ({"version": None}, NAME),
    "no step": ({"step": None}, NAME),
    "a step that is no number": ({"step": "three"}, NAME),
    "no config": ({"config": None}, NAME),
    "no data": ({"data": None}, NAME),
    "nothing told": ({"told": None}, NAME),
    "told what is no number": ({"told": {"loss_d": ["low"]}}, NAME),
}


@pytest.mark.parametrize("change", HEADERS)
def test_states_of_other_headers_are_refused(change, tmp_path):
    arrays, header, _ = written_state()
    values, message = HEADERS[change]
    fields = {k: v for k, v in {**json.loads(header), **values}.items() if v is not None}
    save_file(arrays, tmp_path / NAME, {states.HEADER: json.dumps(fields)})
    with pytest.raises(InputError, match=message) as caught:
        reloaded(tmp_path / NAME, CPU)
    assert NAME in str(caught.value)
    assert "\n" not in str(caught.value)


def test_foreign_files_are_named(tmp_path):
    path = tmp_path / NAME
    checkpoint = tmp_path / "last.safetensors"
    export(trained_state(), pictures(), checkpoint)
    for write in (
        lambda: path.write_text("state"),
        lambda: save_file({"x": torch.zeros(3)}, path),
        lambda: save_file({"x": torch.zeros(3)}, path, {states.HEADER: "no JSON"}),
        lambda: save_file({"x": torch.zeros(3)}, path, {states.HEADER: "[1]"}),
        lambda: path.write_bytes(checkpoint.read_bytes()),
    ):
        write()
        with pytest.raises(InputError, match=f"{NAME}: damaged, or no state of a run"):
            reloaded(path, CPU)


# the first state


def test_equal_seeds_give_equal_weights_and_others_do_not():
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 1, 2):
            torch.rand(1)  # the global generator has no say
            found.append(weights(create(recipe(**STATE_KINDS["all"], seed=seed), CPU)))
    one, again, other = found
    assert equal(one, again)
    for part in ("generator", "discriminator", "average"):
        keys = [k for k in one if k.startswith(part) and one[k].ndim > 1]
        assert keys
        assert not any(torch.equal(one[key], other[key]) for key in keys)
    # torch's own vectors of spectral normalisation are drawn from our seed too
    assert not any(
        torch.equal(one[key], other[key]) for key in one if key.endswith(("._u", "._v")) and len(one[key]) > 1
    )


def test_the_networks_are_drawn_apart():
    state = create(recipe(n_classes=0), CPU)
    first_state = [next(p for p in part.parameters() if p.ndim > 1).flatten()[:8] for part in state.modules().values()]
    assert not torch.equal(*first_state)


def test_the_average_begins_at_the_generator():
    state = create(recipe(ema=0.9), CPU)
    assert state.average is not None
    assert equal(state.average.state_dict(), state.generator.state_dict())
    assert state.drawn_from is state.average
    state = create(recipe(), CPU)
    assert state.drawn_from is state.generator
    assert state.read_from is state.discriminator


def test_nothing_draws_from_the_global_generator(tmp_path):
    before = torch.get_rng_state()
    state = trained_state(**STATE_KINDS["all"], diffaugment=("color", "translation", "cutout"))
    reloaded(save(state, tmp_path, pictures(), keep=1), CPU)
    export(state, pictures(), tmp_path / "a.safetensors")
    assert torch.equal(before, torch.get_rng_state())


def test_rates_and_betas_reach_the_optimisers():
    config = recipe(learning_rate_g=0.1, learning_rate_d=0.2, beta1=0.3, beta2=0.4, weight_decay=0.5)
    groups = {name: o.param_groups[0] for name, o in create(config, CPU).optimizers.items()}
    assert (groups["generator"]["lr"], groups["discriminator"]["lr"]) == (0.1, 0.2)
    for group in groups.values():
        assert (group["betas"], group["weight_decay"]) == ((0.3, 0.4), 0.5)


def test_a_weight_that_is_not_finite_is_seen():
    state = create(recipe(ema=0.9), CPU)
    assert is_finite(state)
    for part in state.modules().values():
        parameter = list(part.parameters())[-1].data.view(-1)
        before, parameter[0] = parameter[0].clone(), torch.nan
        assert not is_finite(state)
        parameter[0] = before
    assert is_finite(state)


# copies for evaluation


def images(n=32, seed=0):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("kind", ["plain", "spectral_norm", "all"])
def test_plain_judges_as_the_original_and_leaves_it_alone(kind):
    d = trained_state(6, **STATE_KINDS[kind]).discriminator
    y = torch.arange(32) % 10 if d.architecture.n_classes else None
    before = {key: value.clone() for key, value in d.state_dict().items()}
    copied = plain(d)
    assert equal(d.state_dict(), before)
    assert d.training
    assert copied.batchnorm_mode == "batch"
    assert not copied.training
    assert not any("parametrizations" in key for key in copied.state_dict())
    set_batchnorm_mode(d, "batch")
    torch.testing.assert_close(copied(images(), y), d(images(), y), rtol=0, atol=1e-6)
    # a copy: what happens to one does not happen to the other
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert equal(d.state_dict(), before)


def test_plain_copies_are_no_steps():
    """Reading a spectrally normalised weight in training moves its singular vectors on."""
    state, other = trained_state(**STATE_KINDS["spectral_norm"]), trained_state(**STATE_KINDS["spectral_norm"])
    for _ in range(3):
        plain(state.discriminator)
    assert equal(weights(advance(state)), weights(advance(other)))


def test_plain_copies_a_generator():
    g = trained_state(6).generator
    z = torch.rand(32, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(plain(g)(z), g(z), rtol=0, atol=1e-6)


def test_spectral_norm_divides_by_the_largest_singular_value():
    d = create(recipe(spectral_norm=True, hidden_width=6), CPU).discriminator
    layers = [layer.linear for layer in (*d.convs, *d.dense)]
    assert len(layers) == 4
    for linear in layers:
        for _ in range(500):  # in training each reading is one power iteration
            assert linear.weight is not None
        matrix = linear.weight.detach().flatten(1)
        torch.testing.assert_close(torch.linalg.matrix_norm(matrix, 2), torch.tensor(1.0), rtol=1e-4, atol=0)
    assert not any(hasattr(layer.linear, "parametrizations") for layer in create(recipe(), CPU).discriminator.convs)


# rates and steps


@pytest.mark.parametrize(
    ("decay", "step", "factor"),
    [
        (0, 0, 1),
        (0, 39, 1),
        (2, 0, 1),
        (2, 20, 1),
        (2, 21, 0.95),
        (2, 30, 0.5),
        (2, 39, 0.05),
        (4, 0, 1),
        (4, 10, 0.75),
    ],
)
def test_rates_are_constant_then_fall_to_almost_0(decay, step, factor):
    config = recipe(epochs=4.0, decay_epochs=float(decay), learning_rate_g=0.1, learning_rate_d=0.3)
    found = learning_rates(config, step, 40, 10)
    assert found == pytest.approx({"generator": 0.1 * factor, "discriminator": 0.3 * factor})


def test_rates_never_rise():
    config = recipe(epochs=2.5, decay_epochs=1.3)
    steps = states.total_steps(config, 7)
    rates = [learning_rates(config, step, steps, 7)["generator"] for step in range(steps)]
    assert rates[0] == config.learning_rate_g
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < config.learning_rate_g / 8


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "steps"), [(1.0, 7, 7), (0.5, 7, 4), (0.001, 7, 1), (25.0, 1000, 25000), (0.07, 100, 7)]
)
def test_steps_are_those_of_whole_minibatches(epochs, per_epoch, steps):
    assert states.total_steps(recipe(epochs=epochs), per_epoch) == steps


def test_the_clock_counts_real_images():
    state = replace(create(recipe(), CPU), step=10)
    assert isinstance(state, State)
    assert state.images == 160
