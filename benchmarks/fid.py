"""Claim: FID, IS, KID, precision and recall of the same images come at least 3 times faster than from torch-fidelity
on 2 CPU cores, and FID within 0.1 % of its; ten times the images take ten times as long and no more memory.

    python -m benchmarks.fid DATA [--data-root data] [--weights FILE] [--images N] [--rounds R]

DATA: a source with the splits train and test, of which N each are taken. Without the published weights, seeded random
ones of the same layout serve, as the arithmetic is the same. Both sides start from uint8 images in memory and end with
all metrics; rounds alternate. In bfloat16 the difference is measured too: where it is above 0.1 %, float32 is the
choice. Growth is measured in fresh processes, by the peak of their resident memory, for FID and IS, which keep sums.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.arguments import add_data_root
from benchmarks.measure import header
from dcgan_eval.evaluations.fid import fid
from dcgan_eval.features import inception_features
from dcgan_eval.images import Images, from_tensor, open_images
from dcgan_eval.options import FidOptions, Precision
from dcgan_eval.runtime import devices
from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.run import Run
from tests.inception import write_weights

TOLERANCE = 1e-3


class Pixels(Dataset[Tensor]):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


def ours(real: Images, fake: Images, weights: Path, precision: Precision, device: str) -> dict[str, float]:
    extractor = inception_features(weights=weights, precision=precision, logits=True)
    settings = FidOptions(("fid", "is", "kid", "prdc"), kid_subsets=10, kid_subset_size=100, prdc_k=3)
    return {row.metric: row.value for row in fid(real, [fake], extractor, settings, run=Run(device=device))}


def peer(real: Images, fake: Images, weights: Path, device: str) -> dict[str, float]:
    import torch_fidelity

    found = torch_fidelity.calculate_metrics(
        input1=Pixels(fake.tensor()),
        input2=Pixels(real.tensor()),
        fid=True,
        isc=True,
        kid=True,
        prc=True,
        kid_subsets=10,
        kid_subset_size=100,
        cuda=device != "cpu",
        feature_extractor="inception-v3-compat",  # for prc, too, whose default is another network
        feature_extractor_weights_path=str(weights),
        cache=False,
        verbose=False,
    )
    return {"Fréchet distance": found["frechet_inception_distance"], "KID": found["kernel_inception_distance_mean"]}


def timed(call: Callable[[], dict[str, float]]) -> tuple[float, float]:
    start = time.perf_counter()
    found = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, found.get("FID", found.get("Fréchet distance", float("nan")))


def grow(weights: Path, n: int) -> None:
    """In a process of its own: FID and IS of n images; prints seconds and peak memory in MiB."""
    tiles = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Images("noise", "all", (3, 32, 32), None, (), n, lambda rows: tiles[_indices(rows) % 64], lambda: "")
    extractor = inception_features(weights=weights, logits=True)
    start = time.perf_counter()
    list(fid(images, [images], extractor, FidOptions(("fid", "is"))))
    print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _indices(rows: range | Tensor) -> Tensor:
    return torch.arange(rows.start, rows.stop) if isinstance(rows, range) else rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    add_data_root(parser)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--grow", type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.grow:
        grow(a.weights, a.grow)
        return
    device = devices.choose(a.device)
    splits = open_images(a.data, root=a.data_root)
    parts = []
    for split in ("train", "test"):
        rows = torch.randperm(splits[split].n, generator=torch.Generator().manual_seed(0))[: a.images]
        parts.append(from_tensor(splits[split].subset(rows).tensor(), name=splits[split].name))
    real, fake = parts
    with tempfile.TemporaryDirectory() as folder:
        weights, which = a.weights, f"weights {a.weights}"
        if weights is None:
            weights, which = Path(folder) / "inception.pth", "seeded random weights"
            write_weights(weights, real.subset(range(64)).tensor().expand(-1, 3, -1, -1))
        print(f"{a.images} of {real.name} against {a.images} of {fake.name}, {which}; {device}")
        print(f"{header()}\n")
        calls: dict[str, Callable[[], dict[str, float]]] = {
            "torch-fidelity": lambda: peer(real, fake, weights, device),
            "float32": lambda: ours(real, fake, weights, "float32", device),
            "bfloat16": lambda: ours(real, fake, weights, "bfloat16", device),
        }
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        distance: dict[str, float] = {}
        for call in calls.values():  # warm
            if device != "cpu":
                call()
        for _ in range(a.rounds):
            for name, call in calls.items():
                took, distance[name] = timed(call)
                seconds[name].append(took)
        rate = {name: 2 * a.images / statistics.median(took) for name, took in seconds.items()}
        print(f"{'':16}{'images/s':>9}{'ratio':>8}{'FID-like':>12}  off by")
        for name in calls:
            off = abs(distance[name] / distance["torch-fidelity"] - 1)
            ratio = rate[name] / rate["torch-fidelity"]
            print(f"{name:16}{rate[name]:9.1f}{ratio:8.2f}{distance[name]:12.4f}  {off:.1e}")
        holds = abs(distance["bfloat16"] / distance["torch-fidelity"] - 1) <= TOLERANCE
        print(
            f"\nthe choice: {'bfloat16' if holds else 'float32'}, as bfloat16 is {'' if holds else 'not '}within 0.1 %"
        )
        print("\nFID and IS in a process of its own      seconds    peak MiB")
        small = max(64, a.images // 4)
        for n in (small, 10 * small):
            arguments = [sys.executable, "-m", "benchmarks.fid", a.data, "--weights", str(weights), "--grow", str(n)]
            printed = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
            took, peak = map(float, printed.split())
            print(f"{n:6} against {n:6} images            {took:12.1f}{peak:12.0f}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
