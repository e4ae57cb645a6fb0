"""A table written in any dialect reads back as the same songs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.data.schema import AUDIO_UNIT
from popularity.data.songs import load_songs

NAMES = ["Nora Quill", "Zoë Åse", "The Tin Harbour", "Basil & Reed", "Señor Ñ", "O'Dell"]


def songs(count: int, seed: int) -> pd.DataFrame:
    """Songs as the loader gives them, with values that every unit and decimal sign can write exactly."""
    rng = np.random.default_rng(seed)
    artists = [";".join(rng.choice(NAMES, size=rng.choice([1, 1, 2]), replace=False)) for _ in range(count)]
    days = rng.integers(0, 18_000, count)
    days[0] = 24  # 1970-01-25 tells the order of day and month
    return pd.DataFrame(
        {
            "track_id": [f"{i:022}" for i in range(count)],
            "title": [f"Canção {i}" for i in range(count)],
            "artist": artists,
            "release_date": np.datetime64("1970-01-01") + days,
            **{name: rng.integers(5, 99, count) / 100 for name in AUDIO_UNIT},
            "duration_ms": rng.integers(90, 400, count) * 1000,
            "loudness": -rng.integers(20, 200, count) / 10,
            "tempo": rng.integers(600, 1900, count) / 10,
            "key": rng.integers(0, 12, count),
            "mode": rng.integers(0, 2, count),
            "popularity": rng.permutation(100)[:count],
        }
    )


ARTISTS = {
    "semicolons": lambda names: ";".join(names),
    "list": repr,
    "dicts": lambda names: repr([{"id": "x", "name": name} for name in names]),
    "json": lambda names: "[" + ", ".join(f'{{"name": "{name}"}}' for name in names) + "]",
    "R": lambda names: "c(" + ", ".join(f'"{name}"' for name in names) + ")",
}
DATES = ["%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y%m%d", "%d %b %Y", "%b %d, %Y"]
DURATIONS = {
    "ms": lambda ms: ms,
    "seconds": lambda ms: ms // 1000,
    "clock": lambda ms: f"{ms // 60_000}:{ms // 1000 % 60:02}",
    "words": lambda ms: f"{ms // 60_000} min {ms // 1000 % 60} s",
    "grouped": lambda ms: f"{ms:,}",
}
SHARES = {
    "fraction": lambda share: share,
    "per cent": lambda share: round(share * 100),
    "with sign": lambda share: f"{round(share * 100)}%",
    "with decimals": lambda share: round(share * 100, 2) + 0.0,
}
KEYS = ["C", "C#", "D", "D♯/E♭", "E", "F", "F#", "G", "Ab", "A", "B♭", "B"]
LOUDNESS = {"plain": lambda db: db, "dB": lambda db: f"{db} dB", "minus": lambda db: str(db).replace("-", "\u2212")}


def written(table: pd.DataFrame, dialect: dict[str, Any]) -> pd.DataFrame:
    """The table as a file in this dialect holds it."""
    share = SHARES[dialect["share"]]
    out = table.assign(
        artist=[ARTISTS[dialect["artist"]](cell.split(";")) for cell in table["artist"]],
        release_date=table["release_date"].dt.strftime(dialect["date"]),
        duration_ms=table["duration_ms"].map(DURATIONS[dialect["duration"]]),
        loudness=table["loudness"].map(LOUDNESS[dialect["loudness"]]),
        **{name: table[name].map(share) for name in AUDIO_UNIT},
    )
    if dialect["key"]:
        out["key"] = [KEYS[key] for key in table["key"]]
    return out.astype(object)


DIALECTS = st.fixed_dictionaries(
    {
        "artist": st.sampled_from(sorted(ARTISTS)),
        "date": st.sampled_from(DATES),
        "duration": st.sampled_from(sorted(DURATIONS)),
        "share": st.sampled_from(sorted(SHARES)),
        "loudness": st.sampled_from(sorted(LOUDNESS)),
        "key": st.booleans(),
        "missing": st.sampled_from(["", "?", "NA", "-1", "n/a", "NULL", "-"]),
        "delimiter": st.sampled_from(",;\t|"),
        "decimal": st.sampled_from(".,"),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
        "quoting": st.sampled_from([0, 1]),
        "line": st.sampled_from(["\n", "\r\n"]),
    }
)


@settings(max_examples=25)
@given(DIALECTS, st.integers(2, 40), st.integers(0, 5), st.sampled_from(["tempo", "duration_ms", "energy", ""]))
def test_any_dialect_gives_the_same_songs(
    tmp_path_factory: pytest.TempPathFactory, dialect: dict[str, Any], count: int, seed: int, gap: str
) -> None:
    table = songs(count, seed)
    path = tmp_path_factory.mktemp("dialect") / "songs.csv"
    lines = written(table, dialect)
    if gap:
        lines.loc[1, gap] = dialect["missing"]
        table[gap] = table[gap].astype(float)
        table.loc[1, gap] = np.nan
    if dialect["decimal"] == ",":
        lines = lines.map(lambda cell: str(cell).replace(".", ",") if isinstance(cell, float) else cell)
    try:
        text = lines.to_csv(
            index=False, sep=dialect["delimiter"], quoting=dialect["quoting"], lineterminator=dialect["line"]
        )
        path.write_bytes(text.encode(dialect["encoding"]))
    except UnicodeEncodeError:
        return  # cp1252 has no flat sign
    found = load_songs(str(path), deduplicate=False).songs
    for name in table:
        if table[name].dtype.kind in "fi":
            np.testing.assert_allclose(found[name], table[name], rtol=1e-9, err_msg=f"{name}\n{text[:600]}")
        else:
            assert found[name].tolist() == table[name].tolist(), f"{name}\n{text[:600]}"


def test_a_dialect_is_written_as_it_says() -> None:
    dialect = {"artist": "R", "date": "%d.%m.%Y", "duration": "clock", "share": "with sign", "loudness": "dB", "key": 1}
    row = written(songs(2, 0), dialect).iloc[0]
    assert row["artist"].startswith('c("')
    assert row["release_date"] == "25.01.1970"
    assert row["energy"].endswith("%")
