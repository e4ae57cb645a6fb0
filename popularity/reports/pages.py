"""Pages and texts from templates: one self-contained file, pictures inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from popularity.io import write_atomically
from popularity.reports import report_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Pictures (``heading, svg``) and tables (``caption, table, open``) of a section.
Part = dict[str, list[dict[str, Any]]]


def part(pictures: Sequence[tuple[str, Figure]], *tables: tuple[str, pd.DataFrame, bool]) -> Part:
    """Headings and figures; captions, tables, and whether a table is open or behind a line to click."""
    shown = [{"heading": heading, "figure": figure} for heading, figure in pictures]
    return {"pictures": shown, "tables": [{"caption": c, "table": t, "open": o} for c, t, o in tables]}


def with_svg(parts: dict[str, Part]) -> dict[str, Part]:
    """The parts by their names, each figure as the text of an ``svg`` element."""
    from popularity import plots  # matplotlib is slow to import

    for slug, of_slug in parts.items():
        for number, picture in enumerate(of_slug["pictures"]):
            picture["svg"] = plots.svg(picture.pop("figure"), f"{slug}-{number}")
    return parts


def environment() -> jinja2.Environment:
    """The templates of this package, with the filters that they use."""
    loader, escape = jinja2.PackageLoader("popularity.reports"), jinja2.select_autoescape(("html.jinja",))
    made = jinja2.Environment(loader=loader, autoescape=escape, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {name: getattr(report_tables, name) for name in ("html", "markdown", "cutoff_words")}
    return made


def write_page(template: str, path: Path, context: Mapping[str, Any]) -> Path:
    """Fill a template in; the file appears whole or not at all."""
    text = environment().get_template(template).render(context).strip() + "\n"
    with write_atomically(path) as file:
        file.write(text)
    return path
