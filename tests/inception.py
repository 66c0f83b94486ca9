"""Inception's weights in torch-fidelity's layout, of a seed: the published ones cannot be part of a test."""

import contextlib
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as peer


def write_weights(path: Path, images: Tensor, seed: int = 0) -> None:
    """Drawn as for training, with BatchNorm statistics of the images, so that features are of the usual size."""
    with contextlib.ExitStack() as stack, torch.random.fork_rng(devices=[]):
        stack.enter_context(mock.patch.object(peer, "load_state_dict_from_url", return_value={}))
        stack.enter_context(mock.patch.object(peer.FeatureExtractorInceptionV3, "load_state_dict", return_value=None))
        torch.manual_seed(seed)
        network = peer.FeatureExtractorInceptionV3("inception", ["2048", "logits"])
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.train()
            part.momentum = None
        elif isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        network(images)
    torch.save(network.state_dict(), path)
