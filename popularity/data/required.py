"""What a table of songs must have, and the one line that says what it lacks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from popularity.data.columns import ColumnMatch
from popularity.data.raw import RawTable
from popularity.data.schema import CANONICAL, ESTIMATED
from popularity.data.validation import column_of
from popularity.errors import InputError


class NoPopularity(InputError):
    """A file without the popularity of its songs: nothing to learn from, but good for prediction."""


def require_columns(raw: RawTable, match: ColumnMatch, wanted: Sequence[str]) -> None:
    """Refuse a file without some columns.

    Raises:
        InputError: it lacks one; a `NoPopularity` if that is the popularity alone.
    """
    lacking = [name for name in wanted if name not in match.mapped]
    if not lacking:
        return
    header = list(raw.frame.columns)
    found = ", ".join(header[:25]) + (f" and {len(header) - 25} more" if len(header) > 25 else "")
    refused = ", ".join(f"{column!r}" for column, leak in match.leaks.items() if leak != "row_number")
    note = f" ({refused} cannot stand in for it)" if "popularity" in lacking and refused else ""
    fault = NoPopularity if lacking == ["popularity"] else InputError
    reasons = [why for name in lacking for _, why in match.ignored if why.startswith(f"not {name}: ")]
    hints = "".join(f"; {why}" for why in dict.fromkeys(reasons))
    found += _hint(match.mapped) if "popularity" not in lacking else ""
    raise fault(f"{raw.path}: no column for {', '.join(lacking)}{note}{hints}; the file has {found}")


def refuse_blank(songs: pd.DataFrame, raw: RawTable, match: ColumnMatch, learn: bool, required: Sequence[str]) -> None:
    """Refuse a file whose required columns are empty, one of them to learn from or most to predict from; or all are."""
    blank = [name for name in required if songs[name].isna().all()]
    if learn and blank:
        raise InputError(f"{raw.path}: {column_of(blank[0], match.mapped)}: expected numbers, got no value in any row")
    if blank and 2 * len(blank) > len(required):
        raise InputError(
            f"{raw.path}: expected audio features, got no value in any row for {len(blank)} of the {len(required)} "
            f"columns that a prediction needs: {', '.join(blank)}{_hint(songs.columns[songs.notna().any()])}"
        )
    if required:
        return
    told = [name for name in CANONICAL if name not in ("track_id", "popularity")]
    if learn and songs[told].nunique(dropna=False).max() < 2:
        raise InputError(f"{raw.path}: expected a column that differs between songs, got none to learn from")
    if not songs[told].notna().any(axis=None):
        raise InputError(f"{raw.path}: expected songs, got no value in any column that a model reads")


def _hint(present: Collection[str]) -> str:
    """How to get a model for a file that has some audio columns."""
    wanted = any(name in ESTIMATED for name in present)
    return "; a model does without them after fit --data.optional_audio true" if wanted else ""
