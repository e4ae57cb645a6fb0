"""Units are decided by the values, whatever the column is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from popularity.data.decisions import Decisions
from popularity.data.duration_names import named_unit
from popularity.data.pitch import read_keys, read_word
from popularity.data.schema import AUDIO_UNIT
from popularity.data.songs import load_songs
from popularity.errors import InputError

Write = Callable[..., str]
MS = np.array([211_000, 158_000, 276_500])


@pytest.mark.parametrize("column", ["duration_ms", "duration_min", "duration_sec", "length", "Duration", "time"])
@pytest.mark.parametrize(
    "cells",
    [
        (MS / 1000).tolist(),
        (MS / 60_000).tolist(),
        MS.tolist(),
        ["3:31", "2:38", "4:36.5"],
        ["0:03:31", "00:02:38", "0:04:36.5"],
        ["3 min 31 s", "2m 38s", "4m36.5s"],
        ["211 s", "158s", "276.5 sec"],
        ["0 days 00:03:31", "0 days 00:02:38", "0 days 00:04:36.500000"],
        ["3'31\"", "2'38", "4'36.5\""],
        ["PT3M31S", "PT2M38S", "PT4M36.5S"],
        ["211000 ms", "158000ms", "276500 ms"],
        ["211,000", "158,000", "276,500"],
        ["211 000", "158 000", "276 500"],
        ["211'000", "158'000", "276'500"],
    ],
    ids=str,
)
def test_durations(raw_songs: pd.DataFrame, write: Write, column: str, cells: list[Any]) -> None:
    songs = raw_songs.head(3).drop(columns="duration_ms").assign(**{column: cells})
    np.testing.assert_allclose(load_songs(write(songs)).songs["duration_ms"], MS)


@pytest.mark.parametrize(("factor", "cell"), [(1, 3.5), (1, 210.0), (1000, 210_000.0), (1000, 3.5), (60_000, 210_000)])
def test_a_cell_in_another_unit(raw_songs: pd.DataFrame, write: Write, factor: int, cell: float) -> None:
    raw_songs["duration_ms"] = (raw_songs["duration_ms"] / factor).round(0 if factor == 1000 else 3)
    raw_songs.loc[5, "duration_ms"] = cell
    table = load_songs(write(raw_songs))
    assert table.songs["duration_ms"][5] == 210_000
    assert "1 cell in another unit" in "\n".join(table.report.lines())


def test_ninety_in_a_column_of_minutes_may_be_either_and_is_missing(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs["duration_ms"] = (raw_songs["duration_ms"] / 60_000).round(3)
    raw_songs.loc[5, "duration_ms"] = 90
    assert load_songs(write(raw_songs)).songs["duration_ms"].isna().to_numpy().nonzero()[0].tolist() == [5]


def test_what_no_unit_makes_a_song_is_missing(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs["duration_ms"] = raw_songs["duration_ms"].astype(float)
    raw_songs.loc[5, "duration_ms"] = 0.2
    assert np.isnan(load_songs(write(raw_songs)).songs["duration_ms"][5])


def test_a_column_of_time_spans(raw_songs: pd.DataFrame, write: Write) -> None:
    spans = pd.to_timedelta(raw_songs["duration_ms"], unit="ms")
    songs = load_songs(write(raw_songs.assign(duration_ms=spans), "songs.parquet")).songs
    np.testing.assert_array_equal(songs["duration_ms"], raw_songs["duration_ms"])


def test_hours_and_minutes_of_a_spreadsheet(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.head(3).assign(duration_ms=["03:31:00", "02:38:00", "04:36:00"])
    np.testing.assert_allclose(load_songs(write(songs)).songs["duration_ms"], [211_000, 158_000, 276_000])


def hundred(songs: pd.DataFrame, *names: str, digits: int = 2) -> pd.DataFrame:
    return songs.assign(**{name: (songs[name] * 100).round(digits) for name in names})


@pytest.mark.parametrize("names", [AUDIO_UNIT, ("energy",), ("energy", "valence"), ("acousticness", "speechiness")])
def test_per_cent_in_all_or_some_columns(raw_songs: pd.DataFrame, write: Write, names: tuple[str, ...]) -> None:
    plain = load_songs(write(raw_songs)).songs
    table = load_songs(write(hundred(raw_songs, *names)))
    pd.testing.assert_frame_equal(table.songs[list(AUDIO_UNIT)], plain[list(AUDIO_UNIT)])
    said = {name for name, _, conversion in table.report.mapped if conversion}
    assert said == set(names)


@pytest.mark.parametrize("name", ["instrumentalness", "acousticness"])
def test_a_feature_near_zero_in_a_file_in_per_cent(raw_songs: pd.DataFrame, write: Write, name: str) -> None:
    raw_songs[name] = (raw_songs[name] / 150).round(5)
    plain = load_songs(write(raw_songs)).songs
    songs = load_songs(write(hundred(raw_songs, *AUDIO_UNIT, digits=3))).songs
    np.testing.assert_allclose(songs[name], plain[name])
    some = [other for other in AUDIO_UNIT if other not in (name, "energy")]
    np.testing.assert_allclose(load_songs(write(hundred(raw_songs, *some))).songs[name], plain[name])


def test_one_value_beyond_1_is_an_error_and_not_per_cent(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[0, "energy"] = 50
    with pytest.raises(InputError, match=r"column 'energy', row 1 .*: expected a number from 0 to 1, got '50.0'"):
        load_songs(write(raw_songs))


def test_per_cent_and_shares_in_one_column_are_refused(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs.loc[:24, "energy"] *= 100
    with pytest.raises(InputError, match=r"'energy', row 1 .*expected a number from 0 to 1"):
        load_songs(write(raw_songs))


def test_a_name_with_a_per_cent_sign_does_not_make_shares_per_cent(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = load_songs(write(raw_songs.rename(columns={"energy": "energy_%"}))).songs
    np.testing.assert_array_equal(songs["energy"], raw_songs["energy"])


def test_a_scale_to_ten_is_refused(raw_songs: pd.DataFrame, write: Write) -> None:
    with pytest.raises(InputError, match=r"'danceability', row 1 .*expected a number from 0 to 1"):
        load_songs(write(raw_songs.assign(danceability=raw_songs["danceability"] * 10)))


@pytest.mark.parametrize(
    ("column", "cells", "values"),
    [
        ("energy", ["71%", "5 %", "0,5 %"], [0.71, 0.05, 0.005]),
        ("loudness", ["-15.3 dB", "-7dB", "-4,5 dBFS"], [-15.3, -7, -4.5]),
        ("loudness", ["\N{MINUS SIGN}15.3", "-7", "\N{MINUS SIGN}4.5"], [-15.3, -7, -4.5]),
        ("tempo", ["120 BPM", "99.5bpm", "80"], [120, 99.5, 80]),
        ("popularity", ["87%", "5/100", "12"], [87, 5, 12]),
        ("key", ["D♯/E♭ Minor", "8B", "F# major"], [3, 0, 6]),
        ("key", ["Bbm", "10A", "c sharp minor"], [10, 11, 1]),
        ("key", ["C Sharp", "D-flat", "C# (Db)"], [1, 1, 1]),
        ("key", ["C#/Db", "C (major)", "Cis-Moll"], [1, 0, 1]),
        ("key", ["1d", "8d", "1m"], [0, 1, 9]),
        ("mode", ["Major", "min", "Moll"], [1, 0, 0]),
        ("explicit", ["WAHR", "Falsch", "no"], [1, 0, 0]),
        ("time_signature", ["4/4", "3/4", "6/8"], [4, 3, 6]),
    ],
)
def test_units_and_words_in_the_cells(
    raw_songs: pd.DataFrame, write: Write, column: str, cells: list[str], values: list[float]
) -> None:
    songs = load_songs(write(raw_songs.head(3).assign(**{column: cells})), deduplicate=False).songs
    np.testing.assert_allclose(songs[column], values)


def test_a_key_with_its_mode_gives_the_mode_where_there_is_no_other(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.head(2).assign(key=["A minor", "C Major"])
    table = load_songs(write(songs.drop(columns="mode")))
    assert table.songs["mode"].tolist() == [0, 1]
    assert ("mode", "", "from 'key'") in table.report.mapped
    assert load_songs(write(songs.assign(mode=[1, 1]))).songs["mode"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["0,486", "115,535", "7,5"], [0.486, 115.535, 7.5]),
        (["1.234,5", "0,5", "12,25"], [1234.5, 0.5, 12.25]),
        (["1,234.5", "0.5", "12"], [1234.5, 0.5, 12]),
        (["1,234,567", "12", "1"], [1_234_567, 12, 1]),
    ],
)
def test_decimal_and_thousands_signs(cells: list[str], values: list[float]) -> None:
    from popularity.data.numbers import read_numbers

    numbers = read_numbers(pd.Series(cells, dtype="str"))
    np.testing.assert_allclose(numbers.values, values)
    assert not numbers.unreadable.any()


def test_a_lone_comma_in_a_duration_follows_the_file(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.head(3).assign(duration_ms=["211,000", "158,000", "276,500"])
    np.testing.assert_allclose(load_songs(write(songs)).songs["duration_ms"], MS)
    minutes = songs.assign(duration_ms=["3,516", "2,633", "4,608"])
    minutes["energy"] = [f"0,{digits}" for digits in ("4865", "12", "9")]
    loaded = load_songs(write(minutes, sep=";")).songs["duration_ms"]
    np.testing.assert_allclose(loaded, np.array([3.516, 2.633, 4.608]) * 60_000)


def test_minutes_and_seconds_with_a_point_between_them(raw_songs: pd.DataFrame, write: Write) -> None:
    ms = raw_songs["duration_ms"] // 1000 * 1000
    cells = [f"{m // 60_000}.{m // 1000 % 60:02}" for m in ms]
    table = load_songs(write(raw_songs.drop(columns="duration_ms").assign(duration=cells)))
    assert table.songs["duration_ms"].tolist() == ms.tolist()
    assert "3.31 taken as 3 min 31 s" in "\n".join(table.report.lines())


def test_decimal_minutes_with_two_digits_stay_decimal(raw_songs: pd.DataFrame, write: Write) -> None:
    minutes = (raw_songs["duration_ms"] / 60_000).round(2)
    found = load_songs(write(raw_songs.assign(duration_ms=minutes))).songs["duration_ms"]
    np.testing.assert_allclose(found, minutes * 60_000)


@pytest.mark.parametrize("cell", ["3'31''", "3分31秒", "3 m 31 s"])
def test_further_ways_to_write_minutes_and_seconds(raw_songs: pd.DataFrame, write: Write, cell: str) -> None:
    assert (load_songs(write(raw_songs.assign(duration_ms=cell))).songs["duration_ms"] == 211_000).all()


@pytest.mark.parametrize("minus", ["-", "\u2212", "\u2013"])
@pytest.mark.parametrize("unit", ["", " dB"])
def test_a_minus_of_any_kind(raw_songs: pd.DataFrame, write: Write, minus: str, unit: str) -> None:
    cells = [f"{minus}{-loudness}{unit}" for loudness in raw_songs["loudness"]]
    found = load_songs(write(raw_songs.assign(loudness=cells))).songs["loudness"]
    assert found.tolist() == raw_songs["loudness"].tolist()


def test_instrumentalness_alone_in_per_cent_is_mostly_below_one(raw_songs: pd.DataFrame, write: Write) -> None:
    shares = np.where(np.arange(len(raw_songs)) % 4 == 0, 0.5, 0.0003)
    table = load_songs(write(raw_songs.assign(instrumentalness=shares * 100)), deduplicate=False)
    np.testing.assert_allclose(table.songs["instrumentalness"], shares)


@pytest.mark.parametrize(
    ("column", "change", "line"),
    [
        ("tempo", lambda tempo: 100 * (tempo - tempo.min()) / (tempo.max() - tempo.min()), "beats per minute"),
        ("popularity", lambda popularity: popularity / 10, "from 0 to 9.9 with decimals"),
        ("popularity", np.log1p, "with decimals"),
    ],
)
def test_a_rescaled_column_is_refused(
    raw_songs: pd.DataFrame, write: Write, column: str, change: Callable[[pd.Series], pd.Series], line: str
) -> None:
    raw_songs["tempo"] = 60 + np.linspace(0, 1, len(raw_songs)) ** 2 * 140
    raw_songs["popularity"] = [0, 99, *raw_songs["popularity"][2:]]
    with pytest.raises(InputError, match=rf"column '{column}': .*{line}"):
        load_songs(write(raw_songs.assign(**{column: change(raw_songs[column])})))


def test_keys_from_1_to_12(raw_songs: pd.DataFrame, write: Write) -> None:
    raw_songs["key"] = np.arange(len(raw_songs)) % 12
    table = load_songs(write(raw_songs.assign(key=raw_songs["key"] + 1)))
    assert table.songs["key"].tolist() == raw_songs["key"].tolist()
    assert "1 to 12 taken as 0 to 11" in "\n".join(table.report.lines())


@pytest.mark.parametrize("words", [("False", "True"), ("m", "M"), ("MINOR", "MAJOR")])
def test_words_for_the_mode(raw_songs: pd.DataFrame, write: Write, words: tuple[str, str]) -> None:
    cells = [words[mode] for mode in raw_songs["mode"]]
    assert load_songs(write(raw_songs.assign(mode=cells))).songs["mode"].tolist() == raw_songs["mode"].tolist()


TRUTH = (
    "Sí/No Sì/No Ja/Nej Ja/Nee Ja/Nein Sim/Não Evet/Hayır EVET/HAYIR Tak/Nie Oui/Non Да/Нет 是/否 "
    "TRUE/FALSE DOĞRU/YANLIŞ PRAWDA/FAŁSZ WAAR/ONWAAR VRAI/FAUX WAHR/FALSCH VERDADERO/FALSO VERO/FALSO "
    "ИСТИНА/ЛОЖЬ 참/거짓 on/off Explicit/Clean explicit/notExplicit S/N J/N"
)
MODES = "Major/Minor MAYOR/MENOR Majeur/Mineur Maggiore/Minore Dur/Moll Maior/Menor majör/minör"


@pytest.mark.parametrize("column", ["explicit", "mode"])
def test_both_words_of_a_language(column: str) -> None:
    pairs = TRUTH if column == "explicit" else MODES
    read = {pair: [read_word(column, word) for word in pair.split("/")] for pair in pairs.split()}
    assert read == {pair: [1, 0] for pair in read}


@pytest.mark.parametrize("keys", [["C", "b", "H"], ["Es-Dur", "B-Moll", "h-Moll"], ["A", "B", "Hm"]])
def test_where_h_is_a_key_b_is_the_one_below(raw_songs: pd.DataFrame, write: Write, keys: list[str]) -> None:
    songs = load_songs(write(raw_songs.head(3).assign(key=keys)), deduplicate=False).songs
    assert songs["key"].tolist()[1:] == [10, 11]


@pytest.mark.parametrize("keys", [["A", "B", "C"], ["Bb", "B", "H"], ["Bb", "B", "H#"]])
def test_elsewhere_b_is_b(raw_songs: pd.DataFrame, write: Write, keys: list[str]) -> None:
    songs = load_songs(write(raw_songs.head(3).assign(key=keys)), deduplicate=False).songs
    assert songs["key"].tolist()[1] == 11


def test_parts_of_a_file_name_keys_alike() -> None:
    decisions = Decisions()
    read_keys(pd.Series(["H", "B"]), decisions)
    assert read_keys(pd.Series(["B", "b moll"]), decisions)[0].tolist() == [10, 10]


DURATION_NAMES = (
    "Duration (mm:ss)|Duration (hh:mm:ss)|Length (min:sec)|Duration (m:s)|Length (s)|Length (sec)|Length_sec|time (s)|"
    "length_seconds|song_length_ms|track_length_ms|durationMillis|trackTimeMillis|duration_in_milliseconds|"
    "Duration [ms]|Duration (milliseconds)|Track Length|Playtime|Running Time (min)|"
    "Dauer (ms)|Dauer (Sek.)|Länge|Laufzeit|Spieldauer|"
    "Durée (s)|Durée en secondes|Duración (min)|Duração (ms)|Durata (ms)|Süre|Süre (ms)|재생 시간|再生時間（秒）"
)


@pytest.mark.parametrize("column", DURATION_NAMES.split("|"))
@pytest.mark.parametrize("cells", [["3:31", "2:38", "4:36.5"], MS.tolist(), (MS / 1000).tolist()], ids=str)
def test_names_of_durations(raw_songs: pd.DataFrame, write: Write, column: str, cells: list[Any]) -> None:
    songs = raw_songs.head(3).drop(columns="duration_ms").assign(**{column: cells})
    np.testing.assert_allclose(load_songs(write(songs)).songs["duration_ms"], MS)


@pytest.mark.parametrize(
    ("column", "unit"),
    [("Länge (Sek.)", 1000), ("DUR", 1000), ("Length (Duration)", 1000), ("duration_min", 60_000), ("Duration", 1)],
)
def test_the_unit_in_a_name(column: str, unit: int) -> None:
    assert named_unit(column) == unit


def test_a_name_that_says_minutes_and_seconds(raw_songs: pd.DataFrame, write: Write) -> None:
    songs = raw_songs.head(3).drop(columns="duration_ms")
    found = load_songs(write(songs.assign(**{"Duration (mm.ss)": ["3.31", "2.38", "4.5"]}))).songs
    np.testing.assert_allclose(found["duration_ms"], [211_000, 158_000, 290_000])
    decimal = load_songs(write(songs.assign(**{"Duration (mm.ss)": ["3.75", "2.5", "4.5"]}))).songs
    np.testing.assert_allclose(decimal["duration_ms"], [225_000, 150_000, 270_000])


@pytest.mark.parametrize(
    "form",
    [
        "P0DT0H{m}M{s}S",
        "12:{m:02}:{s:02} AM",
        "{m:02}:{s:02}:00 AM",
        "{m}분 {s}초",
        "{m} Min. {s} Sek.",
        "{m} dk {s} sn",
        "{m}m {s}s.",
        "{total} sec.",
        "{total} segundos",
        "[{m}:{s:02}]",
        "({m}:{s:02})",
        "1900-01-01 00:{m:02}:{s:02}",
        "1899-12-30T00:{m:02}:{s:02}",
        "1970-01-01T00:{m:02}:{s:02}.000Z",
    ],
)
def test_durations_of_spreadsheets_and_other_languages(raw_songs: pd.DataFrame, write: Write, form: str) -> None:
    seconds = raw_songs["duration_ms"] // 1000
    cells = [form.format(m=total // 60, s=total % 60, total=total) for total in seconds]
    found = load_songs(write(raw_songs.assign(duration_ms=cells))).songs["duration_ms"]
    np.testing.assert_allclose(found, seconds * 1000)


@pytest.mark.parametrize("zero", ["0:00", "00:00:00", "0 s", "PT0S"])
def test_a_duration_of_nothing_is_missing(raw_songs: pd.DataFrame, write: Write, zero: str) -> None:
    cells = [zero, *(f"{ms // 60_000}:{ms // 1000 % 60:02}" for ms in raw_songs["duration_ms"][1:])]
    table = load_songs(write(raw_songs.assign(duration_ms=cells)))
    assert table.songs["duration_ms"].isna().to_numpy().nonzero()[0].tolist() == [0]
    assert table.report.coded_missing["duration_ms"] == 1


@pytest.mark.parametrize("count", [1, 3, 40])
def test_parts_of_a_day(raw_songs: pd.DataFrame, write: Write, count: int) -> None:
    songs = raw_songs.head(count)
    table = load_songs(write(songs.assign(duration_ms=songs["duration_ms"] / 86_400_000)), need_popularity=False)
    np.testing.assert_allclose(table.songs["duration_ms"], songs["duration_ms"])
    assert "fractions of a day" in "\n".join(table.report.lines())


def test_time_spans_in_a_dataframe(raw_songs: pd.DataFrame) -> None:
    from popularity.inference.regressor import _songs

    spans = raw_songs.assign(duration_ms=pd.to_timedelta(raw_songs["duration_ms"], unit="ms"))
    spans.loc[0, "duration_ms"] = pd.NaT
    found = _songs(spans, None, deduplicate=False, optional_audio=False).songs["duration_ms"]
    np.testing.assert_allclose(found[1:], raw_songs["duration_ms"][1:])
    assert np.isnan(found[0])
