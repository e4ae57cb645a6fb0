"""How every plot and the page look: colours, sizes, and matplotlib figures turned into SVG for a page.

A plot is 403 units wide with text of 11 to 12 units, so that it can be read on a phone of 390 pixels, where it fills
the width, and is shown larger on a desktop. Colours: Okabe and Ito (2008), safe for colour-blind readers; shapes and
dashes tell models apart without them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, BLACK, GREY, LIGHT = "#56B4E9", "#E69F00", "#222222", "#6B6B6B", "#D9DEE3"
DENSITY = LinearSegmentedColormap.from_list("density", ["#D3E5F2", BLUE, "#04223A"])
DIVERGING = LinearSegmentedColormap.from_list("diverging", [ORANGE, "#F7F7F7", BLUE])

WIDTH = 5.6  # inches of 72 units
TEXT, SMALL = 12, 11


@dataclass(frozen=True)
class Look:
    """How one model is drawn, wherever it is drawn."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[int, ...]]


_LOOKS = (
    Look(BLUE, "o", "-"),
    Look(ORANGE, "s", (0, (5, 1.5))),  # type: ignore[arg-type]
    Look(GREEN, "^", (0, (3, 1, 1, 1))),
    Look(PURPLE, "D", (0, (1, 1))),
    Look(SKY, "v", (0, (6, 2, 1, 2, 1, 2))),
    Look(AMBER, "P", (0, (2, 2))),
)
MOST = len(_LOOKS)
REFERENCE = Look(BLACK, "X", (0, (4, 3)))


def looks(
    models: Sequence[str], reference: str | None = None, taken: Mapping[str, Look] | None = None
) -> dict[str, Look]:
    """Give each of at most six models, and the reference, a look of its own.

    Args:
        models: their names.
        reference: the model that is drawn in black.
        taken: looks that models have elsewhere, which they keep here.
    """
    kept = {model: look for model, look in (taken or {}).items() if model in models}
    if reference is not None and reference in models:
        kept[reference] = REFERENCE
    free = [look for look in _LOOKS if look not in kept.values()]
    new = dict(zip([model for model in models if model not in kept], free, strict=False))
    return {model: kept.get(model) or new[model] for model in models}


def figure(height: float) -> Figure:
    """Return an empty figure of the one width, in inches high."""
    return Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")


def finish(axes: Axes, *, grid: str | None = None, **labels: object) -> None:
    """Set labels and limits, take away the frame, and lay a pale grid under the data."""
    axes.set(**labels)
    axes.xaxis.label.set_fontsize(TEXT)
    axes.yaxis.label.set_fontsize(TEXT)
    axes.title.set_fontsize(TEXT)
    axes.tick_params(labelsize=SMALL, color=GREY, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    if grid in ("x", "y", "both"):
        axes.grid(axis=grid, color=LIGHT, linewidth=0.8)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Put the legend of one of the axes under the figure, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)


_NUMBERS = re.compile(r'(?<= )(?:d|x|y|x1|x2|y1|y2|points|transform|width|height)="[^"]*"')
_LONG = re.compile(r"(\.\d{2})\d+")
_ID = re.compile(r' id="([^"]*)"')


def svg_text(figure: Figure, slug: str) -> str:
    """Return a figure as an SVG document with text as text; the same figure gives the same bytes."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": slug}):
        figure.savefig(buffer, format="svg", dpi=144, metadata={"Date": None, "Creator": None})
    text = _NUMBERS.sub(lambda match: _LONG.sub(r"\1", match[0]), buffer.getvalue())
    return text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")


def inline_svg(figure: Figure, slug: str, label: str) -> str:
    """Return a figure as an ``<svg>`` element for a page: nothing outside is named, and ids are the page's only ones.

    Args:
        figure: what to draw.
        slug: letters that no other figure of the page has.
        label: what a screen reader says.
    """
    text = svg_text(figure, slug)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    head = re.match(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', text)
    assert head is not None
    body = text[head.end() :].replace("xlink:href", "href")
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", body))
    body = _ID.sub(lambda match: f' id="{slug}-{match[1]}"' if match[1] in used else "", body)
    body = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{slug}-", body)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.S)
    return f'<svg viewBox="{head[1]}" role="img" aria-label="{escape(label, quote=True)}">{body.strip()}'


CSS = """
:root { color-scheme: light; --ink: #1d2733; --soft: #55606c; --line: #dfe4e9; --paper: #fff; --ground: #f4f6f8;
  --accent: #005a8e; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.skip { position: absolute; left: -9999px; }
.skip:focus { position: static; }
header, main, footer { max-width: 1180px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 36px; }
h1 { font-size: clamp(1.6rem, 4vw, 2.2rem); line-height: 1.15; margin: 0 0 .4em; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 0 0 .5em; }
h3 { font-size: 1rem; margin: 0 0 .4em; }
p { margin: 0 0 .8em; max-width: 72ch; }
.lead { font-size: 1.08rem; }
a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: 6px; padding: 0; margin: 18px 0 0; list-style: none; }
nav a { display: block; padding: 5px 12px; border: 1px solid var(--line); border-radius: 999px;
  background: var(--paper); text-decoration: none; font-size: .9rem; white-space: nowrap; }
nav a:hover, nav a:focus { border-color: var(--accent); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 24px; margin: 20px 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0 0;
  padding: 0; }
.facts div { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 12px 16px; }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.3rem; font-weight: 650; line-height: 1.25; overflow-wrap: anywhere; }
.facts small { display: block; font-size: .82rem; font-weight: 400; color: var(--soft); }
.limits { border-left: 4px solid #e69f00; padding-left: 12px; }
.skipped { color: var(--soft); font-style: italic; margin: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 24px;
  align-items: start; margin-top: 16px; }
@media (min-width: 1000px) {
  .one { display: grid; grid-template-columns: minmax(0, 1fr) 580px; gap: 40px; }
  .one > .plots { margin-top: 0; } }
figure { margin: 0; max-width: 580px; min-width: 0; }
.plots > * { min-width: 0; }
figcaption { font-weight: 600; margin-bottom: 6px; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif !important; }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 6px; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
tbody th, thead th:first-child { position: sticky; left: 0; background: var(--paper); }
th.text, td.text { text-align: left; }
.wrap { white-space: normal; min-width: 14ch; max-width: 44ch; }
#claims td.wrap:last-child { min-width: 44ch; }
tr.reference > * { background: #eef3f7; }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--accent); }
footer { color: var(--soft); font-size: .9rem; padding-bottom: 40px; }
@media (max-width: 600px) {
  section { padding: 16px 14px; margin: 14px 0; } header, main, footer { padding-left: 10px; padding-right: 10px; }
  header { padding-top: 20px; } nav ul { flex-wrap: nowrap; overflow-x: auto; padding-bottom: 8px; }
  table { font-size: .84rem; } .wrap { min-width: 11ch; max-width: 15ch; } details .scroll { margin-top: 8px; }
  .facts { grid-template-columns: 1fr 1fr; gap: 8px; }
  .facts div { padding: 10px 12px; } .facts dd { font-size: 1.1rem; } th, td { padding: 5px; } }
@media print { nav { display: none; } section { break-inside: avoid; border: 0; } }
"""
