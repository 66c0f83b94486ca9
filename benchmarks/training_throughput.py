"""Claim: a training step of the pytorch/examples DCGAN runs at least 2 times faster here on 2 CPU cores with bfloat16,
and at equal precision its losses are the same.

    python -m benchmarks.training_throughput DATA      a source of at least 2,048 images of 64×64

The peer is the network and the step of pytorch/examples `dcgan/main.py` at its defaults: 64×64, batch 64, 64 filters,
float32, its three backward passes and the values it fetches at every step; its images are ready on the device as
floats, so that no time is lost on loading. Ours is `torch64` with updates on both networks, which is the same
architecture: it starts from the peer's weights and sees the same images and z. Blocks of steps alternate.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.arguments import add_data_root
from benchmarks.measure import Case, header, peak, wait
from dcgan_eval.images import open_images
from dcgan_eval.models.networks import sample_z, scale_images
from dcgan_eval.runtime import devices
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.ranks import Ranks
from training.config import override, preset
from training.states import create
from training.step import Trainer

BATCH, BLOCK, BLOCKS, WARM = 64, 5, 6, 3
Z, WIDTH = 100, 64
Step = Callable[[Tensor], tuple[Tensor | float, Tensor | float]]


def peer_networks() -> tuple[nn.Sequential, nn.Sequential]:
    """Kernels of 4×4; G from z 1×1 to 64×64 by transposed convolutions, D its mirror down to one sigmoid."""
    up: list[nn.Module] = []
    c_in = Z
    for i, c_out in enumerate((8 * WIDTH, 4 * WIDTH, 2 * WIDTH, WIDTH)):
        conv = nn.ConvTranspose2d(c_in, c_out, 4, 2 if i else 1, 1 if i else 0, bias=False)
        up += [conv, nn.BatchNorm2d(c_out), nn.ReLU(True)]
        c_in = c_out
    up += [nn.ConvTranspose2d(c_in, 3, 4, 2, 1, bias=False), nn.Tanh()]
    down: list[nn.Module] = []
    c_in = 3
    for i, c_out in enumerate((WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH)):
        down += [nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False), *([nn.BatchNorm2d(c_out)] if i else [])]
        down += [nn.LeakyReLU(0.2, inplace=True)]
        c_in = c_out
    down += [nn.Conv2d(c_in, 1, 4, 1, 0, bias=False), nn.Sigmoid()]
    return nn.Sequential(*up), nn.Sequential(*down)


def peer_step(generator: nn.Module, discriminator: nn.Module, images: Tensor, noises: list[Tensor]) -> Step:
    criterion = nn.BCELoss()
    of_d, of_g = (torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999)) for n in (discriminator, generator))
    taken = 0

    def step(rows: Tensor) -> tuple[float, float]:
        nonlocal taken
        discriminator.zero_grad()
        real = images[rows]
        label = torch.full((len(real),), 1.0, device=real.device)
        output = discriminator(real).view(-1)
        on_real = criterion(output, label)
        on_real.backward()
        output.mean().item()
        z = noises[taken]
        taken += 1
        fake = generator(z.view(len(real), Z, 1, 1))
        label.fill_(0.0)
        output = discriminator(fake.detach()).view(-1)
        on_fake = criterion(output, label)
        on_fake.backward()
        output.mean().item()
        loss_d = on_real + on_fake
        of_d.step()
        generator.zero_grad()
        label.fill_(1.0)
        output = discriminator(fake).view(-1)
        loss_g = criterion(output, label)
        loss_g.backward()
        output.mean().item()
        of_g.step()
        return loss_d.item(), loss_g.item()

    return step


def noise(step: int, device: torch.device, batch: int = BATCH) -> Tensor:
    """The z that our step draws."""
    config = preset("torch64")
    return sample_z(config.architecture, batch, stream(config.seed, "z", step)).to(device)


def our_step(
    precision: str, peers: tuple[nn.Module, nn.Module], images: Tensor, device: torch.device, batch: int = BATCH
) -> Step:
    """Ours from the peer's weights."""
    config = override(preset("torch64"), {"precision": precision, "batch_size": batch})
    state = create(config, device)
    for ours, theirs in zip((state.generator, state.discriminator), peers, strict=True):
        for mine, given in zip(ours.parameters(), theirs.parameters(), strict=True):
            weight = given.detach()
            if mine.shape != weight.shape:  # their 4×4 convolution from 1×1 and to 1×1 is a dense layer
                weight = weight.flatten(1).T if ours is state.generator else weight.flatten(1)
            mine.data.copy_(weight)
    trainer = Trainer(state, device, Ranks())

    def step(rows: Tensor) -> tuple[Tensor, Tensor]:
        seen = trainer.step(images[rows], None)
        return seen["loss_d"], seen["loss_g"]  # fetched later, as the loop does

    return step


def cases(device: torch.device | str) -> Iterator[Case]:
    """A step of float32 by the size of the minibatch, on noise."""
    device = torch.device(device)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (256, 3, 64, 64), dtype=torch.uint8, generator=generator).to(device)
    floats = scale_images(pixels, preset("torch64").architecture)
    for batch in (16, 64, 256):
        networks = peer_networks()
        for network in networks:
            network.to(device)
        ours = our_step("float32", networks, pixels, device, batch)
        theirs = peer_step(*networks, floats, [noise(0, device, batch)] * 100)
        rows = torch.arange(batch, device=device)
        yield Case(batch, partial(ours, rows), {"pytorch/examples": partial(theirs, rows)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    add_data_root(parser)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = torch.device(devices.choose(arguments.device))
    opened = open_images(arguments.data, root=arguments.data_root)
    images = opened.get("train") or next(iter(opened.values()))
    pixels = (
        images.subset(torch.randperm(images.n, generator=torch.Generator().manual_seed(0))[:2048]).tensor().to(device)
    )
    floats = scale_images(pixels, preset("torch64").architecture)
    print(f"{images.name} ({images.sha256[:12]}), batch {BATCH}, {BLOCKS} blocks of {BLOCK} steps of each in turn")
    print(header())

    torch.backends.cudnn.benchmark = True  # as the published script, for all
    torch.manual_seed(0)
    networks = peer_networks()
    for part in (part for network in networks for part in network.modules()):
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, 0.02)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
    for network in networks:
        network.to(device)
    ours = {precision: our_step(precision, networks, pixels, device) for precision in ("float32", "bfloat16")}
    noises = [noise(step, device) for step in range(WARM + BLOCK * BLOCKS)]  # the published step draws on the device
    steps: dict[str, Step] = {"pytorch/examples": peer_step(*networks, floats, noises), **ours}
    order = torch.arange(100 * BATCH) % len(pixels)

    losses: dict[str, list[tuple[Tensor | float, Tensor | float]]] = {name: [] for name in steps}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    done = 0

    def block(length: int) -> None:
        nonlocal done
        batches = [order[(done + i) * BATCH % len(pixels) :][:BATCH].to(device) for i in range(length)]
        for name, step in steps.items():
            wait(device)
            start = time.perf_counter()
            losses[name] += [step(rows) for rows in batches]
            wait(device)
            seconds[name].append((time.perf_counter() - start) / length)
        done += length

    block(WARM)
    for times in seconds.values():
        times.clear()
    for _ in range(BLOCKS):
        block(BLOCK)

    peaks = {"float32": peak(torch.float32, device), "bfloat16": peak(torch.bfloat16, device)}
    with FlopCounterMode(display=False) as counter:
        ours["float32"](order[:BATCH].to(device))
    flops = counter.get_total_flops()
    print(f"\na step: {flops / 1e9:,.1f} GFLOP here; peak of this machine: ", end="")
    print(", ".join(f"{value / 1e9:,.0f} GFLOP/s in {name}" for name, value in peaks.items()))
    base = statistics.median(seconds["pytorch/examples"])
    print(f"\n{'':18}{'images/s':>10}{'ratio':>8}{'of peak':>9}    losses of D and G: first, mean ± deviation")
    for name, times in seconds.items():
        middle = statistics.median(times)
        share = flops / middle / peaks["bfloat16" if name == "bfloat16" else "float32"]
        d, g = ([float(value) for value in values] for values in zip(*losses[name], strict=True))
        shown = "   ".join(f"{v[0]:.4f}, {statistics.mean(v):.2f} ± {statistics.stdev(v):.2f}" for v in (d, g))
        print(f"{name:18}{BATCH / middle:10.1f}{base / middle:8.2f}{share:9.0%}    {shown}")

    activities = [ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]
    with warnings.catch_warnings(), profile(activities=activities) as profiler:
        warnings.simplefilter("ignore")
        for _ in range(3):
            ours["bfloat16"](order[:BATCH].to(device))
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print("\nwhere a bfloat16 step goes")
    spent = sorted(profiler.key_averages(), key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in spent)
    for event in spent[:10]:
        print(f"{getattr(event, key) / total:6.1%}  {event.key}")


if __name__ == "__main__":
    main()
