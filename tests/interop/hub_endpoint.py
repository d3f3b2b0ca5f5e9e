"""A small local endpoint with a hub's layout, for the downloads of ``hf://``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

COMMIT = "a" * 40
WEIGHTS = "model.safetensors"


class Endpoint(BaseHTTPRequestHandler):
    """Serves ``repos/ORG/NAME``, the main branch, and ``repos/ORG/NAME@BRANCH``. Files of ``org/gated`` answer 401
    without a token and 403 with one, and what is not there 404."""

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

    def _folder(self, repository: str, revision: str) -> Path | None:
        """The files of a branch, by its name or commit; None if there is no such branch."""
        if revision in ("main", "v1", COMMIT):
            return self.root / repository
        branches = self.root.glob(f"{repository}@*")
        return next((f for f in branches if revision in (f.name.partition("@")[2], commit_of(f))), None)

    def _cuts(self, what: str) -> bool:
        """Whether to cut the connection now."""
        self.cut[what] = self.cut.get(what, 0) - 1
        return self.cut[what] >= 0

    def _answer(self, body: bool) -> None:
        self.seen.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if api else parts[:2])
        if not (self.root / repository).is_dir():
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        folder = self._folder(repository, unquote(parts[5 if api else 3]))
        if folder is None:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if api and parts[4] == "revision":
            siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in files]
            return self._json({"id": repository, "sha": commit_of(folder), "siblings": siblings})
        if api:
            return self._json([self._entry(file, folder) for file in files])
        if "gated" in repository:
            status = 403 if "Authorization" in self.headers else 401
            return self._send(status, b"{}", {"X-Error-Code": "GatedRepo"})
        file = folder.joinpath(*parts[4:])
        data, entry = file.read_bytes(), self._entry(file, folder)
        if self.spoil and file.name == WEIGHTS:
            data = bytes(len(data))
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit_of(folder), "Accept-Ranges": "bytes"}
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        half = (len(data) - first) // 2 if body and self._cuts(file.name) else None
        self._send(206 if first else 200, data[first:], headers, body=body, stop=half)

    @staticmethod
    def _entry(file: Path, folder: Path) -> dict[str, Any]:
        data = file.read_bytes()
        entry: dict[str, Any] = {"type": "file", "path": file.relative_to(folder).as_posix(), "size": len(data)}
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


def commit_of(folder: Path) -> str:
    """The commit of a branch."""
    branch = folder.name.partition("@")[2]
    return hashlib.sha1(branch.encode()).hexdigest() if branch else COMMIT


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
