import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dcgan_eval.evaluations import dedup
from dcgan_eval.evaluations.dedup import FORMAT
from dcgan_eval.images import open_split
from dcgan_eval.models import architecture
from dcgan_eval.models.checkpoint import load
from dcgan_eval.models.networks import Discriminator, Generator
from training import loop
from training.__main__ import main
from training.config import PRESETS, options, override, preset

SMALL = ("--generator-channels", "8,4", "--discriminator-channels", "4,8", "--z-dim", "4", "--batch-size", "16")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder of data sets, and an empty one to work in."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "sets"
    folder.mkdir()
    for name, n, side, labels in (
        ("grey", 40, 8, True),
        ("unlabelled", 40, 8, False),
        ("large", 40, 16, True),
        ("few", 9, 8, True),
    ):
        x = {"x": rng.integers(0, 256, (n, side, side), dtype=np.uint8)}
        np.savez(folder / f"{name}.npz", **(x | {"y": np.arange(n) % 10} if labels else x))
    np.savez(folder / "rgb.npz", x=rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8))
    (folder / "text.npz").write_text("no archive")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def run(capsys, *argv):
    """Exit code, standard output, standard error."""
    code = main([str(word) for word in argv])
    return code, *capsys.readouterr()


def written():
    return sorted(str(p) for p in Path().rglob("*"))


def test_the_plan_tells_what_a_run_will_cost_and_writes_nothing(capsys):
    code, out, err = run(capsys, "digits", "--dry-run", *SMALL, "--epochs", "2.5")
    assert (code, err) == (0, "")
    a = replace(
        architecture.PRESETS["digits"], generator_channels=(8, 4), discriminator_channels=(4, 8), z_dim=4
    )  # fmt: skip
    g, d = (sum(p.numel() for p in network(a, "meta").parameters()) for network in (Generator, Discriminator))
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert list(lines) == ["data", "steps", "parameters", "memory", "time"]
    assert "898 images of digits:train, 1x8x8" in lines["data"]
    assert "140 minibatches of 16: 2.5 epochs of 56" in lines["steps"]
    assert lines["parameters"].endswith(f"generator {g:,}, discriminator {d:,}")
    assert re.search(r"[\d.]+ MiB for weights", lines["memory"])
    assert re.search(r"about \d+ s: [\d,.]+ images/s in float32 on cpu", lines["time"])
    assert written() == []


@pytest.mark.parametrize(
    "flags", [("--updates", "alternate"), ("--n-classes", "10"), ("--r1", "1"), ("--precision", "bfloat16")]
)
def test_every_kind_of_run_has_a_plan(flags, capsys):
    code, out, err = run(capsys, "digits", "--dry-run", *SMALL, *flags)
    assert (code, err) == (0, "")
    assert "images/s" in out
    assert written() == []


def test_a_run_and_its_resumption(capsys):
    flags = ("digits", *SMALL, "--epochs", "0.2")
    code, out, err = run(capsys, *flags)
    assert (code, out) == (0, "")
    # a name of its own for each preset
    last = Path("runs") / "digits" / "last.safetensors"
    assert err.splitlines()[-1] == f"{last.parent}: wrote {last}"
    before = last.read_bytes()
    last.unlink()
    assert run(capsys, *flags, "--resume")[0] == 0
    assert last.read_bytes() == before


def listened(monkeypatch, *argv):
    """What the command line asks of `train`: the configuration, the images, the rest."""
    heard = []

    def train(config, images, out, **rest):
        heard.append((config, images, out, rest))
        return True

    monkeypatch.setattr(loop, "train", train)
    assert main(list(argv)) == 0
    return heard[0]


@pytest.mark.parametrize("name", ["digits", "mnist28"])
def test_without_flags_the_recipe_is_the_presets(name, monkeypatch):
    config, images, out, rest = listened(monkeypatch, name)
    assert config == PRESETS[name]
    assert (images.name, rest["held_out"].name, out) == ("digits:train", "digits:test", Path("runs") / name)
    assert (rest["resume"], rest["save_minutes"], rest["keep"], rest["sample_epochs"]) == (False, 5.0, 2, None)
    assert (rest["evaluate_epochs"], rest["tensorboard"], rest["progress"]) == (0.0, False, False)


VALUES = {
    "epochs": ("7.5", 7.5), "batch_size": ("24", 24), "updates": ("alternate", "alternate"),
    "learning_rate_g": ("1e-3", 1e-3), "learning_rate_d": ("4e-4", 4e-4), "beta1": ("0", 0.0), "beta2": ("0.9", 0.9),
    "weight_decay": ("0.25", 0.25), "decay_epochs": ("2", 2.0), "loss": ("hinge", "hinge"),
    "label_smoothing": ("0.1", 0.1), "r1": ("10", 10.0), "spectral_norm": ("", True),
    "diffaugment": ("color,cutout", ("color", "cutout")), "ema": ("0", 0.0),
    "ema_d": ("0.5", 0.5), "precision": ("bfloat16", "bfloat16"),
    "fit": ("", True), "seed": ("9", 9), "image_size": ("16", 16), "image_channels": ("3", 3), "z_dim": ("4", 4),
    "kernel_size": ("5", 5), "generator_channels": ("8,4", (8, 4)), "generator_strides": ("1,2", (1, 2)),
    "discriminator_channels": ("4,8", (4, 8)), "discriminator_strides": ("2,1", (2, 1)),
    "z_distribution": ("normal", "normal"), "output": ("sigmoid", "sigmoid"), "hidden_width": ("6", 6),
    "n_classes": ("10", 10), "batchnorm_affine": ("no", False), "batchnorm_per_unit": ("no", False),
    "batchnorm_epsilon": ("1e-5", 1e-5),
}  # fmt: skip


def test_every_field_has_a_case():
    assert VALUES.keys() == {option.name for option in options()}


@pytest.mark.parametrize("name", VALUES)
def test_every_flag_reaches_its_field(name, monkeypatch):
    text, value = VALUES[name]
    flag = name.replace("_", "-")
    argv = (f"--no-{flag}",) if text == "no" else (f"--{flag}", text) if text else (f"--{flag}",)
    config, *_ = listened(monkeypatch, "digits", *argv)
    assert config == override(PRESETS["digits"], {name: value})
    assert config != PRESETS["digits"]


def test_flags_of_both_records_at_once(monkeypatch):
    argv = ("--generator-channels", "8,4", "--no-fit", "--diffaugment", "color,cutout", "--no-spectral-norm")
    config, *_ = listened(monkeypatch, "digits", *argv, "--epochs", "3")
    changes = {"generator_channels": (8, 4), "diffaugment": ("color", "cutout"), "epochs": 3.0}
    assert config == override(PRESETS["digits"], changes)
    config, *_ = listened(monkeypatch, "digits", "--diffaugment", "")
    assert config == override(PRESETS["digits"], {"diffaugment": ()})


def test_flags_of_the_run(monkeypatch, elsewhere):
    argv = ["--data", str(elsewhere / "grey.npz"), "--out", "there", "--resume", "--save-minutes", "1.5", "--keep", "3"]
    argv += ["--sample-epochs", "2", "--evaluate-epochs", "4", "--tensorboard", "--device", "cpu"]
    _, images, out, rest = listened(monkeypatch, "digits", *argv)
    assert (images.name, images.n, out) == ("grey", 40, Path("there"))
    assert rest["device"].type == "cpu"
    assert (rest["resume"], rest["save_minutes"], rest["keep"], rest["sample_epochs"]) == (True, 1.5, 3, 2.0)
    assert (rest["evaluate_epochs"], rest["tensorboard"], rest["held_out"]) == (4.0, True, None)


def test_a_split_that_is_named_is_the_one_that_is_fitted(monkeypatch):
    _, images, _, rest = listened(monkeypatch, "digits", "--data", "digits:test")
    assert (images.name, rest["held_out"]) == ("digits:test", None)


BAD = [
    (["digit"], "unknown preset 'digit'; did you mean 'digits'"),
    ([], "required: PRESET"),
    (["digits", "--colour", "red"], "unrecognized arguments: --colour red"),
    (["digits", "--epoch", "3"], "unrecognized arguments: --epoch 3"),
    (["digits", "more"], "unrecognized arguments: more"),
    (["digits", "--epochs", "many"], "--epochs: invalid float value: 'many'"),
    (["digits", "--epochs", "0"], "epochs must be more than 0"),
    (["digits", "--epochs", "nan"], "epochs must be"),
    (["digits", "--batch-size", "1"], "batch_size must be from 2"),
    (["digits", "--batch-size", "1.5"], "--batch-size: invalid int value: '1.5'"),
    (["digits", "--beta1", "1"], "beta1 and beta2 less than 1"),
    (["digits", "--r1", "-1"], "r1 must be from 0"),
    (["digits", "--loss", "hing"], "--loss: invalid choice: 'hing'"),
    (["digits", "--generator-channels", "8,x"], "--generator-channels: invalid .*'8,x'"),
    (["digits", "--generator-channels", "8"], "1 channels but 2 strides"),
    (["digits", "--diffaugment", "colour"], "did you mean 'color'"),
    (["digits", "--loss", "hinge", "--label-smoothing", "0.1"], "label_smoothing is of the bce loss"),
    (["digits", "--device", "tpu"], "unknown device 'tpu'"),
    (["digits", "--data", "absent.npz"], "no such file or folder, nor a data set"),
    (["digits", "--data", "SETS/text.npz"], "text.npz cannot be read"),
    (["digits", "--data", "mnist"], "MNIST: not in data, or not whole; .*--download"),
    (["digits", "--data", "SETS/large.npz"], "large is 1x16x16, the network wants 1x8x8; add --fit"),
    (["digits", "--data", "SETS/rgb.npz"], "rgb is 3x8x8, the network wants 1x8x8; add --image-channels 3"),
    (["cifar32", "--data", "digits"], "digits:train is 1x8x8, the network wants 3x32x32; add --image-channels 1"),
    (["digits", "--data", "SETS/few.npz"], "few has 9 images, fewer than a minibatch; lower --batch-size"),
    (["digits", "--data", "SETS/unlabelled.npz", "--n-classes", "10"], "wants labels from 0 to 9 on all images"),
    (["digits", "--n-classes", "5"], "wants labels from 0 to 4 on all images"),
    (["digits", "--resume"], "holds no run to go on with"),
    (["digits", "--out", "SETS/text.npz"], "text.npz: cannot be made"),
    (["digits", "--out", "SETS/text.npz", "--resume"], "holds no run to go on with"),
    (["digits", "--data", "SETS/unlabelled.npz", "--evaluate-epochs", "1"], "needs a label on every image"),
    (["digits", "--keep", "0"], "keep"),
    (["digits", "--keep", "-1"], "keep"),
    (["digits", "--save-minutes", "nan"], "save.minutes"),
    (["digits", "--save-minutes", "-1"], "save.minutes"),
    (["digits", "--sample-epochs", "nan"], "sample.epochs"),
    (["digits", "--sample-epochs", "inf"], "sample.epochs"),
    (["digits", "--sample-epochs", "-1"], "sample.epochs"),
    (["digits", "--data", "SETS/grey.npz", "--evaluate-epochs", "nan"], "evaluate.epochs"),
    (["digits", "--data", "SETS/grey.npz", "--evaluate-epochs", "-1"], "evaluate.epochs"),
]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=[" ".join(argv) or "nothing" for argv, _ in BAD])
def test_bad_input_is_one_line_and_nothing_is_written(argv, message, capsys, elsewhere):
    # a recipe that is over at once, should anything go through; what follows overrides it
    quick = [*argv[:1], *SMALL, "--epochs", "0.1", *argv[1:]] if argv[:1] == ["digits"] else argv
    before = sorted(elsewhere.iterdir())
    code, out, err = run(capsys, *(word.replace("SETS", str(elsewhere)) for word in quick))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("training: ")
    assert re.search(message, err), err
    assert written() == []
    assert sorted(elsewhere.iterdir()) == before


def test_a_folder_that_cannot_be_written_to_is_one_line(capsys):
    """It is there, so that making it succeeds; and not even root may write in it."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("no folder here that refuses files from everybody")
    code, _, err = run(capsys, "digits", *SMALL, "--epochs", "0.1", "--out", "/proc/self/task")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "/proc/self/task" in err


def test_debug_shows_where_an_error_came_from(capsys):
    code, _, err = run(capsys, "digits", "--beta1", "1", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("training: ")


def test_interrupted_before_the_run_is_one_line(capsys, monkeypatch):
    def train(*arguments, **rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", train)
    code, out, err = run(capsys, "digits")
    assert (code, out, err) == (130, "", "training: interrupted; what was saved stays\n")


def test_help_lists_every_flag_and_preset(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for option in options():
        assert f"--{option.name.replace('_', '-')}" in out
    assert all(name in out for name in PRESETS)
    assert preset("digits").architecture.z_dim == 32


# keep lists


def keep_list(folder, name="grey", keep=range(0, 40, 2), **changes):
    """Of the images of `elsewhere`."""
    images = open_split(str(folder / f"{name}.npz"))
    record = {
        "format": FORMAT, "data": images.name, "data_sha256": images.sha256, "split": images.split, "n": images.n,
        "keep": list(keep),
    }  # fmt: skip
    path = folder / "keep.json"
    path.write_text(json.dumps(record | changes))
    return path


def test_with_a_keep_list_only_its_images_are_trained_on(monkeypatch, elsewhere):
    path = keep_list(elsewhere)
    data = str(elsewhere / "grey.npz")
    _, every, *_ = listened(monkeypatch, "digits", "--data", data)
    _, images, *_ = listened(monkeypatch, "digits", "--data", data, "--keep-list", str(path))
    assert (every.n, images.n, images.name) == (40, 20, "grey")
    assert torch.equal(images.tensor(), every.tensor()[::2])
    assert torch.equal(images.labels, every.labels[::2])
    assert images.fingerprint != every.fingerprint


def test_a_keep_list_that_dedup_wrote(monkeypatch, tmp_path):
    found = dedup.find(open_split("digits:train"), open_split("digits:test"), method="phash")
    dedup.save_keep_list(tmp_path / "keep.json", found)
    _, images, _, rest = listened(monkeypatch, "digits", "--keep-list", str(tmp_path / "keep.json"))
    assert 0 < images.n == len(found.kept) < 898
    assert torch.equal(images.tensor(), open_split("digits:train").tensor()[found.kept])
    assert (rest["held_out"].name, rest["held_out"].n) == ("digits:test", 899)


def test_the_plan_counts_the_images_that_are_kept(capsys, elsewhere):
    flags = ("--data", elsewhere / "grey.npz", "--keep-list", keep_list(elsewhere, keep=range(3, 36)))
    code, out, err = run(capsys, "digits", "--dry-run", *SMALL, "--epochs", "3", *flags)
    assert (code, err) == (0, "")
    assert "33 images of grey, 1x8x8" in out
    assert "6 minibatches of 16: 3 epochs of 2" in out
    assert written() == []


def generator_of(out):
    network = load(str(Path(out) / "last.safetensors")).generator
    assert network is not None
    return network.state_dict()


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_sees_kept_images_alone_and_goes_on_with_them_alone(capsys, elsewhere):
    """Other pixels in the rows that are left out change nothing; another list is another run."""
    flags = ("digits", *SMALL, "--epochs", "4", "--data", elsewhere / "grey.npz", "--keep-list")
    path = keep_list(elsewhere)
    assert run(capsys, *flags, path, "--out", "a")[0] == 0
    x = np.load(elsewhere / "grey.npz")["x"]
    np.savez(elsewhere / "half.npz", x=x[::2])
    halves = [*flags[:-3], "--data", elsewhere / "half.npz"]
    assert run(capsys, *halves, "--out", "b")[0] == 0
    weights = generator_of("a")
    assert same(weights, generator_of("b"))
    x[1::2] = 255 - x[1::2]
    np.savez(elsewhere / "grey.npz", x=x)
    assert run(capsys, *flags, keep_list(elsewhere), "--out", "c")[0] == 0
    assert same(weights, generator_of("c"))
    for other in ((*flags[:-1], "--out", "c"), (*flags, keep_list(elsewhere, keep=range(1, 40, 2)), "--out", "c")):
        code, _, err = run(capsys, *other, "--resume")
        assert code == 2
        assert "was trained on other images" in err


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "large"}, r"keep\.json: is of other images \(large\), not of grey"),
        ({"split": "train"}, "is of other images"),
        ({"n": 39}, "is of other images"),
        ({"format": "a list"}, "is not a keep list of dcgan-eval dedup"),
        ({"keep": []}, "keeps no images"),
        ({"keep": [0.0]}, "its rows are not integers"),
        ({"keep": [1, 0]}, "its rows do not ascend from 0 to 39"),
        ({"keep": [40]}, "its rows do not ascend from 0 to 39"),
        ({"keep": range(9)}, "grey has 9 images, fewer than a minibatch"),
    ],
)
def test_keep_lists_that_are_wrong(changes, message, flags, capsys, elsewhere):
    path = keep_list(elsewhere, **changes)
    argv = ("digits", *SMALL, "--data", elsewhere / "grey.npz", "--epochs", "0.1", "--keep-list", path, *flags)
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("training: ")
    assert re.search(message, err), err
    assert written() == []


@pytest.mark.parametrize("name", ["absent.json", "text.npz", ""])
def test_files_that_are_no_keep_lists(name, capsys, elsewhere):
    code, out, err = run(capsys, "digits", "--dry-run", *SMALL, "--keep-list", elsewhere / name)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"training: .* cannot be read as a keep list: .*\n", err)
