"""Do prediction intervals hold what they say, and how wide are they: overall, and by known songs of the artists."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from popularity.evaluation.intervals import around
from popularity.evaluation.protocol import Protocol, Run
from popularity.evaluation.results import Results, known_songs
from popularity.evaluation.runs import Result
from popularity.inference.distribution import SHARES
from popularity.models import conformal

#: Smallest number of known songs in each band, and its name.
BANDS = dict(zip(conformal.BANDS, ("0", "1", "2–3", "4–7", "8+"), strict=True))
COLUMNS = ["model", "intervals", "known", "predictions"]
COLUMNS += [f"{name}_{share * 100:g}" for share in SHARES for name in ("coverage", "width")]


def interval_table(
    results: Mapping[Run, Result], songs: pd.DataFrame, predictions: pd.DataFrame, protocol: Protocol
) -> pd.DataFrame:
    """Coverage and mean width in points of each model's intervals, over all its test songs and by known songs.

    Args:
        results: of the runs that have ended well; those of earlier versions may have no intervals.
        songs: the whole song table.
        predictions: of `popularity.evaluation.tables.tabulate`.
        protocol: of the comparison.

    Returns:
        `COLUMNS`; ``intervals`` is ``distribution`` or ``constant width``, ``known`` is ``all`` or one of `BANDS`.
    """
    truth, parts = songs["popularity"].to_numpy(np.float64), []
    for run, result in results.items():
        arrays = result.arrays
        if run.hits or not {"intervals", "half_widths"} & arrays.keys():
            continue
        kind = "distribution" if "intervals" in arrays else "constant width"
        found = arrays["intervals"] if "intervals" in arrays else around(arrays["prediction"], arrays["half_widths"])
        where = {"model": run.model, "intervals": kind, "repeat": run.repeat, "fold": run.fold, "row": arrays["rows"]}
        for share, (low, high) in zip(SHARES, found, strict=True):
            inside = (low <= truth[arrays["rows"]]) & (truth[arrays["rows"]] <= high)
            where |= {f"coverage_{share * 100:g}": inside, f"width_{share * 100:g}": high - low}
        parts.append(pd.DataFrame(where))
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    known = known_songs(Results({"split": protocol.split}, {"songs": songs, "predictions": predictions}))
    every = pd.concat(parts, ignore_index=True).merge(known, on=["repeat", "fold", "row"], validate="many_to_one")
    band = np.array(list(BANDS.values()))[np.digitize(every["known"], list(BANDS)[1:])]
    every = pd.concat([every.assign(known="all"), every.assign(known=band)])
    order = [*dict.fromkeys(every["model"])], ["all", *BANDS.values()]
    for name, values in zip(("model", "known"), order, strict=True):
        every[name] = pd.Categorical(every[name], values)
    grouped = every.groupby(["model", "intervals", "known"], observed=True)
    table = grouped[COLUMNS[4:]].mean().assign(predictions=grouped.size()).reset_index()
    return table.astype({"model": str, "known": str})[COLUMNS]
