"""Features of torchvision's image classifiers: the input of their last linear layer, after their own pooling."""

import copy
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dcgan_eval.features.extract import CPU_CHUNK, Extractor, Function, fingerprint
from dcgan_eval.features.weights import published_weights
from dcgan_eval.runtime.errors import InputError, nearest

# as their trained weights expect; drawing random ones their way takes minutes
OPTIONS: dict[str, dict[str, Any]] = {
    name: {"transform_input": True, "aux_logits": True, "init_weights": False} for name in ("googlenet", "inception_v3")
}


def torchvision_features(
    name: str, *, weights: Literal["DEFAULT", "random"] = "DEFAULT", seed: int = 0, download: bool = False
) -> Extractor:
    """What the last linear layer of `torchvision.models.NAME` reads, for RGB images of any size.

    Images are resized as a whole, with antialiasing, to the side that the trained weights' own transform crops to,
    and normalised as it does; nothing is cropped.
    weights: 'DEFAULT' are torchvision's best, read from torch.hub's folder (TORCH_HOME), where `download` puts them;
        'random' are drawn from `seed`, for comparison.
    Raises InputError for a model without a last linear layer, and for weights that are absent or damaged.
    """
    import torchvision  # takes longer to import than all the rest, and nothing else needs it
    from torchvision.transforms.v2 import functional as transforms

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise InputError(f"torchvision has no classifier {name!r}{nearest(name, known)}")
    default = torchvision.models.get_model_weights(name).DEFAULT
    model, origin = _model(name, default, weights, seed, download)
    linears = [(path, part) for path, part in model.named_modules() if isinstance(part, nn.Linear)]
    if not linears:
        raise InputError(f"torchvision:{name}: has no last linear layer to take features from; choose another model")
    path, last = linears[-1]
    dimensions = last.in_features
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    model.eval()
    recipe = default.transforms()
    side = recipe.crop_size[0]
    settings = {
        "extractor": f"torchvision:{name}",
        "side": side,
        "interpolation": recipe.interpolation.value,
        "mean": list(recipe.mean),
        "std": list(recipe.std),
    }

    @cache
    def on(device: torch.device) -> Function:
        moved = copy.deepcopy(model).to(device)
        nn.utils.convert_conv2d_weight_memory_format(moved, torch.channels_last)

        def features(images: Tensor) -> Tensor:
            x = transforms.resize(images.float() / 255, [side, side], recipe.interpolation, antialias=True)
            x = transforms.normalize(x, list(recipe.mean), list(recipe.std))
            return moved(x.contiguous(memory_format=torch.channels_last)).flatten(1)

        def function(images: Tensor) -> Tensor:
            size = CPU_CHUNK if device.type == "cpu" else max(1, len(images))
            return torch.cat([features(part) for part in torch.split(images, size)])

        return function

    return Extractor(
        name=f"torchvision:{name}",
        protocol=f"input of {path}; images resized whole to {side}x{side} ({recipe.interpolation.value}, antialiased), "
        f"mean {recipe.mean}, std {recipe.std}; float32; weights {origin}",
        fingerprint=fingerprint(settings, model.state_dict()),
        input_shape=(3, None, None),
        slices={"all": slice(0, dimensions)},
        on=on,
        trained_on="nothing" if weights == "random" else "ImageNet, with labels",
    )


def _model(name: str, default: Any, weights: str, seed: int, download: bool) -> tuple[nn.Module, str]:
    """The model with its weights, and what to call them."""
    import torchvision

    options = OPTIONS.get(name, {})
    if weights == "random":
        # torchvision draws from the global generator: lend it our seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torchvision.models.get_model(name, weights=None, **options), f"random, seed {seed}"
    state, file = published_weights(default.url, name=f"torchvision:{name}", download=download)
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **options)
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InputError(
            f"{file}: damaged (not the weights of {name}); delete it and download {default.url}"
        ) from error
    return model, f"{default} ({file.name})"
