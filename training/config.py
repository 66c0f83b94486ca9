"""What decides a run: one frozen record, and the recipes as a table of it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from dcgan_eval.models.architecture import PRESETS as ARCHITECTURES
from dcgan_eval.models.architecture import Architecture
from dcgan_eval.runtime.errors import InputError, nearest
from training.augment import COLUMNS

Updates = Literal["alternate", "both"]
Loss = Literal["bce", "hinge"]
Precision = Literal["float32", "bfloat16"]

AUGMENTATIONS = tuple(COLUMNS)


@dataclass(frozen=True)
class TrainConfig:
    """A recipe: with the data and the seed in it, it decides the weights (on one kind of device, to the bit on CPU).

    The defaults are the paper's (section 4) and, where it is silent, the authors' code: Newmu/dcgan_code,
    faces/train_uncond_dcgan.py and mnist/train_cond_dcgan.py. What the paper does not have is off.
    Raises InputError for values out of range.
    """

    architecture: Architecture
    epochs: Annotated[float, "passes over the images"] = 25.0
    batch_size: Annotated[int, "images of a minibatch, over all ranks"] = 128
    updates: Annotated[
        Updates, "one minibatch for G and the next for D, as the authors; or both networks on every minibatch"
    ] = "alternate"
    learning_rate_g: Annotated[float, "Adam's rate for G"] = 2e-4
    learning_rate_d: Annotated[float, "Adam's rate for D; another than G's gives two time-scales"] = 2e-4
    beta1: Annotated[float, "Adam's decay of the mean of gradients"] = 0.5
    beta2: Annotated[float, "Adam's decay of their squares"] = 0.999
    weight_decay: Annotated[float, "L2, added to the gradient of every parameter, as the authors"] = 1e-5
    decay_epochs: Annotated[float, "the last so many epochs, both rates fall linearly to 0"] = 0.0
    loss: Annotated[Loss, "the paper's (non-saturating), or the hinge of Lim and Ye 2017"] = "bce"
    label_smoothing: Annotated[float, "real images count as 1 - this (Salimans et al. 2016, one-sided)"] = 0.0
    r1: Annotated[float, "gamma of the gradient penalty on real images (Mescheder et al. 2018, eq. 9)"] = 0.0
    spectral_norm: Annotated[bool, "divide D's weights by their largest singular value (Miyato et al. 2018)"] = False
    diffaugment: Annotated[
        tuple[str, ...], f"of {', '.join(AUGMENTATIONS)}: seen by D on all images (Zhao et al. 2020)"
    ] = ()
    ema: Annotated[float, "decay per update of an average of G's weights, drawn from in place of G; 0 for none"] = 0.0
    ema_d: Annotated[float, "the same of D's weights: features are read from the average in place of D"] = 0.0
    precision: Annotated[
        Precision,
        "of convolutions and matrix products; weights and sums are float32, whose convolutions a GPU rounds to TF32",
    ] = "float32"
    fit: Annotated[bool, "resize images by their short side and take the centre, where they are larger"] = False
    seed: Annotated[int, "decides weights, order, z and augmentation"] = 0

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not _is(value, kind):
                raise InputError(f"{name} must be {getattr(kind, '__name__', kind)}, not {value!r}")
        for name, low, high in (
            ("epochs", 0.0, 1e6),
            ("learning_rate_g", 0.0, 1.0),
            ("learning_rate_d", 0.0, 1.0),
            ("beta1", 0.0, 1.0),
            ("beta2", 0.0, 1.0),
            ("weight_decay", 0.0, 1.0),
            ("decay_epochs", 0.0, self.epochs),
            ("label_smoothing", 0.0, 0.5),
            ("r1", 0.0, 1e6),
            ("ema", 0.0, 0.999999),
            ("ema_d", 0.0, 0.999999),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} must be from {low:g} to {high:g}, not {value:g}")
        if self.epochs == 0 or self.beta1 == 1 or self.beta2 == 1:
            raise InputError("epochs must be more than 0, beta1 and beta2 less than 1")
        if not 2 <= self.batch_size <= 1 << 20:
            raise InputError(f"batch_size must be from 2 to {1 << 20}, not {self.batch_size}: BatchNorm needs a batch")
        if not 0 <= self.seed < 1 << 63:
            raise InputError(f"seed must be a non-negative integer below 2^63, not {self.seed}")
        for name, known in (("updates", Updates), ("loss", Loss), ("precision", Precision)):
            if getattr(self, name) not in get_args(known):
                raise InputError(
                    f"unknown {name} {getattr(self, name)!r}{nearest(getattr(self, name), get_args(known))}"
                )
        for name in self.diffaugment:
            if name not in AUGMENTATIONS:
                raise InputError(f"unknown diffaugment {name!r}{nearest(name, AUGMENTATIONS)}")
        if self.label_smoothing and self.loss != "bce":
            raise InputError(f"label_smoothing is of the bce loss; the {self.loss} loss has no labels to smooth")

    def to_json_dict(self) -> dict[str, Any]:
        """The fields as JSON values; `from_json_dict` is the inverse."""
        fields = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}
        return {**fields, "architecture": self.architecture.to_json_dict()}

    @classmethod
    def from_json_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Raises InputError for absent, unknown or invalid fields."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            differ = sorted(names ^ set(values)) if isinstance(values, Mapping) else values
            raise InputError(f"a run of another version: its configuration differs in the fields {differ}")
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**{**fields, "architecture": Architecture.from_json_dict(values["architecture"])})


def _is(value: object, kind: Any) -> bool:
    """Whether the value is of the kind, as JSON tells kinds apart."""
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(isinstance(each, get_args(kind)[0]) for each in value)
    if get_origin(kind) is Literal:
        return isinstance(value, str)
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


@dataclass(frozen=True)
class Option:
    """A field as a flag: how its text is read, what it may be, and what it is for."""

    name: str
    kind: Any
    help: str


def options() -> list[Option]:
    """A flag for every field of TrainConfig, then of Architecture."""
    found = []
    for record in (TrainConfig, Architecture):
        hints = get_type_hints(record, include_extras=True)
        for field in dataclasses.fields(record):
            hint = hints[field.name]
            annotated = get_origin(hint) is Annotated
            kind, text = get_args(hint)[:2] if annotated else (hint, f"{record.__name__}.{field.name}")
            if kind is not Architecture:
                found.append(Option(field.name, kind, text))
    return found


def override(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The recipe with some fields of it, or of its architecture, replaced. Raises InputError as they do."""
    own = {field.name for field in dataclasses.fields(TrainConfig)}
    ours = {name: value for name, value in values.items() if name in own}
    theirs = {name: value for name, value in values.items() if name not in own}
    return dataclasses.replace(config, architecture=dataclasses.replace(config.architecture, **theirs), **ours)


def _recipe(name: str, **fields: Any) -> TrainConfig:
    return TrainConfig(ARCHITECTURES[name], **fields)


PRESETS: dict[str, TrainConfig] = {
    "digits": _recipe("digits", epochs=800.0, updates="both", ema=0.999, diffaugment=("translation",)),
    "mnist28": _recipe("mnist28", epochs=200.0, decay_epochs=100.0, weight_decay=2.5e-5),
    "cifar32": _recipe("cifar32", epochs=100.0),
    "svhn32": _recipe("svhn32", epochs=200.0),
    "imagenet32": _recipe("imagenet32", epochs=30.0),
    "lsun64": _recipe("lsun64", epochs=5.0),
    "faces64": _recipe("faces64", epochs=25.0),
    "torch64": _recipe("torch64", epochs=25.0, batch_size=64, updates="both", weight_decay=0.0),
}


def preset(name: str) -> TrainConfig:
    """The recipe of that name. Raises InputError, with the nearest name, for an unknown one."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}{nearest(name, list(PRESETS))}")
    return PRESETS[name]
