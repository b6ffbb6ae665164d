"""One style for every figure, and SVG that is the same to the byte for the same data.

Colours: Okabe and Ito's palette, safe for colour-blind readers; an arm has one colour and one dash
pattern in every figure. Texts stay text in the SVG (searchable, in the page's font); there is no
date and the ids come from the figure's name. On the page colours become CSS variables, so that a
figure follows the reader's light or dark scheme; the files beside it keep plain colours.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

INK, MUTED, RULE, PAPER = "#1c2024", "#60646c", "#d9d9e0", "#fdfdfe"
CLOSED, OPEN, PRUNED = "#0072b2", "#d97706", "#8b8d98"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b8860b", "#6e56cf", "#5b5b66")
Dash = Literal["-", "--", "-.", ":"]
DASHES: tuple[Dash, ...] = ("-", "--", "-.", ":")

# Page variables (report.css) for the colours above, by their value in the files.
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--panel",
    PRUNED: "--pruned",
    OPEN: "--open",
} | {colour: f"--arm-{i}" for i, colour in enumerate(PALETTE)}

_STYLE: Any = {  # matplotlib types the keys one by one
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.2,
    "svg.fonttype": "none",
    "path.simplify": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}


@dataclass(frozen=True)
class Figure:
    """A finished figure. svg: the file's text. width_px: the width below which it scrolls."""

    name: str
    title: str
    caption: str
    svg: str
    width_px: int = 0


@dataclass(frozen=True)
class ArmStyle:
    """How one arm is drawn everywhere. index: its number in the page's palette variables."""

    colour: str
    dash: Dash
    index: int


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """A style per arm, by its place in the comparison; beyond the palette the dashes differ."""
    styles = {}
    for place, arm in enumerate(arms):
        index = place % len(PALETTE)
        styles[arm] = ArmStyle(PALETTE[index], DASHES[(place // len(PALETTE)) % 4], index)
    return styles


@contextmanager
def drawing(name: str, width: float, height: float) -> Iterator[Drawing]:
    """A canvas of `width` × `height` inches in this style, with ids salted by `name`."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        yield Drawing(figsize=(width, height))


def to_svg(canvas: Drawing, name: str, title: str, levels: str) -> str:
    """The SVG of `canvas`: titled, undated, carrying the level pair in words on its lower edge."""
    height = canvas.get_size_inches()[1]
    canvas.text(0.995, 0.045 / height, levels, ha="right", va="bottom", fontsize=6.5, color=MUTED)
    stream = io.StringIO()
    metadata = {"Title": f"{title} ({levels})", "Date": None, "Creator": None}
    canvas.savefig(stream, format="svg", metadata=metadata)
    text = stream.getvalue()
    # Every figure of the page shares one name space of ids.
    text = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\1{_identifier(name)}-", text)
    return text


def for_page(svg: str) -> str:
    """The <svg> element alone, with the palette as CSS variables and no fixed size."""
    text = svg[svg.index("<svg") :]
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text


def figure_name(kind: str, label: str) -> str:
    """The name of a figure, and so of its file, of one kind about the run with this label."""
    return f"{kind}_" + "".join(c if c.isalnum() or c in "._+@=-" else "_" for c in label)


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def ratio_axis(axes: Axes, low: float, high: float, *, vertical: bool = True) -> None:
    """A logarithmic axis of speedups over low..high, ticked at round numbers and marked at 1×."""
    low, high = min(low, high / 1.25), max(high, low * 1.25)
    margin = (high / low) ** 0.05
    low, high = low / margin, high * margin
    ticks = ratio_ticks(low, high)
    axis = axes.yaxis if vertical else axes.xaxis
    (axes.set_yscale if vertical else axes.set_xscale)("log")
    (axes.set_ylim if vertical else axes.set_xlim)(low, high)
    axis.set_ticks(ticks, [f"{tick:g}×" for tick in ticks])
    axis.set_ticks([], minor=True)
    if low < 1 < high:
        line = axes.axhline if vertical else axes.axvline
        line(1.0, color=MUTED, linewidth=0.8, zorder=1.5)


def ratio_ticks(low: float, high: float) -> list[float]:
    """Round numbers within low..high: about 3 to 7 of them."""
    for steps in (
        (1.0, 10.0), (1.0, 3.0, 10.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
        (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0),
    ):  # fmt: skip
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = sorted({round(s * 10.0**d, 9) for d in decades for s in steps})
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks
    return [float(f"{value:.3g}") for value in (low, math.sqrt(low * high), high)]


def legend_above(
    canvas: Drawing, styles: dict[str, ArmStyle], width: float, *, line: bool = True
) -> float:
    """A legend of the arms at the top of a canvas; the height it takes, in inches."""
    handles = [
        Line2D(
            [], [], color=style.colour, linestyle=style.dash if line else "none",
            linewidth=2.0, marker="" if line else "o", markersize=5, label=arm,
        )
        for arm, style in styles.items()
    ]  # fmt: skip
    return legend(canvas, handles, width)


def legend(canvas: Drawing, handles: Sequence[Line2D], width: float, below: float = 0.0) -> float:
    """A legend over `width` inches, read row by row, `below` inches from the top of a canvas; the
    height it takes, in inches."""
    labels = [str(handle.get_label()) for handle in handles]
    columns = max(c for c in range(1, len(labels) + 1) if c == 1 or _fits(labels, c, width))
    canvas.legend(
        handles=[h for column in range(columns) for h in handles[column::columns]],
        loc="upper left",
        bbox_to_anchor=(0.0, 1.0 - below / canvas.get_size_inches()[1]),
        ncols=columns,
        columnspacing=1.4,
        borderaxespad=0.4,
    )
    return 0.16 + 0.17 * math.ceil(len(labels) / columns)


def _fits(labels: Sequence[str], columns: int, width: float) -> bool:
    """Whether a legend of so many columns (matplotlib fills column by column) is at most `width`
    inches."""
    longest = [max(map(len, labels[column::columns])) for column in range(columns)]
    return sum(0.52 + 0.069 * length for length in longest) <= width


def frame(canvas: Drawing, top: float, *, left: float = 0.55, bottom: float = 0.56) -> Axes:
    """One axes with fixed margins in inches, below `top` inches of legend and title."""
    width, height = canvas.get_size_inches()
    across = (width - left - 0.16) / width
    return canvas.add_axes(
        (left / width, bottom / height, across, (height - bottom - top) / height)
    )
