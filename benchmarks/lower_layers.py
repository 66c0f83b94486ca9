"""The first layers of a discriminator as the authors released it, as a checkpoint of its own.

    python -m benchmarks.lower_layers imagenet_gan_pretrain_128f_relu_lrelu_7l_3x3_256z/30 OUT.safetensors [--layers 4]

For a copy of the authors' ImageNet network of which the arrays _11 and _14 are absent: those of its first four layers
are there, and their features do not depend on the rest. What follows them, the logit, is zero.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from dcgan_eval.models.architecture import preset
from dcgan_eval.models.checkpoint import save
from dcgan_eval.models.checkpoint.authors import fill_from, read_arrays
from dcgan_eval.models.networks import Discriminator
from dcgan_eval.runtime.errors import InputError


def lower(prefix: str, layers: int) -> Discriminator:
    """Of the first `layers` convolutions of imagenet32; prefix: up to '_discrim_params.jl_01.npy'."""
    whole = preset("imagenet32")
    channels, strides = whole.discriminator_channels[:layers], whole.discriminator_strides[:layers]
    network = Discriminator(replace(whole, discriminator_channels=channels, discriminator_strides=strides))
    *convolutions, logit = network.parameters()
    files = [Path(f"{prefix}_discrim_params.jl_{i:02}.npy") for i in range(1, len(convolutions) + 1)]
    fill_from(network, [*read_arrays(files), (Path(), np.zeros(logit.shape[::-1], np.float32))])
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix")
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    a = parser.parse_args()
    print(save(a.out, discriminator=lower(a.prefix, a.layers)))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
