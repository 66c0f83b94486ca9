"""Minibatches of real images, in an order that the seed decides."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from dcgan_eval.images import Images, min_resized
from dcgan_eval.models.architecture import Architecture
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.ranks import Ranks
from training.config import TrainConfig

RESIDENT_SHARE = 0.25  # of memory that a set may take to be held on the device whole
AHEAD = 4  # minibatches read before they are asked for, of a set that is streamed

Batch = tuple[Tensor, Tensor | None]  # uint8 (b, C, H, W) and int64 (b,) labels, on the device


def prepared(images: Images, config: TrainConfig) -> Images:
    """The images as the network takes them. Raises InputError where they do not fit, or lack labels that it needs."""
    a = config.architecture
    wanted = (a.image_channels, a.image_size, a.image_size)
    if config.fit:
        if min(images.shape[1:]) < a.image_size:
            c, h, w = images.shape
            raise InputError(f"{images.name} has images of {h}x{w}, smaller than {a.image_size}x{a.image_size}")
        images = min_resized(images, a.image_size)
    if images.shape != wanted:
        c, h, w = images.shape
        advice = (
            f"add --image-channels {c}"
            if c != a.image_channels
            else "add --fit to resize and crop"
            if min(h, w) >= a.image_size
            else f"choose a preset for {h}x{w}, or override --image-size"
        )
        raise InputError(f"{images.name} is {c}x{h}x{w}, the network wants {'x'.join(map(str, wanted))}; {advice}")
    if a.n_classes:
        labels = images.labels
        if labels is None or int(labels.min()) < 0 or int(labels.max()) >= a.n_classes:
            raise InputError(
                f"{images.name}: a conditional network wants labels from 0 to {a.n_classes - 1} on all images"
            )
    return images


def steps_per_epoch(images: Images, config: TrainConfig) -> int:
    """Whole minibatches only; InputError where there is none."""
    if images.n < config.batch_size:
        raise InputError(f"{images.name} has {images.n} images, fewer than a minibatch; lower --batch-size")
    return images.n // config.batch_size


def minibatches(
    images: Images, config: TrainConfig, steps: range, device: torch.device, ranks: Ranks
) -> Iterator[Batch]:
    """This rank's share of the minibatch of each step. The order depends on the seed and the epoch alone.

    What fits is held on the device as uint8; a larger set is read ahead by a thread, which decodes on several.
    """
    share = config.batch_size // ranks.world
    per_epoch = steps_per_epoch(images, config)
    conditional = bool(config.architecture.n_classes)
    labels = images.labels if conditional else None

    def orders(device: torch.device) -> Iterator[Tensor]:
        epoch, order = -1, torch.empty(0)
        for step in steps:
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = torch.randperm(images.n, generator=stream(config.seed, "order", epoch)).to(device)
            start = step % per_epoch * config.batch_size + ranks.rank * share
            yield order[start : start + share]

    if images.n * images.shape[0] * images.shape[1] * images.shape[2] <= RESIDENT_SHARE * memory(device):
        pixels = images.tensor().to(device)
        labels = None if labels is None else labels.to(device)
        for rows in orders(device):
            yield pixels[rows], None if labels is None else labels[rows]
        return

    def load(rows: Tensor) -> Batch:
        x = images.read(rows)
        y = None if labels is None else labels[rows]
        return send(x, device), None if y is None else send(y, device)

    with ThreadPoolExecutor(1) as pool:
        pending: deque[Future[Batch]] = deque()
        try:
            for rows in orders(torch.device("cpu")):
                pending.append(pool.submit(load, rows))
                if len(pending) > AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for job in pending:
                job.cancel()


def send(values: Tensor, device: torch.device) -> Tensor:
    """From the CPU to the device, without waiting for it: a GPU copies from pageable memory only while we wait."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def classes_in_turn(architecture: Architecture, n: int, device: torch.device) -> Tensor | None:
    """Labels 0, 1, … int64 (n,) to draw with; None for an unconditional network."""
    return torch.arange(n, device=device) % architecture.n_classes if architecture.n_classes else None


def memory(device: torch.device) -> int:
    """Bytes that a set may count on: free ones on a GPU, and this rank's part of the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(machine, torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else machine
