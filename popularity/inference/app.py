"""``app``: serves a page on this computer to play with a trained model; nobody else can reach it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from popularity.errors import InputError
from popularity.inference import app_page
from popularity.parsing import Parser, options_of
from popularity.program import program

HOST = "127.0.0.1"
#: No telemetry, no welcome, nothing but the page; the rest is Streamlit's default.
_FLAGS = {"server.address": HOST, "server.headless": "true", "browser.gatherUsageStats": "false"}
_FLAGS |= {"logger.hideWelcomeMessage": "true", "server.fileWatcherType": "none", "client.toolbarMode": "minimal"}
_FLAGS |= {"global.developmentMode": "false", "logger.level": "error"}


@dataclass(frozen=True)
class Options:
    """A checkpoint, and where its page is.

    Args:
        ckpt_path: the checkpoint.
        cache_dir: folder for downloads; default: the one of the fit, or the user's cache folder.
        port: of the page on 127.0.0.1; default: a free one.
    """

    ckpt_path: str
    cache_dir: str | None = None
    port: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port: expected a number from 0 (a free one) to 65535, got {self.port}")


def free_port(wanted: int) -> int:
    """The port that is wanted, or a free one for 0.

    Raises:
        InputError: it is in use, or not allowed.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, wanted))
        except OSError as error:
            raise InputError(f"--port: cannot use {wanted} ({error.strerror}); leave it out for a free one") from error
        return int(listening.getsockname()[1])


def _announce(port: int, ended: threading.Event) -> None:
    """Print the address of the page as soon as its server listens, unless it has ended before."""
    while not ended.wait(0.05):
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            print(f"page: http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
            return


def main(argv: Sequence[str]) -> None:
    """Run ``app`` until it is told to stop."""
    parser = Parser(prog=f"{program()} app", description="Serve a page on this computer to play with a trained model.")
    parser.add_class_arguments(Options, None)
    config = parser.parse_args(list(argv))
    options = options_of(Options, config)
    try:
        from streamlit.web import cli
    except ModuleNotFoundError as error:
        raise InputError("app: the package streamlit is missing, install this project's extra [app]") from error
    given = [options.ckpt_path, *([options.cache_dir] if options.cache_dir is not None else [])]
    app_page.load(*given)  # what is wrong with it is said here, not on the page
    port = free_port(options.port)
    flags = [f"--{name}={value}" for name, value in {**_FLAGS, "server.port": port}.items()]
    ended = threading.Event()
    threading.Thread(target=_announce, args=(port, ended), daemon=True).start()
    try:
        cli.main(["run", app_page.__file__, *flags, "--", *given], standalone_mode=False)
    finally:
        ended.set()
