"""Going on with a run: its config repeats it, and a command that is refused leaves it as it is."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture
def before(resumed: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the run, which takes its place again after the test: a checkpoint knows the folder that it is in."""
    shutil.copytree(resumed, tmp_path / "before")
    yield tmp_path / "before"
    shutil.rmtree(resumed)
    shutil.copytree(tmp_path / "before", resumed)


def weights(run: Path, name: str = "last") -> dict[str, Any]:
    """All that a checkpoint holds of the network and its optimiser, as tensors."""
    import torch

    found = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    moments = found["optimizer_states"][0]["state"]
    state = {
        f"{kind}.{key}": value for kind in ("state_dict", "current_model_state") for key, value in found[kind].items()
    }
    return state | {f"{number}.{key}": value for number in moments for key, value in moments[number].items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("damage", ["cut off", "one bit", "missing"])
def test_the_one_before_a_damaged_last_checkpoint_is_used(damage, resumed, before, song_file, caplog) -> None:
    """It ends with the same bits, since it trains the lost epoch again."""
    last = resumed / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.unlink()
    if damage != "missing":
        last.write_bytes(content if damage == "one bit" else content[: len(content) // 2])
    assert fit(resumed.parents[1], song_file, "--ckpt_path", "last", epochs=2) == resumed
    warned = [record.getMessage() for record in caplog.records if record.name.startswith("popularity.inference")]
    assert len(warned) == 1
    assert "before_last.ckpt, saved after epoch 0" in warned[0]
    assert same(weights(resumed), weights(before))
    assert epochs(resumed) == ["0", "1"]
    from popularity.io import is_whole

    assert is_whole(resumed / "checkpoints" / "before_last.ckpt"), "the damaged one has not taken its place"


def test_a_fit_goes_on_with_no_run_but_the_newest(resumed, before, song_file, capsys, caplog) -> None:
    """One that was killed before it saved anything: an earlier run of these settings would be taken for it."""
    newest = resumed.parent / "version_1"
    newest.mkdir()
    arguments = ["--data.source", str(song_file), "--log_dir", str(resumed.parents[1]), "--ckpt_path", "last"]
    try:
        assert main(["fit", *arguments, "--name", resumed.parent.name, *SMALL, *PLAIN]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: --ckpt_path last: {newest} has no checkpoint yet")
        assert str(resumed / "checkpoints" / "last.ckpt") in error
        assert main(["test", *arguments[2:], "--name", resumed.parent.name, *PLAIN]) == 0
        assert f"warning: {newest} has no checkpoint yet" in caplog.text
    finally:
        newest.rmdir()


@pytest.mark.slow
def test_a_run_goes_on_from_its_first_checkpoint(song_file, tmp_path) -> None:
    """It is written before the first step; steps are counted from 0 again."""
    run = fit(tmp_path, song_file, epochs=1)
    before, trained = (run / "metrics.csv").read_text(), weights(run)
    first = run / "checkpoints" / "before_last.ckpt"
    assert fit(tmp_path, song_file, "--ckpt_path", str(first), epochs=1) == run
    assert (run / "metrics.csv").read_text() == before
    assert same(weights(run), trained)


def test_a_finished_run_may_be_resumed(resumed, before, song_file) -> None:
    """Nothing is trained or lost, and no row of its metrics is doubled."""
    assert fit(resumed.parents[1], song_file, "--ckpt_path", "last", epochs=2) == resumed
    assert (resumed / "metrics.csv").read_text() == (before / "metrics.csv").read_text()
    assert same(weights(resumed), weights(before))


def test_weights_alone_are_refused(resumed, song_file, tmp_path, capsys) -> None:
    import torch

    content = torch.load(resumed / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(
        {name: value for name, value in content.items() if name != "optimizer_states"}, tmp_path / "weights.ckpt"
    )
    arguments = ["--data.source", str(song_file), "--ckpt_path", str(tmp_path / "weights.ckpt"), *SMALL, *PLAIN]
    assert main(["fit", *arguments, "--log_dir", str(tmp_path)]) == 2
    assert (
        "expected a checkpoint to go on from, got the weights alone, without optimizer_states"
        in capsys.readouterr().err
    )


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
        (["--model.learning_rate", "0.5"], "model.learning_rate 0.0028, here it is 0.5"),
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
