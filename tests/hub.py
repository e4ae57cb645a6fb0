"""A server of this machine that speaks the Hugging Face Hub's protocol, as far as small files need it."""

from __future__ import annotations

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlparse

REPOSITORY = "me/songs"


class Hub(ThreadingHTTPServer):
    """Serves the data set `REPOSITORY`.

    Attributes:
        files: the content of each of its files, by name.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Hub:
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def entry(self, name: str) -> dict[str, Any]:
        """What the hub says of a file."""
        content = self.files[name]
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """The repository, its tree, or a file."""
        path, files = unquote(urlparse(self.path).path), self.server.files
        if path == f"/api/datasets/{REPOSITORY}":
            self._answer({"id": REPOSITORY, "sha": "a" * 40, "siblings": []})
        elif path == f"/api/datasets/{REPOSITORY}/tree/main":
            self._answer([self.server.entry(name) for name in files])
        elif (name := path.removeprefix(f"/datasets/{REPOSITORY}/resolve/main/")) in files:
            first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            part = files[name][int(first or 0) : int(last) + 1 if last else None]
            self._answer(part, 206 if first else 200)
        else:
            self._answer({"error": "Repository or entry not found"}, 404)

    def do_POST(self) -> None:
        """A commit, and the question before it."""
        path, body = urlparse(self.path).path, self.rfile.read(int(self.headers["Content-Length"]))
        if path == f"/api/datasets/{REPOSITORY}/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            self._answer({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
        elif path == f"/api/datasets/{REPOSITORY}/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = "b" * 40
            self._answer({"commitOid": commit, "commitUrl": f"{self.server.url}/datasets/{REPOSITORY}/commit/{commit}"})
        else:
            self._answer({"error": "Repository not found"}, 404)

    def _answer(self, content: Any, status: int = 200) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
