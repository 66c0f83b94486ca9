"""What rebuilds a generator and its discriminator: one frozen record, and the paper's networks by name.

Facts that the paper leaves out (BatchNorm's epsilon, where labels join) follow the authors' code, github
Newmu/dcgan_code.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dcgan_eval.runtime.errors import InputError, nearest

ZDistribution = Literal["uniform", "normal"]
Output = Literal["tanh", "sigmoid"]

_LARGEST = 1 << 16  # no field of a real network is larger; keeps a hostile file from asking for terabytes


@dataclass(frozen=True)
class Architecture:
    """What rebuilds a generator and its discriminator.

    The generator projects z by a dense layer to `generator_channels[0]` maps of side image_size / prod(strides);
    transposed convolution i then reads `generator_channels[i]` maps and enlarges them `generator_strides[i]` times;
    the last one draws the image. Convolution i of the discriminator makes `discriminator_channels[i]` maps at stride
    `discriminator_strides[i]`; a dense layer turns the last ones into one logit. BatchNorm follows every layer but
    the generator's last and the discriminator's first and last; no layer has another bias.

    z_distribution: "uniform" in [-1, 1] or "normal" N(0, 1).
    output: the generator's last non-linearity; "tanh" means images in [-1, 1], "sigmoid" in [0, 1].
    hidden_width: units of one more dense layer in each network, next to z and next to the logit; 0 for none.
    n_classes: one-hot labels of this length join the input of every layer; 0 for an unconditional network.
    batchnorm_affine: whether BatchNorm learns a gain and a bias.
    batchnorm_per_unit: whether BatchNorm after the projection of z treats every unit by itself, as the authors do,
        or every channel, as pytorch/examples does.

    Raises InputError when the fields contradict each other or are out of range.
    """

    image_size: int
    image_channels: int
    z_dim: int
    kernel_size: int
    generator_channels: tuple[int, ...]
    generator_strides: tuple[int, ...]
    discriminator_channels: tuple[int, ...]
    discriminator_strides: tuple[int, ...]
    z_distribution: ZDistribution = "uniform"
    output: Output = "tanh"
    hidden_width: int = 0
    n_classes: int = 0
    batchnorm_affine: bool = True
    batchnorm_per_unit: bool = True
    batchnorm_epsilon: float = 1e-8

    def __post_init__(self) -> None:
        for name in ("image_size", "image_channels", "z_dim", "kernel_size", "hidden_width", "n_classes"):
            _check_integer(name, getattr(self, name), 0 if name in ("hidden_width", "n_classes") else 1)
        for network in ("generator", "discriminator"):
            channels, strides = getattr(self, f"{network}_channels"), getattr(self, f"{network}_strides")
            for name, values in ((f"{network}_channels", channels), (f"{network}_strides", strides)):
                if not isinstance(values, tuple) or not 1 <= len(values) <= 32:
                    raise InputError(f"architecture: {name} must be a tuple of 1 to 32 integers, not {values!r}")
                for value in values:
                    _check_integer(name, value, 1)
            if len(channels) != len(strides):
                raise InputError(f"architecture: {network} has {len(channels)} channels but {len(strides)} strides")
            if self.image_size % math.prod(strides):
                raise InputError(
                    f"architecture: image_size {self.image_size} is not divisible by the product of "
                    f"{network}_strides {strides}"
                )
            for stride in strides:
                if not 0 <= self.output_padding(stride) < stride:
                    raise InputError(
                        f"architecture: kernel_size {self.kernel_size} cannot keep sides at stride {stride}"
                    )
        for name, known in (("z_distribution", get_args(ZDistribution)), ("output", get_args(Output))):
            if getattr(self, name) not in known:
                raise InputError(f"architecture: {name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        for name in ("batchnorm_affine", "batchnorm_per_unit"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"architecture: {name} must be true or false, not {getattr(self, name)!r}")
        epsilon = self.batchnorm_epsilon
        if not isinstance(epsilon, float) or not 0 < epsilon < 1:
            raise InputError(f"architecture: batchnorm_epsilon must be a number between 0 and 1, not {epsilon!r}")

    @property
    def padding(self) -> int:
        """Zeros around the input of every convolution: with them a stride divides the side exactly."""
        return (self.kernel_size - 1) // 2

    def output_padding(self, stride: int) -> int:
        # (side - 1) * stride - 2 * padding + kernel_size + output_padding must come to side * stride
        return stride + 2 * self.padding - self.kernel_size

    @property
    def start_size(self) -> int:
        """Side of the maps that the generator's first transposed convolution reads."""
        return self.image_size // math.prod(self.generator_strides)

    @property
    def conv_sizes(self) -> tuple[int, ...]:
        """Side of the maps after each of the discriminator's convolutions."""
        strides = self.discriminator_strides
        return tuple(self.image_size // math.prod(strides[: i + 1]) for i in range(len(strides)))

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value of a pixel inside the networks."""
        return (-1.0, 1.0) if self.output == "tanh" else (0.0, 1.0)

    def to_json_dict(self) -> dict[str, Any]:
        """The fields as JSON values; `from_json_dict` is the inverse."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json_dict(cls, values: Mapping[str, Any]) -> "Architecture":
        """Rebuilds the record from `to_json_dict`'s output. Raises InputError for absent, unknown or invalid fields."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            found = set(values) if isinstance(values, Mapping) else set()
            raise InputError(
                f"architecture: fields absent: {sorted(names - found)}, unknown: {sorted(map(str, found - names))}"
            )
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**fields)


def _check_integer(name: str, value: object, smallest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= _LARGEST:
        raise InputError(f"architecture: {name} must be an integer from {smallest} to {_LARGEST}, not {value!r}")


_LSUN64 = Architecture(
    image_size=64,
    image_channels=3,
    z_dim=100,
    kernel_size=5,
    generator_channels=(1024, 512, 256, 128),
    generator_strides=(2, 2, 2, 2),
    discriminator_channels=(128, 256, 512, 1024),
    discriminator_strides=(2, 2, 2, 2),
)

PRESETS: dict[str, Architecture] = {
    "lsun64": _LSUN64,
    "faces64": _LSUN64,
    "imagenet32": Architecture(
        image_size=32,
        image_channels=3,
        z_dim=256,
        kernel_size=3,
        generator_channels=(512, 512, 256, 256, 128, 128),
        generator_strides=(2, 1, 2, 1, 2, 1),
        discriminator_channels=(128, 128, 256, 256, 512, 512),
        discriminator_strides=(1, 2, 1, 2, 1, 2),
    ),
    "svhn32": Architecture(
        image_size=32,
        image_channels=3,
        z_dim=100,
        # the paper says uniform; the authors' released model is named "100z_gaussian"
        z_distribution="normal",
        kernel_size=5,
        generator_channels=(256, 128, 64),
        generator_strides=(2, 2, 2),
        discriminator_channels=(64, 128, 256),
        discriminator_strides=(2, 2, 2),
    ),
    "cifar32": Architecture(
        image_size=32,
        image_channels=3,
        z_dim=100,
        kernel_size=5,
        generator_channels=(512, 256, 128),
        generator_strides=(2, 2, 2),
        discriminator_channels=(128, 256, 512),
        discriminator_strides=(2, 2, 2),
    ),
    "mnist28": Architecture(
        image_size=28,
        image_channels=1,
        z_dim=100,
        output="sigmoid",
        kernel_size=5,
        generator_channels=(128, 64),
        generator_strides=(2, 2),
        discriminator_channels=(64, 128),
        discriminator_strides=(2, 2),
        hidden_width=1024,
        n_classes=10,
        batchnorm_affine=False,
    ),
    "digits": Architecture(
        image_size=8,
        image_channels=1,
        z_dim=32,
        kernel_size=3,
        generator_channels=(64, 32),
        generator_strides=(2, 1),
        discriminator_channels=(32, 64),
        discriminator_strides=(1, 2),
    ),
    "torch64": Architecture(
        image_size=64,
        image_channels=3,
        z_dim=100,
        z_distribution="normal",
        kernel_size=4,
        generator_channels=(512, 256, 128, 64),
        generator_strides=(2, 2, 2, 2),
        discriminator_channels=(64, 128, 256, 512),
        discriminator_strides=(2, 2, 2, 2),
        batchnorm_per_unit=False,
        batchnorm_epsilon=1e-5,
    ),
}


def preset(name: str) -> Architecture:
    """The architecture of that name in `PRESETS`. Raises InputError, with the nearest name, for an unknown one."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}{nearest(name, list(PRESETS))}")
    return PRESETS[name]
