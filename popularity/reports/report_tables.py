"""The tables of a report: which columns, in which order, with how many decimals, as HTML or Markdown."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype

from popularity.evaluation.results import Results

#: Headings that are not the name of the column, and decimals where they are not 3 (0 for integers).
HEADINGS = {
    "mse": "MSE", "mse_sd": "± sd", "rmse": "RMSE", "mae": "MAE", "r2": "R²", "spearman": "Spearman",
    "mean_residual": "residual",
    "ratio_to_reference": "ratio", "p_value": "p", "seconds": "CPU seconds", "mse_repeated": "MSE there",
    "difference_repeated": "difference there", "mse_others": "MSE elsewhere", "folds_repeated": "folds there",
    "folds_others": "folds elsewhere", "difference_others": "difference elsewhere", "auroc": "AUROC",
    "auroc_sd": "± sd", "f1": "F1", "brier": "Brier", "mse_half": "MSE ± (95 %)", "rmse_half": "RMSE ± (95 %)",
    "residual_half": "residual ± (95 %)", "half": "± half width", "value": "points", "hits": "share of hits",
    "theirs": "their method here", "honest": "honest folds here", "honest_sd": "± sd of honest folds",
}  # fmt: skip
_TWO = (
    *("mse", "mse_sd", "rmse", "mae", "difference", "seconds", "mse_repeated", "difference_repeated", "mse_others"),
    *("difference_others", "mse_half", "rmse_half", "residual", "mean_residual", "residual_half", "mean", "half"),
)
DECIMALS = {"true": 0, "predicted": 1, "value": 1, "brier": 4, "calibration_error": 4} | dict.fromkeys(_TWO, 2)
DECIMALS |= {name.format(share): 1 for share in (50, 80, 95) for name in ("inside {} %", "width_{}")}
#: Columns of hits in their order: how well hits are ranked, then what is called a hit at the threshold.
RANKED = (
    *("folds", "skipped", "auroc", "auroc_sd", "difference to {}", "95 %", "p_value"),
    *("average_precision", "brier", "calibration_error", "seconds"),
)
CALLED = ("value", "hits", "threshold", "f1", "precision", "recall", "accuracy", "majority")
_MISSING = "–"


def scores(results: Results) -> pd.DataFrame | None:
    """All metrics, means over folds; the reference is marked."""
    if "summary" not in results.tables:
        return None
    table = results.tables["summary"].drop(columns=["difference", "p_value", "wins"], errors="ignore")
    means = results.tables.get("folds", table).groupby("model").mean(numeric_only=True)
    within = {name: table["model"].map(means[name]) for name in ("within_5", "within_10") if name in means}
    table = table.assign(**within, seconds=table.pop("seconds"))  # seconds last
    return table.assign(model=table["model"].mask(table["model"] == results.reference, table["model"] + " (reference)"))


def differences(results: Results) -> pd.DataFrame | None:
    """Differences of MSE to the reference with both intervals, the p-value and the folds won."""
    if results.reference is None:
        return None
    table = results.tables["differences"].query("model != reference")
    columns = {"95 % over folds": intervals(table, "low", "high")}
    if "song_low" in table:
        columns["95 % over songs"] = intervals(table, "song_low", "song_high")
    wins = table["wins"].astype("str") + " of " + table["folds"].astype("str")
    table = table[["model", "folds", "difference"]].assign(**columns, p_value=table["p_value"], wins=wins)
    return table if len(table) else None


def coverage(results: Results) -> pd.DataFrame | None:
    """Coverage of the intervals in percent, and their mean width in points."""
    if "intervals" not in results.tables:
        return None
    table = results.tables["intervals"].rename(columns={"known": "known songs"})
    names = {name: f"inside {name.partition('_')[2]} %" for name in table if name.startswith("coverage_")}
    return table.assign(**{name: 100 * table[name] for name in names}).rename(columns=names)


def repeated(results: Results) -> pd.DataFrame | None:
    """Errors where several repeats test the same songs (there), and on the other folds (elsewhere)."""
    if "repeated_folds" not in results.tables:
        return None
    table = results.tables["repeated_folds"].dropna(axis=1, how="all")
    if "low_others" in table:
        table["95 % elsewhere"] = intervals(table, "low_others", "high_others")
    return table.drop(columns=["against", "tests", "songs", "p_others", "low_others", "high_others"], errors="ignore")


def hit_tables(results: Results) -> dict[str, pd.DataFrame]:
    """Metrics of hits by cut-off, best AUROC first: ``model`` and those of `RANKED` and `CALLED` that there are."""
    found = {}
    table = results.tables.get("hit_summary", pd.DataFrame(columns=["cutoff"]))
    for cutoff in sort_cutoffs(table["cutoff"].unique()):
        part = table[table["cutoff"] == cutoff].sort_values("auroc", ascending=False, kind="stable")
        if not part.get("skipped", pd.Series(0)).any():
            part = part.drop(columns="skipped", errors="ignore")
        reference = next(iter(part.get("reference", pd.Series(dtype=str)).replace("nan", None).dropna()), "")
        if reference:
            part["95 %"] = intervals(part, "auroc_low", "auroc_high", 3)
            part = part.rename(columns={"auroc_difference": f"difference to {reference}"})
        order = ["model", *(name.format(reference) for name in RANKED + CALLED)]
        found[cutoff] = part[[name for name in order if name in part]]
    return found


def sort_cutoffs(cutoffs: Iterable[str]) -> list[str]:
    """Sort cut-offs: points by size, then names.

    >>> sort_cutoffs(["top_quarter", "90", "50.0", "median"])
    ['50.0', '90', 'median', 'top_quarter']
    """
    return sorted(cutoffs, key=lambda cutoff: (float(cutoff) if cutoff[0].isdigit() else 1000, cutoff))


def cutoff_words(cutoff: str) -> str:
    """Write a cut-off in words.

    >>> cutoff_words("75.0"), cutoff_words("top_quarter")
    ('popularity of at least 75', 'top quarter')
    """
    return f"popularity of at least {float(cutoff):g}" if cutoff[0].isdigit() else cutoff.replace("_", " ")


def intervals(table: pd.DataFrame, low: str, high: str, digits: int = 2) -> list[str]:
    """Write two columns as intervals, a dash where there is none."""
    ends = zip(_write(table[low], digits), _write(table[high], digits), strict=True)
    return [_MISSING if _MISSING in pair else f"{pair[0]} to {pair[1]}" for pair in ends]


def _write(column: pd.Series, digits: int | None = None) -> list[str]:
    if not is_numeric_dtype(column.dtype):
        return [_MISSING if pd.isna(value) else str(value) for value in column]
    if digits is None:
        digits = DECIMALS.get(str(column.name), 0 if is_integer_dtype(column.dtype) else 3)
    rounded = column.astype(float).round(digits) + 0.0  # no minus before zero
    texts = [_MISSING if pd.isna(value) else f"{value:,.{digits}f}".replace("-", "\u2212") for value in rounded]
    return ["< 0.001" if text == "0.000" and column.name == "p_value" else text for text in texts]


def written(table: pd.DataFrame) -> pd.DataFrame:
    """The table with headings for people, and all values as text."""
    return pd.DataFrame({HEADINGS.get(name, name.replace("_", " ")): _write(table[name]) for name in map(str, table)})


def html(table: pd.DataFrame, kind: str = "") -> str:
    """Return a table as HTML; its first column names the rows."""
    texts = written(table)
    first = str(texts.columns[0])
    return str(texts.set_index(first).rename_axis(index=None, columns=first).to_html(border=0, classes=kind))


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown."""
    texts = written(table)
    rows = [list(texts), ["---"] * texts.shape[1], *texts.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
