"""What a run will cost, before it is begun."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dcgan_eval.images import Images
from dcgan_eval.runtime.ranks import Ranks
from training import states
from training.config import TrainConfig
from training.data import classes_in_turn, prepared, steps_per_epoch
from training.states import State
from training.step import Recorded, Trainer

TIMED = 4  # steps; an even number holds as many of G as of D


def plan(config: TrainConfig, images: Images, device: torch.device) -> str:
    """Steps, parameters, memory and time of a run on one device; to find out, a few steps are made on noise."""
    images = prepared(images, config)
    n = config.batch_size
    per_epoch = steps_per_epoch(images, config)
    steps = states.total_steps(config, per_epoch)
    state = states.create(config, device)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in state.modules().items()}
    learnt = counts["generator"] + counts["discriminator"]
    weights = 4 * (3 * learnt + sum(counts.values()))  # beside each its gradient and two moments

    trainer = Trainer(state, device, Ranks())
    noise = torch.randint(0, 256, (n, *images.shape), dtype=torch.uint8).to(device)
    y = classes_in_turn(config.architecture, n, device)
    with _outputs(state) as outputs:
        trainer.step(noise, y)
        trainer.step(noise, y)
    if device.type == "cuda":
        for _ in range(2 * Recorded.WARM):
            trainer.step(noise, y)
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(TIMED):
        seen = trainer.step(noise, y)
    float(seen["diversity"])  # wait for the device
    seconds = (time.perf_counter() - start) / TIMED

    c, h, w = images.shape
    return f"""\
data          {images.n:,} images of {images.name}, {c}x{h}x{w}, {_bytes(images.n * c * h * w)}
steps         {steps:,} minibatches of {n}: {config.epochs:g} epochs of {per_epoch:,}
parameters    generator {counts["generator"]:,}, discriminator {counts["discriminator"]:,}
memory        {_bytes(weights)} for weights, gradients and Adam, about {_bytes(sum(outputs) // 2)} for a step
time          about {_duration(steps * seconds)}: {n / seconds:,.1f} images/s in {config.precision} on {device}"""


@contextmanager
def _outputs(state: State) -> Iterator[list[int]]:
    """Bytes of every layer's outputs: what is kept for the backward pass."""
    sizes: list[int] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(output.nbytes)

    leaves = [m for part in state.modules().values() for m in part.modules() if not list(m.children())]
    handles = [leaf.register_forward_hook(record) for leaf in leaves]
    yield sizes
    for handle in handles:
        handle.remove()


def _bytes(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
