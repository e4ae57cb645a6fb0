"""Splits: disjoint, complete, repeatable, and each true to its rule."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from popularity.data.credits import artist_names, credits
from popularity.errors import InputError
from tests.conftest import Lazy

if TYPE_CHECKING:
    from popularity.data.splits import Split, SplitKind

selection, splits = Lazy("sklearn.model_selection"), Lazy("popularity.data.splits")

KINDS: tuple[SplitKind, ...] = ("random", "artist", "credits", "album", "time")


def test_every_kind_of_split_is_tested_here() -> None:
    from popularity.data.splits import SplitKind

    assert get_args(SplitKind) == KINDS


def table(rows: Iterable[tuple[str | None, str | None, str | None, str | None]]) -> pd.DataFrame:
    """Songs from (artist, title, album, release date)."""
    songs = pd.DataFrame(list(rows), columns=["artist", "title", "album", "release_date"])
    songs = songs.astype({"artist": "str", "title": "str", "album": "str"})
    songs["release_date"] = pd.to_datetime(songs["release_date"], format="%Y-%m-%d").astype("datetime64[us]")
    return songs


def many_songs(n: int = 300, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    draw = [rng.integers(0, top, n) for top in (n // 3, n // 3, n // 4, 40)]
    return table(
        (f"A{artist}", f"T{row} (feat. A{guest})" if row % 9 == 0 else f"T{row}", f"L{album}", f"20{10 + year}-01-01")
        for row, (artist, guest, album, year) in enumerate(zip(*draw, strict=True))
    )


def test_sizes_of_groups() -> None:
    from popularity.data.groups import group_sizes

    rows = [("A", "S", "K"), ("A;B", "T", "K"), ("B;C", "U", "K"), ("D", "V", None), (None, "W", None)]
    songs = table((artist, title, album, "2001-01-01") for artist, title, album in rows)
    expected = {"random": [1] * 5, "artist": [2, 1, 1, 1], "credits": [3, 1, 1], "album": [3, 1, 1], "time": [1] * 5}
    assert {kind: group_sizes(songs, kind).tolist() for kind in KINDS} == expected


NAMES = st.one_of(st.none(), st.sampled_from("ABCDEFGHIJKLMNOP"), st.sampled_from(["A;B", "C;D;E", "X & Y", "x & y"]))
TITLES = st.one_of(st.none(), st.sampled_from(["S", "S (feat. A)", "T (with F & G)", "U - feat. X & Y", "With You"]))
ALBUMS = st.one_of(st.none(), st.sampled_from(["K", "k ", "Greatest Hits", *"LMNOPQRSTUWYZ"]))
DATES = st.one_of(st.none(), st.dates(date(1900, 1, 1), date(2030, 1, 1)).map(str), st.sampled_from(["2001-01-01"]))
SONGS = st.lists(st.tuples(NAMES, TITLES, ALBUMS, DATES), min_size=8, max_size=60).map(table)


def split_or_refuse(songs: pd.DataFrame, kind: SplitKind, **arguments: Any) -> Split:
    """Split; tables too small for the rule end the example."""
    try:
        return splits.make_split(songs, kind, **arguments)
    except InputError:
        assume(False)
        raise


def parts(split: Split) -> list[np.ndarray]:
    return [split.train, split.validation, split.test]


def keys(songs: pd.DataFrame, kind: SplitKind, rows: np.ndarray) -> set[Any]:
    """What a rule must keep on one side."""
    firsts = [names[0] if names else None for names in artist_names(songs)]
    if kind == "random":
        return set(rows.tolist())
    if kind == "artist":
        return {firsts[row] for row in rows} - {None}
    if kind == "credits":
        everybody = credits(songs)
        return {name for row in rows for name in everybody[row]}
    if kind == "album":
        names, dates = songs["album"].str.strip().str.casefold().tolist(), songs["release_date"].tolist()
        known = [row for row in rows if pd.notna(names[row])]
        by_date = {(names[row], dates[row]) for row in known if pd.notna(dates[row])}
        by_artist = {(names[row], firsts[row]) for row in known if firsts[row]}
        by_name = {names[row] for row in known if pd.isna(dates[row]) and names[row] != "greatest hits"}
        return by_date | by_artist | by_name
    return set(songs["release_date"].iloc[rows])


@settings(max_examples=60, deadline=None)
@given(
    songs=SONGS,
    kind=st.sampled_from(KINDS),
    folds=st.integers(2, 6),
    fold=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
    validation=st.sampled_from([0, 0.1, 0.3, 0.5]),
)
def test_laws_of_every_split(
    songs: pd.DataFrame, kind: SplitKind, folds: int, fold: int, seed: int, validation: float
) -> None:
    arguments = {"folds": folds, "fold": fold % (folds - (kind == "time")), "seed": seed, "validation": validation}
    split = split_or_refuse(songs, kind, **arguments)
    for part in parts(split):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    assert len(split.train)
    assert len(split.test)
    assert bool(len(split.validation)) == (validation > 0)

    rows = np.concatenate(parts(split))
    assert len(np.unique(rows)) == len(rows)
    if kind != "time":
        assert len(rows) == len(songs)
    elif arguments["fold"] == 0:
        assert len(rows) == songs["release_date"].notna().sum()
    assert split.undated == (songs["release_date"].isna().sum() if kind == "time" else 0)

    train, held_out, test = (keys(songs, kind, part) for part in parts(split))
    assert not train & held_out
    assert not train & test
    assert not held_out & test
    if kind == "time":
        assert pd.NaT not in train | held_out | test
        assert max(train) < min(test)
        if held_out:
            assert max(train) < min(held_out)
            assert max(held_out) < min(test)

    again = splits.make_split(songs, kind, **arguments)
    assert all(np.array_equal(one, two) for one, two in zip(parts(split), parts(again), strict=True))


@settings(max_examples=60, deadline=None)
@given(songs=SONGS, kind=st.sampled_from(["random", "artist", "credits", "album"]), folds=st.integers(2, 5))
def test_every_row_is_tested_once_but_for_a_component_of_more_than_half(
    songs: pd.DataFrame, kind: SplitKind, folds: int
) -> None:
    tests = [split_or_refuse(songs, kind, folds=folds, fold=fold, validation=0).test for fold in range(folds)]
    tested = np.bincount(np.concatenate(tests), minlength=len(songs))
    assert tested.max() == 1
    if kind == "credits" and (tested == 0).any():
        untested = np.flatnonzero(tested == 0)
        assert len(untested) > len(songs) / 2
        assert not keys(songs, kind, untested) & keys(songs, kind, np.flatnonzero(tested))
    else:
        assert tested.min() == 1


@pytest.mark.parametrize("kind", ["random", "artist", "credits", "album"])
def test_seeds_draw_other_folds_and_other_validation_rows(kind: SplitKind) -> None:
    songs = many_songs()
    one, two = splits.make_split(songs, kind, seed=1), splits.make_split(songs, kind, seed=2)
    assert not np.array_equal(one.test, two.test)
    assert not np.array_equal(one.validation, two.validation)
    assert not np.array_equal(one.test, splits.make_split(songs, kind, seed=1, fold=1).test)


@pytest.mark.parametrize("kind", KINDS)
def test_the_validation_share_is_met_and_leaves_the_test_part_alone(kind: SplitKind) -> None:
    songs = many_songs(1200)
    without = splits.make_split(songs, kind, validation=0)
    for share in (0.1, 0.25):
        split = splits.make_split(songs, kind, validation=share)
        np.testing.assert_array_equal(split.test, without.test)
        np.testing.assert_array_equal(np.sort(np.append(split.train, split.validation)), without.train)
        assert len(split.validation) == pytest.approx(share * len(without.train), rel=0.02 if kind != "time" else 0.2)


def test_random_folds_are_those_of_kfold() -> None:
    songs = many_songs()
    for fold, (_, test) in enumerate(selection.KFold(5, shuffle=True, random_state=3).split(songs)):
        np.testing.assert_array_equal(splits.make_split(songs, "random", seed=3, fold=fold).test, test)


def test_artist_folds_are_those_of_groupkfold_over_artists_in_order_of_appearance() -> None:
    songs = many_songs()
    groups = pd.factorize(songs["artist"].str.lower().str.strip())[0]
    for fold, (_, test) in enumerate(selection.GroupKFold(5, shuffle=True, random_state=3).split(songs, groups=groups)):
        np.testing.assert_array_equal(splits.make_split(songs, "artist", seed=3, fold=fold).test, test)


def test_artist_goes_by_the_first_name_only_and_ignores_case() -> None:
    songs = table([("A;B", "s", None, None), (" a", "t", None, None), ("B;A", "u", None, None), ("B", "v", None, None)])
    sides = [set(splits.make_split(songs, "artist", folds=2, fold=fold, validation=0).test.tolist()) for fold in (0, 1)]
    assert {0, 1} in sides
    assert {2, 3} in sides


def test_credits_follow_chains_through_guests_and_titles() -> None:
    chain = [("A;B", "s"), ("C", "t (feat. B)"), ("C", "u"), ("D", "v - with C")]
    other = [("E", "w"), ("E;F", "x"), ("F", "y"), (None, "z (feat. F)")]
    songs = table((artist, title, None, None) for artist, title in chain + other)
    for seed in range(10):
        tests = [
            splits.make_split(songs, "credits", folds=2, fold=fold, seed=seed, validation=0).test for fold in (0, 1)
        ]
        assert sorted(test.tolist() for test in tests) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_giant_component_fills_a_fold_and_one_of_more_than_half_stays_in_training() -> None:
    alone = [(f"A{row}", "t", None, None) for row in range(60)]
    for n, tested_giants in ((40, 40), (61, 0)):
        songs = table([*alone, *[("G", f"t{row}", None, None) for row in range(n)]])
        found = [splits.make_split(songs, "credits", fold=fold) for fold in range(5)]
        assert sum((split.test >= 60).sum() for split in found) == tested_giants
        lonely = [(split.test < 60).sum() for split in found]
        assert sorted(lonely) == ([0, 15, 15, 15, 15] if tested_giants else [12] * 5)
        assert all(len(split.validation) >= 3 for split in found)
    in_first_fold = [splits.make_split(songs[:100], "credits", seed=seed).test.max() >= 60 for seed in range(20)]
    assert 0 < sum(in_first_fold) < 20


def test_albums_stay_whole_and_missing_albums_stand_alone() -> None:
    rows = [
        ("A", "Hits", None), ("a", "hits ", None), ("B", "Hits", None),  # undated, a name of many albums: by artist
        ("B", None, None), ("B", None, None),
        ("A", "Country Usa", None), ("B", "Country USA", None),  # undated compilation
        ("C", "Tour", "2001-01-01"), ("D", "Tour", "2001-01-01"),  # compilation
        ("C", "Tour", "2010-01-01"), ("C", "tour", None),  # its reissue, and one without a date
        ("E", "Tour", "2005-05-05"),  # another one
    ]  # fmt: skip
    songs = table((artist, str(row), album, date) for row, (artist, album, date) in enumerate(rows))
    tests = [splits.make_split(songs, "album", folds=7, fold=fold, validation=0).test.tolist() for fold in range(7)]
    assert sorted(tests) == [[0, 1], [2], [3], [4], [5, 6], [7, 8, 9, 10], [11]]


@pytest.mark.parametrize("kind", ["artist", "credits"])
def test_songs_without_an_artist_follow_their_album(kind: SplitKind) -> None:
    rows = [
        ("A", "Blue"), (None, "blue"), ("A", None),  # with the only artist of the album
        ("B", "Various"), ("C", "Various"), (None, "Various"), (None, "various "),  # by the album
        (None, "Lost"), (None, "Lost"), (None, None), (None, None),
    ]  # fmt: skip
    songs = table((artist, str(row), album, "2001-01-01") for row, (artist, album) in enumerate(rows))
    tests = [splits.make_split(songs, kind, folds=7, fold=fold, validation=0).test.tolist() for fold in range(7)]
    assert sorted(tests) == [[0, 1, 2], [3], [4], [5, 6], [7, 8], [9], [10]]


@settings(max_examples=60, deadline=None)
@given(songs=SONGS, kind=st.sampled_from(["artist", "credits"]), folds=st.integers(2, 4), fold=st.integers(0, 3))
def test_no_album_of_songs_without_an_artist_is_on_both_sides(
    songs: pd.DataFrame, kind: SplitKind, folds: int, fold: int
) -> None:
    split = split_or_refuse(songs, kind, folds=folds, fold=fold, validation=0.2)
    album = songs["album"].str.strip().str.casefold() + songs["release_date"].astype("str").fillna("undated")
    part = pd.Series("train", songs.index)
    part.iloc[split.test], part.iloc[split.validation] = "test", "validation"
    nameless = songs["artist"].isna()
    assert (part[nameless].groupby(album[nameless]).nunique() <= 1).all()
    firsts = pd.Series([names[0] if names else None for names in artist_names(songs)], dtype="str")
    by_one = firsts.groupby(album).transform("nunique") <= 1  # nor apart from the only artist of their album
    assert (part[by_one & nameless.groupby(album).transform("any")].groupby(album).nunique() <= 1).all()


def test_time_rolls_back_and_leaves_newer_songs_unused() -> None:
    songs = table(("A", str(year), None, f"{year}-05-01") for year in range(2009, 1999, -1))  # newest first
    split = splits.make_split(songs, "time", validation=0.25)
    assert split.test.tolist() == [0, 1]
    assert split.validation.tolist() == [2, 3]
    assert split.train.tolist() == [4, 5, 6, 7, 8, 9]
    older = splits.make_split(songs, "time", fold=2, validation=0)
    assert older.test.tolist() == [4, 5]
    assert older.train.tolist() == [6, 7, 8, 9]


def test_time_keeps_a_date_together_and_leaves_out_undated_songs() -> None:
    dates = ["2001-01-01"] * 5 + [None] * 3 + ["2003-01-01"] * 4 + ["2002-01-01"]
    songs = table(("A", str(row), None, date) for row, date in enumerate(dates))
    split = splits.make_split(songs, "time", folds=5, validation=0)
    assert split.undated == 3
    assert split.test.tolist() == [8, 9, 10, 11]
    assert split.train.tolist() == [0, 1, 2, 3, 4, 12]


def test_index_labels_do_not_matter() -> None:
    songs = many_songs()
    shuffled_labels = songs.set_index(pd.Index(np.arange(len(songs))[::-1] * 7))
    for kind in KINDS:
        for one, two in zip(
            parts(splits.make_split(songs, kind)), parts(splits.make_split(shuffled_labels, kind)), strict=True
        ):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("rows", "kind", "arguments", "message"),
    [
        (3, "random", {}, "split random needs at least 5 songs, one per fold, got 3"),
        (0, "random", {}, "split random needs at least 5 songs, one per fold, got 0"),
        (9, "artist", {}, "split artist needs at least 5 first-named artists, one per fold, got 1"),
        (
            9,
            "credits",
            {},
            "split credits needs at least 5 groups of songs that share no name, one per fold, got 1",
        ),
        (9, "album", {}, "split album needs the column album, but none of the 9 songs has a value there"),
        (9, "time", {}, "split time needs the column release_date, but none of the 9 songs has a value there"),
        (9, "random", {"folds": 1}, "folds: expected at least 2, got 1"),
        (9, "random", {"fold": 5}, "fold: expected a number from 0 to 4 with 5 folds, got 5"),
        (9, "random", {"fold": -1}, "fold: expected a number from 0 to 4 with 5 folds, got -1"),
        (9, "time", {"fold": 4}, "fold: expected a number from 0 to 3 with 5 folds of split time, got 4"),
        (9, "random", {"validation": 0.6}, "validation: expected a share from 0 to 0.5 of the training songs, got 0.6"),
        (9, "random", {"validation": float("nan")}, "validation: expected a share .* got nan"),
        (9, "random", {"seed": -1}, "seed: expected a number from 0 to 4294967295, got -1"),
        (9, "genre", {}, "split: expected one of random, artist, credits, album, time, got 'genre'"),
        (2, "random", {"folds": 2}, "split random needs at least 2 songs outside the test part to validate on"),
    ],
)
def test_refusals(rows: int, kind: Any, arguments: dict[str, Any], message: str) -> None:
    songs = table(("A", str(row), None, None) for row in range(rows))
    with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
        splits.make_split(songs, kind, **arguments)


@pytest.mark.parametrize("kind", ["artist", "credits"])
def test_no_artist_column_is_refused(kind: SplitKind) -> None:
    songs = table((None, str(row), "L", "2001-01-01") for row in range(9))
    with pytest.raises(InputError, match="needs the column artist, but none of the 9 songs"):
        splits.make_split(songs, kind)


@pytest.mark.parametrize(
    ("dates", "validation", "message"),
    [
        (["2001-01-01"] * 9, 0, "9 songs of 1 release dates into 5 folds for fold 0"),
        (["2001-01-01"] * 8 + ["2002-01-01"], 0.1, "at least 2 release dates before the test part to validate on"),
    ],
)
def test_too_few_dates_are_refused(dates: list[str], validation: float, message: str) -> None:
    songs = table(("A", str(row), None, date) for row, date in enumerate(dates))
    with pytest.raises(InputError, match=message):
        splits.make_split(songs, "time", validation=validation)


def deduplicated(raw: pd.DataFrame) -> pd.DataFrame:
    raw = raw.drop_duplicates("track_id")
    return raw[~raw.duplicated(["artist", "title"]) | raw["title"].isna()].reset_index(drop=True)


def test_the_4771_songs(spotify_4771: Path) -> None:
    raw = pd.read_csv(spotify_4771).rename(columns={"artist_name": "artist", "track_name": "title"})
    songs = deduplicated(raw).assign(album=None, release_date=pd.NaT)
    assert len(songs) == 4756
    sizes = {kind: [len(splits.make_split(songs, kind, fold=fold).test) for fold in range(5)] for kind in KINDS[:3]}
    assert sorted(sizes["random"]) == [951, 951, 951, 951, 952]
    assert sum(sizes["artist"]) == sum(sizes["credits"]) == 4756
    assert min(sizes["artist"]) > 800
    assert max(sizes["artist"]) < 1150
    assert sorted(sizes["credits"]) == pytest.approx([937, 937, 937, 938, 1007], abs=20)  # 1007: the giant component
    groups = pd.factorize(songs["artist"].str.lower().str.strip())[0]
    for fold, (_, test) in enumerate(selection.GroupKFold(5, shuffle=True, random_state=0).split(songs, groups=groups)):
        np.testing.assert_array_equal(splits.make_split(songs, "artist", fold=fold).test, test)
    for kind in KINDS[:3]:
        split = splits.make_split(songs, kind, fold=1)
        for one, two in ((0, 1), (0, 2), (1, 2)):
            left, right = songs.iloc[parts(split)[one]], songs.iloc[parts(split)[two]]
            assert not set(left["track_id"]) & set(right["track_id"])
            assert not set(zip(left["artist"], left["title"], strict=True)) & set(
                zip(right["artist"], right["title"], strict=True)
            )
            assert not keys(songs, kind, parts(split)[one]) & keys(songs, kind, parts(split)[two])
    with pytest.raises(InputError, match="column release_date, but none of the 4,756 songs"):
        splits.make_split(songs, "time")


@pytest.mark.slow
def test_the_32833_songs(spotify_songs_32833: Path) -> None:
    names = {"track_artist": "artist", "track_name": "title", "track_album_name": "album"}
    songs = deduplicated(pd.read_csv(spotify_songs_32833).rename(columns=names))
    songs["release_date"] = pd.to_datetime(songs["track_album_release_date"], format="ISO8601").astype("datetime64[us]")
    tested = []
    for fold in range(4):
        split = splits.make_split(songs, "time", fold=fold)
        train, held_out, test = (songs["release_date"].iloc[part] for part in parts(split))
        assert train.max() < held_out.min()
        assert held_out.max() < test.min()
        assert len(test) == pytest.approx(len(songs) / 5, rel=0.05)
        assert len(held_out) == pytest.approx(0.1 * (len(train) + len(held_out)), rel=0.05)
        tested.append(test)
    assert all(older.max() < newer.min() for newer, older in pairwise(tested))
    for kind in KINDS[:4]:
        split = splits.make_split(songs, kind, fold=2)
        train, held_out, test = (keys(songs, kind, part) for part in parts(split))
        assert not train & test
        assert not train & held_out
        assert not held_out & test
        assert len(split.test) == pytest.approx(len(songs) / 5, rel=0.2)
