"""Pieces of the page: tables, figures, sections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import pandas as pd
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype

from popularity.evaluation.report.style import inline_svg

MISSING, MINUS = "–", "\u2212"

#: How the columns of the tables are headed; a column that is not here keeps its name.
HEADINGS = {
    "mse": "MSE", "mse_sd": "± sd", "rmse": "RMSE", "mae": "MAE", "r2": "R²", "spearman": "Spearman",
    "ratio_to_reference": "ratio", "p_value": "p", "auroc": "AUROC", "average_precision": "average precision",
    "f1": "F1", "brier": "Brier", "auroc_sd": "± sd", "value": "points",
    "hits": "share of hits", "low": "from (95 %)", "high": "to (95 %)", "ratio_low": "from (95 %)",
    "ratio_high": "to (95 %)", "song_low": "over songs from", "song_high": "to", "skipped": "folds skipped",
    "cutoff": "cut-off", "auroc_difference": "AUROC difference", "auroc_low": "from (95 %)",
    "auroc_high": "to (95 %)", "theirs": "their method here", "honest": "honest folds here",
    "theirs_low": "theirs, lowest", "theirs_high": "theirs, highest", "honest_sd": "honest, ± sd",
    "within_5": "within 5", "within_10": "within 10",
}  # fmt: skip
_DIGITS = dict.fromkeys(("predicted", "error", "value"), 1)
_DIGITS |= dict.fromkeys(
    ("mse", "mse_sd", "rmse", "mae", "difference", "low", "high", "song_low", "song_high", "mean", "lowest", "highest"),
    2,
)
_DIGITS |= dict.fromkeys(("ratio_to_reference", "ratio_low", "ratio_high", "r2", "spearman"), 3)
_DECIMALS = 3
_LONG = 24  # letters; longer text may be broken over lines


def seconds(value: float) -> str:
    """Say a time so that it can be compared at a glance.

    >>> seconds(0.123), seconds(75), seconds(7300)
    ('0.12 s', '1.2 min', '2.0 h')
    """
    if value < 60:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 3600 else f"{value / 3600:.1f} h"


def number(value: object, digits: int = _DECIMALS) -> str:
    """Write a value: a dash where there is none, a true minus, no minus before zero.

    >>> number(1234.5, 1), number(-0.0001, 2), number(float("nan"))
    ('1,234.5', '0.00', '–')
    """
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return escape(str(value))
    text = f"{value:,.{digits}f}".replace("-", MINUS)
    return text if text.strip(MINUS + "0.") else text.removeprefix(MINUS)


def _write(column: pd.Series, digits: int | None) -> list[str]:
    """Write a column with one number of digits: none where all its values are whole, unless it is a known measure."""
    name, values = str(column.name), column.tolist()
    if not is_numeric_dtype(column.dtype) or column.dtype == bool:
        return [number(value) for value in values]
    if name == "seconds":
        return [MISSING if math.isnan(value) else seconds(value) for value in values]
    if digits is None:
        whole = bool((column.dropna() % 1 == 0).all())
        digits = _DIGITS.get(name, 0 if whole else _DECIMALS)
    written = [number(value, digits) for value in values]
    if name == "p_value":
        return ["&lt; 0.001" if value < 0.0005 else text for value, text in zip(values, written, strict=True)]
    return written


def table(
    frame: pd.DataFrame,
    caption: str,
    *,
    headings: Mapping[str, str] = HEADINGS,
    reference: str | None = None,
    digits: int | None = None,
) -> str:
    """Return a table that scrolls by itself where it is wider than the page; the first column names the row.

    Args:
        frame: a row per row.
        caption: what the table holds.
        headings: how columns are headed.
        reference: a value of the first column, whose row is tinted.
        digits: for every number, instead of those that suit the column.
    """
    numeric = [is_numeric_dtype(kind) for kind in frame.dtypes]
    head = "".join(
        f'<th scope="col"{"" if is_number else " class=text"}>{escape(headings.get(name, name.replace("_", " ")))}</th>'
        for name, is_number in zip(map(str, frame.columns), numeric, strict=True)
    )
    columns = [_write(frame.iloc[:, place], digits) for place in range(frame.shape[1])]
    rows = []
    for row, texts in enumerate(zip(*columns, strict=True)):
        cells = []
        for place, text in enumerate(texts):
            if place == 0:
                cells.append(f'<th scope="row" class="text{" wrap" if len(text) > _LONG else ""}">{text}</th>')
            else:
                kind = "" if numeric[place] else f' class="text{" wrap" if len(text) > _LONG else ""}"'
                cells.append(f"<td{kind}>{text}</td>")
        tint = ' class="reference"' if reference is not None and str(frame.iat[row, 0]) == reference else ""
        rows.append(f"<tr{tint}>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption, quote=True)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def folded(
    frame: pd.DataFrame,
    caption: str,
    digits: int | None = None,
    line: str = "The numbers",
    reference: str | None = None,
) -> str:
    """Return a table behind a line to click: the numbers of a plot for those who cannot see it or want them."""
    inside = table(frame, caption, reference=reference, digits=digits)
    return f"<details><summary>{escape(line)}</summary>{inside}</details>"


def plot(figure: Figure, slug: str, caption: str, label: str, numbers: str = "") -> str:
    """Return a figure with its caption above and its numbers below.

    Args:
        figure: what to draw.
        slug: letters that no other figure of the page has.
        caption: the heading of the figure.
        label: what a screen reader says instead of the picture.
        numbers: a folded table, see :func:`folded`.
    """
    drawn = inline_svg(figure, slug, label)
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawn}{numbers}</figure>"


def plots(*parts: str) -> str:
    """Lay figures side by side where there is room, one under the other on a phone."""
    return f'<div class="plots">{"".join(parts)}</div>'
