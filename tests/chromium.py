"""A headless Chromium for tests, spoken to in its DevTools protocol over a pair of pipes: no package is needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: Widths of windows in pixels.
DESKTOP, PHONE = 1280, 390


class Chromium:
    """One page in a browser of its own.

    Args:
        folder: for its profile.

    Raises:
        pytest.skip.Exception: no Chromium is installed.
    """

    def __init__(self, folder: Path) -> None:
        if PROGRAM is None:
            pytest.skip("no Chromium is installed")
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]
        flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}"]
        # the browser reads its commands from number 3 and answers on number 4
        start = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", start, PROGRAM, *flags, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._left, self._number, self._session = b"", 0, None
        self.requests: list[str] = []  # addresses that the page asked for
        pages = self._call("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "DOM", "Runtime"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(300)
        os.close(self._write)
        os.close(self._read)

    def open(self, url: str, width: int = DESKTOP, height: int = 900) -> None:
        """Go to a page in a window of a width; a narrow one is a phone."""
        self._width = width
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Page.navigate", url=url)

    def script(self, text: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self._call("Runtime.evaluate", expression=text, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, text: str, seconds: float = 300) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.script(text):
                return found
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds:g} seconds: {text}; on the page: {self.script(BODY)}")

    def click(self, selector: str) -> None:
        """Click on what a CSS selector finds first."""
        assert self.wait(f"!!document.querySelector({json.dumps(selector)})")
        self.script(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector: str, text: str) -> None:
        """Type into a field, as a keyboard does, and leave it."""
        here = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"!!{here}")
        self.script(f"{here}.focus(); {here}.select && {here}.select()")
        self._call("Input.insertText", text=text)
        self.script(f"{here}.blur()")

    def press(self, key: str) -> None:
        """Press a key such as ArrowRight."""
        codes = {"ArrowRight": 39, "ArrowLeft": 37, "Enter": 13, "Home": 36, "End": 35}
        for kind in ("rawKeyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in an ``<input type="file">``."""
        self.wait(f"!!document.querySelector({json.dumps(selector)})")
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(self.script("document.documentElement.scrollWidth")) - self._width

    def picture(self, path: Path) -> Path:
        """Write the whole page as a PNG file."""
        found = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("method") == "Network.requestWillBeSent":
                self.requests.append(found["params"]["request"]["url"])
            if found.get("id") == self._number:
                assert "error" not in found, found
                return dict(found["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            part = os.read(self._read, 1 << 16)
            assert part, "Chromium has ended"
            self._left += part
        text, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(text))


#: All text that is on a page.
BODY = "(document.body ? document.body.innerText : '')"
