"""Measure what a network has learnt: classification with its features, FID and its relatives, checks for copying.

>>> from dcgan_eval import ClassifyOptions, classify, open_extractor, open_images
>>> data = open_images("digits")
>>> pixels = open_extractor("pixels")(data["train"])
>>> rows = list(classify(data["train"], data["test"], pixels, ClassifyOptions(protocol="per-class:20")))

Everything that `__all__` names is public and found here; it is imported when it is first used. `classify`, `fid` and
`dedup` take the records of options that the command line is made from; all evaluations take a `Run`, which says where
they work. `classify`, `fid` and `table3` give rows of results, of which `frame` makes a pandas DataFrame; `neighbors`
and `dedup` give what they found.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcgan_eval.evaluations.classify import classify
    from dcgan_eval.evaluations.dedup import dedup
    from dcgan_eval.evaluations.fid import fid
    from dcgan_eval.evaluations.neighbors import neighbors
    from dcgan_eval.evaluations.table3 import table3
    from dcgan_eval.features import Extractor, each, extract, extractor
    from dcgan_eval.images import Images, open_images, open_split
    from dcgan_eval.inputs import open_extractor, open_side
    from dcgan_eval.linear import L2SVC, SoftmaxRegression
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
    "SoftmaxRegression",
    "UncertifiedError",
    "__version__",
    "append_results",
    "classify",
    "dedup",
    "each",
    "extract",
    "extractor",
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
    "ClassifyOptions": "options.ClassifyOptions",
    "DedupOptions": "options.DedupOptions",
    "Extractor": "features.Extractor",
    "FeatureOptions": "options.FeatureOptions",
    "FidOptions": "options.FidOptions",
    "Images": "images.Images",
    "InputError": "runtime.errors.InputError",
    "L2SVC": "linear.L2SVC",
    "Run": "runtime.run.Run",
    "SoftmaxRegression": "linear.SoftmaxRegression",
    "UncertifiedError": "runtime.errors.UncertifiedError",
    "append_results": "results.append",
    "classify": "evaluations.classify.classify",
    "dedup": "evaluations.dedup.dedup",
    "each": "features.each",
    "extract": "features.extract",
    "extractor": "features.extractor",
    "fid": "evaluations.fid.fid",
    "frame": "results.frame",
    "joined": "runtime.ranks.joined",
    "load_checkpoint": "models.checkpoint.load",
    "neighbors": "evaluations.neighbors.neighbors",
    "open_extractor": "inputs.open_extractor",
    "open_images": "images.open_images",
    "open_side": "inputs.open_side",
    "open_split": "images.open_split",
    "read_results": "results.load",
    "table3": "evaluations.table3.table3",
}


def __getattr__(name: str) -> Any:
    """The public name, from where it is defined: importing torch takes seconds, which --help must not wait for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dcgan-eval")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _WHERE[name].rpartition(".")
    return getattr(import_module(f"dcgan_eval.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
