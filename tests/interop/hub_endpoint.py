"""A small local endpoint with a hub's layout, for ``hf://``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from huggingface_hub import constants

COMMIT = "a" * 40
WEIGHTS = "model.safetensors"


class Endpoint(BaseHTTPRequestHandler):
    """Serves ``repos/ORG/NAME``. ``org/gated`` answers 401, and what is not there 404."""

    root: Path
    seen: list[str]
    cut: dict[str, int]  # how often the body of a file ends halfway
    spoil = False

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        self.seen.append(f"POST {self.path}")
        self._send(401, b"{}", {"X-Error-Code": "Unauthorized"})

    def _answer(self, body: bool) -> None:
        self.seen.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if api else parts[:2])
        folder = self.root / repository
        if not folder.is_dir():
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        files = sorted(path for path in folder.iterdir())
        if api and parts[4] == "revision":
            if parts[5] not in ("main", "v1", COMMIT):
                return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return self._json({"id": repository, "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files]})
        if api:
            return self._json([self._entry(file) for file in files])
        if "gated" in repository:
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        file = folder / parts[-1]
        data, entry = file.read_bytes(), self._entry(file)
        if self.spoil and file.name == WEIGHTS:
            data = bytes(len(data))
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        half = None
        if body and self.cut.get(file.name, 0) > 0:
            self.cut[file.name] -= 1
            half = len(data) // 2
        self._send(206 if first else 200, data[first:], headers, body=body, stop=half)

    @staticmethod
    def _entry(file: Path) -> dict[str, Any]:
        data = file.read_bytes()
        entry: dict[str, Any] = {"type": "file", "path": file.name, "size": len(data)}
        entry["oid"] = hashlib.sha1(data).hexdigest()
        if file.suffix == ".safetensors":
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}
        return entry

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(
        self, status: int, data: bytes, headers: dict[str, str], *, body: bool = True, stop: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data[:stop])


@contextmanager
def hub_of(repositories: Path, home: Path) -> Iterator[type[Endpoint]]:
    """``repos/ORG/NAME`` as a hub; a home and a cache in ``home``."""
    handler = type("Handler", (Endpoint,), {"root": repositories, "seen": [], "cut": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("OPENPALI_HOME", str(home / "home"))
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "cache"))
        patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        patch.setattr("time.sleep", lambda _: None)  # between tries
        yield handler
    server.shutdown()
    server.server_close()
