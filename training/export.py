"""From a run to a checkpoint that `dcgan-eval` reads."""

from importlib.metadata import version
from pathlib import Path

import torch

from dcgan_eval.images import Images
from dcgan_eval.models import checkpoint
from dcgan_eval.models.networks import reestimate_batchnorm, sample_z, scale_images
from dcgan_eval.runtime.random import stream
from training.states import State, plain

STATISTICS = 100  # minibatches, at most, that BatchNorm statistics are estimated from


def export(state: State, images: Images, path: Path) -> str:
    """Write G and D (their averages, where there are such) with BatchNorm statistics of their own; returns the SHA-256.

    The statistics are those of the weights as they are, over real images for D and over z for G, as
    `reestimate_batchnorm` says: a moving average would lag behind the weights, and mix real with generated images.
    Raises InputError if it cannot be written.
    """
    config = state.config
    a = config.architecture
    device = next(state.generator.parameters()).device
    generator, discriminator = plain(state.drawn_from), plain(state.read_from)
    count = min(STATISTICS, images.n // config.batch_size)
    order = torch.randperm(images.n, generator=stream(config.seed, "statistics"))[: count * config.batch_size]
    chosen = images.subset(order)
    labels: list[torch.Tensor | None] = [None] * count
    if a.n_classes and chosen.labels is not None:
        labels = list(torch.split(chosen.labels.to(device), config.batch_size))
    noise = stream(config.seed, "statistics z")

    reestimate_batchnorm(
        discriminator,
        ((scale_images(batch.to(device), a), labels[i]) for i, batch in enumerate(chosen.batches(config.batch_size))),
    )
    reestimate_batchnorm(
        generator,
        ((sample_z(a, config.batch_size, noise, device), labels[i]) for i in range(count)),
    )
    metadata = {
        "config": config.to_json_dict(),
        "images": state.images,
        "data": images.name,
        "data_fingerprint": images.fingerprint,
        "batchnorm": f"re-estimated on {count} minibatches of {config.batch_size}",
        "dcgan_eval": version("dcgan-eval"),
        "torch": torch.__version__,
    }
    return checkpoint.save(path, generator=generator, discriminator=discriminator, metadata=metadata)
