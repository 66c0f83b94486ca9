"""Features of timm's image models: what their classifier reads, by their own transform."""

import difflib
from pathlib import Path
from typing import Literal

import torch

from dcgan_eval.features.extract import Extractor
from dcgan_eval.features.network import each, extractor
from dcgan_eval.features.weights import read_weights
from dcgan_eval.runtime.errors import InputError


def timm_features(
    name: str,
    *,
    weights: Path | Literal["published", "random"] = "published",
    layers: bool = False,
    seed: int = 0,
    download: bool = False,
) -> Extractor:
    """What the classifier of `timm.create_model(NAME)` reads, for RGB images of any size.

    Images go through the model's own transform for evaluation, one by one as PIL images: its size, crop, interpolation,
    mean and standard deviation.
    weights: 'published' are those that timm names for the model, read from Hugging Face's cache (HF_HOME), where
        `download` puts them; a path is a file of a state dict in timm's layout; 'random' are drawn from `seed`.
    layers: also the blocks that timm's feature_info names, each a slice: of maps the mean over the image, of tokens the
        class token or, where there is none, the mean.
    Raises InputError without the package timm, for a model that it does not know, and for weights that are absent,
    damaged or another model's.
    """
    try:
        import timm  # takes longer to import than all the rest
        from timm.data import create_transform, resolve_model_data_config
    except ImportError as error:
        raise InputError("timm: is not installed; pip install 'dcgan-eval[timm]'") from error
    where = f"timm:{name}"
    known = timm.list_models(pretrained=True) + timm.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() names them"
        raise InputError(f"timm has no model {name!r}; {hint}")
    with torch.random.fork_rng(devices=[]):  # timm draws from the global generator
        torch.manual_seed(seed)
        if weights == "random":
            model, origin = timm.create_model(name, num_classes=0), f"random, seed {seed}"
        else:
            file = _published(name, download) if weights == "published" else weights
            state = read_weights(file, where)
            # with its classifier, since without timm would load whatever fits, and leave the rest random
            classes = _classes(name, state)
            overlay = {"state_dict": state, "num_classes": classes}
            try:
                model = timm.create_model(name, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay)
                model.reset_classifier(0)
            except Exception as error:  # of as many kinds as there are models
                line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                raise InputError(f"{where}: {file} does not hold the weights of {name} ({line})") from error
            origin = file.name
    config = resolve_model_data_config(model)
    transform = create_transform(**config, is_training=False)
    named = dict(model.named_modules())
    blocks = [info["module"] for info in model.feature_info] if layers and hasattr(model, "feature_info") else []
    blocks = [block for block in dict.fromkeys(blocks) if block in named]
    settings = ", ".join(
        f"{key} {value}" for key, value in config.items() if key in ("interpolation", "crop_pct", "mean", "std")
    )
    return extractor(
        model,
        transform=each(transform),
        layers=blocks,
        name=where,
        protocol=f"what the classifier reads; images {config['input_size'][1]}x{config['input_size'][2]}, {settings}, "
        f"by timm's own transform; float32; {origin}",
        trained_on="nothing" if weights == "random" else "unknown" if isinstance(weights, Path) else _data(model),
        tokens="first" if getattr(model, "cls_token", None) is not None else "mean",
        skipped=getattr(model, "num_prefix_tokens", 0),
        layout="NHWC" if getattr(model, "output_fmt", "NCHW") == "NHWC" else "NCHW",
    )


def _published(name: str, download: bool) -> Path:
    import timm
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    config = timm.get_pretrained_cfg(name)
    repository = None if config is None else config.hf_hub_id
    if not repository:
        raise InputError(f"timm:{name}: timm names no published weights; give a file by `weights`")
    try:
        return Path(hf_hub_download(repository, "model.safetensors", local_files_only=not download))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        how = "cannot be fetched" if download else "is not in Hugging Face's cache; --download fetches it"
        raise InputError(f"timm:{name}: model.safetensors of {repository} {how}") from error


def _classes(name: str, state: dict[str, torch.Tensor]) -> int:
    """That the classifier of a state dict tells apart; 0 where it has none."""
    import timm

    config = timm.get_pretrained_cfg(name)
    names = () if config is None else config.classifier
    for classifier in (names,) if isinstance(names, str) else names or ():  # of distilled models there are two
        if (weight := state.get(f"{classifier}.weight")) is not None:
            return len(weight)
    return 0


def _data(model: torch.nn.Module) -> str:
    """What timm's tag of the weights says, such as 'in1k' of resnet18.a1_in1k."""
    tag = str(getattr(model, "pretrained_cfg", {}).get("tag", ""))
    return f"as timm's {tag}" if tag else "unknown"
