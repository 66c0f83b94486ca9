"""Sphinx's configuration."""

import importlib.metadata
import re
from typing import Any

project = "dcgan-eval"
author = "The dcgan-eval developers"
release = importlib.metadata.version("dcgan-eval")
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = f"dcgan-eval {release}"
html_show_sphinx = False
default_role = "literal"  # `so` in docstrings, as in Markdown

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True


def as_written(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Docstrings are prose in paragraphs: nothing in them is markup but `code`."""
    lines[:] = [re.sub(r"(\w)_(?!\w)", r"\1\_", re.sub(r"([*|])", r"\\\1", line.strip())) for line in lines]


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """What comes from elsewhere: a module's imports, and the methods that scikit-learn adds to estimators."""
    foreign = not str(getattr(obj, "__module__", "dcgan_eval")).startswith("dcgan_eval")
    return True if foreign or name.endswith("_request") else None


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", as_written)
    app.connect("autodoc-skip-member", skip)
