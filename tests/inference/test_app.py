"""The page of `app`: its numbers are those of `predict`, what is wrong stands on it in one line, and it asks nobody."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from popularity.__main__ import main
from popularity.errors import InputError
from tests.chromium import BODY, DESKTOP, PHONE, Chromium
from tests.conftest import Lazy, make_songs
from tests.inference.test_explain import fit

page = Lazy("popularity.inference.app_page")
PICTURE = "![a](http://b.invalid/c.png)"  # Markdown, as a title
FORMULA = "=1+1"  # one of a spreadsheet
PAGE = "from popularity.inference.app_page import page\npage('best.ckpt')\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a checkpoint, `best.ckpt`, beside the songs that it was trained on."""
    folder = tmp_path_factory.mktemp("run")
    make_songs(60).to_csv(folder / "songs.csv", index=False)
    shutil.copy(fit(folder), folder / "best.ckpt")
    new = make_songs(5, seed=1).drop(columns="popularity")
    new.loc[[0, 4], "track_name"] = PICTURE, FORMULA
    new.to_csv(folder / "new.csv", index=False)
    (folder / "bad.csv").write_text("name,score\na,1\n")
    return folder


@pytest.fixture
def here(trained, monkeypatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


@pytest.fixture(scope="module")
def loaded(trained) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        return page.load("best.ckpt")


@pytest.fixture
def shown(here) -> Any:
    """The page without a browser, as it is at first."""
    testing = pytest.importorskip("streamlit.testing.v1")
    test = testing.AppTest.from_string(PAGE, default_timeout=300).run()
    assert not test.exception
    return test


def test_one_song_is_predicted_as_predict_does(shown, here, capsys):
    song = ["--song", "danceability=.7,energy=.7,tempo=120", "--artist", "Artist 3", "--title", "Anew"]
    assert main(["predict", "--ckpt_path", "best.ckpt", *song, "--cutoffs", "50,70"]) == 0
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)
    shown.text_input[0].input("Artist 3")
    shown.text_input[1].input("Anew")
    shown.text_input[2].input("danceability=.7,energy=.7,tempo=120")
    shown.button[0].click().run()
    assert not shown.exception
    assert shown.subheader[0].value == "Anew - Artist 3"
    low, high = (f"{float(told[f'{end} 80']):.0f}" for end in ("low", "high"))
    values = [metric.value for metric in shown.metric]
    assert values == [f"{float(told['predicted popularity']):.0f}", f"{low} to {high}"]
    text = " ".join(part.value for part in shown.markdown)
    assert f"{100 * float(told['chance 50']):.0f} % to reach 50" in text
    assert told["reasons"] in text
    assert {slider.label for slider in shown.slider} == {"danceability", "energy", "tempo"}
    table = shown.table[0].value
    assert {"Artist 3"} == set(table.loc[table["why"] == "same artist", "artist"])
    assert (table["why"] == "sounds similar").any()
    assert any("correlation is not cause" in part.value for part in shown.caption)


def test_a_slider_moves_the_prediction_and_the_curve(shown, loaded, monkeypatch):
    curves = []
    plot = page.plots.what_if_line
    monkeypatch.setattr("popularity.plots.what_if_line", lambda *of: curves.append(of) or plot(*of))
    shown.run()
    slider = next(slider for slider in shown.slider if slider.label == "energy")
    slider.set_value(slider.min).run()
    assert not shown.exception
    shown.selectbox[0].select("energy").run()
    before, after, energy = curves
    assert (before[2]["prediction"].to_numpy() != after[2]["prediction"].to_numpy()).any(), "energy is another"
    assert (after[2]["low"] <= after[2]["high"]).all()
    assert energy[0] == "energy"
    assert energy[3][0] == pytest.approx(slider.min), "the song stands where the slider is"
    assert energy[3][1] == pytest.approx(energy[2]["prediction"].iloc[0], abs=1e-3)


def test_what_is_wrong_with_a_song_stands_on_the_page(shown):
    shown.text_input[2].input("danceabilty=.7")
    shown.button[0].click().run()
    assert not shown.exception
    assert [error.value for error in shown.error] == [
        "expected columns of a song, got 'danceabilty'; did you mean danceability?"
    ]
    assert not shown.metric


@pytest.mark.slow
def test_what_is_wrong_with_a_file_stands_on_the_page(shown):
    shown.radio[0].set_value("A file of songs").run()
    shown.file_uploader[0].set_value(("bad.csv", Path("bad.csv").read_bytes(), "text/csv")).run()
    assert not shown.exception
    assert [error.value[:9] for error in shown.error] == ["bad.csv: "]
    assert "\n" not in shown.error[0].value
    shown.file_uploader[0].set_value(("new.csv", Path("new.csv").read_bytes(), "text/csv")).run()
    assert not shown.exception
    table = shown.dataframe[0].value
    assert table["title"].tolist()[1:] == ["Song 1", "Song 2", "Song 3", f"'{FORMULA}"], "the table saves itself as CSV"
    assert table["predicted_popularity"].dtype.kind == "f"
    assert shown.subheader[0].value.startswith(r"\!\[a\](http://b.invalid/c.png) - "), "a text, not a picture"
    shown.number_input[0].set_value(3).run()
    assert shown.subheader[0].value.startswith("Song 2 - ")


def test_a_file_is_predicted_in_its_order(loaded, here):
    songs, table, lines = page.predicted_file(loaded, "new.csv", Path("new.csv").read_bytes())
    assert table["title"].tolist() == songs["title"].tolist() == [PICTURE, "Song 1", "Song 2", "Song 3", FORMULA]
    assert table["reasons"].str.len().gt(0).all()
    assert {"low_80", "high_80", "chance_50", "chance_70"} <= set(table)
    assert lines[0] == "new.csv (CSV, utf-8): 5 rows, 5 songs"


def test_a_bad_file_is_named_as_the_user_knows_it(loaded, here):
    with pytest.raises(InputError) as caught:
        page.predicted_file(loaded, "bad.csv", Path("bad.csv").read_bytes())
    assert str(caught.value).startswith("bad.csv: ")
    assert "\n" not in str(caught.value)


def test_similar_songs_sound_similar(loaded):
    known = loaded.known
    song = known.iloc[[7]].assign(artist="Nobody").reset_index(drop=True)
    found = page.similar_songs(song, known, loaded.ranges)
    assert found["why"].tolist() == ["sounds similar"] * 5
    assert found["title"].iloc[0] == known["title"].iloc[7], "the song itself is nearest"
    own = page.similar_songs(known.iloc[[7]].reset_index(drop=True), known, loaded.ranges)
    mine = own[own["why"] == "same artist"]
    assert set(mine["artist"]) == {known["artist"].iloc[7]}
    assert not own["title"].duplicated().any()
    nameless = song.assign(**dict.fromkeys(loaded.ranges, np.nan))
    assert page.similar_songs(nameless, known, loaded.ranges).empty


def test_without_the_songs_of_the_fit(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(here / "best.ckpt", "best.ckpt")
    assert page.load("best.ckpt").known is None


def test_what_cannot_be_served(here, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        pytest.importorskip("streamlit")
        for flags, told in (
            (["--ckpt_path", "best.ckpt", "--port", str(port)], f"--port: cannot use {port}"),
            (["--ckpt_path", "best.ckpt", "--port", "70000"], "expected a number from 0"),
            (["--ckpt_path", "songs.csv"], "songs.csv: expected a checkpoint"),
        ):
            assert main(["app", *flags]) == 2
            error = capsys.readouterr().err
            assert told in error
            assert error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "streamlit", None)
    monkeypatch.setitem(sys.modules, "streamlit.web", None)
    assert main(["app", "--ckpt_path", "best.ckpt"]) == 2
    assert capsys.readouterr().err == (
        "error: app: the package streamlit is missing, install this project's extra [app]\n"
    )


@pytest.fixture(scope="module")
def address(trained) -> Iterator[str]:
    """The page, served by the command."""
    pytest.importorskip("streamlit")
    command = [sys.executable, "-m", "popularity", "app", "--ckpt_path", "best.ckpt"]
    server = subprocess.Popen(
        command, cwd=trained, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.fullmatch(r"page: (http://127\.0\.0\.1:\d+) \(Ctrl-C ends it\)\n", line)
        assert found is not None, line + (server.stdout.read() if server.poll() is not None else "")
        yield found[1]
    finally:
        server.terminate()
        server.wait(300)
        assert server.stdout is not None
        server.stdout.close()


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


@pytest.mark.slow
def test_the_page_in_a_browser(address, here, tmp_path):
    picture = "[...document.querySelectorAll('img')].filter(i => i.complete && i.naturalWidth > 50).map(i => i.src)[0]"
    for number, width in enumerate((DESKTOP, PHONE)):
        with Chromium(tmp_path / str(number)) as browser:
            browser.open(address, width)
            browser.wait(f"{BODY}.includes('sounds similar')")
            before = browser.wait(picture)
            assert browser.overflow() <= 0
            browser.script("document.querySelector('input[type=range]').focus()")
            browser.press("ArrowRight")
            browser.wait(f"({picture} || {before!r}) != {before!r}")  # the curve has moved
            browser.click("label:has(> span > input[type=radio][value='1'])")
            browser.choose_file("input[type=file]", here / "bad.csv")
            error = browser.wait("(document.querySelector('[data-testid=stAlert]') || {}).innerText")
            assert error.startswith("bad.csv: ")
            browser.choose_file("input[type=file]", here / "new.csv")
            browser.wait(f"{BODY}.includes('Look at song number, of 5')")
            browser.wait(f"{BODY}.includes('{PICTURE} - ')")
            assert browser.overflow() <= 0
            assert {
                request for request in browser.requests if not request.startswith((address, "data:", "blob:"))
            } == set()


@pytest.mark.slow
def test_only_this_computer_reaches_the_page(address):
    port = int(address.rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port), 10).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 10)
