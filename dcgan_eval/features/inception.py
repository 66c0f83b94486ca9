"""Features of the Inception network of 2015-12-05, on which FID, KID, IS, precision and recall are defined.

The network is torch-fidelity's port of the TensorFlow graph of the authors of FID (TTUR). BatchNorm, an affine map in
evaluation, is folded into the convolutions, and few images at a time stay in a processor's cache.
"""

import copy
import hashlib
import io
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dcgan_eval.features.extract import Extractor, Function, fingerprint
from dcgan_eval.features.weights import published_weights
from dcgan_eval.options import Precision, Resize
from dcgan_eval.runtime.errors import InputError

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
PUBLISHED = "6726825d"  # the first digits of that file's SHA-256
SIDE = 299
CHUNK = 8  # images that the network sees at once on a CPU
RESIZES = {
    "tf1": "bilinear as TensorFlow 1 (torch-fidelity, pytorch-fid's port)",
    "clean": "bicubic, antialiased, not rounded (clean-fid)",
}


def inception_features(
    *,
    weights: Path | None = None,
    resize: Resize = "tf1",
    precision: Precision = "float32",
    logits: bool = False,
    download: bool = False,
) -> Extractor:
    """The 2,048 pooled features of RGB images of any size, and perhaps the 1,008 logits, which have no bias.

    weights: a file of torch-fidelity's layout; by default the published one in torch.hub's folder (TORCH_HOME), where
        `download` puts it. The extractor is called 'inception' if it is that one, else 'inception-like': what rests on
        other weights must not be called FID.
    resize: 'tf1' to the bit as torch-fidelity; 'clean' as clean-fid (Parmar et al. 2022).
    precision: of the convolutions; pooling and logits are float32. 'float32' excludes TF32.
    Raises InputError for weights that are absent, damaged or of another network.
    """
    state, file = published_weights(URL, name="inception", path=weights, download=download)
    with open(file, "rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    body, head = _network(state, file)
    name = "inception" if sha256.startswith(PUBLISHED) else "inception-like"
    dtype = getattr(torch, precision)

    @cache
    def on(device: torch.device) -> Function:
        moved = copy.deepcopy(body).to(device, dtype)
        nn.utils.convert_conv2d_weight_memory_format(moved, torch.channels_last)
        last = head.to(device)

        def function(images: Tensor) -> Tensor:
            size = CHUNK if device.type == "cpu" else max(1, len(images))
            out = torch.empty(len(images), 2048 + logits * len(last), device=device)
            for part, rows in zip(torch.split(images, size), torch.split(out, size), strict=True):
                x = (_resized(part, resize) - 128) / 128
                maps = moved(x.to(dtype, memory_format=torch.channels_last))
                rows[:, :2048] = maps.float().mean((2, 3))
                if logits:
                    rows[:, 2048:] = rows[:, :2048] @ last.T
            return out

        return function

    slices = {"pool": slice(0, 2048)} | ({"logits": slice(2048, 2048 + len(head))} if logits else {})
    settings = {"extractor": "inception", "resize": resize, "precision": precision, "logits": logits}
    return Extractor(
        name=name,
        protocol=f"pool{' and logits' * logits} of Inception 2015-12-05, weights {sha256[:8]}; "
        f"images resized to {SIDE}x{SIDE}, {RESIZES[resize]}; {precision}",
        fingerprint=fingerprint(settings, state),
        input_shape=(3, None, None),
        slices=slices,
        on=on,
        dtype=precision,
        trained_on="ImageNet, with labels" if name == "inception" else "unknown",
    )


def _network(state: Mapping[str, Tensor], file: Path) -> tuple[nn.Sequential, Tensor]:
    """Everything before the pooling, and the last layer's weight (1008, 2048)."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # it unpickles the file it is given; this one was written here, of arrays that were not unpickled
    written = io.BytesIO()
    torch.save(dict(state), written)
    written.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):  # it draws weights first, from the global generator
            network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=written)
    except Exception as error:
        raise InputError(f"{file}: not Inception's weights in torch-fidelity's layout; download {URL}") from error
    for block in network.modules():
        if isinstance(getattr(block, "bn", None), nn.BatchNorm2d):
            block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), nn.Identity()
    layers = [layer for name, layer in network.named_children() if name not in ("AvgPool", "fc")]
    return nn.Sequential(*layers).eval().requires_grad_(False), network.fc.weight.detach()


def _resized(images: Tensor, resize: Resize) -> Tensor:
    """uint8 (n, 3, H, W) → float32 (n, 3, 299, 299) in [0, 255]."""
    if resize == "clean":
        x = functional.interpolate(images.float(), (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        return x.clamp(0, 255)
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    like_tensorflow: Callable[..., Tensor] = interpolate_bilinear_2d_like_tensorflow1x
    return like_tensorflow(images.float(), size=(SIDE, SIDE), align_corners=False)
