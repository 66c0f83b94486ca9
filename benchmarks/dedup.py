"""Claim: near-duplicates are found that equal pixels, perceptual hashes and the paper's equal codes miss, few images
are taken for others, and time grows linearly: 100,000 images in less than ten minutes on two cores.

    python -m benchmarks.dedup tinyimagenet32.npz:train [--planted 1000]

Of so many images a copy each is planted that is encoded again (JPEG, quality 75), moved by a pixel, brightened, and
mirrored; recall is the share of copies that fall into the group of their image. What else is left out is judged by its
pixels: false are those that correlate less than 0.9 with every image of their group (with the first 20 of it), mirrored
and moved as may be.
"""

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmarks.arguments import add_data_root
from dcgan_eval import results
from dcgan_eval.evaluations.dedup import Duplicates, find
from dcgan_eval.images import from_tensor, open_split
from dcgan_eval.options import DuplicateMethod
from dcgan_eval.runtime.random import stream

ALIKE = 0.9
COMPARED = 20  # members of a group that an image is compared with


def encoded_again(images: Tensor) -> Tensor:
    out = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=75)
        out.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(out)


def moved(images: Tensor) -> Tensor:
    return functional.pad(images.float(), (1, 1, 1, 1), mode="reflect").to(torch.uint8)[:, :, 1:-1, :-2]


def brightened(images: Tensor) -> Tensor:
    return (images.float() * 1.1 + 8).clamp(0, 255).round().to(torch.uint8)


def mirrored(images: Tensor) -> Tensor:
    return images.flip(3)


PLANTED: dict[str, Callable[[Tensor], Tensor]] = {
    "encoded again": encoded_again,
    "moved": moved,
    "brightened": brightened,
    "mirrored": mirrored,
}
RUNS: list[tuple[DuplicateMethod, int | None]] = [
    ("exact", None),
    ("phash", 0),
    ("phash", 4),
    ("phash", 7),
    ("paper", None),
    ("autoencoder", 0),
    ("autoencoder", 4),
    ("autoencoder", 6),
]


def alike(image: Tensor, others: Tensor) -> float:
    """The largest correlation of an image with others, as they are, mirrored and moved by a pixel."""
    wide = functional.pad(torch.cat([others, others.flip(3)]).double(), (1, 1, 1, 1), mode="replicate")
    h, w = image.shape[1:]
    every = torch.cat([wide[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)]).flatten(2)
    vector = image.double().flatten(1)
    every, vector = ((x - x.mean(-1, keepdim=True)).flatten(-2) for x in (every, vector))
    return float((every @ vector / (every.norm(dim=1) * vector.norm() + 1e-9)).max())


def false(found: Duplicates, pixels: Tensor, n: int) -> tuple[int, int]:
    """Of the first n images, how many are left out, and how many of these are like none of their group."""
    out = [row for row in range(n) if found.groups[row] != row]
    wrong = 0
    for row in out:
        members = np.flatnonzero(found.groups[:n] == found.groups[row])
        members = members[members != row][:COMPARED]
        wrong += alike(pixels[row], pixels[torch.from_numpy(members)]) < ALIKE
    return len(out), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    add_data_root(parser)
    parser.add_argument("--planted", type=int, default=1000)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    source = open_split(a.data, root=a.data_root)
    pixels, n = source.tensor(), source.n
    chosen = torch.randperm(n, generator=stream(0, "planted"))[: a.planted]
    copies = torch.cat([change(pixels[chosen]) for change in PLANTED.values()])
    planted = from_tensor(torch.cat([pixels, copies]), name=source.name)
    print(f"{torch.get_num_threads()} threads; {results.versions()}; {results.now()}")
    print(f"{source.name}, sha256 {source.sha256}: {n} images, {len(copies)} copies\n")
    lines = []
    for method, radius in RUNS:
        found = find(planted, method=method, radius=radius, device=a.device)
        same = found.groups[n:].reshape(len(PLANTED), -1) == found.groups[chosen.numpy()]
        left_out, wrong = false(found, pixels, n)
        lines.append(
            {"method": method, "radius": "" if radius is None else str(radius)}
            | {f"{name} %": f"{100 * share:.1f}" for name, share in zip(PLANTED, same.mean(1), strict=True)}
            | {"others": left_out, "false": wrong, "seconds": f"{found.seconds:.0f}"}
        )
        print(lines[-1], flush=True)
    print(f"\n{pd.DataFrame(lines).to_string(index=False)}\n")
    for part in (n // 16, n // 4, n):
        start = time.perf_counter()
        find(source.subset(range(part)), device=a.device)
        print(f"autoencoder, {part:,} images: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
