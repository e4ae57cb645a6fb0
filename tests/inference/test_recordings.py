"""Estimates from made-up recordings whose truth is known, and the file that ``features`` writes of them."""

from __future__ import annotations

import json
import wave

import numpy as np
import pandas as pd
import pytest

from popularity.__main__ import main
from popularity.errors import InputError
from tests.conftest import Lazy

recordings = Lazy("popularity.inference.recordings")
songs_module = Lazy("popularity.data.songs")

RATE = 44_100


def write(path, sound, rate=RATE):
    """Write samples ``(n)``, or ``(n, 2)`` for stereo, from -1 to 1."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if sound.ndim == 1 else 2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32767).round().astype("<i2").tobytes())
    return str(path)


def sine(frequency, seconds, level, rate=RATE):
    """A sine whose peak is at a level in dBFS."""
    return 10 ** (level / 20) * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def clicks(tempo, seconds, rate=RATE):
    sound, tone = np.zeros(int(seconds * rate)), sine(1000, 0.03, -6, rate)
    for beat in np.arange(0, seconds - 0.1, 60 / tempo):
        sound[int(beat * rate) :][: len(tone)] += tone * np.exp(-np.arange(len(tone)) / (0.005 * rate))
    return sound


def triad(root, third, seconds):
    steps = (0, third, 7, 12)
    return sum(sine(261.6256 * 2 ** ((root + step) / 12) * n, seconds, -22) / n for step in steps for n in (1, 2, 3))


@pytest.fixture(scope="module", autouse=True)
def essentia():
    return pytest.importorskip("essentia", reason="the extra [audio] is not installed")


# EBU Tech 3341, table 1: a stereo sine of 1 kHz whose peak is at -23 dBFS in both channels has -23 LUFS, within 0.1
@pytest.mark.parametrize("level", [-23, -33])
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_loudness_is_that_of_the_standard(level, rate, tmp_path):
    one = sine(1000, 6, level, rate)
    stereo = recordings.read_recording(write(tmp_path / "two.wav", np.stack([one, one], axis=1), rate))
    mono = recordings.read_recording(write(tmp_path / "one.wav", one, rate))
    assert stereo["loudness"] == pytest.approx(level, abs=0.1)
    assert mono["loudness"] == pytest.approx(level, abs=0.1)  # a recording of one channel is played on two
    assert stereo["duration_ms"] == mono["duration_ms"] == 6000


def test_loudness_leaves_out_silence(tmp_path):
    loud, silence = sine(1000, 6, -23), np.zeros(6 * RATE)
    found = recordings.read_recording(write(tmp_path / "half.wav", np.concatenate([loud, silence])))
    assert found["loudness"] == pytest.approx(-23, abs=0.2)  # its mean power is 3 dB lower: the gate leaves it out


@pytest.mark.parametrize("tempo", [85, 100, 120, 140])
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_tempo_of_clicks(tempo, rate, tmp_path):
    found = recordings.read_recording(write(tmp_path / "clicks.wav", clicks(tempo, 20, rate), rate))
    assert found["tempo"] == pytest.approx(tempo, rel=0.01)


@pytest.mark.slow
def test_key_and_mode_of_all_triads(tmp_path):
    found = {}
    for root in range(12):
        for mode, third in ((1, 4), (0, 3)):
            read = recordings.read_recording(write(tmp_path / "triad.wav", triad(root, third, 5)))
            found[root, mode] = read["key"], read["mode"]
    assert found == {name: name for name in found}


def test_what_cannot_be_told_is_missing(tmp_path):
    silence = recordings.read_recording(write(tmp_path / "silence.wav", np.zeros(6 * RATE)))
    short = recordings.read_recording(write(tmp_path / "short.wav", clicks(120, 3)))
    assert silence["duration_ms"] == 6000
    assert [silence[name] for name in ("loudness", "tempo", "key", "mode")] == [None] * 4
    assert short["loudness"] < 0
    assert [short[name] for name in ("tempo", "key", "mode")] == [None] * 3


@pytest.mark.parametrize(
    ("name", "artist", "title"),
    [
        ("Ann - One.wav", "Ann", "One"),
        ("03 - Jay-Z - 99 Problems (Live).wav", "Jay-Z", "99 Problems (Live)"),
        ("07. Two.wav", None, "Two"),
        ("99 Problems.wav", None, "99 Problems"),
        ("a - b - c.wav", "a", "b - c"),
    ],
)
def test_names_come_from_the_file_name(name, artist, title, tmp_path):
    found = recordings.read_recording(write(tmp_path / name, np.zeros(RATE)))
    assert (found["artist"], found["title"], found["album"], found["release_date"]) == (artist, title, None, None)


def id3(**frames):
    """An ID3v2.3 tag of UTF-16 text frames."""
    body = b""
    for name, text in frames.items():
        data = b"\x01" + text.encode("utf-16")
        body += name.encode() + len(data).to_bytes(4, "big") + b"\0\0" + data
    size = bytes((len(body) >> shift) & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + body


def test_names_come_from_the_tags_first(essentia, tmp_path):
    from essentia import standard

    path = tmp_path / "Other - Name.mp3"
    sound = np.stack([clicks(120, 8)] * 2, axis=1).astype(np.float32)
    standard.AudioWriter(filename=str(path), format="mp3")(sound)
    path.write_bytes(id3(TIT2="Déjà vu", TPE1="Ann", TALB="First", TYER="2019") + path.read_bytes())
    found = recordings.read_recording(path)
    assert (found["artist"], found["title"], found["album"], found["release_date"]) == (
        "Ann",
        "Déjà vu",
        "First",
        "2019",
    )
    assert found["duration_ms"] == pytest.approx(8000, abs=60)  # an encoder pads its frames
    assert found["tempo"] == pytest.approx(120, rel=0.01)


def test_a_file_that_is_no_recording_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.mp3").write_text("not a recording\n" * 50)
    with pytest.raises(InputError, match=r"text\.mp3: expected a recording, got a file that cannot be decoded \(.+\)$"):
        recordings.read_recording(tmp_path / "text.mp3")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "Ann - One.wav", clicks(120, 6))
    write(tmp_path / "Bob - Two.wav", np.zeros(RATE))
    (tmp_path / "broken.wav").write_text("not a recording\n")
    return tmp_path


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.jsonl", "-"])
def test_the_table_holds_canonical_columns(name, folder, capsys):
    assert main(["features", "*.wav", "--output", name]) == 0
    printed = capsys.readouterr()
    if name.endswith(".parquet"):
        table = pd.read_parquet(name)
    elif name.endswith(".jsonl"):
        table = pd.DataFrame(map(json.loads, (folder / name).read_text().splitlines()))
    else:
        (folder / "out.csv").write_text(printed.out) if name == "-" else None
        table = pd.read_csv("out.csv")
    assert list(table) == [
        *("title", "artist", "album", "release_date"),
        *("duration_ms", "loudness", "tempo", "key", "mode", "file"),
    ]
    assert table["artist"].tolist() == ["Ann", "Bob"]
    assert table["duration_ms"].tolist() == [6000, 1000]
    assert table["tempo"].isna().tolist() == [False, True]
    lines = printed.err.splitlines()
    assert "left out: broken.wav: expected a recording" in lines[0]
    assert "2 recordings written to" in lines[1]
    assert "1 left out" in lines[1]
    assert "missing: acousticness, danceability" in lines[2]
    assert len(lines) == 3


def test_the_loader_reads_the_table(folder):
    assert main(["features", "Ann - One.wav", "--output", "out.csv"]) == 0
    read = songs_module.load_songs("out.csv", need_popularity=False, optional_audio=True)
    assert read.songs["tempo"].item() == pytest.approx(120, rel=0.01)
    assert not read.report.unread
    with pytest.raises(InputError, match=r"fit --data\.optional_audio true"):
        songs_module.load_songs("out.csv", need_popularity=False)


def test_nothing_is_written_without_a_recording(folder, capsys):
    (folder / "features.csv").write_text("old")
    assert main(["features", "broken.wav"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: features: expected a recording, got none in 1 file"
    assert (folder / "features.csv").read_text() == "old"


def test_an_input_is_never_replaced(folder, capsys):
    assert main(["features", "Ann - One.wav", "--output", "Ann - One.wav"]) == 2
    assert "expected another file to write to" in capsys.readouterr().err


def test_a_missing_package_is_named(folder, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "essentia", None)
    assert main(["features", "Ann - One.wav"]) == 2
    assert "the package essentia is missing, install this project's extra [audio]" in capsys.readouterr().err
