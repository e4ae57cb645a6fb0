"""The smallest change of a song that brings its prediction to a target, as a line, a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from popularity import plots
from popularity.errors import InputError
from popularity.inference.explain_model import Model
from popularity.inference.explain_output import Results, shown
from popularity.inference.explain_songs import plain, readable
from popularity.inference.what_if_grid import Range, variants
from popularity.inference.what_if_search import ROUNDS, Counterfactual, find_counterfactual

_SAME = 0.05  # points: a target as near as this is reached already


def reach(
    model: Model, song: pd.DataFrame, ranges: Mapping[str, Range], target: float, *, seed: int, results: Results
) -> None:
    """Search, print a line and add ``counterfactual.csv`` and ``counterfactual.png`` to the results.

    Args:
        model: with the known songs of the song.
        song: one row.
        ranges: of the columns that may change. Those without a value in the song stay as they are.
        target: a popularity.
        seed: of the search.
        results: of the command.

    Raises:
        InputError: nothing is left that may change.
    """
    if absent := [name for name in ranges if song[name].isna().item()]:
        print(f"stay as they are, for the song has no value: {', '.join(absent)}")
    ranges = {name: one for name, one in ranges.items() if name not in absent}
    if not ranges:
        raise InputError("--counterfactual: expected a song with features that this network reads, found none")
    before = np.array([one.standard(song[name].item()) for name, one in ranges.items()])

    def changed(features: np.ndarray) -> pd.DataFrame:
        columns = [one.column(features[:, index]) for index, one in enumerate(ranges.values())]
        return variants(song, list(ranges), np.stack(columns, axis=1))

    def predict(features: np.ndarray) -> np.ndarray:
        return model.mean(changed(features))

    start = float(predict(before[None])[0])
    if abs(start - target) < _SAME:
        print(f"counterfactual: the prediction is {start:.1f} as it is")
        return
    bounds = np.array([(one.low, one.high) for one in ranges.values()])
    progress = iter(shown(range(ROUNDS), "search"))
    found = find_counterfactual(predict, before, bounds, target, seed=seed, tick=lambda: next(progress, None))
    for _ in progress:  # the search may end early
        pass
    after = changed(found.features[None])
    rows = pd.DataFrame(
        {
            "feature": list(ranges),
            "before": [song[name].item() for name in ranges],
            "after": [after[name].item() for name in ranges],
            "standard_deviations": found.features - before,
        }
    ).sort_values("standard_deviations", key=np.abs, ascending=False)
    results.table("counterfactual", rows.assign(target=target, prediction=found.prediction, reached=found.reached))
    print(_told(rows, found, target))
    names = [
        f"{plain(name)} {readable(name, value)}" for name, value in zip(rows["feature"], rows["before"], strict=True)
    ]
    order = rows.index.to_numpy()
    note = f"predicted {start:.1f} before, {found.prediction:.1f} after, target {target:g}"
    ends = (bounds[order, 0], bounds[order, 1])
    results.figure("counterfactual", plots.changes(names, before[order], found.features[order], ends, note))


def _told(rows: pd.DataFrame, found: Counterfactual, target: float) -> str:
    """The change in words."""
    moved = rows[rows["standard_deviations"].abs() > 1e-6]
    changes = [
        f"{plain(name)} {readable(name, before)} -> {readable(name, after)} ({move:+.2f} sd)"
        for name, before, after, move in moved[list(rows.columns[:4])].itertuples(index=False)
    ]
    distance = float(np.linalg.norm(rows["standard_deviations"]))
    if found.reached:
        head = f"{target:g} is reached by"
    else:
        head = (
            f"{target:g} cannot be reached by these features inside the range of the training songs; "
            f"the closest found is {found.prediction:.1f}, by"
        )
    changes = changes or ["no change"]
    return f"counterfactual: {head} {', '.join(changes)}; together {distance:.2f} standard deviations (sd)"
