"""Pictures, in one style: legible at a page's width, in colours that the colour-blind can tell apart."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from dcgan_eval.runtime.errors import InputError
from dcgan_eval.runtime.files import write_whole

if TYPE_CHECKING:  # a report is made without torch, and a table without matplotlib
    from matplotlib.figure import Figure
    from torch import Tensor

Line = tuple[Sequence[float], ...]  # x, y and, if known, both ends of the interval of y
Kind = Literal["png", "svg", "pdf"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Okabe and Ito's, in an order in which neighbours differ in lightness too
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#000000", "#f0e442")
STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # letters that can be searched and edited
    "svg.fonttype": "none",
    "svg.hashsalt": "dcgan-eval",  # equal pictures are equal files
}
APART = 1 / 8  # of a logarithmic axis: values no nearer to each other are named each
NUMBERED = 1024  # images on a contact sheet, at most
FITS = 12  # columns that are legible at a page's width
SHORTEST = 64  # pixels: smaller images are enlarged, each pixel to a square, until a person can see them


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure that a notebook shows as it is, and that is written as PNG, SVG or PDF."""

    figure: "Figure"

    def render(self, kind: Kind) -> bytes:
        from matplotlib import rc_context

        file = io.BytesIO()
        dates = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        with rc_context(STYLE):
            self.figure.savefig(file, format=kind, metadata=dates[kind])
        return file.getvalue()

    def save(self, path: Path) -> None:
        """Of the kind that the name ends in; whole or not at all."""
        write_whole(path, self.render(kind_of(path)))

    def _repr_png_(self) -> bytes:
        return self.render("png")


def kind_of(path: Path) -> Kind:
    """Raises InputError for a name that ends in none of `KINDS`."""
    for kind in KINDS:
        if path.suffix.lower() == f".{kind}":
            return kind
    raise InputError(f"{path}: a picture's name ends in .{', .'.join(KINDS)}")


def grid(images: "Tensor", columns: int, margin: int = 2) -> bytes:
    """A PNG of uint8 (n, 1 or 3, H, W) images in rows of `columns`, `margin` white pixels apart."""
    import torch
    from PIL import Image

    n, c, h, w = images.shape
    zoom = -(-SHORTEST // min(h, w))
    tiles = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    h, w, rows = h * zoom, w * zoom, -(-n // columns)
    sheet = torch.full((c, rows * (h + margin) - margin, columns * (w + margin) - margin), 255, dtype=torch.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (h + margin), i % columns * (w + margin)
        sheet[:, top : top + h, left : left + w] = tile
    picture = Image.fromarray(sheet.permute(1, 2, 0).numpy() if c == 3 else sheet[0].numpy())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def curves(
    panels: Mapping[str, Mapping[str, Line]],
    xlabel: str,
    columns: int = 1,
    logarithmic: Sequence[str] = (),
    log_x: bool = False,
    ylabel: str = "",
    ticks: Sequence[str] = (),
) -> Picture:
    """Panels in rows of `columns`, each titled, over one x; their lines are labelled.

    logarithmic: titles of panels whose values differ by orders of magnitude; below 0.1 they are linear. log_x: whether
    x does. ticks: names of the places 0, 1, … of x.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(6 if columns == 1 else 3.2 * columns, 2.2 * rows), dpi=150, layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
        for ax in axes[len(panels) :]:
            ax.remove()
        places = sorted({at for lines in panels.values() for x, *_ in lines.values() for at in x})
        named = log_x and all(b / a >= (places[-1] / places[0]) ** APART for a, b in pairwise(places))
        for ax, (title, lines) in zip(axes, panels.items(), strict=False):
            for label, (x, y, *ends) in lines.items():
                marker = "." if len(x) < 30 else ""
                if ends:
                    below, above = ([abs(end - at) for at, end in zip(y, some, strict=True)] for some in ends)
                    ax.errorbar(x, y, (below, above), label=_plain(label), marker=marker, capsize=2)
                else:
                    ax.plot(x, y, label=_plain(label), marker=marker)
            ax.set_title(_plain(title), loc="left")
            ax.set_ylabel(ylabel)
            if ticks:
                ax.set_xticks(range(len(ticks)), ticks)
            if log_x:
                ax.set_xscale("log")
                if named:  # where they were measured, not at powers of ten
                    ax.set_xticks(places, [f"{at:,g}" if at < 1e6 else f"{at:.3g}" for at in places])
                    ax.set_xticks([], minor=True)
            if title in logarithmic:
                ax.set_yscale("symlog", linthresh=0.1)
            if len(lines) > 1 and (columns == 1 or ax is axes[0]):
                ax.legend()
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(xlabel if columns > 1 or ax is axes[-1] else "")
    return Picture(figure)


def suspects(tiles: "Tensor", distances: Mapping[str, Any], xlabel: str) -> Picture:
    """Histograms of distances (n,), one by each name, above rows of images, each a sample and its neighbours.

    tiles: uint8 (rows, 1 + k, 3, H, W).
    """
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows, columns = tiles.shape[:2]
    with rc_context(STYLE):
        figure = Figure(figsize=(1.1 * columns + 0.4, 2.4 + 1.1 * rows), dpi=150, layout="constrained")
        layout = figure.add_gridspec(rows + 2, columns)
        above = figure.add_subplot(layout[:2, :])
        values = np.concatenate(list(distances.values()))
        low, high = values.min(), values.max()
        bins = np.linspace(low, high if high > low else low + 1, 61).tolist()
        for name, some in distances.items():
            above.hist(some, bins=bins, density=True, histtype="stepfilled", alpha=0.5, label=_plain(name))
        above.set_xlabel(_plain(xlabel))
        above.set_yticks([])
        above.legend()
        for i in range(rows):
            for j in range(columns):
                ax = figure.add_subplot(layout[i + 2, j])
                ax.imshow(tiles[i, j].permute(1, 2, 0).numpy(), interpolation="nearest")
                ax.set_axis_off()
                if i == 0 and j < 2:
                    ax.set_title("sample" if j == 0 else "nearest …", fontsize=8)
    return Picture(figure)


def groups(tiles: "Sequence[Tensor]", titles: Sequence[Sequence[str]], title: str) -> Picture:
    """Groups of images, uint8 (k, 3, H, W) of one size each, under their titles; lines hold ten images."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    tile, step, apart, line, width = 1.0, 1.15, 0.35, 1.4, 10 * 1.15 + 4 * 0.35  # in tiles
    places: list[tuple[float, float]] = []
    x = y = 0.0
    for group in tiles:
        if x and x + step * len(group) > width:
            x, y = 0.0, y + line
        places.append((x, y))
        x += step * len(group) + apart
    height = y + line
    with rc_context(STYLE):
        figure = Figure(figsize=(0.7 * width, 0.7 * (height + 0.6)), dpi=150)
        ax = figure.add_axes((0.01, 0.0, 0.98, 1.0))
        ax.set_axis_off()
        ax.text(0, -0.55, title if tiles else f"{title}: no duplicates", fontsize=8, parse_math=False)
        for (left, top), group, names in zip(places, tiles, titles, strict=True):
            for i, (image, name) in enumerate(zip(group, names, strict=True)):
                box = (left + i * step, left + i * step + tile, top + tile, top)
                ax.imshow(image.permute(1, 2, 0).numpy(), extent=box, interpolation="nearest")
                ax.text(box[0], top - 0.05, name, fontsize=5, parse_math=False)
        ax.set_xlim(0, width)
        ax.set_ylim(height - 0.3, -0.9)
    return Picture(figure)


@dataclass(frozen=True, eq=False)
class Tiles:
    """A block of images under a title: uint8 (rows, columns, 1 or 3, H, W); rows, columns, and tiles (row
    after row) may have names. boxes: (tile, left, top, right, bottom) in pixels, drawn around what they hold."""

    title: str
    images: "Tensor"
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    names: Sequence[str] = ()
    boxes: Sequence[tuple[int, float, float, float, float]] = ()


@dataclass(frozen=True)
class Panel:
    """Lines below a sheet, over one x."""

    title: str
    lines: Mapping[str, Line]
    xlabel: str
    ylabel: str


def sheet(strips: "Sequence[Tiles | Sequence[Tiles]]", title: str, panel: Panel | None = None) -> Picture:
    """Blocks of images below one another, those of one strip beside each other, at the width of a page."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    wide, line, gap, apart, margin = 7.0, 0.15, 0.03, 0.25, 0.08  # inches
    beside = [[strip] if isinstance(strip, Tiles) else list(strip) for strip in strips]

    longest = max((len(name) for strip in beside for name in strip[0].rows), default=0)

    def label(tiles: Tiles) -> float:
        """Wide enough for its rows' names; the first blocks stand in line."""
        first = any(tiles is strip[0] for strip in beside)
        letters = longest if first else max(map(len, tiles.rows), default=0)
        return 0.1 + 0.062 * letters if letters else 0.0

    def room(strip: list[Tiles]) -> float:
        """For what is no tile."""
        return sum(map(label, strip)) + apart * (len(strip) - 1) + 2 * margin

    tile = min([0.85, *((wide - room(strip)) / sum(t.images.shape[1] for t in strip) - gap for strip in beside)])
    heading = textwrap.wrap(title, 95)

    def height(tiles: Tiles, titles: int) -> float:
        r = tiles.images.shape[0]
        return line * (titles + bool(tiles.columns)) + r * (tile + gap + line * bool(tiles.names)) + 0.12

    def titled(tiles: Tiles) -> list[str]:
        width = label(tiles) + tiles.images.shape[1] * (tile + gap) + apart / 2
        return textwrap.wrap(tiles.title, max(8, int(width / 0.063)))

    titles = [max(len(titled(tiles)) for tiles in strip) for strip in beside]
    above = 0.22 * len(heading) + 0.1
    high = above + sum(max(height(t, n) for t in strip) for strip, n in zip(beside, titles, strict=True))
    below = 2.1 if panel is not None else 0.0
    with rc_context(STYLE):
        figure = Figure(figsize=(wide, high + below), dpi=150)
        ax = figure.add_axes((0, below / (high + below), 1, high / (high + below)))
        ax.set_axis_off()
        for i, words in enumerate(heading):
            ax.text(margin, 0.16 + 0.22 * i, words, fontsize=9, weight="bold", va="center", parse_math=False)
        y = above
        for strip, n in zip(beside, titles, strict=True):
            x = margin
            for tiles in strip:
                for i, words in enumerate(titled(tiles)):
                    ax.text(x, y + line * (i + 0.5), words, fontsize=8, va="center", parse_math=False)
                left, top = x + label(tiles), y + line * (n + bool(tiles.columns))
                step = tile + gap + line * bool(tiles.names)
                r, c, _, h, w = tiles.images.shape
                for j, name in enumerate(tiles.columns):
                    at = left + j * (tile + gap) + tile / 2
                    ax.text(at, top - line / 2, name, fontsize=7, ha="center", va="center", parse_math=False)
                for i in range(r):
                    at = top + i * step + line * bool(tiles.names)
                    if tiles.rows:
                        ax.text(x, at + tile / 2, tiles.rows[i], fontsize=7, va="center", parse_math=False)
                    for j in range(c):
                        place = left + j * (tile + gap)
                        if i * c + j < len(tiles.names):
                            name = tiles.names[i * c + j]
                            ax.text(place, at - line / 2, name, fontsize=6, va="center", parse_math=False)
                        elif tiles.names:
                            continue
                        image = tiles.images[i, j].permute(1, 2, 0).expand(-1, -1, 3).numpy()
                        box = (place, place + tile, at + tile, at)
                        ax.imshow(image, extent=box, interpolation="nearest", aspect="auto")
                for k, x0, y0, x1, y1 in tiles.boxes:
                    place, at = left + k % c * (tile + gap), top + k // c * step + line * bool(tiles.names)
                    size = (x1 - x0) * tile / w, (y1 - y0) * tile / h
                    corner = place + x0 * tile / w, at + y0 * tile / h
                    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=COLOURS[1], linewidth=1))
                x = left + c * (tile + gap) + apart
            y += max(height(tiles, n) for tiles in strip)
        ax.set_xlim(0, wide)
        ax.set_ylim(high, 0)
        if panel is not None:
            lines = figure.add_axes((0.09, 0.45 / (high + below), 0.88, (below - 0.75) / (high + below)))
            for name, (places, values, *half) in panel.lines.items():
                if half:
                    lines.errorbar(places, values, half[0], label=_plain(name), marker=".", capsize=2)
                else:
                    lines.plot(places, values, label=_plain(name), marker=".", linestyle="--")
            lines.set_title(_plain(panel.title), loc="left")
            lines.set_xlabel(_plain(panel.xlabel))
            lines.set_ylabel(_plain(panel.ylabel))
            lines.legend()
    return Picture(figure)


def fitting(n: int) -> list[int]:
    """Of n columns those that fit a page, evenly, the first and the last among them."""
    return sorted({round(i * (n - 1) / (min(n, FITS) - 1)) for i in range(min(n, FITS))}) if n > 1 else [0]


def numbered(images: "Tensor", title: str, columns: int = FITS) -> Picture:
    """A contact sheet: uint8 (n, 1 or 3, H, W), each under its number."""
    n = len(images)
    rows = -(-n // columns)
    filled = images.new_zeros(rows * columns, *images.shape[1:])
    filled[:n] = images
    return sheet([Tiles("", filled.reshape(rows, columns, *images.shape[1:]), names=[f"{i}" for i in range(n)])], title)


def animation(images: "Sequence[Tensor]", kind: Literal["webp", "gif"]) -> bytes:
    """An endless loop of uint8 (1 or 3, H, W) images, 120 ms each; small ones enlarged, as by `grid`."""
    from PIL import Image

    zoom = -(-4 * SHORTEST // min(images[0].shape[1:]))
    large = [i.expand(3, -1, -1).repeat_interleave(zoom, 1).repeat_interleave(zoom, 2) for i in images]
    first, *others = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in large]
    file = io.BytesIO()
    more = {"lossless": True} if kind == "webp" else {}
    first.save(file, kind, save_all=True, append_images=others, duration=120, loop=0, **more)
    return file.getvalue()


def _plain(text: str) -> str:
    """As it is, without mathematics between dollar signs."""
    return text.replace("$", r"\$")
