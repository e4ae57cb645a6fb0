"""The look of every picture: colours, sizes, legends, and figures turned into SVG.

Colours: Okabe and Ito (2008), safe for colour-blind readers; markers and dashes tell models apart without colour. A
figure of the usual width is 403 units wide with text of 9.5 to 12 units, readable on a phone of 390 pixels. Text stands
outside the plotting area, where it cannot cover data.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

BLUE, ORANGE, BLACK, GREY, LIGHT = "#0072B2", "#D55E00", "#222222", "#6B6B6B", "#D9DEE3"
DENSITY = LinearSegmentedColormap.from_list("density", ["#D3E5F2", BLUE, "#04223A"])
DIVERGING = LinearSegmentedColormap.from_list("diverging", [ORANGE, "#F7F7F7", BLUE])
WIDTH = 5.6  # inches of 72 units
LARGE, MEDIUM, SMALL = 11, 10, 9.5

#: Line styles: the first for the model that others are compared with, then one for each of six others.
STYLES: tuple[dict[str, Any], ...] = tuple(
    {"color": colour, "marker": marker, "linestyle": dash, "markersize": 5.5, "linewidth": 1.6}
    for colour, marker, dash in (
        (BLACK, "X", (0, (4, 3))),
        (BLUE, "o", "-"),
        (ORANGE, "s", (0, (5, 1.5))),
        ("#009E73", "^", (0, (3, 1, 1, 1))),
        ("#CC79A7", "D", (0, (1, 1))),
        ("#56B4E9", "v", (0, (6, 2, 1, 2, 1, 2))),
        ("#E69F00", "P", (0, (2, 2))),
    )
)


def line_styles(models: Sequence[str], reference: str | None, taken: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A line style for each of at most six models; the reference, and those that have one already, keep theirs."""
    known = {**(taken or {}), str(reference): STYLES[0]}
    kept = {name: style for name, style in known.items() if name in models}
    free = iter([style for style in STYLES[1:] if style not in kept.values()])
    return {name: kept[name] if name in kept else next(free) for name in models}


def new_figure(height: float, title: str = "", width: float = WIDTH) -> Figure:
    """Return an empty figure; height and width in inches."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, fontsize=12, fontweight="bold")
    return figure


def finish(axes: Axes, note: str = "", grid: str | None = None, **labels: Any) -> None:
    """Set labels and limits, remove the frame, and put a pale grid (``x``, ``y`` or ``both``) under the data."""
    axes.set(**labels)
    axes.set_title(note, fontsize=SMALL)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(LARGE)
    axes.tick_params(labelsize=MEDIUM, color=GREY, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    if grid is not None:
        axes.grid(axis=grid, color=LIGHT, linewidth=0.8)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def values_beside(axes: Axes, texts: Sequence[str]) -> None:
    """Write a text at the right of each row of a horizontal plot, rows at 0, 1, ...; a hyphen becomes a minus sign."""
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(texts)), [text.replace("-", "\u2212") for text in texts])
    for axis in (axes, beside):
        axis.tick_params(axis="y", length=0, labelsize=MEDIUM)
    beside.spines[["right"]].set_visible(False)


def legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Put the legend of one of the axes below the figure, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)


def svg(figure: Figure, name: str) -> str:
    """Return a figure as an ``<svg>`` element with text as text; the same figure gives the same bytes.

    Args:
        figure: The figure.
        name: A word that no other figure of the same page has: it makes the ids inside unique.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", dpi=144, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text[text.index("<svg") :])  # "axes_1" is in every figure
    return text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
