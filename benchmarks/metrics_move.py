"""Claim: distances, recall, coverage and the classifier score move the right way from no damage to the strongest.

    python -m benchmarks.metrics_move DATA --features disc:CHECKPOINT@1x1 --out results.csv --figure FILE.png
        [--data-root data] [--generator CHECKPOINT] [--real 10000] [--images 3000]

Real images are some of the training split. Judged are others of the test split, always as many: as they are, with
noise, blurred, and with classes left out, at four strengths each, and samples of a generator. The classifier score
rests on a small network that is fitted here to the training split in a minute, with seed 0, and handed over as a
`torch.export` file. Distances must grow with the damage, scores and shares that stand for it must fall; MUST says
which, and where one does not, from none to the strongest, the script ends with exit 1. Precision and density rise with
some damage: they are shown, and must not fall but with noise.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from benchmarks.arguments import add_data_root
from dcgan_eval import figures, report, results
from dcgan_eval.evaluations.fid import fid
from dcgan_eval.features import module_features
from dcgan_eval.features.moments import Statistics
from dcgan_eval.images import Images, from_tensor, open_images
from dcgan_eval.inputs import open_extractor, open_side
from dcgan_eval.options import FeatureOptions, FidOptions, MetricName
from dcgan_eval.results import Row
from dcgan_eval.runtime import devices
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.random import stream
from dcgan_eval.runtime.run import Run

STRENGTHS = {
    "noise": (8, 16, 32, 64),  # standard deviation, of 255
    "blur": (0.5, 1, 2, 4),  # standard deviation in pixels
    "classes dropped": (1, 3, 5, 7),
}
GROW = ("Fréchet distance", "kernel distance")
MUST = {  # which fall with which damage, besides distances, which grow with all
    "noise": ("precision", "coverage", "classifier score"),
    "blur": ("recall", "coverage", "classifier score"),
    "classes dropped": ("recall", "coverage", "classifier score"),
}
METRICS: tuple[MetricName, ...] = ("fid", "kid", "is", "prdc")


class Classifier(nn.Module):
    """uint8 images → class logits."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 128)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
                for a, b in pairwise(widths)
            )
        )
        self.last = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.blocks(images.float() / 127.5 - 1).mean((2, 3)))


def fit_classifier(train: Images, test: Images, path: Path, epochs: int = 3) -> float:
    """Writes it; returns its accuracy on the test images in %."""
    assert train.labels is not None
    assert test.labels is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Classifier(train.shape[0], len(train.classes))
    x, y = train.tensor(), train.labels
    steps = epochs * (len(x) // 128)
    optimiser = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    order = torch.cat([torch.randperm(len(x), generator=stream(0, "order", i)) for i in range(epochs + 1)])
    for step in range(steps):
        rows = order[step * 128 : step * 128 + 128]
        optimiser.zero_grad()
        loss = functional.cross_entropy(network(x[rows]), y[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        logits = torch.cat([network(images) for images in test.batches(512)])
    example = torch.zeros(2, *train.shape, dtype=torch.uint8)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, path)
    return 100 * float((logits.argmax(1) == test.labels).double().mean())


def damaged(images: Images, n: int) -> Iterator[tuple[str, int, Images]]:
    """(damage, level from 0, n images)."""
    everything, labels = images.tensor(), images.labels
    assert labels is not None
    pixels = everything[:n]
    for damage, strengths in STRENGTHS.items():
        yield damage, 0, from_tensor(pixels, name=images.name)
        for level, strength in enumerate(strengths, 1):
            if damage == "noise":
                noise = torch.randn(pixels.shape, generator=stream(0, "noise", strength)) * strength
                changed = (pixels + noise).round().clamp(0, 255).to(torch.uint8)
            elif damage == "blur":
                changed = transforms.gaussian_blur(pixels, [2 * int(3 * strength) + 1] * 2, [strength] * 2)
            else:
                changed = everything[labels >= strength][:n]
                if len(changed) < n:
                    raise InputError(f"{images.name}: has {len(changed)} images without {strength} classes, not {n}")
            yield damage, level, from_tensor(changed, name=f"{images.name}, {damage} {strength:g}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    add_data_root(parser)
    parser.add_argument("--features", required=True)
    parser.add_argument("--generator")
    parser.add_argument("--real", type=int, default=10000)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path, required=True)
    a = parser.parse_args()
    device = devices.choose(a.device)
    splits = open_images(a.data, root=a.data_root)
    train, test = (
        splits[split].subset(torch.randperm(splits[split].n, generator=stream(0, split))[:n])
        for split, n in (("train", a.real), ("test", splits["test"].n))
    )
    command = results.command(["python", "-m", "benchmarks.metrics_move", *sys.argv[1:]]).removeprefix("dcgan-eval ")
    extractor = open_extractor(a.features, FeatureOptions())(train)
    found: dict[str, dict[tuple[str, int], float]] = {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classifier.pt2"
        accuracy = fit_classifier(splits["train"], splits["test"], path)
        print(f"the classifier: {accuracy:.2f} % of {test.name}", flush=True)
        classifier = module_features(path, train.shape)

        def measure(fake: Images | Statistics) -> list[Row]:
            settings = FidOptions(METRICS)
            measured = list(
                fid(
                    train,
                    [fake],
                    extractor,
                    settings,
                    run=Run(device=device, cache=Path(folder), command=command),
                    classifier=classifier,
                )
            )
            print(report.text(report.tables(measured)).split("\n\n")[1], flush=True)
            return measured

        plain: list[Row] = []
        for damage, level, images in damaged(test, a.images):
            measured = plain if level == 0 and plain else measure(images)
            plain = plain or measured
            rows += measured if level or damage == "noise" else []
            for row in measured:
                found.setdefault(row.metric, {})[damage, level] = row.value
        if a.generator:
            rows += measure(open_side(f"gen:{a.generator}", num=a.images, seed=0, device=device))
    panels = {
        metric: {damage: (range(5), [values[damage, level] for level in range(5)]) for damage in STRENGTHS}
        for metric, values in found.items()
    }
    sheet = figures.curves(panels, "strength of the damage, 0: none", columns=3, logarithmic=GROW)
    sheet.save(a.figure)
    results.append(a.out, rows)
    wrong = 0
    for damage, falling in MUST.items():
        for metric in (*GROW, *falling):
            values = [found[metric][damage, level] for level in range(5)]
            sign = 1 if metric in GROW else -1
            good = sign * (values[-1] - values[0]) > 0
            wrong += not good
            print(f"{damage:16} {metric:18} {'ok   ' if good else 'WRONG'} {' '.join(f'{v:.4g}' for v in values)}")
    return int(wrong > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(str(error))
