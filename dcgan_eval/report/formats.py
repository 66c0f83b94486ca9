"""Tables as text for a terminal, Markdown, and LaTeX with booktabs."""

from collections.abc import Sequence

from dcgan_eval.report.table import Table, anchors

_TEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "Δ": r"$\Delta$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "→": r"$\to$",
    "≤": r"$\le$",
    "‡": r"\ddag{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "…": r"\dots{}",
    "[": "{[}",  # which after a line's end would be an option of it
}  # fmt: skip


def text(tables: Sequence[Table]) -> str:
    """For a terminal: each table, then what it rests on."""
    shown = []
    for one in tables:
        cells = [one.columns, *([cell.text for cell in line] for line in one.lines)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        body = [
            "  ".join(
                cell.rjust(width) if one.is_number(i) else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        shown.append("\n".join([one.title, "", *body, "", *one.notes]))
    return "\n\n\n".join(shown)


def markdown(tables: Sequence[Table]) -> str:
    """With a heading each; numbers to the right, the paper's in italics."""
    shown = []
    for one in tables:
        rule = ["---:" if one.is_number(i) else "---" for i in range(len(one.columns))]
        lines = [[_markdown(cell.text, cell.quoted) for cell in line] for line in one.lines]
        rows = [" | ".join(line) for line in ([_markdown(c) for c in one.columns], rule, *lines)]
        table = "\n".join(f"| {row} |" for row in rows)
        notes = "\n".join(f"- {_markdown(note)}" for note in one.notes)
        shown.append(f"### {_markdown(one.title)}\n\n{table}\n\n{notes}\n")
    return "\n".join(shown)


def latex(tables: Sequence[Table]) -> str:
    """A table environment each, by booktabs' rules, for documents with \\usepackage{booktabs}; the paper's in italics.

    Notes stand below. Wide tables want the reader's own \\resizebox or a page turned around.
    """
    shown = []
    for one, name in zip(tables, anchors(one.title for one in tables), strict=True):
        align = "".join("r" if one.is_number(i) else "l" for i in range(len(one.columns)))
        header = " & ".join(_latex(column) for column in one.columns)
        lines = [" & ".join(_latex(cell.text, cell.quoted) for cell in line) + r" \\" for line in one.lines]
        notes = [f"{_latex(note)}.\\par" for note in one.notes]
        shown.append(
            "\n".join(
                [
                    r"\begin{table}",
                    r"\centering",
                    rf"\caption{{{_latex(one.title)}}}",
                    rf"\label{{tab:{name}}}",
                    rf"\begin{{tabular}}{{{align}}}",
                    r"\toprule",
                    header + r" \\",
                    r"\midrule",
                    *lines,
                    r"\bottomrule",
                    r"\end{tabular}",
                    *([r"\par\medskip", r"\begin{minipage}{\linewidth}", r"\footnotesize"] if notes else []),
                    *notes,
                    *([r"\end{minipage}"] if notes else []),
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(shown) + "\n"


def _markdown(text: str, quoted: bool = False) -> str:
    escaped = "".join(f"\\{c}" if c in "\\`*_[]<>|" else c for c in text)
    return f"*{escaped}*" if quoted and escaped else escaped


def _latex(text: str, quoted: bool = False) -> str:
    escaped = "".join(_TEX.get(c, c) for c in text)
    return rf"\emph{{{escaped}}}" if quoted and escaped else escaped
