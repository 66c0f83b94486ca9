"""What is seen of a run while it goes on: metrics.csv, TensorBoard, a progress bar, grids of samples."""

import csv
import dataclasses
import functools
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dcgan_eval import figures
from dcgan_eval.models.networks import Generator, sample_z, to_uint8
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole
from dcgan_eval.runtime.random import stream
from training.config import TrainConfig
from training.data import classes_in_turn
from training.evaluate import PROBE, Measurement
from training.states import State

METRICS = ("images", "epoch", "loss_d", "loss_g", "d_real", "d_fake", "diversity", "images_per_second", "seconds")
EVALUATION = ("images", *(field.name for field in dataclasses.fields(Measurement)))
COLLAPSED = 0.1  # share of the real images' diversity below which a generator draws one picture over and over
SAMPLES = 64


class Table:
    """A CSV that grows by a line at a time, each flushed; lines beyond where the run resumes are dropped."""

    def __init__(self, path: Path, columns: Sequence[str], images: int) -> None:
        rows: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="") as file:
                # a line that was cut short by a kill lacks its last fields
                rows = [row for row in csv.DictReader(file) if None not in row.values() and row["images"]]
        rows = [row for row in rows if int(row["images"]) <= images]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, text.getvalue())
        self.rows = rows
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, columns)

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows.append({name: "" if value is None else str(value) for name, value in row.items()})
        self._writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Monitor:
    """The first rank's window on a run in `out`, from where the state is."""

    def __init__(self, out: Path, state: State, steps: int, *, evaluates: bool, progress: bool, board: bool) -> None:
        self.out, self.state = out, state
        start, total = state.images or -1, steps * state.config.batch_size  # -1: what was there is dropped
        self.tables = {"metrics": Table(out / "metrics.csv", METRICS, start)}
        if evaluates:
            self.tables["evaluation"] = Table(out / "evaluation.csv", EVALUATION, start)
        (out / "samples").mkdir(exist_ok=True)
        self.board: Any = None
        if board:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise InputError("--tensorboard needs the package tensorboard; run pip install tensorboard") from error
            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=start + 1)
        self.bar = tqdm(total=total, initial=state.images, unit=" images", unit_scale=True, disable=not progress)
        before = self.tables["metrics"].rows
        spent = float(before[-1]["seconds"]) if before else 0.0
        self._began = time.perf_counter() - spent
        self._last = time.perf_counter(), state.images
        self._warned = False

    def record(self, epoch: float, means: Mapping[str, float]) -> None:
        """One line of metrics."""
        images = self.state.images
        now = time.perf_counter()
        before, seen = self._last
        self._last = now, images
        values = {**means, "images_per_second": (images - seen) / (now - before), "seconds": now - self._began}
        row = {"images": images, "epoch": f"{epoch:.4f}"} | {k: f"{v:.6g}" for k, v in values.items()}
        self.attempt("metrics.csv", lambda: self.tables["metrics"].add(row))
        for name, value in values.items():
            self._show("add_scalar", name, value)
        losses = [f"{name} {value:.3f}" for name, value in means.items() if name.startswith("loss")]
        self.bar.set_postfix_str(" ".join(losses), refresh=False)
        self.bar.update(images - self.bar.n)
        if means["diversity"] < COLLAPSED and not self._warned:
            self._warned = True
            self.say(
                f"at {images:,} images the generator draws nearly one picture: its samples vary "
                f"{means['diversity']:.1%} as much as real images do; a lower --learning-rate-d or --r1 10 may help"
            )

    def evaluated(self, measurements: Sequence[Measurement]) -> bool:
        """Write down an evaluation; whether the probe has never been better, random weights aside.

        A number that is not certified leaves its cell empty, and is reported in one line.
        """
        table = self.tables["evaluation"]
        trained = [row for row in table.rows if row["metric"] == PROBE and int(row["images"])]
        best = max((float(row["value"]) for row in trained if row["value"]), default=float("-inf"))
        if not (self.out / "best.safetensors").exists():
            best = float("-inf")
        for m in measurements:
            row = {"images": self.state.images, **dataclasses.asdict(m)}
            self.attempt("evaluation.csv", functools.partial(table.add, row))
            if m.value is None:
                self.say(f"at {self.state.images:,} images there is no {m.metric}: {' '.join(m.protocol.split())}")
            else:
                self._show("add_scalar", m.metric, m.value)
        probed = [m.value for m in measurements if m.metric == PROBE and m.value is not None]
        return self.state.step > 0 and any(value > best for value in probed)

    def picture(self, sheet: bytes) -> None:
        """Keep a grid of samples."""
        path = self.out / "samples" / f"{self.state.images:09d}.png"
        self.attempt("samples", lambda: write_whole(path, sheet))
        if self.board is not None:
            self._show("add_image", "samples", _pixels(sheet))

    def curves(self) -> None:
        """Losses, diversity and evaluations of the run so far, as curves.png."""

        def line(rows: Sequence[Mapping[str, str]], column: str) -> figures.Line:
            known = [row for row in rows if row.get(column)]
            return [float(row["images"]) for row in known], [float(row[column]) for row in known]

        metrics = self.tables["metrics"].rows
        panels = {
            "loss": {"D": line(metrics, "loss_d"), "G": line(metrics, "loss_g")},
            "mean output of D": {"real": line(metrics, "d_real"), "generated": line(metrics, "d_fake")},
            "diversity of samples, of that of real images": {"": line(metrics, "diversity")},
        }
        if "evaluation" in self.tables:
            rows = self.tables["evaluation"].rows
            for name in dict.fromkeys(row["metric"] for row in rows):
                panels[name] = {"": line([row for row in rows if row["metric"] == name], "value")}
        sheet = figures.curves(panels, "real images")
        self.attempt("curves.png", lambda: sheet.save(self.out / "curves.png"))

    def _show(self, kind: str, name: str, value: Any) -> None:
        """On TensorBoard; its writer fails for good once it has failed, and is then left alone."""
        if self.board is not None and not self.attempt(
            "TensorBoard", lambda: getattr(self.board, kind)(name, value, self.state.images)
        ):
            self.board = None

    def attempt(self, what: str, write: Callable[[], object]) -> bool:
        """Write a file, and whether that went well; on a full disk say so and go on: the next turn tries again."""
        try:
            write()
        except (OSError, InputError) as error:
            why = f"{error.strerror}; make room" if isinstance(error, OSError) else error
            self.say(f"{self.out}: cannot write {what} at {self.state.images:,} images: {why}")
            return False
        return True

    def say(self, text: str) -> None:
        self.bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self.bar.close()
        for name, table in self.tables.items():
            self.attempt(f"{name}.csv", table.close)
        if self.board is not None:
            self.attempt("TensorBoard", self.board.close)


def _pixels(sheet: bytes) -> Tensor:
    import numpy as np
    from PIL import Image

    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(sheet))))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


@torch.no_grad()
def samples(generator: Generator, config: TrainConfig) -> bytes:
    """A PNG of images from the same z at every call: 8 × 8, or a column for every class.

    generator: from `plain`. A minibatch is drawn, and BatchNorm uses its statistics as in training.
    """
    a = config.architecture
    device = next(generator.parameters()).device
    n = max(config.batch_size, SAMPLES, a.n_classes)
    n -= n % (a.n_classes or 1)
    z = sample_z(a, n, stream(config.seed, "samples"), device)
    y = classes_in_turn(a, n, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        images = to_uint8(generator(z, y), a).cpu()
    columns = a.n_classes or 8
    return figures.grid(images[: columns * min(8, n // columns)], columns)
