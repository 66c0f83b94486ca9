"""Measure what a network has learnt: classification with its features, FID and its relatives, checks for copying.

>>> from dcgan_eval import ClassifyOptions, classify, open_extractor, open_images
>>> data = open_images("digits")
>>> pixels = open_extractor("pixels")(data["train"])
>>> rows = list(classify(data["train"], data["test"], pixels, ClassifyOptions(protocol="per-class:20")))

Everything that `__all__` names is public and found here; it is imported when it is first used. The evaluations take the
same records of options that the command line is made from, a `Run` that says where they work, and give rows of results;
`frame` makes a pandas DataFrame of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcgan_eval.evaluations.classify import classify
    from dcgan_eval.evaluations.dedup import dedup
    from dcgan_eval.evaluations.fid import fid
    from dcgan_eval.evaluations.neighbors import neighbors
    from dcgan_eval.evaluations.table3 import table3
    from dcgan_eval.features import Extractor, extract
    from dcgan_eval.images import Images, open_images, open_split
    from dcgan_eval.inputs import open_extractor, open_side
    from dcgan_eval.linear import L2SVC
    from dcgan_eval.models.checkpoint import load as load_checkpoint
    from dcgan_eval.options import ClassifyOptions, DedupOptions, FeatureOptions, FidOptions
    from dcgan_eval.results import append as append_results
    from dcgan_eval.results import frame
    from dcgan_eval.results import load as read_results
    from dcgan_eval.runtime.errors import InputError, UncertifiedError
    from dcgan_eval.runtime.ranks import joined
    from dcgan_eval.runtime.run import Run

    __version__: str

__all__ = [
    "L2SVC",
    "ClassifyOptions",
    "DedupOptions",
    "Extractor",
    "FeatureOptions",
    "FidOptions",
    "Images",
    "InputError",
    "Run",
    "UncertifiedError",
    "__version__",
    "append_results",
    "classify",
    "dedup",
    "extract",
    "fid",
    "frame",
    "joined",
    "load_checkpoint",
    "neighbors",
    "open_extractor",
    "open_images",
    "open_side",
    "open_split",
    "read_results",
    "table3",
]  # fmt: skip

_WHERE = {
    "evaluations.classify": ("classify",),
    "evaluations.dedup": ("dedup",),
    "evaluations.fid": ("fid",),
    "evaluations.neighbors": ("neighbors",),
    "evaluations.table3": ("table3",),
    "features": ("Extractor", "extract"),
    "images": ("Images", "open_images", "open_split"),
    "inputs": ("open_extractor", "open_side"),
    "linear": ("L2SVC",),
    "models.checkpoint": ("load_checkpoint",),
    "options": ("ClassifyOptions", "DedupOptions", "FeatureOptions", "FidOptions"),
    "results": ("append_results", "frame", "read_results"),
    "runtime.errors": ("InputError", "UncertifiedError"),
    "runtime.ranks": ("joined",),
    "runtime.run": ("Run",),
}
_THERE = {"load_checkpoint": "load", "append_results": "append", "read_results": "load"}  # what they are called there


def __getattr__(name: str) -> Any:
    """The public name, from where it is defined: importing torch takes seconds, which --help must not wait for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dcgan-eval")
    for module, names in _WHERE.items():
        if name in names:
            return getattr(import_module(f"dcgan_eval.{module}"), _THERE.get(name, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
