"""The tables of benchmarks/suite.py, from the results of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd


def tabulate(results: Sequence[dict[str, Any]], rivals: Sequence[str], means: Sequence[str] = ()) -> pd.DataFrame:
    """One row per cell and setting, over the inner folds of the cell.

    Args:
        results: of runs, on the same inner folds for all settings of a cell.
        rivals: settings that the others are compared with.
        means: names joined by ``+``: the mean of their predictions is one more setting.

    A setting that lacks a fold which others of the cell have is left out there.

    Returns:
        ``cell, setting, folds, mse`` (mean over folds), ``slope`` (of truth on prediction, least squares), ``residual``
        (mean, true minus predicted), ``cpu_seconds`` (mean over folds), ``rival`` (the best one of the cell), ``ratio``
        (to its MSE), ``ratio_se`` (standard error over songs, given the fits) and ``cpu_ratio`` (to LightGBM). Not a
        number where a result that they need is missing.
    """
    rows = []
    for cell, of_cell in _grouped(results, "cell").items():
        found = _grouped(of_cell, "setting")
        folds = max(map(len, found.values()))
        found = {
            name: sorted(of_one, key=lambda one: one["inner"]) for name, of_one in found.items() if len(of_one) == folds
        }
        found |= {
            name: [_mean(parts) for parts in zip(*(found[part] for part in name.split("+")), strict=True)]
            for name in means
            if found.keys() >= set(name.split("+"))
        }
        errors = {name: float(np.mean([one["mse"] for one in of_one])) for name, of_one in found.items()}
        seconds = {name: float(np.mean([one["cpu_seconds"] for one in of_one])) for name, of_one in found.items()}
        best = min(rivals, key=errors.__getitem__) if found.keys() >= set(rivals) else None
        for name, of_one in found.items():
            truth, prediction = _songs(of_one)
            row = {"cell": cell, "setting": name, "folds": len(of_one), "mse": errors[name], "rival": best or ""}
            row |= {"slope": slope(truth, prediction), "residual": float(np.mean(truth - prediction))}
            row |= {"ratio": np.nan, "ratio_se": np.nan, "cpu_seconds": seconds[name]}
            if best is not None:
                rival = _songs(found[best])[1]
                row |= {"ratio": errors[name] / errors[best], "ratio_se": ratio_se(truth, prediction, rival)}
            rows.append(row | {"cpu_ratio": seconds[name] / seconds.get("lightgbm", np.nan)})
    return pd.DataFrame(rows)


def slope(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Slope of the least-squares line of truth on prediction; not a number where all predictions are equal."""
    centred = prediction - prediction.mean()
    return float(centred @ truth / (centred @ centred)) if np.ptp(prediction) > 1e-6 else float("nan")


def ratio_se(truth: np.ndarray, prediction: np.ndarray, rival: np.ndarray) -> float:
    """Standard error over songs of the ratio of two mean squared errors of the same n songs (the delta method)."""
    mine, theirs = (truth - prediction) ** 2, (truth - rival) ** 2
    difference = mine - mine.mean() / theirs.mean() * theirs
    return float(difference.std() / np.sqrt(len(truth)) / theirs.mean())


def geometric_means(table: pd.DataFrame) -> pd.DataFrame:
    """By setting: geometric means of ``ratio`` and ``cpu_ratio`` over the cells that have them, and their number."""
    logs = table.assign(ratio=np.log(table["ratio"]), cpu_ratio=np.log(table["cpu_ratio"]))
    grouped = logs.groupby("setting", sort=False)
    return np.exp(grouped[["ratio", "cpu_ratio"]].mean()).assign(cells=grouped["ratio"].count())


def markdown(table: pd.DataFrame) -> str:
    """The ratios, a column per setting and a row per cell, and then everything else."""
    means = geometric_means(table)
    names = list(means.index)
    lines = [["cell", "best rival", *names]]
    for cell, part in table.groupby("cell", sort=False):
        rows = part.set_index("setting")
        lines.append([str(cell), rows["rival"].iloc[0], *(_ratio(rows, name) for name in names)])
    lines.append(["geometric mean", "", *(_number(value, 3) for value in means["ratio"])])
    lines.append(["CPU seconds to LightGBM's", "", *(_number(value, 2) for value in means["cpu_ratio"])])
    lines.append(["cells", "", *map(str, means["cells"])])
    details = [["cell", "setting", "folds", "MSE", "slope", "mean residual", "CPU s", "to LightGBM's"]]
    for row in table.itertuples():
        numbers = (row.mse, 2), (row.slope, 3), (row.residual, 2), (row.cpu_seconds, 1), (row.cpu_ratio, 2)
        details.append([row.cell, row.setting, str(row.folds), *(_number(*one) for one in numbers)])
    return (
        "Ratio of the mean squared error to that of the best rival on the same inner folds, ± one standard error over\n"
        "songs:\n\n"
        f"{_table(lines)}\n\nSlope of truth on prediction; mean of true minus predicted; CPU seconds of one fold:\n\n"
        f"{_table(details)}\n"
    )


def _grouped(results: Sequence[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(result[key], []).append(result)
    return groups


def _mean(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The result of a model that predicts the mean of others' predictions of the same songs."""
    first = results[0]
    if any(one["inner"] != first["inner"] or one["truth"] != first["truth"] for one in results):
        raise ValueError("expected results on the same songs")
    prediction = np.mean([one["prediction"] for one in results], axis=0)
    mse = float(np.mean((prediction - np.array(first["truth"])) ** 2))
    seconds = sum(one["cpu_seconds"] for one in results)
    return {**first, "prediction": prediction.tolist(), "mse": mse, "cpu_seconds": seconds}


def _songs(results: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) truth and (n,) prediction of all folds, one after the other."""
    return tuple(np.concatenate([one[key] for one in results]) for key in ("truth", "prediction"))  # type: ignore[return-value]


def _ratio(rows: pd.DataFrame, name: str) -> str:
    if name not in rows.index or np.isnan(rows.loc[name, "ratio"]):
        return ""
    error = f" ± {rows.loc[name, 'ratio_se']:.3f}" if rows.loc[name, "ratio_se"] else ""
    return f"{rows.loc[name, 'ratio']:.3f}{error}"


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its header."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
