"""Claim: Inception's features come faster than from torch-fidelity, torchmetrics and pytorch-fid, and images are
resized as clean-fid does faster than by clean-fid.

All start from the same uint8 images in memory, and see them a batch at a time, with the same weights: seeded random
ones in torch-fidelity's layout, as the arithmetic is the same.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Case, Limits
from dcgan_eval.features import Extractor, inception_features
from dcgan_eval.features.inception import SIDE, _resized
from tests.inception import write_weights

BATCH = 64


def noise(n: int, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def by_pytorch_fid(network: Any, images: Tensor) -> None:
    """Floats in [0, 1] go in."""
    with torch.inference_mode():
        for batch in torch.split(images, BATCH):
            network(batch / 255)


def by_module(network: Any, images: Tensor) -> None:
    """torch-fidelity's and torchmetrics' networks take uint8."""
    with torch.inference_mode():
        for batch in torch.split(images, BATCH):
            network(batch)


def ours(extractor: Extractor, images: Tensor) -> None:
    for batch in torch.split(images, BATCH):
        extractor(batch)


def networks(weights: Path, device: torch.device | str) -> dict[str, Any]:
    from pytorch_fid import inception as pytorch_fid
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchmetrics.image.fid import NoTrainInceptionV3

    fidelity = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    metrics = NoTrainInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    state = torch.load(weights, weights_only=True)
    with mock.patch.object(pytorch_fid, "load_state_dict_from_url", return_value=state):
        published = pytorch_fid.InceptionV3([3])
    return {
        "torch-fidelity": fidelity.eval().to(device),
        "torchmetrics": metrics.eval().to(device),
        "pytorch-fid": published.eval().to(device),
    }


def cases(device: torch.device | str) -> Iterator[Case]:
    """By the number of images of 32×32."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "inception.pth"
        write_weights(weights, noise(32))
        extractor = inception_features(weights=weights)
        peers = networks(weights, device)
        for n in (8, 32, 128):
            images = noise(n).to(device)
            yield Case(
                n,
                partial(ours, extractor, images),
                {
                    name: partial(by_pytorch_fid if name == "pytorch-fid" else by_module, network, images)
                    for name, network in peers.items()
                },
            )


def by_clean_fid(images: np.ndarray) -> None:
    from cleanfid.resize import make_resizer

    resize = make_resizer("PIL", False, "bicubic", (SIDE, SIDE))
    for image in images:
        resize(image)


def resizing(limits: Limits) -> Iterator[Case]:
    """By the number of images of 64×64, to 299×299. The limit: reading bytes and writing floats."""
    for n in (16, 64, 256):
        images = noise(n, 64)
        arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
        moved = images.numel() + 4 * n * 3 * SIDE**2
        limit = moved / limits.bandwidth
        yield Case(n, partial(_in_chunks, images), {"clean-fid": partial(by_clean_fid, arrays)}, limit)


def _in_chunks(images: Tensor) -> None:
    """As many at a time as the extractor sees on a CPU."""
    for part in torch.split(images, 8):
        _resized(part, "clean")
