"""Tables with lines around them and rows without their last cells, as programs write them."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from popularity.data.songs import load_songs
from popularity.errors import InputError

Write = Callable[..., str]
Texts = Callable[[pd.DataFrame], str]


def aligned(songs: pd.DataFrame, left: str = "", corner: str = "+") -> str:
    """As psql and MySQL write a table; ``left`` stands at either end of a line, ``corner`` in a line of dashes."""
    rows = [list(songs), *songs.astype(str).to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = f"-{corner}-".join("-" * width for width in widths)
    if not left:
        return "\n".join([" " + lines[0], f"-{rule}-", *(" " + line for line in lines[1:])]) + "\n"
    rule = f"{corner}-{rule}-{corner}"
    return "\n".join([rule, f"| {lines[0]} |", rule, *(f"| {line} |" for line in lines[1:]), rule]) + "\n"


def markdown(songs: pd.DataFrame) -> str:
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in [list(songs), *songs.to_numpy().tolist()]]
    return "\n".join([rows[0], "|" + ":---|" * songs.shape[1], *rows[1:]]) + "\n"


def dashed(songs: pd.DataFrame) -> str:
    header, rest = songs.to_csv(index=False).split("\n", 1)
    return f"{header}\n{','.join('-' * len(name) for name in songs)}\n{rest}"


FRAMED: dict[str, tuple[Texts, str]] = {
    "psql": (lambda songs: aligned(songs) + "(40 rows)\n\n", "CSV with bars, utf-8, 1 line below the table left out"),
    "psql --csv": (
        lambda songs: songs.to_csv(index=False) + "(40 rows)\n",
        "CSV, utf-8, 1 line below the table left out",
    ),
    "MySQL": (
        lambda songs: aligned(songs, "|") + "40 rows in set (0.01 sec)\n",
        "CSV with bars, utf-8, header in line 2, 1 line below the table left out",
    ),
    "sqlcmd": (
        lambda songs: dashed(songs) + "\n(40 rows affected)\n",
        "CSV, utf-8, 1 line below the table left out",
    ),
    "Markdown": (markdown, "CSV with bars, utf-8"),
    "a source": (
        lambda songs: songs.to_csv(index=False) + "\nSource: Spotify, 2024\nNote: as of May\n",
        "CSV, utf-8, 2 lines below the table left out",
    ),
}


@pytest.mark.parametrize("form", FRAMED)
def test_lines_around_a_table_are_no_songs(form: str, raw_songs: pd.DataFrame, write: Write) -> None:
    text, said = FRAMED[form]
    expected = load_songs(write(raw_songs)).songs
    table = load_songs(write(text(raw_songs), "songs.txt"))
    pd.testing.assert_frame_equal(table.songs, expected)
    assert table.report.form == said


@pytest.mark.parametrize("form", ["Markdown", "sqlcmd", "psql"])
def test_the_line_of_a_row_below_dashes(form: str, raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs["energy"] = raw_songs["energy"].astype(object)
    raw_songs.loc[2, "energy"] = "loud"
    with pytest.raises(InputError, match=r"row 3 \(line 5\)"):
        load_songs(write(FRAMED[form][0](raw_songs)))


@pytest.mark.parametrize("last", ["and so on", "Source of this", "40 songs", "(rows)"])
def test_another_line_below_a_table_is_refused(last: str, raw_songs: pd.DataFrame, write: Write) -> None:
    with pytest.raises(InputError, match="row 41: expected 17 fields as in the header, got 1"):
        load_songs(write(raw_songs.to_csv(index=False) + last + "\n"))


def test_a_song_may_be_called_like_a_note(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs[["track_name", *raw_songs.columns.drop("track_name")]]
    songs.loc[39, "track_name"] = "Source: Unknown"
    assert load_songs(write(songs)).songs["title"].iloc[-1] == "Source: Unknown"


def test_a_note_within_a_last_cell_is_a_part_of_it(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.assign(comment="first line\nSource: Spotify")
    assert len(load_songs(write(songs)).songs) == 40


def without_last_cells(songs: pd.DataFrame, rows: range) -> str:
    """As Excel writes a CSV: the delimiters of empty cells at the end of a line are left out."""
    lines = songs.to_csv(index=False).splitlines()
    return "\n".join(line.rstrip(",") if row - 1 in rows else line for row, line in enumerate(lines)) + "\n"


def test_rows_may_lack_their_last_cells(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.assign(genre="rock", note="x, y", more="z")
    songs.loc[16:31, ["note", "more"]] = None
    songs.loc[20, "genre"] = None
    table = load_songs(write(without_last_cells(songs, range(16, 32))))
    pd.testing.assert_frame_equal(table.songs, load_songs(write(songs)).songs)
    assert table.report.form == "CSV, utf-8, 16 rows without the last cells"


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({}, lambda text: text.replace("Song 3,", "Song\n3,")),  # the last column is needed
        ({"note": ""}, lambda text: text.replace("Song 3,", "Song\n3,")),
        ({"note": "", "more": ""}, lambda text: text.replace(",,\n", "\n")),  # of every row
        ({"genre": "rock", "album": "Rooms"}, lambda text: text.removesuffix(",Rooms\n")),
    ],
    ids=["half a row", "half a row and a note", "every row", "cut off"],
)
def test_rows_that_may_be_halves_are_refused(
    columns: dict[str, str], text: Callable[[str], str], raw_songs: pd.DataFrame, write: Write
) -> None:
    lines = text(raw_songs.assign(**columns).to_csv(index=False))
    with pytest.raises(InputError, match=r"row \d+: expected \d+ fields as in the header, got \d+"):
        load_songs(write(lines))
