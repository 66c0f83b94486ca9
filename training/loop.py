"""The run, from top to bottom."""

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dcgan_eval.features import Extractor
from dcgan_eval.images import Images
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.ranks import ALONE, Ranks
from training import distributed, states
from training.config import TrainConfig
from training.data import minibatches, prepared, steps_per_epoch
from training.evaluate import Evaluation
from training.export import export
from training.monitor import Monitor, samples
from training.states import State
from training.step import Trainer

CHECK = 20  # steps between two looks at the losses, which make the device wait


_log = logging.getLogger(__name__)


def train(
    config: TrainConfig,
    images: Images,
    out: Path,
    *,
    device: torch.device,
    ranks: Ranks = ALONE,
    resume: bool = False,
    save_minutes: float = 5.0,
    keep: int = 2,
    sample_epochs: float | None = None,
    evaluate_epochs: float = 0.0,
    extractor: Extractor | None = None,
    held_out: Images | None = None,
    progress: bool = False,
    tensorboard: bool = False,
) -> bool:
    """Fit G and D to the images; `out` then holds states, metrics.csv, samples/, curves.png and last.safetensors.

    resume: go on from the newest state in `out`; `epochs` may have changed if no rate decays. save_minutes: after so
    many a state is saved, of which the last `keep` are kept. sample_epochs: between two grids of samples; by default
    1, or what makes 50 grids. evaluate_epochs: between two evaluations (0: none), written to
    evaluation.csv, the best also to best.safetensors; extractor, held_out: see `Evaluation`.
    Returns False where SIGINT or SIGTERM stopped the run early; it is saved, and resumes to the same weights (on CPU,
    to the bit). Raises InputError for images that do not fit, a folder that holds another run, an image that cannot
    be read, or a loss that is not finite; what was saved before stays.
    """
    for name, number, low in (
        ("keep", keep, 1),
        ("save_minutes", save_minutes, 0),
        ("sample_epochs", sample_epochs or 1, 1e-6),
        ("evaluate_epochs", evaluate_epochs, 0),
    ):
        if not low <= number < math.inf:
            raise InputError(f"{name} must be a number from {low:g} up, not {number:g}")
    images = prepared(images, config)
    distributed.check_share(config.batch_size, ranks)
    per_epoch = steps_per_epoch(images, config)
    steps = states.total_steps(config, per_epoch)
    evaluation = Evaluation(config, images, held_out, extractor) if evaluate_epochs else None
    state = _begin(config, images, out, device, resume, ranks)
    distributed.check_same(state.step, ranks, device)
    trainer = Trainer(state, device, ranks)
    grids = sample_epochs or max(1.0, config.epochs / 50)
    monitor = None
    if ranks.first:
        evaluates = evaluation is not None
        try:
            monitor = Monitor(out, state, steps, evaluates=evaluates, progress=progress, board=tensorboard)
        except OSError as error:
            raise InputError(f"{out}: cannot be written: {error.strerror}; choose another --out") from error
    saved_at = time.monotonic()

    def due(epochs: float) -> bool:
        return state.step == steps or state.step % max(1, round(epochs * per_epoch)) == 0

    with _signals() as stop:
        try:
            if evaluation is not None and monitor is not None and not monitor.tables["evaluation"].rows:
                monitor.evaluated(evaluation.measure(state))  # what random weights are worth
            for x, y in minibatches(images, config, range(state.step, steps), device, ranks):
                states.set_learning_rates(state, states.learning_rates(config, state.step, steps, per_epoch))
                for name, value in trainer.step(x, y).items():
                    state.told.setdefault(name, []).append(value)

                looking = state.step % CHECK == 0 or state.step == steps
                # ranks must agree to stop; to ask makes a GPU wait, so several of them ask only now and then
                asking = looking or ranks.world == 1 or device.type == "cpu"
                stopping = asking and distributed.any_rank(stop.is_set(), ranks, device)
                if looking:
                    means = {k: distributed.mean_over(torch.stack(v).mean(), ranks) for k, v in state.told.items()}
                    state.told.clear()
                    told = {name: float(value) for name, value in means.items()}
                    wrong = [name for name in ("loss_d", "loss_g") if not math.isfinite(told.get(name, 0.0))]
                    if wrong:
                        raise _diverged(" and ".join(wrong), state, out)
                if monitor is None:
                    if stopping:
                        break
                    continue

                if looking:
                    monitor.record(state.step / per_epoch, told)
                if due(grids):
                    monitor.picture(samples(states.plain(state.drawn_from), config))
                if evaluation is not None and due(evaluate_epochs):
                    best = monitor.evaluated(evaluation.measure(state))
                    if best:
                        monitor.attempt("best.safetensors", lambda: export(state, images, out / "best.safetensors"))
                if stopping or state.step == steps or (looking and time.monotonic() - saved_at > 60 * save_minutes):
                    if not states.is_finite(state):
                        raise _diverged("weights", state, out)
                    kept = monitor.attempt("the state", lambda: states.save(state, out, images, keep))
                    saved_at = time.monotonic()
                    if stopping and not kept:
                        raise InputError(f"{out}: stopped at {state.images:,} images, which could not be saved")
                if stopping:
                    break
            if monitor is not None:
                monitor.curves()
                export(state, images, out / "last.safetensors")
        except InputError:
            if monitor is not None and states.is_finite(state):
                monitor.attempt("the state", lambda: states.save(state, out, images, keep))
            raise
        finally:
            if monitor is not None:
                monitor.close()
    return state.step == steps


def _begin(config: TrainConfig, images: Images, out: Path, device: torch.device, resume: bool, ranks: Ranks) -> State:
    saved = states.saved(out)
    held = [p for p in (*saved, *(out / name for name in ("metrics.csv", "last.safetensors"))) if p.exists()]
    if not resume:
        if held and ranks.first:
            raise InputError(
                f"{out}: holds a run already ({held[-1].name}); go on by --resume, or choose another --out"
            )
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{out}: cannot be made: {error.strerror}; choose another --out") from error
    elif not held:
        raise InputError(f"{out}: holds no run to go on with; start one without --resume")
    if ranks.first:
        images.sha256  # noqa: B018  computed once, now: to read a set of many files takes a while
        for leftover in out.glob(".state-*.safetensors.*"):  # of a process that was killed as it wrote
            leftover.unlink()
    if not resume or not saved:
        if resume:
            _log.warning("%s: holds no saved state; beginning anew", out)
        return states.create(config, device)
    header = states.read_header(saved[-1])
    differ = [k for k, v in config.to_json_dict().items() if header["config"].get(k) != v]
    if differ == ["epochs"] and not config.decay_epochs:  # nothing before the end depends on it
        differ = []
    if differ:
        raise InputError(f"{saved[-1]}: was made with another {', '.join(differ)}; resume with the flags it began with")
    before = header["data"]
    if (before["name"], before["n"], before["selection"]) != (images.name, images.n, images.selection):
        raise InputError(
            f"{saved[-1]}: was trained on other images, {before['n']:,} of {before['name']}; give the same --data"
        )
    if ranks.first and before["sha256"] != images.sha256:
        _log.warning("%s: the images are not the same bytes as when the run began; going on with these", out)
    return states.restore(saved[-1], config, device)


def _diverged(what: str, state: State, out: Path) -> InputError:
    saved = states.saved(out)
    where = f"the last state before is {saved[-1].name}" if saved else "no state was saved before"
    return InputError(
        f"{out}: {what} not finite within the last {CHECK} of {state.step} steps; {where}; "
        "start anew with lower learning rates, or --precision float32"
    )


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Set once SIGINT or SIGTERM has come; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
