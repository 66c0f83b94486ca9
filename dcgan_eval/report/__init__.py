"""Results → tables and pictures → text, Markdown, LaTeX, one HTML page. Nothing here knows what a tensor is."""

from dcgan_eval.report.charts import charts
from dcgan_eval.report.formats import latex, markdown, text
from dcgan_eval.report.page import page
from dcgan_eval.report.pictures import pictures
from dcgan_eval.report.pivot import pivot
from dcgan_eval.report.table import Cell, Figure, Table
from dcgan_eval.report.tables import everything, paper_tables, tables

__all__ = [
    "Cell",
    "Figure",
    "Table",
    "charts",
    "everything",
    "latex",
    "markdown",
    "page",
    "paper_tables",
    "pictures",
    "pivot",
    "tables",
    "text",
]
