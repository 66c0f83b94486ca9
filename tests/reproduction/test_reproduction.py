"""The plan of a reproduction: what runs, what stays, what is missing, what fails."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from dcgan_eval import options, reproduction, results
from dcgan_eval.models.architecture import preset
from dcgan_eval.options import CS
from dcgan_eval.reproduction import Inspector, Sources, assemble, plan, running, steps
from dcgan_eval.reproduction.step import FOLDER, Source, Step, marker
from dcgan_eval.runtime.errors import InputError
from tests.builders import RESULT, fails, networks, run, write_authors

PIXELS = ("classify", "--features", "pixels", "--C", "1e-3")


def step(name, *more, argv=PIXELS, spec="digits", **changes):
    out = f"{FOLDER}/steps/{name}.csv"
    given = {"seconds": 1.0, "outputs": (f"steps/{name}.csv",), "options": (), **changes}
    return Step(
        name, f"step {name}", (*argv, *more, "--results", out), reads=(Source("images", spec, "fetch it"),), **given
    )


def done(todo, folder, call=None):
    """The outcomes' status by name, and the commands that were called."""
    called = []

    def record(argv):
        called.append(argv)
        code, out, err = run(*argv)
        if code:
            raise InputError(err.splitlines()[-1])
        return out

    found = running.run(todo, Inspector(folder, Path("data"), False), call or record, lambda _: None)
    return {outcome.step.name: outcome for outcome in found}, called


def statuses(outcomes):
    return {name: outcome.status for name, outcome in outcomes.items()}


def test_what_is_finished_is_not_done_again(tmp_path):
    todo = [step("a"), step("b", "--seed", "1")]
    outcomes, called = done(todo, tmp_path)
    assert statuses(outcomes) == {"a": "made", "b": "made"}
    assert len(called) == 2
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    outcomes, called = done(todo, tmp_path)
    assert (statuses(outcomes), called) == ({"a": "kept", "b": "kept"}, [])
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "steps/a.csv").unlink(),
        lambda folder: (folder / "steps/a.json").unlink(),
        lambda folder: (folder / "steps/a.json").write_text("{"),
        lambda folder: (folder / "steps/a.json").write_text('{"inputs": "0"}'),
        lambda folder: (folder / "steps/a.json").write_text("[]"),
    ],
)
def test_what_is_damaged_is_done_again_and_once(tmp_path, spoil):
    done([step("a")], tmp_path)
    rows = results.read(tmp_path / "steps/a.csv")
    spoil(tmp_path)
    outcomes, called = done([step("a")], tmp_path)
    assert (outcomes["a"].status, len(called)) == ("made", 1)
    assert len(results.read(tmp_path / "steps/a.csv")) == len(rows)  # and not those of before besides


def test_other_options_data_or_versions_are_another_step(tmp_path, monkeypatch):
    done([step("a")], tmp_path)
    inspect = Inspector(tmp_path, Path("data"), False)
    assert inspect(step("a"), {}).status == "finished"
    assert inspect(step("a", "--seed", "1"), {}).status == "to do"
    assert inspect(step("a", spec="digits:train"), {}).status == "to do"
    assert inspect(step("a", options=("--device", "cpu")), {}).status == "finished"  # which changes no number
    monkeypatch.setattr("dcgan_eval.reproduction.step.RECIPE", 0)
    assert inspect(step("a"), {}).status == "to do"


def test_a_failure_leaves_the_others(tmp_path):
    todo = [step("a"), step("b", "--features", "disc:none"), step("c", "--seed", "1")]
    outcomes, _ = done(todo, tmp_path)
    assert statuses(outcomes) == {"a": "made", "b": "failed", "c": "made"}
    assert "none" in outcomes["b"].why
    assert not outcomes["b"].bug
    assert not marker(tmp_path, todo[1]).exists()
    found, index = assemble(tmp_path, ["c", "a"])
    assert list(found) == ["c", "a"]
    assert results.load(tmp_path / "results.csv") == found["c"] + found["a"]
    assert index.read_text().count("digits, all labels: L2-SVM") > 1


def test_a_bug_is_told_from_bad_input(tmp_path, capsys):
    def broken(_):
        raise ZeroDivisionError("of ours")

    outcomes, _ = done([step("a")], tmp_path, broken)
    assert (outcomes["a"].status, outcomes["a"].bug) == ("failed", True)
    assert "ZeroDivisionError: of ours" in capsys.readouterr().err


def test_an_interrupted_step_is_started_anew(tmp_path):
    def stopped(argv):
        results.append(Path(argv[-1]), [RESULT])  # half of what it would write
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        done([step("a")], tmp_path, stopped)
    outcomes, called = done([step("a")], tmp_path)
    assert (outcomes["a"].status, len(called)) == ("made", 1)
    assert RESULT not in results.read(tmp_path / "steps/a.csv")


def test_ctrl_c_in_a_step_ends_the_command_and_the_step_is_not_finished(tmp_path, monkeypatch):
    def stopped(path, rows):
        raise KeyboardInterrupt

    argv = ("reproduce", "digits", "--out", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(results, "append", stopped)
        patch.setattr("dcgan_eval.reproduction.steps", lambda *_: [step("a")])
        code, out, err = run(*argv)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "dcgan-eval: interrupted"
    assert not (tmp_path / "steps/a.json").exists()
    assert not (tmp_path / "index.html").exists()


def test_what_is_missing_is_named_and_what_waits_for_it(tmp_path):
    first = step("first", spec="nowhere.npz")
    second = step("second", after="first")
    outcomes, called = done([first, second], tmp_path / "r")
    assert statuses(outcomes) == {"first": "missing", "second": "missing"}
    assert called == []
    assert not (tmp_path / "r").exists()
    outcomes, called = done([first, second, step("a")], tmp_path)
    assert statuses(outcomes) == {"first": "missing", "second": "missing", "a": "made"}
    assert outcomes["first"].why.endswith("; fetch it")
    said = plan([first, second, step("b")], Inspector(tmp_path, Path("data"), False), "cpu").splitlines()
    assert len(said) == 4
    assert "missing" in said[0]
    assert "nowhere.npz" in said[0]
    assert said[2].split()[2:5] == ["to", "do", "about"]


def test_a_step_may_wait_for_another(tmp_path):
    first, second = step("first"), step("second", "--seed", "1", after="first")
    by_name = {"first": first, "second": second}
    state = Inspector(tmp_path, Path("data"), False)(second, by_name)
    assert (state.status, state.why) == ("waits", "for: step first")
    assert statuses(done([first, second], tmp_path)[0]) == {"first": "made", "second": "made"}


def test_steps_of_every_target_have_names_of_their_own():
    everything = steps("all", Sources(train=True, imagenet="x"))
    names = [each.name for each in everything]
    assert len(set(names)) == len(names) > 20
    for target in reproduction.TARGETS[:-1]:
        assert {each.name for each in steps(target, Sources(train=True))} <= set(names)
    waiting = [each for each in everything if each.after]
    assert waiting
    assert all(names.index(each.after) < names.index(each.name) for each in waiting if each.after)


def test_every_command_of_the_plan_is_one(tmp_path):
    """Each is parsed as typed, with --help in place of the work."""
    for each in steps("all", Sources(train=False, imagenet_disc="x", svhn_disc="x", mnist_gen="x")):
        code, out, err = run(*(word.replace(FOLDER, str(tmp_path)) for word in each.argv), *each.options, "--help")
        assert (code, err) == (0, ""), each.argv
        assert each.argv[0] in out
        options = {word for word in each.argv if word.startswith("--")}
        assert {option for option in options if option not in out} == set(), each.argv


# the command


def test_the_digits_whole(tmp_path):
    """As a newcomer types it; then again, when all is finished."""
    folder = tmp_path / "r"
    code, out, err = run("reproduce", "--out", folder)
    assert code == 0, err
    assert "[15/15]" in err
    assert out.startswith("Summary\n\ndata ")
    for said in ("disc:digits", "per-class:40", "Fréchet distance", "AuthPct", "duplicates"):
        assert said in out
    assert f"{folder / 'index.html'}: every table and figure" in err
    page = (folder / "index.html").read_text()
    for title in ("Table 1: CIFAR-10", "digits, 40 labels per class: L2-SVM", "Does gen:digits copy digits:train?",
                  "Duplicates in digits", "Accuracy by labels", "Accuracy by C", "Accuracy by layer",
                  "Distance by number of samples", "arithmetic: gen:digits, 1 − 1 + 7",
                  "walk: gen:digits"):  # fmt: skip
        assert title in page
    rows = results.load(folder / "results.csv")
    kept = [row for row in rows if row.outcomes is not None]
    assert {row.task for row in kept} == {"classify"}
    assert all(row.outcomes.right(row.n) is not None for row in kept if row.outcomes is not None)
    assert {row.task for row in rows} == {"classify", "fid", "neighbors", "dedup", "walk", "filters", "arithmetic"}
    accuracy = {
        r.features: r.value
        for r in rows
        if (r.metric, r.role, r.labels, r.layer, r.classifier) == ("accuracy", "value", "all", "all", "L2-SVM")
    }
    assert accuracy["disc:digits"] > accuracy["random:digits"] > accuracy["pixels"]
    again = run("reproduce", "--out", folder)
    assert again[:2] == (0, out)
    assert again[2].count("finished before") == 15


def test_a_plan_alone_changes_nothing(tmp_path):
    code, out, err = run("reproduce", "all", "--out", tmp_path / "r", "--dry-run", "--data-root", tmp_path)
    assert (code, out) == (0, "")
    assert not (tmp_path / "r").exists()
    assert "Table 1: disc features, per-class:400" in err
    assert "missing" in err
    assert "--imagenet-disc" in err
    assert "in all" in err


def test_table_1s_network_as_the_authors_released_it(tmp_path):
    """A stand-in of its layout: seventeen arrays of a discriminator, no statistics, kernels as Theano's."""
    generator, discriminator = networks(preset("imagenet32"))
    prefix = write_authors(tmp_path, generator, discriminator, prefix="30")
    assert len(list(tmp_path.glob("30_discrim_params.jl_*.npy"))) == 17
    labels = np.arange(60) % 2
    pixels = np.random.default_rng(0).integers(0, 120, (60, 32, 32, 3)) + 60 * labels[:, None, None, None]
    x = pixels.astype(np.uint8)
    np.savez(tmp_path / "few.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    argv = ("--data", tmp_path / "few.npz", "--features", f"disc:{prefix}", "--C", "1e-3")
    code, _, err = run("classify", *argv, "--results", tmp_path / "r.csv")
    assert code == 0, err
    row = next(row for row in results.load(tmp_path / "r.csv") if row.role == "value")
    assert (row.dimensions, row.trained_on, row.certified) == (28672, "unknown", True)
    assert row.batchnorm == "reestimated"
    plan = run("reproduce", "table1", "--imagenet-disc", prefix, "--cifar10", tmp_path / "few.npz", "--dry-run")
    assert plan[0] == 0
    assert "missing" not in plan[2]
    for number in (11, 14):
        (tmp_path / f"30_discrim_params.jl_{number}.npy").unlink()
    for command in (("info", prefix), ("classify", *argv)):
        fails(
            run(*command), r"30_discrim_params\.jl_11\.npy, 30_discrim_params\.jl_14\.npy: absent.* Newmu/dcgan_code on"
        )


def test_table_2_from_the_official_files(tmp_path, monkeypatch):
    """SVHN's .mat files, where --download finds them already, and a stand-in of the authors' layout."""
    monkeypatch.setattr(options, "DRAWS_OF_TABLE2", 3)
    for name in ("utils", "svhn"):
        monkeypatch.setattr(f"torchvision.datasets.{name}.check_integrity", lambda path, md5=None: Path(path).is_file())
    rng = np.random.default_rng(0)
    for split, n in (("train", 11_200), ("test", 200)):  # 10,000 are set aside
        y = np.arange(n) % 10
        bright = rng.integers(0, 156, (n, 8, 8, 3))
        bright[np.arange(n), y // 8, y % 8] += 90  # the place of a bright square tells the class
        x = bright.astype(np.uint8).repeat(4, 1).repeat(4, 2)
        content = {"X": x.transpose(1, 2, 3, 0), "y": np.where(y == 0, 10, y)[:, None].astype(np.uint8)}
        savemat(tmp_path / f"{split}_32x32.mat", content)
    generator, discriminator = networks(preset("svhn32"))
    prefix = write_authors(tmp_path, generator, discriminator, prefix="200")
    argv = ("--svhn-disc", prefix, "--data-root", tmp_path, "--download", "--out", tmp_path / "r")
    code, _, err = run("reproduce", "table2", *argv)
    assert code == 0, err
    rows = {
        (row.features, row.classifier): row
        for row in results.load(tmp_path / "r/results.csv")
        if (row.metric, row.role) == ("error", "value")
    }
    assert set(rows) == {
        ("disc:authors-200", "L2-SVM"), ("random:svhn32", "L2-SVM"), ("pixels", "L2-SVM"), ("pixels", "1-NN"),
    }  # fmt: skip
    for (_, classifier), row in rows.items():
        assert (row.data, row.labels, row.n, row.n_reference) == ("SVHN", "labels:1000", 200, 1000)
        assert len(row.draws) == 3
        if classifier == "L2-SVM":
            assert row.C in CS
            assert row.C_by == "validation of other draws"
            assert row.certified
    # of all that are not set aside
    assert "BatchNorm reestimated on 1200 of SVHN:train" in rows["disc:authors-200", "L2-SVM"].features_protocol
    assert rows["pixels", "L2-SVM"].value < 30
    page = (tmp_path / "r/index.html").read_text()
    assert "Table 2: SVHN, error" in page
    assert "22.48" in page
    assert "200 test images, not 26,032" in page


def test_a_part_of_which_nothing_can_be_done(tmp_path):
    code, out, err = run("reproduce", "table1", "--out", tmp_path / "r", "--data-root", tmp_path)
    assert (code, out) == (2, "")
    assert not (tmp_path / "r").exists()
    last = err.splitlines()[-1]
    assert last.startswith("dcgan-eval: reproduce table1: nothing could be done: ")
    assert "; fetch it with --download, or name images by --cifar10. And no checkpoint is named; name one by" in last


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["table9"], "reproduce table9: no such part of the paper"),
        (["digts"], "did you mean 'digits'"),
        (["--imagenet", "x"], "--imagenet x: applies only to --train"),
        (["--out", __file__], "is a file; want a folder"),
        (["--num-samples", "0"], "num"),
    ],
)
def test_what_the_command_refuses(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails(run("reproduce", *argv), message)
    assert os.listdir(tmp_path) == []


def test_table_3_of_a_network_that_is_named(table3_files, tmp_path):
    folder = tmp_path / "r"
    argv = (
        "--mnist",
        table3_files / "x.npz",
        "--mnist-gen",
        table3_files / "netG.safetensors",
        "--num-samples",
        "50",
        "--out",
        folder,
    )
    code, out, err = run("reproduce", "table3", *argv)
    assert code == 0, err
    assert re.search(r"^x:test +gen:netG.* 50 +error ", out, re.M)
    assert (folder / "figures/table3.png").read_bytes().startswith(b"\x89PNG")
    assert "Table 3: x test digits" in (folder / "index.html").read_text()
    assert "finished before" in run("reproduce", "table3", *argv)[2]
    # more samples are another step
    code, _, err = run("reproduce", "table3", *argv, "--num-samples", "60")
    assert (code, "finished before" in err) == (0, False)


def test_a_step_that_fails_is_told_and_the_exit_code_says_so(table3_files, tmp_path):
    """Samples can be drawn, but there are no test images to find neighbours of."""
    folder = tmp_path / "r"
    np.savez(tmp_path / "one.npz", x=np.zeros((30, 28, 28), np.uint8), y=np.arange(30) % 10)
    argv = ("--mnist", tmp_path / "one.npz", "--mnist-gen", table3_files / "netG.safetensors", "--out", folder)
    code, _, err = run("reproduce", "figures", *argv, "--data-root", tmp_path)
    assert code == 2
    lines = err.splitlines()
    assert any(line.startswith("failed: mnist: does the generator copy?") for line in lines)
    assert any(line.startswith("missing: CIFAR-10: duplicates") for line in lines)
    assert "Traceback" not in err
    assert (folder / "figures/mnist-samples.png").exists()
    assert "mnist: samples" in (folder / "index.html").read_text()
