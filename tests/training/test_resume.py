"""Going on with a run: its config repeats it, and a command that is refused leaves it as it is."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from popularity.__main__ import main
from tests.conftest import make_songs
from tests.test_fit import PLAIN, SMALL, fit


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, song_file: Path) -> Path:
    """A run of one epoch that was resumed for a second one."""
    folder = tmp_path_factory.mktemp("resumed")
    run = fit(folder, song_file, epochs=1)
    assert fit(folder, song_file, "--ckpt_path", "last", epochs=2) == run
    return run


def epochs(run: Path) -> list[str]:
    """The epochs whose validation is in a run's metrics, in their order."""
    with open(run / "metrics.csv") as file:
        return [row["epoch"] for row in csv.DictReader(file) if row["val/mse"]]


def test_a_resumed_run_has_each_epoch_once(resumed: Path) -> None:
    assert epochs(resumed) == ["0", "1"]


def test_the_config_of_a_resumed_run_trains_from_the_start(resumed: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((resumed / "config.yaml").read_text())
    assert not {"ckpt_path", "config", "weights_only"} & config.keys()
    assert main(["fit", "-c", str(resumed / "config.yaml"), "--log_dir", str(tmp_path), *PLAIN]) == 0
    again = tmp_path / "small" / "version_0"
    assert epochs(again) == ["0", "1"]
    assert yaml.safe_load((again / "config.yaml").read_text()) == {**config, "log_dir": str(tmp_path)}


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["--data.source", "OTHER"], "trained on other data"),
        (["--data.fold", "1"], "trained on other data"),
        (["--data.split", "artist"], "trained on other data"),
        (["--model.net.width", "16"], "model.net.width 8, here it is 16"),
        (["--model.learning_rate", "0.5"], "model.learning_rate 0.002, here it is 0.5"),
        (["--model.head", "MSEHead"], "model.head HistogramHead, here it is MSEHead"),
        (["--checkpoint.monitor", "val/nothing"], "--checkpoint.monitor: expected one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_refused_fit_changes_no_file_of_the_run(changed, named, resumed, song_file, tmp_path, capsys) -> None:
    other = tmp_path / "other.csv"
    make_songs(200, seed=5).to_csv(other, index=False)
    folder = resumed.parents[1]
    before = files_of(folder)
    arguments = ["--name", "small", "--log_dir", str(folder), "--data.source", str(song_file), "--ckpt_path", "last"]
    changed = [str(other) if word == "OTHER" else word for word in changed]
    assert main(["fit", *arguments, *SMALL, *PLAIN, *changed]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert named in error[0]
    assert files_of(folder) == before
